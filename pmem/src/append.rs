//! Appending: records, barriers, and rolling to the next segment (`docs/wal-format.md` section 4). Nothing
//! here allocates.

use zerocopy::IntoBytes;

use crate::copy::words_of;
use crate::format::{
    Kind, LINE, RECORD_HEADER_BYTES, ROLL_BYTES, ROLLED, RecordFields, RecordHeader,
    SEGMENT_DATA_AT, SEGMENT_HEADER_AT, SEGMENT_HEADER_BYTES, SegmentFields, SegmentHeader, crc32c,
    record_bytes,
};
use crate::planted::{Bug, planted};
use crate::region::{Barrier, LINE_WORDS, Region};
use crate::tables::Life;
use crate::wal::{AppendData, AppendError, Appended, MAX_IN_FLIGHT, RecordAt, Segment, Wal};

impl<R: Region> Wal<R> {
    /// Appends a batch: it gets the stream's next offset and the publication's next sequence.
    ///
    /// # Errors
    /// Why it was not appended.
    #[inline]
    pub fn append_data(&mut self, data: &AppendData<'_>) -> Result<Appended, AppendError> {
        if !self.index.has_room() {
            let refusal = self.refuses();
            if refusal.is_none() {
                self.older.refuse(self.moment);
            }
            return Err(refusal.unwrap_or(AppendError::Full));
        }
        // Before anything is gathered that would have to be kept meanwhile.
        self.make_room(record_bytes(data.block.len()), false)?;
        let stream = &self.tables.streams[data.stream.0 as usize];
        let publication = &self.tables.publications[data.publication.0 as usize];
        let offset = stream.next_offset;
        let fields = RecordFields {
            kind: Kind::Data,
            local: false,
            generation: 0,
            count: data.count,
            block_bytes: data.block.len() as u32,
            epoch: self.epoch,
            block_crc: data.block_crc,
            lsn: self.lsn,
            stream: stream.id,
            offset,
            publisher: publication.publisher,
            incarnation: data.incarnation,
            sequence: publication.sequence + 1,
            time: data.time_ns,
        };
        let at = self.write(fields, data.block);
        let stream = &mut self.tables.streams[data.stream.0 as usize];
        self.index.push(&mut stream.entries, offset, at.line());
        stream.next_offset += u64::from(data.count);
        stream.appended_bytes += record_bytes(data.block.len());
        stream.newest = Some(at);
        let publication = &mut self.tables.publications[data.publication.0 as usize];
        publication.sequence += u64::from(data.count);
        publication.offset = stream.next_offset;
        publication.incarnation = data.incarnation;
        publication.newest = Some(at);
        self.hold_data(data.stream, data.publication);
        Ok(Appended { lsn: self.lsn - 1, offset, at })
    }

    /// Appends the start of a publisher's life.
    ///
    /// # Errors
    /// Why it was not appended.
    pub fn append_life(
        &mut self,
        publisher: u64,
        incarnation: u64,
        nonce: &[u8; 16],
        time_ns: u64,
    ) -> Result<Appended, AppendError> {
        self.tables.room_for_life(publisher)?;
        let fields = RecordFields {
            publisher,
            incarnation,
            time: time_ns,
            ..self.plain(Kind::PublisherState, false, nonce)
        };
        let at = self.append(fields, nonce)?;
        self.tables.lives.insert(publisher, Life { incarnation, nonce: *nonce, newest: at });
        self.hold_life(publisher);
        Ok(Appended { lsn: self.lsn - 1, offset: 0, at })
    }

    /// Fields of a record that says nothing about a stream or publisher.
    pub(crate) fn plain(&self, kind: Kind, local: bool, block: &[u8]) -> RecordFields {
        RecordFields {
            kind,
            local,
            generation: 0,
            count: 0,
            block_bytes: block.len() as u32,
            epoch: self.epoch,
            block_crc: crc32c(block),
            lsn: self.lsn,
            stream: 0,
            offset: 0,
            publisher: 0,
            incarnation: 0,
            sequence: 0,
            time: self.time,
        }
    }

    /// Why nothing is appended any more, if that is so.
    #[cold]
    fn refuses(&self) -> Option<AppendError> {
        let fault = self.fault.as_ref().map(|_| AppendError::Fault);
        self.poison.map(AppendError::Poisoned).or(fault)
    }

    /// Makes room, then writes a record.
    pub(crate) fn append(
        &mut self,
        fields: RecordFields,
        block: &[u8],
    ) -> Result<RecordAt, AppendError> {
        self.make_room(record_bytes(block.len()), fields.local)?;
        Ok(self.write(fields, block))
    }

