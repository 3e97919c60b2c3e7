//! Long random histories with crashes at a sample of their steps: while appending, rolling, recycling, starting, and
//! inside the recovery of the crash before.
//!
//! `MSTREAM_MODEL_SEEDS=A..=B` plays other seeds.

mod common;

use common::reboots;
use common::seeds;
use common::world::{Tally, World};

#[test]
fn long_histories() {
    let seeds = seeds(1..=30);
    // One seed alone may be a short history.
    let single = seeds.start() == seeds.end();
    let mut sum = Tally::default();
    for seed in seeds {
        let (tally, outcome) = World::of(seed).play();
        outcome.unwrap_or_else(|what| panic!("{what}"));
        sum.images += tally.images;
        sum.records += tally.records;
        sum.acknowledged += tally.acknowledged;
        sum.damages += tally.damages;
    }
    assert!(single || sum.images > 10_000 && sum.acknowledged > 1000, "too few: {sum:?}");
}

/// Crashed between the two copies of a header, later in the middle of wiping them: the log looked damaged.
#[test]
fn a_segment_whose_second_header_copy_was_never_whole_is_recycled_over_a_crash() {
    let (_, outcome) = World::of(110).play();
    outcome.unwrap_or_else(|what| panic!("{what}"));
}

#[test]
fn reboots_of_a_process_log() {
    let mut sum = reboots::Reboots::default();
    for seed in seeds(1..=100) {
        let one = reboots::play(seed).unwrap_or_else(|what| panic!("{what}"));
        sum.opened += one.opened;
        sum.held += one.held;
        sum.refused += one.refused;
    }
    assert!(sum.held > 1000 && sum.refused < sum.opened / 2, "{sum:?}");
}
