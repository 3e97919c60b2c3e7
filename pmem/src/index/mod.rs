//! The index of a log: for each stream, the offset of each record and where it is.
//!
//! A stream's entries are numbered; they are appended at the end and popped at the front, as segments
//! are recycled, in a tree of small fixed nodes from one arena that is made and touched at start. A
//! tree is searched by an entry's number and by offset.
//!
//! A stream without entries holds no node. The arena is made for the records that the log can hold; where very
//! many streams hold a few records each, its nodes may be used up before: then the oldest segments
//! are taken out and looked up in their footers ([`crate::footer`]) or, where nobody makes those, recycled.

mod nodes;

use std::ops::RangeInclusive;

use nodes::{Arena, BITS, FANOUT, LEAF, MAX_HEIGHT, NONE};

pub use nodes::ArenaSize;

/// Look-ups of one [`Index::find_batch`] at most.
pub const BATCH: usize = 16;

/// One stream's entries. Their numbers rise; all of them may become lower whenever the front is popped.
///
/// Where offsets jump by more than a leaf can say (lost ones that were accepted), the entry before the jump
/// is there several times, up to the end of its leaf.
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    root: u32,
    /// The leaves that hold the oldest and the newest entry.
    first: u32,
    last: u32,
    /// Inner levels above the leaves.
    height: u32,
    head: u64,
    tail: u64,
}

impl Entries {
    /// None yet.
    pub const EMPTY: Entries =
        Entries { root: NONE, first: NONE, last: NONE, height: 0, head: 0, tail: 0 };

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }
}

// Two to a cache line.
const _: () = assert!(size_of::<Entries>() == 32);

/// The arena of all streams' nodes, and what is done with them.
pub struct Index {
    arena: Arena,
    low: usize,
}

impl Index {
    /// An index without entries. Takes as long as it takes to touch its memory.
    pub fn new(size: ArenaSize) -> Index {
        Index { arena: Arena::new(size), low: size.low }
    }

