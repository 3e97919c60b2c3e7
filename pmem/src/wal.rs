//! The write-ahead log of one shard, over a region. No I/O of its own, no clock: times come in with the
//! records. After [`Wal::open`] nothing here allocates.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::fault::Fault;
use crate::format::{ROLL_BYTES, RecordHeader, SEGMENT_DATA_AT};
use crate::holdings::Holdings;
use crate::index::{ArenaSize, Index};
use crate::older::Older;
use crate::poison::Poison;
pub use crate::read::RecordAt;
use crate::region::{Barrier, Level, Region};
use crate::retire::Retire;
use crate::sealed::SegmentGap;
use crate::tables::Tables;
pub use crate::tables::{
    Life, PublicationSlot, PublicationState, StreamSlot, StreamState, TableLimits,
};

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
    /// No segment is free but the reserve, or the index has no room: recycling makes some.
    #[error("no free segment, or no room in the index")]
    Full,
    /// The block does not fit a segment or what may wait for a barrier.
    #[error("a record of {bytes} bytes is too large (limit {limit})")]
    TooLarge {
        /// Bytes of the record.
        bytes: u64,
        /// Most bytes a record may have.
        limit: u64,
    },
    /// The log is damaged and takes nothing: an operator has to decide.
    #[error("the log is damaged and takes nothing (FAULT)")]
    Fault,
    /// W bytes, or the opening of the next segment, wait for a barrier to complete: try again later.
    #[error("too much waits for a barrier")]
    Window,
    /// The record would be the first of one publisher more than the log remembers: waiting does not help.
    #[error(transparent)]
    TableFull(#[from] TableFull),
    /// The medium failed: nothing is taken any more.
    #[error("the log is poisoned: {0}")]
    Poisoned(Poison),
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

impl Record<'_> {
    /// Offset behind the last message (data).
    #[inline]
    pub fn end_offset(&self) -> u64 {
        self.header.offset.get() + u64::from(self.header.count.get())
    }
}

/// A segment in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) slot: u32,
    pub(crate) sequence: u64,
    /// What its records carry.
    pub(crate) generation: u64,
    /// Address behind its last valid record (of the newest segment: where it was opened).
    pub(crate) end: u64,
    /// Lsn of its first record that consumes one.
    pub(crate) first_lsn: u64,
    /// First lsn that it does not hold any more (of the newest segment: `first_lsn`).
    pub(crate) next_lsn: u64,
    /// Somebody reads it ([`crate::sealed`]).
    pub(crate) lent: bool,
    /// Number of its first entry among [`crate::holdings`].
    pub(crate) holdings: u64,
    /// Those entries say all (not known of the newest segment).
    pub(crate) is_noted: bool,
}

/// What all segments of a log share.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogNames {
    pub(crate) log_id: [u8; 16],
    pub(crate) secret: [u8; 16],
}

/// What a log is told when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// Shard whose log this is.
    pub shard: u32,
    /// Random id for a log that does not exist yet. Clients are told it.
    pub new_log_id: [u8; 16],
    /// Random secret for a log that does not exist yet: publishers who do not know it cannot make up records
    /// that a recovery takes for the log's own.
    pub new_secret: [u8; 16],
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
    pub(crate) secret: [u8; 16],
    pub(crate) epoch: u32,
    pub(crate) tables: Tables,
    pub(crate) index: Index,
    /// The segments that are not in the index.
    pub(crate) older: Older,
    /// Segments in use, oldest first.
    pub(crate) segments: VecDeque<Segment>,
    /// Free slots, in the order in which they will be taken.
    pub(crate) ready: VecDeque<u32>,
    /// Slots that exist.
    pub(crate) slots_made: u32,
    /// Segments that data cannot use.
    pub(crate) reserve: u32,
    pub(crate) retire: Retire,
    /// Who has anything in which segment.
    pub(crate) holdings: Holdings,
    /// The record at which recycling stopped because it cannot be read.
    pub(crate) unreadable: Option<RecordAt>,
    pub(crate) growth: Growth,
    /// Moment of a clock that never jumps, as told last (ns).
    pub(crate) moment: u64,
    pub(crate) possible_loss: bool,
    /// Why the log takes nothing.
    pub(crate) fault: Option<Box<Fault>>,
    /// Where nothing in a segment counts, in the order of the segments: accepted losses, or damage. Fixed once the log
    /// is open.
    pub(crate) gaps: Arc<[SegmentGap]>,
    /// Segments with sequences below this one are sealed: they take no more records, and those they have are behind
    /// completed barriers.
    pub(crate) sealed_below: u64,
    /// Sealed segments below this one were lent.
    pub(crate) lent_below: u64,
    /// No sealed segment is recycled before it was lent and given back.
    pub(crate) holds: bool,
    /// There may be one to lend.
    pub(crate) lends: bool,
    /// Set for good when the region's medium failed.
    pub(crate) poison: Option<Poison>,
    /// While rolling: how many copies of the next segment's header were written.
    pub(crate) header_copies: Option<usize>,
    /// Most bytes a record may have.
    pub(crate) record_limit: u64,
    pub(crate) window_bytes: u64,
    pub(crate) generation: u64,
    pub(crate) tail: u64,
    pub(crate) segment_end: u64,
    pub(crate) lsn: u64,
    pub(crate) chain: u32,
    pub(crate) time: u64,
    /// Bytes written since the log was opened, and those behind the last completed barrier.
    pub(crate) written: u64,
    pub(crate) completed_written: u64,
    /// Bytes at the last barrier issued.
    pub(crate) barrier_written: u64,
    /// Barriers that have not completed: number, next lsn and bytes written when they were issued.
    pub(crate) in_flight: VecDeque<(Barrier, u64, u64)>,
    pub(crate) persisted: u64,
}

