//! A memif client that says and writes whatever a test wants, made of system calls alone. What it
//! writes into shared memory it writes with `pwrite`, which other processes' mappings see.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{IoSlice, pread, pwrite};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with,
};

pub const ACK: u16 = 1;
pub const HELLO: u16 = 2;
pub const CONNECTED: u16 = 7;
pub const DISCONNECT: u16 = 8;

/// The cookie at the start of each ring.
const COOKIE: u32 = 0x03E3_1F20;
pub const BUFFER_BYTES: u32 = 2048;

/// A control message: type, fields, zeros up to 128 bytes.
pub fn message(kind: u16, fields: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend_from_slice(fields);
    bytes.resize(128, 0);
    bytes
}

pub fn init(version: u16, mode: u8) -> Vec<u8> {
    let mut fields = version.to_le_bytes().to_vec();
    fields.extend_from_slice(&7u32.to_le_bytes());
    fields.push(mode);
    message(3, &fields)
}

pub fn add_region(index: u16, size: u64) -> Vec<u8> {
    let mut fields = index.to_le_bytes().to_vec();
    fields.extend_from_slice(&size.to_le_bytes());
    message(4, &fields)
}

pub fn add_ring(to_server: bool, index: u16, region: u16, offset: u32, log2: u8) -> Vec<u8> {
    let mut fields = u16::from(to_server).to_le_bytes().to_vec();
    fields.extend_from_slice(&index.to_le_bytes());
    fields.extend_from_slice(&region.to_le_bytes());
    fields.extend_from_slice(&offset.to_le_bytes());
    fields.push(log2);
    message(5, &fields)
}

pub fn connect_message() -> Vec<u8> {
    message(6, b"raw")
}

/// A memfd of `bytes` bytes, sealed against shrinking if `sealed`.
pub fn memory(bytes: u64, sealed: bool) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("raw", flags).expect("memfd");
    ftruncate(&file, bytes).expect("ftruncate");
    if sealed {
        fcntl_add_seals(&file, SealFlags::SHRINK).expect("seal");
    }
    file
}

/// The control socket of a raw client.
pub struct Control {
    socket: OwnedFd,
}

impl Control {
    pub fn open(path: &Path) -> Control {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let socket = socket.expect("socket");
        connect(&socket, &SocketAddrUnix::new(path).expect("a path")).expect("connect");
        Control { socket }
    }

    /// Sends one packet. A server that hung up already is no failure.
    pub fn send(&self, bytes: &[u8], passed: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !passed.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(passed)));
        }
        let _ = sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL);
    }

    /// The next packet; `None` when the server closed. Waits ten seconds at most.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let longest = Timespec { tv_sec: 10, tv_nsec: 0 };
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
        assert_eq!(poll(&mut polled, Some(&longest)), Ok(1), "the server says nothing");
        let mut bytes = vec![0; 256];
        match recv(&self.socket, &mut bytes, RecvFlags::empty()) {
            Ok((len, _)) if len > 0 => {
                bytes.truncate(len);
                Some(bytes)
            }
            _ => None,
        }
    }

    /// The next packet, which must be of this type.
    pub fn expect(&self, kind: u16) -> Vec<u8> {
        let packet = self.receive().expect("the server closed");
        let found = u16::from_le_bytes([packet[0], packet[1]]);
        assert_eq!(found, kind, "{:?}", String::from_utf8_lossy(&packet));
        packet
    }

    /// The type of the server's first packet.
    pub fn first_word(&self) -> Option<u16> {
        self.receive().map(|packet| u16::from_le_bytes([packet[0], packet[1]]))
    }

    /// Reads on until the server says goodbye; returns its reason.
    pub fn goodbye(&self) -> Option<String> {
        while let Some(packet) = self.receive() {
            if packet[..2] == DISCONNECT.to_le_bytes() {
                let text: Vec<u8> = packet[6..].iter().copied().take_while(|b| *b != 0).collect();
                return Some(String::from_utf8(text).expect("ASCII"));
            }
        }
        None
    }
}

