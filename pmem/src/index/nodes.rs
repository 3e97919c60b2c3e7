//! Nodes of the index and the arena that they come from.

use crate::pages::vec_in_memory;

/// Entries of a leaf.
pub(super) const LEAF: u64 = 8;
/// Children of an inner node.
pub(super) const FANOUT: usize = 16;
/// Bits of an entry's number that one inner level takes.
pub(super) const BITS: u32 = 4;
/// Levels of inner nodes that any number of entries needs.
pub(super) const MAX_HEIGHT: usize = 16;
/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// Eight records: one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Leaf {
    /// Offset of the first.
    base: u64,
    /// Where they are. While the leaf is free, the first is the next free leaf.
    ats: [u32; LEAF as usize],
    /// How far their offsets are from the first's: 24 bits, little-endian.
    deltas: [[u8; 3]; LEAF as usize],
}

const _: () = assert!(size_of::<Leaf>() == 64);

impl Leaf {
    const BLANK: Leaf = Leaf { base: 0, ats: [0; LEAF as usize], deltas: [[0; 3]; LEAF as usize] };

    /// Writes an entry. False if its offset is too far from the leaf's first.
    #[inline]
    pub(super) fn set(&mut self, place: usize, offset: u64, at: u32) -> bool {
        if place == 0 {
            self.base = offset;
        }
        let [low, middle, high, rest @ ..] = (offset - self.base).to_le_bytes();
        self.deltas[place] = [low, middle, high];
        self.ats[place] = at;
        rest == [0; 5]
    }

    /// Writes the entry before `place` again, to the leaf's end.
    pub(super) fn repeat_from(&mut self, place: usize) {
        for place in place..LEAF as usize {
            self.ats[place] = self.ats[place - 1];
            self.deltas[place] = self.deltas[place - 1];
        }
    }

    #[inline]
    pub(super) fn offset(&self, place: usize) -> u64 {
        let [low, middle, high] = self.deltas[place];
        self.base + u64::from(u32::from_le_bytes([low, middle, high, 0]))
    }

    #[inline]
    pub(super) fn at(&self, place: usize) -> u32 {
        self.ats[place]
    }

    /// The last of the first `count` entries that starts at or before `offset`.
    #[inline]
    pub(super) fn find(&self, count: usize, offset: u64) -> Option<usize> {
        (0..count).rev().find(|place| self.offset(*place) <= offset)
    }
}

/// Sixteen nodes below, and where each begins. Three cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Inner {
    /// Offset of each child's first entry; the greatest number where no child has been yet.
    keys: [u64; FANOUT],
    /// While the node is free, the first is the next free node.
    children: [u32; FANOUT],
}

impl Inner {
    const EMPTY: Inner = Inner { keys: [u64::MAX; FANOUT], children: [NONE; FANOUT] };

    #[inline]
    pub(super) fn child(&self, place: usize) -> u32 {
        self.children[place]
    }

    pub(super) fn set(&mut self, place: usize, key: u64, child: u32) {
        (self.keys[place], self.children[place]) = (key, child);
    }

    /// Its entries are gone. The key stays: it is below those of the children that are left.
    pub(super) fn clear(&mut self, place: usize) {
        self.children[place] = NONE;
    }

    /// Place of the last child that begins at or before `offset`.
    #[inline]
    pub(super) fn find(&self, offset: u64) -> Option<usize> {
        self.keys.partition_point(|key| *key <= offset).checked_sub(1)
    }
}

/// How large an arena is.
#[derive(Clone, Copy, Debug)]
pub struct ArenaSize {
    leaves: usize,
    inner: usize,
    /// Free leaves below which the oldest segment is to be recycled.
    pub(super) low: usize,
}

impl ArenaSize {
    /// For `segments` segments of at most `records` records, in `streams` streams.
    pub fn new(segments: usize, records: usize, streams: usize) -> ArenaSize {
        // A stream may leave one leaf part empty at each end. Not every one of very many does at a time.
        let ends = (2 * streams).min(1 << 16);
        // Whatever streams the records of one segment are in, there are leaves for them: recycling all but the
        // newest segment always makes room.
        let least = (2 * streams).min(records);
        let leaves = (segments * records / LEAF as usize + ends).max(least) + 2;
        // A full level has a node for every 16 below it; short ones have fewer below, and more are needed.
        let inner = leaves / 8 + streams.min(1 << 16) + 4 * MAX_HEIGHT;
        ArenaSize { leaves, inner, low: records / 64 }
    }

