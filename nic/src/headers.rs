//! Ethernet, ARP, IPv4, UDP and ICMP headers as checked views, and their emit.
//!
//! Used by the shard for every received frame and by the client library. Layouts: IEEE 802.3, RFC 826
//! (ARP), RFC 791 (IPv4), RFC 768 (UDP), RFC 792 (ICMP); checksums: RFC 1071.

/// Bytes of Ethernet, IPv4 (no options) and UDP headers together.
pub const UDP_HEADERS_BYTES: usize = 42;
/// Bytes of an ARP frame for IPv4 over Ethernet.
pub const ARP_BYTES: usize = 42;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_UDP: u8 = 17;
/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const ARP_FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Why a frame is none of those that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeaderError {
    /// Too short for Ethernet, or neither IPv4 nor ARP.
    Ethernet,
    /// Malformed ARP, or not for IPv4 over Ethernet.
    Arp,
    /// Malformed IPv4, a fragment, with options, or with a wrong checksum.
    Ipv4,
    /// An IP protocol other than UDP, or ICMP other than an echo request.
    Protocol,
    /// A malformed UDP header or a wrong UDP checksum.
    Udp,
}

/// A frame sorted by what it is.
#[derive(Clone, Copy, Debug)]
pub enum Inbound<'a> {
    /// UDP over IPv4.
    Udp(UdpFrame<'a>),
    /// An ARP request or reply.
    Arp(Arp),
    /// An ICMP echo request with a fitting checksum.
    EchoRequest {
        /// Who is asked.
        dst_ip: [u8; 4],
    },
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// True for a request, false for a reply.
    pub request: bool,
    /// MAC address of the sender.
    pub sender_mac: [u8; 6],
    /// IPv4 address of the sender.
    pub sender_ip: [u8; 4],
    /// IPv4 address asked for (request) or told (reply).
    pub target_ip: [u8; 4],
}

/// A checked UDP frame; all accessors are infallible.
#[derive(Clone, Copy, Debug)]
pub struct UdpFrame<'a> {
    headers: &'a [u8; UDP_HEADERS_BYTES],
    payload: &'a [u8],
}

impl<'a> UdpFrame<'a> {
    /// Source MAC address.
    #[inline]
    pub fn src_mac(&self) -> [u8; 6] {
        array(&self.headers[6..12])
    }

    /// Destination MAC address.
    #[inline]
    pub fn dst_mac(&self) -> [u8; 6] {
        array(&self.headers[..6])
    }

    /// Source IPv4 address.
    #[inline]
    pub fn src_ip(&self) -> [u8; 4] {
        array(&self.headers[26..30])
    }

    /// Destination IPv4 address.
    #[inline]
    pub fn dst_ip(&self) -> [u8; 4] {
        array(&self.headers[30..34])
    }

    /// Source UDP port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        be16(&self.headers[34..36])
    }

    /// Destination UDP port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(&self.headers[36..38])
    }

    /// The UDP payload, without Ethernet padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Addresses of a UDP frame to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHeaders {
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Source IPv4 address.
    pub src_ip: [u8; 4],
    /// Destination IPv4 address.
    pub dst_ip: [u8; 4],
    /// Source UDP port.
    pub src_port: u16,
    /// Destination UDP port.
    pub dst_port: u16,
}

/// Sorts a frame and checks all its headers; with `verify` also the IPv4, UDP and ICMP checksums (a UDP
/// checksum of zero is absent and fits).
///
/// # Errors
/// The first header that does not fit.
#[inline]
pub fn classify(frame: &[u8], verify: bool) -> Result<Inbound<'_>, HeaderError> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET).ok_or(HeaderError::Ethernet)?;
    if ethernet[12..14] == ETHERTYPE_IPV4 {
        return ipv4(frame, packet, verify);
    }
    if ethernet[12..14] == ETHERTYPE_ARP {
        return arp(packet).map(Inbound::Arp);
    }
    Err(HeaderError::Ethernet)
}

