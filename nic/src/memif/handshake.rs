//! The server's half of the handshake: what a client offers, checked message by message.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{SealFlags, fcntl_get_seals, fstat, fstatfs};

use super::message::{AddRing, Init, MODE_ETHERNET, Message, VERSION};
use super::rings::{Buffers, Reader, Writer};
use super::shared::{MAX_RING_LOG2, Mapping, Ring, RingPlace, Role};

/// The most regions of one client. One is enough for copying clients; DPDK's zero-copy ones have one
/// for each of their memory segments.
pub(super) const MAX_REGIONS: usize = 16;
/// The file system type of memfds on ordinary pages (TMPFS_MAGIC in the kernel's magic.h).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// What a server accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most memory of one client, all regions together, in bytes.
    pub(super) max_memory_bytes: u64,
    /// Accept memory that the client could shrink.
    pub(super) trusted: bool,
}

/// A handshake under way.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    introduced: bool,
    regions: Vec<Region>,
    memory_bytes: u64,
    to_server: Option<RingPlace>,
    to_client: Option<RingPlace>,
}

#[derive(Debug)]
struct Region {
    file: OwnedFd,
    len: usize,
}

/// What to do after a message.
#[derive(Debug)]
pub(super) enum Step {
    /// Acknowledge it.
    Acknowledge,
    /// The client is complete: these are its rings, mapped.
    Connect(Box<(Reader, Writer)>),
    /// The client gave up.
    Close,
}

impl Handshake {
    /// Takes the client's next message and the descriptor that came with it. The error is the reason
    /// why the client is refused.
    pub(super) fn take(
        &mut self,
        message: Message,
        passed: Option<OwnedFd>,
        limits: Limits,
    ) -> Result<Step, &'static str> {
        if !self.introduced && !matches!(message, Message::Init(_) | Message::Disconnect { .. }) {
            return Err("first message is not INIT");
        }
        match message {
            Message::Init(init) => self.introduce(&init)?,
            Message::AddRegion { index, size } => {
                self.add_region(index, size, passed.ok_or("region without descriptor")?, limits)?;
            }
            // The ring's eventfd is closed: it is for interrupts, which are never sent.
            Message::AddRing(ring) => self.add_ring(ring)?,
            Message::Connect { .. } => {
                return self.connect().map(|rings| Step::Connect(rings.into()));
            }
            Message::Disconnect { .. } => return Ok(Step::Close),
            Message::Ack | Message::Hello(_) | Message::Connected { .. } => {
                return Err("a server's message from a client");
            }
        }
        Ok(Step::Acknowledge)
    }

    fn introduce(&mut self, init: &Init) -> Result<(), &'static str> {
        if self.introduced {
            return Err("second INIT");
        }
        if init.version != VERSION {
            return Err("unsupported memif version, this is 2.0");
        }
        if init.mode != MODE_ETHERNET {
            return Err("unsupported mode, this is Ethernet");
        }
        // Any id is fine: each connection is a peer of its own.
        self.introduced = true;
        Ok(())
    }

    fn add_region(
        &mut self,
        index: u16,
        size: u64,
        file: OwnedFd,
        limits: Limits,
    ) -> Result<(), &'static str> {
        if usize::from(index) != self.regions.len() || self.regions.len() == MAX_REGIONS {
            return Err("region index out of order or too high");
        }
        let memory_bytes = self
            .memory_bytes
            .checked_add(size)
            .filter(|all| size > 0 && *all <= limits.max_memory_bytes);
        self.memory_bytes = memory_bytes.ok_or("region is empty or over the memory limit")?;
        let len = usize::try_from(size).map_err(|_| "region is over the memory limit")?;
        if !limits.trusted {
            // Only memory that can neither be truncated nor run out can be polled without a risk of
            // SIGBUS. Huge pages are refused because a punched hole may find no page again.
            let sealed =
                fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
            let tmpfs = fstatfs(&file).is_ok_and(|found| found.f_type as u64 == TMPFS_MAGIC);
            if !sealed || !tmpfs {
                return Err("region is not a memfd sealed against shrinking");
            }
        }
        // After the seals: a sealed file is still at least this long later.
        let actual = fstat(&file).map_err(|_| "cannot stat the region")?.st_size;
        if u64::try_from(actual).map_or(true, |actual| actual < size) {
            return Err("region is smaller than stated");
        }
        self.regions.push(Region { file, len });
        Ok(())
    }

    fn add_ring(&mut self, ring: AddRing) -> Result<(), &'static str> {
        if ring.index != 0 {
            return Err("more than one ring each way");
        }
        let region =
            self.regions.get(usize::from(ring.region)).ok_or("ring in an unknown region")?;
        if ring.ring_log2 > MAX_RING_LOG2 {
            return Err("ring has over 2^14 slots");
        }
        let end = ring.offset as usize + RingPlace::bytes(ring.ring_log2);
        if end > region.len {
            return Err("ring reaches over the end of its region");
        }
        let place = RingPlace { region: ring.region, offset: ring.offset, log2: ring.ring_log2 };
        let way = if ring.to_server { &mut self.to_server } else { &mut self.to_client };
        if way.replace(place).is_some() {
            return Err("more than one ring each way");
        }
        Ok(())
    }

    /// Maps and populates the memory: the slow part, on the listener's thread.
    fn connect(&mut self) -> Result<(Reader, Writer), &'static str> {
        let (Some(to_server), Some(to_client)) = (self.to_server, self.to_client) else {
            return Err("CONNECT without a ring each way");
        };
        let regions: Result<Arc<[Mapping]>, _> =
            self.regions.drain(..).map(|region| Mapping::new(&region.file, region.len)).collect();
        let regions = regions.map_err(|_| "cannot map a region")?;
        let reader = Ring::attach(&regions, to_server, Role::Server)?;
        let writer = Ring::attach(&regions, to_client, Role::Server)?;
        Ok((
            Reader::start(reader, Role::Server, Buffers::Described),
            Writer::start(writer, Role::Server, Buffers::Described),
        ))
    }
}
