//! Writing a cold segment, from its first record to the name that makes it count.

use zerocopy::IntoBytes;

use super::ColdError;
use super::disk::ColdDisk;
use super::error::failed;
use super::file::{ColdFile, pack};
use super::format::{CHUNK_BYTES, Chunk, Extent, Footer, FooterFields, HEADER_BYTES, Header};
use super::names::{NEW, name_of};
use super::page::packed_bytes;
use crate::format::crc32c;
use crate::planted::{Bug, planted};
use crate::region::Level;
use crate::wal::Record;

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// A cold segment that is being written. Records come sorted by stream and offset.
#[derive(Debug)]
pub(crate) struct Writer {
    header: Header,
    /// Its name when it is done.
    name: String,
    range: (u64, u64),
    level: Level,
    /// What is not written yet; the last chunk begins at `chunk_at` of it.
    waiting: Vec<u8>,
    chunk_at: usize,
    /// Bytes that are written.
    written: u64,
    /// The chunk that grows, without its crc.
    chunk: Option<Chunk>,
    table: Vec<u8>,
    chunks: u64,
    extents: Vec<Extent>,
    last_lsn: u64,
}

impl Writer {
    /// Begins the file that covers the hot segments `range` of a log's shard.
    pub(crate) fn create(
        disk: &mut impl ColdDisk,
        log_id: [u8; 16],
        shard: u32,
        range: (u64, u64),
        level: Level,
    ) -> Result<Writer, ColdError> {
        let header = Header::new(log_id, shard, range, level);
        let writer = Writer {
            header,
            name: name_of(range.0, range.1),
            range,
            level,
            waiting: header.as_bytes().to_vec(),
            chunk_at: HEADER_BYTES,
            written: 0,
            chunk: None,
            table: Vec::new(),
            chunks: 0,
            extents: Vec::new(),
            last_lsn: 0,
        };
        let new = writer.new_name();
        disk.create(&new).map_err(failed(&new, "making it"))?;
        Ok(writer)
    }

    /// The name until it is done.
    pub(crate) fn new_name(&self) -> String {
        format!("{}{NEW}", self.name)
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    /// Appends a record. Offsets from `from` on that are below it were compacted away; those between the record
    /// before and `from`, if any, were lost.
    pub(crate) fn push(
        &mut self,
        disk: &mut impl ColdDisk,
        from: u64,
        record: &Record<'_>,
    ) -> Result<(), ColdError> {
        let header = record.header;
        let (stream, time, epoch) = (header.stream, header.time, header.epoch);
        let goes_on =
            self.extents.last().is_some_and(|last| last.stream == stream && last.end.get() == from);
        let packed = packed_bytes(record.block.len());
        let grown = self.chunk.map_or(0, |chunk| chunk.bytes as usize);
        if !goes_on || (grown > 0 && grown + packed > CHUNK_BYTES) {
            self.close_chunk(disk)?;
        }
        if !goes_on {
            self.extents.push(Extent {
                stream,
                from: from.into(),
                first: header.offset,
                end: from.into(),
                bytes: 0.into(),
                table: self.chunks.into(),
                first_time: time,
                last_time: time,
                chunks: 0.into(),
                records: 0.into(),
                first_epoch: epoch,
                last_epoch: epoch,
            });
        }
        let place = self.written + self.chunk_at as u64;
        let (first, end) = (header.offset.get(), record.end_offset());
        let fresh = Chunk { first, end, last_time: 0, place, bytes: 0, crc: 0, last_epoch: 0 };
        let chunk = self.chunk.get_or_insert(fresh);
        (chunk.end, chunk.last_time, chunk.last_epoch) = (end, time.get(), epoch.get());
        chunk.bytes += packed as u32;
        if let Some(extent) = self.extents.last_mut() {
            extent.end = end.into();
            extent.bytes += packed as u64;
            extent.records += 1;
            (extent.last_time, extent.last_epoch) = (time, epoch);
        }
        self.last_lsn = self.last_lsn.max(header.lsn.get());
        pack(record, &mut self.waiting);
        Ok(())
    }

    /// Lets the last extent speak for all offsets up to `end`: those behind its records were compacted away.
    pub(crate) fn speak_to(&mut self, end: u64) {
        if let Some(extent) = self.extents.last_mut() {
            extent.end = extent.end.get().max(end).into();
        }
    }

    fn close_chunk(&mut self, disk: &mut impl ColdDisk) -> Result<(), ColdError> {
        if let (Some(mut chunk), Some(extent)) = (self.chunk.take(), self.extents.last_mut()) {
            chunk.crc = crc32c(&self.waiting[self.chunk_at..]);
            self.table.extend_from_slice(&chunk.entry(extent.stream.get(), self.chunks));
            self.chunks += 1;
            extent.chunks += 1;
        }
        if self.waiting.len() >= WRITE_BYTES {
            self.write(disk)?;
        }
        self.chunk_at = self.waiting.len();
        Ok(())
    }

    fn write(&mut self, disk: &mut impl ColdDisk) -> Result<(), ColdError> {
        let new = self.new_name();
        disk.append(&new, &self.waiting).map_err(failed(&new, "writing it"))?;
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// True if there is no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.extents.is_empty()
    }

    /// Writes the rest, and makes the file durable and then its name.
    pub(crate) fn finish(mut self, disk: &mut impl ColdDisk) -> Result<ColdFile, ColdError> {
        self.close_chunk(disk)?;
        let table_at = self.bytes();
        self.waiting.append(&mut self.table);
        let extents_at = self.bytes();
        let fields = FooterFields {
            table_at,
            chunks: self.chunks,
            extents_at,
            extents: self.extents.len() as u64,
            last_lsn: self.last_lsn,
            extents_crc: crc32c(self.extents.as_bytes()),
        };
        self.waiting.extend_from_slice(self.extents.as_bytes());
        self.waiting.extend_from_slice(Footer::new(&self.header, &fields).as_bytes());
        self.write(disk)?;
        let new = self.new_name();
        if !planted(Bug::ColdNotSynced) {
            disk.sync(&new).map_err(not_synced(&new))?;
        }
        disk.rename(&new, &self.name).map_err(failed(&new, "renaming it"))?;
        if !planted(Bug::ColdNameNotSynced) {
            disk.sync_directory().map_err(not_synced("."))?;
        }
        Ok(ColdFile {
            name: self.name,
            range: self.range,
            level: self.level,
            bytes: self.written,
            table_at,
            last_lsn: self.last_lsn,
            extents: self.extents,
            dead: 0,
            damaged: false,
        })
    }
}

/// What a failed sync is.
pub(crate) fn not_synced(file: &str) -> impl FnOnce(std::io::Error) -> ColdError {
    let file = file.to_string();
    |source| ColdError::Poisoned { file, source }
}
