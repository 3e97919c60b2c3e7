//! The records of a hot segment that is copied.

use super::ColdError;
use super::file::is_data;
use crate::format::{
    Kind, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_DATA_AT, crc32c, record_bytes,
};
use crate::holes::Holes;
use crate::scan::read_header;
use crate::wal::Record;

/// A sealed segment of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HotSegment<'a> {
    sequence: u64,
    /// Up to the end of its last record.
    bytes: &'a [u8],
    generation: u64,
}

impl<'a> HotSegment<'a> {
    /// The segment in `bytes`, whose records end at byte `end`.
    pub(crate) fn new(
        sequence: u64,
        bytes: &'a [u8],
        end: u64,
        log_id: [u8; 16],
        shard: u32,
    ) -> Result<HotSegment<'a>, ColdError> {
        let wrong = |at, what| ColdError::Segment { sequence, at, what };
        let valid = usize::try_from(end).ok().and_then(|end| bytes.get(..end));
        let valid = valid.ok_or_else(|| wrong(end, "its records end behind its bytes"))?;
        let front = bytes.get(..SEGMENT_DATA_AT as usize);
        let header = front.and_then(read_header);
        let header = header.ok_or_else(|| wrong(0, "no segment header is there"))?;
        if header.sequence.get() != sequence {
            return Err(wrong(0, "the header is another segment's"));
        }
        if header.log_id != log_id || header.shard.get() != shard {
            return Err(wrong(0, "the segment is another log's or shard's"));
        }
        Ok(HotSegment { sequence, bytes: valid, generation: header.generation() })
    }

    /// Its data records. Places that are no record are an error, but those that `holes` names.
    pub(crate) fn records(
        self,
        holes: &Holes,
    ) -> impl Iterator<Item = Result<Record<'a>, ColdError>> {
        let mut at = SEGMENT_DATA_AT;
        let next = move || {
            while at < self.bytes.len() as u64 {
                match self.record(at) {
                    Ok(record) => {
                        at += record_bytes(record.block.len());
                        if record.header.kind == Kind::Data as u8 {
                            return Some(Ok(record));
                        }
                    }
                    Err(what) => match holes.at(self.sequence, at) {
                        Some(hole) if hole.to.get() > at => at = hole.to.get(),
                        _ => {
                            let error = ColdError::Segment { sequence: self.sequence, at, what };
                            at = u64::MAX;
                            return Some(Err(error));
                        }
                    },
                }
            }
            None
        };
        std::iter::from_fn(next)
    }

    fn record(&self, at: u64) -> Result<Record<'a>, &'static str> {
        let rest = self.bytes.get(at as usize..).unwrap_or_default();
        let header = RecordHeader::read(rest).ok_or("no record header is there")?;
        if header.generation() != self.generation {
            return Err("the record is of another life of the slot");
        }
        let block = rest[RECORD_HEADER_BYTES..].get(..header.block_bytes.get() as usize);
        let block = block.ok_or("the record ends behind the segment's records")?;
        if crc32c(block) != header.block_crc.get() {
            return Err("the block does not fit its crc");
        }
        let record = Record { header, block };
        match header.kind == Kind::Data as u8 && !is_data(&record) {
            true => Err("the record's count or offset is none"),
            false => Ok(record),
        }
    }
}
