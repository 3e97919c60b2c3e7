//! The cold segments beside a log: what is there, and what is wrong with it.

use std::fs;
use std::path::PathBuf;

use mstream_pmem::cold::{ColdDamage, Owner};
use mstream_pmem::inspect::{ColdFileReport, ColdLook, ColdState, LogReport};

use super::health::Problem;
use super::logs::{Log, bar};
use super::names::Names;
use crate::failure::Failure;
use crate::output::{counted, hex};

/// The cold segments of one shard.
pub(super) struct Cold {
    pub(super) dir: PathBuf,
    pub(super) look: ColdLook,
    /// All of them were read, not their ends alone.
    pub(super) whole: bool,
    /// Directories in theirs, with what was set aside.
    pub(super) aside: Vec<PathBuf>,
}

/// Sums over all files.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) records: u64,
    pub(super) extents: u64,
}

/// Whose cold segments beside this log should be; `None` where it holds nothing that says so.
pub(super) fn owner(report: &LogReport) -> Option<Owner> {
    let shard = report.segments.last()?.header.shard.get();
    Some(Owner { log_id: report.log_id?, shard })
}

impl Cold {
    /// Looks at the cold segments of a log, if it has any; `report` is what was found of the log.
    pub(super) fn look(log: &Log, report: &LogReport) -> Result<Option<Cold>, Failure> {
        let Some(dir) = &log.cold else { return Ok(None) };
        let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
        let look = ColdLook::open(dir, owner(report)).map_err(failed)?;
        let mut aside: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("log-") && path.is_dir() {
                aside.push(path);
            }
        }
        aside.sort();
        Ok(Some(Cold { dir: dir.clone(), look, whole: false, aside }))
    }

    /// Reads them whole, with a bar on a terminal.
    pub(super) fn verify(&mut self, log: &Log) {
        let bar = bar(&format!("{}, cold segments", log.name()));
        self.look.verify(&mut |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        self.whole = true;
    }

    pub(super) fn path(&self, file: &ColdFileReport) -> PathBuf {
        self.dir.join(&file.name)
    }

    /// All that is wrong with them.
    pub(super) fn problems(&self, names: &Names) -> Vec<Problem> {
        let mut problems = Vec::new();
        for file in self.look.files().iter().filter(|file| file.state.is_wrong()) {
            let path = self.path(file);
            if file.damages.is_empty() {
                problems.push(Problem::of(path.display().to_string(), 0, self.words(file)));
            }
            for damage in &file.damages {
                let beyond = match damage.lost {
                    Some(lost) => lost_offsets(lost, names),
                    None => "a start refuses it".to_string(),
                };
                let problem =
                    Problem::of(path.display().to_string(), damage.at, damage.what.clone());
                problems.push(Problem { beyond, ..problem });
            }
        }
        problems
    }

    /// What is to be said of a file.
    pub(super) fn words(&self, file: &ColdFileReport) -> String {
        match &file.state {
            ColdState::Sound if self.whole => "sound".to_string(),
            ColdState::Sound => "sound at both ends".to_string(),
            ColdState::HalfWritten => "half written: the next start removes it".to_string(),
            ColdState::Within(other) if self.counts(other) => {
                format!("{other} replaces it: the next start removes it")
            }
            ColdState::Within(other) => {
                format!("{other} was to replace it and cannot be used: keep this one")
            }
            ColdState::Overlaps(other) => format!(
                "it covers hot segments that {other} covers too: one of them is from elsewhere, and a start refuses both"
            ),
            ColdState::OtherLog => format!(
                "of {}: a start refuses it (mstream wal set-cold-aside)",
                file.owner.map(|owner| whose(&owner)).unwrap_or_default()
            ),
            ColdState::Version(version) => {
                format!("format version {version} is not known here: a start refuses it")
            }
            ColdState::Damaged => {
                let first = file.damages.first();
                let said =
                    |damage: &ColdDamage| format!("damaged at byte {}: {}", damage.at, damage.what);
                let more = file.damages.len().saturating_sub(1) as u64;
                let said = first.map(said).unwrap_or_default();
                if more == 0 { said } else { format!("{said}; and at {}", counted(more, "place")) }
            }
        }
    }

    fn counts(&self, name: &str) -> bool {
        let named = self.look.files().iter().find(|file| file.name == name);
        named.is_some_and(|file| file.state == ColdState::Sound)
    }

    /// Their health in one sentence.
    pub(super) fn sentence(&self) -> String {
        let files = self.look.files();
        let wrong = files.iter().filter(|file| file.state.is_wrong()).count() as u64;
        match (files.is_empty(), wrong, self.whole) {
            (true, ..) => "none".to_string(),
            (false, 0, true) => "sound".to_string(),
            (false, 0, false) => "sound at both ends".to_string(),
            (false, wrong, _) => format!("{} cannot be used as it should", counted(wrong, "file")),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for file in self.look.files() {
            totals.files += 1;
            totals.bytes += file.bytes;
            totals.records += file.records;
            totals.extents += file.extents;
        }
        totals
    }
}

/// Words for an owner.
pub(super) fn whose(owner: &Owner) -> String {
    format!("log {}, shard {}", hex(&owner.log_id), owner.shard)
}

fn lost_offsets((stream, from, to): (u64, u64, u64), names: &Names) -> String {
    let name = names.named(stream);
    format!("offsets {from} to {} of {name} cannot be read, those behind can", to.saturating_sub(1))
}
