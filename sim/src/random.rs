//! The generator behind every choice of a world.

use std::ops::RangeInclusive;

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

/// One step of the mixing function, for numbers that must be a function of others.
pub(crate) fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(mix(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number of the range.
    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// A number of the range, which begins at 1 or above, and which is near its beginning as often as near its end: each
    /// doubling is as likely as the next. For sizes: most bugs are about small ones, and large ones take long.
    pub(crate) fn size(&mut self, range: RangeInclusive<u64>) -> u64 {
        let doublings = (range.end() / range.start()).ilog2() + 1;
        let least = range.start() << self.below(doublings.into());
        self.within(least..=(2 * least - 1).min(*range.end()))
    }

    /// True once in `n` cases.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// 16 bytes.
    pub(crate) fn key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        for half in key.chunks_mut(8) {
            half.copy_from_slice(&self.next().to_le_bytes());
        }
        key
    }
}
