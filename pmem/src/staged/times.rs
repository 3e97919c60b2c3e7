//! How long syncs take, in cells that the sync thread writes and others only read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BUCKETS: usize = SyncTimes::BUCKETS;
/// Power of two of the first bucket's bound.
const FIRST_POWER: u32 = 16;

/// How long each sync of a file took: a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// How many syncs took up to the bound of each bucket and longer than the one before; the last one counts all that
    /// took longer too.
    pub counts: [u64; BUCKETS],
    /// Sum of all, in nanoseconds.
    pub sum_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl SyncTimes {
    /// Buckets of the histogram.
    pub const BUCKETS: usize = 20;

    /// Upper bounds of the buckets in nanoseconds: from 65.5 us to 34 s, each twice the one before.
    pub fn bounds() -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| 1 << (FIRST_POWER + bucket as u32))
    }
}

/// [`SyncTimes`] in cells, which one thread writes.
#[derive(Debug, Default)]
pub(super) struct TimesCells {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl TimesCells {
    /// Counts a sync that took so long.
    pub(super) fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bounds = SyncTimes::bounds();
        let bucket = bounds.iter().position(|bound| ns <= *bound).unwrap_or(BUCKETS - 1);
        // Relaxed: numbers for people.
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        self.max_ns.fetch_max(ns, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> SyncTimes {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        SyncTimes {
            counts: std::array::from_fn(|bucket| load(&self.counts[bucket])),
            sum_ns: load(&self.sum_ns),
            max_ns: load(&self.max_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_the_first_bucket_that_holds_it() {
        let cells = TimesCells::default();
        let bounds = SyncTimes::bounds();
        for ns in [0, bounds[0], bounds[0] + 1, bounds[5], bounds[19], bounds[19] + 7] {
            cells.record(Duration::from_nanos(ns));
        }
        let times = cells.read();
        let counts: Vec<(usize, u64)> =
            times.counts.into_iter().enumerate().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(0, 2), (1, 1), (5, 1), (19, 2)]);
        assert_eq!(times.max_ns, bounds[19] + 7);
        assert_eq!(times.sum_ns, 2 * bounds[0] + 1 + bounds[5] + 2 * bounds[19] + 7);
    }
}
