//! A log looked at without touching it: what its segments hold, whether that is sound, and the records themselves.
//!
//! The checks are recovery's own. A log may be in use meanwhile: what is written or recycled under the eyes of the
//! reader is not taken for damage, because damage is what all looks find at the same place: two where nothing moved
//! between them, more where it did.

mod cold;
mod files;
mod footers;

use std::collections::BTreeMap;
use std::io;

pub use cold::{ColdFileReport, ColdLook, ColdState, ColdStreamReport};
pub use files::{SegmentFiles, lock_holder};
pub use footers::{FooterState, check_footer};

use crate::damage::Damage;
use crate::fault::Missing;
use crate::format::{
    ACCEPTED, Kind, OPENED_AT_START, RecordHeader, SEGMENT_HEADER_AT, SEGMENT_HEADER_BYTES,
    SegmentHeader, record_bytes,
};
pub use crate::prepare::slot_of;
use crate::recovery::RecoveryError;
use crate::scan::{read_header, sound_behind};
pub use crate::slots::{Extent, Slots};
use crate::survey::{Expected, Found, Survey, records};

/// How a segment's records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a roll record: it is full.
    Rolled,
    /// The log goes on here, or a start went on elsewhere: nothing stands behind the last record.
    Open,
    /// Something behind the last record was never covered by a barrier.
    Torn,
    /// Nothing in it counts: a start after a possible loss went on from before it.
    Void,
}

impl Ended {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Ended::Rolled => "rolled",
            Ended::Open => "open",
            Ended::Torn => "torn",
            Ended::Void => "void",
        }
    }
}

/// What a segment holds of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamExtent {
    /// Offset of its first message there.
    pub first: u64,
    /// Offset behind its last.
    pub next: u64,
    /// Data records.
    pub records: u64,
    /// Bytes that they take.
    pub bytes: u64,
}

/// A segment.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// Where it stands.
    pub slot: u32,
    /// Its number in the log.
    pub sequence: u64,
    /// Its header.
    pub header: SegmentHeader,
    /// Which of the two header copies are valid and agree with the header.
    pub copies: [bool; 2],
    /// Lsn behind its last record.
    pub next_lsn: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Messages in its data records.
    pub messages: u64,
    /// Bytes that its records take.
    pub bytes: u64,
    /// What it holds of each stream, by id.
    pub extents: BTreeMap<u64, StreamExtent>,
    /// How its records end.
    pub ended: Ended,
    /// Stretches of sound records: from byte, to byte.
    pub runs: Vec<(u64, u64)>,
    /// Where it is torn, sound data records behind the last one that counts, and their messages: they were not covered by
    /// a barrier, or what stands before them was damaged later, which cannot be told apart.
    pub behind: (u64, u64),
    /// It was recycled while it was looked at: its figures are not whole.
    pub recycled: bool,
}

impl SegmentReport {
    /// Why it was opened, in a word.
    pub fn reason(&self) -> &'static str {
        match self.header.reason {
            OPENED_AT_START => "start",
            ACCEPTED => "accept-loss",
            _ => "roll",
        }
    }
}

/// A stream's records in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Stream id.
    pub id: u64,
    /// Offset of the first message that is there; `next` if none is.
    pub first: u64,
    /// Offset of the next message.
    pub next: u64,
    /// Data records.
    pub records: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of their blocks.
    pub bytes: u64,
    /// Messages that are missing between them.
    pub missing: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct LogReport {
    /// Names the log; `None` where there is no segment.
    pub log_id: Option<[u8; 16]>,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Highest epoch.
    pub epoch: u32,
    /// Time of the newest record, ns since 1970.
    pub time: u64,
    /// Segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Slots that are free.
    pub free: Vec<u32>,
    /// Streams by id.
    pub streams: Vec<StreamReport>,
    /// Damage that every look found.
    pub damages: Vec<Damage>,
    /// Something looked like damage once and not again: the log is being written to.
    pub moved: bool,
    /// The machine was booted since a log of level `process` was written: a start would keep what is valid up to the
    /// first misfit, and looks no further.
    pub possible_loss: bool,
    /// Offsets that are missing between or before sound records.
    pub missing: Vec<Missing>,
    /// Losses that were accepted: lsn of the first and behind the last that is missing, for each.
    pub accepted: Vec<(u64, u64)>,
}

impl LogReport {
    /// Header copies that are damaged though the other one is sound: slot and byte.
    pub fn damaged_copies(&self) -> Vec<(u32, u64)> {
        let mut damaged = Vec::new();
        for (number, segment) in self.segments.iter().enumerate() {
            let newest = number + 1 == self.segments.len();
            for (copy, sound) in segment.copies.iter().enumerate() {
                // A second copy of the newest may not be written yet, a first copy of the oldest be wiped already.
                let crashed = newest && copy == 1 || number == 0 && copy == 0;
                if !sound && !crashed {
                    damaged.push((segment.slot, SEGMENT_HEADER_AT[copy]));
                }
            }
        }
        damaged
    }
}

