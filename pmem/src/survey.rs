//! All segments of a log together: which count, which records of them are valid, and what is damaged. Changes nothing.

use std::io;

use crate::damage::{Damage, DamageKind};
use crate::format::{
    Kind, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_AT, SegmentHeader, VERSIONS,
    generation, record_bytes,
};
use crate::holes::{Holes, holes_in};
use crate::planted::{Bug, planted};
use crate::recovery::RecoveryError;
use crate::region::Level;
use crate::scan::{
    Depth, Scan, headless, headless_by_samples, read_header, scan, torn, written_copy,
};
use crate::slots::{Extent, Slots};
use crate::wal::LogNames;

/// A segment as found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) slot: u32,
    pub(crate) header: SegmentHeader,
    pub(crate) scan: Scan,
    /// A newer segment says that its records do not count.
    pub(crate) void: bool,
    /// Something was written behind the last valid record and never covered by a barrier.
    pub(crate) torn: bool,
    /// It does not continue the segment before, and that was accepted.
    pub(crate) accepted_joint: bool,
}

/// What a log's slots hold.
#[derive(Default)]
pub(crate) struct Survey {
    /// Segments, oldest first.
    pub(crate) found: Vec<Found>,
    /// Slots that hold no segment, in the order in which they are to be used.
    pub(crate) blank: Vec<u32>,
    /// Slots whose segment header is lost; they are not among `blank` where that is damage.
    pub(crate) headless: Vec<u32>,
    /// What is damaged and not accepted, what makes a start fail first at first.
    pub(crate) damages: Vec<Damage>,
    pub(crate) names: Option<LogNames>,
    pub(crate) possible_loss: bool,
    /// Some records are missing between sound ones, accepted or not.
    pub(crate) gaps: bool,
}

/// What a survey is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Shard whose log it is, if that is known.
    pub(crate) shard: Option<u32>,
    /// Level of the medium, if that is known.
    pub(crate) level: Option<Level>,
    /// Id of the running kernel's boot.
    pub(crate) boot_id: [u8; 16],
    /// Every line of the free slots is looked at, however long that takes.
    pub(crate) thorough: bool,
}

impl Survey {
    /// Looks at `slots`. `looked` hears of each slot whose records were read.
    ///
    /// # Errors
    /// When the slots do not hold one log, or cannot be read.
    pub(crate) fn take<S: Slots>(
        source: &S,
        slots: &[u32],
        expected: Expected,
        looked: &mut dyn FnMut(u32),
    ) -> Result<Survey, RecoveryError> {
        let mut survey = Survey::default();
        let mut headers = Vec::new();
        for slot in slots {
            match read_header(&source.front(*slot).map_err(unread(*slot))?) {
                Some(header) => headers.push((*slot, header)),
                // One that is not whole cannot be used, and may have lost its header.
                None if source.extent(*slot) == Extent::Whole => survey.blank.push(*slot),
                None => {}
            }
        }
        for (slot, header) in &headers {
            let shard = expected.shard.unwrap_or_else(|| headers[0].1.shard.get());
            check_header(source.slot_bytes(), *slot, header, shard)?;
        }
        headers.sort_by_key(|(_, header)| header.sequence.get());
        survey.names = one_log(&headers)?;
        survey.possible_loss = match headers.last() {
            Some((_, newest)) => {
                newest.level == Level::Process as u8
                    && newest.boot_id != expected.boot_id
                    && !planted(Bug::RebootUnnoticed)
            }
            // A reboot may take every header of such a log, also where it leaves records.
            None => expected.level == Some(Level::Process) && any_used(source, slots)?,
        };
        let holes = survey.scan(source, headers, looked)?;
        survey.link(source, &holes)?;
        survey.look_at_headless(source, expected.thorough)?;
        survey.look_at_files(source, slots);
        survey.cut(source)?;
        Ok(survey)
    }

