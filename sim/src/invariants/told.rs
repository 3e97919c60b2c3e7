//! Clients are told nothing that is not so.

use super::{Broken, Check, ensure};

pub(crate) const NAME: &str = "told-what-is-so";

pub(crate) fn wrong(who: std::fmt::Arguments<'_>, what: impl std::fmt::Display) -> Broken {
    Broken { invariant: NAME, what: format!("{who}: {what}") }
}

/// Only a stream that was deleted is said to be unknown.
pub(crate) fn unknown(who: std::fmt::Arguments<'_>, stream: u32, deleted: bool) -> Check {
    ensure!(NAME, deleted, "{who} was told that there is no stream {stream}, and there is");
    Ok(())
}

/// The level that is said is the one that the region promises.
pub(crate) fn level(who: std::fmt::Arguments<'_>, said: u8, promised: u8) -> Check {
    ensure!(NAME, said == promised, "{who} was told level {said}, the region's is {promised}");
    Ok(())
}

/// Nobody else has the id.
pub(crate) fn id(id: u64, owner: u16, actor: u16) -> Check {
    ensure!(NAME, owner == actor, "publisher id {id:#x} was given to {owner} and to {actor}");
    Ok(())
}

/// An acknowledgement names the message that stands below its offset.
pub(crate) fn acknowledged(
    same: bool,
    content: &dyn std::fmt::Display,
    end: u64,
    stored: &dyn std::fmt::Debug,
) -> Check {
    ensure!(NAME, same, "{content} was acknowledged below offset {end}, which holds {stored:?}");
    Ok(())
}
