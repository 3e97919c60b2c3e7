//! The older part of a log whose index has no room for all of it: the oldest segments are looked up in their footers.
//!
//! When room in the index runs short, the log asks for the footer of the oldest segment that is still in the index
//! ([`Wal::next_sealed`] lends it for that), and takes the segment's entries out a few at a time. A stream's records are
//! then in two parts: those from the index's first on are found there, what is older in the footers. Nothing here
//! allocates.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::footer::{Extent, Footer, Place, hash_of_stream};
use crate::format::{RECORD_HEADER_BYTES, RecordHeader};
use crate::planted::{Bug, planted};
use crate::region::Region;
use crate::tables::{StreamSlot, StreamState};
use crate::wal::{PATIENCE_NS, Record, RecordAt, Segment, Wal};

/// Marks the number of a record that is found in a footer: then come the segment's sequence and the record's place there.
const OLDER: u64 = 1 << 63;
/// Bits of a number that are the place.
const PLACE_BITS: u32 = 32;
/// Footers whose filters are asked for together.
const TOGETHER: usize = 64;

/// Which segments are in footers, and what is waited for.
#[derive(Debug)]
pub(crate) struct Older {
    /// Footers of the log's oldest segments, as many as are not (or not whole) in the index.
    footers: VecDeque<Arc<Footer>>,
    /// How far the newest of them was taken out of the index: the next extent.
    falling: Option<usize>,
    pub(crate) asked: Asked,
    /// Somebody makes footers when they are asked for.
    made: bool,
    /// Bytes that footers may take, and take.
    limit: u64,
    bytes: u64,
    /// The next footer does not fit the limit.
    full: bool,
    /// Data was refused for want of room in the index since this moment.
    refused_since: Option<u64>,
    /// That lasts too long: the oldest segment is recycled although others are free.
    impatient: bool,
    /// Some stream's offsets jump: not every record begins where the one before it ends.
    pub(crate) jumps: bool,
}

/// Whether a footer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// No.
    No,
    /// The segment is to be lent for it.
    Wanted,
    /// The segment was lent for it.
    Lent,
}

impl Older {
    /// Nothing yet; of a log of at most `segments` segments.
    pub(crate) fn new(segments: u32, limit: u64) -> Older {
        Older {
            footers: VecDeque::with_capacity(segments as usize + 1),
            falling: None,
            asked: Asked::No,
            made: false,
            limit,
            bytes: 0,
            full: false,
            refused_since: None,
            impatient: false,
            jumps: false,
        }
    }

    /// Segments that are in footers.
    pub(crate) fn segments(&self) -> usize {
        self.footers.len()
    }

    /// True while a segment is taken out of the index.
    #[inline]
    pub(crate) fn falls(&self) -> bool {
        self.falling.is_some()
    }

    /// The oldest segment is recycled.
    pub(crate) fn pop(&mut self) {
        if let Some(footer) = self.footers.pop_front() {
            self.bytes -= footer.bytes().len() as u64;
            if self.footers.is_empty() {
                self.falling = None;
            }
        }
        self.full = false;
        self.impatient = false;
        self.refused_since = None;
    }

    /// Takes the footer that was asked for.
    fn take(&mut self, footer: Arc<Footer>) {
        let bytes = footer.bytes().len() as u64;
        if self.bytes + bytes > self.limit {
            self.full = true;
            return;
        }
        self.bytes += bytes;
        self.footers.push_back(footer);
        self.falling = Some(0);
        (self.refused_since, self.impatient) = (None, false);
    }

    /// Notes that data was refused at this moment for want of room in the index.
    #[cold]
    pub(crate) fn refuse(&mut self, moment: u64) {
        let since = *self.refused_since.get_or_insert(moment);
        self.impatient = moment.saturating_sub(since) >= PATIENCE_NS;
    }

    /// The footer that holds the number, and the place.
    fn place(&self, number: u64) -> Option<(usize, usize)> {
        if number & OLDER == 0 {
            return None;
        }
        let sequence = (number & !OLDER) >> PLACE_BITS;
        let first = self.footers.front()?.header().sequence.get();
        let ahead = sequence.wrapping_sub(first) & (!OLDER >> PLACE_BITS);
        // Without gaps in the numbers it is where it is counted to be.
        let footer = self.footers.get(ahead as usize)?;
        let same = footer.header().sequence.get() & (!OLDER >> PLACE_BITS) == sequence;
        same.then_some((ahead as usize, number as u32 as usize))
    }

