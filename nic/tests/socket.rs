//! The kernel-socket port over loopback: conformance, foreign sockets, errors, kernel drops.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::until;
use mstream_nic::conformance::{Expect, Pair, run};
use mstream_nic::headers::{
    Inbound, IpPair, Link, UdpHeaders, classify, emit_arp_request, emit_udp_headers,
    udp_headers_bytes,
};
use mstream_nic::pool::MAX_FRAME;
use mstream_nic::socket::{SocketError, SocketPort};
use mstream_nic::{Frame, FrameQueue, Port};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const ANY_PORT_V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
const BOTH: [SocketAddr; 2] = [ANY_PORT, ANY_PORT_V6];

struct SocketPair {
    a: SocketPort,
    b: SocketPort,
}

impl Pair for SocketPair {
    type A = SocketPort;
    type B = SocketPort;

    fn ports(&mut self) -> (&mut SocketPort, &mut SocketPort) {
        (&mut self.a, &mut self.b)
    }

    fn headers(&self) -> UdpHeaders {
        headers(self.a.local_address(), self.b.local_address())
    }
}

fn headers(from: SocketAddr, to: SocketAddr) -> UdpHeaders {
    UdpHeaders {
        link: Link { src_mac: [0; 6], dst_mac: [0; 6], vlan: None },
        ips: IpPair::new(from.ip(), to.ip()).expect("one family"),
        src_port: from.port(),
        dst_port: to.port(),
    }
}

fn open(address: SocketAddr, frames: usize) -> SocketPort {
    SocketPort::bind(address, frames).expect("bind")
}

/// Sends a frame with this payload; false if there was no room.
fn send(port: &mut SocketPort, to: SocketAddr, payload: &[u8]) -> bool {
    let mut frame = port.frame().expect("an empty frame");
    let headers = headers(port.local_address(), to);
    frame.set_len(headers.bytes() + payload.len());
    frame.bytes_mut()[headers.bytes()..].copy_from_slice(payload);
    emit_udp_headers(frame.bytes_mut(), &headers, payload.len());
    port.send(frame).is_ok()
}

fn foreign_socket(address: SocketAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

#[test]
fn two_ports_over_loopback_conform() {
    for (address, frames_a, frames_b) in
        [(ANY_PORT, 2048, 2048), (ANY_PORT, 64, 1024), (ANY_PORT_V6, 64, 1024)]
    {
        let mut pair = SocketPair { a: open(address, frames_a), b: open(address, frames_b) };
        // The kernel drops what its buffers cannot hold. The headers are made on arrival.
        // Over IPv6 the checksum was the kernel's and is not made again.
        let exact_headers = address.is_ipv4();
        let expect = Expect { lossless: false, exact_headers, ..Expect::default() };
        let report = run(&mut pair, expect);
        assert!(report.gave_back + report.exhausted >= 6, "sending came to an end: {report:?}");
        assert_eq!(report.foreign, 0);
    }
}

#[test]
fn a_foreign_socket_sees_the_payload_and_is_seen_as_headers() {
    BOTH.into_iter().for_each(seen_as_headers);
}

fn seen_as_headers(host: SocketAddr) {
    let mut port = open(host, 64);
    let (socket, address) = foreign_socket(host);
    assert!(send(&mut port, address, b"to a stranger"));
    port.flush();
    let mut buffer = [0; 64];
    let (len, from) = socket.recv_from(&mut buffer).expect("a datagram");
    assert_eq!(&buffer[..len], b"to a stranger");
    assert_eq!(from, port.local_address());

    for payload in [&b""[..], b"x", b"from a stranger"] {
        socket.send_to(payload, port.local_address()).expect("sent");
        let mut got = FrameQueue::new();
        until("the datagram arrives", || port.receive(&mut got, 32) == 1);
        // The kernel verified what there was to verify.
        let Ok(Inbound::Udp(udp)) = classify(got[0].bytes(), false) else { panic!("not UDP") };
        assert_eq!(udp.payload(), payload);
        assert_eq!(*udp.headers(), headers(address, port.local_address()));
    }
    assert_eq!(port.frames_out(), 0);
}

/// Neighbours of one length leave as one message; whatever the lengths and destinations, datagrams arrive as
/// they were sent.
#[test]
fn bursts_arrive_as_the_datagrams_that_they_were() {
    for host in BOTH {
        let mut port = open(host, 512);
        let sockets = [foreign_socket(host), foreign_socket(host)];
        // Runs of one length, a shorter one at an end, longer ones behind shorter ones, empty ones, and a change
        // of destination in the middle of a run.
        let lens = [700, 700, 700, 20, 20, 21, 0, 0, 5, 1400, 1400, 1399, 1399, 1400, 64, 64];
        // Few enough for the buffer of a socket as it is.
        let sent: Vec<(usize, Vec<u8>)> = (0..60u8)
            .map(|number| {
                let len = lens[usize::from(number) % lens.len()];
                (usize::from(number % 25 / 20), vec![number; len])
            })
            .collect();
        for (to, payload) in &sent {
            assert!(send(&mut port, sockets[*to].1, payload));
        }
        port.flush();
        for (place, (socket, _)) in sockets.iter().enumerate() {
            for (_, payload) in sent.iter().filter(|(to, _)| *to == place) {
                let mut buffer = [0; 2048];
                let len = socket.recv(&mut buffer).expect("a datagram");
                assert_eq!(&buffer[..len], payload);
            }
        }
        assert_eq!((port.stats().tx_frames, port.stats().tx_dropped), (60, 0));
        assert_eq!(port.frames_out(), 0);
    }
}

#[test]
fn padding_behind_the_udp_payload_is_not_sent() {
    for host in BOTH {
        let mut port = open(host, 4);
        let (socket, address) = foreign_socket(host);
        let mut frame = port.frame().expect("an empty frame");
        frame.set_len(80);
        frame.bytes_mut().fill(0xaa);
        let headers = headers(port.local_address(), address);
        emit_udp_headers(frame.bytes_mut(), &headers, 3);
        port.send(frame).expect("room");
        port.flush();
        let mut buffer = [0; 64];
        assert_eq!(socket.recv(&mut buffer).expect("a datagram"), 3);
    }
}

#[test]
fn a_port_for_all_ipv6_addresses_hears_no_ipv4() {
    let mut port = open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), 4);
    let number = port.local_address().port();
    let (v4, _) = foreign_socket(ANY_PORT);
    let (v6, address) = foreign_socket(ANY_PORT_V6);
    // Nobody may listen there, which the kernel may say.
    let _ = v4.send_to(b"4", (Ipv4Addr::LOCALHOST, number));
    v6.send_to(b"6", (Ipv6Addr::LOCALHOST, number)).expect("sent");
    let mut got = FrameQueue::new();
    until("a datagram arrives", || port.receive(&mut got, 32) > 0);
    let Ok(Inbound::Udp(udp)) = classify(got[0].bytes(), false) else { panic!("not UDP") };
    assert_eq!((udp.payload(), udp.src_ip()), (&b"6"[..], address.ip()));
    assert_eq!((got.len(), port.stats().rx_refused), (1, 0));
}

