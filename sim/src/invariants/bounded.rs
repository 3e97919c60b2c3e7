//! No table grows beyond its limit, and none keeps what nobody uses.

use mstream_dataplane::{Limits, Shard};
use mstream_nic::Frame;
use mstream_pmem::region::Region;

use super::{Check, ensure};

pub(crate) const NAME: &str = "memory-bounded";

pub(crate) fn check<R: Region, F: Frame>(shard: &Shard<R, F>, limits: &Limits) -> Check {
    let (publications, subscriptions) = shard.handles();
    let (sessions, pending, held) =
        (shard.sessions(), shard.records_pending(), shard.frames_held());
    ensure!(
        NAME,
        sessions <= limits.sessions
            && publications <= limits.publications
            && subscriptions <= limits.subscriptions
            && pending <= limits.pending_records
            && held <= limits.pending_frames,
        "{sessions} sessions, {publications} publications, {subscriptions} subscriptions, {pending} records pending \
         and {held} frames held are more than the limits"
    );
    Ok(())
}

/// After all clients were closed or timed out.
pub(crate) fn nothing_left<R: Region, F: Frame>(shard: &Shard<R, F>) -> Check {
    let (sessions, handles) = (shard.sessions(), shard.handles());
    ensure!(
        NAME,
        sessions == 0 && handles == (0, 0),
        "{sessions} sessions and {handles:?} handles are left after all were closed or timed out"
    );
    Ok(())
}
