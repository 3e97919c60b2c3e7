//! stream + offset -> record: per stream an append-only sequence of entries, popped at its front as segments
//! are recycled, in a radix tree of fixed nodes from one arena that is made and touched at start.

const FANOUT: usize = 32;
const BITS: u32 = 5;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Leaf {
    offsets: [u64; FANOUT],
    ats: [u32; FANOUT],
}

/// One stream's entries, numbered from 0 over its whole life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    root: u32,
    /// Inner levels above the leaf.
    height: u32,
    head: u64,
    tail: u64,
}

impl Entries {
    pub(crate) const EMPTY: Entries = Entries { root: NONE, height: 0, head: 0, tail: 0 };

    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail
    }
}

/// The arena of all streams' nodes.
pub(crate) struct Index {
    leaves: Vec<Leaf>,
    free_leaves: Vec<u32>,
    inner: Vec<[u32; FANOUT]>,
    free_inner: Vec<u32>,
}

impl Index {
    /// An arena for `records` entries in `streams` streams.
    pub(crate) fn new(records: usize, streams: usize) -> Index {
        // A stream may leave one leaf part empty at each end.
        let leaves = records / FANOUT + 2 * streams + 2;
        // Each level has a node for every 32 below it, and a part-empty one at each end.
        let inner = leaves / (FANOUT - 1) + 16 * streams + 16;
        // A value other than zero makes the allocator touch every page now.
        Index {
            leaves: vec![Leaf { offsets: [1; FANOUT], ats: [1; FANOUT] }; leaves],
            free_leaves: (0..leaves as u32).rev().collect(),
            inner: vec![[NONE; FANOUT]; inner],
            free_inner: (0..inner as u32).rev().collect(),
        }
    }

    /// True when the next push to any stream finds its nodes.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        !self.free_leaves.is_empty() && self.free_inner.len() >= 16
    }

    /// Appends an entry. The caller has asked [`Index::has_room`].
    #[inline]
    pub(crate) fn push(&mut self, entries: &mut Entries, offset: u64, at: u32) {
        let number = entries.tail;
        if number.is_multiple_of(FANOUT as u64) {
            self.add_leaf(entries, number / FANOUT as u64);
        }
        let leaf = self.leaf(entries, number / FANOUT as u64);
        let place = number as usize % FANOUT;
        self.leaves[leaf as usize].offsets[place] = offset;
        self.leaves[leaf as usize].ats[place] = at;
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
        let number = entries.head;
        entries.head += 1;
        if entries.head.is_multiple_of(FANOUT as u64) {
            self.free_leaf(entries, number / FANOUT as u64);
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
        let leaf = &self.leaves[self.leaf(entries, number / FANOUT as u64) as usize];
        let place = number as usize % FANOUT;
        (leaf.offsets[place], leaf.ats[place])
    }

    /// Entry `number` if there is one.
    #[inline]
    pub(crate) fn entry(&self, entries: &Entries, number: u64) -> Option<(u64, u32)> {
        (number >= entries.head && number < entries.tail).then(|| self.get(entries, number))
    }

    #[inline]
    fn leaf(&self, entries: &Entries, leaf: u64) -> u32 {
        let mut node = entries.root;
        for level in (0..entries.height).rev() {
            node = self.inner[node as usize][child(leaf, level)];
        }
        node
    }

    fn add_leaf(&mut self, entries: &mut Entries, leaf: u64) {
        let Some(new) = self.free_leaves.pop() else { return };
        if entries.is_empty() && entries.root == NONE {
            // The numbering goes on after everything was popped: the tree is as high as the number is.
            entries.height = 0;
            while leaf >> (BITS * entries.height) != 0 {
                entries.height += 1;
            }
        } else {
            while leaf >> (BITS * entries.height) != 0 {
                let root = self.new_inner();
                self.inner[root as usize][child(leaf - 1, entries.height)] = entries.root;
                entries.root = root;
                entries.height += 1;
            }
        }
        if entries.height == 0 {
            entries.root = new;
            return;
        }
        if entries.root == NONE {
            entries.root = self.new_inner();
        }
        let mut node = entries.root;
        for level in (1..entries.height).rev() {
            let place = child(leaf, level);
            if self.inner[node as usize][place] == NONE {
                let below = self.new_inner();
                self.inner[node as usize][place] = below;
            }
            node = self.inner[node as usize][place];
        }
        self.inner[node as usize][child(leaf, 0)] = new;
    }

    /// Frees a leaf that was popped empty, and the inner nodes whose last child it was.
    fn free_leaf(&mut self, entries: &mut Entries, leaf: u64) {
        let mut path = [NONE; 14];
        let mut node = entries.root;
        for level in (0..entries.height).rev() {
            path[level as usize] = node;
            node = self.inner[node as usize][child(leaf, level)];
        }
        self.free_leaves.push(node);
        let last = entries.is_empty();
        for level in 0..entries.height {
            let parent = path[level as usize];
            self.inner[parent as usize][child(leaf, level)] = NONE;
            if child(leaf, level) != FANOUT - 1 && !last {
                return;
            }
            self.free_inner.push(parent);
        }
        entries.root = NONE;
        entries.height = 0;
    }

    fn new_inner(&mut self) -> u32 {
        let node = self.free_inner.pop().expect("has_room was asked");
        self.inner[node as usize] = [NONE; FANOUT];
        node
    }

    #[cfg(test)]
    fn nodes_out(&self) -> (usize, usize) {
        (self.leaves.len() - self.free_leaves.len(), self.inner.len() - self.free_inner.len())
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
            let mut index = Index::new(50_000, 1);
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
            let (leaves, inner) = index.nodes_out();
            assert!(
                leaves <= 1 && inner <= 14,
                "{leaves} leaves and {inner} inner nodes were kept"
            );
        }
    }
}
