//! A limit on messages per second.

/// What was not sent in this long is not made up for later.
const CATCH_UP_NS: f64 = 10e6;

/// Says when the next message is due.
pub(super) struct Pace {
    /// Between two messages; 0: no limit.
    interval_ns: f64,
    next_ns: f64,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Pace {
        Pace { interval_ns: rate.map_or(0.0, |rate| 1e9 / rate as f64), next_ns: 0.0 }
    }

    /// True when a message may be sent at `now_ns`.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        self.interval_ns == 0.0 || self.next_ns <= now_ns as f64
    }

    /// One was sent.
    pub(super) fn sent(&mut self, now_ns: u64) {
        self.next_ns = self.next_ns.max(now_ns as f64 - CATCH_UP_NS) + self.interval_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages in a time in which polls are so far apart.
    fn sent(rate: u64, from_ns: u64, until_ns: u64, step_ns: usize) -> u64 {
        let mut pace = Pace::new(Some(rate));
        let mut sent = 0;
        for now in (from_ns..until_ns).step_by(step_ns) {
            while pace.is_due(now) {
                pace.sent(now);
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_and_what_was_missed_long_ago_is_not_made_up_for() {
        for (rate, step) in [(10, 1_000_000), (1_000, 900_000), (1_000_000, 1_000_000)] {
            let expected = rate as f64 * 2.0;
            let got = sent(rate, 0, 2_000_000_000, step) as f64;
            assert!((got - expected).abs() <= expected / 50.0 + 2.0, "{rate}: {got}");
        }
        // The first message is due an hour late; no more than the catch-up comes with it.
        assert!(sent(1_000, 3_600_000_000_000, 3_600_000_000_001, 1) <= 11);
    }
}
