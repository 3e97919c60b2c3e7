//! Giving up what is not needed any more: streams that were deleted, records that a stream no longer keeps, and
//! segments.
//!
//! Recycling: the oldest segment's records are looked at a few at a time; what is still needed of them is
//! written again; then the slot is free.

use crate::format::{
    Kind, RecordFields, RecordHeader, SEGMENT_DATA_AT, SEGMENT_HEADER_BYTES, record_bytes,
};
use crate::planted::{Bug, planted};
use crate::region::Region;
use crate::scan::wipe_order;
use crate::sealed::SegmentGap;
use crate::tables::StreamSlot;
use crate::wal::{Record, RecordAt, Segment, TableFull, Wal};

/// The bit that marks ids of anonymous publishers: their state is not kept.
pub(crate) const ANONYMOUS: u64 = 1 << 63;

/// How far the oldest segment was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Retire {
    #[default]
    Idle,
    /// The next record to look at.
    Walking(u64),
    /// This many copies of the old header were wiped. The first `written` bytes of the log must be behind a
    /// completed barrier before the next step: what was written again before the first copy is wiped, and
    /// each wiped copy before what comes after it, so that no crash leaves two copies that do not fit.
    Wiping { copies: usize, written: u64 },
}

impl<R: Region> Wal<R> {
    /// Gives up every stream that `keeps` does not name: the log may hold records of streams that were deleted.
    /// For starts. How many there were.
    ///
    /// # Errors
    /// When the log holds more of the others than its tables may.
    pub fn keep_streams(&mut self, keeps: impl Fn(u64) -> bool) -> Result<usize, TableFull> {
        let mut given_up = 0;
        for slot in 0..self.tables.streams.len() {
            let id = self.tables.streams[slot].id;
            if id != 0 && !keeps(id) {
                while !self.give_up_stream(StreamSlot(slot as u32), usize::MAX) {}
                given_up += 1;
            }
        }
        self.tables.check_limits().map(|()| given_up)
    }

    /// Goes on giving a stream up by at most `steps` small steps: what it says in the tables and in the index goes.
    /// True when that is done: its slot may then be another stream's. Nobody uses the slot meanwhile. Its records stay
    /// until their segments are recycled, and mean nothing.
    pub fn give_up_stream(&mut self, slot: StreamSlot, steps: usize) -> bool {
        for _ in 0..steps {
            if let Some(publication) = self.tables.publication_of(slot) {
                self.tables.release_publication(publication);
                continue;
            }
            let state = &mut self.tables.streams[slot.0 as usize];
            if state.entries.is_empty() {
                self.tables.release_stream(slot);
                return true;
            }
            self.index.pop_front(&mut state.entries);
        }
        false
    }

    /// The oldest record that a stream holds, with the offset of its first message.
    pub fn oldest(&self, slot: StreamSlot) -> Option<(u64, Record<'_>)> {
        let state = &self.tables.streams[slot.0 as usize];
        if self.has_older(state) {
            let (offset, at) = (state.earliest_offset, self.oldest_older(state)?);
            return Some((offset, self.record_of(slot, offset, at)?));
        }
        let (offset, at) = self.index.front(&state.entries)?;
        Some((offset, self.record_of(slot, offset, RecordAt(at))?))
    }

    /// Lets a stream's oldest record go: its messages are not held any more. Its space comes back when its segment
    /// is recycled.
    pub fn drop_oldest(&mut self, slot: StreamSlot) {
        let Some((_, record)) = self.oldest(slot) else { return };
        let (bytes, end) = (record_bytes(record.block.len()), record.end_offset());
        if self.has_older(self.stream(slot)) {
            self.drop_older(slot, end, bytes);
            return;
        }
        self.pop_oldest(slot, bytes);
    }

    /// Takes a stream's oldest record, of `bytes` bytes, out of the index.
    fn pop_oldest(&mut self, slot: StreamSlot, bytes: u64) {
        let state = &mut self.tables.streams[slot.0 as usize];
        self.index.pop_front(&mut state.entries);
        state.held_bytes = state.held_bytes.saturating_sub(bytes);
        state.earliest_offset =
            self.index.front(&state.entries).map_or(state.next_offset, |(offset, _)| offset);
    }

