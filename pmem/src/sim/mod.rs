//! A region in private memory that can lose power: the persistence model (`docs/persistence-model.md`).
//!
//! Stores are kept as pieces of one 64-byte line each. A piece is *pending* when it was stored, *flushed* when it
//! was written back (a streamed one is so at once), *fenced* when a barrier behind that completed. Nothing is held
//! back for sure, and nothing is durable for sure before it is fenced: [`Survivors`] are what a crash leaves.

mod crash;
mod slots;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use crash::{Order, Survivors};

use crate::poison::Poison;
use crate::region::{Barrier, Level, Region, SharedBytes};
use slots::Slots;

const LINE: u64 = 64;
const WORD: usize = 8;

/// How a pending piece gets durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Through the cache, not written back.
    Cached,
    /// Through the cache, written back: the next barrier covers it.
    Flushed,
    /// Past the cache: the next barrier covers it.
    Streamed,
}

/// The part of a store that falls into one line.
#[derive(Clone, Debug)]
struct Piece {
    /// Number of the line.
    line: u64,
    /// The line behind the store; only the words of `covers` count.
    bytes: [u8; LINE as usize],
    /// The words that the store touched, a bit each.
    covers: u8,
    way: Way,
    /// Number of the barrier that covers it, 0: none yet.
    barrier: u64,
}

