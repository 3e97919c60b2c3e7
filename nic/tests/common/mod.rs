//! What several of the port tests need.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod raw;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mstream_nic::conformance::Pair;
use mstream_nic::headers::{IpPair, Link, UdpHeaders};
use mstream_nic::memif::{
    ClientConfig, ClientPort, Listener, ListenerConfig, ListenerStats, ServerPort,
};
use mstream_nic::{Frame, FrameQueue, Port};
use tempfile::TempDir;

/// Addresses of frames from the first port of a pair to the second.
pub const HEADERS: UdpHeaders = UdpHeaders {
    link: Link { src_mac: [2, 0, 0, 0, 0, 1], dst_mac: [2, 0, 0, 0, 0, 2], vlan: None },
    ips: IpPair::V4 { src: Ipv4Addr::new(10, 0, 0, 1), dst: Ipv4Addr::new(10, 0, 0, 2) },
    src_port: 7000,
    dst_port: 7500,
};

/// The same over IPv6 on a VLAN.
pub const HEADERS_V6: UdpHeaders = UdpHeaders {
    link: Link { vlan: Some(100), ..HEADERS.link },
    ips: IpPair::V6 {
        src: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        dst: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
    },
    ..HEADERS
};

/// A directory with the path of a control socket in it.
pub fn socket_path() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("memif.sock");
    (dir, path)
}

/// Connects a client to a listener of the same process.
pub fn connect(listener: &mut Listener, config: &ClientConfig) -> ClientPort {
    // A port stays on the thread that made it, so the listener goes elsewhere for a moment.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| listener.run(&done).expect("poll"));
        let port = ClientPort::connect(config, Duration::from_secs(10));
        done.store(true, Ordering::Release);
        port.expect("a connection")
    })
}

/// Calls `step` until it says true; panics after ten seconds.
pub fn until(what: &str, mut step: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !step() {
        assert!(Instant::now() < deadline, "waited ten seconds until {what}");
        std::thread::yield_now();
    }
}

/// A memif server and one client.
pub struct MemifPair {
    pub listener: Listener,
    pub server: ServerPort,
    pub client: ClientPort,
    /// Addresses of frames from the server to the client.
    pub headers: UdpHeaders,
    _dir: TempDir,
}

impl MemifPair {
    /// Connects a client with settings changed by `change`.
    pub fn new(change: impl FnOnce(&mut ClientConfig)) -> MemifPair {
        let (dir, path) = socket_path();
        let (mut listener, seed) = Listener::bind(&ListenerConfig::new(&path)).expect("bind");
        let server = seed.open(2048);
        let mut config = ClientConfig::new(&path);
        change(&mut config);
        let client = connect(&mut listener, &config);
        MemifPair { listener, server, client, headers: HEADERS, _dir: dir }
    }
}

impl Pair for MemifPair {
    type A = ServerPort;
    type B = ClientPort;

    fn ports(&mut self) -> (&mut ServerPort, &mut ClientPort) {
        (&mut self.server, &mut self.client)
    }

    fn headers(&self) -> UdpHeaders {
        self.headers
    }
}

/// A memif server whose listener runs on a thread of its own.
pub struct Served {
    pub server: ServerPort,
    counters: Arc<mstream_nic::memif::ListenerCounters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
    _dir: TempDir,
}

impl Served {
    /// Starts a server with settings changed by `change`.
    pub fn new(change: impl FnOnce(&mut ListenerConfig)) -> Served {
        let (dir, path) = socket_path();
        let mut config = ListenerConfig::new(&path);
        change(&mut config);
        let (mut listener, seed) = Listener::bind(&config).expect("bind");
        let counters = listener.counters();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || listener.run(&told).expect("poll"));
        Served { server: seed.open(512), counters, stop, thread: Some(thread), path, _dir: dir }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn stats(&self) -> ListenerStats {
        self.counters.snapshot()
    }

    /// Connects a well-behaved client.
    pub fn client(&self) -> ClientPort {
        ClientPort::connect(&ClientConfig::new(&self.path), Duration::from_secs(10))
            .expect("a connection")
    }

    /// Polls the port once and returns what arrived.
    pub fn poll(&mut self) -> Vec<Vec<u8>> {
        let mut got = FrameQueue::new();
        self.server.receive(&mut got, 32);
        got.iter().map(|frame| frame.bytes().to_vec()).collect()
    }

    /// Polls the port until this many clients are connected. Receives nothing while there are fewer.
    pub fn until_connected(&mut self, count: usize) {
        until("all are connected", || {
            let too_many = self.server.connections() > count;
            self.server.receive(&mut FrameQueue::new(), usize::from(too_many));
            self.server.connections() == count
        });
    }

    /// Sends a number from `client` to the server and back.
    pub fn ping(&mut self, client: &mut ClientPort, number: u64) {
        let mut frame = client.frame().expect("an empty frame");
        frame.fill(&number.to_le_bytes());
        client.send(frame).expect("room");
        client.flush();
        let mut got = FrameQueue::new();
        until("the number comes back", || {
            let mut at_server = FrameQueue::new();
            self.server.receive(&mut at_server, 32);
            for frame in at_server {
                // What others sent goes back too, or nowhere.
                let _ = self.server.send(frame);
            }
            self.server.flush();
            client.receive(&mut got, 1) == 1
        });
        assert_eq!(got[0].bytes(), number.to_le_bytes());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the listener's thread panicked");
        }
    }
}
