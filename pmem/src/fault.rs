//! The state FAULT: a damaged log that is read and not written to (`docs/wal-format.md` section 6).

use crate::damage::Damage;
use crate::recovery::RecoveryReport;
use crate::region::Region;
use crate::tables::StreamSlot;
use crate::wal::Wal;

/// Offsets of a stream that are missing between or before its sound records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Stream id.
    pub stream: u64,
    /// First offset that is missing.
    pub from: u64,
    /// First one that is not.
    pub to: u64,
}

/// Why a log takes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is damaged.
    pub damages: Vec<Damage>,
    /// What is known to be missing of streams whose later messages are there. What was at the end of a stream leaves no
    /// trace but the lsns of `damages`.
    pub missing: Vec<Missing>,
}

impl Fault {
    pub(crate) fn of(report: &RecoveryReport) -> Fault {
        Fault { damages: report.damages.clone(), missing: report.missing.clone() }
    }

    /// Records that are missing, as far as lsns tell.
    pub fn records(&self) -> u64 {
        self.damages.iter().map(|damage| damage.next_lsn.saturating_sub(damage.lsn)).sum()
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.damages.as_slice() {
            [] => f.write_str("nothing is damaged"),
            [one] => write!(f, "{one}"),
            [first, rest @ ..] => write!(f, "{first}; and at {} more places", rest.len()),
        }
    }
}

impl<R: Region> Wal<R> {
    /// Where a stream goes on behind `offset`, below its next offset, if no record that can be read has that offset; and
    /// whether the loss of the messages between was accepted.
    pub fn hole(&self, slot: StreamSlot, offset: u64, hint: u64) -> Option<(u64, bool)> {
        let state = self.stream(slot);
        if offset >= state.next_offset || offset < state.earliest_offset {
            return None;
        }
        let accepted = self.fault.is_none();
        let Some((number, first, at)) = self.place(slot, offset, hint) else {
            // Only what was said again of the stream is left, or nothing before this place.
            return Some((self.index_begins(state), accepted));
        };
        let record = self.record_of(slot, first, at);
        if record.is_some_and(|record| offset < record.end_offset()) {
            return None;
        }
        let to = self.behind(state, number).unwrap_or(state.next_offset);
        Some((to, accepted && record.is_some()))
    }
}
