//! The region of a directory, whatever its medium is.

use crate::mapped::MappedRegion;
use crate::poison::Poison;
use crate::region::{Barrier, Level, Region, SharedBytes};
use crate::slots::Extent;
use crate::staged::{StagedRegion, Syncs};

/// A region in files: mapped, or staged in memory and synced by a thread.
#[derive(Debug)]
pub enum AnyRegion {
    /// Files that are mapped: memory file systems, persistent memory, and files that are not to be synced.
    Mapped(MappedRegion),
    /// Ordinary files.
    Staged(StagedRegion),
}

impl AnyRegion {
    /// How long its syncs take; `None` where nothing is synced.
    pub fn syncs(&self) -> Option<Syncs> {
        match self {
            AnyRegion::Mapped(_) => None,
            AnyRegion::Staged(region) => Some(region.syncs()),
        }
    }
}

/// Calls a method on whichever it is.
macro_rules! either {
    ($self:ident, $region:ident => $call:expr) => {
        match $self {
            AnyRegion::Mapped($region) => $call,
            AnyRegion::Staged($region) => $call,
        }
    };
}

impl Region for AnyRegion {
    #[inline]
    fn level(&self) -> Level {
        either!(self, region => region.level())
    }

    #[inline]
    fn slot_bytes(&self) -> u64 {
        either!(self, region => region.slot_bytes())
    }

    #[inline]
    fn slots(&self) -> u32 {
        either!(self, region => region.slots())
    }

    #[inline]
    fn window_bytes(&self) -> u64 {
        either!(self, region => region.window_bytes())
    }

    #[inline]
    fn store(&mut self, at: u64, bytes: &[u8]) {
        either!(self, region => region.store(at, bytes));
    }

    #[inline]
    fn stream(&mut self, at: u64, bytes: &[u8]) {
        either!(self, region => region.stream(at, bytes));
    }

    #[inline]
    fn stream_words(&mut self, at: u64, words: &[u64]) {
        either!(self, region => region.stream_words(at, words));
    }

    #[inline]
    fn flush(&mut self, at: u64, len: usize) {
        either!(self, region => region.flush(at, len));
    }

    #[inline]
    fn barrier(&mut self) -> Barrier {
        either!(self, region => region.barrier())
    }

    #[inline]
    fn completed(&mut self) -> Barrier {
        either!(self, region => region.completed())
    }

    #[inline]
    fn bytes(&self, at: u64, len: usize) -> &[u8] {
        either!(self, region => region.bytes(at, len))
    }

    fn share(&self, at: u64, len: usize) -> SharedBytes {
        either!(self, region => region.share(at, len))
    }

    #[inline]
    fn prefetch(&self, at: u64) {
        either!(self, region => region.prefetch(at));
    }

    fn sync(&mut self, at: u64, len: usize) -> std::io::Result<()> {
        either!(self, region => region.sync(at, len))
    }

    fn extent(&self, slot: u32) -> Extent {
        either!(self, region => region.extent(slot))
    }

    fn wait(&mut self) {
        either!(self, region => region.wait());
    }

    #[inline]
    fn poison(&self) -> Option<Poison> {
        either!(self, region => region.poison())
    }
}
