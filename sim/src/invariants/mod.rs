//! What must be true after every step: one file for each promise (`docs/simulation.md`).

pub(crate) mod accounts;
pub(crate) mod bounded;
pub(crate) mod buffers;
pub(crate) mod bytes;
pub(crate) mod compacted;
pub(crate) mod diverged;
pub(crate) mod durable;
pub(crate) mod gaps;
pub(crate) mod kept;
pub(crate) mod liveness;
pub(crate) mod once;
pub(crate) mod order;
pub(crate) mod told;
pub(crate) mod watermark;

use mstream_dataplane::{Limits, Shard};
use mstream_nic::Frame;
use mstream_pmem::region::Region;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Name of the invariant.
    pub invariant: &'static str,
    /// What was not so.
    pub what: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// What looking at an invariant gives.
pub(crate) type Check = Result<(), Broken>;

/// Names of all invariants.
pub const ALL: &[&str] = &[
    accounts::NAME,
    bounded::NAME,
    buffers::NAME,
    bytes::NAME,
    compacted::NAME,
    diverged::NAME,
    durable::NAME,
    gaps::NAME,
    kept::NAME,
    liveness::NAME,
    once::NAME,
    order::NAME,
    told::NAME,
    watermark::NAME,
];

/// Fails with the invariant's name and a text when something is not so.
macro_rules! ensure {
    ($name:expr, $holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err($crate::invariants::Broken { invariant: $name, what: format!($($text)*) });
        }
    };
}
pub(crate) use ensure;

/// What can be told of a shard alone, whatever was sent to it: every frame is accounted for, tables are bounded, and
/// nothing counts as durable that was not appended.
///
/// # Errors
/// The first promise that was not kept.
pub fn of_shard<R: Region, F: Frame>(shard: &Shard<R, F>, limits: &Limits) -> Result<(), Broken> {
    accounts::check(shard.counters())?;
    bounded::check(shard, limits)?;
    watermark::of_appended(shard)
}
