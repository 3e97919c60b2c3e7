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

/// Records in the cold segments beside a log, one stream's after the other's, in order of offset.
pub(super) struct Beneath {
    /// `None` where there are none, or none that can be read.
    cold: Option<Cold>,
    page: ColdPage,
    stream: u64,
    /// Offsets below were shown, or passed.
    at: u64,
    /// Nothing is damaged, as far as was looked.
    whole: bool,
}

impl Beneath {
    /// Those beside the log of which this was found.
    pub(super) fn of(log: &Log, report: &LogReport, names: &Names) -> Result<Beneath, Failure> {
        let cold = Cold::look(log, report)?;
        let mut whole = true;
        for problem in cold.iter().flat_map(|cold| cold.problems(names)) {
            whole = false;
            note(&format!("{}: {}; what is sound follows", log.name(), problem.line()));
        }
        Ok(Beneath { cold, page: ColdPage::new(PAGE_BYTES), stream: 0, at: 0, whole })
    }

    /// The streams that they hold anything of.
    pub(super) fn streams(&self) -> Vec<u64> {
        let streams = self.cold.iter().flat_map(|cold| cold.look.streams());
        streams.map(|stream| stream.id).collect()
    }

    /// Goes on with those of `stream` from offset `from` on.
    pub(super) fn begin(&mut self, stream: u64, from: u64) {
        (self.stream, self.at) = (stream, from);
    }

    /// True if nothing was damaged and left out.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
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
                Ok(false) => self.at = u64::MAX,
                Err(ColdError::Damaged { file, at, what, lost: Some((from, behind)) })
                    if behind > self.at =>
                {
                    let lost = format!("offsets {from} to {} are left out", behind - 1);
                    note(&format!("{} byte {at}: {what}; {lost}", cold.dir.join(file).display()));
                    (self.at, self.whole) = (behind, false);
                }
                Err(error) => {
                    note(&format!("{}: {error}; the rest is left out", cold.dir.display()));
                    (self.cold, self.whole) = (None, false);
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
