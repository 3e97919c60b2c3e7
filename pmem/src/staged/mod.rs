//! Regions on ordinary files: memory that a shard stores to, and a thread that writes it to the files and syncs them.
//!
//! A shard on a mapped file would wait whenever the kernel writes a page back: after each sync every page faults
//! again. So the memory here is the shard's own, populated and locked: a mirror of all slots, from which readers are
//! served too. A barrier hands over what was stored since the last one through a bounded queue; it completes when
//! the sync thread ([`Syncer`]) has written that and synced the files ([`Plan`] says in which order). The shard
//! makes no system call, waits for nothing and allocates nothing.
//!
//! What was handed over is read by the other thread until its barrier completes. That it stays as it is meanwhile
//! is the caller's duty ([`Region::store`]), and the log's way of writing fulfils it (`docs/wal-format.md` section 4).

mod media;
mod plan;
mod promised;
mod syncer;
mod times;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

pub use media::{Files, Media};
pub use plan::{Handover, Plan, Step};
pub use syncer::Syncer;
pub use times::SyncTimes;

use promised::Promised;
use syncer::Shared;

use crate::copy::Stores;
use crate::format::LINE;
use crate::mapped::{ALIGNMENT, Reservation};
use crate::poison::Poison;
use crate::region::{Barrier, Level, Region, SharedBytes};
use crate::slots::Extent;

/// Things handed over that may wait: several for each barrier that the log lets be in flight, so that a shard never
/// finds the queue full.
const PLACES: usize = 4 * crate::wal::MAX_IN_FLIGHT;
/// How often whoever may block looks whether a barrier is complete.
const BLOCKED: Duration = Duration::from_micros(20);

/// What may be written and not yet be synced (W) unless configured: 4 MiB, or a quarter of a segment if that is less,
/// so that damage further back in a segment is still told from a torn tail.
pub fn default_window_bytes(segment_bytes: u64) -> u64 {
    (segment_bytes / 4).min(4 << 20) & !63
}

/// A region in memory that a sync thread writes to files.
pub struct StagedRegion {
    memory: Arc<Reservation>,
    shared: Arc<Shared>,
    stores: Stores,
    window_bytes: u64,
    /// What was stored last and not handed over yet.
    open: Option<Open>,
    barriers: u64,
    /// What it does while it waits, at starts.
    wait: Box<dyn FnMut() + Send>,
    thread: Option<JoinHandle<()>>,
    promised: Promised,
}

/// The way to a region's [`SyncTimes`], off the shard's path.
#[derive(Clone, Debug)]
pub struct Syncs(Arc<Shared>);

impl Syncs {
    /// How long all syncs since the region was opened took.
    pub fn times(&self) -> SyncTimes {
        self.0.times.read()
    }
}

/// Bytes from `at` to `end`, of one slot.
#[derive(Clone, Copy, Debug)]
struct Open {
    at: u64,
    end: u64,
}

impl StagedRegion {
    /// A region in `memory` whose sync thread is started: it looks for work every `poll`.
    pub(crate) fn start<M: Media + 'static>(
        memory: Arc<Reservation>,
        window_bytes: u64,
        poll: Duration,
        media: M,
    ) -> io::Result<StagedRegion> {
        let (mut region, syncer) = StagedRegion::new(memory, window_bytes, media);
        region.wait = Box::new(|| std::thread::sleep(BLOCKED));
        let builder = std::thread::Builder::new().name("sync".to_string());
        region.thread = Some(builder.spawn(move || syncer.run(poll))?);
        Ok(region)
    }

    fn new<M: Media>(
        memory: Arc<Reservation>,
        window_bytes: u64,
        media: M,
    ) -> (StagedRegion, Syncer<M>) {
        let shared = Arc::new(Shared::new(PLACES));
        let slot_bytes = memory.slot_bytes();
        let syncer = Syncer::new(Arc::clone(&shared), Arc::clone(&memory), slot_bytes, media);
        let region = StagedRegion {
            memory,
            shared,
            stores: Stores::detect(),
            window_bytes,
            open: None,
            barriers: 0,
            wait: Box::new(|| {}),
            thread: None,
            promised: Promised::new(PLACES),
        };
        (region, syncer)
    }

    /// A region of `slots` slots that hold `image`, without a thread: whoever has the syncer steps it, also while the
    /// region waits ([`StagedRegion::waiting_by`]). For simulations.
    ///
    /// # Errors
    /// When there is no memory.
    ///
    /// # Panics
    /// When `image` has another size.
    pub fn by_hand<M: Media>(
        slots: u32,
        image: &[u8],
        window_bytes: u64,
        media: M,
    ) -> io::Result<(StagedRegion, Syncer<M>)> {
        let slot_bytes = (image.len() / slots as usize) as u64;
        assert_eq!(slot_bytes * u64::from(slots), image.len() as u64, "an image of all slots");
        let memory = Reservation::new(slots, slot_bytes, ALIGNMENT)?;
        for (slot, bytes) in (0..slots).zip(image.chunks(slot_bytes as usize)) {
            memory.map_memory(slot)?;
            // SAFETY: the slot was mapped just now, and nobody knows of it yet.
            unsafe { memory.fill(slot, |memory| memory.copy_from_slice(bytes)) };
        }
        Ok(StagedRegion::new(Arc::new(memory), window_bytes, media))
    }

    /// How long its syncs take, for whoever is not the shard.
    pub fn syncs(&self) -> Syncs {
        Syncs(Arc::clone(&self.shared))
    }

    /// Sets what is done while it waits, in [`Region::sync`] and [`Region::wait`].
    pub fn waiting_by(mut self, wait: impl FnMut() + Send + 'static) -> StagedRegion {
        self.wait = Box::new(wait);
        self
    }

    /// Notes that a range is stored to.
    #[inline]
    fn note(&mut self, at: u64, len: usize) {
        let end = at + len as u64;
        self.promised.check(at, end, || self.shared.completed());
        match &mut self.open {
            // A file's range ends where the file does.
            Some(open) if open.end == at && !at.is_multiple_of(self.memory.slot_bytes()) => {
                open.end = end;
            }
            _ => {
                self.hand_over_open(Barrier::default());
                self.open = Some(Open { at, end });
            }
        }
    }

    /// Hands over what was stored last, if it was not yet. True then.
    #[inline]
    fn hand_over_open(&mut self, barrier: Barrier) -> bool {
        let Some(Open { at, end }) = self.open.take() else { return false };
        // Without a barrier of its own it is the next one that covers it.
        self.promised.add(at, end, Barrier(barrier.0.max(self.barriers + 1)));
        // Streamed lines are in no order with anything until this; the queue orders the rest.
        self.stores.fence();
        self.hand_over(Handover::Range { at, len: end - at, barrier });
        true
    }

    #[inline]
    fn hand_over(&mut self, mut handover: Handover) {
        // There is room, but at a start that clears many slots, where waiting is allowed.
        while let Err(back) = self.shared.queue.push(handover) {
            handover = back;
            (self.wait)();
        }
    }
}

