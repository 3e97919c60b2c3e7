//! Once all faults are over, everything comes to rest within a bound: all that was taken is acknowledged, all that is
//! stored is read.

use super::{Broken, Check, ensure};

pub(crate) const NAME: &str = "comes-to-rest";
/// Many times the frames that can wait.
const MOST_POLLS: u32 = 100_000;

pub(crate) fn unsettled(seconds: u64, who: &str) -> Broken {
    let what = format!("not at rest after {seconds} s without faults:{who}");
    Broken { invariant: NAME, what }
}

/// The shard was polled so often while time stood still, and each time had something to do: what it has to do comes from
/// others, whose turn it is not.
pub(crate) fn runs_out(polls: u32) -> Check {
    ensure!(NAME, polls < MOST_POLLS, "the shard has something to do {polls} times at one moment");
    Ok(())
}
