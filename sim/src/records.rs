//! The records of a stream in the log, and copies of those that were looked at: where a record is byte for byte what it
//! was, its messages are too, and need not be looked at again.

use std::collections::VecDeque;
use std::ops::Range;

use mstream_pmem::region::Region;
use mstream_pmem::wal::{Record, RecordAt, StreamSlot, Wal};
use mstream_wire::Block;

use crate::content::Content;
use crate::history::Entry;
use crate::invariants::{Broken, Check, bytes, kept};

/// A record of a stream.
pub(crate) struct Found<'a> {
    stream: u64,
    pub(crate) record: Record<'a>,
    pub(crate) at: RecordAt,
    /// Where to go on looking.
    pub(crate) hint: u64,
}

fn unreadable(stream: u64, offset: u64, what: impl std::fmt::Display) -> Broken {
    Broken { invariant: kept::NAME, what: format!("stream {stream} offset {offset}: {what}") }
}

impl<'a> Found<'a> {
    /// The one that holds `offset`.
    pub(crate) fn find<R: Region>(
        wal: &'a Wal<R>,
        slot: StreamSlot,
        offset: u64,
        hint: u64,
    ) -> Result<Found<'a>, Broken> {
        let stream = wal.stream(slot).id;
        let (hint, first, at) = wal
            .place(slot, offset, hint)
            .ok_or_else(|| unreadable(stream, offset, "no record holds it"))?;
        let record = wal.record_of(slot, first, at).filter(|record| offset < record.end_offset());
        let record =
            record.ok_or_else(|| unreadable(stream, offset, "its record cannot be read"))?;
        Ok(Found { stream, record, at, hint })
    }

    /// Where a stream goes on behind an offset that it has no record of, if its log says that what stood there is lost.
    pub(crate) fn passed_over<R: Region>(
        wal: &Wal<R>,
        slot: StreamSlot,
        offset: u64,
        hint: u64,
    ) -> Option<u64> {
        let hole = wal.hole(slot, offset, hint).filter(|(_, accepted)| *accepted);
        hole.map(|(to, _)| to)
    }

    pub(crate) fn first(&self) -> u64 {
        self.record.header.offset.get()
    }

    /// Hands on its messages from an offset on.
    pub(crate) fn messages(&self, from: u64, mut each: impl FnMut(u64, Entry) -> Check) -> Check {
        let (stream, header) = (self.stream, self.record.header);
        let block = Block::parse(self.record.block, header.count.get(), header.block_crc.get())
            .map_err(|error| unreadable(stream, from, error))?;
        let publisher = header.publisher.get();
        for (offset, message) in (self.first()..).zip(block.messages()) {
            if offset < from {
                continue;
            }
            let content = Content::read(&message).ok_or_else(|| {
                bytes::nobody_published(format_args!("stream {stream} offset {offset} of the log"))
            })?;
            each(offset, Entry { content, publisher })?;
        }
        Ok(())
    }
}

/// What a record said when its messages were looked at.
#[derive(Debug)]
struct Copy {
    /// Offset of its first message, and behind its last.
    first: u64,
    end: u64,
    publisher: u64,
    block_crc: u32,
    /// Where its block stands.
    block: Range<usize>,
}

/// Copies of records of a stream, in the order of their offsets.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    records: VecDeque<Copy>,
    blocks: Vec<u8>,
}

impl Copies {
    /// All messages of a record were looked at; it stands behind all others.
    pub(crate) fn keep(&mut self, record: &Record<'_>) {
        let (header, from) = (record.header, self.blocks.len());
        self.blocks.extend_from_slice(record.block);
        self.records.push_back(Copy {
            first: header.offset.get(),
            end: record.end_offset(),
            publisher: header.publisher.get(),
            block_crc: header.block_crc.get(),
            block: from..self.blocks.len(),
        });
    }

    /// The log begins here.
    pub(crate) fn drop_before(&mut self, earliest: u64) {
        while self.records.front().is_some_and(|copy| copy.end <= earliest) {
            self.records.pop_front();
        }
    }

    /// The log ends here.
    pub(crate) fn truncate(&mut self, end: u64) {
        while let Some(last) = self.records.pop_back_if(|copy| copy.end > end) {
            self.blocks.truncate(last.block.start);
        }
    }

    /// The copies, to be asked for in order.
    pub(crate) fn compare(&self) -> Compare<'_> {
        Compare { copies: self, next: 0 }
    }
}

/// See [`Copies::compare`].
pub(crate) struct Compare<'a> {
    copies: &'a Copies,
    next: usize,
}

impl Compare<'_> {
    /// True if the record, which stands behind those that were asked for before, is as it was.
    pub(crate) fn has(&mut self, record: &Record<'_>) -> bool {
        let (header, first) = (record.header, record.header.offset.get());
        let Copies { records, blocks } = self.copies;
        while records.get(self.next).is_some_and(|copy| copy.first < first) {
            self.next += 1;
        }
        records.get(self.next).is_some_and(|copy| {
            copy.first == first
                && copy.end == record.end_offset()
                && copy.publisher == header.publisher.get()
                && copy.block_crc == header.block_crc.get()
                && blocks[copy.block.clone()] == *record.block
        })
    }
}
