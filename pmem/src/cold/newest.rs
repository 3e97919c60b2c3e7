//! Which records of a stream are displaced by newer ones of the same keys.

use std::collections::HashSet;

use mstream_wire::Block;

use crate::planted::{Bug, planted};
use crate::wal::Record;

/// Bytes of keys that are remembered at most, with what remembering one takes.
const KEY_MEMORY: usize = 64 << 20;
/// About what a remembered key takes besides its bytes.
const PER_KEY: usize = 48;

/// The keys of a stream's newer records. What is not remembered for want of room displaces nothing.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    seen: HashSet<Box<[u8]>>,
    bytes: usize,
    /// Epoch of the record that was last asked about.
    epoch: u32,
}

impl Newest {
    /// True if the record is to be kept. Records come from the newest to the oldest. The last one of each epoch is kept
    /// whatever its keys: it tells which offsets a reader of that epoch has in common with what came later.
    pub(crate) fn wants(&mut self, record: &Record<'_>) -> bool {
        let header = record.header;
        let count = header.count.get();
        let epoch = header.epoch.get();
        let last =
            std::mem::replace(&mut self.epoch, epoch) > epoch && !planted(Bug::ColdEpochsForgotten);
        // Messages in parts are none that this version can take apart: all of them are kept.
        let Ok(block) = Block::parse(record.block, count, header.block_crc.get()) else {
            return true;
        };
        let mut wanted = last;
        for message in block.messages() {
            if message.key.is_empty() || !self.seen.contains(message.key) {
                wanted = true;
                self.remember(message.key);
            }
        }
        wanted != planted(Bug::ColdKeepsDisplaced)
    }

    fn remember(&mut self, key: &[u8]) {
        let bytes = self.bytes + key.len() + PER_KEY;
        if !key.is_empty() && bytes <= KEY_MEMORY {
            self.seen.insert(key.into());
            self.bytes = bytes;
        }
    }
}

/// What was decided for each of many records; read from the last to the first.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    words: Vec<u64>,
    len: usize,
}

impl Decisions {
    pub(crate) fn push(&mut self, wanted: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        self.words[self.len / 64] |= u64::from(wanted) << (self.len % 64);
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<bool> {
        self.len = self.len.checked_sub(1)?;
        let word = self.words[self.len / 64];
        if self.len.is_multiple_of(64) {
            self.words.pop();
        }
        Some(word >> (self.len % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_come_back_in_reverse() {
        let mut decisions = Decisions::default();
        let wanted = |number: usize| number.is_multiple_of(3) || number == 64;
        (0..200).for_each(|number| decisions.push(wanted(number)));
        for number in (0..200).rev() {
            assert_eq!(decisions.pop(), Some(wanted(number)), "{number}");
        }
        assert_eq!(decisions.pop(), None);
    }
}
