//! Opening a log: the longest valid prefix, then a fresh segment in a new epoch
//! (`docs/wal-format.md` section 5).

use crate::format::{
    Kind, LINE, OPENED_AT_START, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_DATA_AT,
    SEGMENT_HEADER_AT, SEGMENT_HEADER_BYTES, SegmentHeader, crc32c, generation, record_bytes,
};
use crate::region::{Level, Region};
use crate::tables::Life;
use crate::wal::{RecordAt, Segment, TableFull, Wal, WalConfig};

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

/// A segment as found.
struct Found {
    slot: u32,
    header: SegmentHeader,
    scan: Scan,
}

/// How far a segment's records are valid.
#[derive(Clone, Copy, Debug)]
struct Scan {
    end: u64,
    lsn: u64,
    chain: u32,
    epoch: u32,
    time: u64,
    rolled: bool,
}

impl<R: Region> Wal<R> {
    /// Opens the log in `region`, whose slots `slots` exist: recovers what is there, and begins a new epoch in a
    /// fresh segment.
    ///
    /// # Errors
    /// Why the log cannot be opened; nothing was changed then, unless syncing failed.
    pub fn open(
        region: R,
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
        let log_id = found.last().map_or(config.new_log_id, |newest| newest.header.log_id);
        report.new_log = found.is_empty();
        report.possible_loss = found.last().is_some_and(|newest| {
            newest.header.level == Level::Process as u8 && newest.header.boot_id != config.boot_id
        });
        check_order(&found)?;
        refuse_headless(&region, &blank, found.last(), &log_id)?;
        for segment in &found {
            report.torn_tails += usize::from(!segment.scan.rolled && torn(&region, segment));
            if let Some(fault) = fault(&region, segment, report.possible_loss) {
                return Err(fault);
            }
        }
        let mut wal = Wal::new(region, config, log_id);
        // Records from here on in older segments are void.
        let mut cut = u64::MAX;
        let mut ends = vec![0; found.len()];
        for (segment, end) in found.iter().zip(&mut ends).rev() {
            *end = void_from(&wal.region, segment, cut);
            cut = cut.min(segment.header.base_lsn.get());
        }
        for (segment, end) in found.iter().zip(&ends) {
            wal.apply(segment, *end, &mut report)?;
            wal.epoch = wal.epoch.max(segment.header.base_epoch.get()).max(segment.scan.epoch);
            wal.segments.push_back(Segment {
                slot: segment.slot,
                sequence: segment.header.sequence.get(),
                end: *end,
            });
        }
        report.segments = found.len();
        if let Some(newest) = found.last() {
            wal.resume(newest.scan.lsn, newest.scan.chain, newest.scan.time.max(config.time_ns));
        } else {
            wal.resume(1, 0, config.time_ns);
        }
        wal.epoch += 1;
        wal.slots_made = slots.len() as u32;
        wal.ready.extend(blank);
        if wal.ready.is_empty() {
            return Err(RecoveryError::NoFreeSegment { slots: wal.slots_made });
        }
        wal.begin_epoch().map_err(RecoveryError::Sync)?;
        Ok((wal, report))
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
                self.index.push(&mut state.entries, offset, at.0);
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
                if self.tables.lives.len() == self.tables.limits().publishers
                    && !self.tables.lives.contains_key(&publisher)
                {
                    return Err(TableFull {
                        table: "publishers",
                        limit: self.tables.limits().publishers,
                    });
                }
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

fn base<R: Region>(region: &R, slot: u32) -> u64 {
    u64::from(slot) * region.slot_bytes()
}

/// The newer of the valid header copies.
fn read_header<R: Region>(region: &R, slot: u32) -> Option<SegmentHeader> {
    SEGMENT_HEADER_AT
        .into_iter()
        .filter_map(|copy| {
            SegmentHeader::read(region.bytes(base(region, slot) + copy, SEGMENT_HEADER_BYTES))
        })
        .max_by_key(|header| header.sequence.get())
}

fn check_header<R: Region>(
    region: &R,
    slot: u32,
    header: &SegmentHeader,
    shard: u32,
) -> Result<(), RecoveryError> {
    let what = if header.version.get() != 1 {
        format!("format version {} (this program reads 1)", header.version.get())
    } else if header.shard.get() != shard {
        format!("it belongs to shard {}, not {shard}", header.shard.get())
    } else if header.segment_bytes.get() != region.slot_bytes() {
        format!(
            "it was made for segments of {} bytes, not {}",
            header.segment_bytes.get(),
            region.slot_bytes()
        )
    } else {
        return Ok(());
    };
    Err(RecoveryError::Foreign { slot, what })
}

/// One log, consecutive sequences, each segment a continuation of the one before.
fn check_order(found: &[Found]) -> Result<(), RecoveryError> {
    for pair in found.windows(2) {
        let [before, after] = pair else { continue };
        if before.header.log_id != after.header.log_id {
            let what = "it belongs to another log".to_string();
            return Err(RecoveryError::Foreign { slot: before.slot, what });
        }
        let expected = before.header.sequence.get() + 1;
        if after.header.sequence.get() != expected {
            return Err(RecoveryError::Missing {
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
        if !fits {
            let what = format!(
                "its records end before lsn {}, but the next segment goes on at lsn {base}",
                before.scan.lsn
            );
            return Err(RecoveryError::Fault { slot: before.slot, at: before.scan.end, what });
        }
    }
    Ok(())
}

/// A slot without a header must not hold the records of the segment that would come next (or, without any
/// segment, of any): both copies of its header were damaged then, and its records are not to be lost.
fn refuse_headless<R: Region>(
    region: &R,
    blank: &[u32],
    newest: Option<&Found>,
    log_id: &[u8; 16],
) -> Result<(), RecoveryError> {
    let next = newest.map(|newest| generation(log_id, newest.header.sequence.get() + 1));
    for slot in blank {
        let (mut at, end) = (SEGMENT_DATA_AT, region.slot_bytes());
        while at + RECORD_HEADER_BYTES as u64 <= end {
            let bytes = region.bytes(base(region, *slot) + at, RECORD_HEADER_BYTES);
            if let Some(record) = RecordHeader::read(bytes)
                && next.is_none_or(|next| record.generation.get() == next)
            {
                let what = "there is a record, but no valid segment header".to_string();
                return Err(RecoveryError::Fault { slot: *slot, at, what });
            }
            at += LINE;
        }
    }
    Ok(())
}

/// The record at `address` if it follows (`lsn`, `chain`, `epoch`) in a segment of this generation.
fn follows<'a, R: Region>(
    region: &'a R,
    address: u64,
    end: u64,
    generation: u32,
    scan: &Scan,
) -> Option<&'a RecordHeader> {
    if address + RECORD_HEADER_BYTES as u64 > end {
        return None;
    }
    let header = RecordHeader::read(region.bytes(address, RECORD_HEADER_BYTES))?;
    let bytes = header.block_bytes.get() as usize;
    let fits = header.generation.get() == generation
        && header.lsn.get() == scan.lsn
        && header.epoch.get() >= scan.epoch
        && header.time.get() >= scan.time
        && header.chain.get() == header.chain_after(scan.chain)
        && Kind::from_number(header.kind).is_some()
        && (header.kind == Kind::Data as u8) == (header.count.get() > 0)
        && address + record_bytes(bytes) <= end;
    let sound = fits
        && crc32c(region.bytes(address + RECORD_HEADER_BYTES as u64, bytes))
            == header.block_crc.get();
    sound.then_some(header)
}

/// Walks a segment's valid records.
fn scan<R: Region>(region: &R, slot: u32, header: &SegmentHeader) -> Scan {
    let base = base(region, slot);
    let end = base + region.slot_bytes();
    let mut scan = Scan {
        end: base + SEGMENT_DATA_AT,
        lsn: header.base_lsn.get(),
        chain: header.base_chain.get(),
        epoch: header.base_epoch.get(),
        time: 0,
        rolled: false,
    };
    while let Some(record) = follows(region, scan.end, end, header.generation.get(), &scan) {
        scan.end += record_bytes(record.block_bytes.get() as usize);
        scan.chain = record.chain.get();
        scan.lsn += u64::from(record.local & 1 == 0);
        scan.epoch = record.epoch.get();
        scan.time = record.time.get();
        if record.kind == Kind::Roll as u8 {
            scan.rolled = true;
            break;
        }
    }
    scan
}

/// True when something was written behind the valid records.
fn torn<R: Region>(region: &R, segment: &Found) -> bool {
    let behind = segment.scan.end;
    let room = base(region, segment.slot) + region.slot_bytes() - behind;
    let generation = segment.header.generation.get().to_le_bytes();
    room >= LINE && region.bytes(behind, LINE as usize)[4..8] == generation
}

/// A valid record so far behind the first misfit that a barrier had covered what is damaged.
fn fault<R: Region>(region: &R, segment: &Found, possible_loss: bool) -> Option<RecoveryError> {
    if segment.scan.rolled || possible_loss {
        return None;
    }
    let end = base(region, segment.slot) + region.slot_bytes();
    let mut address = segment.scan.end + segment.header.window_bytes.get();
    while address + RECORD_HEADER_BYTES as u64 <= end {
        if let Some(header) = RecordHeader::read(region.bytes(address, RECORD_HEADER_BYTES))
            && header.generation == segment.header.generation
            && header.lsn.get() >= segment.scan.lsn
        {
            let at = segment.scan.end - base(region, segment.slot);
            let found = address - base(region, segment.slot);
            let what = format!(
                "no valid record with lsn {}, but one with lsn {} at byte {found}",
                segment.scan.lsn,
                header.lsn.get()
            );
            return Some(RecoveryError::Fault { slot: segment.slot, at, what });
        }
        address += LINE;
    }
    None
}

/// Where a segment's records become void because a newer segment begins at lsn `cut`.
fn void_from<R: Region>(region: &R, segment: &Found, cut: u64) -> u64 {
    if segment.scan.lsn <= cut {
        return segment.scan.end;
    }
    let mut address = base(region, segment.slot) + SEGMENT_DATA_AT;
    while address < segment.scan.end {
        let Some(header) = RecordHeader::read(region.bytes(address, RECORD_HEADER_BYTES)) else {
            break;
        };
        if header.lsn.get() >= cut {
            break;
        }
        address += record_bytes(header.block_bytes.get() as usize);
    }
    address
}
