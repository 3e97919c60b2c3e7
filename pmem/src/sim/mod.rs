//! A region in private memory that can lose power: the persistence model (`docs/persistence-model.md`).
//!
//! Stores are kept as pieces of one 64-byte line each. A piece is *pending* when it was stored, *flushed* when it
//! was written back (a streamed one is so at once), *fenced* when a barrier behind that completed. Nothing is held
//! back for sure, and nothing is durable for sure before it is fenced: [`Survivors`] are what a crash leaves.

mod crash;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

pub use crash::{Order, Survivors};

use crate::poison::Poison;
use crate::region::{Barrier, Level, Region};

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
    memory: Vec<u8>,
    /// What is durable for sure of the lines that pending pieces are about; all others are durable as they are.
    durable: BTreeMap<u64, [u8; LINE as usize]>,
    /// What is not, in program order, and how many of these were not written back.
    pending: Vec<Piece>,
    cached: usize,
    slot_bytes: u64,
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
    /// How many stores, flushes and barriers from now on power is lost, and what the region was like then.
    cut_in: Cell<Option<u32>>,
    cut: RefCell<Option<Box<SimRegion>>>,
    /// The barrier with which the medium fails.
    fails: Option<(Barrier, Poison)>,
}

impl SimRegion {
    /// A region of `slots` zeroed slots, persistent memory, whose barriers complete `delay` calls of
    /// [`Region::completed`] later.
    pub fn new(slots: u32, slot_bytes: u64, delay: u64) -> SimRegion {
        let bytes = (u64::from(slots) * slot_bytes) as usize;
        SimRegion {
            memory: vec![0; bytes],
            durable: BTreeMap::new(),
            pending: Vec::new(),
            cached: 0,
            slot_bytes,
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

    /// Keeps what the region is like before the next but `operations` stores, flushes and barriers, for a power cut in
    /// the midst of what its user does: see [`SimRegion::take_cut`].
    pub fn cut_in(&self, operations: u32) {
        self.cut_in.set(Some(operations));
        self.cut.take();
    }

    /// The region as it was when power was lost, if it was by now. Nothing is kept any more.
    pub fn take_cut(&self) -> Option<SimRegion> {
        self.cut_in.set(None);
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
            }
            Some(more) => self.cut_in.set(Some(more - 1)),
        }
    }

    /// The region after a kill of the process, all of whose stores are durable since.
    pub fn after_kill(&self) -> SimRegion {
        self.image(self.memory.clone())
    }

    /// The region after a power cut that kept what is durable and nothing else.
    pub fn after_power_cut(&self) -> SimRegion {
        self.image(self.durable_bytes())
    }

    /// The region after a power cut of which these survive.
    ///
    /// # Panics
    /// If `survivors` were made for another state of the region.
    pub fn after_crash(&self, survivors: &Survivors) -> SimRegion {
        assert_eq!(survivors.0.len(), self.pending.len(), "survivors of this state");
        let mut bytes = self.durable_bytes();
        for (piece, mask) in self.pending.iter().zip(&survivors.0) {
            piece.apply(line_of(&mut bytes, piece.line), *mask);
        }
        self.image(bytes)
    }

    /// The region after a power cut that kept an arbitrary part of what was not durable yet, picked by
    /// `random` (each call gives 64 random bits).
    pub fn after_random_power_cut(&self, random: impl FnMut() -> u64) -> SimRegion {
        self.after_crash(&self.random_survivors(random))
    }

    /// What is durable for sure, of the whole region.
    fn durable_bytes(&self) -> Vec<u8> {
        let mut bytes = self.memory.clone();
        for (line, durable) in &self.durable {
            line_of(&mut bytes, *line).copy_from_slice(durable);
        }
        bytes
    }

    /// Damage: replaces `with.len()` bytes at `at`, in memory and medium.
    pub fn damage(&mut self, at: u64, with: &[u8]) {
        self.memory[at as usize..at as usize + with.len()].copy_from_slice(with);
        for (at, byte) in (at..).zip(with) {
            if let Some(line) = self.durable.get_mut(&(at / LINE)) {
                line[(at % LINE) as usize] = *byte;
            }
        }
    }

    fn image(&self, bytes: Vec<u8>) -> SimRegion {
        SimRegion {
            memory: bytes,
            durable: BTreeMap::new(),
            pending: Vec::new(),
            cached: 0,
            due: VecDeque::new(),
            hung: Cell::default(),
            cut_in: Cell::default(),
            cut: RefCell::default(),
            fails: None,
            ..*self
        }
    }

    fn keep(&mut self, at: u64, bytes: &[u8], way: Way) {
        let end = at + bytes.len() as u64;
        let lines = at / LINE..end.div_ceil(LINE);
        for line in lines.clone() {
            let memory = line_of(&mut self.memory, line);
            self.durable.entry(line).or_insert_with(|| {
                let mut before = [0; LINE as usize];
                before.copy_from_slice(memory);
                before
            });
        }
        self.memory[at as usize..end as usize].copy_from_slice(bytes);
        for line in lines {
            let start = line * LINE;
            let mut covers = 0;
            for word in 0..LINE / WORD as u64 {
                let word_at = start + word * WORD as u64;
                covers |= u8::from(word_at < end && at < word_at + WORD as u64) << word;
            }
            let mut whole = [0; LINE as usize];
            whole.copy_from_slice(line_of(&mut self.memory, line));
            self.pending.push(Piece { line, bytes: whole, covers, way, barrier: 0 });
            self.cached += usize::from(way == Way::Cached);
        }
    }

    /// Makes the pieces that `covered` picks durable. What was stored to the same words before them is
    /// superseded.
    fn settle(&mut self, covered: impl Fn(&Piece) -> bool) {
        let mut kept: Vec<Piece> = Vec::new();
        for piece in self.pending.drain(..) {
            if covered(&piece) {
                if let Some(durable) = self.durable.get_mut(&piece.line) {
                    piece.apply(durable, u8::MAX);
                }
                for older in kept.iter_mut().filter(|older| older.line == piece.line) {
                    older.covers &= !piece.covers;
                }
            } else {
                kept.push(piece);
            }
        }
        kept.retain(|piece| piece.covers != 0);
        // Of a line that nothing is pending for, memory and medium are the same.
        let mut lines: Vec<u64> = kept.iter().map(|piece| piece.line).collect();
        lines.sort_unstable();
        self.durable.retain(|line, _| lines.binary_search(line).is_ok());
        self.cached = kept.iter().filter(|piece| piece.way == Way::Cached).count();
        if !kept.is_empty() {
            self.pending = kept;
        }
    }
}

/// The bytes of a line of a region's.
fn line_of(memory: &mut [u8], line: u64) -> &mut [u8] {
    &mut memory[(line * LINE) as usize..][..LINE as usize]
}

impl Region for SimRegion {
    fn level(&self) -> Level {
        self.level
    }

    fn slot_bytes(&self) -> u64 {
        self.slot_bytes
    }

    fn slots(&self) -> u32 {
        (self.memory.len() as u64 / self.slot_bytes) as u32
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
        &self.memory[at as usize..at as usize + len]
    }

    fn prefetch(&self, _: u64) {}

    fn sync(&mut self, at: u64, len: usize) -> std::io::Result<()> {
        let lines = at / LINE..(at + len as u64).div_ceil(LINE);
        self.settle(|piece| lines.contains(&piece.line));
        Ok(())
    }

    fn poison(&self) -> Option<Poison> {
        self.fails.filter(|(fails, _)| Barrier(self.barriers) >= *fails).map(|(_, poison)| poison)
    }
}
