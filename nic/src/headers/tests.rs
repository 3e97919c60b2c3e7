//! Golden frames, made by hand from the RFCs' layouts and not by the code under test, and hostile bytes.

use super::checksum::{fold, sum};
use super::*;
use crate::port::{Capabilities, ChecksumRequest, Frame, Peer, TxChecksum};

const UDP4: &str = "02000000000202000000000108004500002100004000401126ca0a0000010a0000021b581d4c000d0000\
     68656c6c6f";
const UDP6: &str = "02000000000202000000000186dd60000000000d1140fd000000000000000000000000000001fd000000\
     0000000000000000000000021b581d4c000d895968656c6c6f";
const UDP4_VLAN: &str = "0200000000020200000000018100006408004500002100004000401126ca0a0000010a0000021b581d4c\
     000d000068656c6c6f";
const UDP6_VLAN: &str = "0200000000020200000000018100006486dd60000000000d1140fd000000000000000000000000000001\
     fd0000000000000000000000000000021b581d4c000d895968656c6c6f";
const SOLICITATION: &str = "3333ff00000202000000000186dd6000000000203afffd000000000000000000000000000001ff020000\
     0000000000000001ff00000287007d9700000000fd000000000000000000000000000002010102000000\
     0001";
const ADVERTISEMENT: &str = "02000000000102000000000286dd6000000000203afffd000000000000000000000000000002fd000000\
     00000000000000000000000188001c9a60000000fd000000000000000000000000000002020102000000\
     0002";
const DAD: &str = "3333ff00000202000000000186dd6000000000183aff00000000000000000000000000000000ff020000\
     0000000000000001ff00000287007da300000000fd000000000000000000000000000002";
const DAD_ANSWER: &str = "33330000000102000000000286dd6000000000203afffd000000000000000000000000000002ff020000\
     00000000000000000000000188005a9820000000fd000000000000000000000000000002020102000000\
     0002";
const PING4: &str = "020000000002020000000001080045000021000040003f0127da0a0000010a0000020800e5f312340007\
     70696e6721";
const PONG4: &str = "02000000000102000000000208004500002100004000400126da0a0000020a0000010000edf312340007\
     70696e6721";
const PING6: &str = "02000000000202000000000186dd60000000000d3a3ffd000000000000000000000000000001fd000000\
     000000000000000000000002800073a71234000770696e6721";
const PONG6: &str = "02000000000102000000000286dd60000000000d3a40fd000000000000000000000000000002fd000000\
     000000000000000000000001810072a71234000770696e6721";
const ARP_REQUEST: &str =
    "ffffffffffff020000000001080600010800060400010200000000010a0000010000000000000a000002";
const ARP_REPLY: &str =
    "020000000001020000000002080600010800060400020200000000020a0000020200000000010a000001";

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn headers(ips: IpPair, vlan: Option<u16>) -> UdpHeaders {
    let link = Link { src_mac: A, dst_mac: B, vlan };
    UdpHeaders { link, ips, src_port: 7000, dst_port: 7500 }
}

/// The four kinds of UDP frames with their golden bytes.
fn udp_frames() -> [(UdpHeaders, Vec<u8>); 4] {
    let v4 = IpPair::V4 { src: A4, dst: B4 };
    let v6 = IpPair::V6 { src: A6, dst: B6 };
    [
        (headers(v4, None), bytes(UDP4)),
        (headers(v6, None), bytes(UDP6)),
        (headers(v4, Some(100)), bytes(UDP4_VLAN)),
        (headers(v6, Some(100)), bytes(UDP6_VLAN)),
    ]
}

fn udp(frame: &[u8]) -> UdpFrame<'_> {
    match classify(frame, true) {
        Ok(Inbound::Udp(udp)) => udp,
        other => panic!("not UDP: {other:?}"),
    }
}

fn refused(frame: &[u8]) -> HeaderError {
    classify(frame, true).expect_err("it is refused")
}

/// The frame with one byte replaced.
fn with(frame: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = byte;
    frame
}

