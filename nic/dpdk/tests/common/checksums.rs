//! Checksums by the device and by software come to the same.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use mstream_nic::conformance::Wire;
use mstream_nic::headers::{
    IpPair, Link, UDP_HEADERS_BYTES, UdpHeaders, classify, emit_udp_headers,
};
use mstream_nic::port::BURST;
use mstream_nic::{ChecksumRequest, Frame, FrameQueue, Port, TxChecksum};
use mstream_nic_dpdk::{DpdkPort, DpdkPortConfig, DpdkPortSeed, Eal, ThreadRegistration};

use super::packet::PacketSocket;
use super::{INTERFACE, KERNEL_MAC, OUR_MAC, PATIENCE, config};

const PAYLOAD: &[u8] = b"what is summed up!!";
/// Where IPv4's checksum and UDP's over either are in a frame.
const IPV4: usize = 24;
const UDP: usize = 40;
const UDP6: usize = 60;

/// Frames leave with the right checksums, whoever fills them in, and arrive with the right verdict.
pub fn are_right(eal: &Eal, registration: &ThreadRegistration, by_device: bool) {
    let config = DpdkPortConfig { checksums: by_device, ..config("tap") };
    let seed = DpdkPortSeed::prepare(eal, &config).expect("a port");
    assert!(seed.wait_for_link(PATIENCE));
    let mut port = seed.open(registration);
    let capabilities = port.capabilities();
    assert_eq!(capabilities.tx_ipv4_checksum, by_device);
    assert_eq!(capabilities.tx_udp6_checksum, by_device);
    assert_eq!(port.probe().verifies_checksums(), by_device);
    let mut wire = PacketSocket::open(INTERFACE).expect("a packet socket");
    leaving(&mut port, &mut wire, by_device);
    arriving(&mut port, &mut wire, by_device);
    port.close().expect("the pool is whole");
}

fn leaving(port: &mut DpdkPort, wire: &mut PacketSocket, by_device: bool) {
    let requests = [
        (
            udp4(),
            IPV4,
            0,
            ChecksumRequest { what: TxChecksum::Ipv4Header, l2_bytes: 14, l3_bytes: 20 },
        ),
        (
            udp6(),
            UDP6,
            pseudo_sum(&udp6()),
            ChecksumRequest { what: TxChecksum::UdpOverIpv6, l2_bytes: 14, l3_bytes: 40 },
        ),
    ];
    for (right, at, until_then, request) in requests {
        let mut frame = port.frame().expect("an empty frame");
        frame.set_len(right.len());
        frame.bytes_mut().copy_from_slice(&right);
        if by_device {
            frame.bytes_mut()[at..at + 2].copy_from_slice(&u16::to_be_bytes(until_then));
            frame.request_checksum(request);
        }
        assert!(port.send(frame).is_ok());
        port.flush();
        let mut buffer = [0; 2048];
        let started = Instant::now();
        let len = loop {
            assert!(started.elapsed() < PATIENCE, "the frame did not arrive");
            if let Ok(len) = wire.receive(&mut buffer) {
                break len;
            }
        };
        assert_eq!(buffer[..len], right, "{request:?}");
    }
}

fn arriving(port: &mut DpdkPort, wire: &mut PacketSocket, by_device: bool) {
    let wrong = |frame: Vec<u8>, at: usize| {
        let mut frame = frame;
        frame[at] ^= 0x10;
        frame
    };
    let mut without = udp4();
    without[UDP..UDP + 2].fill(0);
    let cases = [
        (udp4(), true),
        (wrong(udp4(), IPV4), false),
        (wrong(udp4(), UDP), false),
        (wrong(udp4(), UDP_HEADERS_BYTES + 3), false),
        (udp6(), true),
        (wrong(udp6(), UDP6), false),
        // UDP without a checksum: the device says nothing, the software finds it right.
        (without, false),
    ];
    for (sent, verified) in &cases {
        wire.send(sent).expect("sent");
        let mut got = FrameQueue::new();
        let started = Instant::now();
        while port.receive(&mut got, BURST) == 0 {
            assert!(started.elapsed() < PATIENCE, "the frame did not arrive");
        }
        let frame = got.pop_front().expect("one");
        assert_eq!(frame.bytes(), *sent);
        assert_eq!(frame.checksums_verified(), *verified && by_device, "{sent:02x?}");
        // Whoever looked, the outcome is the same.
        let outcome = classify(frame.bytes(), !frame.checksums_verified());
        assert_eq!(format!("{outcome:?}"), format!("{:?}", classify(sent, true)), "{sent:02x?}");
    }
    let counters = port.probe().counters();
    let count = |name: &str| counters.iter().find(|(counter, _)| counter == name).map(|(_, n)| *n);
    let expected = if by_device { [Some(2), Some(4)] } else { [None, None] };
    assert_eq!([count("rx_checksum_good"), count("rx_checksum_bad")], expected);
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A datagram over IPv4 with both checksums.
fn udp4() -> Vec<u8> {
    let host = |host| Ipv4Addr::new(10, 77, 1, host);
    let mut frame = datagram(IpPair::V4 { src: host(1), dst: host(2) });
    let pseudo = sum(&frame[26..34]) + 17 + 8 + PAYLOAD.len() as u32;
    let checksum = !fold(pseudo + sum(&frame[34..]));
    frame[UDP..UDP + 2].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The folded sum of the pseudo-header of a frame of [`udp6`].
fn pseudo_sum(frame: &[u8]) -> u16 {
    fold(sum(&frame[22..54]) + 17 + 8 + PAYLOAD.len() as u32)
}

/// A datagram over IPv6 with its checksum.
fn udp6() -> Vec<u8> {
    let host = |host| Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host);
    datagram(IpPair::V6 { src: host(1), dst: host(2) })
}

fn datagram(ips: IpPair) -> Vec<u8> {
    let link = Link { src_mac: KERNEL_MAC, dst_mac: OUR_MAC, vlan: None };
    let headers = UdpHeaders { link, ips, src_port: 4000, dst_port: 7000 };
    let mut frame = vec![0; headers.bytes()];
    frame.extend_from_slice(PAYLOAD);
    emit_udp_headers(&mut frame, &headers, PAYLOAD.len());
    frame
}
