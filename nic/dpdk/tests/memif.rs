//! net_memif ports with each other, and DPDK as the peer of the memif ports that are ours.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Two, eal, filled};
use mstream_nic::conformance::{self, Expect};
use mstream_nic::memif::{ClientConfig, ClientPort, Listener, ListenerConfig};
use mstream_nic::port::BURST;
use mstream_nic::{FrameQueue, Port};
use mstream_nic_dpdk::{
    DpdkError, DpdkPortConfig, DpdkPortSeed, Eal, Kind, MemifConfig, MemifRole, ThreadRegistration,
};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn memif_ports() {
    let eal = eal();
    let registration = eal.register_thread().expect("a free id");
    let dir = tempfile::tempdir().expect("a folder");
    both_ends_are_dpdks(&eal, &registration, dir.path());
    our_server_with_dpdks_client(&eal, &registration, dir.path());
    our_client_with_dpdks_server(&eal, &registration, dir.path());
    a_client_without_a_server_and_after_its_end(&eal, &registration, dir.path());
    both_ends_end_at_the_same_time(&eal, &registration, dir.path());
    sockets_in_the_way(&eal, dir.path());
    drop(registration);
    eal.close().expect("nothing uses DPDK any more");
}

fn config(name: &str, socket: &Path, role: MemifRole) -> DpdkPortConfig {
    DpdkPortConfig::new(name, Kind::Memif(MemifConfig::new(socket, role)))
}

fn both_ends_are_dpdks(eal: &Eal, registration: &ThreadRegistration, dir: &Path) {
    let socket = dir.join("both");
    let server = config("server", &socket, MemifRole::Server);
    let server = DpdkPortSeed::prepare(eal, &server).expect("a server");
    let mode = socket.metadata().expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = config("client", &socket, MemifRole::Client);
    let client = DpdkPortSeed::prepare(eal, &client).expect("a client");
    assert!(client.wait_for_link(PATIENCE) && server.wait_for_link(PATIENCE));
    let mut pair = Two { a: server.open(registration), b: client.open(registration) };
    let report = conformance::run(&mut pair, Expect::default());
    assert!(report.gave_back > 0, "the rings were full at times: {report:?}");
    pair.b.close().expect("the client's pool is whole");
    pair.a.close().expect("the server's pool is whole");
}

/// DPDK's client seals what it hands over, so it need not be trusted.
fn our_server_with_dpdks_client(eal: &Eal, registration: &ThreadRegistration, dir: &Path) {
    let socket = dir.join("ours");
    let (mut listener, seed) = Listener::bind(&ListenerConfig::new(&socket)).expect("a listener");
    serving(&mut listener, || {
        let client = config("client", &socket, MemifRole::Client);
        let client = DpdkPortSeed::prepare(eal, &client).expect("a client");
        assert!(client.wait_for_link(PATIENCE), "our server accepts DPDK's client");
        let mut pair = Two { a: seed.open(2048), b: client.open(registration) };
        let report = conformance::run(&mut pair, Expect::default());
        assert!(report.gave_back > 0, "the rings were full at times: {report:?}");
        pair.b.close().expect("the client's pool is whole");
    });
}

fn our_client_with_dpdks_server(eal: &Eal, registration: &ThreadRegistration, dir: &Path) {
    let socket = dir.join("theirs");
    let server = config("server", &socket, MemifRole::Server);
    let server = DpdkPortSeed::prepare(eal, &server).expect("a server");
    let client = ClientPort::connect(&ClientConfig::new(&socket), PATIENCE).expect("connected");
    assert!(server.wait_for_link(PATIENCE));
    let mut pair = Two { a: server.open(registration), b: client };
    let report = conformance::run(&mut pair, Expect::default());
    assert!(report.gave_back > 0, "the rings were full at times: {report:?}");
    let Two { a: server, b: client } = pair;
    drop(client);
    server.close().expect("the server's pool is whole");
}

