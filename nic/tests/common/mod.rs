//! What several of the port tests need.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mstream_nic::conformance::Pair;
use mstream_nic::headers::UdpHeaders;
use mstream_nic::memif::{ClientConfig, ClientPort, Listener, ListenerConfig, ServerPort};
use tempfile::TempDir;

/// Addresses of frames from the first port of a pair to the second.
pub const HEADERS: UdpHeaders = UdpHeaders {
    src_mac: [2, 0, 0, 0, 0, 1],
    dst_mac: [2, 0, 0, 0, 0, 2],
    src_ip: [10, 0, 0, 1],
    dst_ip: [10, 0, 0, 2],
    src_port: 7000,
    dst_port: 7500,
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
        MemifPair { listener, server, client, _dir: dir }
    }
}

impl Pair for MemifPair {
    type A = ServerPort;
    type B = ClientPort;

    fn ports(&mut self) -> (&mut ServerPort, &mut ClientPort) {
        (&mut self.server, &mut self.client)
    }

    fn headers(&self) -> UdpHeaders {
        HEADERS
    }
}
