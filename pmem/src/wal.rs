//! The write-ahead log of one shard, over a region. No I/O of its own, no clock: times come in with the
//! records. After [`Wal::open`] nothing here allocates.

use std::collections::VecDeque;

use zerocopy::IntoBytes;

use crate::format::{
    self, Kind, LINE, OPENED_AT_START, RECORD_HEADER_BYTES, ROLL_BYTES, ROLLED, RecordFields,
    RecordHeader, SEGMENT_DATA_AT, SEGMENT_HEADER_AT, SegmentFields, SegmentHeader, record_bytes,
};
use crate::index::Index;
use crate::region::{Barrier, Level, Region};
use crate::retire::Retire;
use crate::tables::Tables;
pub use crate::tables::{
    Life, PublicationSlot, PublicationState, StreamSlot, StreamState, TableLimits,
};

/// Where a record stands: its address in units of 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAt(pub(crate) u32);

impl RecordAt {
    pub(crate) fn new(address: u64) -> RecordAt {
        RecordAt((address / LINE) as u32)
    }

    pub(crate) fn address(self) -> u64 {
        u64::from(self.0) * LINE
    }
}

/// A table has no free entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log's table of {table} is full ({limit})")]
pub struct TableFull {
    /// Which one.
    pub table: &'static str,
    /// Its size.
    pub limit: usize,
}

/// Why a record was not appended. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No segment is free but the reserve.
    #[error("no free segment")]
    Full,
    /// The block does not fit a segment.
    #[error("a record of {bytes} bytes does not fit a segment (limit {limit})")]
    TooLarge {
        /// Bytes of the record.
        bytes: u64,
        /// Most bytes a record may have.
        limit: u64,
    },
    /// W bytes wait for a barrier to complete: try again later.
    #[error("too much waits for a barrier")]
    Window,
}

/// A batch to be appended.
#[derive(Clone, Copy, Debug)]
pub struct AppendData<'a> {
    /// Stream it goes to.
    pub stream: StreamSlot,
    /// Publisher and stream it comes from; the batch takes the publication's next sequence.
    pub publication: PublicationSlot,
    /// Life of the publisher.
    pub incarnation: u64,
    /// Messages in the block.
    pub count: u16,
    /// CRC32C of the block.
    pub block_crc: u32,
    /// ns since 1970; the log never lets time go back.
    pub time_ns: u64,
    /// The block.
    pub block: &'a [u8],
}

/// Where an appended record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Record number.
    pub lsn: u64,
    /// Offset of the batch's first message (data).
    pub offset: u64,
    /// Where it stands.
    pub at: RecordAt,
}

/// A record in the log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its header.
    pub header: &'a RecordHeader,
    /// Its block.
    pub block: &'a [u8],
}

/// A segment in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
    /// Address behind its last valid record (of the newest segment: where it was opened).
    pub(crate) end: u64,
}

/// What a log is told when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// Shard whose log this is.
    pub shard: u32,
    /// Random id for a log that does not exist yet.
    pub new_log_id: [u8; 16],
    /// Id of the running kernel's boot.
    pub boot_id: [u8; 16],
    /// Sizes of the tables.
    pub tables: TableLimits,
    /// Segments to keep ready beyond the reserve.
    pub ready_segments: u32,
    /// ns since 1970 now.
    pub time_ns: u64,
}

/// The log.
pub struct Wal<R: Region> {
    pub(crate) region: R,
    pub(crate) config: WalConfig,
    pub(crate) log_id: [u8; 16],
    pub(crate) epoch: u32,
    pub(crate) tables: Tables,
    pub(crate) index: Index,
    /// Segments in use, oldest first.
    pub(crate) segments: VecDeque<Segment>,
    /// Free slots, in the order in which they will be taken.
    pub(crate) ready: VecDeque<u32>,
    /// Slots that exist.
    pub(crate) slots_made: u32,
    /// Segments that data cannot use.
    pub(crate) reserve: u32,
    pub(crate) retire: Retire,
    generation: u32,
    pub(crate) tail: u64,
    segment_end: u64,
    pub(crate) lsn: u64,
    pub(crate) chain: u32,
    pub(crate) time: u64,
    /// Bytes written since the log was opened, and those behind the last completed barrier.
    written: u64,
    completed_written: u64,
    /// Bytes at the last barrier issued.
    barrier_written: u64,
    /// Barriers that have not completed: number, next lsn and bytes written when they were issued.
    in_flight: VecDeque<(Barrier, u64, u64)>,
    persisted: u64,
}

