//! Every buffer of a port is free, or held by somebody who says so.

use super::{Check, ensure};

pub(crate) const NAME: &str = "buffers-accounted-for";

/// Between two polls everything that was sent has left: what is out, the shard holds.
pub(crate) fn of_shard(out: usize, held: usize) -> Check {
    ensure!(NAME, out == held, "{out} buffers of the shard's port are out, the shard holds {held}");
    Ok(())
}

/// Of a port that nobody holds anything of.
pub(crate) fn all_back(whose: &str, out: usize) -> Check {
    ensure!(NAME, out == 0, "{out} buffers of {whose} did not come back");
    Ok(())
}
