//! How much copying and merging may move: a share of the memory's and the disk's bandwidth.

/// Bytes allowed per time: a bucket that fills at a steady rate. It knows no clock; who asks says what time it is.
#[derive(Clone, Copy, Debug)]
pub struct Bandwidth {
    bytes_per_second: u64,
    burst: u64,
    /// Allowed bytes times 1e9, so that nothing is lost to rounding; below zero after more was moved than allowed.
    credit: i128,
    filled_ns: u64,
}

const SECOND_NS: i128 = 1_000_000_000;

impl Bandwidth {
    /// `bytes_per_second` on average, 0 for no limit, and at most `burst` bytes at once after a pause. Full at
    /// `now_ns` on any monotonic clock.
    pub fn new(bytes_per_second: u64, burst: u64, now_ns: u64) -> Bandwidth {
        let credit = i128::from(burst) * SECOND_NS;
        Bandwidth { bytes_per_second, burst, credit, filled_ns: now_ns }
    }

    /// Bytes that may be moved at `now_ns`.
    pub fn allowed(&mut self, now_ns: u64) -> u64 {
        self.fill(now_ns);
        if self.bytes_per_second == 0 {
            return self.burst;
        }
        u64::try_from(self.credit.max(0) / SECOND_NS).unwrap_or(u64::MAX)
    }

    /// Counts `bytes` that were moved, also when they are more than were allowed: what cannot be divided is moved
    /// whole and waited for afterwards.
    pub fn moved(&mut self, now_ns: u64, bytes: u64) {
        self.fill(now_ns);
        if self.bytes_per_second != 0 {
            self.credit -= i128::from(bytes) * SECOND_NS;
        }
    }

    /// Nanoseconds from `now_ns` until `bytes` may be moved, or as many as ever may be at once.
    pub fn wait_ns(&mut self, now_ns: u64, bytes: u64) -> u64 {
        self.fill(now_ns);
        if self.bytes_per_second == 0 {
            return 0;
        }
        let missing = i128::from(bytes.min(self.burst)) * SECOND_NS - self.credit;
        let rate = i128::from(self.bytes_per_second);
        u64::try_from((missing.max(0) + rate - 1) / rate).unwrap_or(u64::MAX)
    }

    fn fill(&mut self, now_ns: u64) {
        let passed = i128::from(now_ns.saturating_sub(self.filled_ns));
        let full = i128::from(self.burst) * SECOND_NS;
        self.credit = (self.credit + passed * i128::from(self.bytes_per_second)).min(full);
        self.filled_ns = self.filled_ns.max(now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_rate_holds_over_any_time() {
        let mut bandwidth = Bandwidth::new(1_000_000, 10_000, 5);
        let (mut now, mut moved) = (5, 0);
        while now < 2_000 * MS {
            let wait = bandwidth.wait_ns(now, 4_096);
            now += wait;
            assert!(bandwidth.allowed(now) >= 4_096, "waiting helps");
            bandwidth.moved(now, 4_096);
            moved += 4_096;
        }
        let expected = (now - 5) / 1_000 + 10_000;
        assert!(moved <= expected + 4_096 && moved + 2 * 4_096 > expected, "{moved} of {expected}");
    }

    #[test]
    fn what_is_moved_at_once_is_waited_for() {
        let mut bandwidth = Bandwidth::new(1_000, 100, 0);
        bandwidth.moved(0, 1_100);
        assert_eq!(bandwidth.allowed(0), 0);
        assert_eq!(bandwidth.wait_ns(0, 1), 1_001 * MS);
        assert_eq!(bandwidth.allowed(1_050 * MS), 50);
        assert_eq!(bandwidth.allowed(10_000 * MS), 100, "a pause is not saved up beyond the burst");
        assert_eq!(
            bandwidth.wait_ns(10_000 * MS, 500),
            0,
            "more than a burst need not be waited for"
        );
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_nothing() {
        let mut bandwidth = Bandwidth::new(1_000, 100, 1_000 * MS);
        bandwidth.moved(1_000 * MS, 100);
        assert_eq!(bandwidth.allowed(1_000 * MS), 0);
        assert_eq!(bandwidth.allowed(0), 0);
        assert_eq!(bandwidth.allowed(1_001 * MS), 1);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut bandwidth = Bandwidth::new(0, 64, 0);
        bandwidth.moved(0, u64::MAX);
        assert_eq!((bandwidth.allowed(0), bandwidth.wait_ns(0, u64::MAX)), (64, 0));
    }
}