/// Barriers that may be in flight; more wait to be issued.
const MAX_IN_FLIGHT: usize = 1024;

impl<R: Region> Wal<R> {
    pub(crate) fn new(region: R, config: WalConfig, log_id: [u8; 16]) -> Wal<R> {
        let limits = config.tables;
        // The least record of data has a message header of 8 bytes and nothing else: two lines.
        let records = u64::from(region.slots()) * (region.slot_bytes() / record_bytes(8));
        // Everything that may have to be said again when a segment is recycled, at two lines each.
        let restated =
            (limits.streams + limits.publications + limits.publishers) as u64 * record_bytes(16);
        let reserve =
            1 + restated.div_ceil(region.slot_bytes() - SEGMENT_DATA_AT - ROLL_BYTES) as u32;
        Wal {
            log_id,
            epoch: 0,
            tables: Tables::new(limits),
            index: Index::new(records as usize, limits.streams),
            segments: VecDeque::with_capacity(region.slots() as usize + 1),
            ready: VecDeque::with_capacity(region.slots() as usize + 1),
            slots_made: 0,
            reserve,
            retire: Retire::default(),
            generation: 0,
            tail: 0,
            segment_end: 0,
            lsn: 1,
            chain: 0,
            time: 0,
            written: 0,
            completed_written: 0,
            barrier_written: 0,
            in_flight: VecDeque::with_capacity(MAX_IN_FLIGHT),
            persisted: 1,
            region,
            config,
        }
    }

    /// Names the log.
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// Epoch of this start.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What a completed barrier promises.
    #[inline]
    pub fn level(&self) -> Level {
        self.region.level()
    }

    /// Lsn of the next record.
    #[inline]
    pub fn appended(&self) -> u64 {
        self.lsn
    }

    /// Segments that are ready to be written to, the reserve included.
    pub fn slots_ready(&self) -> u32 {
        self.ready.len() as u32
    }

    /// Slots that the housekeeper is to make now.
    pub fn slots_wanted(&self) -> u32 {
        let target = self.config.ready_segments + self.reserve;
        target.saturating_sub(self.slots_ready()).min(self.region.slots() - self.slots_made)
    }

    /// Takes over a slot that the housekeeper made.
    pub fn add_ready(&mut self, slot: u32) {
        self.slots_made += 1;
        self.ready.push_back(slot);
    }

    /// The region.
    pub fn region(&self) -> &R {
        &self.region
    }

    /// Gives the region back.
    pub fn into_region(self) -> R {
        self.region
    }

    /// Registers a stream, or finds it.
    ///
    /// # Errors
    /// When the table is full.
    pub fn open_stream(&mut self, id: u64) -> Result<StreamSlot, TableFull> {
        self.tables.open_stream(id)
    }

    /// A stream.
    #[inline]
    pub fn stream(&self, slot: StreamSlot) -> &StreamState {
        &self.tables.streams[slot.0 as usize]
    }

    /// The stream with this id, if the log knows it.
    pub fn stream_by_id(&self, id: u64) -> Option<StreamState> {
        self.tables.stream_slot(id).map(|slot| self.tables.streams[slot.0 as usize])
    }

    /// Registers a publication, or finds it.
    ///
    /// # Errors
    /// When the table is full.
    pub fn open_publication(
        &mut self,
        publisher: u64,
        stream: StreamSlot,
    ) -> Result<PublicationSlot, TableFull> {
        self.tables.open_publication(publisher, stream)
    }

    /// A publication.
    #[inline]
    pub fn publication(&self, slot: PublicationSlot) -> &PublicationState {
        &self.tables.publications[slot.0 as usize]
    }

    /// Forgets a publication of an anonymous publisher.
    pub fn release_publication(&mut self, slot: PublicationSlot) {
        self.tables.release_publication(slot);
    }

    /// The newest life of a publisher.
    pub fn life(&self, publisher: u64) -> Option<Life> {
        self.tables.lives.get(&publisher).copied()
    }

