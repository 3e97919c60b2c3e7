//! Reading: a record by its place, and places by offset, time and epoch.

use std::num::NonZeroU32;

use crate::format::{Kind, LINE, RECORD_HEADER_BYTES, RecordHeader, crc32c, record_bytes};
use crate::region::Region;
use crate::tables::StreamSlot;
use crate::wal::{Record, Wal};

/// Records whose headers are on their way while one is looked at, where a segment is walked through.
const AHEAD: u64 = 16;

/// Where a record stands: its address in units of 64 bytes. Never 0: a segment header stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAt(NonZeroU32);

impl RecordAt {
    pub(crate) fn new(address: u64) -> RecordAt {
        RecordAt::of_line((address / LINE) as u32)
    }

    #[inline]
    pub(crate) fn of_line(line: u32) -> RecordAt {
        RecordAt(NonZeroU32::new(line).unwrap_or(NonZeroU32::MIN))
    }

    /// Which line of 64 bytes of the region it begins in.
    #[inline]
    pub(crate) fn line(self) -> u32 {
        self.0.get()
    }

    /// Byte of the region where it begins.
    pub fn address(self) -> u64 {
        u64::from(self.line()) * LINE
    }
}

impl<R: Region> Wal<R> {
    /// The record at `at`, if it is still one. Which one that is may have changed, where a file was exchanged under the
    /// log: [`Wal::record_of`] asks.
    #[inline]
    pub fn record(&self, at: RecordAt) -> Option<Record<'_>> {
        let header = RecordHeader::read(self.region.bytes(at.address(), RECORD_HEADER_BYTES))?;
        let bytes = header.block_bytes.get() as usize;
        let room = self.region.slot_bytes() - at.address() % self.region.slot_bytes();
        if record_bytes(bytes) > room {
            return None;
        }
        let block = self.region.bytes(at.address() + RECORD_HEADER_BYTES as u64, bytes);
        Some(Record { header, block }).filter(|record| self.still_sound(record))
    }

    /// Asks for a header far behind the record of `bytes` bytes at `address`: where it stands if all of them are as long.
    /// `end` is where the records end.
    #[inline]
    pub(crate) fn prefetch_later(&self, address: u64, bytes: u64, end: u64) {
        let later = address + AHEAD * bytes;
        if later + LINE < end {
            self.region.prefetch(later);
            self.region.prefetch(later + LINE);
        }
    }

    /// The record at `at`, if it is the one of `stream` that begins at `offset`.
    #[inline]
    pub fn record_of(&self, stream: StreamSlot, offset: u64, at: RecordAt) -> Option<Record<'_>> {
        let id = self.tables.streams[stream.0 as usize].id;
        self.record(at).filter(|Record { header, .. }| {
            header.stream.get() == id
                && header.offset.get() == offset
                && header.kind == Kind::Data as u8
        })
    }

    /// The record of `stream` whose batch holds `offset`, if it can be read, and its number for the next call's `hint`.
    #[inline]
    pub fn read(&self, stream: StreamSlot, offset: u64, hint: u64) -> Option<(u64, Record<'_>)> {
        let (number, first, at) = self.place(stream, offset, hint)?;
        let record = self.record_of(stream, first, at)?;
        (offset < record.end_offset()).then_some((number, record))
    }

    /// True if the block of a record is what was stored. To be asked again behind the use of it: memory that is lost
    /// ([`crate::sigbus`]) is lost when it is read.
    #[inline]
    pub fn still_sound(&self, record: &Record<'_>) -> bool {
        self.region.poison().is_none() || crc32c(record.block) == record.header.block_crc.get()
    }

    /// Where the record of `stream` stands whose batch holds `offset`, and its number for the next call's `hint`.
    #[inline]
    pub fn lookup(&self, stream: StreamSlot, offset: u64, hint: u64) -> Option<(u64, RecordAt)> {
        self.place(stream, offset, hint).map(|(number, _, at)| (number, at))
    }

    /// What the index says of the batch that holds `offset`: its number, its first offset, and its place.
    #[inline]
    pub fn place(
        &self,
        stream: StreamSlot,
        offset: u64,
        hint: u64,
    ) -> Option<(u64, u64, RecordAt)> {
        let state = &self.tables.streams[stream.0 as usize];
        if offset >= state.next_offset {
            return None;
        }
        let Some(number) = self.index.find(&state.entries, offset, hint) else {
            return self.place_older(stream, offset, hint);
        };
        let (first, at) = self.index.entry(&state.entries, number)?;
        Some((number, first, RecordAt::of_line(at)))
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
        let here = |(offset, at)| {
            let record = self.record_of(stream, offset, RecordAt::of_line(at));
            record.is_some_and(|record| from_here(record.header))
        };
        if self.has_older(state) && self.index.front(&state.entries).is_none_or(here) {
            return self.first_older_where(state, &from_here);
        }
        let number = self.index.partition(&state.entries, |offset, at| {
            let record = self.record_of(stream, offset, RecordAt::of_line(at));
            record.is_some_and(|record| !from_here(record.header))
        });
        self.index.entry(&state.entries, number).map(|(offset, _)| offset)
    }
}