    /// True when the next push to any stream finds its nodes.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.arena.free_leaves > 0 && self.arena.free_inner > MAX_HEIGHT
    }

    /// Bytes of the nodes in use.
    pub fn bytes_used(&self) -> u64 {
        let (leaves, inner) = self.arena.nodes_out();
        (leaves * size_of::<nodes::Leaf>() + inner * size_of::<nodes::Inner>()) as u64
    }

    /// True when room runs short.
    #[inline]
    pub(crate) fn is_short(&self) -> bool {
        self.arena.free_leaves <= self.low || self.arena.free_inner <= self.low / 8 + 2 * MAX_HEIGHT
    }

    /// Makes room by taking more memory. For recovery: the log may hold again what was given up before.
    pub(crate) fn make_room(&mut self) {
        if !self.has_room() {
            self.arena.grow(1024, 1024);
        }
    }

    /// Appends an entry. The caller has asked [`Index::has_room`].
    #[inline(always)]
    pub fn push(&mut self, entries: &mut Entries, offset: u64, at: u32) {
        let place = (entries.tail % LEAF) as usize;
        if place == 0 {
            self.add_leaf(entries, offset);
        }
        if !self.arena.leaf_mut(entries.last).set(place, offset, at) {
            self.arena.leaf_mut(entries.last).repeat_from(place);
            entries.tail += LEAF - place as u64;
            self.add_leaf(entries, offset);
            self.arena.leaf_mut(entries.last).set(0, offset, at);
        }
        entries.tail += 1;
    }

    /// The oldest entry: offset and record.
    #[inline]
    pub(crate) fn front(&self, entries: &Entries) -> Option<(u64, u32)> {
        (!entries.is_empty()).then(|| {
            let (leaf, place) = (self.arena.leaf(entries.first), (entries.head % LEAF) as usize);
            (leaf.offset(place), leaf.at(place))
        })
    }

    /// Removes the oldest entry.
    pub(crate) fn pop_front(&mut self, entries: &mut Entries) {
        if entries.is_empty() {
            return;
        }
        let number = entries.head / LEAF;
        let leaf = self.arena.leaf(entries.first);
        let at = leaf.at((entries.head % LEAF) as usize);
        let left = entries.tail.min((number + 1) * LEAF) - entries.head;
        let again =
            (1..left).take_while(|next| leaf.at(((entries.head + next) % LEAF) as usize) == at);
        entries.head += 1 + again.count() as u64;
        self.leave(entries, number);
    }

    /// Removes the oldest entries, at most `most`, whose records are inside. How many there were.
    pub(crate) fn pop_inside(
        &mut self,
        entries: &mut Entries,
        inside: &RangeInclusive<u32>,
        most: usize,
    ) -> usize {
        let mut popped = 0;
        while !entries.is_empty() {
            let number = entries.head / LEAF;
            let leaf = self.arena.leaf(entries.first);
            let place = (entries.head % LEAF) as usize;
            let end = (entries.tail - number * LEAF).min(LEAF) as usize;
            let left = most - popped;
            let here = (place..end).take(left);
            let gone = here.take_while(|place| inside.contains(&leaf.at(*place))).count();
            if gone == 0 {
                break;
            }
            popped += gone;
            entries.head += gone as u64;
            self.leave(entries, number);
        }
        popped
    }

    /// Gives nodes back behind entries that are gone: those up to the head, which was in leaf `number`.
    fn leave(&mut self, entries: &mut Entries, number: u64) {
        if entries.is_empty() {
            self.free_path(entries, number, true);
            *entries = Entries::EMPTY;
        } else if entries.head.is_multiple_of(LEAF) {
            self.free_path(entries, number, false);
            self.lower(entries);
            let first = entries.head / LEAF;
            entries.first = self.node_of(entries, first);
            if entries.tail > (first + 1) * LEAF {
                // Where this goes on before long.
                self.arena.prefetch(self.node_of(entries, first + 1), true);
            }
        }
    }

    /// Number of the entry whose batch holds `offset`: the last one that starts at or before it. `hint` is tried
    /// first, and the one behind it.
    #[inline]
    pub fn find(&self, entries: &Entries, offset: u64, hint: u64) -> Option<u64> {
        for number in [hint, hint.wrapping_add(1)] {
            if number >= entries.head
                && number < entries.tail
                && self.get(entries, number).0 <= offset
                && (number + 1 == entries.tail || self.get(entries, number + 1).0 > offset)
            {
                return Some(number);
            }
        }
        if entries.is_empty() {
            return None;
        }
        let mut cursor = Cursor::at_root(entries);
        while cursor.level > 0 {
            self.descend(&mut cursor, offset)?;
        }
        self.find_in_leaf(entries, cursor, offset)
    }

    /// [`Index::find`] for up to [`BATCH`] offsets at a time: waits for their memory together. What is found of
    /// each comes in `found`: the records themselves.
    #[inline]
    pub fn find_batch(&self, wanted: &[(Entries, u64)], found: &mut [Option<u32>; BATCH]) {
        let mut cursors = [Cursor { node: NONE, level: 0, number: 0 }; BATCH];
        let mut highest = 0;
        for (cursor, (entries, _)) in cursors.iter_mut().zip(wanted) {
            *cursor = Cursor::at_root(entries);
            highest = highest.max(cursor.level);
            self.arena.prefetch(cursor.node, cursor.level == 0);
        }
        for _ in 0..highest {
            for (cursor, (_, offset)) in cursors.iter_mut().zip(wanted) {
                if cursor.level > 0 && cursor.node != NONE {
                    if self.descend(cursor, *offset).is_none() {
                        cursor.node = NONE;
                    }
                    self.arena.prefetch(cursor.node, cursor.level == 0);
                }
            }
        }
        for ((cursor, (entries, offset)), found) in cursors.into_iter().zip(wanted).zip(found) {
            *found = (cursor.node != NONE)
                .then(|| self.find_in_leaf(entries, cursor, *offset))
                .flatten()
                .map(|number| self.arena.leaf(cursor.node).at((number % LEAF) as usize));
        }
    }

    /// One level down, towards `offset`.
    #[inline]
    fn descend(&self, cursor: &mut Cursor, offset: u64) -> Option<()> {
        let inner = self.arena.inner(cursor.node);
        let place = inner.find(offset)?;
        cursor.node = inner.child(place);
        cursor.level -= 1;
        cursor.number = cursor.number << BITS | place as u64;
        (cursor.node != NONE).then_some(())
    }

    #[inline]
    fn find_in_leaf(&self, entries: &Entries, cursor: Cursor, offset: u64) -> Option<u64> {
        let first = cursor.number * LEAF;
        let count = entries.tail.saturating_sub(first).min(LEAF) as usize;
        let number = first + self.arena.leaf(cursor.node).find(count, offset)? as u64;
        (number >= entries.head).then_some(number)
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

    /// Node of the leaf with this number, which must be there.
    #[inline]
    fn node_of(&self, entries: &Entries, number: u64) -> u32 {
        let mut node = entries.root;
        for level in (0..entries.height).rev() {
            node = self.arena.inner(node).child(child(number, level));
        }
        node
    }

    /// Entry `number`, which must be one.
    #[inline]
    pub(crate) fn get(&self, entries: &Entries, number: u64) -> (u64, u32) {
        let leaf = self.arena.leaf(self.node_of(entries, number / LEAF));
        let place = (number % LEAF) as usize;
        (leaf.offset(place), leaf.at(place))
    }

    /// Entry `number` if there is one.
    #[inline]
    pub fn entry(&self, entries: &Entries, number: u64) -> Option<(u64, u32)> {
        (number >= entries.head && number < entries.tail).then(|| self.get(entries, number))
    }

    /// Adds the leaf for the next entry, whose offset is `offset`, and the inner nodes above it.
    fn add_leaf(&mut self, entries: &mut Entries, offset: u64) {
        let number = entries.tail / LEAF;
        let new = self.arena.take_leaf();
        entries.last = new;
        if entries.root == NONE {
            (entries.root, entries.first) = (new, new);
            return;
        }
        while number >> (BITS * entries.height) != 0 {
            let root = self.arena.take_inner();
            self.arena.inner_mut(root).set(0, 0, entries.root);
            entries.root = root;
            entries.height += 1;
        }
        let mut node = entries.root;
        for level in (1..entries.height).rev() {
            let place = child(number, level);
            if self.arena.inner(node).child(place) == NONE {
                let below = self.arena.take_inner();
                self.arena.inner_mut(node).set(place, offset, below);
            }
            node = self.arena.inner(node).child(place);
        }
        self.arena.inner_mut(node).set(child(number, 0), offset, new);
    }

    /// Frees a leaf that was popped empty, and the inner nodes whose last child it was: all above it when it is
    /// the stream's `only` leaf.
    fn free_path(&mut self, entries: &Entries, leaf: u64, only: bool) {
        let mut path = [NONE; MAX_HEIGHT + 1];
        let mut node = entries.root;
        for level in (0..entries.height).rev() {
            path[level as usize] = node;
            node = self.arena.inner(node).child(child(leaf, level));
        }
        self.arena.give_leaf(node);
        for level in 0..entries.height {
            let parent = path[level as usize];
            self.arena.inner_mut(parent).clear(child(leaf, level));
            if child(leaf, level) != FANOUT - 1 && !only {
                return;
            }
            self.arena.give_inner(parent);
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
            entries.root = self.arena.inner(root).child(first);
            self.arena.give_inner(root);
            let skipped = ((first as u64) << (BITS * level)) * LEAF;
            entries.head -= skipped;
            entries.tail -= skipped;
            entries.height = level;
        }
    }
}

/// Where a search by offset is.
#[derive(Clone, Copy)]
struct Cursor {
    node: u32,
    /// Inner levels from here to the leaves.
    level: u32,
    /// Number of the node among those of its level.
    number: u64,
}

impl Cursor {
    #[inline]
    fn at_root(entries: &Entries) -> Cursor {
        Cursor { node: entries.root, level: entries.height, number: 0 }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("free_leaves", &self.arena.free_leaves)
            .finish_non_exhaustive()
    }
}

#[inline]
fn child(leaf: u64, level: u32) -> usize {
    (leaf >> (BITS * level)) as usize % FANOUT
}

#[cfg(test)]
mod tests;