fn a_client_without_a_server_and_after_its_end(
    eal: &Eal,
    registration: &ThreadRegistration,
    dir: &Path,
) {
    let socket = dir.join("lost");
    let of_client = config("client", &socket, MemifRole::Client);
    let alone = DpdkPortSeed::prepare(eal, &of_client);
    assert!(matches!(alone, Err(DpdkError::Port { .. })), "nobody listens: {alone:?}");

    // DPDK's own server would not do: in one process both its ends keep one socket open.
    let (mut listener, seed) = Listener::bind(&ListenerConfig::new(&socket)).expect("a listener");
    let client = serving(&mut listener, || {
        let client = DpdkPortSeed::prepare(eal, &of_client).expect("a client");
        assert!(client.wait_for_link(PATIENCE));
        client
    });
    let mut client = client.open(registration);
    drop((listener, seed));
    let deadline = Instant::now() + PATIENCE;
    while client.link_up() {
        assert!(Instant::now() < deadline, "the client notices that the server is gone");
        thread::yield_now();
    }
    // Frames for nobody are dropped and counted.
    for _ in 0..3 * BURST {
        let frame = filled(&mut client, 64, 0);
        assert!(client.send(frame).is_ok());
    }
    client.flush();
    let stats = client.stats();
    assert_eq!((stats.tx_frames, stats.tx_dropped), (0, 3 * BURST as u64));
    client.maintain();
    assert!(!client.link_up(), "there is no server yet");

    let (mut listener, seed) = Listener::bind(&ListenerConfig::new(&socket)).expect("a listener");
    serving(&mut listener, || {
        let deadline = Instant::now() + PATIENCE;
        while !client.link_up() {
            assert!(Instant::now() < deadline, "the client connects again");
            client.maintain();
            thread::sleep(Duration::from_millis(50));
        }
    });
    let mut server = seed.open(64);
    let frame = filled(&mut client, 64, 7);
    assert!(client.send(frame).is_ok());
    client.flush();
    let mut got = FrameQueue::new();
    assert_eq!(server.receive(&mut got, BURST), 1);
    client.close().expect("the client's pool is whole");
}

/// Does `work` while the listener runs.
fn serving<T>(listener: &mut Listener, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let control = scope.spawn(|| listener.run(&stop).expect("polls"));
        let done = work();
        stop.store(true, Ordering::Release);
        control.join().expect("no panic");
        done
    })
}

/// The driver hears of its peer's end on another thread while the device is being closed.
fn both_ends_end_at_the_same_time(eal: &Eal, registration: &ThreadRegistration, dir: &Path) {
    for round in 0..50 {
        let socket = dir.join(format!("end{round}"));
        let server = config("server", &socket, MemifRole::Server);
        let server = DpdkPortSeed::prepare(eal, &server).expect("a server");
        let client = config("client", &socket, MemifRole::Client);
        let client = DpdkPortSeed::prepare(eal, &client).expect("a client");
        assert!(client.wait_for_link(PATIENCE) && server.wait_for_link(PATIENCE));
        let (server, client) = (server.open(registration), client.open(registration));
        let (first, second) = if round % 2 == 0 { (server, client) } else { (client, server) };
        first.close().expect("its pool is whole");
        second.close().expect("its pool is whole");
    }
}

fn sockets_in_the_way(eal: &Eal, dir: &Path) {
    let socket = dir.join("stale");
    let of_server = config("server", &socket, MemifRole::Server);
    let listener = UnixListener::bind(&socket).expect("a socket");
    let refused = DpdkPortSeed::prepare(eal, &of_server);
    assert!(matches!(refused, Err(DpdkError::Port { .. })), "somebody listens: {refused:?}");
    drop(listener);
    assert!(socket.exists(), "the file outlives its server");
    let server = DpdkPortSeed::prepare(eal, &of_server);
    assert!(server.is_ok(), "a stale socket is replaced: {server:?}");
}