/// Looks at the log in `slots`. `progress` hears how many slots of how many were read.
///
/// # Errors
/// When the slots do not hold one log of a known version, or cannot be read.
pub fn examine<S: Slots>(
    source: &S,
    slots: &[u32],
    boot_id: [u8; 16],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<LogReport, RecoveryError> {
    let mut outcome = look(source, slots, boot_id, progress);
    for _ in 1..LOOKS {
        if outcome.as_ref().is_ok_and(LogReport::is_sound) {
            break;
        }
        // Who writes the log may have been stopped between two steps that belong together.
        std::thread::sleep(PAUSE);
        outcome = match (outcome, look(source, slots, boot_id, progress)) {
            (Ok(first), Ok(mut now)) => {
                let moves = now.newest() != first.newest();
                now.keep_what_stays(&first);
                if !moves {
                    return Ok(now);
                }
                Ok(now)
            }
            // Headers that fit no log may be from before and behind a recycling: only what is always so counts.
            (Ok(sense), Err(_)) | (Err(_), Ok(sense)) => Ok(sense),
            (Err(_), Err(error)) => Err(error),
        };
    }
    outcome
}

/// Looks at a log that is written to, at most, before what all of them found counts as damage.
const LOOKS: usize = 6;
/// Between two looks: longer than a thread is kept from its core as a rule.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(30);

impl LogReport {
    fn is_sound(&self) -> bool {
        self.damages.is_empty() && self.damaged_copies().is_empty()
    }

    /// What changes when the log is written to.
    fn newest(&self) -> Option<(u64, u64)> {
        self.segments.last().map(|segment| (segment.sequence, segment.next_lsn))
    }

    /// Takes what was wrong out where another look did not find the same.
    fn keep_what_stays(&mut self, first: &LogReport) {
        let place = |damage: &Damage| (damage.slot, damage.sequence, damage.at, damage.kind);
        let known: Vec<_> = first.damages.iter().map(place).collect();
        let before = self.damages.len() + self.damaged_copies().len();
        self.damages.retain(|damage| known.contains(&place(damage)));
        for segment in &mut self.segments {
            let same = |other: &&SegmentReport| {
                (other.slot, other.sequence) == (segment.slot, segment.sequence)
            };
            let copies = first.segments.iter().find(same).map_or([true; 2], |other| other.copies);
            for (now, before) in segment.copies.iter_mut().zip(copies) {
                *now |= before;
            }
        }
        let after = self.damages.len() + self.damaged_copies().len();
        self.moved = first.moved || after < before || known.len() > self.damages.len();
    }
}

/// One look.
fn look<S: Slots>(
    source: &S,
    slots: &[u32],
    boot_id: [u8; 16],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<LogReport, RecoveryError> {
    let expected = Expected { shard: None, level: None, boot_id, thorough: true };
    let total = 2 * slots.len();
    let mut looked = 0;
    let survey = Survey::take(source, slots, expected, &mut |_| {
        looked += 1;
        progress(looked, total);
    })?;
    let mut report = LogReport {
        log_id: survey.names.map(|names| names.log_id),
        segment_bytes: source.slot_bytes(),
        free: survey.blank.clone(),
        possible_loss: survey.possible_loss,
        ..LogReport::default()
    };
    let mut streams = Streams::of(&survey);
    for found in &survey.found {
        let segment = segment(source, found, &mut streams)?;
        report.epoch = report.epoch.max(found.scan.tail.epoch).max(found.header.base_epoch.get());
        report.time = report.time.max(found.scan.tail.time);
        report.segments.push(segment);
        looked += 1;
        progress(looked.min(total), total);
    }
    progress(total, total);
    let gaps = survey.found.iter().filter(|found| !found.void).flat_map(|found| &found.scan.gaps);
    let accepted = gaps.filter(|gap| gap.proof.is_none());
    report.accepted = accepted.map(|gap| (gap.lsn, gap.next_lsn)).collect();
    for pair in survey.found.windows(2).filter(|pair| pair[1].accepted_joint) {
        report.accepted.push((pair[0].scan.tail.lsn, pair[1].header.base_lsn.get()));
    }
    report.damages = survey.damages;
    report.streams = streams.reports;
    report.streams.sort_by_key(|stream| stream.id);
    report.missing = streams.missing;
    Ok(report)
}

/// Counts a segment's records.
fn segment<S: Slots>(
    source: &S,
    found: &Found,
    streams: &mut Streams,
) -> Result<SegmentReport, RecoveryError> {
    let header = found.header;
    let mut report = SegmentReport {
        slot: found.slot,
        sequence: header.sequence.get(),
        header,
        copies: [false; 2],
        next_lsn: found.scan.tail.lsn,
        records: 0,
        messages: 0,
        bytes: 0,
        extents: BTreeMap::new(),
        ended: match found.scan.rolled {
            _ if found.void => Ended::Void,
            true => Ended::Rolled,
            false if found.torn => Ended::Torn,
            false => Ended::Open,
        },
        runs: found.scan.runs.iter().map(|run| (run.start, run.end)).collect(),
        behind: (0, 0),
        recycled: false,
    };
    let read = source.slot(found.slot);
    let bytes = read.map_err(|source| RecoveryError::Read { slot: found.slot, source })?;
    report.copies = SEGMENT_HEADER_AT.map(|copy| {
        let at = copy as usize;
        SegmentHeader::read(&bytes[at..at + SEGMENT_HEADER_BYTES]) == Some(header)
    });
    if read_header(&bytes) != Some(header) {
        (report.recycled, report.copies) = (true, [true; 2]);
        return Ok(report);
    }
    if report.ended == Ended::Torn {
        report.behind = sound_behind(&bytes, &header, &found.scan.tail);
    }
    let generation = header.generation();
    for (start, end) in &report.runs {
        for (at, record, block) in records(&bytes, *start, *end) {
            if record.generation() != generation {
                // Its header was still there.
                report.recycled = true;
                return Ok(report);
            }
            debug_assert!(at < *end);
            report.records += 1;
            report.bytes += record_bytes(block.len());
            if found.void {
                continue;
            }
            report.messages += streams.take(record, block);
            if record.kind == Kind::Data as u8 {
                let first = record.offset.get();
                let new = StreamExtent { first, next: first, records: 0, bytes: 0 };
                let extent = report.extents.entry(record.stream.get()).or_insert(new);
                extent.next = first + u64::from(record.count.get());
                extent.records += 1;
                extent.bytes += record_bytes(block.len());
            }
        }
    }
    Ok(report)
}

/// The streams' extents while records go by.
struct Streams {
    reports: Vec<StreamReport>,
    by_id: std::collections::HashMap<u64, usize>,
    /// Of each stream, unless all that was found is how far publishers got in it: what lies between says nothing.
    told: Vec<bool>,
    missing: Vec<Missing>,
    /// Records are missing somewhere.
    gaps: bool,
    /// The log's first segment is there.
    whole: bool,
}

impl Streams {
    fn of(survey: &Survey) -> Streams {
        let whole = survey.found.first().is_some_and(|first| first.header.sequence.get() == 1);
        let (reports, by_id, told, missing) = Default::default();
        Streams { reports, by_id, told, missing, gaps: survey.gaps, whole }
    }

    /// Takes a record; its messages.
    fn take(&mut self, record: &RecordHeader, block: &[u8]) -> u64 {
        let data = record.kind == Kind::Data as u8;
        if !data && record.kind != Kind::StreamState as u8 {
            return 0;
        }
        let (id, offset) = (record.stream.get(), record.offset.get());
        let count = u64::from(record.count.get());
        let place = *self.by_id.entry(id).or_insert_with(|| {
            let next = if self.gaps && self.whole { 0 } else { offset };
            self.reports.push(StreamReport { id, first: offset, next, ..Default::default() });
            self.told.push(self.whole);
            self.reports.len() - 1
        });
        let stream = &mut self.reports[place];
        let of_publisher = !data && record.publisher.get() != 0;
        if of_publisher && offset <= stream.next {
            return 0;
        }
        let told = self.told[place];
        self.told[place] |= !of_publisher;
        if self.gaps && told && stream.next < offset {
            self.missing.push(Missing { stream: id, from: stream.next, to: offset });
            stream.missing += offset - stream.next;
        }
        if stream.records == 0 {
            stream.first = offset;
        }
        stream.next = stream.next.max(offset + count);
        if data {
            stream.records += 1;
            stream.messages += count;
            stream.bytes += block.len() as u64;
        }
        count
    }
}

/// A record that [`each_record`] shows.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Slot of its segment.
    pub slot: u32,
    /// Sequence of its segment.
    pub sequence: u64,
    /// Byte in the slot's file.
    pub at: u64,
    /// Its header.
    pub header: &'a RecordHeader,
    /// Its block.
    pub block: &'a [u8],
}

/// Shows all sound records of a log that was examined, in the order in which they were written, until `visit` says false.
/// Segments that were recycled meanwhile are left out: how many.
///
/// # Errors
/// When a slot cannot be read.
pub fn each_record<S: Slots>(
    source: &S,
    report: &LogReport,
    visit: &mut dyn FnMut(&Seen<'_>) -> bool,
) -> io::Result<usize> {
    let mut recycled = 0;
    for segment in report.segments.iter().filter(|segment| segment.ended != Ended::Void) {
        let bytes = source.slot(segment.slot)?;
        if read_header(&bytes) != Some(segment.header) {
            recycled += 1;
            continue;
        }
        let generation = segment.header.generation();
        for (start, end) in &segment.runs {
            for (at, header, block) in records(&bytes, *start, *end) {
                let (slot, sequence) = (segment.slot, segment.sequence);
                if header.generation() != generation {
                    recycled += 1;
                    break;
                }
                if !visit(&Seen { slot, sequence, at, header, block }) {
                    return Ok(recycled);
                }
            }
        }
    }
    Ok(recycled)
}