    /// Makes room for a record of `bytes` bytes: behind this there is some.
    #[inline(always)]
    fn make_room(&mut self, bytes: u64, local: bool) -> Result<(), AppendError> {
        if let Some(poison) = self.poison {
            return Err(AppendError::Poisoned(poison));
        }
        if bytes > self.record_limit {
            return Err(AppendError::TooLarge { bytes, limit: self.record_limit });
        }
        if self.written + bytes - self.completed_written > self.window_bytes
            && !planted(Bug::WindowNotEnforced)
        {
            self.barrier();
            self.persisted();
            if self.written + bytes - self.completed_written > self.window_bytes {
                return Err(AppendError::Window);
            }
        }
        let rolls = self.tail + bytes + ROLL_BYTES > self.segment_end;
        if !self.has_room(local, rolls) {
            if let Some(refusal) = self.refuses() {
                return Err(refusal);
            }
            if !local {
                self.starve();
            }
            return Err(AppendError::Full);
        }
        if rolls && !self.roll() {
            return Err(AppendError::Window);
        }
        Ok(())
    }

    /// True if free segments allow a record; when it `rolls`, one is taken. Data neither begins a segment of the
    /// reserve nor fills one up that recycling has begun: recycling could not go on to free the next.
    #[inline]
    fn has_room(&self, local: bool, rolls: bool) -> bool {
        let kept = if local { 0 } else { self.reserve };
        self.slots_ready() >= kept + u32::from(rolls)
    }

    /// Writes a record at the tail, where there is room.
    #[inline(always)]
    fn write(&mut self, fields: RecordFields, block: &[u8]) -> RecordAt {
        self.time = self.time.max(fields.time);
        let fields =
            RecordFields { generation: self.generation, lsn: self.lsn, time: self.time, ..fields };
        let at = self.tail;
        let chain = self.write_lines(at, &fields, block);
        self.tail += record_bytes(block.len());
        self.written += record_bytes(block.len());
        if !fields.local {
            self.chain = chain;
            self.lsn += 1;
        }
        RecordAt::new(at)
    }

    /// Streams header, block and padding as whole lines, each once; the header's chain. A long block's first part goes ahead
    /// of the header: stores wait in one queue in order, and what is computed meanwhile would wait behind lines that
    /// all come together.
    #[inline(always)]
    fn write_lines(&mut self, at: u64, fields: &RecordFields, block: &[u8]) -> u32 {
        const SHARED: usize = 2 * LINE as usize - RECORD_HEADER_BYTES;
        let rest = block.get(SHARED..).unwrap_or_default();
        let rest_at = at + 2 * LINE;
        let ahead = (rest.len() / 2) & !(LINE as usize - 1);
        if ahead > 0 {
            self.region.stream(rest_at, &rest[..ahead]);
        }
        let mut header = [0; RECORD_HEADER_BYTES / size_of::<u64>()];
        let chain = RecordHeader::write(fields, self.chain, &mut header);
        let shared: [u64; SHARED / size_of::<u64>()] = words_of(block);
        let mut first = [0; 2 * LINE_WORDS];
        let (with_header, with_block) = first.split_at_mut(header.len());
        with_header.copy_from_slice(&header);
        with_block.copy_from_slice(&shared);
        self.region.stream_words(at, &first);
        if ahead < rest.len() {
            self.region.stream(rest_at + ahead as u64, &rest[ahead..]);
        }
        chain
    }

    /// Goes on with ending the segment and opening the next in a free slot, which there is. True when records
    /// can follow; false while a barrier has yet to complete (then nothing fits, and the next append comes
    /// back here).
    ///
    /// Each step needs the one before it to be durable: a segment whose predecessor lacks its roll record, or
    /// records without a segment header, would be taken for damage by recovery.
    #[cold]
    fn roll(&mut self) -> bool {
        if self.header_copies.is_none() {
            let fields = self.plain(Kind::Roll, true, &[]);
            self.write(fields, &[]);
            if let Some(segment) = self.segments.back_mut() {
                segment.end = self.tail;
                segment.next_lsn = self.lsn;
            }
            self.segment_end = self.tail;
            self.header_copies = Some(0);
        }
        let header = self.next_header(ROLLED);
        loop {
            self.barrier();
            self.persisted();
            let copy = self.header_copies.unwrap_or_default();
            if !self.covered(self.written) && !planted_at_roll(copy) {
                return false;
            }
            if copy == SEGMENT_HEADER_AT.len() {
                self.header_copies = None;
                self.enter_segment(&header);
                return true;
            }
            self.write_header(copy, &header);
            self.header_copies = Some(copy + 1);
        }
    }

    /// Header of the segment that comes next. Stays the same while no record is written.
    fn next_header(&self, reason: u8) -> SegmentHeader {
        SegmentHeader::new(&SegmentFields {
            shard: self.config.shard,
            log_id: self.log_id,
            sequence: self.segments.back().map_or(1, |segment| segment.sequence + 1),
            base_lsn: self.lsn,
            base_epoch: self.epoch,
            base_chain: self.chain,
            level: self.region.level() as u8,
            reason,
            segment_bytes: self.region.slot_bytes(),
            window_bytes: self.window_bytes,
            time: self.time,
            boot_id: self.config.boot_id,
            secret: self.secret,
        })
    }

