//! One cold segment: its summary in memory, its chunks on the disk.

use std::io;
use std::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use super::ColdError;
use super::disk::ColdDisk;
use super::error::failed;
use super::format::{
    Chunk, ENTRY_BYTES, EXTENT_BYTES, Extent, Footer, HEADER_BYTES, Header, VERSION,
};
use super::names::range_of;
use super::page::packed_bytes;
use crate::format::{Kind, RECORD_HEADER_BYTES, RecordHeader, crc32c};
use crate::region::Level;
use crate::wal::Record;

/// Whose cold segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Id of the log that their records are from.
    pub log_id: [u8; 16],
    /// Its shard.
    pub shard: u32,
}

impl Owner {
    /// Whose the file with this header is.
    pub(crate) fn of(header: &Header) -> Owner {
        Owner { log_id: header.log_id, shard: header.shard.get() }
    }

    /// An error if the file `name`, which is `found`'s, is another one's.
    pub(crate) fn check(self, name: &str, found: Owner) -> Result<(), ColdError> {
        match found == self {
            true => Ok(()),
            false => Err(ColdError::OtherLog {
                file: name.into(),
                found: hex(&found.log_id),
                found_shard: found.shard,
                expected: hex(&self.log_id),
                shard: self.shard,
            }),
        }
    }
}

/// What is known of a file without reading its chunks.
#[derive(Clone, Debug)]
pub(crate) struct ColdFile {
    pub(crate) name: String,
    /// The hot segments that it covers.
    pub(crate) range: (u64, u64),
    pub(crate) level: Level,
    pub(crate) bytes: u64,
    pub(crate) table_at: u64,
    pub(crate) last_lsn: u64,
    pub(crate) extents: Vec<Extent>,
    /// Bytes of its chunks that were given up.
    pub(crate) dead: u64,
    /// A chunk could not be read.
    pub(crate) damaged: bool,
}

impl ColdFile {
    /// The summary of a file of `owner`, or of any if that is not known.
    pub(crate) fn read(
        disk: &mut impl ColdDisk,
        name: &str,
        owner: Option<Owner>,
    ) -> Result<ColdFile, ColdError> {
        let damaged = |at, what| Err(damage(name, at, what));
        let Some(range) = range_of(name) else {
            return damaged(0, "the name says no range of hot segments");
        };
        let bytes = disk.len(name).map_err(failed(name, "asking for its size"))?;
        if bytes < 2 * HEADER_BYTES as u64 {
            return damaged(bytes, "the file is shorter than header and footer");
        }
        let header = match header(disk, name)? {
            Ok(header) => header,
            Err(what) => return damaged(0, what),
        };
        if header.version.get() != VERSION {
            return Err(ColdError::Version { file: name.into(), version: header.version.get() });
        }
        owner.map_or(Ok(()), |owner| owner.check(name, Owner::of(&header)))?;
        let level = Level::from_number(header.level);
        let Some(level) = level.filter(|_| (header.from.get(), header.to.get()) == range) else {
            return damaged(32, "the header does not fit the name, or has no known level");
        };
        let end = bytes - HEADER_BYTES as u64;
        let mut tail = [0; HEADER_BYTES];
        disk.read_at(name, end, &mut tail).map_err(failed(name, "reading its footer"))?;
        let footer = match Footer::read(&tail, &header, bytes) {
            Ok(footer) => footer,
            Err(what) => return damaged(end, what),
        };
        let table_at = footer.table_at.get();
        // The footer's check fits, so that the sizes were those of a file once, and they fit this one's.
        let mut packed = vec![0; footer.extents.get() as usize * EXTENT_BYTES];
        disk.read_at(name, footer.extents_at.get(), &mut packed)
            .map_err(failed(name, "reading its extents"))?;
        let extents: Vec<Extent> = packed
            .chunks_exact(EXTENT_BYTES)
            .filter_map(|bytes| Extent::read_from_bytes(bytes).ok())
            .collect();
        let room = table_at - HEADER_BYTES as u64;
        if crc32c(&packed) != footer.extents_crc.get()
            || !Extent::sound(&extents, footer.chunks.get(), room)
        {
            return damaged(footer.extents_at.get(), "the extents do not fit their crc");
        }
        let (name, last_lsn) = (name.to_string(), footer.last_lsn.get());
        Ok(ColdFile {
            name,
            range,
            level,
            bytes,
            table_at,
            last_lsn,
            extents,
            dead: 0,
            damaged: false,
        })
    }

    /// Which extents are the stream's.
    pub(crate) fn of_stream(&self, stream: u64) -> Range<usize> {
        let start = self.extents.partition_point(|extent| extent.stream.get() < stream);
        let mine = self.extents[start..].iter().take_while(|extent| extent.stream.get() == stream);
        let count = mine.count();
        start..start + count
    }