    fn number(&self, (footer, place): (usize, usize)) -> u64 {
        let sequence = self.footers[footer].header().sequence.get();
        OLDER | (sequence << PLACE_BITS & !OLDER) | place as u64
    }

    /// The last extent of a stream for whose first record `before` says true, given that it does for all before such a
    /// one: its footer, and itself.
    fn last_extent(
        &self,
        stream: u64,
        before: impl Fn(usize, &Extent) -> bool,
    ) -> Option<(usize, Extent)> {
        let hash = hash_of_stream(stream);
        self.footers.iter().rev().take(TOGETHER).for_each(|footer| footer.prefetch(hash));
        let (mut low, mut high) = (0, self.footers.len());
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.holding(stream, hash, low, middle) {
                None => low = middle + 1,
                Some((number, extents)) => {
                    let last = extents.iter().rfind(|extent| before(number, extent));
                    match last {
                        Some(extent) => {
                            best = Some((number, *extent));
                            low = middle + 1;
                        }
                        None => high = number,
                    }
                }
            }
        }
        best
    }

    /// The newest footer from number `low` to `high` that holds a stream, and the stream's extents in it.
    fn holding(
        &self,
        stream: u64,
        hash: u64,
        low: usize,
        high: usize,
    ) -> Option<(usize, &[Extent])> {
        (low..=high).rev().find_map(|number| Some((number, self.extents(stream, hash, number)?)))
    }

    fn extents(&self, stream: u64, hash: u64, number: usize) -> Option<&[Extent]> {
        let footer = &self.footers[number];
        if !footer.may_hold(hash) {
            return None;
        }
        let extents = footer.extents().get(footer.extents_of(stream))?;
        (!extents.is_empty()).then_some(extents)
    }

    /// The record of a stream whose batch holds `offset`, and its first offset: the last one that starts at or before it.
    fn find(&self, stream: u64, offset: u64) -> Option<((usize, usize), u64)> {
        let (footer, extent) =
            self.last_extent(stream, |_, extent| extent.first_offset.get() <= offset)?;
        let delta = offset - extent.first_offset.get();
        let places = self.footers[footer].places_of(&extent);
        let behind = places.partition_point(|place| u64::from(place.delta.get()) <= delta);
        let last = behind.checked_sub(1)?;
        let first = extent.first_offset.get() + u64::from(places[last].delta.get());
        Some(((footer, extent.first_place.get() as usize + last), first))
    }

    /// The first offset of a stream's first record behind a place that is one of its own.
    fn behind(&self, stream: u64, (footer, place): (usize, usize)) -> Option<u64> {
        let hash = hash_of_stream(stream);
        for extent in self.extents(stream, hash, footer).unwrap_or_default() {
            let first = extent.first_place.get() as usize;
            if first > place {
                return Some(extent.first_offset.get());
            }
            let next = self.footers[footer].places_of(extent).get(place + 1 - first);
            if let Some(next) = next {
                return Some(extent.first_offset.get() + u64::from(next.delta.get()));
            }
        }
        let mut later = footer + 1..self.footers.len();
        later.find_map(|number| Some(self.extents(stream, hash, number)?[0].first_offset.get()))
    }
}

impl<R: Region> Wal<R> {
    /// Whoever takes what [`Wal::next_sealed`] lends makes footers. Without that, a log whose index is used up recycles its
    /// oldest segment.
    pub fn use_footers(&mut self) {
        self.older.made = true;
    }

    /// Segments whose records are looked up in their footers: the oldest ones.
    pub fn segments_in_footers(&self) -> u32 {
        self.older.segments() as u32
    }

    /// Data records of those segments.
    pub fn records_in_footers(&self) -> u64 {
        self.older.footers.iter().map(|footer| u64::from(footer.header().places.get())).sum()
    }

    /// Bytes of the footers that the log holds.
    pub fn footer_bytes(&self) -> u64 {
        self.older.bytes
    }

