//! What a region is: bytes that survive something, and the only way to store into them.

use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::mapped::Reservation;
use crate::poison::Poison;
use crate::sigbus::Guarded;
use crate::slots::Extent;

/// What a completed barrier of a region survives. Found out by trying, never assumed.
///
/// The order is the order of promises: a demanded level is met by itself and by every greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// A crash or kill of the process.
    Process = 1,
    /// As `Pmem`, but on memory whose own persistence nobody vouches for (a hypervisor's, an
    /// unarmed device's): promises less than a synced file.
    PmemEmulated = 2,
    /// A power cut, if the device honours its flush command.
    MediaSync = 3,
    /// A power cut, on a platform whose persistence domain holds the memory's write queue.
    Pmem = 4,
}

impl Level {
    /// The level's name in configuration, acks' texts, status and documents.
    pub fn name(self) -> &'static str {
        match self {
            Level::Process => "process",
            Level::PmemEmulated => "pmem-emulated",
            Level::MediaSync => "media-sync",
            Level::Pmem => "pmem",
        }
    }

    /// The level with this number, as in acks and segment headers.
    pub fn from_number(number: u8) -> Option<Level> {
        [Level::Process, Level::PmemEmulated, Level::MediaSync, Level::Pmem]
            .into_iter()
            .find(|level| *level as u8 == number)
    }

    /// The level with this name.
    pub fn from_name(name: &str) -> Option<Level> {
        [Level::Process, Level::PmemEmulated, Level::MediaSync, Level::Pmem]
            .into_iter()
            .find(|level| level.name() == name)
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes of a region that outlive it and can be read on another thread while nobody stores to them.
#[derive(Debug)]
pub struct SharedBytes(Shared);

#[derive(Debug)]
enum Shared {
    Memory {
        /// Lets lost memory be noticed, where it can be lost. Stands before the addresses, to be given up first.
        guarded: Option<Arc<Guarded>>,
        memory: Arc<Reservation>,
        at: u64,
        len: usize,
    },
    Copied(Box<[u8]>),
    /// A slot that whoever stores to it copies first.
    Slot {
        slot: Arc<[u8]>,
        at: usize,
        len: usize,
    },
}

impl SharedBytes {
    pub(crate) fn copied(bytes: &[u8]) -> SharedBytes {
        SharedBytes(Shared::Copied(bytes.into()))
    }

    pub(crate) fn slot(slot: Arc<[u8]>, at: usize, len: usize) -> SharedBytes {
        SharedBytes(Shared::Slot { slot, at, len })
    }

    pub(crate) fn memory(
        guarded: Option<&Arc<Guarded>>,
        memory: &Arc<Reservation>,
        at: u64,
        len: usize,
    ) -> SharedBytes {
        let (guarded, memory) = (guarded.map(Arc::clone), Arc::clone(memory));
        SharedBytes(Shared::Memory { guarded, memory, at, len })
    }

    /// The bytes.
    ///
    /// # Safety
    /// They were of a prepared slot when they were shared, and nobody stores to them while the slice lives.
    pub(crate) unsafe fn get(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the slot was prepared and so mapped, and stays so with the reservation, which this holds; nobody
            // stores to the range (caller).
            Shared::Memory { memory, at, len, .. } => unsafe { memory.bytes(*at, *len) },
            Shared::Copied(bytes) => bytes,
            Shared::Slot { slot, at, len } => &slot[*at..*at + *len],
        }
    }

    /// True if memory of the region was lost.
    pub(crate) fn is_lost(&self) -> bool {
        match &self.0 {
            Shared::Memory { guarded: Some(guarded), .. } => guarded.poison().is_some(),
            Shared::Memory { guarded: None, .. } | Shared::Copied(_) | Shared::Slot { .. } => false,
        }
    }
}

/// Words of a line.
pub const LINE_WORDS: usize = 8;

/// Counts barriers of a region, from 1; 0 is "none yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Barrier(pub u64);

/// One shard's log memory: `slots()` slots of `slot_bytes()` bytes in one linear address space; slot
/// `i` covers addresses `i * slot_bytes() .. (i + 1) * slot_bytes()`.
///
/// A slot may be stored to and read only once it was prepared (by the housekeeper, on another thread)
/// and announced to the log. Every store to a region goes through this trait. After preparation no
/// method but [`Region::sync`] makes a system call, faults or allocates on memory regions.
///
/// Addresses out of range are bugs of the caller and panic.
pub trait Region {
    /// What a completed barrier promises.
    fn level(&self) -> Level;

    /// Bytes of one slot: a multiple of 4096.
    fn slot_bytes(&self) -> u64;

    /// How many slots there can be at most.
    fn slots(&self) -> u32;

    /// The most bytes that may be stored and not yet be followed by a completed barrier (W): what
    /// recovery may find torn.
    fn window_bytes(&self) -> u64;

    /// Stores through the cache. Needs [`Region::flush`] before the barrier. Bytes that were stored are not stored
    /// to again before a barrier behind them has completed, or [`Region::sync`] has returned: until then they may be
    /// on their way to the medium.
    fn store(&mut self, at: u64, bytes: &[u8]);

    /// Stores whole 64-byte lines past the cache: `at` is a multiple of 64, zeros follow the bytes up to the end of the last
    /// line. Needs no flush, but the barrier; as with [`Region::store`], nothing is stored to again before that.
    fn stream(&mut self, at: u64, bytes: &[u8]);

    /// As [`Region::stream`], of whole lines that were just put together, as little-endian words. In memory they would
    /// be waited for: a load of a line that was stored in parts takes until those, and all stores before them, have
    /// left for the cache.
    fn stream_words(&mut self, at: u64, words: &[u64]) {
        // The processors that this is for are little-endian.
        self.stream(at, words.as_bytes());
    }

    /// Writes the lines of a range back towards the medium.
    fn flush(&mut self, at: u64, len: usize);

    /// Orders everything stored and flushed so far behind one barrier and returns its number. The
    /// promise holds once [`Region::completed`] has reached that number, not before.
    fn barrier(&mut self) -> Barrier;

    /// The last barrier that completed. On regions whose fence persists this is the last one issued.
    fn completed(&mut self) -> Barrier;

    /// The bytes of a range of a prepared slot.
    fn bytes(&self, at: u64, len: usize) -> &[u8];

    /// The bytes of a range of a prepared slot, for another thread ([`crate::sealed`]). A region without memory to share
    /// copies them.
    fn share(&self, at: u64, len: usize) -> SharedBytes {
        SharedBytes::copied(self.bytes(at, len))
    }

    /// Asks the processor to bring the line at `at` near.
    fn prefetch(&self, at: u64);

    /// Makes a range durable by the strongest means the medium has (a file's fsync, also where the
    /// level is `process`). Blocks; for use at start, not on the message path.
    ///
    /// # Errors
    /// What the system said.
    fn sync(&mut self, at: u64, len: usize) -> std::io::Result<()>;

    /// How much of a slot's file is there. What is not reads as zeros; a slot that is not whole is not stored to.
    fn extent(&self, _slot: u32) -> Extent {
        Extent::Whole
    }

    /// Waits a little for a barrier that has not completed. For use at start, not on the message path.
    fn wait(&mut self) {}

    /// Why barriers do not complete any more, for good: the medium failed. `None` while the region is sound.
    #[inline]
    fn poison(&self) -> Option<Poison> {
        None
    }
}