/// The frame with the checksum of its ICMPv6 message, of `length` bytes at 54, made again.
fn mended(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame[56..58].copy_from_slice(&[0, 0]);
    let ips = IpPair::V6 {
        src: array::<16>(&frame[22..38]).into(),
        dst: array::<16>(&frame[38..54]).into(),
    };
    let sum = checksum::pseudo(&ips, PROTOCOL_ICMPV6, length) + sum(&frame[54..54 + length]);
    frame[56..58].copy_from_slice(&(!fold(sum)).to_be_bytes());
    frame
}

#[test]
fn udp_headers_are_written_as_they_should_be() {
    for (headers, golden) in udp_frames() {
        let mut frame = vec![0xee; headers.bytes()];
        frame.extend_from_slice(b"hello");
        emit_udp_headers(&mut frame, &headers, 5);
        assert_eq!(frame, golden, "{headers:?}");
        assert_eq!(headers.bytes(), udp_headers_bytes(&headers.ips.src(), headers.link.vlan));
    }
}

#[test]
fn udp_headers_are_read_and_padding_is_left_out() {
    for (headers, mut golden) in udp_frames() {
        golden.extend_from_slice(&[0xaa; 13]);
        let udp = udp(&golden);
        assert_eq!(*udp.headers(), headers);
        assert_eq!((udp.payload(), udp.payload_at()), (&b"hello"[..], headers.bytes()));
    }
}

#[test]
fn a_tags_priority_is_ignored_and_vlan_zero_is_none() {
    let frame = bytes(UDP6_VLAN);
    assert_eq!(udp(&with(&frame, 14, 0xf0)).link().vlan, Some(100));
    assert_eq!(udp(&with(&frame, 15, 0)).link().vlan, None, "a tag that only says a priority");
    let mut reserved = frame.clone();
    reserved[14..16].copy_from_slice(&[0x0f, 0xff]);
    assert_eq!(refused(&reserved), HeaderError::Ethernet);
    let mut twice = frame.clone();
    twice.splice(12..12, [0x81, 0, 0, 7]);
    assert_eq!(refused(&twice), HeaderError::Ethernet);
    for service_tag in [with(&frame, 12, 0x88), with(&frame, 13, 0xa8)] {
        assert_eq!(refused(&service_tag), HeaderError::Ethernet);
    }
}

#[test]
fn every_flipped_bit_behind_the_link_is_noticed_where_a_checksum_covers_it() {
    for (headers, golden) in udp_frames() {
        let ip = headers.link.header_bytes();
        // The header of IPv4 by its own checksum; addresses, UDP and payload of IPv6 by UDP's.
        let covered = match headers.ips {
            IpPair::V4 { .. } => ip..ip + IPV4_BYTES,
            IpPair::V6 { .. } => ip + 8..golden.len(),
        };
        for bit in covered.start * 8..covered.end * 8 {
            let damaged = with(&golden, bit / 8, golden[bit / 8] ^ 1 << (bit % 8));
            assert!(classify(&damaged, true).is_err(), "{headers:?} bit {bit}");
        }
    }
}

#[test]
fn a_udp_checksum_may_be_absent_over_ipv4_only() {
    let mut v4 = bytes(UDP4);
    assert_eq!(v4[40..42], [0, 0]);
    // What an ordinary stack would have put there.
    v4[40..42].copy_from_slice(&[0x6f, 0x5b]);
    assert_eq!(udp(&v4).payload(), b"hello");
    v4[43] ^= 1;
    assert_eq!(refused(&v4), HeaderError::UdpChecksum);
    assert!(classify(&v4, false).is_ok(), "the port vouched for it");
    let mut v6 = bytes(UDP6);
    v6[60..62].copy_from_slice(&[0, 0]);
    assert_eq!(refused(&v6), HeaderError::UdpChecksum);
    assert!(classify(&v6, false).is_ok(), "the port vouched for it");
}

#[test]
fn a_checksum_that_comes_out_as_zero_is_sent_as_its_other_form() {
    let headers = headers(IpPair::V6 { src: A6, dst: B6 }, None);
    let mut frame = vec![0; UDP6_HEADERS_BYTES + 2];
    emit_udp_headers(&mut frame, &headers, 2);
    // The sum of everything else, put into the payload, makes the checksum zero.
    let checksum: [u8; 2] = array(&frame[60..62]);
    frame[62..].copy_from_slice(&checksum);
    emit_udp_headers(&mut frame, &headers, 2);
    assert_eq!(frame[60..62], [0xff, 0xff]);
    assert_eq!(udp(&frame).payload(), checksum);
}

