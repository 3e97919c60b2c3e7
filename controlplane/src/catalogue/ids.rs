//! Which ids were ever given out.

use std::collections::BTreeMap;

use super::ANONYMOUS;

/// A set of ids as ranges: a counter's ids are one range, however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UsedIds {
    /// First id of each range, and its last. Ranges neither overlap nor touch.
    ranges: BTreeMap<u64, u64>,
}

impl UsedIds {
    /// True if `id` was given out.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.ranges.range(..=id).next_back().is_some_and(|(_, last)| *last >= id)
    }

    /// The id that a counter gives out next; `None` when there are no more.
    pub(super) fn next(&self) -> Option<u64> {
        let next = self.ranges.last_key_value().map_or(1, |(_, last)| last + 1);
        (next < ANONYMOUS).then_some(next)
    }

    /// Adds the ids `first` to `last`, below [`ANONYMOUS`].
    pub(super) fn add(&mut self, first: u64, last: u64) {
        debug_assert!(first <= last && last < ANONYMOUS);
        let (mut first, mut last) = (first, last);
        // From the right: whatever begins before the end's neighbour and reaches our beginning is joined.
        while let Some((&from, &to)) = self.ranges.range(..=last + 1).next_back() {
            if to + 1 < first {
                break;
            }
            self.ranges.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.ranges.insert(first, last);
    }

    /// The ranges, in order.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let mut used = UsedIds::default();
        for id in [1, 2, 3, 7, 5, 9, 100] {
            used.add(id, id);
        }
        assert_eq!(used.ranges().collect::<Vec<_>>(), [(1, 3), (5, 5), (7, 7), (9, 9), (100, 100)]);
        used.add(4, 8);
        assert_eq!(used.ranges().collect::<Vec<_>>(), [(1, 9), (100, 100)]);
        used.add(3, 5);
        assert_eq!(used.ranges().collect::<Vec<_>>(), [(1, 9), (100, 100)]);
        assert!(used.contains(1) && used.contains(9) && used.contains(100));
        assert!(!used.contains(0) && !used.contains(10) && !used.contains(99));
        assert_eq!(used.next(), Some(101));
    }

    #[test]
    fn ids_end_below_the_anonymous_ones() {
        let mut used = UsedIds::default();
        assert_eq!(used.next(), Some(1));
        used.add(ANONYMOUS - 2, ANONYMOUS - 2);
        assert_eq!(used.next(), Some(ANONYMOUS - 1));
        used.add(ANONYMOUS - 1, ANONYMOUS - 1);
        assert_eq!(used.next(), None);
    }
}
