//! stream + offset -> record: per stream an append-only sequence of entries, popped at its front as segments
//! are recycled, in a radix tree of small fixed nodes from one arena that is made and touched at start.
//!
//! A stream without entries holds no node. The arena is made for the records that the log can hold; where very
//! many streams hold a few records each, its nodes may be used up before: then data is refused and the oldest
//! segment is recycled.

/// Entries of a leaf.
const LEAF: u64 = 8;
/// Children of an inner node.
const FANOUT: usize = 8;
const BITS: u32 = 3;
/// Levels of inner nodes that any number of entries needs.
const MAX_HEIGHT: usize = 21;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Leaf {
    offsets: [u64; LEAF as usize],
    /// While the leaf is free, the first is the next free leaf.
    ats: [u32; LEAF as usize],
}

/// While the node is free, the first child is the next free node.
type Inner = [u32; FANOUT];

/// One stream's entries. Their numbers rise; all of them may become lower whenever the front is popped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    root: u32,
    /// The leaf that holds the newest entry.
    last: u32,
    /// Inner levels above the leaves.
    height: u32,
    head: u64,
    tail: u64,
}

impl Entries {
    pub(crate) const EMPTY: Entries =
        Entries { root: NONE, last: NONE, height: 0, head: 0, tail: 0 };

    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail
    }
}

/// How large an arena is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArenaSize {
    leaves: usize,
    inner: usize,
    /// Free leaves below which the oldest segment is to be recycled.
    low: usize,
}

impl ArenaSize {
    /// For `segments` segments of at most `records` records, in `streams` streams.
    pub(crate) fn new(segments: usize, records: usize, streams: usize) -> ArenaSize {
        // A stream may leave one leaf part empty at each end. Not every one of very many does at a time.
        let ends = (2 * streams).min(1 << 16);
        // Whatever streams the records of one segment are in, there are leaves for them: recycling all but the
        // newest segment always makes room.
        let least = (2 * streams).min(records);
        let leaves = (segments * records / LEAF as usize + ends).max(least) + 2;
        // Each level has a node for every 8 below it, and a part-empty one at each end.
        let inner = leaves / 4 + streams.min(1 << 16) + 4 * MAX_HEIGHT;
        ArenaSize { leaves, inner, low: records / 64 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        (self.leaves * size_of::<Leaf>() + self.inner * size_of::<Inner>()) as u64
    }
}

/// The arena of all streams' nodes.
pub(crate) struct Index {
    leaves: Vec<Leaf>,
    inner: Vec<Inner>,
    first_free_leaf: u32,
    first_free_inner: u32,
    free_leaves: usize,
    free_inner: usize,
    low: usize,
}

impl Index {
    pub(crate) fn new(size: ArenaSize) -> Index {
        let mut index = Index {
            leaves: Vec::with_capacity(size.leaves),
            inner: Vec::with_capacity(size.inner),
            first_free_leaf: NONE,
            first_free_inner: NONE,
            free_leaves: 0,
            free_inner: 0,
            low: size.low,
        };
        index.grow(size.leaves, size.inner);
        index
    }

    /// Adds free nodes; the lowest are used first.
    fn grow(&mut self, leaves: usize, inner: usize) {
        let first = self.leaves.len() as u32;
        // A value other than zero makes the allocator touch every page now.
        let blank = Leaf { offsets: [1; LEAF as usize], ats: [1; LEAF as usize] };
        self.leaves.resize(self.leaves.len() + leaves, blank);
        (first..self.leaves.len() as u32).rev().for_each(|leaf| self.give_leaf(leaf));
        let first = self.inner.len() as u32;
        self.inner.resize(self.inner.len() + inner, [NONE; FANOUT]);
        (first..self.inner.len() as u32).rev().for_each(|node| self.give_inner(node));
    }

    /// True when the next push to any stream finds its nodes.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.free_leaves > 0 && self.free_inner > MAX_HEIGHT
    }

