//! A net_tap port with the kernel at the other end, in a network namespace of its own.
#![expect(clippy::print_stdout, reason = "says when it is skipped")]

#[path = "common/checksums.rs"]
mod checksums;
mod common;
#[path = "common/network.rs"]
mod network;
#[expect(unsafe_code, reason = "the standard library has no packet sockets")]
#[path = "common/packet.rs"]
mod packet;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::{Two, eal};
use mstream_nic::conformance::{self, Expect, WirePort};
use mstream_nic::headers::{Inbound, classify, emit_udp_headers};
use mstream_nic::port::BURST;
use mstream_nic::{Frame, FrameQueue, Port};
use mstream_nic_dpdk::{
    DpdkError, DpdkPort, DpdkPortConfig, DpdkPortSeed, Eal, Kind, ThreadRegistration,
};
use network::{in_own_network, ip};
use packet::PacketSocket;

const INTERFACE: &str = "mstap0";
const KERNEL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_tap_port() {
    if !in_own_network("a_tap_port", "/dev/net/tun") {
        return;
    }
    let eal = eal();
    let registration = eal.register_thread().expect("a free id");
    frames_to_and_from_the_interface(&eal, &registration);
    for by_device in [true, false] {
        checksums::are_right(&eal, &registration, by_device);
    }
    a_kernel_socket_is_answered(&eal, &registration);
    an_interface_that_is_down_blocks_nothing(&eal, &registration);
    names_in_use_are_refused(&eal);
    drop(registration);
    eal.close().expect("nothing uses DPDK any more");
}

fn config(name: &str) -> DpdkPortConfig {
    let kind = Kind::Tap { interface: INTERFACE.into(), mac: Some(KERNEL_MAC) };
    DpdkPortConfig { frames: 2048, ..DpdkPortConfig::new(name, kind) }
}

fn tap(eal: &Eal, registration: &ThreadRegistration) -> DpdkPort {
    let seed = DpdkPortSeed::prepare(eal, &config("tap")).expect("a port");
    assert!(seed.wait_for_link(PATIENCE));
    assert_eq!(seed.probe().mac(), KERNEL_MAC);
    seed.open(registration)
}

fn frames_to_and_from_the_interface(eal: &Eal, registration: &ThreadRegistration) {
    let port = tap(eal, registration);
    assert!(port.capabilities().syscalls);
    let socket = PacketSocket::open(INTERFACE).expect("a packet socket");
    let mut pair = Two { a: port, b: WirePort::new(socket, 2048) };
    // The kernel's queues on the way drop what is too much for them.
    let patience = Duration::from_secs(1);
    let expect = Expect { lossless: false, foreign_frames: true, patience, ..Expect::default() };
    let report = conformance::run(&mut pair, expect);
    assert!(report.arrived > 0 && report.exhausted == 0, "{report:?}");
    pair.a.close().expect("the pool is whole");
    assert!(PacketSocket::open(INTERFACE).is_err(), "the interface is gone with the port");
}

fn a_kernel_socket_is_answered(eal: &Eal, registration: &ThreadRegistration) {
    let mut port = tap(eal, registration);
    ip(&format!("addr add 10.77.1.1/24 dev {INTERFACE}"));
    ip(&format!("neigh add 10.77.1.2 lladdr 02:00:00:00:00:20 dev {INTERFACE}"));
    let socket = UdpSocket::bind("10.77.1.1:0").expect("a socket");
    socket.set_nonblocking(true).expect("set");
    for len in (0..1400).step_by(100) {
        let sent = vec![len as u8; len];
        socket.send_to(&sent, "10.77.1.2:7000").expect("sent");
        let mut answer = [0; 2048];
        let deadline = Instant::now() + PATIENCE;
        let got = loop {
            assert!(Instant::now() < deadline, "no answer of {len} bytes");
            echo(&mut port);
            if let Ok((got, from)) = socket.recv_from(&mut answer) {
                assert_eq!(from, "10.77.1.2:7000".parse().expect("an address"));
                break got;
            }
        };
        assert_eq!(answer[..got], sent);
    }
    port.close().expect("the pool is whole");
}

/// Sends back what came by UDP.
fn echo(port: &mut DpdkPort) {
    let mut got = FrameQueue::new();
    port.receive(&mut got, BURST);
    for mut frame in got {
        // The kernel filled in both checksums: nothing is left to the device.
        let Ok(Inbound::Udp(udp)) = classify(frame.bytes(), true) else { continue };
        assert_eq!((udp.link().src_mac, udp.link().dst_mac), (KERNEL_MAC, OUR_MAC));
        let payload = udp.payload().len();
        let headers = udp.headers().swapped();
        frame.set_len(headers.bytes() + payload);
        emit_udp_headers(frame.bytes_mut(), &headers, payload);
        assert!(port.send(frame).is_ok());
    }
    port.flush();
}

fn an_interface_that_is_down_blocks_nothing(eal: &Eal, registration: &ThreadRegistration) {
    let mut port = tap(eal, registration);
    ip(&format!("link set {INTERFACE} down"));
    let before = port.stats();
    for _ in 0..3 * BURST {
        let frame = common::filled(&mut port, 100, 0);
        assert!(port.send(frame).is_ok());
    }
    port.flush();
    let stats = port.stats();
    assert_eq!(stats.tx_frames - before.tx_frames, 0);
    assert_eq!(stats.tx_dropped - before.tx_dropped, 3 * BURST as u64);
    port.close().expect("the pool is whole");
}

fn names_in_use_are_refused(eal: &Eal) {
    let first = DpdkPortSeed::prepare(eal, &config("first")).expect("a port");
    let second = DpdkPortSeed::prepare(eal, &config("second"));
    assert!(matches!(second, Err(DpdkError::Port { .. })), "{second:?}");
    drop(first);
}