    /// Reads the segments, newest first: the holes that one names are in older ones.
    fn scan<S: Slots>(
        &mut self,
        source: &S,
        headers: Vec<(u32, SegmentHeader)>,
        looked: &mut dyn FnMut(u32),
    ) -> Result<Holes, RecoveryError> {
        let depth = if self.possible_loss { Depth::Prefix } else { Depth::Window };
        let mut holes = Holes::default();
        for (slot, header) in headers.into_iter().rev() {
            let bytes = source.slot(slot).map_err(unread(slot))?;
            if read_header(&bytes) != Some(header) {
                // The log is in use: it was recycled since its header was read, and the older ones were before it.
                continue;
            }
            let scan = scan(&bytes, &header, &holes, depth);
            if scan.names_holes && header.version.get() > 1 {
                collect_holes(&bytes, &scan, &mut holes);
            }
            let torn = !scan.rolled && torn(&bytes, &header, scan.end());
            let (void, accepted_joint) = (false, false);
            self.found.push(Found { slot, header, scan, void, torn, accepted_joint });
            looked(slot);
        }
        self.found.reverse();
        Ok(holes)
    }

    /// Finds which segments do not count. Each that counts continues the one before; where that is not so, a later start
    /// has gone on from what was left after a possible loss, and all between are void. After a possible loss
    /// everything behind the first misfit is. Else it is damage, unless it was accepted.
    fn link<S: Slots>(&mut self, source: &S, holes: &Holes) -> Result<(), RecoveryError> {
        let (mut last, mut next) = (0, 1);
        while next < self.found.len() {
            let mut end = next;
            if let Some(misfit) = misfit(&self.found[last], &self.found[next]) {
                let before = self.found[last].scan.tail.lsn;
                // The next one itself, where void ones stood between.
                let first = next + usize::from(misfit != Misjoint::Missing);
                let accepted = (first..self.found.len()).find(|later| {
                    let header = &self.found[*later].header;
                    header.begins_anew() && header.base_lsn.get() <= before
                });
                if self.accepted_joint(holes, next) {
                    self.found[next].accepted_joint = true;
                } else if let Some(start) = accepted {
                    end = start;
                } else if self.possible_loss {
                    end = self.found.len();
                } else {
                    self.damaged_joint(source, holes, last, next, misfit)?;
                }
                self.found[next..end].iter_mut().for_each(|found| found.void = true);
            }
            (last, next) = (end, end + 1);
        }
        Ok(())
    }

    /// True if an operator accepted what is missing in front of segment `next`.
    fn accepted_joint(&self, holes: &Holes, next: usize) -> bool {
        let header = &self.found[next].header;
        holes
            .joint(header.sequence.get())
            .is_some_and(|hole| hole.next_lsn.get() == header.base_lsn.get())
    }

    /// Notes that `next` does not continue `last`; or, where the latter is only not read to its end, its gaps.
    fn damaged_joint<S: Slots>(
        &mut self,
        source: &S,
        holes: &Holes,
        last: usize,
        next: usize,
        misfit: Misjoint,
    ) -> Result<(), RecoveryError> {
        let (before, after) = (&self.found[last], &self.found[next]);
        if let Misjoint::Repeated = misfit {
            let what = format!("it has the same number as the one in slot {}", before.slot);
            return Err(RecoveryError::Foreign { slot: after.slot, what });
        }
        if let Misjoint::Unended = misfit
            && !after.header.begins_anew()
        {
            // All of a segment that another follows was promised, also where it ends.
            let bytes = source.slot(before.slot).map_err(unread(before.slot))?;
            let deeper = scan(&bytes, &before.header, holes, Depth::Rolled);
            if deeper.rolled || deeper.runs.len() > before.scan.runs.len() {
                self.found[last].scan = deeper;
                self.found[last].torn = false;
                if self::misfit(&self.found[last], &self.found[next]).is_none() {
                    return Ok(());
                }
            }
        }
        let (before, after) = (&self.found[last], &self.found[next]);
        let base = after.header.base_lsn.get();
        let missing = matches!(misfit, Misjoint::Missing).then(|| before.header.sequence.get() + 1);
        let tail = &before.scan.tail;
        let (slot, at) = match missing {
            Some(_) => (after.slot, 0),
            None => (before.slot, before.scan.end()),
        };
        let what = format!(
            "its records end before lsn {}, but the next segment goes on at lsn {base}",
            tail.lsn
        );
        self.damages.push(Damage {
            slot,
            sequence: after.header.sequence.get(),
            at,
            to: source.slot_bytes(),
            lsn: tail.lsn,
            next_lsn: base.max(tail.lsn),
            kind: DamageKind::Joint { before: before.slot, missing },
            what,
        });
        Ok(())
    }

