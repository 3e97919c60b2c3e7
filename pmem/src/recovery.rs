//! Opening a log: the longest valid prefix, then a fresh segment in a new epoch
//! (`docs/wal-format.md` section 5).

use crate::damage::Damage;
use crate::fault::{Fault, Missing};
use crate::format::{
    Kind, LINE, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_DATA_AT, SEGMENT_HEADER_AT,
    SEGMENT_HEADER_BYTES, record_bytes,
};
use crate::index::ArenaSize;
use crate::planted::{Bug, planted};
use crate::region::Region;
use crate::scan::{read_header, wipe_order, written_copy};
use crate::sealed::SegmentGap;
use crate::slots::Slots;
use crate::survey::{Expected, Found, Survey};
use crate::tables::{Life, StreamSlot};
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
    /// A slot could not be read.
    #[error("reading slot {slot}: {source}")]
    Read {
        /// Slot of the segment.
        slot: u32,
        /// What the system said.
        source: std::io::Error,
    },
    /// The fresh segment's header could not be made durable.
    #[error("syncing the new segment's header: {0}")]
    Sync(#[source] std::io::Error),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// What is damaged and was not accepted: the log is in the state FAULT if there is anything.
    pub damages: Vec<Damage>,
    /// Offsets between or before sound records of their streams that are missing, accepted or not.
    pub missing: Vec<Missing>,
}

impl<R: Region> Wal<R> {
    /// Opens the log in `region`, whose slots `slots` exist: recovers what is there, and begins a new epoch in a
    /// fresh segment. A damaged log is refused.
    ///
    /// One slot must be blank for that segment: a caller that has slots still to be made prepares one more than
    /// exist (the first one, for a new log) before it opens. Blocks while syncing and, when starts have used up
    /// the reserve, while recycling.
    ///
    /// # Errors
    /// Why the log cannot be opened; nothing was changed then, unless syncing failed.
    pub fn open(
        region: R,
        slots: &[u32],
        config: WalConfig,
    ) -> Result<(Wal<R>, RecoveryReport), RecoveryError> {
        let arena = config.tables.arena(region.slots(), region.slot_bytes());
        let (mut wal, report) = Wal::recover(region, slots, config, arena, false)?;
        wal.refill_reserve();
        Ok((wal, report))
    }

