//! Records of a stream on their way from cold segments to a shard.

use zerocopy::{FromBytes, IntoBytes};

use crate::format::{RECORD_HEADER_BYTES, RecordHeader, crc32c};
use crate::wal::Record;

/// Bytes that a record takes in pages and cold segments: header and block, up to the next multiple of 8.
pub(crate) const fn packed_bytes(block: usize) -> usize {
    (RECORD_HEADER_BYTES + block).next_multiple_of(8)
}

/// A buffer of fixed size with consecutive records of one stream, filled by the reader of cold segments, read by a
/// shard. It allocates when it is made and never again.
#[derive(Debug)]
pub struct ColdPage {
    bytes: Box<[u8]>,
    used: usize,
    /// Where each record begins.
    starts: Vec<u32>,
    stream: u64,
    from: u64,
    end: u64,
}

impl ColdPage {
    /// An empty page with room for `bytes` bytes of records, at most 1 GiB. Records take 96 bytes more than their
    /// blocks.
    pub fn new(bytes: usize) -> ColdPage {
        let bytes = bytes.min(1 << 30);
        let most = bytes / packed_bytes(1);
        ColdPage {
            bytes: vec![0; bytes].into_boxed_slice(),
            used: 0,
            starts: Vec::with_capacity(most),
            stream: 0,
            from: 0,
            end: 0,
        }
    }

    /// The stream whose records these are.
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// First offset that the page speaks for: offsets between this and [`ColdPage::end`] that no record of it holds
    /// were compacted away. Greater than the offset that was asked for where cold segments have none of those
    /// between: they are lost, or were given up by retention. The first record's batch may begin before it. There may
    /// be no record at all: all that the page speaks for was compacted away then.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// Offset behind the last that the page speaks for.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes of records that fit.
    pub fn room(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of records that still fit.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// The records, in order of offset. What they hold was checked when the page was filled.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.starts.iter().filter_map(|start| self.record(*start))
    }

    /// The first record whose batch ends beyond `offset`.
    #[inline]
    pub fn record_at_or_after(&self, offset: u64) -> Option<Record<'_>> {
        let before =
            |start: &u32| self.record(*start).is_some_and(|record| record.end_offset() <= offset);
        let number = self.starts.partition_point(before);
        self.record(*self.starts.get(number)?)
    }

    /// Makes the page an empty one of `stream` that speaks for nothing, from offset `from` on.
    pub fn begin(&mut self, stream: u64, from: u64) {
        self.used = 0;
        self.starts.clear();
        (self.stream, self.from, self.end) = (stream, from, from);
    }

    /// Appends a record whose block fits its crc; the page speaks for all up to its end. False, and nothing is
    /// changed, when there is no room, or when it is no record of the page's stream behind the others.
    pub fn push(&mut self, header: &RecordHeader, block: &[u8]) -> bool {
        let packed = packed_bytes(block.len());
        let last = self.starts.last().and_then(|start| self.record(*start));
        let follows = last.is_none_or(|last| last.end_offset() <= header.offset.get());
        let sound = header.stream.get() == self.stream
            && header.block_bytes.get() as usize == block.len()
            && header.block_crc.get() == crc32c(block);
        let full = self.starts.len() == self.starts.capacity();
        let Some(room) = self.bytes.get_mut(self.used..).and_then(|rest| rest.get_mut(..packed))
        else {
            return false;
        };
        if !follows || !sound || full {
            return false;
        }
        let (head, rest) = room.split_at_mut(RECORD_HEADER_BYTES);
        head.copy_from_slice(header.as_bytes());
        rest[..block.len()].copy_from_slice(block);
        rest[block.len()..].fill(0);
        self.starts.push(self.used as u32);
        self.used += packed;
        self.end = self.end.max(header.offset.get() + u64::from(header.count.get()));
        true
    }

    /// Lets the page speak for all offsets up to `end`, if that is behind what it speaks for.
    pub fn speak_to(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    #[inline]
    fn record(&self, start: u32) -> Option<Record<'_>> {
        let bytes = self.bytes.get(start as usize..self.used)?;
        let (header, rest) = RecordHeader::ref_from_prefix(bytes).ok()?;
        let block = rest.get(..header.block_bytes.get() as usize)?;
        Some(Record { header, block })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Kind, RecordFields};

    fn header(offset: u64, count: u16, block: &[u8]) -> RecordHeader {
        let fields = RecordFields {
            kind: Kind::Data,
            local: false,
            generation: 1,
            count,
            block_bytes: block.len() as u32,
            epoch: 1,
            block_crc: crc32c(block),
            lsn: 1,
            stream: 7,
            offset,
            publisher: 0,
            incarnation: 0,
            sequence: 1,
            time: 1,
        };
        RecordHeader::new(&fields, 0)
    }

    #[test]
    fn records_are_found_by_offset() {
        let mut page = ColdPage::new(1024);
        page.begin(7, 10);
        assert!(page.push(&header(8, 4, b"first"), b"first"));
        assert!(page.push(&header(20, 1, b"second!!!"), b"second!!!"));
        assert!(!page.push(&header(20, 1, b"again"), b"again"));
        assert!(!page.push(&header(30, 1, b"other"), b"bytes"), "its crc is another");
        assert_eq!((page.stream(), page.from(), page.end()), (7, 10, 21));
        page.speak_to(25);
        assert_eq!(page.end(), 25);
        let at = |offset| page.record_at_or_after(offset).map(|record| record.block);
        assert_eq!(at(0), Some(&b"first"[..]));
        assert_eq!(at(11), Some(&b"first"[..]));
        assert_eq!(at(12), Some(&b"second!!!"[..]));
        assert_eq!(at(21), None);
        let offsets: Vec<u64> = page.records().map(|record| record.header.offset.get()).collect();
        assert_eq!(offsets, [8, 20]);
        page.begin(8, 0);
        assert_eq!(page.records().count(), 0);
        assert!(page.record_at_or_after(0).is_none());
    }

    #[test]
    fn a_full_page_takes_no_more_and_does_not_grow() {
        let mut page = ColdPage::new(256);
        page.begin(7, 0);
        let block = [1; 24];
        assert!(page.push(&header(0, 1, &block), &block));
        assert!(page.push(&header(1, 1, &block), &block));
        assert!(!page.push(&header(2, 1, &block), &block));
        let mut page = ColdPage::new(300);
        page.begin(7, 0);
        let pushed = (0..9).take_while(|offset| page.push(&header(*offset, 1, b""), b"")).count();
        assert_eq!(pushed, 2, "a record without a block is not reckoned with, and takes a place");
        assert_eq!(page.records().count(), 2);
    }
}