#[test]
fn a_known_checksum_comes_out() {
    // The example of RFC 1071 section 3.
    assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
}

#[test]
fn what_ip_may_carry_and_is_not_spoken_here_is_told_apart() {
    let (v4, v6) = (bytes(UDP4), bytes(UDP6));
    assert_eq!(refused(&with(&v4, 14, 0x46)), HeaderError::IpOptions);
    assert_eq!(refused(&with(&v4, 14, 0x44)), HeaderError::Ipv4);
    assert_eq!(refused(&with(&v4, 14, 0x65)), HeaderError::Ipv4);
    assert_eq!(refused(&with(&v4, 20, 0x20)), HeaderError::Fragment, "more fragments");
    assert_eq!(refused(&with(&v4, 21, 1)), HeaderError::Fragment, "an offset");
    assert_eq!(refused(&with(&v4, 22, 63)), HeaderError::Ipv4Checksum);
    assert_eq!(refused(&with(&v4, 16, 0xff)), HeaderError::Ipv4, "longer than the frame");
    assert_eq!(refused(&v4[..46]), HeaderError::Ipv4, "cut");
    assert_eq!(refused(&with(&v6, 14, 0x45)), HeaderError::Ipv6);
    assert_eq!(refused(&with(&v6, 18, 0xff)), HeaderError::Ipv6, "longer than the frame");
    assert_eq!(refused(&with(&v6, 20, 44)), HeaderError::Fragment);
    assert_eq!(refused(&with(&v6, 20, 6)), HeaderError::Protocol);
    for extension in [0, 43, 50, 51, 59, 60, 135] {
        assert_eq!(refused(&with(&v6, 20, extension)), HeaderError::IpOptions, "{extension}");
    }
    assert_eq!(refused(&with(&v6, 59, 7)), HeaderError::Udp, "shorter than its header");
    assert_eq!(refused(&with(&v6, 59, 14)), HeaderError::Udp, "longer than its packet");
    assert_eq!(refused(&with(&v6, 12, 0x08)), HeaderError::Ethernet);
}

#[test]
fn arp_is_asked_read_and_answered_in_place() {
    let mut frame = [0xee; ARP_BYTES];
    assert_eq!(emit_arp_request(&mut frame, A, None, A4, B4), ARP_BYTES);
    assert_eq!(frame[..], bytes(ARP_REQUEST));
    let Ok(Inbound::Arp(arp)) = classify(&frame, true) else { panic!("not ARP") };
    let link = Link { src_mac: A, dst_mac: [0xff; 6], vlan: None };
    let asked = Arp { link, request: true, sender_mac: A, sender_ip: A4, target_ip: B4 };
    assert_eq!(arp, asked);
    arp_reply_in_place(&mut frame, B);
    assert_eq!(frame[..], bytes(ARP_REPLY));
    let mut tagged = [0; ARP_BYTES + VLAN_TAG_BYTES];
    assert_eq!(emit_arp_request(&mut tagged, A, Some(7), A4, B4), tagged.len());
    tagged[14] |= 0xe0;
    arp_reply_in_place(&mut tagged, B);
    let Ok(Inbound::Arp(arp)) = classify(&tagged, true) else { panic!("not ARP") };
    assert_eq!(arp.link, Link { src_mac: B, dst_mac: A, vlan: Some(7) });
    assert_eq!(tagged[14], 0, "answers have priority 0");
    let request = bytes(ARP_REQUEST);
    for damaged in [with(&request, 14, 1), with(&request, 21, 3), with(&request, 22, 3)] {
        assert_eq!(refused(&damaged), HeaderError::Arp);
    }
    assert_eq!(refused(&request[..41]), HeaderError::Arp);
}

