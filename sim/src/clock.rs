//! The virtual clocks.

use std::cell::Cell;
use std::rc::Rc;

use mstream_dataplane::{Clock, Now};

use crate::clients::drifted;

/// Wall time when a world begins.
const EPOCH_NS: u64 = 1_700_000_000_000_000_000;

/// The shard's clock: stands still until it is set. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock {
    ns: Rc<Cell<u64>>,
    wall_offset_ns: Rc<Cell<i64>>,
    drift_ppm: i64,
}

impl VirtualClock {
    /// A clock that is `drift_ppm` parts in a million too fast.
    pub(crate) fn new(drift_ppm: i64) -> VirtualClock {
        VirtualClock { drift_ppm, ..VirtualClock::default() }
    }

    /// The time, in nanoseconds from the world's beginning.
    pub fn ns(&self) -> u64 {
        self.ns.get()
    }

    /// Sets the time.
    pub fn set(&self, ns: u64) {
        self.ns.set(ns);
    }

    /// Moves the wall clock by so much, and nothing else.
    pub(crate) fn jump(&self, ns: i64) {
        self.wall_offset_ns.set(self.wall_offset_ns.get() + ns);
    }
}

impl Clock for VirtualClock {
    fn now(&mut self) -> Now {
        let mono_ns = drifted(self.ns(), self.drift_ppm);
        let wall_ns = (EPOCH_NS + mono_ns).wrapping_add_signed(self.wall_offset_ns.get());
        Now { mono_ns, wall_ns }
    }
}