impl Region for StagedRegion {
    fn level(&self) -> Level {
        Level::MediaSync
    }

    fn slot_bytes(&self) -> u64 {
        self.memory.slot_bytes()
    }

    fn slots(&self) -> u32 {
        self.memory.slots()
    }

    fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    fn store(&mut self, at: u64, bytes: &[u8]) {
        self.note(at, bytes.len());
        // SAFETY: the log only uses slots that were prepared, so mapped. Only this value stores to the region, through
        // `&mut self`, and the sync thread reads nothing that is stored to (`Region::store`).
        unsafe { self.memory.store(at, bytes) };
    }

    #[inline]
    fn stream(&mut self, at: u64, bytes: &[u8]) {
        self.note(at, bytes.len().next_multiple_of(LINE as usize));
        // SAFETY: as in `store`.
        unsafe { self.memory.stream(at, bytes, &self.stores) };
    }

    #[inline]
    fn stream_words(&mut self, at: u64, words: &[u64]) {
        self.note(at, size_of_val(words));
        // SAFETY: as in `store`.
        unsafe { self.memory.stream_words(at, words) };
    }

    fn flush(&mut self, _: u64, _: usize) {
        // The sync thread reads through the cache.
    }

    #[inline]
    fn barrier(&mut self) -> Barrier {
        let barrier = Barrier(self.barriers + 1);
        if !self.hand_over_open(barrier) {
            self.hand_over(Handover::Mark { barrier });
        }
        self.barriers = barrier.0;
        barrier
    }

    #[inline]
    fn completed(&mut self) -> Barrier {
        self.shared.completed()
    }

    #[inline]
    fn bytes(&self, at: u64, len: usize) -> &[u8] {
        // SAFETY: the range is in a prepared slot, so it is mapped; only this value's owner stores to the region,
        // through `&mut self`.
        unsafe { self.memory.bytes(at, len) }
    }

    fn share(&self, at: u64, len: usize) -> SharedBytes {
        SharedBytes::memory(None, &self.memory, at, len)
    }

    #[inline]
    fn prefetch(&self, at: u64) {
        self.memory.prefetch(at);
    }

    fn extent(&self, slot: u32) -> Extent {
        self.memory.extent(slot)
    }

    fn sync(&mut self, at: u64, len: usize) -> io::Result<()> {
        self.hand_over_open(Barrier::default());
        let slot_bytes = self.memory.slot_bytes();
        let last = (at + len.max(1) as u64 - 1) / slot_bytes;
        for slot in at / slot_bytes..=last {
            self.hand_over(Handover::Sync { slot: slot as u32 });
        }
        let barrier = self.barrier();
        while self.shared.completed() < barrier {
            if let Some(poison) = self.poison() {
                return Err(io::Error::other(poison.to_string()));
            }
            (self.wait)();
        }
        Ok(())
    }

    fn wait(&mut self) {
        (self.wait)();
    }

    #[inline]
    fn poison(&self) -> Option<Poison> {
        self.shared.poison()
    }
}

impl Drop for StagedRegion {
    /// Waits until all that barriers cover is synced: a node that ends in order leaves nothing behind in memory.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It catches its panics itself.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for StagedRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StagedRegion")
            .field("memory", &self.memory)
            .field("window_bytes", &self.window_bytes)
            .field("barriers", &self.barriers)
            .field("completed", &self.shared.completed())
            .field("poison", &self.shared.poison())
            .finish_non_exhaustive()
    }
}