#[test]
fn a_datagram_longer_than_a_frame_is_refused_and_the_next_one_arrives() {
    BOTH.into_iter().for_each(too_long);
}

fn too_long(host: SocketAddr) {
    let mut port = open(host, 4);
    let (socket, address) = foreign_socket(host);
    let headers = udp_headers_bytes(&address.ip(), None);
    let longest = MAX_FRAME - headers;
    socket.send_to(&vec![1; longest + 1], port.local_address()).expect("sent");
    socket.send_to(&vec![2; longest], port.local_address()).expect("sent");
    let mut got = FrameQueue::new();
    until("the second datagram arrives", || port.receive(&mut got, 32) == 1);
    assert_eq!(got[0].bytes().len(), MAX_FRAME);
    assert_eq!(got[0].bytes()[headers], 2);
    assert_eq!(port.stats().rx_refused, 1);
}

#[test]
fn frames_that_cannot_leave_are_dropped_and_the_others_leave() {
    let mut port = open(ANY_PORT, 64);
    let (socket, address) = foreign_socket(ANY_PORT);
    let nobody = {
        let (_, address) = foreign_socket(ANY_PORT);
        address
    };
    // Not UDP at all.
    let mut frame = port.frame().expect("an empty frame");
    frame.set_len(42);
    let host = Ipv4Addr::LOCALHOST;
    emit_arp_request(frame.bytes_mut(), [2; 6], None, host, host);
    port.send(frame).expect("taken");
    assert_eq!(port.stats().tx_dropped, 1);
    // The kernel refuses port 0, and broadcasts to those who did not ask for them.
    let refused = [ANY_PORT, SocketAddr::from((Ipv4Addr::BROADCAST, 9))];
    for round in 0..4u8 {
        for to in refused {
            assert!(send(&mut port, to, b"lost"));
        }
        // Nobody listens there: the answer is an ICMP error.
        assert!(send(&mut port, nobody, b"lost"));
        assert!(send(&mut port, address, &[round]));
        port.flush();
        let mut got = FrameQueue::new();
        assert_eq!(port.receive(&mut got, 32), 0);
        let mut buffer = [0; 8];
        assert_eq!(socket.recv(&mut buffer).expect("a datagram"), 1);
        assert_eq!(buffer[0], round);
    }
    let stats = port.stats();
    assert_eq!((stats.tx_dropped, stats.tx_frames, port.frames_out()), (1 + 8, 8, 0));
}

#[test]
fn what_the_kernel_drops_is_counted() {
    let mut port = open(ANY_PORT, 64);
    let (socket, _) = foreign_socket(ANY_PORT);
    // More than any buffer that was asked for holds.
    let (payload, sent) = ([0; 1400], 20_000);
    for _ in 0..sent {
        socket.send_to(&payload, port.local_address()).expect("sent");
    }
    let mut got = FrameQueue::new();
    while port.receive(&mut got, 32) > 0 {
        got.clear();
    }
    // The count comes with the next datagram.
    socket.send_to(&payload, port.local_address()).expect("sent");
    until("a datagram arrives", || port.receive(&mut got, 32) == 1);
    let stats = port.stats();
    assert!(stats.rx_no_buffer > 0, "{stats:?}");
    assert_eq!(stats.rx_frames + stats.rx_no_buffer, sent + 1);
}

#[test]
fn an_address_in_use_or_of_another_host_is_an_error_that_names_it() {
    for host in BOTH {
        let port = open(host, 1);
        let taken = SocketPort::bind(port.local_address(), 1).expect_err("in use");
        assert!(taken.to_string().contains(&port.local_address().to_string()), "{taken}");
        let SocketError::Io { source, .. } = taken;
        assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
    }
    assert!(SocketPort::bind((Ipv4Addr::new(192, 0, 2, 1), 0), 1).is_err());
    assert!(SocketPort::bind((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 0), 1).is_err());
}