/// Whether slots that do not exist yet are waited for when free ones run short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Growth {
    /// They come when they are needed.
    #[default]
    Fed,
    /// Data is refused for want of one since this moment.
    Starved(u64),
    /// None came for long (a full disk): the log keeps to the slots that exist until one comes. Starved since this moment.
    Settled(u64),
}

/// How long data is refused before the log keeps to the slots that exist (ns): far more than making one takes.
pub(crate) const PATIENCE_NS: u64 = 2_000_000_000;

/// Barriers that may be in flight; more wait to be issued.
pub(crate) const MAX_IN_FLIGHT: usize = 1024;

impl<R: Region> Wal<R> {
    pub(crate) fn with_index(
        region: R,
        config: WalConfig,
        names: LogNames,
        arena: ArenaSize,
    ) -> Wal<R> {
        let limits = config.tables;
        let room = region.slot_bytes() - SEGMENT_DATA_AT - ROLL_BYTES;
        Wal {
            log_id: names.log_id,
            secret: names.secret,
            epoch: 0,
            tables: Tables::new(limits),
            index: Index::new(arena),
            older: Older::new(
                region.slots(),
                TableLimits::footer_bytes(arena.bytes(), region.slot_bytes()),
            ),
            segments: VecDeque::with_capacity(region.slots() as usize + 1),
            ready: VecDeque::with_capacity(region.slots() as usize + 1),
            slots_made: 0,
            reserve: limits.reserve_segments(region.slot_bytes()),
            retire: Retire::default(),
            holdings: Holdings::new(limits.holdings(region.slots(), region.slot_bytes())),
            unreadable: None,
            growth: Growth::default(),
            moment: 0,
            possible_loss: false,
            fault: None,
            gaps: Arc::from([]),
            sealed_below: 1,
            lent_below: 1,
            holds: false,
            lends: false,
            poison: None,
            header_copies: None,
            record_limit: room.min(region.window_bytes()),
            window_bytes: region.window_bytes(),
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
        if self.fault.is_some() {
            return 0;
        }
        let target = self.config.ready_segments + self.reserve;
        // A log that gave up waiting recycles, and still takes a slot as soon as one can be made.
        let least = u32::from(matches!(self.growth, Growth::Settled(_)));
        let missing = target.saturating_sub(self.slots_ready()).max(least);
        missing.min(self.region.slots() - self.slots_made)
    }

    /// For how long data has been refused (ns), if it waits in vain: no more than the reserve is free, nothing can be
    /// recycled, and the slot that is to come does not (a full disk).
    pub fn exhausted_ns(&self) -> Option<u64> {
        let Growth::Settled(since) = self.growth else { return None };
        let stuck = self.segments.len() < 2 && self.slots_ready() <= self.reserve;
        stuck.then(|| self.moment.saturating_sub(since))
    }

    /// Takes over a slot that the housekeeper made.
    pub fn add_ready(&mut self, slot: u32) {
        self.slots_made += 1;
        self.ready.push_back(slot);
        self.growth = Growth::Fed;
    }

    /// True while slots are still to come that are to be used before the oldest segment is recycled.
    pub(crate) fn grows(&self) -> bool {
        self.slots_made < self.region.slots() && !matches!(self.growth, Growth::Settled(_))
    }

    /// Says what moment it is, by a clock that never jumps (ns since any time): patience is not counted by the times of
    /// records, which follow the calendar. At least for every poll.
    #[inline]
    pub fn set_moment(&mut self, mono_ns: u64) {
        self.moment = mono_ns;
    }

    /// Notes that a record was refused because no slot is free.
    #[cold]
    pub(crate) fn starve(&mut self) {
        let now = self.moment;
        self.growth = match self.growth {
            Growth::Fed => Growth::Starved(now),
            Growth::Starved(since) if now.saturating_sub(since) >= PATIENCE_NS => {
                Growth::Settled(since)
            }
            waits => waits,
        };
    }

    /// Address in the region (slot * slot bytes + byte) of a record that cannot be read any more, at which
    /// recycling has stopped: the memory was changed by someone else or is defective. Data is refused once free
    /// segments run out, and the next start finds the same damage.
    pub fn unreadable(&self) -> Option<u64> {
        self.unreadable.map(RecordAt::address)
    }

    /// Sizes of the tables.
    pub fn table_limits(&self) -> TableLimits {
        self.config.tables
    }

    /// True if the machine was booted since the log was written at level `process`: what was acknowledged then may
    /// be missing.
    pub fn possible_loss(&self) -> bool {
        self.possible_loss
    }

    /// Why the log is in the state FAULT, if it is: read-only, with what is sound.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_deref()
    }

    /// Why the log takes nothing more and what it took last is not promised: its medium failed. For the life of the
    /// process; what is persisted can be read.
    #[inline]
    pub fn poison(&self) -> Option<Poison> {
        // What was lost under a reader is known before the next barrier waits in vain.
        self.poison.or_else(|| self.region.poison())
    }

    /// Ids of the streams that the log holds anything of.
    pub fn stream_ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.tables.streams.iter().map(|stream| stream.id).filter(|id| *id != 0)
    }

    /// Bytes written since the log was opened, headers and records that are written again among them.
    pub fn written_bytes(&self) -> u64 {
        self.written
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

    /// The stream with this id, if the log knows it.
    #[inline]
    pub fn stream_slot(&self, id: u64) -> Option<StreamSlot> {
        self.tables.stream_slot(id)
    }

    /// Slots that streams may have: all are below this number.
    pub fn stream_slots(&self) -> usize {
        self.tables.streams.len().max(self.config.tables.streams)
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
