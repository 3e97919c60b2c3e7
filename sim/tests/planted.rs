//! Bugs planted in the code of shard, client and log, each of which must be caught: `cargo test -p mstream-sim --features
//! planted --test planted -- --nocapture` prints the list. Debug builds only: a release build holds no switch to plant
//! them with.
#![cfg(all(feature = "planted", debug_assertions))]
#![expect(clippy::print_stdout, reason = "the list of what was caught, for who asks for it")]

use mstream_sim::planted::{Bug, hunt};
use mstream_sim::{Honest, Run, run};

/// Each must be caught within so many seeds.
const SEEDS: u64 = 2_000;

#[test]
fn each_planted_bug_is_caught() {
    let bugs = Bug::all();
    assert!(bugs.len() >= 15, "only {} bugs", bugs.len());
    let mut missed = Vec::new();
    for bug in bugs {
        match hunt(bug, Run::new(1), SEEDS) {
            Some(failure) => {
                let what: String = failure.broken.to_string().chars().take(150).collect();
                println!("{bug}: {} seeds: {what}", failure.run.seed);
            }
            None => missed.push(bug.to_string()),
        }
    }
    assert!(missed.is_empty(), "not caught in {SEEDS} seeds: {missed:?}");
}

#[test]
fn a_bug_is_planted_only_while_it_is_hunted() {
    let bug = Bug::all()[0];
    assert!(hunt(bug, Run::new(1), 50).is_some());
    assert!(run(Run::new(1), Honest).is_ok(), "nothing is planted any more");
    assert_eq!(Bug::named(&bug.to_string().to_lowercase()), Some(bug));
    assert_eq!(Bug::named("none of them"), None);
}