#[test]
fn pings_of_both_families_become_their_replies() {
    for (ping, pong, at) in [(PING4, PONG4, 14), (PING6, PONG6, 14)] {
        let mut frame = bytes(ping);
        // Padding stays, and a tag too.
        frame.extend_from_slice(&[0; 9]);
        let Ok(Inbound::EchoRequest(echo)) = classify(&frame, true) else { panic!("no ping") };
        assert_eq!(echo.link, Link { src_mac: A, dst_mac: B, vlan: None });
        let mut tagged = frame.clone();
        tagged.splice(12..12, [0x81, 0, 0xe0, 100]);
        echo_reply_in_place(&mut frame);
        assert_eq!(frame[..frame.len() - 9], bytes(pong));
        echo_reply_in_place(&mut tagged);
        assert_eq!(tagged[12..16], [0x81, 0, 0, 100]);
        assert_eq!(tagged[at + 4..], frame[at..]);
        let damaged = with(&bytes(ping), bytes(ping).len() - 1, 0);
        assert_eq!(refused(&damaged), HeaderError::IcmpChecksum);
        assert_eq!(refused(&bytes(pong)), HeaderError::Protocol, "nobody asked for a reply");
    }
}

#[test]
fn neighbours_are_asked_for_read_and_answered() {
    let mut frame = [0xee; NEIGHBOUR_BYTES];
    assert_eq!(emit_solicitation(&mut frame, A, None, A6, B6), NEIGHBOUR_BYTES);
    assert_eq!(frame[..], bytes(SOLICITATION));
    let Ok(Inbound::Solicitation(asked)) = classify(&frame, true) else { panic!("none") };
    assert_eq!((asked.src, asked.target, asked.src_mac), (A6, B6, Some(A)));
    assert_eq!(asked.dst, solicited_node(B6));
    assert_eq!(asked.link.dst_mac, group_mac(asked.dst));
    assert_eq!(emit_advertisement(&mut frame, B, &asked), NEIGHBOUR_BYTES);
    assert_eq!(frame[..], bytes(ADVERTISEMENT));
    let Ok(Inbound::Advertisement(told)) = classify(&frame, true) else { panic!("none") };
    assert_eq!((told.target, told.target_mac), (B6, Some(B)));
    // The asker's option wins over the frame's source; without one that is used.
    let asked = Solicitation { src_mac: Some([6; 6]), ..asked };
    emit_advertisement(&mut frame, B, &asked);
    assert_eq!(frame[..6], [6; 6]);
    emit_advertisement(&mut frame, B, &Solicitation { src_mac: None, ..asked });
    assert_eq!(frame[..6], A);
}

#[test]
fn whoever_asks_whether_an_address_is_taken_is_told_in_front_of_all() {
    let Ok(Inbound::Solicitation(asked)) = classify(&bytes(DAD), true).map(|i| match i {
        Inbound::Solicitation(asked) => Inbound::Solicitation(asked),
        other => panic!("{other:?}"),
    }) else {
        panic!("refused")
    };
    assert!(asked.src.is_unspecified());
    let mut frame = [0xee; NEIGHBOUR_BYTES];
    emit_advertisement(&mut frame, B, &asked);
    assert_eq!(frame[..], bytes(DAD_ANSWER));
}

#[test]
fn neighbour_discovery_that_is_to_be_ignored_is_refused() {
    let (asked, told, probe) = (bytes(SOLICITATION), bytes(ADVERTISEMENT), bytes(DAD));
    let cases = [
        ("a router let it through", with(&asked, 21, 254), 32),
        ("a code", with(&asked, 55, 1), 32),
        ("a group as target", with(&asked, 62, 0xff), 32),
        ("another destination", with(&asked, 53, 3), 32),
        ("an option without length", with(&asked, 79, 0), 32),
        ("an option that is too long", with(&asked, 79, 2), 32),
        ("a group's MAC address", with(&asked, 80, 3), 32),
        ("solicited by a group", with(&told, 38, 0xff), 32),
        (
            "a probe to the target itself",
            {
                let mut frame = probe;
                frame.copy_within(62..78, 38);
                frame
            },
            24,
        ),
        ("no target", with(&asked[..70], 19, 16), 16),
    ];
    for (what, frame, length) in cases {
        assert_eq!(refused(&mended(frame, length)), HeaderError::Neighbour, "{what}");
    }
    let mut probe_with_option = asked.clone();
    probe_with_option[22..38].fill(0);
    assert_eq!(refused(&mended(probe_with_option, 32)), HeaderError::Neighbour);
    assert_eq!(refused(&with(&asked, 85, 9)), HeaderError::IcmpChecksum);
    // Options of other kinds are passed over.
    let nonce = mended(with(&asked, 78, 14), 32);
    let Ok(Inbound::Solicitation(asked)) = classify(&nonce, true) else { panic!("refused") };
    assert_eq!(asked.src_mac, None);
}

