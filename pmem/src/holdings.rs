//! Who has anything in which segment, noted while it is written.
//!
//! Recycling a segment has to know what it is the newest of, and what leaves the index with it. Its records say
//! that, but they are far away by then: reading them took a third of an append's time. So each stream,
//! publication and life that a segment of this start is the first to mention gets an entry in a ring, and
//! recycling reads that instead. Where the ring is full, and for segments that a start found, the
//! records are read (`docs/adr/0009-recycling-does-not-read.md`).

use std::ops::Range;

use crate::format::{LINE, SEGMENT_DATA_AT};
use crate::pages::vec_in_memory;
use crate::planted::{Bug, planted};
use crate::region::Region;
use crate::retire::{ANONYMOUS, Retire};
use crate::scan::read_header;
use crate::tables::{PublicationSlot, StreamSlot, TableLimits};
use crate::wal::{RecordAt, Wal};

/// A stream, a publication (both given) or a publisher's life (no stream) that a segment has records of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Holding {
    /// Stream id, 0: none.
    pub(crate) stream: u64,
    /// Publisher id, 0: none.
    pub(crate) publisher: u64,
    /// Bytes that were appended to the stream in all behind its last record in the segment; 0 where another entry
    /// of the segment says it.
    pub(crate) end: u64,
}

/// The entries of all segments of this start, in the order in which they were begun.
#[derive(Debug)]
pub(crate) struct Holdings {
    ring: Vec<Holding>,
    /// Numbers of the oldest entry, and of the next. They only rise, from 1 on.
    first: u64,
    next: u64,
    /// Number of the newest segment's first entry; greater than any when its records are not noted.
    begun: u64,
}

impl Holdings {
    pub(crate) fn new(capacity: usize) -> Holdings {
        let mut ring = vec_in_memory(capacity, Holding::default());
        ring.resize(capacity, Holding::default());
        Holdings { ring, first: 1, next: 1, begun: u64::MAX }
    }

    /// Entries for a log of `segments` segments of at most `records` records: one byte a record, and not more than can
    /// be used.
    pub(crate) fn capacity(limits: &TableLimits, segments: usize, records: usize) -> usize {
        let each = limits.streams + limits.publications + limits.publishers;
        let room = segments * records / size_of::<Holding>();
        // Where it was written again, a segment may mention everything twice.
        room.min(segments * 2 * each).next_power_of_two()
    }

    /// A segment begins. The number of its first entry.
    pub(crate) fn begin(&mut self) -> u64 {
        self.begun = self.next;
        self.next
    }

    /// True if the newest segment's entries are all there.
    pub(crate) fn are_complete(&self) -> bool {
        self.begun != u64::MAX
    }

    /// True if the newest segment is the first to mention what was last mentioned by entry `number`.
    #[inline(always)]
    fn is_new(&self, number: u64) -> bool {
        number < self.begun && self.are_complete()
    }

    #[inline(always)]
    fn place(&self, number: u64) -> usize {
        number as usize & (self.ring.len() - 1)
    }

    /// An entry between those that [`Holdings::begin`] named.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Holding {
        self.ring[self.place(number)]
    }

    /// Adds an entry. False where there is no room: then the newest segment's records are to be read.
    #[cold]
    fn push(&mut self, holding: Holding) -> bool {
        if self.next - self.first == self.ring.len() as u64 {
            self.begun = u64::MAX;
        }
        if !self.are_complete() {
            return false;
        }
        let place = self.place(self.next);
        self.ring[place] = holding;
        self.next += 1;
        true
    }

    /// Entries before this one are needed no more.
    pub(crate) fn release(&mut self, before: u64) {
        self.first = self.first.max(before);
    }
}

impl<R: Region> Wal<R> {
    /// Notes a batch that was appended.
    #[inline(always)]
    pub(crate) fn hold_data(&mut self, stream: StreamSlot, publication: PublicationSlot) {
        let state = &self.tables.streams[stream.0 as usize];
        let of = &self.tables.publications[publication.0 as usize];
        let named = of.publisher & ANONYMOUS == 0;
        let first = self.holdings.is_new(state.holding);
        let of_first = named && self.holdings.is_new(of.holding);
        if first || of_first && !planted(Bug::PublicationNotNoted) {
            self.hold(stream, Some(publication).filter(|_| named));
        }
        let state = &self.tables.streams[stream.0 as usize];
        if state.holding >= self.holdings.begun {
            let place = self.holdings.place(state.holding);
            self.holdings.ring[place].end = state.appended_bytes;
        }
    }