    /// Goes on recycling when free segments or room in the index run short, by at most `records` records. For every poll.
    #[inline]
    pub fn housekeep(&mut self, records: usize) {
        if self.index.is_short() || self.older.falls() {
            self.fall(records);
        }
        if self.retire == Retire::Idle {
            if self.fault.is_some() {
                return;
            }
            let short = self.slots_ready() < self.slots_kept_ready() && !self.grows();
            // The newest segment is being written to.
            if !(short || self.index_needs_recycling())
                || self.segments.len() < 2
                || self.is_oldest_held()
            {
                return;
            }
            let slot = self.segments[0].slot;
            self.retire =
                Retire::Walking(u64::from(slot) * self.region.slot_bytes() + SEGMENT_DATA_AT);
        }
        self.retire_step(records);
    }

    /// Free slots below which the oldest segment is recycled.
    fn slots_kept_ready(&self) -> u32 {
        self.config.ready_segments + self.reserve
    }

    /// True when each segment that is begun makes the oldest one go, now or with the next.
    pub(crate) fn recycles(&self) -> bool {
        self.retire != Retire::Idle
            || self.slots_ready() <= self.slots_kept_ready() && !self.grows()
    }

    fn retire_step(&mut self, records: usize) {
        let segment = self.segments[0];
        match self.retire {
            Retire::Idle => {}
            Retire::Walking(mut address) => {
                for _ in 0..records {
                    address = self.behind_gap(&segment, address);
                    if address >= segment.end {
                        self.retire = Retire::Wiping { copies: 0, written: self.written };
                        return;
                    }
                    match self.retire_record(address) {
                        Some(next) => address = next,
                        // No room, or a record that cannot be read: the next call tries again.
                        None => break,
                    }
                }
                self.retire = Retire::Walking(address);
            }
            Retire::Wiping { copies, written } => {
                self.barrier();
                self.persisted();
                if !self.covered(written) && !planted_at_wipe(copies) {
                    return;
                }
                let base = self.base(segment.slot);
                let order = wipe_order(self.region.bytes(base, SEGMENT_DATA_AT as usize));
                if let Some(copy) = order.get(copies) {
                    let at = base + copy;
                    self.region.store(at, &[0; SEGMENT_HEADER_BYTES]);
                    if !planted(Bug::WipeNotFlushed) {
                        self.region.flush(at, SEGMENT_HEADER_BYTES);
                    }
                    self.note_written(SEGMENT_HEADER_BYTES as u64);
                    self.barrier();
                    self.retire = Retire::Wiping { copies: copies + 1, written: self.written };
                } else {
                    self.segments.pop_front();
                    self.older.pop();
                    self.ready.push_back(segment.slot);
                    self.retire = Retire::Idle;
                }
            }
        }
    }

    /// True while somebody reads the oldest segment, or is to read it before it may be recycled.
    fn is_oldest_held(&self) -> bool {
        let oldest = &self.segments[0];
        oldest.lent || self.holds && oldest.sequence >= self.lent_below
    }

    /// True while fewer segments are free than data may not use, and recycling could make more.
    pub fn is_short_of_segments(&self) -> bool {
        self.fault.is_none()
            && self.slots_ready() < self.reserve
            && self.slots_made == self.region.slots()
            && self.segments.len() > 1
    }

    /// Recycles until the reserve is whole again, as far as that is possible. For starts, which take a segment
    /// each and could otherwise use the reserve up; blocks for as long as it takes.
    pub fn refill_reserve(&mut self) {
        while self.is_short_of_segments() && (self.retire != Retire::Idle || !self.is_oldest_held())
        {
            let before = (self.retire, self.written, self.completed_written);
            self.housekeep(usize::MAX);
            let same = before == (self.retire, self.written, self.completed_written);
            if same && (self.covered(self.written) || self.poison.is_some()) {
                // Nothing more can be written again: no room, or no medium.
                return;
            }
            if same {
                self.region.wait();
            }
        }
    }

