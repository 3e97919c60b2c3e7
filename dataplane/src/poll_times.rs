//! How long polls that carried messages took: a histogram in the shard's own memory.

const BUCKETS: usize = PollTimes::BUCKETS;
/// Power of two of the first bucket's bound.
const FIRST_POWER: u32 = 8;

/// Time from the start of each poll that stored or delivered messages to the start of the next: an upper bound of
/// what the appliance added to any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollTimes {
    /// How many polls took up to the bound of each bucket and longer than the one before; the last one counts
    /// all that took longer too.
    pub counts: [u64; BUCKETS],
    /// Sum of all, in nanoseconds.
    pub sum_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl Default for PollTimes {
    fn default() -> PollTimes {
        PollTimes { counts: [0; BUCKETS], sum_ns: 0, max_ns: 0 }
    }
}

impl PollTimes {
    /// Buckets of the histogram.
    pub const BUCKETS: usize = 48;

    /// Upper bounds of the buckets in nanoseconds, rising: 256, 384, 512, 768, ...
    pub fn bounds() -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| {
            let step: u64 = if bucket.is_multiple_of(2) { 2 } else { 3 };
            step << (FIRST_POWER - 1 + bucket as u32 / 2)
        })
    }

    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.sum_ns += ns;
        self.max_ns = self.max_ns.max(ns);
    }
}

#[inline]
fn bucket(ns: u64) -> usize {
    let below = ns.saturating_sub(1) | 1;
    let power = below.ilog2();
    match power.checked_sub(FIRST_POWER) {
        None => 0,
        Some(octave) => {
            let half = (below >> (power - 1)) & 1;
            (octave as usize * 2 + half as usize + 1).min(BUCKETS - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_the_first_bucket_that_holds_it() {
        let bounds = PollTimes::bounds();
        assert_eq!(bounds[..5], [256, 384, 512, 768, 1024]);
        for (number, bound) in bounds.into_iter().enumerate() {
            assert_eq!(bucket(bound), number, "{bound}");
            assert_eq!(bucket(bound + 1), (number + 1).min(BUCKETS - 1), "{bound} + 1");
        }
        assert_eq!((bucket(0), bucket(1), bucket(u64::MAX)), (0, 0, BUCKETS - 1));
    }

    #[test]
    fn sum_and_longest_are_kept() {
        let mut times = PollTimes::default();
        for ns in [300, 5_000, 100] {
            times.record(ns);
        }
        assert_eq!((times.sum_ns, times.max_ns), (5_400, 5_000));
        assert_eq!(times.counts.iter().sum::<u64>(), 3);
    }
}
