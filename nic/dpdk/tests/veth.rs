//! Ports over interfaces of the kernel, net_af_packet and net_af_xdp: one end of a veth pair, with a
//! packet socket at the other, in a network namespace of their own.
#![expect(clippy::print_stdout, reason = "says when it is skipped")]

mod common;
#[path = "common/network.rs"]
mod network;
#[expect(unsafe_code, reason = "the standard library has no packet sockets")]
#[path = "common/packet.rs"]
mod packet;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Two, eal, filled};
use mstream_nic::conformance::{self, Expect, Wire, WirePort};
use mstream_nic::port::BURST;
use mstream_nic::{FrameQueue, Port};
use mstream_nic_dpdk::{
    DpdkError, DpdkPort, DpdkPortConfig, DpdkPortSeed, DpdkProbe, Eal, Kind, Link,
    ThreadRegistration,
};
use network::{in_own_network, ip};
use packet::PacketSocket;

const OURS: &str = "msv0";
const THEIRS: &str = "msv1";
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn ports_over_veth() {
    if !in_own_network("ports_over_veth", "/proc/sys/net") {
        return;
    }
    let eal = eal();
    let registration = eal.register_thread().expect("a free id");
    let kinds = [
        Kind::AfPacket { interface: OURS.into() },
        Kind::AfXdp { interface: OURS.into(), queue: 0 },
    ];
    for kind in kinds {
        frames_to_and_from_the_interface(&eal, &registration, &kind);
        a_link_that_is_down_blocks_nothing(&eal, &registration, &kind);
        an_interface_that_goes_blocks_nothing(&eal, &registration, &kind);
        missing_interfaces_are_refused(&eal, &kind);
    }
    drop(registration);
    eal.close().expect("nothing uses DPDK any more");
}

/// Makes the pair anew.
fn veth() {
    // There is none at first.
    let _ = Command::new("ip").args(["link", "del", OURS]).output();
    ip(&format!("link add {OURS} type veth peer name {THEIRS}"));
    ip(&format!("link set {OURS} up"));
    ip(&format!("link set {THEIRS} up"));
}

/// A port on a fresh pair.
fn port(eal: &Eal, registration: &ThreadRegistration, kind: &Kind) -> DpdkPort {
    veth();
    let config = DpdkPortConfig { frames: 8192, ..DpdkPortConfig::new("veth", kind.clone()) };
    let seed = DpdkPortSeed::prepare(eal, &config).expect("a port");
    assert!(seed.wait_for_link(PATIENCE));
    seed.open(registration)
}

fn counter(port: &DpdkPort, name: &str) -> u64 {
    let counters = port.probe().counters();
    let found = counters.iter().find(|(counter, _)| counter == name);
    found.unwrap_or_else(|| panic!("no {name}: {counters:?}")).1
}

fn frames_to_and_from_the_interface(eal: &Eal, registration: &ThreadRegistration, kind: &Kind) {
    let port = port(eal, registration, kind);
    let capabilities = port.capabilities();
    assert!(capabilities.syscalls && !capabilities.rx_checksums_verified);
    assert_eq!(capabilities.max_frame, 1514, "the interface's MTU and a header");
    let socket = PacketSocket::open(THEIRS).expect("a packet socket");
    let mut pair = Two { a: port, b: WirePort::new(socket, 2048) };
    // The kernel's queues on the way drop what is too much for them.
    let patience = Duration::from_millis(500);
    let expect = Expect { lossless: false, patience, ..Expect::default() };
    let report = conformance::run(&mut pair, expect);
    assert!(report.arrived > 0 && report.foreign == 0, "{kind:?}: {report:?}");
    let stats = pair.a.stats();
    assert_eq!(counter(&pair.a, "rx_good_packets"), stats.rx_frames, "{kind:?}");
    assert!(counter(&pair.a, "pool_free") <= counter(&pair.a, "pool_buffers"));
    pair.a.close().unwrap_or_else(|leak| panic!("{kind:?}: {leak}"));
}

