//! Nothing that was acknowledged or delivered is lost, and nothing that is held changes.

use super::{Check, ensure};
use crate::history::Entry;

pub(crate) const NAME: &str = "nothing-acknowledged-lost";

/// The log ends behind everything that was promised.
pub(crate) fn end(stream: u32, end: u64, promised: u64) -> Check {
    ensure!(
        NAME,
        end >= promised,
        "stream {stream} ends at {end} though everything below {promised} was delivered or acknowledged"
    );
    Ok(())
}

/// A start says that something may be lost only after a boot of a machine that may lose something by it.
pub(crate) fn loss(said: bool, may_be: bool) -> Check {
    ensure!(NAME, may_be || !said, "a start says that something may be lost, and nothing can be");
    Ok(())
}

/// What the log holds is what it held before.
pub(crate) fn same(stream: u32, offset: u64, now: &Entry, before: Option<&Entry>) -> Check {
    ensure!(
        NAME,
        before == Some(now),
        "stream {stream} offset {offset} holds {}, before it was {before:?}",
        now.content
    );
    Ok(())
}

/// What was given up does not come back.
pub(crate) fn earliest(stream: u32, now: u64, before: u64) -> Check {
    ensure!(NAME, now >= before, "stream {stream} begins at {now}, it began at {before} before");
    Ok(())
}

/// What a stream's rules keep goes only when its segment is recycled, and none is unless too few are free.
pub(crate) fn recycled(stream: u32, (from, to): (u64, u64), free: u32, were_short: bool) -> Check {
    ensure!(
        NAME,
        were_short,
        "stream {stream} let go of offsets {from} to {to}, and {free} segments were free"
    );
    Ok(())
}

/// A publisher that returns is told no less than it was acknowledged.
pub(crate) fn sequence(who: std::fmt::Arguments<'_>, stored: u64, acknowledged: u64) -> Check {
    ensure!(
        NAME,
        stored >= acknowledged,
        "{who} was told that {stored} are stored, {acknowledged} were acknowledged"
    );
    Ok(())
}
