//! Time in nanoseconds from the processor's time-stamp counter: reading it makes no system call.

/// Nanoseconds since the clock was made. Copies show the same time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    clock: quanta::Clock,
    origin: u64,
}

impl Clock {
    /// A clock that begins now; calibrates itself at first use in a process, which takes a while.
    pub(crate) fn new() -> Clock {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        Clock { clock, origin }
    }

    /// Nanoseconds since the beginning.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.delta_as_nanos(self.origin, self.clock.raw())
    }
}
