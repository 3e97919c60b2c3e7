//! A subscriber is given every offset once, in order, but those that a `skip` names.

use super::{Check, ensure};

pub(crate) const NAME: &str = "no-gap-no-repeat";

pub(crate) fn next(next: Option<u64>, offset: u64) -> Check {
    ensure!(NAME, next == Some(offset), "offset {offset} came, {next:?} is next");
    Ok(())
}

/// Where a subscription begins: where it was left, or where it asked for.
pub(crate) fn start(next: u64, start: u64, least: u64, end: u64) -> Check {
    ensure!(NAME, start == next, "starts at {start}, {next} is next");
    ensure!(NAME, start >= least && start <= end, "starts at {start}, not within {least}..={end}");
    Ok(())
}

/// What a stream has at and behind a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    /// Offset of its first message of that time or later, its end if there is none.
    pub(crate) first: u64,
    /// The same of those that are held whatever was compacted away.
    pub(crate) latest: u64,
    /// Offset behind the last visible message.
    pub(crate) visible: u64,
}

/// Where a subscription begins that asked for a time when the stream was like `asked`, and is `now`: nothing of that time
/// and later that is held is left out, and nothing older comes, but where there was nothing else.
pub(crate) fn since(start: u64, asked: Since, now: Since) -> Check {
    ensure!(
        NAME,
        start <= now.latest && start >= now.first.min(asked.visible),
        "starts at {start} for a time that was {asked:?} and is {now:?}"
    );
    Ok(())
}

/// A reader is told that offsets are lost only if they are.
pub(crate) fn lost(from: u64, to: u64, may_be: bool) -> Check {
    ensure!(NAME, may_be, "told that offsets {from} to {to} are lost, and they are not");
    Ok(())
}

/// A reader is told that an offset is gone only when it is.
pub(crate) fn gone(next: u64, first: u64, earliest: u64) -> Check {
    ensure!(
        NAME,
        next < first && first <= earliest,
        "told that offset {next} is gone and {first} the first; it is {earliest}"
    );
    Ok(())
}
