//! Once all faults are over, everything comes to rest within a bound: all that was taken is acknowledged, all that is
//! stored is read.

use super::Broken;

pub(crate) const NAME: &str = "comes-to-rest";

pub(crate) fn unsettled(seconds: u64, who: &str) -> Broken {
    let what = format!("not at rest after {seconds} s without faults:{who}");
    Broken { invariant: NAME, what }
}