/// Which of the two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// A slot's descriptor as it is in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    pub flags: u16,
    pub region: u16,
    pub length: u32,
    pub offset: u32,
}

/// The flag of a slot whose frame goes on in the next one.
pub const NEXT: u16 = 1;

/// A raw client that is connected: one region, rings of 2^`log2` slots, one buffer for each slot.
pub struct Raw {
    pub control: Control,
    pub memory: OwnedFd,
    pub log2: u8,
}

impl Raw {
    pub fn ring_offset(&self, way: Way) -> u64 {
        let ring = 128 + (16u64 << self.log2);
        if way == Way::ToServer { 0 } else { ring }
    }

    pub fn size(&self) -> u16 {
        1 << self.log2
    }

    /// Bytes of the region.
    pub fn bytes(log2: u8) -> u64 {
        buffers_at(log2) + ((2 * u64::from(BUFFER_BYTES)) << log2)
    }

    /// Where the buffer of a slot is.
    pub fn buffer(&self, way: Way, index: u16) -> u32 {
        let first = if way == Way::ToServer { 0 } else { self.size() };
        let index = u32::from(first) + u32::from(index & (self.size() - 1));
        buffers_at(self.log2) as u32 + index * BUFFER_BYTES
    }

    /// Does the whole handshake.
    pub fn connect(path: &Path, log2: u8) -> Raw {
        let bytes = Raw::bytes(log2);
        let raw = Raw { control: Control::open(path), memory: memory(bytes, true), log2 };
        for way in [Way::ToServer, Way::ToClient] {
            raw.write(raw.ring_offset(way), &COOKIE.to_le_bytes());
        }
        let control = &raw.control;
        control.expect(HELLO);
        control.send(&init(0x0200, 0), &[]);
        control.expect(ACK);
        control.send(&add_region(0, bytes), &[raw.memory.as_fd()]);
        control.expect(ACK);
        for way in [Way::ToServer, Way::ToClient] {
            let offset = raw.ring_offset(way) as u32;
            control.send(&add_ring(way == Way::ToServer, 0, 0, offset, log2), &[]);
            control.expect(ACK);
        }
        control.send(&connect_message(), &[]);
        control.expect(CONNECTED);
        raw
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        assert_eq!(pwrite(&self.memory, bytes, at), Ok(bytes.len()));
    }

    pub fn read_u16(&self, at: u64) -> u16 {
        let mut bytes = [0; 2];
        assert_eq!(pread(&self.memory, &mut bytes, at), Ok(2));
        u16::from_le_bytes(bytes)
    }

    pub fn set_head(&self, way: Way, head: u16) {
        self.write(self.ring_offset(way) + 6, &head.to_le_bytes());
    }

    pub fn head(&self, way: Way) -> u16 {
        self.read_u16(self.ring_offset(way) + 6)
    }

    pub fn tail(&self, way: Way) -> u16 {
        self.read_u16(self.ring_offset(way) + 64)
    }

    pub fn set_slot(&self, way: Way, index: u16, slot: Slot) {
        let at = self.ring_offset(way) + 128 + 16 * u64::from(index & (self.size() - 1));
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&slot.flags.to_le_bytes());
        bytes[2..4].copy_from_slice(&slot.region.to_le_bytes());
        bytes[4..8].copy_from_slice(&slot.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&slot.offset.to_le_bytes());
        self.write(at, &bytes);
    }

    /// Puts slots into the ring to the server and publishes them.
    pub fn send(&self, slots: &[Slot]) {
        let head = self.head(Way::ToServer);
        for (at, slot) in slots.iter().enumerate() {
            self.set_slot(Way::ToServer, head.wrapping_add(at as u16), *slot);
        }
        self.set_head(Way::ToServer, head.wrapping_add(slots.len() as u16));
    }
}

fn buffers_at(log2: u8) -> u64 {
    (2 * (128 + (16u64 << log2))).next_multiple_of(4096)
}