    /// As [`Wal::open`], with an index of another size than the log's own: for simulations and measurements of a log that
    /// it has no room for. An index that has no room for the records of one segment stops the log for good.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open_with_index(
        region: R,
        slots: &[u32],
        config: WalConfig,
        arena: ArenaSize,
    ) -> Result<(Wal<R>, RecoveryReport), RecoveryError> {
        let (mut wal, report) = Wal::recover(region, slots, config, arena, false)?;
        wal.refill_reserve();
        Ok((wal, report))
    }

    /// As [`Wal::open`], but a damaged log opens too: read-only, in the state FAULT ([`Wal::fault`]), with all its sound
    /// records, and nothing is stored to it.
    ///
    /// # Errors
    /// As [`Wal::open`]; of damage, only where no segment header is left.
    pub fn open_even_damaged(
        region: R,
        slots: &[u32],
        config: WalConfig,
    ) -> Result<(Wal<R>, RecoveryReport), RecoveryError> {
        let arena = config.tables.arena(region.slots(), region.slot_bytes());
        let (mut wal, report) = Wal::recover(region, slots, config, arena, true)?;
        wal.refill_reserve();
        Ok((wal, report))
    }

    /// As [`Wal::open_even_damaged`], for a log whose sealed segments are copied elsewhere: from the start on none is
    /// recycled that was not lent ([`Wal::next_sealed`]) and given back. So a start that used up the reserve has it
    /// filled up by its caller: while the log is [short of free segments](Wal::is_short_of_segments), a segment is
    /// borrowed, copied and given back, and [`Wal::refill_reserve`] recycles it. `arena` as for [`Wal::open_with_index`];
    /// `None`: the log's own.
    ///
    /// # Errors
    /// As [`Wal::open_even_damaged`].
    pub fn open_holding(
        region: R,
        slots: &[u32],
        config: WalConfig,
        arena: Option<ArenaSize>,
    ) -> Result<(Wal<R>, RecoveryReport), RecoveryError> {
        let own = config.tables.arena(region.slots(), region.slot_bytes());
        let arena = arena.unwrap_or(own);
        let (mut wal, report) = Wal::recover(region, slots, config, arena, true)?;
        wal.holds = true;
        Ok((wal, report))
    }

    fn recover(
        mut region: R,
        slots: &[u32],
        config: WalConfig,
        arena: ArenaSize,
        even_damaged: bool,
    ) -> Result<(Wal<R>, RecoveryReport), RecoveryError> {
        if planted(Bug::WritesBeforeReading) {
            let bare =
                |slot: &&u32| region.front(**slot).is_ok_and(|front| read_header(&front).is_none());
            let blank: Vec<u32> = slots.iter().filter(bare).copied().collect();
            clear_half_written(&mut region, &blank);
        }
        let expected = Expected {
            shard: Some(config.shard),
            level: Some(region.level()),
            boot_id: config.boot_id,
            thorough: false,
        };
        let mut survey = Survey::take(&region, slots, expected, &mut |_| {})?;
        if !survey.damages.is_empty() && (!even_damaged || survey.found.is_empty()) {
            return Err(survey.damages.swap_remove(0).into_error());
        }
        let mut report = RecoveryReport {
            segments: survey.found.len(),
            torn_tails: survey.found.iter().filter(|found| found.torn && !found.void).count(),
            possible_loss: survey.possible_loss,
            new_log: survey.found.is_empty(),
            damages: std::mem::take(&mut survey.damages),
            ..RecoveryReport::default()
        };
        let new_log = LogNames { log_id: config.new_log_id, secret: config.new_secret };
        let names = survey.names.unwrap_or(new_log);
        let mut wal = Wal::with_index(region, config, names, arena);
        wal.possible_loss = report.possible_loss;
        wal.resume(1, 0, config.time_ns);
        let mut gaps = Vec::new();
        for found in &survey.found {
            wal.take_over(found, &survey, &mut gaps, &mut report)?;
        }
        wal.gaps = gaps.into();
        wal.tables.seal();
        wal.slots_made = slots.len() as u32;
        if !report.damages.is_empty() {
            wal.fault = Some(Box::new(Fault::of(&report)));
            return Ok((wal, report));
        }
        if report.possible_loss && !planted(Bug::EpochLost) {
            // The highest epoch may be among what was lost. As starts are seconds apart, the clock is ahead of it.
            let seconds = config.time_ns / 1_000_000_000;
            wal.epoch = wal.epoch.max(u32::try_from(seconds).unwrap_or(u32::MAX - 1));
        }
        wal.epoch += u32::from(!planted(Bug::EpochNotIncreased));
        wal.ready.extend(survey.blank);
        if wal.ready.is_empty() {
            return Err(RecoveryError::NoFreeSegment { slots: wal.slots_made });
        }
        if planted(Bug::StartForgetsFirst) {
            (0..wal.tables.streams.len() as u32).for_each(|slot| wal.drop_oldest(StreamSlot(slot)));
        }
        let reason = crate::format::OPENED_AT_START;
        wal.settle(slots)
            .and_then(|()| wal.begin_epoch(reason))
            .and_then(|()| wal.wipe_void(&survey.found))
            .map_err(RecoveryError::Sync)?;
        Ok((wal, report))
    }

    /// Takes over a segment: its records into tables and index, its place, and what follows it.
    fn take_over(
        &mut self,
        found: &Found,
        survey: &Survey,
        gaps: &mut Vec<SegmentGap>,
        report: &mut RecoveryReport,
    ) -> Result<(), TableFull> {
        let (slot, sequence) = (found.slot, found.header.sequence.get());
        let base = self.base(slot);
        let first_lsn = if found.void { self.lsn } else { found.header.base_lsn.get() };
        let mut end = base + SEGMENT_DATA_AT;
        if !found.void {
            // Only then can a stream that begins above offset 0 have lost anything: nothing was recycled yet.
            let whole = survey.found[0].header.sequence.get() == 1;
            for run in &found.scan.runs {
                if end < base + run.start {
                    gaps.push(SegmentGap { sequence, from: end - base, to: run.start });
                }
                end = base + run.end;
                let missing = survey.gaps.then_some(whole);
                self.apply(base + run.start, end, missing, report)?;
            }
        }
        let tail = &found.scan.tail;
        if !planted(Bug::EpochOfRecordsOnly) {
            self.epoch = self.epoch.max(found.header.base_epoch.get());
        }
        self.epoch = self.epoch.max(tail.epoch);
        let time = self.time.max(tail.time);
        if found.void {
            self.time = time;
        } else {
            self.resume(tail.lsn, tail.chain, time);
        }
        if let Some(before) = self.segments.back_mut() {
            // What was opened at a start may make lsns of the older ones void.
            before.next_lsn = before.next_lsn.min(first_lsn);
        }
        self.segments.push_back(Segment {
            slot,
            sequence,
            generation: found.header.generation(),
            end,
            first_lsn,
            next_lsn: self.lsn,
            lent: false,
            holdings: 0,
            is_noted: false,
        });
        Ok(())
    }

    /// Makes durable what recovery relied on. After a kill of the process the memory shows stores that a power
    /// cut could still take back: a header half wiped, the header of the newest segment, its last records. `slots` are
    /// those whose files are whole.
    pub(crate) fn settle(&mut self, slots: &[u32]) -> std::io::Result<()> {
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
            && slots.contains(&newest.slot)
            && !planted(Bug::NotSettled)
        {
            self.region.sync(self.base(newest.slot), self.region.slot_bytes() as usize)?;
        }
        Ok(())
    }

    /// Frees the slots of segments that do not count. That they do not is known by those before them: once those are
    /// recycled, a start would take them for the log's oldest.
    fn wipe_void(&mut self, found: &[Found]) -> std::io::Result<()> {
        for Found { slot, .. } in found.iter().filter(|found| found.void) {
            let base = self.base(*slot);
            for copy in wipe_order(self.region.bytes(base, SEGMENT_DATA_AT as usize)) {
                self.region.store(base + copy, &[0; SEGMENT_HEADER_BYTES]);
                // One after the other: two copies that are half wiped would be damage.
                self.region.sync(base, SEGMENT_DATA_AT as usize)?;
            }
            self.segments.retain(|segment| segment.slot != *slot);
            self.ready.push_back(*slot);
        }
        Ok(())
    }

    /// Rebuilds index and tables from the valid records between two addresses. With `missing`, offsets that are missing
    /// are noted; it says whether those at the beginning of a stream can be.
    fn apply(
        &mut self,
        mut address: u64,
        end: u64,
        missing: Option<bool>,
        report: &mut RecoveryReport,
    ) -> Result<(), TableFull> {
        while address < end {
            let at = RecordAt::new(address);
            // All of it was checked by the scan.
            let header = RecordHeader::checked(self.region.bytes(address, RECORD_HEADER_BYTES));
            let Some(header) = header.copied() else { break };
            let bytes = record_bytes(header.block_bytes.get() as usize);
            self.prefetch_later(address, bytes, end);
            if let Some(whole) = missing {
                report.missing.extend(self.missing_before(&header, whole));
            }
            self.apply_record(&header, at)?;
            if header.kind == Kind::Data as u8 {
                report.records += 1;
                report.messages += u64::from(header.count.get());
            }
            report.bytes += bytes;
            address += bytes;
        }
        Ok(())
    }

    /// The offsets of a record's stream that should stand before it and do not.
    fn missing_before(&self, header: &RecordHeader, whole: bool) -> Option<Missing> {
        if header.kind != Kind::Data as u8 && header.kind != Kind::StreamState as u8 {
            return None;
        }
        let (stream, to) = (header.stream.get(), header.offset.get());
        let from = match self.tables.stream_slot(stream) {
            Some(slot) if whole || self.is_told(slot) => self.stream(slot).next_offset,
            None if whole => 0,
            _ => return None,
        };
        (from < to).then_some(Missing { stream, from, to })
    }

    /// True unless all that was found of a stream is how far publishers got in it.
    fn is_told(&self, stream: StreamSlot) -> bool {
        let newest = self.tables.streams[stream.0 as usize].newest;
        let newest = newest.and_then(|at| self.record(at));
        newest.is_some_and(|record| {
            record.header.kind == Kind::Data as u8 || record.header.publisher.get() == 0
        })
    }

    fn apply_record(&mut self, header: &RecordHeader, at: RecordAt) -> Result<(), TableFull> {
        let publisher = header.publisher.get();
        match Kind::from_number(header.kind) {
            Some(Kind::Data) => {
                let slot = self.tables.open_stream(header.stream.get())?;
                let state = &mut self.tables.streams[slot.0 as usize];
                let offset = header.offset.get();
                if state.entries.is_empty() {
                    state.earliest_offset = offset;
                }
                self.older.jumps |= !state.entries.is_empty() && offset != state.next_offset;
                self.index.make_room();
                self.index.push(&mut state.entries, offset, at.line());
                state.appended_bytes += record_bytes(header.block_bytes.get() as usize);
                state.next_offset = offset + u64::from(header.count.get());
                state.newest = Some(at);
                let behind = state.next_offset;
                let last = header.sequence.get() + u64::from(header.count.get()) - 1;
                self.apply_publication(header, slot, last, behind, at)
            }
            Some(Kind::StreamState) => {
                let slot = self.tables.open_stream(header.stream.get())?;
                let offset = header.offset.get();
                let state = &mut self.tables.streams[slot.0 as usize];
                // What a publisher stored lies below the stream's end, also where a loss took what said that.
                if publisher == 0 || offset > state.next_offset {
                    match state.entries.is_empty() {
                        true => state.earliest_offset = offset,
                        false => self.older.jumps |= offset > state.next_offset,
                    }
                    state.next_offset = state.next_offset.max(offset);
                }
                if publisher == 0 {
                    state.newest = Some(at);
                    return Ok(());
                }
                state.newest = state.newest.or(Some(at));
                self.apply_publication(header, slot, header.sequence.get(), offset, at)
            }
            Some(Kind::PublisherState) => {
                self.tables.room_for_life(publisher)?;
                let incarnation = header.incarnation.get();
                let newest = self.life(publisher).map_or(0, |life| life.incarnation);
                if incarnation >= newest {
                    let nonce = self.record(at).and_then(|record| record.block.first_chunk());
                    let nonce = nonce.copied().unwrap_or_default();
                    let life = Life { incarnation, nonce, newest: at };
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
        stream: StreamSlot,
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

    pub(crate) fn base(&self, slot: u32) -> u64 {
        u64::from(slot) * self.region.slot_bytes()
    }
}

/// Zeroes what torn writes left in free slots: the next header in such a slot starts from zeros again.
fn clear_half_written<R: Region>(region: &mut R, free: &[u32]) {
    for slot in free {
        for copy in SEGMENT_HEADER_AT {
            let at = u64::from(*slot) * Region::slot_bytes(region);
            if written_copy(region.bytes(at, SEGMENT_DATA_AT as usize), copy) {
                let at = at + copy;
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
    let end = (u64::from(slot) + 1) * Region::slot_bytes(region);
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