    /// True when room runs short.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.free_leaves <= self.low || self.free_inner <= self.low / 8 + 2 * MAX_HEIGHT
    }

    /// Makes room by taking more memory. For recovery: the log may hold again what was given up before.
    pub(crate) fn make_room(&mut self) {
        if !self.has_room() {
            self.grow(1024, 1024);
        }
    }

    /// Appends an entry. The caller has asked [`Index::has_room`].
    #[inline]
    pub(crate) fn push(&mut self, entries: &mut Entries, offset: u64, at: u32) {
        let place = (entries.tail % LEAF) as usize;
        if place == 0 {
            self.add_leaf(entries);
        }
        let leaf = &mut self.leaves[entries.last as usize];
        leaf.offsets[place] = offset;
        leaf.ats[place] = at;
        entries.tail += 1;
    }

    /// The oldest entry: offset and record.
    #[inline]
    pub(crate) fn front(&self, entries: &Entries) -> Option<(u64, u32)> {
        (!entries.is_empty()).then(|| self.get(entries, entries.head))
    }

    /// Removes the oldest entry.
    pub(crate) fn pop_front(&mut self, entries: &mut Entries) {
        if entries.is_empty() {
            return;
        }
        let leaf = entries.head / LEAF;
        entries.head += 1;
        if entries.is_empty() {
            self.free_path(entries, leaf, true);
            *entries = Entries::EMPTY;
        } else if entries.head.is_multiple_of(LEAF) {
            self.free_path(entries, leaf, false);
            self.lower(entries);
        }
    }

    /// Number of the entry whose batch holds `offset`: the last one that starts at or before it. `hint` is tried
    /// first, and the one behind it.
    #[inline]
    pub(crate) fn find(&self, entries: &Entries, offset: u64, hint: u64) -> Option<u64> {
        for number in [hint, hint.wrapping_add(1)] {
            if number >= entries.head
                && number < entries.tail
                && self.get(entries, number).0 <= offset
                && (number + 1 == entries.tail || self.get(entries, number + 1).0 > offset)
            {
                return Some(number);
            }
        }
        let after = self.partition(entries, |start, _| start <= offset);
        (after > entries.head).then(|| after - 1)
    }

    /// Number of the first entry for which `before` is false, given that it is true up to there; the end if
    /// there is none.
    pub(crate) fn partition(&self, entries: &Entries, before: impl Fn(u64, u32) -> bool) -> u64 {
        let (mut low, mut high) = (entries.head, entries.tail);
        while low < high {
            let middle = low + (high - low) / 2;
            let (offset, at) = self.get(entries, middle);
            if before(offset, at) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Entry `number`, which must be one.
    #[inline]
    pub(crate) fn get(&self, entries: &Entries, number: u64) -> (u64, u32) {
        let mut node = entries.root;
        for level in (0..entries.height).rev() {
            node = self.inner[node as usize][child(number / LEAF, level)];
        }
        let (leaf, place) = (&self.leaves[node as usize], (number % LEAF) as usize);
        (leaf.offsets[place], leaf.ats[place])
    }

    /// Entry `number` if there is one.
    #[inline]
    pub(crate) fn entry(&self, entries: &Entries, number: u64) -> Option<(u64, u32)> {
        (number >= entries.head && number < entries.tail).then(|| self.get(entries, number))
    }

    /// Adds the leaf for the next entry, and the inner nodes above it.
    fn add_leaf(&mut self, entries: &mut Entries) {
        let number = entries.tail / LEAF;
        let new = self.take_leaf();
        entries.last = new;
        if entries.root == NONE {
            entries.root = new;
            return;
        }
        while number >> (BITS * entries.height) != 0 {
            let root = self.take_inner();
            self.inner[root as usize][0] = entries.root;
            entries.root = root;
            entries.height += 1;
        }
        let mut node = entries.root;
        for level in (1..entries.height).rev() {
            let place = child(number, level);
            if self.inner[node as usize][place] == NONE {
                let below = self.take_inner();
                self.inner[node as usize][place] = below;
            }
            node = self.inner[node as usize][place];
        }
        self.inner[node as usize][child(number, 0)] = new;
    }

    /// Frees a leaf that was popped empty, and the inner nodes whose last child it was: all above it when it is
    /// the stream's `only` leaf.
    fn free_path(&mut self, entries: &Entries, leaf: u64, only: bool) {
        let mut path = [NONE; MAX_HEIGHT + 1];
        let mut node = entries.root;
        for level in (0..entries.height).rev() {
            path[level as usize] = node;
            node = self.inner[node as usize][child(leaf, level)];
        }
        self.give_leaf(node);
        for level in 0..entries.height {
            let parent = path[level as usize];
            self.inner[parent as usize][child(leaf, level)] = NONE;
            if child(leaf, level) != FANOUT - 1 && !only {
                return;
            }
            self.give_inner(parent);
        }
    }

    /// Takes off the root while it has one child, and numbers the entries from that child's first: a stream that
    /// holds few records has few nodes, however long it lives.
    fn lower(&mut self, entries: &mut Entries) {
        while entries.height > 0 {
            let level = entries.height - 1;
            let first = child(entries.head / LEAF, level);
            if first != child((entries.tail - 1) / LEAF, level) {
                return;
            }
            let root = entries.root;
            entries.root = self.inner[root as usize][first];
            self.give_inner(root);
            let skipped = ((first as u64) << (BITS * level)) * LEAF;
            entries.head -= skipped;
            entries.tail -= skipped;
            entries.height = level;
        }
    }

    fn take_leaf(&mut self) -> u32 {
        let leaf = self.first_free_leaf;
        self.first_free_leaf = self.leaves[leaf as usize].ats[0];
        self.free_leaves -= 1;
        leaf
    }

    fn give_leaf(&mut self, leaf: u32) {
        self.leaves[leaf as usize].ats[0] = self.first_free_leaf;
        self.first_free_leaf = leaf;
        self.free_leaves += 1;
    }

    fn take_inner(&mut self) -> u32 {
        let node = self.first_free_inner;
        self.first_free_inner = self.inner[node as usize][0];
        self.free_inner -= 1;
        self.inner[node as usize] = [NONE; FANOUT];
        node
    }

    fn give_inner(&mut self, node: u32) {
        self.inner[node as usize][0] = self.first_free_inner;
        self.first_free_inner = node;
        self.free_inner += 1;
    }

    #[cfg(test)]
    fn nodes_out(&self) -> (usize, usize) {
        (self.leaves.len() - self.free_leaves, self.inner.len() - self.free_inner)
    }
}

#[inline]
fn child(leaf: u64, level: u32) -> usize {
    (leaf >> (BITS * level)) as usize % FANOUT
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// The index against a plain queue, over pushes, pops and look-ups that a simple generator picks.
    #[test]
    fn it_agrees_with_a_plain_queue() {
        for (seed, pop_every) in [(1u64, 2u64), (2, 3), (3, 50), (4, 1)] {
            let mut index = Index::new(ArenaSize::new(1, 50_000, 1));
            let mut entries = Entries::EMPTY;
            let mut model: VecDeque<(u64, u32)> = VecDeque::new();
            let mut state = seed;
            let mut offset = 0;
            for step in 0..120_000u64 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let random = state >> 33;
                // Phases of growth and of shrinking, so that the queue also runs empty.
                let growing = (step / 20_000) % 2 == 0;
                if growing == (random % 8 < 6) && model.len() < 40_000 {
                    assert!(index.has_room());
                    index.push(&mut entries, offset, step as u32);
                    model.push_back((offset, step as u32));
                    offset += 1 + random % 17;
                } else if random % pop_every == 0 {
                    assert_eq!(index.front(&entries), model.front().copied());
                    index.pop_front(&mut entries);
                    model.pop_front();
                }
                if let (Some(first), 0) = (model.front(), step % 16) {
                    let wanted = first.0 + random % (offset - first.0 + 5);
                    let at = model.partition_point(|(start, _)| *start <= wanted) - 1;
                    let found =
                        index.find(&entries, wanted, random % 64).map(|n| index.get(&entries, n));
                    assert_eq!(found, model.get(at).copied());
                }
            }
            while !entries.is_empty() {
                index.pop_front(&mut entries);
            }
            assert_eq!(index.nodes_out(), (0, 0), "nodes were kept");
        }
    }
    /// However long a stream lives, what it costs goes by what it holds.
    #[test]
    fn few_entries_take_few_nodes() {
        let mut index = Index::new(ArenaSize::new(1, 10_000, 1));
        let mut entries = Entries::EMPTY;
        let (mut most_leaves, mut most_inner) = (0, 0);
        for number in 0..2_000_000u64 {
            index.push(&mut entries, number, number as u32);
            if entries.tail - entries.head > 20 {
                index.pop_front(&mut entries);
            }
            let (leaves, inner) = index.nodes_out();
            (most_leaves, most_inner) = (most_leaves.max(leaves), most_inner.max(inner));
            assert_eq!(
                index.front(&entries),
                Some((number.saturating_sub(19), number.saturating_sub(19) as u32))
            );
        }
        assert!(most_leaves <= 4 && most_inner <= 5, "{most_leaves} leaves, {most_inner} inner");
    }

    #[test]
    fn an_arena_that_is_used_up_says_so_and_gets_room_again() {
        let mut index = Index::new(ArenaSize::new(1, 100, 40));
        let mut streams = vec![Entries::EMPTY; 200];
        let mut filled = 0;
        while index.has_room() {
            index.push(&mut streams[filled], 0, 0);
            filled += 1;
        }
        assert!(filled == 94 && index.is_short());
        index.pop_front(&mut streams[0]);
        assert!(index.has_room());
        index.push(&mut streams[0], 0, 0);
        index.make_room();
        assert!(index.has_room());
    }
}
