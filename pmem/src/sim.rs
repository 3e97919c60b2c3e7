//! A region in private memory that can lose power: the persistence model.
//!
//! What a store may leave behind at a crash, per 64-byte line: nothing is held back for sure, and nothing is
//! durable for sure before a barrier behind it completed. Cached stores to one line survive as any prefix in
//! program order, the last of them maybe torn (once flushed and fenced: all). Streamed lines survive as any subset
//! of their aligned
//! 8-byte words. Aligned 8 bytes never tear. (Intel SDM volume 1, 11.4.4 and 10.4.6; research on persistent
//! memory calls this the relaxed, line-granular model.)

use std::collections::VecDeque;

use crate::region::{Barrier, Level, Region};

const LINE: u64 = 64;
const WORD: usize = 8;

/// How a pending store gets durable.
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
struct Pending {
    at: u64,
    bytes: Vec<u8>,
    way: Way,
    /// Number of the barrier that covers it, 0: none yet.
    barrier: u64,
}

impl Pending {
    fn line(&self) -> u64 {
        self.at / LINE
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct SimRegion {
    memory: Vec<u8>,
    /// What is durable for sure.
    durable: Vec<u8>,
    pending: Vec<Pending>,
    slot_bytes: u64,
    window_bytes: u64,
    barriers: u64,
    completed: u64,
    delay: u64,
    polls: u64,
    due: VecDeque<(u64, u64)>,
}

impl SimRegion {
    /// A region of `slots` zeroed slots whose barriers complete `delay` calls of [`Region::completed`]
    /// later.
    pub fn new(slots: u32, slot_bytes: u64, delay: u64) -> SimRegion {
        let bytes = (u64::from(slots) * slot_bytes) as usize;
        SimRegion {
            memory: vec![0; bytes],
            durable: vec![0; bytes],
            pending: Vec::new(),
            slot_bytes,
            window_bytes: 64 * 1024,
            barriers: 0,
            completed: 0,
            delay,
            polls: 0,
            due: VecDeque::new(),
        }
    }

    /// The same region with another W, in bytes.
    pub fn with_window(self, window_bytes: u64) -> SimRegion {
        SimRegion { window_bytes, ..self }
    }

    /// The region after a kill of the process: all stores are there.
    pub fn after_kill(&self) -> SimRegion {
        self.image(self.memory.clone())
    }

    /// The region after a power cut that kept what is durable and nothing else.
    pub fn after_power_cut(&self) -> SimRegion {
        self.image(self.durable.clone())
    }

    /// The region after a power cut that kept an arbitrary part of what was not durable yet, picked by
    /// `random` (each call gives 64 random bits).
    pub fn after_random_power_cut(&self, mut random: impl FnMut() -> u64) -> SimRegion {
        let mut bytes = self.durable.clone();
        let mut stopped = Vec::new();
        for pending in &self.pending {
            if pending.way == Way::Streamed {
                apply_words(&mut bytes, pending, random());
            } else if !stopped.contains(&pending.line()) {
                // Program order within a line: once one store was lost, in part or whole, so are those behind it.
                if random() & 1 == 0 {
                    stopped.push(pending.line());
                    apply_words(&mut bytes, pending, random() & random());
                } else {
                    apply_words(&mut bytes, pending, u64::MAX);
                }
            }
        }
        self.image(bytes)
    }

    /// Calls `visit` with every crash image in which whole lines survived or not, and with those in which
    /// besides one line was torn in every way that 8-byte atomicity allows; returns how many.
    ///
    /// # Panics
    /// If more than 16 lines are pending: the images would be too many to visit.
    pub fn each_crash_image(&self, mut visit: impl FnMut(SimRegion)) -> u64 {
        let mut lines: Vec<u64> = self.pending.iter().map(Pending::line).collect();
        lines.sort_unstable();
        lines.dedup();
        assert!(lines.len() <= 16, "{} pending lines are too many to enumerate", lines.len());
        let mut images = 0;
        for survivors in 0..1u64 << lines.len() {
            visit(self.crash_image(&lines, survivors, None));
            images += 1;
            for torn in 0..lines.len() {
                // Each torn line once: with its bit clear.
                if survivors >> torn & 1 == 0 {
                    for words in 1..255 {
                        visit(self.crash_image(&lines, survivors, Some((lines[torn], words))));
                        images += 1;
                    }
                }
            }
        }
        images
    }

    fn crash_image(&self, lines: &[u64], survivors: u64, torn: Option<(u64, u64)>) -> SimRegion {
        let mut bytes = self.durable.clone();
        for pending in &self.pending {
            let line = lines.binary_search(&pending.line()).unwrap_or_default();
            let words = match torn {
                Some((torn, words)) if torn == pending.line() => words,
                _ if survivors >> line & 1 == 1 => u64::MAX,
                _ => 0,
            };
            apply_words(&mut bytes, pending, words);
        }
        self.image(bytes)
    }

    fn image(&self, bytes: Vec<u8>) -> SimRegion {
        SimRegion {
            durable: bytes.clone(),
            memory: bytes,
            pending: Vec::new(),
            due: VecDeque::new(),
            ..*self
        }
    }

    fn keep(&mut self, at: u64, bytes: &[u8], way: Way) {
        self.memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        let mut done = 0;
        while done < bytes.len() {
            let start = at + done as u64;
            let len = ((LINE - start % LINE) as usize).min(bytes.len() - done);
            let bytes = bytes[done..done + len].to_vec();
            self.pending.push(Pending { at: start, bytes, way, barrier: 0 });
            done += len;
        }
    }
}

/// Applies those aligned 8-byte words of a pending store whose bits (by place in the line) are set.
fn apply_words(memory: &mut [u8], pending: &Pending, words: u64) {
    for (index, byte) in pending.bytes.iter().enumerate() {
        let at = pending.at as usize + index;
        if words >> (at % LINE as usize / WORD) & 1 == 1 {
            memory[at] = *byte;
        }
    }
}

impl Region for SimRegion {
    fn level(&self) -> Level {
        Level::Pmem
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
        self.keep(at, bytes, Way::Cached);
    }

    fn stream(&mut self, at: u64, bytes: &[u8]) {
        assert!(
            at.is_multiple_of(LINE) && (bytes.len() as u64).is_multiple_of(LINE),
            "streaming stores are of whole lines"
        );
        self.keep(at, bytes, Way::Streamed);
    }

    fn flush(&mut self, at: u64, len: usize) {
        for pending in &mut self.pending {
            let line = pending.line() * LINE;
            if pending.way == Way::Cached && line < at + len as u64 && at < line + LINE {
                pending.way = Way::Flushed;
            }
        }
    }

    fn barrier(&mut self) -> Barrier {
        self.barriers += 1;
        for pending in &mut self.pending {
            if pending.barrier == 0 && pending.way != Way::Cached {
                pending.barrier = self.barriers;
            }
        }
        self.due.push_back((self.barriers, self.polls + self.delay));
        Barrier(self.barriers)
    }

    fn completed(&mut self) -> Barrier {
        let before = self.completed;
        while let Some((barrier, due)) = self.due.front().copied()
            && due <= self.polls
        {
            self.completed = barrier;
            self.due.pop_front();
        }
        self.polls += 1;
        if self.completed > before {
            let durable = &mut self.durable;
            let completed = self.completed;
            self.pending.retain(|pending| {
                let covered = pending.barrier != 0 && pending.barrier <= completed;
                if covered {
                    apply_words(durable, pending, u64::MAX);
                }
                !covered
            });
        }
        Barrier(self.completed)
    }

    fn bytes(&self, at: u64, len: usize) -> &[u8] {
        &self.memory[at as usize..at as usize + len]
    }

    fn prefetch(&self, _: u64) {}

    fn sync(&mut self, at: u64, len: usize) -> std::io::Result<()> {
        self.flush(at, len);
        self.barrier();
        let delay = std::mem::take(&mut self.delay);
        self.due.iter_mut().for_each(|(_, due)| *due = self.polls);
        self.completed();
        self.delay = delay;
        Ok(())
    }
}
