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

/// A log that lost nothing has not diverged.
pub(crate) fn said(who: std::fmt::Arguments<'_>, losses: u32) -> Check {
    ensure!(NAME, losses > 0, "{who} was told diverged, and the log has lost nothing");
    Ok(())
}
