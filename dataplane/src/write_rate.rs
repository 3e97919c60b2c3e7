//! The highest rate at which a log was written.

/// Shorter bursts than this do not count by themselves.
const WINDOW_NS: u64 = 100_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct WriteRate {
    since_ns: u64,
    /// Bytes that were written by then.
    written: u64,
    /// The most bytes a second.
    most: u64,
}

impl WriteRate {
    /// Takes how many bytes were written by now.
    pub(crate) fn sample(&mut self, now_ns: u64, written: u64) {
        let passed_ns = now_ns.saturating_sub(self.since_ns);
        if passed_ns < WINDOW_NS {
            return;
        }
        let bytes = u128::from(written - self.written);
        let rate = bytes * 1_000_000_000 / u128::from(passed_ns);
        self.most = self.most.max(rate as u64);
        (self.since_ns, self.written) = (now_ns, written);
    }

    /// For how many milliseconds so many bytes last at that rate; 0 if nothing was written yet.
    pub(crate) fn lasts_ms(&self, bytes: u64) -> u64 {
        let ms = (u128::from(bytes) * 1_000).checked_div(u128::from(self.most));
        ms.map_or(0, |ms| u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_rate_counts() {
        let mut rate = WriteRate::default();
        assert_eq!(rate.lasts_ms(1 << 20), 0, "nothing was written");
        rate.sample(WINDOW_NS - 1, 500);
        assert_eq!(rate.lasts_ms(1 << 20), 0, "too short to tell");
        rate.sample(2 * WINDOW_NS, 2_000);
        assert_eq!(rate.lasts_ms(20_000), 2_000, "10,000 bytes a second");
        rate.sample(3 * WINDOW_NS, 12_000);
        assert_eq!(rate.lasts_ms(200_000), 2_000, "100,000 bytes a second");
        rate.sample(90 * WINDOW_NS, 12_001);
        assert_eq!(rate.lasts_ms(200_000), 2_000, "slower since");
    }
}