#[inline]
fn ipv4<'a>(frame: &'a [u8], packet: &'a [u8], verify: bool) -> Result<Inbound<'a>, HeaderError> {
    let header = packet.get(..IPV4).ok_or(HeaderError::Ipv4)?;
    let total = be16(&header[2..4]) as usize;
    // 0x45: version 4, five words of header. Fragments: more-fragments bit or an offset.
    if header[0] != 0x45
        || total < IPV4
        || total > packet.len()
        || be16(&header[6..8]) & 0x3fff != 0
    {
        return Err(HeaderError::Ipv4);
    }
    if verify && fold(sum(header)) != 0xffff {
        return Err(HeaderError::Ipv4);
    }
    let body = &packet[IPV4..total];
    match header[9] {
        PROTOCOL_UDP => {
            let length = be16(body.get(4..6).ok_or(HeaderError::Udp)?) as usize;
            if length < UDP || length > body.len() {
                return Err(HeaderError::Udp);
            }
            let datagram = &body[..length];
            if verify && datagram[6..8] != [0, 0] && udp_sum(header, datagram) != 0xffff {
                return Err(HeaderError::Udp);
            }
            let headers = frame.first_chunk().ok_or(HeaderError::Udp)?;
            Ok(Inbound::Udp(UdpFrame { headers, payload: &datagram[UDP..] }))
        }
        PROTOCOL_ICMP => {
            // Type 8, code 0: echo request; identifier and sequence follow the checksum.
            if body.len() < 8 || body[..2] != [8, 0] || fold(sum(body)) != 0xffff {
                return Err(HeaderError::Protocol);
            }
            Ok(Inbound::EchoRequest { dst_ip: array(&header[16..20]) })
        }
        _ => Err(HeaderError::Protocol),
    }
}

fn arp(packet: &[u8]) -> Result<Arp, HeaderError> {
    let packet = packet.get(..ARP_BYTES - ETHERNET).ok_or(HeaderError::Arp)?;
    let request = match packet[6..8] {
        [0, 1] => true,
        [0, 2] => false,
        _ => return Err(HeaderError::Arp),
    };
    if packet[..6] != ARP_FIXED {
        return Err(HeaderError::Arp);
    }
    Ok(Arp {
        request,
        sender_mac: array(&packet[8..14]),
        sender_ip: array(&packet[14..18]),
        target_ip: array(&packet[24..28]),
    })
}

/// Writes Ethernet, IPv4 and UDP headers in front of a payload of `payload` bytes: no fragmenting, TTL 64, IPv4
/// checksum filled, UDP checksum absent (which IPv4 allows).
///
/// # Panics
/// If the frame has no room for the headers: a bug of the caller.
#[inline]
pub fn emit_udp_headers(frame: &mut [u8], headers: &UdpHeaders, payload: usize) {
    let frame: &mut [u8; UDP_HEADERS_BYTES] =
        frame.first_chunk_mut().expect("a frame holds the headers");
    let udp_length = (UDP + payload) as u16;
    let total = udp_length + IPV4 as u16;
    frame[..6].copy_from_slice(&headers.dst_mac);
    frame[6..12].copy_from_slice(&headers.src_mac);
    frame[12..14].copy_from_slice(&ETHERTYPE_IPV4);
    let ip = &mut frame[ETHERNET..ETHERNET + IPV4];
    ip[..2].copy_from_slice(&[0x45, 0]);
    ip[2..4].copy_from_slice(&be(total));
    // No identification is needed where nothing may be fragmented (RFC 6864).
    ip[4..12].copy_from_slice(&[0, 0, 0x40, 0, 64, PROTOCOL_UDP, 0, 0]);
    ip[12..16].copy_from_slice(&headers.src_ip);
    ip[16..20].copy_from_slice(&headers.dst_ip);
    // Summed from the values, not from the bytes just written: loads that span several stores stall.
    let words = |ip: [u8; 4]| u64::from(u32::from_be_bytes(ip));
    let fixed = 0x4500 + 0x4000 + 0x4000 + u64::from(PROTOCOL_UDP);
    let sum = fixed + u64::from(total) + words(headers.src_ip) + words(headers.dst_ip);
    ip[10..12].copy_from_slice(&be(!fold(sum)));
    frame[34..36].copy_from_slice(&be(headers.src_port));
    frame[36..38].copy_from_slice(&be(headers.dst_port));
    frame[38..40].copy_from_slice(&be(udp_length));
    frame[40..42].copy_from_slice(&[0, 0]);
}

