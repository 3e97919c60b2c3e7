//! What a stream's records take, and how old they are: what it lets go of is what its rules, or the log's size, make it let
//! go of.

use std::collections::VecDeque;

use mstream_dataplane::StreamRules;
use mstream_pmem::format::record_bytes;
use mstream_pmem::region::Region;
use mstream_pmem::wal::{Record, StreamSlot, Wal};

use crate::invariants::{Broken, Check, kept};
use crate::records::Found;

/// A record that a stream with limits holds.
#[derive(Debug)]
struct Held {
    /// Offset behind its last message.
    end: u64,
    bytes: u64,
    time_ns: u64,
}

/// What a stream holds of what its rules limit.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    limits: StreamRules,
    records: VecDeque<Held>,
    bytes: u64,
}

impl Sizes {
    /// Of a stream with these rules.
    pub(crate) fn new(limits: StreamRules) -> Sizes {
        Sizes { limits, ..Sizes::default() }
    }

    /// Without limits nothing is counted.
    fn has_limits(&self) -> bool {
        self.limits.retention_bytes > 0 || self.limits.retention_ms > 0
    }

    /// A record was stored.
    pub(crate) fn stored(&mut self, record: &Record<'_>) {
        if self.has_limits() {
            let bytes = record_bytes(record.block.len());
            let (end, time_ns) = (record.end_offset(), record.header.time.get());
            self.records.push_back(Held { end, bytes, time_ns });
            self.bytes += bytes;
        }
    }

    /// What lies below `earliest` is not held any more: true if that was more than the stream keeps, each record of it.
    /// The wall clock says `wall_ns`.
    pub(crate) fn let_go(&mut self, earliest: u64, wall_ns: u64) -> bool {
        let mut last = None;
        while let Some(gone) = self.records.pop_front_if(|held| held.end <= earliest) {
            self.bytes -= gone.bytes;
            last = Some(gone);
        }
        let StreamRules { retention_bytes, retention_ms, .. } = self.limits;
        // Those before the last are older than it, and there was more when they went.
        last.is_some_and(|last| {
            retention_bytes > 0 && self.bytes + last.bytes > retention_bytes
                || retention_ms > 0 && last.time_ns + retention_ms * 1_000_000 < wall_ns
        })
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
        while self.has_limits() && offset < state.next_offset {
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
    /// It begins to recycle one when fewer are free; unknown where room in its index runs short before segments do.
    pub(crate) recycles_below: Option<u32>,
    /// It began by the last look, or was about to.
    begun: bool,
}

impl Room {
    fn is_short<R: Region>(&self, wal: &Wal<R>) -> bool {
        self.recycles_below.is_none_or(|below| wal.slots_ready() < below)
    }

    /// What is to be known when a stream has let go of something by the next look.
    pub(crate) fn looked<R: Region>(&mut self, wal: &Wal<R>) {
        self.begun = self.is_short(wal) || self.begun && wal.is_recycling();
    }

    /// A stream let go of what its rules keep: segments were short when that began.
    pub(crate) fn recycled<R: Region>(
        &self,
        wal: &Wal<R>,
        stream: u32,
        (from, to): (u64, u64),
    ) -> Check {
        let fine = from >= to || self.begun || self.is_short(wal);
        kept::recycled(stream, (from, to), wal.slots_ready(), fine)
    }

    /// The same in a start, which recycles no more than it lacks; one before it may have done that, and ended.
    pub(crate) fn recycled_by_start<R: Region>(
        &self,
        wal: &Wal<R>,
        stream: u32,
        (from, to): (u64, u64),
    ) -> Check {
        let fine = from >= to || self.recycles_below.is_none_or(|below| wal.slots_ready() <= below);
        kept::recycled(stream, (from, to), wal.slots_ready(), fine)
    }
}
