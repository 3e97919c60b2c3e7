//! Bugs planted in the log's own code, each of which the persistence model must find. Debug builds only: a release build
//! holds no switch to plant them with.
#![cfg(debug_assertions)]
#![expect(clippy::print_stdout, reason = "the list of what was found, for who asks for it")]

mod common;

use common::world::World;
use common::{by_hand, cold, older, reboots};
use mstream_pmem::planted::{Bug, plant};

/// What the simulator of the whole data path finds: it takes a log and cold segments together, or to know what a log is to
/// hold, and not only whether what it holds is right.
const ELSEWHERE: [Bug; 3] = [Bug::ColdContradicted, Bug::RecycledTooEarly, Bug::StartForgetsFirst];

/// Seeds to try for each bug.
const SEEDS: u64 = 80;

/// Plays worlds until one fails: the seed, how many images were looked at, and what was said.
fn hunt() -> Option<(u64, u64, String)> {
    let mut images = 0;
    (1..=SEEDS).find_map(|seed| {
        let (tally, outcome) = World::of(seed).play();
        images += tally.images;
        let outcome = outcome.and_then(|()| reboots::play(seed).map(|_| ()));
        let outcome = outcome.and_then(|()| by_hand::play(seed, |_| {}).map(|_| ()));
        // Those that it is for take few; they are long.
        let footers = outcome.is_ok() && seed <= 8;
        let outcome = if footers { older::World::new(seed).live() } else { outcome };
        outcome.err().map(|what| (seed, images, what))
    })
}

/// The same of cold segments: the seed, how many power cuts there were, and what was said.
fn hunt_cold() -> Option<(u64, u64, String)> {
    let mut cuts = 0;
    (1..=SEEDS).find_map(|seed| {
        let mut world = cold::World::of(seed);
        let outcome = world.play(120);
        cuts += world.cuts;
        outcome.err().map(|what| (seed, cuts, what))
    })
}

#[test]
fn each_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL.iter().filter(|bug| !ELSEWHERE.contains(bug)) {
        plant(Some(*bug));
        let of_cold_segments = format!("{bug:?}").starts_with("Cold");
        match if of_cold_segments { hunt_cold() } else { hunt() } {
            Some((seeds, images, what)) => {
                let what: String =
                    what.lines().next().unwrap_or_default().chars().take(150).collect();
                println!("{bug:?}: {seeds} seeds, {images} crashes: {what}");
            }
            None => missed.push(bug),
        }
    }
    plant(None);
    assert!(missed.is_empty(), "not found: {missed:?}");
}