    /// True if the record with this offset is looked up in a footer.
    pub fn is_in_footers(&self, stream: StreamSlot, offset: u64) -> bool {
        let state = self.stream(stream);
        offset >= state.earliest_offset && offset < self.index_begins(state)
    }

    /// True if the oldest records of the stream are not in the index.
    #[inline]
    pub(crate) fn has_older(&self, state: &StreamState) -> bool {
        !self.older.footers.is_empty() && state.earliest_offset < self.index_begins(state)
    }

    /// Offset from which on a stream's records are in the index.
    pub(crate) fn index_begins(&self, state: &StreamState) -> u64 {
        self.index.front(&state.entries).map_or(state.next_offset, |(offset, _)| offset)
    }

    /// What the footers say of the batch that holds `offset` and is not in the index: its number, its first offset, and
    /// its place.
    #[cold]
    pub(crate) fn place_older(
        &self,
        stream: StreamSlot,
        offset: u64,
        hint: u64,
    ) -> Option<(u64, u64, RecordAt)> {
        let state = &self.tables.streams[stream.0 as usize];
        if self.older.footers.is_empty()
            || offset < state.earliest_offset
            || planted(Bug::FootersNotSearched)
        {
            return None;
        }
        if let Some((footer, place)) = self.older.place(hint) {
            for place in [place + 1, place] {
                let at = self.older_place(footer, place);
                if let Some(at) = at
                    && let Some(first) = self.holds(at, state.id, offset)
                {
                    return Some((self.older.number((footer, place)), first, at));
                }
            }
        }
        let ((footer, place), first) = self.older.find(state.id, offset)?;
        Some((self.older.number((footer, place)), first, self.older_place(footer, place)?))
    }

    /// The record of the stream's first offset, which is not in the index.
    pub(crate) fn oldest_older(&self, state: &StreamState) -> Option<RecordAt> {
        let ((footer, place), _) = self.older.find(state.id, state.earliest_offset)?;
        self.older_place(footer, place)
    }

    /// Where a stream goes on behind the record with this number, which [`Wal::lookup`] gave.
    pub(crate) fn behind(&self, state: &StreamState, number: u64) -> Option<u64> {
        let Some(place) = self.older.place(number) else {
            return self.index.entry(&state.entries, number + 1).map(|(offset, _)| offset);
        };
        let begins = self.index.front(&state.entries).map(|(offset, _)| offset);
        self.older.behind(state.id, place).or(begins)
    }

    /// Offset of the first record of the stream that is not in the index and of which `from_here` says true, given that it
    /// does for all behind such a one.
    pub(crate) fn first_older_where(
        &self,
        state: &StreamState,
        from_here: &impl Fn(&RecordHeader) -> bool,
    ) -> Option<u64> {
        let before = |footer: usize, place: &Place| {
            let at = RecordAt::new(self.base(self.segments[footer].slot) + place.byte());
            let record = self.record(at);
            record.is_some_and(|Record { header, .. }| {
                header.stream.get() == state.id && !from_here(header)
            })
        };
        let found = self.older.last_extent(state.id, |footer, extent| {
            let places = self.older.footers[footer].places_of(extent);
            places.first().is_some_and(|place| before(footer, place))
        });
        let Some((footer, extent)) = found else { return Some(state.earliest_offset) };
        let places = self.older.footers[footer].places_of(&extent);
        let last = places.partition_point(|place| before(footer, place)).checked_sub(1)?;
        let place = (footer, extent.first_place.get() as usize + last);
        let behind = self.behind(state, self.older.number(place))?;
        // Retention may have let go of what is found.
        Some(behind.max(state.earliest_offset))
    }

    /// Lets go of a stream's oldest record, `number` bytes long, which is not in the index and ends at `end_offset`.
    pub(crate) fn drop_older(&mut self, stream: StreamSlot, end_offset: u64, bytes: u64) {
        let state = &self.tables.streams[stream.0 as usize];
        let mut next = end_offset;
        if self.older.jumps {
            let place = self.older.find(state.id, state.earliest_offset);
            let behind = place.and_then(|(place, _)| self.behind(state, self.older.number(place)));
            next = behind.unwrap_or(state.next_offset);
        }
        let state = &mut self.tables.streams[stream.0 as usize];
        state.earliest_offset = next;
        state.release(bytes);
    }

