//! Every byte that is stored, delivered or acknowledged is one that was published.

use super::{Broken, Check, ensure};
use crate::history::Entry;

pub(crate) const NAME: &str = "bytes-as-published";

/// The log holds, or a client was given, something that no publisher made.
pub(crate) fn nobody_published(where_: std::fmt::Arguments<'_>) -> Broken {
    Broken { invariant: NAME, what: format!("{where_} holds what nobody published") }
}

/// What is delivered is what the log held at that offset.
pub(crate) fn delivered(stream: u32, offset: u64, entry: &Entry, stored: Option<&Entry>) -> Check {
    ensure!(
        NAME,
        stored == Some(entry),
        "stream {stream} offset {offset} was delivered as {} and stored as {stored:?}",
        entry.content
    );
    Ok(())
}

/// What is stored stands in the stream and under the publisher that it was published to and by.
pub(crate) fn owned(stream: u32, entry: &Entry, owner: u16) -> Check {
    let Entry { content, publisher } = entry;
    ensure!(
        NAME,
        owner == content.actor,
        "{content} stands under another publisher's id {publisher:#x}"
    );
    ensure!(NAME, u32::from(content.stream) == stream, "{content} was stored in stream {stream}");
    Ok(())
}
