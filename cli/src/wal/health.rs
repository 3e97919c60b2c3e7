//! What is wrong with a log, in words.

use mstream_pmem::DamageKind;
use mstream_pmem::footer::footer_path;
use mstream_pmem::format::SEGMENT_DATA_AT;
use mstream_pmem::inspect::{Ended, FooterState, LogReport, SegmentFiles, check_footer};
use serde::Serialize;

use super::logs::Log;
use crate::output::counted;

/// One thing that is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// The file; empty where it is not one's alone.
    pub(super) file: String,
    /// Byte in it where it begins.
    pub(super) byte: u64,
    /// What is wrong there.
    pub(super) what: String,
    /// First lsn that is missing, and the first that is not, where records are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) missing_lsns: Option<(u64, u64)>,
    /// What is beyond it.
    pub(super) beyond: String,
    /// A node starts as FAULT because of it.
    pub(super) fault: bool,
}

impl Problem {
    pub(super) fn of(file: String, byte: u64, what: String) -> Problem {
        Problem { file, byte, what, missing_lsns: None, beyond: String::new(), fault: false }
    }

    /// Why a log cannot be looked at at all.
    pub(super) fn whole(dir: String, what: String) -> Problem {
        Problem::of(dir, 0, what)
    }

    /// A line for people.
    pub(super) fn line(&self) -> String {
        let mut line = match self.file.is_empty() {
            true => self.what.clone(),
            false => format!("{} byte {}: {}", self.file, self.byte, self.what),
        };
        if let Some((from, to)) = self.missing_lsns {
            let records = counted(to - from, "record");
            line.push_str(&format!("; {records} missing (lsn {from} to {})", to - 1));
        }
        if !self.beyond.is_empty() {
            line.push_str(&format!("; {}", self.beyond));
        }
        line
    }
}

/// What stands behind the end of a log that nobody writes to.
#[derive(Debug, Serialize)]
pub(super) struct TornTail {
    file: String,
    /// Byte behind the last record that counts.
    byte: u64,
    /// Sound data records behind it, and their messages.
    records: u64,
    messages: u64,
}

impl TornTail {
    /// Of the newest segment, if it is torn.
    pub(super) fn of(log: &Log, report: &LogReport) -> Option<TornTail> {
        let newest = report.segments.last().filter(|newest| newest.ended == Ended::Torn);
        newest.filter(|_| log.holder.is_none()).map(|newest| TornTail {
            file: log.file(newest.slot).display().to_string(),
            byte: newest.runs.last().map_or(SEGMENT_DATA_AT, |(_, end)| *end),
            records: newest.behind.0,
            messages: newest.behind.1,
        })
    }

    /// A line for people.
    pub(super) fn line(&self) -> String {
        let TornTail { file, byte, .. } = self;
        let behind = match self.records {
            0 => "nothing sound stands behind it".to_string(),
            records => format!(
                "{} of {} behind it are dropped by the next start: they were not behind a barrier yet, or what stands at \
                 this byte was damaged since",
                counted(records, "sound record"),
                counted(self.messages, "message"),
            ),
        };
        format!("{file} byte {byte}: torn tail: the log ends here; {behind}")
    }
}

