//! What to do while nothing comes: a command line does not keep a core busy unless it is asked to.

use std::time::Duration;

const FIRST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(1);

/// Sleeps that become longer the longer nothing comes.
pub(super) struct Idle {
    spin: bool,
    next: Duration,
}

impl Idle {
    pub(super) fn new(spin: bool) -> Idle {
        Idle { spin, next: FIRST }
    }

    /// Something came.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Nothing came; true once that has been so for a while.
    pub(super) fn wait(&mut self) -> bool {
        if self.spin {
            std::hint::spin_loop();
            return false;
        }
        std::thread::sleep(self.next);
        let long = self.next == LONGEST;
        self.next = (self.next * 2).min(LONGEST);
        long
    }
}
