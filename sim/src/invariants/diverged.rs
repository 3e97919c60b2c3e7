//! A reader never sees other content under an offset that it has seen, unless it was told *diverged*.

use super::{Check, ensure};
use crate::content::Content;

pub(crate) const NAME: &str = "diverged-is-said";

/// Before: what the reader was given at this offset since it was last told.
pub(crate) fn seen(offset: u64, before: Option<Content>, now: Content) -> Check {
    if let Some(before) = before {
        ensure!(
            NAME,
            before == now,
            "offset {offset} was {before} and is {now}, and diverged was not said"
        );
    }
    Ok(())
}

/// Where nothing was lost nothing has diverged.
pub(crate) fn said(who: std::fmt::Arguments<'_>, losses: u32) -> Check {
    ensure!(NAME, losses > 0, "{who} was told diverged, and nothing was lost");
    Ok(())
}

/// The last common offset is none that the reader has not come to.
pub(crate) fn reached(next: u64, common: u64) -> Check {
    ensure!(NAME, common <= next, "told that all below {common} is in common, {next} is next");
    Ok(())
}

/// Below the last common offset stands what the reader has seen there. Now: `Some(None)` where the stream has held nothing
/// else since, and it is not known what it holds; `None` behind its end.
pub(crate) fn common(offset: u64, seen: Content, now: Option<Option<Content>>) -> Check {
    ensure!(
        NAME,
        now.is_some_and(|now| now.is_none_or(|now| now == seen)),
        "offset {offset} was {seen}, is {now:?}, and is said to be in common"
    );
    Ok(())
}
