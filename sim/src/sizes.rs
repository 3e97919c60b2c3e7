//! What a stream's records take: what it lets go of is what its rules, or the log's size, make it let go of.

use std::collections::VecDeque;

use mstream_pmem::format::record_bytes;
use mstream_pmem::region::Region;
use mstream_pmem::wal::{Record, StreamSlot, Wal};

use crate::invariants::{Broken, Check, kept};
use crate::records::Found;

/// Of a stream that keeps so many bytes: what each of its records takes, by the offset behind it.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    /// 0: no limit, and nothing is counted.
    pub(crate) retention_bytes: u64,
    records: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Sizes {
    /// A record was stored.
    pub(crate) fn stored(&mut self, record: &Record<'_>) {
        if self.retention_bytes > 0 {
            let bytes = record_bytes(record.block.len());
            self.records.push_back((record.end_offset(), bytes));
            self.bytes += bytes;
        }
    }

    /// What lies below `earliest` is not held any more: true if it was more than the stream keeps, each record of it.
    pub(crate) fn let_go(&mut self, earliest: u64) -> bool {
        let mut last = 0;
        while let Some((_, bytes)) = self.records.pop_front_if(|(end, _)| *end <= earliest) {
            self.bytes -= bytes;
            last = bytes;
        }
        self.bytes + last > self.retention_bytes && self.retention_bytes > 0
    }

    /// Counts anew what a start found.
    pub(crate) fn found<R: Region>(
        &mut self,
        wal: &Wal<R>,
        slot: StreamSlot,
    ) -> Result<(), Broken> {
        (self.records, self.bytes) = (VecDeque::new(), 0);
        let state = wal.stream(slot);
        let (mut offset, mut hint) = (state.earliest_offset, 0);
        while self.retention_bytes > 0 && offset < state.next_offset {
            if let Some(to) = Found::passed_over(wal, slot, offset, hint) {
                offset = to;
                continue;
            }
            let found = Found::find(wal, slot, offset, hint)?;
            self.stored(&found.record);
            (offset, hint) = (found.record.end_offset(), found.hint);
        }
        Ok(())
    }
}

/// How many segments a log has free.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// It recycles none while more are free; unknown where room in its index runs short before segments do.
    pub(crate) recycles_at: Option<u32>,
    /// At the last look.
    free: u32,
}

impl Room {
    pub(crate) fn looked(&mut self, free: u32) {
        self.free = free;
    }

    /// A stream let go of what its rules keep: segments had run short.
    pub(crate) fn recycled(&self, stream: u32, free: u32, (from, to): (u64, u64)) -> Check {
        match self.recycles_at {
            Some(at) if from < to => kept::recycled(stream, (from, to), self.free.min(free), at),
            _ => Ok(()),
        }
    }
}