    /// Notes that the newest segment has a record of a stream, and of a publication of it.
    #[cold]
    pub(crate) fn hold(&mut self, stream: StreamSlot, publication: Option<PublicationSlot>) {
        let number = self.holdings.next;
        let state = &mut self.tables.streams[stream.0 as usize];
        let of = publication.map(|slot| &mut self.tables.publications[slot.0 as usize]);
        let publisher = of.as_ref().map_or(0, |of| of.publisher);
        if !self.holdings.push(Holding { stream: state.id, publisher, end: 0 }) {
            return;
        }
        if state.holding < self.holdings.begun {
            state.holding = number;
        }
        if let Some(of) = of {
            of.holding = number;
        }
    }

    /// Notes that the newest segment has a publisher's life.
    pub(crate) fn hold_life(&mut self, publisher: u64) {
        self.holdings.push(Holding { stream: 0, publisher, end: 0 });
    }

    /// Goes on letting go of what the entries of the oldest segment name, in at most `steps` small steps.
    pub(crate) fn retire_noted(&mut self, mut next: u64, mut begun: bool, steps: usize) {
        let (oldest, end) = (self.segments[0], self.segments[1].holdings);
        let base = self.base(oldest.slot);
        if next == oldest.holdings && !begun {
            // Another one's bytes are not wiped away: that is said, and recycling waits.
            let header = read_header(self.region.bytes(base, SEGMENT_DATA_AT as usize));
            let own = header.is_some_and(|header| header.generation() == oldest.generation);
            self.unreadable = (!own).then(|| RecordAt::new(base + SEGMENT_DATA_AT));
            if !own {
                return;
            }
        }
        let inside = base..base + self.region.slot_bytes();
        let mut left = steps;
        while left > 0 {
            if next == end {
                self.retire = Retire::Wiping { copies: 0, written: self.written };
                return;
            }
            let holding = self.holdings.get(next);
            // None: no room to write anything again. The next call tries again.
            if !begun && self.let_go(&holding, &inside).is_none() {
                break;
            }
            let popped = self.pop_inside(holding.stream, &inside, left);
            begun = popped == left;
            next += u64::from(!begun);
            left = left.saturating_sub(popped.max(1));
        }
        self.retire = Retire::Noted { next, begun };
    }

    /// Writes again what the oldest segment, which is inside, is the newest of, and releases the stream's records there.
    fn let_go(&mut self, holding: &Holding, inside: &Range<u64>) -> Option<()> {
        if holding.stream == 0 {
            return self.restate_life(holding.publisher, inside);
        }
        let Some(stream) = self.tables.stream_slot(holding.stream) else { return Some(()) };
        self.restate_publication(holding.publisher, stream, inside)?;
        self.restate_stream(stream, inside)?;
        let state = &mut self.tables.streams[stream.0 as usize];
        state.release(holding.end.saturating_sub(state.released_bytes));
        Some(())
    }

    /// Takes a stream's oldest records that are inside, at most `most` of them, out of the index. How many there were.
    fn pop_inside(&mut self, stream: u64, inside: &Range<u64>, most: usize) -> usize {
        let Some(slot) = self.tables.stream_slot(stream) else { return 0 };
        let inside = (inside.start / LINE) as u32..=((inside.end - 1) / LINE) as u32;
        let state = &mut self.tables.streams[slot.0 as usize];
        let popped = self.index.pop_inside(&mut state.entries, &inside, most);
        if popped > 0 {
            let front = self.index.front(&state.entries);
            state.earliest_offset = front.map_or(state.next_offset, |(offset, _)| offset);
        }
        popped
    }

    /// True if the oldest of a stream's records in the index is at one of the addresses.
    pub(crate) fn is_front_inside(&self, stream: StreamSlot, inside: &Range<u64>) -> bool {
        let front = self.index.front(&self.tables.streams[stream.0 as usize].entries);
        front.is_some_and(|(_, at)| inside.contains(&RecordAt::of_line(at).address()))
    }

    /// True if the stream's oldest record was released and is still in the index.
    pub(crate) fn is_letting_go_of(&self, stream: StreamSlot) -> bool {
        let Retire::Noted { next, begun: true } = self.retire else { return false };
        let base = self.base(self.segments[0].slot);
        self.holdings.get(next).stream == self.tables.streams[stream.0 as usize].id
            && self.is_front_inside(stream, &(base..base + self.region.slot_bytes()))
    }
}