    /// Chunk `number` of an extent, from 0.
    pub(crate) fn chunk(
        &self,
        disk: &mut impl ColdDisk,
        extent: &Extent,
        number: u32,
    ) -> Result<Chunk, ColdError> {
        let entry = extent.table.get() + u64::from(number);
        let at = self.table_at + entry * ENTRY_BYTES as u64;
        let mut bytes = [0; ENTRY_BYTES];
        let lost = Some((extent.from.get(), extent.end.get()));
        self.fill(disk, at, &mut bytes, lost)?;
        let chunk = Chunk::read(extent.stream.get(), entry, &bytes).filter(|chunk| {
            let end = chunk.place.checked_add(u64::from(chunk.bytes));
            chunk.place >= HEADER_BYTES as u64 && end.is_some_and(|end| end <= self.table_at)
        });
        let what = "the entry of the chunk table does not fit its check";
        chunk.ok_or_else(|| ColdError::Damaged { file: self.name.clone(), at, what, lost })
    }

    /// The number of an extent's first chunk that is not `before` the one that is looked for; their count if all are.
    pub(crate) fn find(
        &self,
        disk: &mut impl ColdDisk,
        extent: &Extent,
        before: impl Fn(&Chunk) -> bool,
    ) -> Result<u32, ColdError> {
        let (mut low, mut high) = (0, extent.chunks.get());
        while low < high {
            let middle = low + (high - low) / 2;
            match before(&self.chunk(disk, extent, middle)?) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// Reads a chunk's records into `into`, and checks them.
    pub(crate) fn load(
        &self,
        disk: &mut impl ColdDisk,
        stream: u64,
        chunk: &Chunk,
        into: &mut Vec<u8>,
    ) -> Result<(), ColdError> {
        let lost = Some((chunk.first, chunk.end));
        let damaged =
            |at, what| Err(ColdError::Damaged { file: self.name.clone(), at, what, lost });
        into.resize(chunk.bytes as usize, 0);
        self.fill(disk, chunk.place, into, lost)?;
        if crc32c(into) != chunk.crc {
            return damaged(chunk.place, "the chunk does not fit its crc");
        }
        let mut next = chunk.first;
        for (at, record) in records(into) {
            let follows = record.is_some_and(|record| {
                record.header.stream.get() == stream
                    && std::mem::replace(&mut next, record.end_offset())
                        <= record.header.offset.get()
            });
            if !follows {
                return damaged(chunk.place + at as u64, "no record of the stream is there");
            }
        }
        match next == chunk.end {
            true => Ok(()),
            false => damaged(chunk.place, "the chunk does not end where the table says"),
        }
    }

    fn fill(
        &self,
        disk: &mut impl ColdDisk,
        at: u64,
        bytes: &mut [u8],
        lost: Option<(u64, u64)>,
    ) -> Result<(), ColdError> {
        let cut_or_failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let what = "the file is shorter than it was";
                ColdError::Damaged { file: self.name.clone(), at, what, lost }
            }
            // What a medium says of a place that it cannot read.
            _ if error.raw_os_error() == Some(libc::EIO) => {
                let what = "the medium cannot read it (EIO)";
                ColdError::Damaged { file: self.name.clone(), at, what, lost }
            }
            _ => failed(&self.name, "reading it")(error),
        };
        disk.read_at(&self.name, at, bytes).map_err(cut_or_failed)
    }
}

/// The header of a file that is long enough, or what it lacks.
pub(crate) fn header(
    disk: &mut impl ColdDisk,
    name: &str,
) -> Result<Result<Header, &'static str>, ColdError> {
    let mut head = [0; HEADER_BYTES];
    disk.read_at(name, 0, &mut head).map_err(failed(name, "reading its header"))?;
    Ok(Header::read(&head))
}

/// The records of a chunk and where they begin in it; `None` for what is no record, which ends it.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = (usize, Option<Record<'_>>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let start = at;
        let record = record_in(rest);
        at = record.map_or(bytes.len(), |record| at + packed_bytes(record.block.len()));
        Some((start, record))
    })
}

fn record_in(bytes: &[u8]) -> Option<Record<'_>> {
    let header = RecordHeader::read(bytes)?;
    let block = header.block_bytes.get() as usize;
    let block = bytes.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES.checked_add(block)?)?;
    let record = Record { header, block };
    let whole = packed_bytes(block.len()) <= bytes.len();
    (whole && is_data(&record)).then_some(record)
}

/// True for a record of messages at offsets that there can be.
pub(crate) fn is_data(record: &Record<'_>) -> bool {
    let (offset, count) = (record.header.offset.get(), record.header.count.get());
    let end = offset.checked_add(u64::from(count));
    record.header.kind == Kind::Data as u8 && count > 0 && end.is_some_and(|end| end < u64::MAX)
}

/// The record as it stands in a chunk.
pub(crate) fn pack(record: &Record<'_>, into: &mut Vec<u8>) {
    let end = into.len() + packed_bytes(record.block.len());
    into.extend_from_slice(record.header.as_bytes());
    into.extend_from_slice(record.block);
    into.resize(end, 0);
}

pub(crate) fn damage(name: &str, at: u64, what: &'static str) -> ColdError {
    ColdError::Damaged { file: name.into(), at, what, lost: None }
}

pub(crate) fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
