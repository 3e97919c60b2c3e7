//! What is acknowledged or delivered is durable at the level that the log says.

use mstream_pmem::region::{Level, Region};
use mstream_pmem::sim::SimRegion;

use super::{Check, ensure};

pub(crate) const NAME: &str = "acknowledged-is-durable";

/// A record that the shard counts as committed: no power cut may take any byte of it. At `process` a kill is all that is
/// survived, and a kill takes nothing.
pub(crate) fn committed(region: &SimRegion, lsn: u64, at: u64, bytes: usize) -> Check {
    ensure!(
        NAME,
        region.level() == Level::Process || region.is_durable(at, bytes),
        "record {lsn} counts as committed, and a power cut could take it"
    );
    Ok(())
}

/// A message that was acknowledged: everything up to it was durable by then.
pub(crate) fn acknowledged(who: std::fmt::Arguments<'_>, end: u64, durable: u64) -> Check {
    ensure!(
        NAME,
        end <= durable,
        "{who} was acknowledged below offset {end}, and only what is below {durable} was durable"
    );
    Ok(())
}