/// Writes an ARP request ("who has `target_ip`"); the frame has [`ARP_BYTES`].
///
/// # Panics
/// If the frame is shorter than [`ARP_BYTES`].
pub fn emit_arp_request(frame: &mut [u8], mac: [u8; 6], ip: [u8; 4], target_ip: [u8; 4]) {
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHERTYPE_ARP);
    frame[14..20].copy_from_slice(&ARP_FIXED);
    frame[20..22].copy_from_slice(&[0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&ip);
    frame[32..38].copy_from_slice(&[0; 6]);
    frame[38..42].copy_from_slice(&target_ip);
}

/// Turns a frame that [`classify`] found to be an ARP request into the reply that names `mac`.
pub fn arp_reply_in_place(frame: &mut [u8], mac: [u8; 6]) {
    let Some(frame) = frame.first_chunk_mut::<ARP_BYTES>() else { return };
    let sender: [u8; 10] = array(&frame[22..32]);
    let target_ip: [u8; 4] = array(&frame[38..42]);
    frame[..6].copy_from_slice(&sender[..6]);
    frame[6..12].copy_from_slice(&mac);
    frame[20..22].copy_from_slice(&[0, 2]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&target_ip);
    frame[32..42].copy_from_slice(&sender);
}

/// Turns a frame that [`classify`] found to be an echo request into the reply.
pub fn echo_reply_in_place(frame: &mut [u8]) {
    let Some((headers, rest)) = frame.split_first_chunk_mut::<{ ETHERNET + IPV4 }>() else {
        return;
    };
    let total = be16(&headers[16..18]) as usize;
    let Some(icmp) = rest.get_mut(..total.saturating_sub(IPV4)) else { return };
    if icmp.len() < 8 {
        return;
    }
    let (src_mac, dst_mac): ([u8; 6], [u8; 6]) = (array(&headers[6..12]), array(&headers[..6]));
    let (src_ip, dst_ip): ([u8; 4], [u8; 4]) = (array(&headers[26..30]), array(&headers[30..34]));
    headers[..6].copy_from_slice(&src_mac);
    headers[6..12].copy_from_slice(&dst_mac);
    headers[26..30].copy_from_slice(&dst_ip);
    headers[30..34].copy_from_slice(&src_ip);
    // Swapped addresses leave the IPv4 sum as it was; the TTL is set anew, so it is made again.
    headers[22] = 64;
    headers[24..26].copy_from_slice(&[0, 0]);
    let checksum = !fold(sum(&headers[ETHERNET..]));
    headers[24..26].copy_from_slice(&be(checksum));
    icmp[0] = 0;
    icmp[2..4].copy_from_slice(&[0, 0]);
    let checksum = !fold(sum(icmp));
    icmp[2..4].copy_from_slice(&be(checksum));
}

/// Sum of pseudo-header and datagram, folded: 0xffff when the checksum fits.
#[inline]
fn udp_sum(ip: &[u8], datagram: &[u8]) -> u16 {
    let pseudo = sum(&ip[12..20]) + u64::from(PROTOCOL_UDP) + datagram.len() as u64;
    fold(pseudo + sum(datagram))
}

/// Sum of 16-bit big-endian words (an odd last byte counts as a high byte), not folded.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_be_bytes(last));
    total
}

/// Folds a sum to 16 bits with end-around carry.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

#[inline]
fn be16(bytes: &[u8]) -> u16 {
    u16::from(bytes[0]) << 8 | u16::from(bytes[1])
}

#[inline]
fn be(value: u16) -> [u8; 2] {
    [(value >> 8) as u8, value as u8]
}

