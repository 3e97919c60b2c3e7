//! Any control messages, shared memory and rings from a memif client: no panic, and nothing of it stays behind.
#![no_main]

use std::cell::RefCell;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mstream_nic::memif::{Listener, ListenerConfig, ServerPort};
use mstream_nic::{Frame, FrameQueue, Port};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

const MESSAGE_BYTES: usize = 128;
const MEMORY_BYTES: u64 = 64 * 1024;
/// A ring of 16 slots: its head of 128 bytes, then descriptors of 16.
const RING_LOG2: u8 = 4;
const RING_BYTES: u32 = 128 + 16 * 16;
/// What memif 2.0 says a ring begins with.
const RING_COOKIE: u32 = 0x03e3_1f20;

struct Server {
    dir: tempfile::TempDir,
    listener: Listener,
    port: ServerPort,
}

impl Server {
    fn new() -> Server {
        let dir = tempfile::tempdir().expect("a directory");
        let config = ListenerConfig {
            max_connections: 4,
            max_memory_bytes: MEMORY_BYTES,
            ..ListenerConfig::new(dir.path().join("memif.sock"))
        };
        let (listener, seed) = Listener::bind(&config).expect("a fresh path");
        Server { dir, listener, port: seed.open(64) }
    }

    fn turn(&mut self) {
        self.listener.poll(Duration::ZERO).expect("polling works");
        let mut frames = FrameQueue::new();
        self.port.receive(&mut frames, 32);
        for mut frame in frames {
            let len = frame.bytes().len().min(frame.capacity());
            frame.set_len(len);
            // What came goes back; a connection that is gone takes nothing.
            let _ = self.port.send(frame);
        }
        self.port.flush();
        self.port.maintain();
    }
}

/// A client that says what it is told to.
struct Peer {
    socket: OwnedFd,
    memory: OwnedFd,
}

impl Peer {
    fn connect(server: &Server) -> Peer {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .expect("a socket");
        let path = SocketAddrUnix::new(server.dir.path().join("memif.sock")).expect("short");
        rustix::net::connect(&socket, &path).expect("the server listens");
        let memory = memfd_create("fuzz", MemfdFlags::ALLOW_SEALING).expect("memory");
        ftruncate(&memory, MEMORY_BYTES).expect("room");
        fcntl_add_seals(&memory, SealFlags::SHRINK).expect("a seal");
        let peer = Peer { socket, memory };
        for ring in 0..2 {
            peer.write(u64::from(ring * RING_BYTES), &RING_COOKIE.to_le_bytes());
        }
        peer
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        // Beyond the end the memory grows, which the seal allows.
        let at = at % (MEMORY_BYTES - 64);
        rustix::io::pwrite(&self.memory, bytes, at).expect("room");
    }

    /// Sends a packet; a server that hung up hears nothing.
    fn packet(&self, bytes: &[u8], passed: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !passed.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(passed));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = rustix::net::sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, flags);
    }

    /// Sends a message of these fields, padded with zeros.
    fn message(&self, fields: &[&[u8]], passed: &[BorrowedFd<'_>]) {
        let mut bytes = [0; MESSAGE_BYTES];
        let mut rest = &mut bytes[..];
        for field in fields {
            // What is over the message's size is left out.
            let _ = rest.write(field);
        }
        self.packet(&bytes, passed);
    }

    fn region(&self, index: u16, size: u64, passed: &[BorrowedFd<'_>]) {
        self.message(&[&[4, 0], &index.to_le_bytes(), &size.to_le_bytes()], passed);
    }

    fn ring(&self, to_server: u8, index: u16, region: u16, offset: u32, log2: u8) {
        let (index, region) = (index.to_le_bytes(), region.to_le_bytes());
        let fields: [&[u8]; 6] =
            [&[5, 0, to_server, 0], &index, &region, &offset.to_le_bytes(), &[log2], &[0; 2]];
        self.message(&fields, &[]);
    }

    /// Does everything as it should be done, up to a connection.
    fn handshake(&self, server: &mut Server) {
        self.message(&[&[3, 0, 0, 2]], &[]);
        server.turn();
        self.region(0, MEMORY_BYTES, &[self.memory.as_fd()]);
        for to_server in [1, 0] {
            server.turn();
            let passed = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC);
            let passed = passed.expect("an event counter");
            let offset = (u32::from(to_server) * RING_BYTES).to_le_bytes();
            let fields: [&[u8]; 4] =
                [&[5, 0, to_server, 0, 0, 0, 0, 0], &offset, &[RING_LOG2], &[0; 2]];
            self.message(&fields, &[passed.as_fd()]);
        }
        server.turn();
        self.message(&[&[6, 0]], &[]);
        server.turn();
    }

    /// Does what a step says; gives back what is left of the input.
    fn step<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let ([how, a, b, c], rest) =
            bytes.split_first_chunk().map_or(([0; 4], &[][..]), |split| (*split.0, split.1));
        let wide = u16::from_le_bytes([b, c]);
        let memory = self.memory.as_fd();
        match how % 8 {
            0 => {
                let (tail, rest) = rest.split_at(rest.len().min(32));
                let passed = [memory; 2];
                let passed = &passed[..usize::from(how >> 6).min(2)];
                self.message(&[&[a, 0, b, c], tail], passed);
                return rest;
            }
            1 => self.message(&[&[3, 0, a, 2 ^ b, c]], &[]),
            2 => self.region(u16::from(a), u64::from(wide) << (how >> 3), &[memory]),
            3 => {
                self.ring(a & 1, u16::from(a >> 1), u16::from(how >> 6), wide.into(), how >> 3 & 7)
            }
            4 => self.message(&[&[6, 0, a, b, c]], &[]),
            5 => {
                let (tail, rest) = rest.split_at(rest.len().min(usize::from(a % 32)));
                self.write(wide.into(), tail);
                return rest;
            }
            6 => self.packet(&vec![a; usize::from(wide) % 200], &[]),
            _ => self.message(&[&[8, 0, a, b, c, 0]], &[]),
        }
        rest
    }
}

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server::new());
}

fuzz_target!(|bytes: &[u8]| {
    SERVER.with_borrow_mut(|server| {
        let peer = Peer::connect(server);
        server.turn();
        let mut left = bytes;
        if let Some((0..=127, rest)) = bytes.split_first() {
            peer.handshake(server);
            assert_eq!(server.port.connections(), 1, "nothing disturbed the handshake");
            left = rest;
        }
        while !left.is_empty() {
            left = peer.step(left);
            server.turn();
        }
        drop(peer);
        let counters = server.listener.counters();
        for _ in 0..100 {
            server.turn();
            if server.port.connections() == 0
                && counters.snapshot().closed == counters.snapshot().connected
            {
                break;
            }
        }
        assert_eq!(server.port.connections(), 0, "{:?}", counters.snapshot());
        assert_eq!(server.port.frames_out(), 0, "{:?}", server.port.stats());
    });
});