impl Piece {
    /// Puts the words of `mask` into `line`.
    fn apply(&self, line: &mut [u8], mask: u8) {
        if mask & self.covers == u8::MAX {
            return line.copy_from_slice(&self.bytes);
        }
        for word in (0..LINE as usize / WORD).filter(|word| mask & self.covers & 1 << word != 0) {
            let at = word * WORD;
            line[at..at + WORD].copy_from_slice(&self.bytes[at..at + WORD]);
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct SimRegion {
    /// What was stored.
    memory: Slots,
    /// What is durable for sure: the same but for lines that pending pieces are about.
    medium: Slots,
    /// What is not durable, in program order, and how many of these were not written back.
    pending: Vec<Piece>,
    cached: usize,
    window_bytes: u64,
    level: Level,
    order: Order,
    barriers: u64,
    completed: u64,
    delay: u64,
    polls: u64,
    due: VecDeque<(u64, u64)>,
    /// Barriers do not complete.
    hung: Cell<bool>,
    /// How many operations from now on power is lost, what the region was like then, and whether it was by now.
    cut_in: Cell<Option<u32>>,
    cut: RefCell<Option<Box<SimRegion>>>,
    off: Arc<AtomicBool>,
    /// The barrier with which the medium fails.
    fails: Option<(Barrier, Poison)>,
}

impl SimRegion {
    /// A region of `slots` zeroed slots, persistent memory, whose barriers complete `delay` calls of
    /// [`Region::completed`] later.
    pub fn new(slots: u32, slot_bytes: u64, delay: u64) -> SimRegion {
        let memory = Slots::new(slots, slot_bytes);
        SimRegion {
            medium: memory.clone(),
            memory,
            pending: Vec::new(),
            cached: 0,
            window_bytes: 64 * 1024,
            level: Level::Pmem,
            order: Order::default(),
            barriers: 0,
            completed: 0,
            delay,
            polls: 0,
            due: VecDeque::new(),
            hung: Cell::default(),
            cut_in: Cell::default(),
            cut: RefCell::default(),
            off: Arc::default(),
            fails: None,
        }
    }

    /// The same region with another W, in bytes.
    pub fn with_window(self, window_bytes: u64) -> SimRegion {
        SimRegion { window_bytes, ..self }
    }

    /// The same region on another medium. At `media-sync` a barrier covers every store before it; at `process`
    /// barriers make nothing durable, only [`Region::sync`] does.
    pub fn with_level(self, level: Level) -> SimRegion {
        SimRegion { level, ..self }
    }

    /// The same region, whose medium fails with this barrier: it and those behind it never complete.
    pub fn failing(self, barrier: Barrier, poison: Poison) -> SimRegion {
        SimRegion { fails: Some((barrier, poison)), ..self }
    }

    /// The same region whose pieces survive in another order.
    pub fn with_order(self, order: Order) -> SimRegion {
        SimRegion { order, ..self }
    }

    /// From now on barriers do not complete, until they may again.
    pub fn hang(&self, hung: bool) {
        self.hung.set(hung);
    }

    /// Keeps what the region is like before the next but `operations` stores, flushes, barriers and syncs, for a crash in
    /// the midst of what its user does: see [`SimRegion::take_cut`].
    pub fn cut_in(&self, operations: u32) {
        self.take_cut();
        self.cut_in.set(Some(operations));
    }

    /// True from the moment on of which the region is kept, until that is taken; for who else ends then.
    pub fn off(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.off)
    }

    /// True if the moment of [`SimRegion::cut_in`] is past.
    pub fn is_cut(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// The region as it was at that moment, if it is past. Nothing is kept any more.
    pub fn take_cut(&self) -> Option<SimRegion> {
        self.cut_in.set(None);
        self.off.store(false, Ordering::Relaxed);
        self.cut.take().map(|cut| *cut)
    }

    /// True if nothing that was stored to the range is still without a completed barrier or sync. Of a `process`
    /// region's barriers this says nothing: they promise no more than a kill leaves.
    pub fn is_durable(&self, at: u64, len: usize) -> bool {
        let lines = at / LINE..(at + len as u64).div_ceil(LINE);
        !self.pending.iter().any(|piece| lines.contains(&piece.line))
    }

    fn operate(&mut self) {
        match self.cut_in.get() {
            None => {}
            Some(0) => {
                self.cut_in.set(None);
                let cut = Box::new(self.clone());
                self.cut.replace(Some(cut));
                self.off.store(true, Ordering::Relaxed);
            }
            Some(more) => self.cut_in.set(Some(more - 1)),
        }
    }

    /// The region after a kill of the process, all of whose stores are durable since, as where the machine runs on for long:
    /// for tests of something else than power. See [`SimRegion::killed`].
    pub fn after_kill(&self) -> SimRegion {
        self.image(self.memory.clone())
    }

    /// The region as the next process finds it after a kill: every store is visible, and what was not durable still is not.
    /// Nothing that the killed process flushed or fenced counts any more, as the next one cannot know of it.
    pub fn killed(&self) -> SimRegion {
        let mut left =
            SimRegion { pending: self.pending.clone(), ..self.image(self.medium.clone()) };
        left.memory = self.memory.clone();
        for piece in &mut left.pending {
            (piece.way, piece.barrier) = (Way::Cached, 0);
        }
        left.cached = left.pending.len();
        left
    }

    /// As [`SimRegion::killed`], where a thread of the process writes what was stored to files: of what is not durable the
    /// part that `random` picks was written by then, and the rest went with the process's memory.
    pub fn killed_while_writing(&self, random: impl FnMut() -> u64) -> SimRegion {
        let written = self.random_survivors(random);
        let mut left = SimRegion { memory: self.after_crash(&written).memory, ..self.killed() };
        for (piece, mask) in left.pending.iter_mut().zip(&written.0) {
            piece.covers &= mask;
        }
        left.pending.retain(|piece| piece.covers != 0);
        left.cached = left.pending.len();
        left
    }

    /// The region after a power cut that kept what is durable and nothing else.
    pub fn after_power_cut(&self) -> SimRegion {
        self.image(self.medium.clone())
    }

    /// The region after a power cut of which these survive.
    ///
    /// # Panics
    /// If `survivors` were made for another state of the region.
    pub fn after_crash(&self, survivors: &Survivors) -> SimRegion {
        assert_eq!(survivors.0.len(), self.pending.len(), "survivors of this state");
        let mut left = self.medium.clone();
        for (piece, mask) in self.pending.iter().zip(&survivors.0) {
            if *mask != 0 {
                piece.apply(line_of(&mut left, piece.line), *mask);
            }
        }
        self.image(left)
    }

    /// The region after a power cut that kept an arbitrary part of what was not durable yet, picked by
    /// `random` (each call gives 64 random bits).
    pub fn after_random_power_cut(&self, random: impl FnMut() -> u64) -> SimRegion {
        self.after_crash(&self.random_survivors(random))
    }

    /// A copy of all its bytes, to compare them.
    pub fn whole(&self) -> Vec<u8> {
        self.memory.whole()
    }

    /// Damage: replaces `with.len()` bytes at `at`, in memory and medium.
    pub fn damage(&mut self, at: u64, with: &[u8]) {
        self.memory.bytes_mut(at, with.len()).copy_from_slice(with);
        self.medium.bytes_mut(at, with.len()).copy_from_slice(with);
    }

    fn image(&self, medium: Slots) -> SimRegion {
        SimRegion {
            memory: medium.clone(),
            medium,
            pending: Vec::new(),
            cached: 0,
            due: VecDeque::new(),
            hung: Cell::default(),
            cut_in: Cell::default(),
            cut: RefCell::default(),
            off: Arc::default(),
            fails: None,
            ..*self
        }
    }

    fn keep(&mut self, at: u64, bytes: &[u8], way: Way) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len() as u64;
        self.memory.bytes_mut(at, bytes.len()).copy_from_slice(bytes);
        for line in at / LINE..end.div_ceil(LINE) {
            let start = line * LINE;
            let first = at.saturating_sub(start) / WORD as u64;
            let behind = (end - start).min(LINE).div_ceil(WORD as u64);
            let covers = (u8::MAX >> (8 - (behind - first))) << first;
            let mut whole = [0; LINE as usize];
            whole.copy_from_slice(self.memory.bytes(start, LINE as usize));
            self.pending.push(Piece { line, bytes: whole, covers, way, barrier: 0 });
            self.cached += usize::from(way == Way::Cached);
        }
    }

    /// Makes the pieces that `covered` picks durable. What was stored to the same words before them is
    /// superseded.
    fn settle(&mut self, covered: impl Fn(&Piece) -> bool) {
        let mut kept = 0;
        for at in 0..self.pending.len() {
            let (older, rest) = self.pending.split_at_mut(at);
            let piece = &rest[0];
            if covered(piece) {
                piece.apply(line_of(&mut self.medium, piece.line), u8::MAX);
                for older in older[..kept].iter_mut().filter(|older| older.line == piece.line) {
                    older.covers &= !piece.covers;
                }
            } else {
                self.pending.swap(kept, at);
                kept += 1;
            }
        }
        self.pending.truncate(kept);
        self.pending.retain(|piece| piece.covers != 0);
        self.cached = self.pending.iter().filter(|piece| piece.way == Way::Cached).count();
    }
}

/// The bytes of a line, to change them.
fn line_of(slots: &mut Slots, line: u64) -> &mut [u8] {
    slots.bytes_mut(line * LINE, LINE as usize)
}

impl Region for SimRegion {
    fn level(&self) -> Level {
        self.level
    }

    fn slot_bytes(&self) -> u64 {
        self.memory.slot_bytes()
    }

    fn slots(&self) -> u32 {
        self.memory.count()
    }

    fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    fn store(&mut self, at: u64, bytes: &[u8]) {
        self.operate();
        self.keep(at, bytes, Way::Cached);
    }

    fn stream(&mut self, at: u64, bytes: &[u8]) {
        self.operate();
        assert!(at.is_multiple_of(LINE), "streaming stores are of whole lines");
        let whole = bytes.len() - bytes.len() % LINE as usize;
        let (whole, rest) = bytes.split_at(whole);
        self.keep(at, whole, Way::Streamed);
        if !rest.is_empty() {
            let mut last = [0; LINE as usize];
            last[..rest.len()].copy_from_slice(rest);
            self.keep(at + whole.len() as u64, &last, Way::Streamed);
        }
    }

    fn flush(&mut self, at: u64, len: usize) {
        self.operate();
        let mut left = self.cached;
        for piece in self.pending.iter_mut().rev() {
            if left == 0 {
                break;
            }
            let line = piece.line * LINE;
            let is_cached = piece.way == Way::Cached;
            left -= usize::from(is_cached);
            if is_cached && line < at + len as u64 && at < line + LINE {
                piece.way = Way::Flushed;
                self.cached -= 1;
            }
        }
    }

    fn barrier(&mut self) -> Barrier {
        self.operate();
        self.barriers += 1;
        // Where a sync thread writes what was stored, nothing has to be flushed for it.
        let all = self.level == Level::MediaSync;
        // Those of a process region make nothing durable.
        let counts = if self.level == Level::Process { 0 } else { self.pending.len() };
        for piece in &mut self.pending[..counts] {
            if piece.barrier == 0 && (all || piece.way != Way::Cached) {
                piece.barrier = self.barriers;
            }
        }
        self.due.push_back((self.barriers, self.polls + self.delay));
        Barrier(self.barriers)
    }

    fn completed(&mut self) -> Barrier {
        let before = self.completed;
        while !self.hung.get()
            && let Some((barrier, due)) = self.due.front().copied()
            && due <= self.polls
            && self.fails.is_none_or(|(fails, _)| Barrier(barrier) < fails)
        {
            self.completed = barrier;
            self.due.pop_front();
        }
        self.polls += 1;
        let completed = self.completed;
        if completed > before && self.level != Level::Process {
            self.settle(|piece| piece.barrier != 0 && piece.barrier <= completed);
        }
        Barrier(completed)
    }

    fn bytes(&self, at: u64, len: usize) -> &[u8] {
        self.memory.bytes(at, len)
    }

    fn share(&self, at: u64, len: usize) -> SharedBytes {
        let (slot, at) = self.memory.shared(at);
        SharedBytes::slot(slot, at, len)
    }

    fn prefetch(&self, _: u64) {}

    fn sync(&mut self, at: u64, len: usize) -> std::io::Result<()> {
        self.operate();
        let lines = at / LINE..(at + len as u64).div_ceil(LINE);
        // Of a line all pieces are covered, or none: nothing older is left to be superseded.
        let (medium, cached) = (&mut self.medium, &mut self.cached);
        self.pending.retain(|piece| {
            let covered = lines.contains(&piece.line);
            if covered {
                piece.apply(line_of(medium, piece.line), u8::MAX);
                *cached -= usize::from(piece.way == Way::Cached);
            }
            !covered
        });
        Ok(())
    }

    fn poison(&self) -> Option<Poison> {
        self.fails.filter(|(fails, _)| Barrier(self.barriers) >= *fails).map(|(_, poison)| poison)
    }
}
