//! The checksum tree over ranges of lsns.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::format::RecordHeader;
use zerocopy::IntoBytes;

/// Bytes of a hash.
pub const HASH_BYTES: usize = 16;
/// Lsns of a leaf: it begins at a multiple of this.
pub const LEAF_LSNS: u64 = 1024;
/// Children of an inner node.
const FANOUT: usize = 16;
/// Bytes of a record header that are the same on every copy: all from here on.
const SHARED_FROM: usize = 16;

/// Hashes records that come in the order of their lsns.
pub(super) struct Tree {
    first_leaf: u64,
    leaves: Vec<[u8; HASH_BYTES]>,
    open: SipHasher24,
}

impl Tree {
    /// Of a segment whose first lsn this is.
    pub(super) fn new(first_lsn: u64) -> Tree {
        let first_leaf = first_lsn / LEAF_LSNS;
        Tree { first_leaf, leaves: Vec::new(), open: SipHasher24::new() }
    }

    /// Takes a record that is not local.
    pub(super) fn add(&mut self, header: &RecordHeader, block: &[u8]) {
        self.close_below(header.lsn.get());
        self.open.write(&header.as_bytes()[SHARED_FROM..]);
        self.open.write(block);
    }

    /// Ends the leaves that hold nothing of `lsn` or above.
    fn close_below(&mut self, lsn: u64) {
        let leaf = (lsn / LEAF_LSNS).saturating_sub(self.first_leaf);
        while (self.leaves.len() as u64) < leaf {
            self.close();
        }
    }

    fn close(&mut self) {
        let open = std::mem::replace(&mut self.open, SipHasher24::new());
        self.leaves.push(open.finish128().as_bytes());
    }

    /// Leaves, then the levels above, up to the root. `next_lsn` is behind the last record.
    pub(super) fn finish(mut self, first_lsn: u64, next_lsn: u64) -> Vec<[u8; HASH_BYTES]> {
        if next_lsn == first_lsn {
            return Vec::new();
        }
        self.close_below(next_lsn.next_multiple_of(LEAF_LSNS));
        let mut hashes = self.leaves;
        let mut level = 0..hashes.len();
        while level.len() > 1 {
            let end = level.end;
            for start in level.step_by(FANOUT) {
                let mut node = SipHasher24::new();
                hashes[start..end.min(start + FANOUT)].iter().for_each(|child| node.write(child));
                hashes.push(node.finish128().as_bytes());
            }
            level = end..hashes.len();
        }
        hashes
    }
}