/// Sends three bursts.
fn send_some(port: &mut DpdkPort) {
    for _ in 0..3 * BURST {
        let frame = filled(port, 100, 0);
        assert!(port.send(frame).is_ok());
    }
    port.flush();
}

fn a_link_that_is_down_blocks_nothing(eal: &Eal, registration: &ThreadRegistration, kind: &Kind) {
    let mut port = port(eal, registration, kind);
    let probe = port.probe();
    await_link(&probe, Link::Up);
    for down in [OURS, THEIRS] {
        ip(&format!("link set {down} down"));
        let before = port.stats();
        await_link(&probe, Link::Down);
        send_some(&mut port);
        let stats = port.stats();
        assert_eq!(stats.tx_frames - before.tx_frames, 0, "{kind:?} {down}");
        assert_eq!(stats.tx_dropped - before.tx_dropped, 3 * BURST as u64, "{kind:?} {down}");
        ip(&format!("link set {down} up"));
        await_link(&probe, Link::Up);
        both_ways(&mut port, kind);
    }
    port.close().unwrap_or_else(|leak| panic!("{kind:?}: {leak}"));
    assert_eq!(probe.link(), Link::Gone, "the port is closed");
    assert!(probe.counters().is_empty());
}

/// The kernel takes its time to tell a carrier's coming and going.
fn await_link(probe: &DpdkProbe, link: Link) {
    let started = Instant::now();
    while probe.link() != link {
        assert!(started.elapsed() < PATIENCE, "the link never becomes {link:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A frame passes each way.
fn both_ways(port: &mut DpdkPort, kind: &Kind) {
    let mut socket = PacketSocket::open(THEIRS).expect("a packet socket");
    let started = Instant::now();
    let (mut sent, mut received) = (false, false);
    while !(sent && received) {
        assert!(started.elapsed() < PATIENCE, "{kind:?}: sent {sent}, received {received}");
        let frame = filled(port, 100, 7);
        assert!(port.send(frame).is_ok());
        port.flush();
        let mut buffer = [0; 2048];
        sent |= socket.receive(&mut buffer).is_ok_and(|len| len == 100 && buffer[0] == 7);
        let _ = socket.send(&[9; 200]);
        let mut got = FrameQueue::new();
        received |= port.receive(&mut got, BURST) > 0;
    }
}

fn an_interface_that_goes_blocks_nothing(
    eal: &Eal,
    registration: &ThreadRegistration,
    kind: &Kind,
) {
    let mut port = port(eal, registration, kind);
    let probe = port.probe();
    send_some(&mut port);
    ip(&format!("link del {OURS}"));
    // Before anybody noticed: it may take frames, or none.
    let mut got = FrameQueue::new();
    for _ in 0..20 * BURST {
        let frame = filled(&mut port, 100, 0);
        if port.send(frame).is_err() {
            break;
        }
        port.receive(&mut got, BURST);
    }
    port.flush();
    assert_eq!(probe.link(), Link::Gone);
    let before = port.stats().tx_dropped;
    send_some(&mut port);
    assert!(port.stats().tx_dropped - before >= 3 * BURST as u64);
    assert_eq!(port.receive(&mut got, BURST), 0);
    // Another interface of that name is not ours.
    veth();
    assert_eq!(probe.link(), Link::Gone);
    ip(&format!("link del {OURS}"));
    port.close().unwrap_or_else(|leak| panic!("{kind:?}: {leak}"));
}

fn missing_interfaces_are_refused(eal: &Eal, kind: &Kind) {
    let refused = DpdkPortSeed::prepare(eal, &DpdkPortConfig::new("none", kind.clone()));
    let Err(error @ DpdkError::Port { .. }) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains(OURS), "{error}");
    let Kind::AfXdp { .. } = kind else { return };
    ip(&format!("link add {OURS} type veth peer name {THEIRS}"));
    let refused = DpdkPortSeed::prepare(eal, &DpdkPortConfig::new("down", kind.clone()));
    let Err(error @ DpdkError::Port { .. }) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().contains("ip link set msv0 up"), "{error}");
    ip(&format!("link del {OURS}"));
}