/// All that is wrong with a log that could be looked at.
pub(super) fn problems(
    log: &Log,
    files: &SegmentFiles,
    report: &LogReport,
    footers: &[(u32, FooterState)],
) -> Vec<Problem> {
    let mut problems = of_files(log, files);
    let name = |slot| log.file(slot).display().to_string();
    for damage in &report.damages {
        let beyond = match damage.kind {
            DamageKind::Records if damage.to < files_slot_bytes(files) => {
                format!("sound records go on at byte {}", damage.to)
            }
            DamageKind::Records => "nothing sound follows in this file".to_string(),
            DamageKind::Joint { .. } => {
                format!("the log goes on in segment {}", damage.sequence)
            }
            DamageKind::Header => "its records are not read".to_string(),
            DamageKind::File => String::new(),
        };
        let missing = (damage.next_lsn > damage.lsn).then_some((damage.lsn, damage.next_lsn));
        let what = match damage.kind {
            DamageKind::Joint { missing: Some(missing), .. } => {
                format!("segment {missing} is missing before this one")
            }
            _ => damage.what.clone(),
        };
        problems.push(Problem {
            missing_lsns: missing,
            beyond,
            fault: true,
            ..Problem::of(name(damage.slot), damage.at, what)
        });
    }
    for (slot, at) in report.damaged_copies() {
        let what = "this copy of the segment header is damaged; the other one is sound".to_string();
        problems.push(Problem::of(name(slot), at, what));
    }
    for (slot, state) in footers {
        if let FooterState::Wrong { at, what } = state {
            let file = footer_path(&log.dir, *slot).display().to_string();
            let what = format!(
                "the footer is wrong; a start makes it again, unless its segment is recycled soon: {what}"
            );
            problems.push(Problem::of(file, *at, what));
        }
    }
    if report.possible_loss {
        let what = "possible-loss: the machine was booted since it was written at level process; a start keeps what is \
                    valid up to the first misfit";
        problems.push(Problem::of(String::new(), 0, what.to_string()));
    }
    problems
}

/// What stands beside each segment, by slot.
pub(super) fn footers(
    log: &Log,
    files: &SegmentFiles,
    report: &LogReport,
) -> Vec<(u32, FooterState)> {
    let state = |segment: &mstream_pmem::inspect::SegmentReport| {
        // One that is not there, or cannot be read, is made again.
        let found = std::fs::read(footer_path(&log.dir, segment.slot)).unwrap_or_default();
        let state = check_footer(files, segment, &found).unwrap_or(FooterState::None);
        (segment.slot, state)
    };
    report.segments.iter().map(state).collect()
}

/// Files that a node would not take.
pub(super) fn of_files(log: &Log, files: &SegmentFiles) -> Vec<Problem> {
    let bytes = files_slot_bytes(files);
    let problem = |(slot, length): (u32, u64)| {
        let what = format!("the file has {length} bytes, but a segment has {bytes}");
        Problem::of(log.file(slot).display().to_string(), bytes, what)
    };
    files.too_large().map(problem).collect()
}

fn files_slot_bytes(files: &SegmentFiles) -> u64 {
    mstream_pmem::inspect::Slots::slot_bytes(files)
}

/// A log's health in one sentence.
pub(super) fn sentence(report: &LogReport, problems: &[Problem]) -> String {
    if report.log_id.is_none() && problems.is_empty() {
        return "holds nothing yet".to_string();
    }
    let accepted = match report.accepted.len() {
        0 => String::new(),
        1 => "; a loss was accepted before".to_string(),
        many => format!("; {many} losses were accepted before"),
    };
    let faults = problems.iter().filter(|problem| problem.fault).count();
    match (faults, problems.len()) {
        (0, 0) => format!("sound{accepted}"),
        (0, _) => {
            let what: Vec<&str> = problems.iter().map(|problem| problem.what.as_str()).collect();
            format!("{}{accepted}", what.join("; "))
        }
        (faults, _) if report.segments.is_empty() => format!(
            "FAULT: damaged at {}, and no segment header is left: nothing of it can be read; a node does not start on it, but \
             where it promises no more than level process: there it begins a new log",
            counted(faults as u64, "place"),
        ),
        (faults, _) => {
            let lost: u64 = problems
                .iter()
                .filter_map(|problem| problem.missing_lsns)
                .map(|(from, to)| to - from)
                .sum();
            format!(
                "FAULT: damaged at {}, {} missing; a node serves what is sound and takes nothing until the damage is \
                 mended or accepted (mstream wal accept-loss){accepted}",
                counted(faults as u64, "place"),
                counted(lost, "record"),
            )
        }
    }
}
