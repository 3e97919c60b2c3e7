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

/// Steps for which it is remembered that segments were short: recycling one takes some, and another may be made meanwhile.
const REMEMBERED: u32 = 1_024;

/// How many segments a log has free.
#[derive(Debug)]
pub(crate) struct Room {
    /// It recycles none unless fewer are free; unknown where room in its index runs short before segments do.
    pub(crate) recycles_below: Option<u32>,
    /// Steps since fewer were free.
    steps: u32,
}

impl Default for Room {
    fn default() -> Room {
        Room { recycles_below: None, steps: REMEMBERED }
    }
}

impl Room {
    pub(crate) fn stepped(&mut self) {
        self.steps = self.steps.saturating_add(1);
    }

    pub(crate) fn looked(&mut self, free: u32) {
        if self.recycles_below.is_some_and(|below| free < below) {
            self.steps = 0;
        }
    }

    /// A stream let go of what its rules keep: segments had run short.
    pub(crate) fn recycled(&self, stream: u32, free: u32, (from, to): (u64, u64)) -> Check {
        match self.recycles_below {
            Some(below) if from < to && self.steps >= REMEMBERED => {
                kept::recycled(stream, (from, to), free, below)
            }
            _ => Ok(()),
        }
    }
}