    /// Bytes of the arena.
    pub fn bytes(&self) -> u64 {
        (self.leaves * size_of::<Leaf>() + self.inner * size_of::<Inner>()) as u64
    }
}

/// All nodes: those in use, lists of those that were given back, and room for those that were never used.
pub(super) struct Arena {
    leaves: Vec<Leaf>,
    inner: Vec<Inner>,
    first_free_leaf: u32,
    first_free_inner: u32,
    /// Leaves and inner nodes in all.
    room: (usize, usize),
    /// What can still be taken.
    pub(super) free_leaves: usize,
    pub(super) free_inner: usize,
}

impl Arena {
    /// An arena whose memory is there: in huge pages where the system gives them.
    pub(super) fn new(size: ArenaSize) -> Arena {
        Arena {
            leaves: vec_in_memory(size.leaves, Leaf::BLANK),
            inner: vec_in_memory(size.inner, Inner::EMPTY),
            first_free_leaf: NONE,
            first_free_inner: NONE,
            room: (size.leaves, size.inner),
            free_leaves: size.leaves,
            free_inner: size.inner,
        }
    }

    /// Adds free nodes.
    pub(super) fn grow(&mut self, leaves: usize, inner: usize) {
        self.room = (self.room.0 + leaves, self.room.1 + inner);
        (self.free_leaves, self.free_inner) = (self.free_leaves + leaves, self.free_inner + inner);
        self.leaves.reserve(self.free_leaves);
        self.inner.reserve(self.free_inner);
    }

    #[inline]
    pub(super) fn leaf(&self, leaf: u32) -> &Leaf {
        &self.leaves[leaf as usize]
    }

    #[inline]
    pub(super) fn leaf_mut(&mut self, leaf: u32) -> &mut Leaf {
        &mut self.leaves[leaf as usize]
    }

    #[inline]
    pub(super) fn inner(&self, node: u32) -> &Inner {
        &self.inner[node as usize]
    }

    #[inline]
    pub(super) fn inner_mut(&mut self, node: u32) -> &mut Inner {
        &mut self.inner[node as usize]
    }

    /// Asks the processor to bring a node near: a leaf, or an inner one.
    #[inline]
    pub(super) fn prefetch(&self, node: u32, is_leaf: bool) {
        let node = node as usize;
        if is_leaf {
            crate::copy::prefetch(self.leaves.as_ptr().wrapping_add(node).cast());
            return;
        }
        let inner = self.inner.as_ptr().wrapping_add(node).cast::<u8>();
        for line in 0..size_of::<Inner>() / 64 {
            crate::copy::prefetch(inner.wrapping_add(64 * line));
        }
    }

    /// A free leaf; there must be one.
    pub(super) fn take_leaf(&mut self) -> u32 {
        self.free_leaves -= 1;
        let leaf = self.first_free_leaf;
        if leaf == NONE {
            self.leaves.push(Leaf::BLANK);
            return self.leaves.len() as u32 - 1;
        }
        self.first_free_leaf = self.leaves[leaf as usize].ats[0];
        leaf
    }

    pub(super) fn give_leaf(&mut self, leaf: u32) {
        self.leaves[leaf as usize].ats[0] = self.first_free_leaf;
        self.first_free_leaf = leaf;
        self.free_leaves += 1;
    }

    /// A free inner node, empty; there must be one.
    pub(super) fn take_inner(&mut self) -> u32 {
        self.free_inner -= 1;
        let node = self.first_free_inner;
        if node == NONE {
            self.inner.push(Inner::EMPTY);
            return self.inner.len() as u32 - 1;
        }
        self.first_free_inner = self.inner[node as usize].children[0];
        self.inner[node as usize] = Inner::EMPTY;
        node
    }

    pub(super) fn give_inner(&mut self, node: u32) {
        self.inner[node as usize].children[0] = self.first_free_inner;
        self.first_free_inner = node;
        self.free_inner += 1;
    }

    /// Leaves and inner nodes in use.
    pub(super) fn nodes_out(&self) -> (usize, usize) {
        (self.room.0 - self.free_leaves, self.room.1 - self.free_inner)
    }
}