#[test]
fn no_bytes_make_it_panic_and_answers_stay_inside_their_frame() {
    let golden = [UDP4_VLAN, UDP6, SOLICITATION, ADVERTISEMENT, PING6, PING4, ARP_REQUEST];
    let mut state = 1u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..200_000 {
        let mut frame = bytes(golden[round % golden.len()]);
        for _ in 0..1 + random() % 3 {
            let at = random() as usize % frame.len();
            frame[at] = random() as u8;
        }
        frame.truncate(random() as usize % (2 * frame.len()));
        let length = frame.len();
        match classify(&frame, random() & 1 == 0) {
            Ok(Inbound::Udp(udp)) => {
                let end = udp.payload_at() + udp.payload().len();
                assert_eq!(frame[udp.payload_at()..end], *udp.payload());
            }
            Ok(Inbound::Arp(_)) => arp_reply_in_place(&mut frame, B),
            Ok(Inbound::EchoRequest(_)) => echo_reply_in_place(&mut frame),
            Ok(Inbound::Solicitation(asked)) => {
                emit_advertisement(&mut [0; NEIGHBOUR_BYTES + VLAN_TAG_BYTES], B, &asked);
            }
            Ok(Inbound::Advertisement(_)) | Err(_) => {}
        }
        assert_eq!(frame.len(), length);
    }
}

/// A frame of a port that fills in checksums.
struct Offloading {
    bytes: Vec<u8>,
    request: Option<ChecksumRequest>,
}

impl Frame for Offloading {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
    fn capacity(&self) -> usize {
        2000
    }
    fn set_len(&mut self, len: usize) {
        self.bytes.resize(len, 0);
    }
    fn peer(&self) -> Peer {
        Peer::WIRE
    }
    fn set_peer(&mut self, _peer: Peer) {}
    fn request_checksum(&mut self, request: ChecksumRequest) {
        self.request = Some(request);
    }
}

impl Offloading {
    /// What the device does as the frame leaves: it sums from where it was told, whatever stands there.
    fn leave(mut self) -> Vec<u8> {
        let Some(request) = self.request else { return self.bytes };
        let l3 = usize::from(request.l2_bytes);
        let l4 = l3 + usize::from(request.l3_bytes);
        let (range, at) = match request.what {
            TxChecksum::Ipv4Header => (l3..l4, l3 + 10),
            TxChecksum::UdpOverIpv6 => (l4..self.bytes.len(), l4 + 6),
        };
        let checksum = match !fold(sum(&self.bytes[range])) {
            0 => 0xffff,
            checksum => checksum,
        };
        self.bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        self.bytes
    }
}

#[test]
fn checksums_of_the_port_are_those_of_the_software() {
    let all =
        Capabilities { tx_ipv4_checksum: true, tx_udp6_checksum: true, ..Capabilities::default() };
    let crossed = [
        (all, true, true),
        (Capabilities { tx_ipv4_checksum: false, ..all }, false, true),
        (Capabilities { tx_udp6_checksum: false, ..all }, true, false),
        (Capabilities::default(), false, false),
    ];
    for (headers, golden) in udp_frames() {
        for (port, v4, v6) in crossed {
            let mut frame = Offloading { bytes: vec![0xee; headers.bytes()], request: None };
            frame.bytes.extend_from_slice(b"hello");
            finish_udp_frame(&mut frame, &headers, 5, &port);
            let asked = match headers.ips {
                IpPair::V4 { .. } => v4,
                IpPair::V6 { .. } => v6,
            };
            assert_eq!(frame.request.is_some(), asked, "{headers:?} {port:?}");
            assert_eq!(frame.leave(), golden, "{headers:?} {port:?}");
        }
    }
}