    /// Takes one record out of the index and says again what nothing newer says. The next record's address.
    fn retire_record(&mut self, address: u64) -> Option<u64> {
        let at = RecordAt::new(address);
        let generation = self.segments[0].generation;
        let own = |record: &Record<'_>| record.header.generation() == generation;
        let Some(record) = self.record(at).filter(own) else {
            // What was promised changed under the log: that is not wiped away. It is said, and recycling waits.
            self.unreadable = Some(at);
            return None;
        };
        let header = *record.header;
        let bytes = record_bytes(record.block.len());
        let next = address + bytes;
        self.unreadable = None;
        self.prefetch_later(address, bytes, self.segments[0].end);
        match Kind::from_number(header.kind)? {
            Kind::Data | Kind::StreamState => {
                if let Some(stream) = self.tables.stream_slot(header.stream.get()) {
                    self.restate_publication(header.publisher.get(), stream, at)?;
                    self.restate_stream(stream, at)?;
                    self.drop_front(stream, at, &header, next - address);
                }
            }
            Kind::PublisherState => self.restate_life(header.publisher.get(), at)?,
            Kind::Abort | Kind::EpochStart | Kind::Roll | Kind::Pad | Kind::Hint | Kind::Hole => {}
        }
        Some(next)
    }

    /// `address` in the segment, or the end of the gap that begins there.
    fn behind_gap(&self, segment: &Segment, address: u64) -> u64 {
        let base = self.base(segment.slot);
        let begins =
            |gap: &&SegmentGap| gap.sequence == segment.sequence && base + gap.from == address;
        self.gaps.iter().find(begins).map_or(address, |gap| base + gap.to)
    }

    /// Lets go of a record that is being recycled, if its stream still holds it.
    fn drop_front(&mut self, slot: StreamSlot, at: RecordAt, header: &RecordHeader, bytes: u64) {
        let state = &self.tables.streams[slot.0 as usize];
        if self.has_older(state) {
            let offset = header.offset.get();
            if header.kind == Kind::Data as u8 && offset == state.earliest_offset {
                self.drop_older(slot, offset + u64::from(header.count.get()), bytes);
            }
        } else if self.index.front(&state.entries).is_some_and(|(_, front)| front == at.0) {
            self.pop_oldest(slot, bytes);
        }
    }

    fn restate_stream(&mut self, slot: StreamSlot, at: RecordAt) -> Option<()> {
        let state = self.tables.streams[slot.0 as usize];
        if state.newest == Some(at) && !planted(Bug::StreamNotRestated) {
            let fields = RecordFields {
                stream: state.id,
                offset: state.next_offset,
                ..self.plain(Kind::StreamState, true, &[])
            };
            let newest = self.append(fields, &[]).ok()?;
            self.tables.streams[slot.0 as usize].newest = Some(newest);
        }
        Some(())
    }

    fn restate_publication(
        &mut self,
        publisher: u64,
        stream: StreamSlot,
        at: RecordAt,
    ) -> Option<()> {
        if publisher == 0 || publisher & ANONYMOUS != 0 {
            return Some(());
        }
        let Some(slot) = self.tables.publication_slot(publisher, stream) else { return Some(()) };
        let state = self.tables.publications[slot.0 as usize];
        if state.newest == Some(at) && !planted(Bug::SequenceNotRestated) {
            let fields = RecordFields {
                stream: self.tables.streams[stream.0 as usize].id,
                offset: state.offset,
                publisher,
                incarnation: state.incarnation,
                sequence: state.sequence,
                ..self.plain(Kind::StreamState, true, &[])
            };
            let newest = self.append(fields, &[]).ok()?;
            self.tables.publications[slot.0 as usize].newest = Some(newest);
        }
        Some(())
    }

    fn restate_life(&mut self, publisher: u64, at: RecordAt) -> Option<()> {
        let Some(life) = self.life(publisher).filter(|life| life.newest == at) else {
            return Some(());
        };
        if planted(Bug::LifeNotRestated) {
            return Some(());
        }
        let fields = RecordFields {
            publisher,
            incarnation: life.incarnation,
            ..self.plain(Kind::PublisherState, true, &life.nonce)
        };
        let newest = self.append(fields, &life.nonce).ok()?;
        if let Some(life) = self.tables.lives.get_mut(&publisher) {
            life.newest = newest;
        }
        Some(())
    }
}

/// True if a bug is planted that goes on with wiping, `copies` copies wiped, without the barrier.
#[inline(always)]
fn planted_at_wipe(copies: usize) -> bool {
    // The last wait is for both copies: what was written again before them would be covered with them.
    planted(Bug::WipeBeforeFence) && copies < 2 || planted(Bug::WipedTogether) && copies == 1
}
