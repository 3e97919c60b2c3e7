//! Many seeds on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::faults::Injected;
use crate::parts::Honest;
use crate::world::{Failure, Outcome, Run, run};

/// Which seeds to play, and when to stop.
#[derive(Clone, Copy, Debug)]
pub enum Seeds {
    /// So many, from the run's seed on.
    Count(u64),
    /// From the run's seed on, until so much time has passed.
    For(Duration),
}

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// Its seed is the first.
    pub first: Run,
    /// How many.
    pub seeds: Seeds,
    /// Threads, at least 1.
    pub jobs: usize,
}

/// What many worlds came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Worlds that were played to their end.
    pub seeds: u64,
    /// As in [`Outcome`].
    pub steps: u64,
    /// As in [`Outcome`].
    pub polls: u64,
    /// As in [`Outcome`].
    pub frames: u64,
    /// As in [`Outcome`].
    pub passed_ns: u64,
    /// As in [`Outcome`].
    pub messages: u64,
    /// As in [`Outcome`].
    pub batches: u64,
    /// Worlds that ended early for want of a free segment.
    pub no_room: u64,
    /// As in [`Outcome`].
    pub injected: Injected,
}

impl Totals {
    /// Adds a world's.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.polls += outcome.polls;
        self.frames += outcome.frames;
        self.passed_ns += outcome.passed_ns;
        self.messages += outcome.messages;
        self.batches += outcome.batches;
        self.no_room += u64::from(outcome.no_room);
        self.injected.add(&outcome.injected);
    }
}

/// Plays seeds; `each` is told of every world that held, in no particular order. What they came to, and of the worlds that
/// broke a promise the one with the lowest seed, as far as they were played by then.
pub fn play_seeds(
    campaign: Campaign,
    each: impl Fn(u64, &Outcome) + Sync,
) -> (Totals, Option<Box<Failure>>) {
    let Campaign { first, seeds, jobs } = campaign;
    let (began, next) = (Instant::now(), AtomicU64::new(first.seed));
    // Seeds from this one on are not played any more.
    let end = AtomicU64::new(match seeds {
        Seeds::Count(count) => first.seed.saturating_add(count),
        Seeds::For(_) => u64::MAX,
    });
    let shared: Mutex<(Totals, Option<Box<Failure>>)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = matches!(seeds, Seeds::For(time) if began.elapsed() >= time);
                    if late || seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let played = run(Run { seed, ..first }, Honest);
                    let Ok(mut shared) = shared.lock() else { return };
                    match played {
                        Ok(outcome) => {
                            shared.0.add(&outcome);
                            each(seed, &outcome);
                        }
                        Err(failure) => {
                            end.fetch_min(seed, Ordering::Relaxed);
                            let known = shared.1.as_ref().map_or(u64::MAX, |known| known.run.seed);
                            if seed < known {
                                shared.1 = Some(failure);
                            }
                        }
                    }
                }
            });
        }
    });
    shared.into_inner().unwrap_or_default()
}
