//! A timer whose interval doubles.

/// Fires at once, then after growing intervals, until it is reset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first_ns: u64,
    longest_ns: u64,
    interval_ns: u64,
    at_ns: u64,
}

impl Backoff {
    /// A timer that is due now.
    pub(crate) const fn new(first_ns: u64, longest_ns: u64) -> Backoff {
        Backoff { first_ns, longest_ns, interval_ns: first_ns, at_ns: 0 }
    }

    /// True when the time has come; the next one is then twice as far.
    #[inline]
    pub(crate) fn due(&mut self, now_ns: u64) -> bool {
        if now_ns < self.at_ns {
            return false;
        }
        self.at_ns = now_ns + self.interval_ns;
        self.interval_ns = (self.interval_ns * 2).min(self.longest_ns);
        true
    }

    /// True once the interval is the longest.
    pub(crate) fn is_slow(&self) -> bool {
        self.interval_ns == self.longest_ns
    }

    /// Due now, with the first interval again.
    pub(crate) fn reset(&mut self) {
        self.interval_ns = self.first_ns;
        self.at_ns = 0;
    }

    /// Due one first interval from now.
    #[inline]
    pub(crate) fn restart(&mut self, now_ns: u64) {
        self.interval_ns = self.first_ns;
        self.at_ns = now_ns + self.first_ns;
    }
}
