//! Opening a log: the longest valid prefix, then a fresh segment in a new epoch
//! (`docs/wal-format.md` section 5).

use crate::format::{
    Kind, LINE, OPENED_AT_START, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_DATA_AT,
    SEGMENT_HEADER_AT, SEGMENT_HEADER_BYTES, generation, record_bytes,
};
use crate::planted::{Bug, planted};
use crate::region::{Level, Region};
use crate::scan::{
    Found, base, check_header, fault, headless, read_header, scan, torn, void_from, written_copy,
};
use crate::tables::Life;
use crate::wal::{LogNames, RecordAt, Segment, TableFull, Wal, WalConfig};

/// Why a log was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A segment is not of this log.
    #[error("segment in slot {slot}: {what}")]
    Foreign {
        /// Slot of the segment.
        slot: u32,
        /// What does not fit.
        what: String,
    },
    /// Segments are missing between two.
    #[error("segment {missing} is missing between slots {before} and {after}")]
    Missing {
        /// Sequence of the first missing segment.
        missing: u64,
        /// Slot of the one before.
        before: u32,
        /// Slot of the one behind.
        after: u32,
    },
    /// Data that had been promised is damaged.
    #[error("damaged: slot {slot} byte {at}: {what}; the log is kept as it is")]
    Fault {
        /// Slot of the segment.
        slot: u32,
        /// Byte in its file.
        at: u64,
        /// What was found.
        what: String,
    },
    /// The log holds more than the configured limits.
    #[error(transparent)]
    TableFull(#[from] TableFull),
    /// No slot is free for the segment that a start needs.
    #[error("no free segment to start in: all {slots} slots are in use; raise [wal] max_bytes")]
    NoFreeSegment {
        /// Slots of the log.
        slots: u32,
    },
    /// The fresh segment's header could not be made durable.
    #[error("syncing the new segment's header: {0}")]
    Sync(#[source] std::io::Error),
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments that hold records.
    pub segments: usize,
    /// Data records.
    pub records: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of valid records.
    pub bytes: u64,
    /// Segments whose tail was torn.
    pub torn_tails: usize,
    /// The log's level is `process` and the machine was booted since: anything may be missing.
    pub possible_loss: bool,
    /// True when there was no log.
    pub new_log: bool,
}

impl<R: Region> Wal<R> {
    /// Opens the log in `region`, whose slots `slots` exist: recovers what is there, and begins a new epoch in a
    /// fresh segment.
    ///
    /// One slot must be blank for that segment: a caller that has slots still to be made prepares one more than
    /// exist (the first one, for a new log) before it opens. Blocks while syncing and, when starts have used up
    /// the reserve, while recycling.
    ///
    /// # Errors
    /// Why the log cannot be opened; nothing was changed then, unless syncing failed.
    pub fn open(
        mut region: R,
        slots: &[u32],
        config: WalConfig,
    ) -> Result<(Wal<R>, RecoveryReport), RecoveryError> {
        let mut report = RecoveryReport::default();
        let mut found = Vec::new();
        let mut blank = Vec::new();
        for slot in slots {
            match read_header(&region, *slot) {
                Some(header) => {
                    check_header(&region, *slot, &header, config.shard)?;
                    let scan = scan(&region, *slot, &header);
                    found.push(Found { slot: *slot, header, scan });
                }
                None => blank.push(*slot),
            }
        }
        found.sort_by_key(|segment| segment.header.sequence.get());
        let names = one_log(&found)?
            .unwrap_or(LogNames { log_id: config.new_log_id, secret: config.new_secret });
        report.new_log = found.is_empty();
        report.possible_loss = match found.last() {
            Some(newest) => {
                newest.header.level == Level::Process as u8
                    && newest.header.boot_id != config.boot_id
                    && !planted(Bug::RebootUnnoticed)
            }
            // A reboot may take every header of such a log, also where it leaves records.
            None => {
                region.level() == Level::Process && slots.iter().any(|slot| used(&region, *slot))
            }
        };
        if planted(Bug::WritesBeforeReading) {
            clear_half_written(&mut region, &blank);
        }
        let void = void_segments(&found, report.possible_loss)?;
        refuse_headless(&region, &mut blank, found.last(), report.possible_loss)?;
        let mut ends = vec![0; found.len()];
        // Records from here on in older segments are void.
        let mut cut = u64::MAX;
        for ((segment, end), void) in found.iter().zip(&mut ends).zip(&void).rev() {
            *end = base(&region, segment.slot) + SEGMENT_DATA_AT;
            if *void {
                continue;
            }
            report.torn_tails += usize::from(!segment.scan.rolled && torn(&region, segment));
            if !report.possible_loss
                && let Some(fault) = fault(&region, segment, cut)
            {
                return Err(fault);
            }
            *end = void_from(&region, segment, cut);
            cut = cut.min(segment.header.base_lsn.get());
        }
        let mut wal = Wal::new(region, config, names);
        wal.possible_loss = report.possible_loss;
        wal.resume(1, 0, config.time_ns);
        for ((segment, end), void) in found.iter().zip(&ends).zip(&void) {
            wal.apply(segment, *end, &mut report)?;
            if !planted(Bug::EpochOfRecordsOnly) {
                wal.epoch = wal.epoch.max(segment.header.base_epoch.get());
            }
            wal.epoch = wal.epoch.max(segment.scan.epoch);
            let time = wal.time.max(segment.scan.time);
            if *void {
                wal.time = time;
            } else {
                wal.resume(segment.scan.lsn, segment.scan.chain, time);
            }
            wal.segments.push_back(Segment {
                slot: segment.slot,
                sequence: segment.header.sequence.get(),
                end: *end,
            });
        }
        wal.tables.seal();
        report.segments = found.len();
        if report.possible_loss && !planted(Bug::EpochLost) {
            // The highest epoch may be among what was lost. As starts are seconds apart, the clock is ahead of it.
            let seconds = config.time_ns / 1_000_000_000;
            wal.epoch = wal.epoch.max(u32::try_from(seconds).unwrap_or(u32::MAX - 1));
        }
        wal.epoch += u32::from(!planted(Bug::EpochNotIncreased));
        wal.slots_made = slots.len() as u32;
        wal.ready.extend(blank);
        if wal.ready.is_empty() {
            return Err(RecoveryError::NoFreeSegment { slots: wal.slots_made });
        }
        wal.settle(slots).and_then(|()| wal.begin_epoch()).map_err(RecoveryError::Sync)?;
        wal.refill_reserve();
        Ok((wal, report))
    }

    /// Makes durable what recovery relied on. After a kill of the process the memory shows stores that a power
    /// cut could still take back: a header half wiped, the header of the newest segment, its last records.
    fn settle(&mut self, slots: &[u32]) -> std::io::Result<()> {
        if !planted(Bug::HalfHeaderLeft) {
            clear_half_written(&mut self.region, self.ready.make_contiguous());
        }
        if self.possible_loss {
            for slot in slots {
                let held = self.segments.iter().find(|segment| segment.slot == *slot);
                let from = held.map_or(self.base(*slot) + SEGMENT_DATA_AT, |held| held.end);
                clear_lost(&mut self.region, *slot, from, self.lsn)?;
            }
        }
        for slot in slots {
            self.region.sync(self.base(*slot), SEGMENT_DATA_AT as usize)?;
        }
        if let Some(newest) = self.segments.back()
            && !planted(Bug::NotSettled)
        {
            self.region.sync(self.base(newest.slot), self.region.slot_bytes() as usize)?;
        }
        Ok(())
    }

    /// Rebuilds index and tables from one segment's valid records.
    fn apply(
        &mut self,
        segment: &Found,
        end: u64,
        report: &mut RecoveryReport,
    ) -> Result<(), TableFull> {
        let mut address = self.base(segment.slot) + SEGMENT_DATA_AT;
        while address < end {
            let at = RecordAt::new(address);
            let Some(record) = self.record(at) else { break };
            let header = *record.header;
            let bytes = record_bytes(record.block.len());
            let nonce = record.block.first_chunk::<16>().copied();
            self.apply_record(&header, nonce, at)?;
            if header.kind == Kind::Data as u8 {
                report.records += 1;
                report.messages += u64::from(header.count.get());
            }
            report.bytes += bytes;
            address += bytes;
        }
        Ok(())
    }

    fn apply_record(
        &mut self,
        header: &RecordHeader,
        nonce: Option<[u8; 16]>,
        at: RecordAt,
    ) -> Result<(), TableFull> {
        let publisher = header.publisher.get();
        match Kind::from_number(header.kind) {
            Some(Kind::Data) => {
                let slot = self.tables.open_stream(header.stream.get())?;
                let state = &mut self.tables.streams[slot.0 as usize];
                let offset = header.offset.get();
                if state.entries.is_empty() {
                    state.earliest_offset = offset;
                }
                self.index.make_room();
                self.index.push(&mut state.entries, offset, at.0);
                state.held_bytes += record_bytes(header.block_bytes.get() as usize);
                state.next_offset = offset + u64::from(header.count.get());
                state.newest = Some(at);
                let behind = state.next_offset;
                let last = header.sequence.get() + u64::from(header.count.get()) - 1;
                self.apply_publication(header, slot, last, behind, at)
            }
            Some(Kind::StreamState) => {
                let slot = self.tables.open_stream(header.stream.get())?;
                let state = &mut self.tables.streams[slot.0 as usize];
                if publisher != 0 {
                    let offset = header.offset.get();
                    return self.apply_publication(header, slot, header.sequence.get(), offset, at);
                }
                if state.entries.is_empty() {
                    state.earliest_offset = header.offset.get();
                }
                state.next_offset = state.next_offset.max(header.offset.get());
                state.newest = Some(at);
                Ok(())
            }
            Some(Kind::PublisherState) => {
                self.tables.room_for_life(publisher)?;
                let incarnation = header.incarnation.get();
                let newest = self.life(publisher).map_or(0, |life| life.incarnation);
                if incarnation >= newest {
                    let life = Life { incarnation, nonce: nonce.unwrap_or_default(), newest: at };
                    self.tables.lives.insert(publisher, life);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn apply_publication(
        &mut self,
        header: &RecordHeader,
        stream: crate::tables::StreamSlot,
        sequence: u64,
        offset: u64,
        at: RecordAt,
    ) -> Result<(), TableFull> {
        let publisher = header.publisher.get();
        if publisher & crate::retire::ANONYMOUS != 0 {
            return Ok(());
        }
        let slot = self.tables.open_publication(publisher, stream)?;
        let state = &mut self.tables.publications[slot.0 as usize];
        state.sequence = state.sequence.max(sequence);
        state.offset = state.offset.max(offset);
        state.incarnation = header.incarnation.get();
        state.newest = Some(at);
        Ok(())
    }

    fn base(&self, slot: u32) -> u64 {
        u64::from(slot) * self.region.slot_bytes()
    }
}

/// True if anything was ever written to a slot.
fn used<R: Region>(region: &R, slot: u32) -> bool {
    SEGMENT_HEADER_AT.into_iter().any(|copy| written_copy(region, slot, copy))
        || headless(region, slot, None).is_some()
}

/// Zeroes what torn writes left in free slots: the next header in such a slot starts from zeros again.
fn clear_half_written<R: Region>(region: &mut R, free: &[u32]) {
    for slot in free {
        for copy in SEGMENT_HEADER_AT {
            if written_copy(region, *slot, copy) {
                let at = base(region, *slot) + copy;
                region.store(at, &[0; SEGMENT_HEADER_BYTES]);
            }
        }
    }
}

/// Zeroes the headers of records in a slot, from address `from` on, that a loss left behind what the log holds: their
/// segments' headers may be gone, or an older header may stand in front of them again. The log comes to the numbers of those
/// segments once more, and a later start, which knows of no loss, would take the records for promised ones. Those from
/// before the log's next `lsn` fit no segment to come.
fn clear_lost<R: Region>(region: &mut R, slot: u32, from: u64, lsn: u64) -> std::io::Result<()> {
    let end = base(region, slot) + region.slot_bytes();
    let mut cleared = None;
    for at in (from..end).step_by(LINE as usize) {
        let room = (end - at).min(RECORD_HEADER_BYTES as u64) as usize;
        let record = RecordHeader::read(region.bytes(at, room));
        if record.is_some_and(|record| record.lsn.get() >= lsn) {
            region.store(at, &[0; LINE as usize]);
            let first = cleared.map_or(at, |(first, _)| first);
            cleared = Some((first, at + LINE));
        }
    }
    match cleared {
        Some((first, behind)) => region.sync(first, (behind - first) as usize),
        None => Ok(()),
    }
}

/// What all segments share, if there are any.
fn one_log(found: &[Found]) -> Result<Option<LogNames>, RecoveryError> {
    let names =
        |segment: &Found| LogNames { log_id: segment.header.log_id, secret: segment.header.secret };
    let count = |of: &LogNames| found.iter().filter(|other| names(other) == *of).count();
    // The stranger is the one that fewer segments agree with.
    let Some(log) = found.iter().map(names).max_by_key(count) else {
        return Ok(None);
    };
    match found.iter().find(|segment| names(segment) != log) {
        Some(stranger) => Err(RecoveryError::Foreign {
            slot: stranger.slot,
            what: "it belongs to another log".to_string(),
        }),
        None => Ok(Some(log)),
    }
}

/// Why `after` does not continue `before`, if it does not.
fn misfit(before: &Found, after: &Found) -> Option<RecoveryError> {
    let expected = before.header.sequence.get() + 1;
    if after.header.sequence == before.header.sequence {
        let what = format!("it has the same number as the one in slot {}", before.slot);
        return Some(RecoveryError::Foreign { slot: after.slot, what });
    }
    if after.header.sequence.get() != expected {
        return Some(RecoveryError::Missing {
            missing: expected,
            before: before.slot,
            after: after.slot,
        });
    }
    let base = after.header.base_lsn.get();
    let fits = if after.header.reason == OPENED_AT_START {
        base <= before.scan.lsn
    } else {
        before.scan.rolled
            && base == before.scan.lsn
            && after.header.base_chain.get() == before.scan.chain
    };
    if fits {
        return None;
    }
    let at = before.scan.end - u64::from(before.slot) * before.header.segment_bytes.get();
    let what = format!(
        "its records end before lsn {}, but the next segment goes on at lsn {base}",
        before.scan.lsn
    );
    Some(RecoveryError::Fault { slot: before.slot, at, what })
}

/// Which segments do not count. Each that counts continues the one before; where that is not so, a later start
/// has gone on from what was left after a possible loss, and all between are void. After a possible loss
/// everything behind the first misfit is.
fn void_segments(found: &[Found], possible_loss: bool) -> Result<Vec<bool>, RecoveryError> {
    let mut void = vec![false; found.len()];
    let (mut last, mut next) = (0, 1);
    while next < found.len() {
        let mut end = next;
        if let Some(error) = misfit(&found[last], &found[next]) {
            let accepted = (next + 1..found.len()).find(|later| {
                let header = &found[*later].header;
                header.reason == OPENED_AT_START && header.base_lsn.get() <= found[last].scan.lsn
            });
            end = match accepted {
                Some(start) => start,
                None if possible_loss => found.len(),
                None => return Err(error),
            };
            void[next..end].fill(true);
        }
        (last, next) = (end, end + 1);
    }
    Ok(void)
}

/// A slot without a valid header whose header was damaged is refused: its records are not to be lost. It was,
/// when both copies hold something (writing and wiping touch one at a time), or when there are records of the
/// segment that would come next (without any segment, of any). After a possible loss the latter slots are
/// accepted, but used last, so that the next segment does not stand on its own namesake's records.
fn refuse_headless<R: Region>(
    region: &R,
    blank: &mut [u32],
    newest: Option<&Found>,
    possible_loss: bool,
) -> Result<(), RecoveryError> {
    if possible_loss && newest.is_none() {
        // All begins anew, with a secret that no record was made with.
        return Ok(());
    }
    let next =
        newest.map(|newest| generation(&newest.header.secret, newest.header.sequence.get() + 1));
    let mut first_kept = blank.len();
    for index in (0..blank.len()).rev() {
        let slot = blank[index];
        let records = headless(region, slot, next);
        let damaged = SEGMENT_HEADER_AT.into_iter().all(|copy| written_copy(region, slot, copy));
        if !possible_loss && (damaged || records.is_some()) {
            let (at, what) = match records {
                Some(at) => (at, "there is a record, but no valid segment header"),
                None => (0, "both copies of the segment header are damaged"),
            };
            return Err(RecoveryError::Fault { slot, at, what: what.to_string() });
        }
        if records.is_some() {
            first_kept -= 1;
            blank[index..=first_kept].rotate_left(1);
        }
    }
    if first_kept == 0 && !blank.is_empty() {
        let what = "there is a record, but no valid segment header, and no other slot is free";
        let at = SEGMENT_DATA_AT;
        return Err(RecoveryError::Fault { slot: blank[0], at, what: what.to_string() });
    }
    Ok(())
}