    /// Writes one copy of a header to the next free slot.
    fn write_header(&mut self, copy: usize, header: &SegmentHeader) {
        let Some(slot) = self.ready.front() else { return };
        let at = u64::from(*slot) * self.region.slot_bytes() + SEGMENT_HEADER_AT[copy];
        self.region.store(at, header.as_bytes());
        if planted(Bug::HeaderFlushedLate) {
            self.note_written(SEGMENT_HEADER_BYTES as u64);
            self.barrier();
        }
        if !planted(Bug::HeaderNotFlushed) {
            self.region.flush(at, SEGMENT_HEADER_BYTES);
        }
        if !planted(Bug::HeaderFlushedLate) {
            self.note_written(SEGMENT_HEADER_BYTES as u64);
        }
    }

    /// Goes on in the next free slot, whose header is durable.
    fn enter_segment(&mut self, header: &SegmentHeader) {
        let Some(slot) = self.ready.pop_front() else { return };
        let base = u64::from(slot) * self.region.slot_bytes();
        self.generation = header.generation();
        self.tail = base + SEGMENT_DATA_AT;
        self.segment_end = base + self.region.slot_bytes();
        let sequence = header.sequence.get();
        let (first_lsn, next_lsn) = (self.lsn, self.lsn);
        if let Some(before) = self.segments.back_mut() {
            before.is_noted &= self.holdings.are_complete();
        }
        self.segments.push_back(Segment {
            slot,
            sequence,
            generation: self.generation,
            end: self.tail,
            first_lsn,
            next_lsn,
            lent: false,
            holdings: self.holdings.begin(),
            is_noted: true,
        });
        self.sealed_below = sequence;
        self.lends = self.segments.len() > 1;
    }

    /// The fresh segment of a start and its epoch record. Needs a free slot. Blocks until the header is as
    /// durable as the medium can make it.
    pub(crate) fn begin_epoch(&mut self, reason: u8) -> std::io::Result<()> {
        let header = self.next_header(reason);
        let base = self.ready.front().map_or(0, |slot| u64::from(*slot) * self.region.slot_bytes());
        for copy in 0..SEGMENT_HEADER_AT.len() {
            self.write_header(copy, &header);
            if planted(Bug::HeaderNotSynced) {
                continue;
            }
            self.region.sync(base, SEGMENT_DATA_AT as usize)?;
        }
        self.enter_segment(&header);
        let fields = self.plain(Kind::EpochStart, false, &[]);
        self.write(fields, &[]);
        self.barrier();
        Ok(())
    }

    /// Puts one barrier behind everything appended since the last; nothing when there is nothing.
    #[inline]
    pub fn barrier(&mut self) {
        if self.written == self.barrier_written || self.in_flight.len() == MAX_IN_FLIGHT {
            return;
        }
        let barrier =
            if planted(Bug::NoFence) { Barrier::default() } else { self.region.barrier() };
        self.barrier_written = self.written;
        let lsn = self.lsn + u64::from(planted(Bug::BarrierOffByOne));
        self.in_flight.push_back((barrier, lsn, self.written));
    }

    /// Every record with an lsn below the one returned was followed by a completed barrier.
    #[inline]
    pub fn persisted(&mut self) -> u64 {
        if self.in_flight.is_empty() {
            return self.persisted;
        }
        let completed = self.region.completed();
        while let Some((barrier, lsn, written)) = self.in_flight.front().copied() {
            if barrier > completed && !planted(Bug::AckBeforeFence) {
                break;
            }
            self.persisted = lsn;
            self.completed_written = written;
            self.in_flight.pop_front();
        }
        // Asked for only while something waits: a medium fails when it is used.
        if !self.in_flight.is_empty() && self.poison.is_none() {
            self.poison = self.region.poison();
        }
        self.persisted
    }

    pub(crate) fn note_written(&mut self, bytes: u64) {
        self.written += bytes;
    }

    /// True when a completed barrier covers the first `written` bytes written since the log was opened.
    pub(crate) fn covered(&self, written: u64) -> bool {
        self.completed_written >= written
    }

    pub(crate) fn resume(&mut self, lsn: u64, chain: u32, time: u64) {
        (self.lsn, self.persisted, self.chain, self.time) = (lsn, lsn, chain, time);
    }
}

/// True if a bug is planted that goes on with rolling, `copies` header copies written, without the barrier.
#[inline(always)]
fn planted_at_roll(copies: usize) -> bool {
    match copies {
        0 => planted(Bug::HeaderBeforeRoll),
        1 => planted(Bug::HeaderCopiesTogether) || planted(Bug::RecordsBeforeHeader),
        _ => planted(Bug::RecordsBeforeHeader),
    }
}
