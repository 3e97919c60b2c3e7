//! The logs of a directory, and a look at each.

use std::fs;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use mstream_pmem::cold::is_cold_name;
use mstream_pmem::inspect::{LogReport, SegmentFiles, examine, lock_holder, slot_of};
use mstream_pmem::prepare::boot_id;

use crate::cli::{WalColdArgs, WalDirArgs};
use crate::failure::Failure;

/// The log of one shard.
#[derive(Debug)]
pub(super) struct Log {
    /// Shard, as its directory's name says.
    pub(super) shard: Option<u32>,
    /// Directory with its segments.
    pub(super) dir: PathBuf,
    /// There are segments; where there are none, cold segments of a log that was are looked at alone.
    pub(super) hot: bool,
    /// Directory of its cold segments, where there is one.
    pub(super) cold: Option<PathBuf>,
    /// Directory with its lock.
    pub(super) lock_dir: PathBuf,
    /// Process that uses it.
    pub(super) holder: Option<u32>,
}

impl Log {
    /// What messages call it.
    pub(super) fn name(&self) -> String {
        match self.shard {
            Some(shard) => format!("shard {shard}"),
            None => self.dir.display().to_string(),
        }
    }

    /// File of a slot.
    pub(super) fn file(&self, slot: u32) -> PathBuf {
        self.dir.join(format!("{slot:08}.seg"))
    }

    /// Opens its files for reading.
    pub(super) fn files(&self) -> Result<SegmentFiles, Failure> {
        if !self.hot {
            let dir = self.dir.display();
            return Err(Failure::Failed(format!("{dir}: cold segments alone, no log (*.seg)")));
        }
        SegmentFiles::open(&self.dir).map_err(|error| Failure::Failed(error.to_string()))
    }

    /// Looks at it, with a bar on a terminal.
    pub(super) fn examine(&self, files: &SegmentFiles) -> Result<LogReport, String> {
        let boot_id = boot_id().map_err(|error| format!("the boot id: {error}"))?;
        let bar = bar(&self.name());
        let report = examine(files, &files.slots(), boot_id, &mut |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        report.map_err(|error| error.to_string())
    }
}

pub(super) fn bar(name: &str) -> ProgressBar {
    // Draws on standard error, and not at all where that is no terminal.
    let bar = ProgressBar::new(0).with_message(name.to_string());
    match ProgressStyle::with_template("{msg} {bar:30} {percent} %, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Finds the logs that are meant, each with its cold segments.
pub(super) fn find_cold(args: &WalColdArgs) -> Result<Vec<Log>, Failure> {
    let mut logs = find(&args.logs)?;
    let Some(cold) = &args.cold else { return Ok(logs) };
    if !cold.is_dir() {
        return Err(Failure::Failed(format!("--cold {}: no such directory", cold.display())));
    }
    let one = logs.len() == 1;
    for log in logs.iter_mut().filter(|log| log.hot) {
        let of_shard = log.shard.map(|shard| cold.join(format!("shard-{shard}")));
        let of_shard = of_shard.filter(|dir| dir.is_dir());
        log.cold = of_shard.or_else(|| one.then(|| cold.clone()));
    }
    Ok(logs)
}

/// What lies in a directory.
#[derive(Default)]
struct Listed {
    segments: bool,
    cold_segments: bool,
    shards: Vec<(u32, PathBuf)>,
}

impl Listed {
    fn read(dir: &Path) -> Result<Listed, Failure> {
        let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
        let mut listed = Listed::default();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            listed.segments |= slot_of(&path).is_some();
            listed.cold_segments |= is_cold_name(name);
            if let Some(shard) = shard_of(&path) {
                listed.shards.push((shard, path));
            }
        }
        listed.shards.sort();
        Ok(listed)
    }

    /// True for a directory that one shard's log or cold segments lie in.
    fn is_of_one_shard(&self) -> bool {
        self.segments || self.cold_segments
    }
}

/// Finds the logs that are meant.
pub(super) fn find(args: &WalDirArgs) -> Result<Vec<Log>, Failure> {
    let dir = &args.dir;
    let failed = |error: std::io::Error| Failure::Failed(format!("{}: {error}", dir.display()));
    let listed = Listed::read(dir)?;
    let lock_dir = match listed.is_of_one_shard() {
        // The directory of one shard: the lock is beside it.
        true => dir.canonicalize().map_err(failed)?.parent().unwrap_or(dir).to_path_buf(),
        false => dir.clone(),
    };
    let holder = lock_holder(&lock_dir).map_err(failed)?;
    let log = |shard: Option<u32>, dir: &Path, listed: &Listed| {
        let beside = dir.join("cold");
        let cold = match listed.cold_segments && !listed.segments {
            true => Some(dir.to_path_buf()),
            false => beside.is_dir().then_some(beside),
        };
        let hot = listed.segments || cold.is_none();
        Log { shard, dir: dir.to_path_buf(), hot, cold, lock_dir: lock_dir.clone(), holder }
    };
    let mut logs = Vec::new();
    if listed.is_of_one_shard() {
        logs.push(log(shard_of(&dir.canonicalize().map_err(failed)?), dir, &listed));
    } else {
        for (shard, dir) in &listed.shards {
            logs.push(log(Some(*shard), dir, &Listed::read(dir)?));
        }
    }
    if let Some(wanted) = args.shard {
        logs.retain(|log| log.shard == Some(wanted));
    }
    match (logs.is_empty(), args.shard) {
        (false, _) => Ok(logs),
        (true, Some(shard)) => {
            Err(Failure::Failed(format!("{}: no log of shard {shard}", dir.display())))
        }
        (true, None) => Err(Failure::Failed(format!(
            "{}: no logs here: neither shard-* nor *.seg",
            dir.display()
        ))),
    }
}

fn shard_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("shard-")?.parse().ok()
}
