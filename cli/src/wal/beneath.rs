//! Messages that cold segments hold, shown where the log has them no more.

use mstream_pmem::cold::{ColdError, ColdPage};
use mstream_pmem::format::RecordHeader;
use mstream_pmem::inspect::LogReport;

use super::cold::Cold;
use super::logs::Log;
use super::names::Names;
use crate::failure::{Failure, note};

/// Bytes that are read at a time: more than any record takes.
const PAGE_BYTES: usize = 1 << 20;

type Show<'a> = dyn FnMut(&RecordHeader, &[u8]) -> Result<(), Failure> + 'a;

/// A stream's records in the cold segments beside a log, in order of offset.
pub(super) struct Beneath {
    /// `None` where there are none, or no more.
    cold: Option<Cold>,
    page: ColdPage,
    stream: u64,
    /// Offsets below were shown, or passed.
    at: u64,
}

impl Beneath {
    /// Those of `stream` from offset `from` on, beside the log of which this was found.
    pub(super) fn of(
        log: &Log,
        report: &LogReport,
        (stream, from): (u64, u64),
        names: &Names,
    ) -> Result<Beneath, Failure> {
        let cold = Cold::look(log, report)?;
        for problem in cold.iter().flat_map(|cold| cold.problems(names)) {
            note(&format!("{}: {}; what is sound follows", log.name(), problem.line()));
        }
        Ok(Beneath { cold, page: ColdPage::new(PAGE_BYTES), stream, at: from })
    }

    /// Shows the records that begin below offset `to` and were not shown or passed.
    pub(super) fn up_to(&mut self, to: u64, show: &mut Show<'_>) -> Result<(), Failure> {
        while self.at < to
            && let Some(cold) = &mut self.cold
        {
            match cold.look.read(self.stream, self.at, &mut self.page) {
                Ok(true) => {
                    for record in self.page.records() {
                        if record.header.offset.get() >= to {
                            self.at = to;
                            return Ok(());
                        }
                        show(record.header, record.block)?;
                        self.at = record.end_offset();
                    }
                    self.at = self.at.max(self.page.end());
                }
                Ok(false) => self.cold = None,
                Err(ColdError::Damaged { file, at, what, lost: Some((from, behind)) })
                    if behind > self.at =>
                {
                    let lost = format!("offsets {from} to {} are left out", behind - 1);
                    note(&format!("{} byte {at}: {what}; {lost}", cold.dir.join(file).display()));
                    self.at = behind;
                }
                Err(error) => {
                    note(&format!("{}: {error}; the rest is left out", cold.dir.display()));
                    self.cold = None;
                }
            }
        }
        Ok(())
    }

    /// Passes over offsets below `to`: the log has them.
    pub(super) fn pass(&mut self, to: u64) {
        self.at = self.at.max(to);
    }
}