#[inline]
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: UdpHeaders = UdpHeaders {
        src_mac: [2, 0, 0, 0, 0, 1],
        dst_mac: [2, 0, 0, 0, 0, 2],
        src_ip: [10, 0, 0, 1],
        dst_ip: [10, 0, 0, 2],
        src_port: 7000,
        dst_port: 7500,
    };

    fn udp_frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; UDP_HEADERS_BYTES];
        frame.extend_from_slice(payload);
        emit_udp_headers(&mut frame, &HEADERS, payload.len());
        frame
    }

    #[test]
    fn what_was_emitted_is_read_back_and_padding_is_left_out() {
        let mut frame = udp_frame(b"hello");
        frame.extend_from_slice(&[0; 13]);
        let Ok(Inbound::Udp(udp)) = classify(&frame, true) else { panic!("not UDP") };
        assert_eq!(udp.payload(), b"hello");
        assert_eq!((udp.src_mac(), udp.dst_mac()), (HEADERS.src_mac, HEADERS.dst_mac));
        assert_eq!((udp.src_ip(), udp.dst_ip()), (HEADERS.src_ip, HEADERS.dst_ip));
        assert_eq!((udp.src_port(), udp.dst_port()), (7000, 7500));
    }

    #[test]
    fn every_flipped_bit_of_the_ipv4_header_is_noticed() {
        let frame = udp_frame(b"hello");
        for bit in 0..IPV4 * 8 {
            let mut damaged = frame.clone();
            damaged[ETHERNET + bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(classify(&damaged, true), Ok(Inbound::Udp(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_udp_checksum_is_verified_when_present() {
        let mut frame = udp_frame(b"odd length payload!");
        let sum = udp_sum(&frame[ETHERNET..ETHERNET + IPV4], &frame[ETHERNET + IPV4..]);
        frame[40..42].copy_from_slice(&be(!sum));
        assert!(matches!(classify(&frame, true), Ok(Inbound::Udp(_))));
        frame[50] ^= 1;
        assert_eq!(classify(&frame, true).err(), Some(HeaderError::Udp));
        assert!(classify(&frame, false).is_ok(), "the port vouched for it");
    }

    #[test]
    fn a_known_checksum_comes_out() {
        // The example of RFC 1071 section 3.
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn an_arp_request_is_answered_in_place() {
        let mut frame = [0; 60];
        emit_arp_request(&mut frame, [2; 6], [10, 0, 0, 1], [10, 0, 0, 2]);
        let Ok(Inbound::Arp(arp)) = classify(&frame, true) else { panic!("not ARP") };
        assert!(arp.request);
        assert_eq!(arp.target_ip, [10, 0, 0, 2]);
        arp_reply_in_place(&mut frame, [4; 6]);
        let Ok(Inbound::Arp(arp)) = classify(&frame, true) else { panic!("not ARP") };
        assert_eq!(
            arp,
            Arp {
                request: false,
                sender_mac: [4; 6],
                sender_ip: [10, 0, 0, 2],
                target_ip: [10, 0, 0, 1]
            }
        );
        assert_eq!(frame[..6], [2; 6]);
    }

    #[test]
    fn an_echo_request_becomes_its_reply() {
        let mut frame = udp_frame(b"ping payload");
        frame[ETHERNET + 9] = PROTOCOL_ICMP;
        frame[24..26].copy_from_slice(&[0, 0]);
        let checksum = !fold(sum(&frame[ETHERNET..ETHERNET + IPV4]));
        frame[24..26].copy_from_slice(&be(checksum));
        let icmp = &mut frame[ETHERNET + IPV4..];
        icmp[..4].copy_from_slice(&[8, 0, 0, 0]);
        let checksum = !fold(sum(icmp));
        icmp[2..4].copy_from_slice(&be(checksum));
        assert!(matches!(
            classify(&frame, true),
            Ok(Inbound::EchoRequest { dst_ip: [10, 0, 0, 2] })
        ));
        echo_reply_in_place(&mut frame);
        assert_eq!(frame[ETHERNET + IPV4], 0);
        assert_eq!(fold(sum(&frame[ETHERNET + IPV4..])), 0xffff);
        assert_eq!(fold(sum(&frame[ETHERNET..ETHERNET + IPV4])), 0xffff);
        assert_eq!(frame[26..30], HEADERS.dst_ip);
    }
}
