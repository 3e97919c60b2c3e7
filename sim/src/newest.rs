//! Where the newest message of each key stands in a stream: asked of every message that a compaction took.

use crate::content::{Content, DIFFERENT_KEYS};
use crate::history::Entry;

/// Offsets behind the newest message of each key, 0: none has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Newest([u64; DIFFERENT_KEYS]);

impl Newest {
    /// Those of a whole stream.
    pub(crate) fn of(log: &[Option<Entry>]) -> Newest {
        let mut newest = Newest::default();
        for (offset, entry) in (0..).zip(log) {
            if let Some(entry) = entry {
                newest.stored(offset, &entry.content);
            }
        }
        newest
    }

    /// A message was stored.
    pub(crate) fn stored(&mut self, offset: u64, content: &Content) {
        let newest = &mut self.0[content.key_number()];
        *newest = (offset + 1).max(*newest);
    }

    /// True when a newer message has its key; none is newer without one.
    pub(crate) fn displaces(&self, offset: u64, content: &Content) -> bool {
        content.has_key() && self.0[content.key_number()] > offset + 1
    }
}