    /// A slot without a valid header whose header was damaged is a fault: its records are not to be lost. It was,
    /// when both copies hold something (writing and wiping touch one at a time), or when there are records of the
    /// segment that would come next (without any segment, of any). After a possible loss the latter slots are
    /// accepted, but used last: what the log comes to again is cleared in them before.
    fn look_at_headless<S: Slots>(
        &mut self,
        source: &S,
        thorough: bool,
    ) -> Result<(), RecoveryError> {
        let newest = self.found.last();
        if self.possible_loss && newest.is_none() {
            // All begins anew, with a secret that no record was made with.
            return Ok(());
        }
        let next = newest
            .map(|newest| generation(&newest.header.secret, newest.header.sequence.get() + 1));
        let lsn = newest.map_or(1, |newest| newest.scan.tail.lsn);
        let mut kept = Vec::new();
        for index in (0..self.blank.len()).rev() {
            let slot = self.blank[index];
            let bytes = source.slot(slot).map_err(unread(slot))?;
            if read_header(&bytes).is_some() {
                // The log is in use, and has gone on in it since.
                continue;
            }
            let here = thorough || self.possible_loss || headless_by_samples(&bytes, next);
            let records = here.then(|| headless(&bytes, next)).flatten();
            let damaged = SEGMENT_HEADER_AT.into_iter().all(|copy| written_copy(&bytes, copy));
            if !self.possible_loss && (damaged || records.is_some()) {
                let (at, what) = match records {
                    Some(at) => (at, "there is a record, but no valid segment header"),
                    None => (0, "both copies of the segment header are damaged"),
                };
                let sequence = match (records, newest) {
                    (Some(_), Some(newest)) => newest.header.sequence.get() + 1,
                    _ => 0,
                };
                let (to, what) = (source.slot_bytes(), what.to_string());
                let kind = DamageKind::Header;
                let next_lsn = lsn;
                self.damages.push(Damage { slot, sequence, at, to, lsn, next_lsn, kind, what });
                self.headless.push(slot);
                self.blank.remove(index);
            } else if records.is_some() {
                kept.insert(0, slot);
                self.blank.remove(index);
            }
        }
        self.blank.extend(kept);
        Ok(())
    }

    /// Notes the files that are not whole: no crash leaves one behind, so more than its end may be lost.
    fn look_at_files<S: Slots>(&mut self, source: &S, slots: &[u32]) {
        let bytes = source.slot_bytes();
        let damage = |slot: &u32| {
            let (at, what) = match source.extent(*slot) {
                Extent::Whole => return None,
                Extent::Short(at) => {
                    (at, format!("the file ends here, but a segment has {bytes} bytes"))
                }
                Extent::Unreadable(at) => {
                    (at, "the medium cannot read this place (EIO)".to_string())
                }
                Extent::Missing => (0, "the file is missing, and later ones are there".to_string()),
            };
            let held = self.found.iter().find(|found| found.slot == *slot);
            let lsn = held.map_or(0, |found| found.scan.tail.lsn);
            let sequence = held.map_or(0, |found| found.header.sequence.get());
            let (slot, to, next_lsn, kind) = (*slot, bytes, lsn, DamageKind::File);
            Some(Damage { slot, sequence, at, to, lsn, next_lsn, kind, what })
        };
        let damages: Vec<Damage> = slots.iter().filter_map(damage).collect();
        self.damages.splice(0..0, damages);
    }

    /// Takes away what newer segments make void, then notes which gaps are damage.
    fn cut<S: Slots>(&mut self, source: &S) -> Result<(), RecoveryError> {
        let mut cut = u64::MAX;
        for found in self.found.iter_mut().rev().filter(|found| !found.void) {
            let unsure = found.scan.tail.lsn > cut || !found.scan.gaps.is_empty();
            if unsure && cut < u64::MAX {
                let bytes = source.slot(found.slot).map_err(unread(found.slot))?;
                found.scan.void_from(&bytes, cut);
            }
            if found.header.begins_anew() {
                cut = cut.min(found.header.base_lsn.get());
            }
            self.gaps |= !found.scan.gaps.is_empty() || found.accepted_joint;
            for gap in &found.scan.gaps {
                let Some((at, lsn)) = gap.proof else { continue };
                let what = format!(
                    "no valid record with lsn {}, but one with lsn {lsn} at byte {at}: {}",
                    gap.lsn, gap.misfit
                );
                self.damages.push(Damage {
                    slot: found.slot,
                    sequence: found.header.sequence.get(),
                    at: gap.from,
                    to: gap.to,
                    lsn: gap.lsn,
                    next_lsn: gap.next_lsn,
                    kind: DamageKind::Records,
                    what,
                });
            }
        }
        self.gaps |= !self.damages.is_empty();
        Ok(())
    }
}

