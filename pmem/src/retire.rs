//! Giving up what is not needed any more: streams that were deleted, records that a stream no longer keeps, and
//! segments.
//!
//! Recycling: what the oldest segment holds is looked at a few pieces at a time, in the notes on it ([`crate::holdings`])
//! or, where there are none, record by record; what is still needed is written again; then the slot is free.

use std::ops::Range;

use crate::format::{
    Kind, RecordFields, RecordHeader, SEGMENT_DATA_AT, SEGMENT_HEADER_BYTES, record_bytes,
};
use crate::planted::{Bug, planted};
use crate::region::Region;
use crate::scan::wipe_order;
use crate::sealed::SegmentGap;
use crate::tables::StreamSlot;
use crate::wal::{AppendError, Record, RecordAt, Segment, TableFull, Wal};

/// The bit that marks ids of anonymous publishers: their state is not kept.
pub(crate) const ANONYMOUS: u64 = 1 << 63;

/// How far the oldest segment was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Retire {
    #[default]
    Idle,
    /// The next record to look at.
    Walking(u64),
    /// The next entry to look at; what the segment is the newest of was written again, and its stream's records count as
    /// released, when it was `begun`.
    Noted { next: u64, begun: bool },
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
        Some((offset, self.record_of(slot, offset, RecordAt::of_line(at))?))
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
        // What is being recycled was released by now.
        let recycled = self.is_letting_go_of(slot);
        self.pop_oldest(slot, if recycled { 0 } else { bytes });
    }

    /// Takes a stream's oldest record out of the index, and releases `bytes` bytes.
    fn pop_oldest(&mut self, slot: StreamSlot, bytes: u64) {
        let state = &mut self.tables.streams[slot.0 as usize];
        self.index.pop_front(&mut state.entries);
        state.release(bytes);
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
            let oldest = &self.segments[0];
            self.retire = match oldest.is_noted && self.older.segments() == 0 {
                true => Retire::Noted { next: oldest.holdings, begun: false },
                false => Retire::Walking(self.base(oldest.slot) + SEGMENT_DATA_AT),
            };
        }
        self.retire_step(records);
    }

    /// Free slots below which the oldest segment is recycled.
    fn slots_kept_ready(&self) -> u32 {
        self.config.ready_segments + self.reserve + u32::from(planted(Bug::RecycledTooEarly))
    }

    /// True while the oldest segment is being recycled.
    pub fn is_recycling(&self) -> bool {
        self.retire != Retire::Idle
    }

    /// True when each segment that is begun makes the oldest one go, now or with the next.
    pub(crate) fn recycles(&self) -> bool {
        self.is_recycling() || self.slots_ready() <= self.slots_kept_ready() && !self.grows()
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
            Retire::Noted { next, begun } => self.retire_noted(next, begun, records),
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
                    self.holdings.release(self.segments[0].holdings);
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
        while self.is_short_of_segments() && (self.is_recycling() || !self.is_oldest_held()) {
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
        let inside = address..next;
        self.unreadable = None;
        self.prefetch_later(address, bytes, self.segments[0].end);
        match Kind::from_number(header.kind)? {
            Kind::Data | Kind::StreamState => {
                if let Some(stream) = self.tables.stream_slot(header.stream.get()) {
                    self.restate_publication(header.publisher.get(), stream, &inside)?;
                    self.restate_stream(stream, &inside)?;
                    self.drop_front(stream, at, &header, bytes);
                }
            }
            Kind::PublisherState => self.restate_life(header.publisher.get(), &inside)?,
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
        } else if self.index.front(&state.entries).is_some_and(|(_, front)| front == at.line()) {
            self.pop_oldest(slot, bytes);
        }
    }

    /// Says a stream's offset again if the newest record that says it is at one of the addresses. `None` without room.
    pub(crate) fn restate_stream(&mut self, slot: StreamSlot, inside: &Range<u64>) -> Option<()> {
        let state = &self.tables.streams[slot.0 as usize];
        if is_inside(state.newest, inside) && !planted(Bug::StreamNotRestated) {
            self.state_stream(slot, state.next_offset).ok()?;
        }
        Some(())
    }

    /// Writes down which offset a stream goes on with.
    fn state_stream(&mut self, slot: StreamSlot, offset: u64) -> Result<(), AppendError> {
        let stream = self.tables.streams[slot.0 as usize].id;
        let plain = self.plain(Kind::StreamState, true, &[]);
        let newest = self.append(RecordFields { stream, offset, ..plain }, &[])?;
        self.tables.streams[slot.0 as usize].newest = Some(newest);
        self.hold(slot, None);
        Ok(())
    }

    /// At a start: a stream whose offsets below `end` are held elsewhere goes on behind them. A log that lost something
    /// may say less: that record of it too. True if it did. Blocks for as long as it takes.
    ///
    /// # Errors
    /// Why that could not be written down; the stream is as it was then.
    pub fn go_on_behind(&mut self, stream: u64, end: u64) -> Result<bool, AppendError> {
        let slot = self.tables.open_stream(stream)?;
        if self.stream(slot).next_offset >= end || planted(Bug::ColdContradicted) {
            return Ok(false);
        }
        while let Err(error) = self.state_stream(slot, end) {
            if error != AppendError::Window {
                return Err(error);
            }
            self.region.wait();
        }
        let state = &mut self.tables.streams[slot.0 as usize];
        state.next_offset = end;
        match state.entries.is_empty() {
            true => state.earliest_offset = end,
            // The offsets between are passed over, as after a loss that was accepted.
            false => self.older.jumps = true,
        }
        Ok(true)
    }

    /// The same for a publisher's sequence in a stream.
    pub(crate) fn restate_publication(
        &mut self,
        publisher: u64,
        stream: StreamSlot,
        inside: &Range<u64>,
    ) -> Option<()> {
        if publisher == 0 || publisher & ANONYMOUS != 0 {
            return Some(());
        }
        let Some(slot) = self.tables.publication_slot(publisher, stream) else { return Some(()) };
        let state = self.tables.publications[slot.0 as usize];
        if is_inside(state.newest, inside) && !planted(Bug::SequenceNotRestated) {
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
            self.hold(stream, Some(slot));
        }
        Some(())
    }

    /// The same for a publisher's life.
    pub(crate) fn restate_life(&mut self, publisher: u64, inside: &Range<u64>) -> Option<()> {
        let life = self.life(publisher).filter(|life| is_inside(Some(life.newest), inside));
        let Some(life) = life.filter(|_| !planted(Bug::LifeNotRestated)) else {
            return Some(());
        };
        let fields = RecordFields {
            publisher,
            incarnation: life.incarnation,
            ..self.plain(Kind::PublisherState, true, &life.nonce)
        };
        let newest = self.append(fields, &life.nonce).ok()?;
        if let Some(life) = self.tables.lives.get_mut(&publisher) {
            life.newest = newest;
        }
        self.hold_life(publisher);
        Some(())
    }
}

/// True if a record is at one of the addresses.
fn is_inside(at: Option<RecordAt>, inside: &Range<u64>) -> bool {
    at.is_some_and(|at| inside.contains(&at.address()))
}

/// True if a bug is planted that goes on with wiping, `copies` copies wiped, without the barrier.
#[inline(always)]
fn planted_at_wipe(copies: usize) -> bool {
    // The last wait is for both copies: what was written again before them would be covered with them.
    planted(Bug::WipeBeforeFence) && copies < 2 || planted(Bug::WipedTogether) && copies == 1
}
