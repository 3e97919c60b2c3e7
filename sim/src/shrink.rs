//! A shorter run that fails like a longer one.

use crate::faults::{Kind, Mix};
use crate::world::{Failure, Run};

/// Runs that are tried at most.
const TRIES: usize = 400;

/// Looks for fewer steps, kinds of faults and clients with which `play` still breaks the same invariant. What fails
/// in the end, and how.
pub fn shrink(
    failure: Box<Failure>,
    mut play: impl FnMut(Run) -> Option<Box<Failure>>,
) -> Box<Failure> {
    let mut best = failure;
    let mut tries = 0;
    // Kinds that the seed did not pick play no part.
    let mut queue = vec![Run { mix: best.picked, ..best.run }];
    queue.extend(candidates(&best));
    loop {
        let mut improved = false;
        for run in queue.drain(..) {
            if tries == TRIES {
                return best;
            }
            tries += 1;
            if let Some(found) = play(run)
                && found.broken.invariant == best.broken.invariant
                && cost(&found.run) < cost(&best.run)
            {
                (best, improved) = (found, true);
                break;
            }
        }
        if !improved {
            return best;
        }
        queue = candidates(&best);
    }
}

/// What is to become less.
fn cost(run: &Run) -> (u64, u64) {
    let kinds = Kind::ALL.iter().filter(|kind| run.mix.has(**kind)).count() as u64;
    (run.steps + 40 * (kinds + run.publishers + run.subscribers), run.steps)
}

/// Runs that are shorter in one way, the boldest first.
fn candidates(failure: &Failure) -> Vec<Run> {
    let Failure { run, step, .. } = failure;
    let mut runs = Vec::new();
    let known = run.steps.min(*step);
    for steps in [known / 8, known / 4, known / 2, known * 3 / 4, known * 7 / 8, known] {
        runs.push(Run { steps, ..*run });
    }
    if run.mix != Mix::NONE {
        runs.push(Run { mix: Mix::NONE, ..*run });
    }
    for kind in Kind::ALL.iter().filter(|kind| run.mix.has(**kind)) {
        runs.push(Run { mix: run.mix.without(*kind), ..*run });
    }
    runs.push(Run { publishers: 1, ..*run });
    runs.push(Run { subscribers: 1, ..*run });
    for less in [known.saturating_sub(50), known.saturating_sub(10), known.saturating_sub(1)] {
        runs.push(Run { steps: less, ..*run });
    }
    runs.retain(|candidate| cost(candidate) < cost(run) && candidate.steps > 0);
    runs
}
