//! Checks, in debug builds, that nothing is stored to while it may be on its way to the medium.

use crate::region::Barrier;

/// Ranges that were handed over and whose barriers have not completed. Empty in release builds.
#[derive(Debug)]
pub(super) struct Promised {
    #[cfg(debug_assertions)]
    ranges: std::collections::VecDeque<(u64, u64, Barrier)>,
}

impl Promised {
    /// Room for `places` ranges.
    pub(super) fn new(_places: usize) -> Promised {
        Promised {
            #[cfg(debug_assertions)]
            ranges: std::collections::VecDeque::with_capacity(_places),
        }
    }

    /// Notes that bytes `at` to `end` are covered by `barrier` and not before.
    #[inline]
    pub(super) fn add(&mut self, _at: u64, _end: u64, _barrier: Barrier) {
        #[cfg(debug_assertions)]
        self.ranges.push_back((_at, _end, _barrier));
    }

    /// Panics if bytes `at` to `end` are still to be covered.
    #[inline]
    pub(super) fn check(&mut self, _at: u64, _end: u64, _completed: impl FnOnce() -> Barrier) {
        #[cfg(debug_assertions)]
        {
            let completed = _completed();
            while self.ranges.front().is_some_and(|range| range.2 <= completed) {
                self.ranges.pop_front();
            }
            let overlapped = self.ranges.iter().find(|range| range.0 < _end && _at < range.1);
            assert!(
                overlapped.is_none(),
                "bytes {_at} to {_end} are stored to while {overlapped:?} waits"
            );
        }
    }
}
