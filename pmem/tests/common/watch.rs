//! A simulated region that keeps what stood before its steps: the moments to crash at.

use std::cell::RefCell;
use std::rc::Rc;

use mstream_pmem::region::{Barrier, Level, Region};
use mstream_pmem::sim::SimRegion;

use super::Random;

/// What was seen of a watched region's steps.
pub struct Seen {
    pub points: Vec<SimRegion>,
    pub random: Random,
    /// One step in so many is kept; 0: none.
    pub one_in: u64,
    /// Steps that changed the region.
    pub steps: u64,
}

impl Seen {
    pub fn new(seed: u64, one_in: u64) -> Rc<RefCell<Seen>> {
        Rc::new(RefCell::new(Seen { points: Vec::new(), random: Random(seed), one_in, steps: 0 }))
    }
}

pub struct Watch {
    pub inner: SimRegion,
    pub seen: Rc<RefCell<Seen>>,
}

impl Watch {
    fn look(&mut self) {
        let mut seen = self.seen.borrow_mut();
        seen.steps += 1;
        let one_in = seen.one_in;
        if one_in > 0 && seen.random.below(one_in) == 0 {
            seen.points.push(self.inner.clone());
        }
    }
}

impl Region for Watch {
    fn level(&self) -> Level {
        self.inner.level()
    }
    fn slot_bytes(&self) -> u64 {
        self.inner.slot_bytes()
    }
    fn slots(&self) -> u32 {
        self.inner.slots()
    }
    fn window_bytes(&self) -> u64 {
        self.inner.window_bytes()
    }
    fn store(&mut self, at: u64, bytes: &[u8]) {
        self.look();
        self.inner.store(at, bytes);
    }
    fn stream(&mut self, at: u64, bytes: &[u8]) {
        self.look();
        self.inner.stream(at, bytes);
    }
    fn flush(&mut self, at: u64, len: usize) {
        self.look();
        self.inner.flush(at, len);
    }
    fn barrier(&mut self) -> Barrier {
        self.look();
        self.inner.barrier()
    }
    fn completed(&mut self) -> Barrier {
        self.inner.completed()
    }
    fn bytes(&self, at: u64, len: usize) -> &[u8] {
        self.inner.bytes(at, len)
    }
    fn prefetch(&self, at: u64) {
        self.inner.prefetch(at);
    }
    fn sync(&mut self, at: u64, len: usize) -> std::io::Result<()> {
        self.look();
        self.inner.sync(at, len)
    }
}