fn unread(slot: u32) -> impl FnOnce(io::Error) -> RecoveryError {
    move |source| RecoveryError::Read { slot, source }
}

fn check_header(
    slot_bytes: u64,
    slot: u32,
    header: &SegmentHeader,
    shard: u32,
) -> Result<(), RecoveryError> {
    let what = if !VERSIONS.contains(&header.version.get()) {
        let (first, last) = (VERSIONS.start(), VERSIONS.end());
        format!("format version {} (this program reads {first} to {last})", header.version.get())
    } else if header.shard.get() != shard {
        format!("it belongs to shard {}, not {shard}", header.shard.get())
    } else if header.segment_bytes.get() != slot_bytes {
        let made_for = header.segment_bytes.get();
        format!("it was made for [wal] segment_bytes {made_for}, not {slot_bytes}")
    } else {
        return Ok(());
    };
    Err(RecoveryError::Foreign { slot, what })
}

/// What all segments share, if there are any.
fn one_log(headers: &[(u32, SegmentHeader)]) -> Result<Option<LogNames>, RecoveryError> {
    let names = |header: &SegmentHeader| LogNames { log_id: header.log_id, secret: header.secret };
    let count = |of: &LogNames| headers.iter().filter(|(_, other)| names(other) == *of).count();
    // The stranger is the one that fewer segments agree with.
    let Some(log) = headers.iter().map(|(_, header)| names(header)).max_by_key(count) else {
        return Ok(None);
    };
    match headers.iter().find(|(_, header)| names(header) != log) {
        Some((slot, _)) => Err(RecoveryError::Foreign {
            slot: *slot,
            what: "it belongs to another log".to_string(),
        }),
        None => Ok(Some(log)),
    }
}

/// Why a segment does not continue the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misjoint {
    /// Both have the same number.
    Repeated,
    /// There are others between them.
    Missing,
    /// The records of the one before end elsewhere.
    Unended,
}

fn misfit(before: &Found, after: &Found) -> Option<Misjoint> {
    if after.header.sequence == before.header.sequence {
        return Some(Misjoint::Repeated);
    }
    if after.header.sequence.get() != before.header.sequence.get() + 1 {
        return Some(Misjoint::Missing);
    }
    let base = after.header.base_lsn.get();
    let (tail, rolled) = (&before.scan.tail, before.scan.rolled);
    let fits = match after.header.begins_anew() {
        true => base <= tail.lsn,
        false => rolled && base == tail.lsn && after.header.base_chain.get() == tail.chain,
    };
    (!fits).then_some(Misjoint::Unended)
}

/// True if anything was ever written to one of the slots.
fn any_used<S: Slots>(source: &S, slots: &[u32]) -> Result<bool, RecoveryError> {
    for slot in slots {
        let bytes = source.slot(*slot).map_err(unread(*slot))?;
        if SEGMENT_HEADER_AT.into_iter().any(|copy| written_copy(&bytes, copy))
            || headless(&bytes, None).is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds the holes that a segment's records name.
fn collect_holes(bytes: &[u8], scan: &Scan, holes: &mut Holes) {
    for run in &scan.runs {
        for (_, header, block) in records(bytes, run.start, run.end) {
            if header.kind == Kind::Hole as u8 {
                holes_in(block).for_each(|hole| holes.add(hole));
            }
        }
    }
}

/// The records between two bytes of a segment, which is a run: byte, header and block of each. Ends early where the
/// memory was changed meanwhile.
pub(crate) fn records(
    bytes: &[u8],
    start: u64,
    end: u64,
) -> impl Iterator<Item = (u64, &RecordHeader, &[u8])> {
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let header = RecordHeader::read(bytes.get(at as usize..)?)?;
        let from = at as usize + RECORD_HEADER_BYTES;
        let block = bytes.get(from..from + header.block_bytes.get() as usize)?;
        let here = at;
        at += record_bytes(block.len());
        Some((here, header, block))
    })
}