    /// Appends a batch: it gets the stream's next offset and the publication's next sequence.
    ///
    /// # Errors
    /// Why it was not appended.
    #[inline]
    pub fn append_data(&mut self, data: &AppendData<'_>) -> Result<Appended, AppendError> {
        debug_assert!(self.index.has_room(), "the arena holds the most records that fit the log");
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
        let at = self.append(fields, data.block)?;
        let stream = &mut self.tables.streams[data.stream.0 as usize];
        self.index.push(&mut stream.entries, offset, at.0);
        stream.next_offset += u64::from(data.count);
        stream.newest = Some(at);
        let publication = &mut self.tables.publications[data.publication.0 as usize];
        publication.sequence += u64::from(data.count);
        publication.offset = stream.next_offset;
        publication.incarnation = data.incarnation;
        publication.newest = Some(at);
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
        if self.tables.lives.len() == self.tables.limits().publishers
            && !self.tables.lives.contains_key(&publisher)
        {
            return Err(AppendError::Full);
        }
        let fields = RecordFields {
            publisher,
            incarnation,
            time: time_ns,
            ..self.plain(Kind::PublisherState, false, nonce)
        };
        let at = self.append(fields, nonce)?;
        self.tables.lives.insert(publisher, Life { incarnation, nonce: *nonce, newest: at });
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
            block_crc: format::crc32c(block),
            lsn: self.lsn,
            stream: 0,
            offset: 0,
            publisher: 0,
            incarnation: 0,
            sequence: 0,
            time: self.time,
        }
    }

    /// Makes room, then writes a record.
    #[inline]
    pub(crate) fn append(
        &mut self,
        fields: RecordFields,
        block: &[u8],
    ) -> Result<RecordAt, AppendError> {
        let bytes = record_bytes(block.len());
        let limit = self.region.slot_bytes() - SEGMENT_DATA_AT - ROLL_BYTES;
        if bytes > limit.min(self.region.window_bytes()) {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        if self.written + bytes - self.completed_written > self.region.window_bytes() {
            self.barrier();
            self.persisted();
            if self.written + bytes - self.completed_written > self.region.window_bytes() {
                return Err(AppendError::Window);
            }
        }
        if self.tail + bytes + ROLL_BYTES > self.segment_end {
            let kept = if fields.local { 0 } else { self.reserve };
            if self.slots_ready() <= kept {
                return Err(AppendError::Full);
            }
            self.roll();
        }
        Ok(self.write(fields, block))
    }

    /// Writes a record at the tail, where there is room.
    #[inline]
    fn write(&mut self, fields: RecordFields, block: &[u8]) -> RecordAt {
        self.time = self.time.max(fields.time);
        let fields =
            RecordFields { generation: self.generation, lsn: self.lsn, time: self.time, ..fields };
        let header = RecordHeader::new(&fields, self.chain);
        let at = self.tail;
        self.write_lines(at, &header, block);
        self.tail += record_bytes(block.len());
        self.written += record_bytes(block.len());
        if !fields.local {
            self.chain = header.chain.get();
            self.lsn += 1;
        }
        RecordAt::new(at)
    }

    /// Streams header, block and padding as whole lines, each once.
    #[inline]
    fn write_lines(&mut self, at: u64, header: &RecordHeader, block: &[u8]) {
        const FIRST: usize = 2 * LINE as usize;
        const SHARED: usize = FIRST - RECORD_HEADER_BYTES;
        let mut first = [0; FIRST];
        first[..RECORD_HEADER_BYTES].copy_from_slice(header.as_bytes());
        let (with_header, rest) = block.split_at(block.len().min(SHARED));
        first[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + with_header.len()]
            .copy_from_slice(with_header);
        self.region.stream(at, &first);
        let whole = rest.len() - rest.len() % LINE as usize;
        let (whole, end) = rest.split_at(whole);
        if !whole.is_empty() {
            self.region.stream(at + FIRST as u64, whole);
        }
        if !end.is_empty() {
            let mut last = [0; LINE as usize];
            last[..end.len()].copy_from_slice(end);
            self.region.stream(at + (FIRST + whole.len()) as u64, &last);
        }
    }

    /// Ends the segment and goes on in the next free one, which there is.
    fn roll(&mut self) {
        let fields = self.plain(Kind::Roll, true, &[]);
        self.write(fields, &[]);
        if let Some(segment) = self.segments.back_mut() {
            segment.end = self.tail;
        }
        self.barrier();
        self.open_segment(ROLLED);
    }

    /// Takes the next free slot for a new segment; its header stands behind a barrier afterwards.
    pub(crate) fn open_segment(&mut self, reason: u8) {
        let Some(slot) = self.ready.pop_front() else { return };
        let sequence = self.segments.back().map_or(1, |segment| segment.sequence + 1);
        let header = SegmentHeader::new(&SegmentFields {
            shard: self.config.shard,
            log_id: self.log_id,
            sequence,
            base_lsn: self.lsn,
            base_epoch: self.epoch,
            base_chain: self.chain,
            level: self.region.level() as u8,
            reason,
            segment_bytes: self.region.slot_bytes(),
            window_bytes: self.region.window_bytes(),
            time: self.time,
            boot_id: self.config.boot_id,
        });
        let base = u64::from(slot) * self.region.slot_bytes();
        for copy in SEGMENT_HEADER_AT {
            self.region.store(base + copy, header.as_bytes());
            self.region.flush(base + copy, header.as_bytes().len());
            self.written += header.as_bytes().len() as u64;
            self.barrier();
        }
        self.generation = header.generation.get();
        self.tail = base + SEGMENT_DATA_AT;
        self.segment_end = base + self.region.slot_bytes();
        self.segments.push_back(Segment { slot, sequence, end: self.tail });
    }

    /// The fresh segment of a start, its epoch record, and everything synced.
    pub(crate) fn begin_epoch(&mut self) -> std::io::Result<()> {
        self.open_segment(OPENED_AT_START);
        let base = self.segment_end - self.region.slot_bytes();
        self.region.sync(base, SEGMENT_DATA_AT as usize)?;
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
        let barrier = self.region.barrier();
        self.barrier_written = self.written;
        self.in_flight.push_back((barrier, self.lsn, self.written));
    }

    /// Every record with an lsn below the one returned was followed by a completed barrier.
    #[inline]
    pub fn persisted(&mut self) -> u64 {
        if self.in_flight.is_empty() {
            return self.persisted;
        }
        let completed = self.region.completed();
        while let Some((barrier, lsn, written)) = self.in_flight.front().copied() {
            if barrier > completed {
                break;
            }
            self.persisted = lsn;
            self.completed_written = written;
            self.in_flight.pop_front();
        }
        self.persisted
    }

    pub(crate) fn note_written(&mut self, bytes: u64) {
        self.written += bytes;
    }

    pub(crate) fn nothing_in_flight(&self) -> bool {
        self.in_flight.is_empty() && self.written == self.barrier_written
    }

    pub(crate) fn resume(&mut self, lsn: u64, chain: u32, time: u64) {
        (self.lsn, self.persisted, self.chain, self.time) = (lsn, lsn, chain, time);
    }

    /// The record at `at`, if it is still one.
    #[inline]
    pub fn record(&self, at: RecordAt) -> Option<Record<'_>> {
        let header = RecordHeader::read(self.region.bytes(at.address(), RECORD_HEADER_BYTES))?;
        let bytes = header.block_bytes.get() as usize;
        let room = self.region.slot_bytes() - at.address() % self.region.slot_bytes();
        if record_bytes(bytes) > room {
            return None;
        }
        let block = self.region.bytes(at.address() + RECORD_HEADER_BYTES as u64, bytes);
        Some(Record { header, block })
    }

    /// The record of `stream` whose batch holds `offset`, and its number for the next call's `hint`.
    #[inline]
    pub fn lookup(&self, stream: StreamSlot, offset: u64, hint: u64) -> Option<(u64, RecordAt)> {
        let state = &self.tables.streams[stream.0 as usize];
        if offset >= state.next_offset {
            return None;
        }
        let number = self.index.find(&state.entries, offset, hint)?;
        let (_, at) = self.index.entry(&state.entries, number)?;
        Some((number, RecordAt(at)))
    }

    /// Offset of the stream's first message that was stored at or after `time` (ns since 1970).
    pub fn first_at_or_after(&self, stream: StreamSlot, time: u64) -> Option<u64> {
        self.first_where(stream, |header| header.time.get() >= time)
    }

    /// Offset of the stream's first message of an epoch later than `epoch`.
    pub fn first_of_later_epoch(&self, stream: StreamSlot, epoch: u32) -> Option<u64> {
        self.first_where(stream, |header| header.epoch.get() > epoch)
    }

    /// Binary search: `from_here` is false for a prefix of the stream's records and true for the rest.
    fn first_where(
        &self,
        stream: StreamSlot,
        from_here: impl Fn(&RecordHeader) -> bool,
    ) -> Option<u64> {
        let state = &self.tables.streams[stream.0 as usize];
        let number = self.index.partition(&state.entries, |_, at| {
            self.record(RecordAt(at)).is_some_and(|record| !from_here(record.header))
        });
        self.index.entry(&state.entries, number).map(|(offset, _)| offset)
    }
}

impl<R: Region> std::fmt::Debug for Wal<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal")
            .field("epoch", &self.epoch)
            .field("lsn", &self.lsn)
            .field("persisted", &self.persisted)
            .field("segments", &self.segments.len())
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}