    /// Where a place of a footer is.
    fn older_place(&self, footer: usize, place: usize) -> Option<RecordAt> {
        let place = self.older.footers[footer].places().get(place)?;
        Some(RecordAt::new(self.base(self.segments[footer].slot) + place.byte()))
    }

    /// First offset of the record at `at`, if it is one of this stream with this offset.
    fn holds(&self, at: RecordAt, stream: u64, offset: u64) -> Option<u64> {
        let header = RecordHeader::read(self.region.bytes(at.address(), RECORD_HEADER_BYTES));
        let header = header.filter(|header| header.stream.get() == stream)?;
        let first = header.offset.get();
        let inside = offset.checked_sub(first)? < u64::from(header.count.get());
        inside.then_some(first)
    }

    /// Goes on taking the oldest segment in the index out of it, by at most `records` records, when room runs short.
    #[cold]
    pub(crate) fn fall(&mut self, records: usize) {
        if self.older.falls() {
            self.fall_step(records);
            return;
        }
        let next = self.older.segments();
        let sealed = self.segments.get(next).filter(|next| next.sequence < self.sealed_below);
        let possible = self.older.made && !self.older.full && self.fault.is_none();
        match sealed {
            Some(_) if possible && self.older.asked == Asked::Lent => {}
            Some(_) if possible => {
                self.older.asked = Asked::Wanted;
                self.lends = true;
            }
            _ => self.older.asked = Asked::No,
        }
    }

    /// True if room in the index runs short and nothing but recycling will make some. Where only the newest segment is in
    /// the index, that would not either.
    pub(crate) fn index_needs_recycling(&self) -> bool {
        self.index.is_short()
            && !self.older.falls()
            && (self.older.asked == Asked::No || self.older.impatient)
            && self.older.segments() + 1 < self.segments.len()
    }

    /// The segment whose footer is wanted, by place.
    pub(crate) fn footer_wanted(&self) -> Option<usize> {
        if self.older.asked != Asked::Wanted {
            return None;
        }
        let next = self.older.segments();
        let sealed = self.segments.get(next).is_some_and(|next| next.sequence < self.sealed_below);
        sealed.then_some(next)
    }

    /// Takes the footer of a segment that was lent for it, if it was made.
    pub(crate) fn take_footer(&mut self, segment: &Segment, footer: Option<Arc<Footer>>) {
        self.older.asked = Asked::No;
        if self.segments.get(self.older.segments()).map(|next| next.sequence)
            != Some(segment.sequence)
        {
            return;
        }
        let end = segment.end - self.base(segment.slot);
        match footer.filter(|footer| footer.fits(segment.generation, end)) {
            Some(footer) => self.older.take(footer),
            // It cannot be made, so the segment stays in the index, and all behind it.
            None => self.older.full = true,
        }
    }

    fn fall_step(&mut self, records: usize) {
        let (Some(mut extent), Some(footer)) = (self.older.falling, self.older.footers.back())
        else {
            return;
        };
        let footer = Arc::clone(footer);
        let Some(segment) = self.segments.get(self.older.segments() - 1) else { return };
        let base = self.base(segment.slot);
        let inside = base..base + self.region.slot_bytes();
        let mut left = records;
        while let Some(stream) = footer.extents().get(extent).map(|extent| extent.stream.get()) {
            if left == 0 {
                self.older.falling = Some(extent);
                return;
            }
            left -= 1;
            if !self.drop_indexed(stream, &inside) {
                extent += 1;
            }
        }
        self.older.falling = None;
    }

    /// Takes a stream's first entry out of the index, if it is that of a record inside.
    fn drop_indexed(&mut self, stream: u64, inside: &std::ops::Range<u64>) -> bool {
        let Some(slot) = self.tables.stream_slot(stream) else { return false };
        let here = self.is_front_inside(slot, inside);
        if here {
            self.index.pop_front(&mut self.tables.streams[slot.0 as usize].entries);
        }
        here
    }
}
