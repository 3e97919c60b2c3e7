//! What a client offers a server: one sealed region with both rings and all buffers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::message::{AddRing, Init, MODE_ETHERNET, Message, VERSION};
use super::rings::{BUFFER_BYTES, Buffers, Reader, Writer};
use super::shared::{Mapping, Ring, RingPlace, Role};

const PAGE: usize = 4096;

/// A client's memory for one connection. Never used for a second one: the first server may still be
/// writing to it.
#[derive(Debug)]
pub(super) struct Offer {
    file: OwnedFd,
    bytes: usize,
    regions: Arc<[Mapping]>,
    to_server: RingPlace,
    to_client: RingPlace,
    /// Where the buffers of the ring to the server start; those of the other ring follow.
    buffers: u32,
    /// The protocol wants an eventfd with each ring. Nobody reads or writes them.
    unused: OwnedFd,
}

impl Offer {
    /// Makes the memory for rings of 2^`log2` slots.
    pub(super) fn new(log2: u8) -> io::Result<Offer> {
        let ring = RingPlace::bytes(log2).next_multiple_of(64);
        let buffers = (2 * ring).next_multiple_of(PAGE);
        let bytes = buffers + ((2 * BUFFER_BYTES as usize) << log2);
        let file = memfd_create("memif", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, bytes as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK)?;
        let regions: Arc<[Mapping]> = [Mapping::new(&file, bytes)?].into();
        let place = |offset: usize| RingPlace { region: 0, offset: offset as u32, log2 };
        let (to_server, to_client) = (place(0), place(ring));
        // The server says for its ring that it polls, once it does.
        if !Ring::format(&regions, to_server, false) || !Ring::format(&regions, to_client, true) {
            return Err(io::Error::other("a ring does not fit its region"));
        }
        let unused = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let buffers = buffers as u32;
        Ok(Offer { file, bytes, regions, to_server, to_client, buffers, unused })
    }

    /// The messages of the client's half of the handshake, in order.
    pub(super) fn messages(&self, id: u32, name: &str) -> [(Message, Option<BorrowedFd<'_>>); 5] {
        let name = name.to_owned();
        let init = Init { version: VERSION, id, mode: MODE_ETHERNET, name: name.clone() };
        let region = Message::AddRegion { index: 0, size: self.bytes as u64 };
        let ring = |place: RingPlace, to_server| {
            let RingPlace { region, offset, log2: ring_log2 } = place;
            Message::AddRing(AddRing { to_server, index: 0, region, offset, ring_log2 })
        };
        [
            (Message::Init(init), None),
            (region, Some(self.file.as_fd())),
            (ring(self.to_server, true), Some(self.unused.as_fd())),
            (ring(self.to_client, false), Some(self.unused.as_fd())),
            (Message::Connect { name }, None),
        ]
    }

    /// Starts the rings. Only after the server said that it is connected: until then it may set all
    /// indexes to zero.
    pub(super) fn start(&self) -> Result<(Reader, Writer), &'static str> {
        let writer = Ring::attach(&self.regions, self.to_server, Role::Client)?;
        let reader = Ring::attach(&self.regions, self.to_client, Role::Client)?;
        let behind = self.buffers + (BUFFER_BYTES << self.to_server.log2);
        Ok((
            Reader::start(reader, Role::Client, Buffers::Own(behind)),
            Writer::start(writer, Role::Client, Buffers::Own(self.buffers)),
        ))
    }
}
