//! The logs of a directory, and a look at each.

use std::fs;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use mstream_pmem::inspect::{LogReport, SegmentFiles, examine, lock_holder, slot_of};
use mstream_pmem::prepare::boot_id;

use crate::cli::WalDirArgs;
use crate::failure::Failure;

/// The log of one shard.
#[derive(Debug)]
pub(super) struct Log {
    /// Shard, as its directory's name says.
    pub(super) shard: Option<u32>,
    /// Directory with its segments.
    pub(super) dir: PathBuf,
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

fn bar(name: &str) -> ProgressBar {
    // Draws on standard error, and not at all where that is no terminal.
    let bar = ProgressBar::new(0).with_message(name.to_string());
    match ProgressStyle::with_template("{msg} {bar:30} {percent} %, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Finds the logs that are meant.
pub(super) fn find(args: &WalDirArgs) -> Result<Vec<Log>, Failure> {
    let dir = &args.dir;
    let failed = |error: std::io::Error| Failure::Failed(format!("{}: {error}", dir.display()));
    let mut shards = Vec::new();
    let mut segments = false;
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        segments |= slot_of(&path).is_some();
        if let Some(shard) = shard_of(&path) {
            shards.push((shard, path));
        }
    }
    shards.sort();
    let lock_dir = match segments {
        // The directory of one shard: the lock is beside it.
        true => dir.canonicalize().map_err(failed)?.parent().unwrap_or(dir).to_path_buf(),
        false => dir.clone(),
    };
    let holder = lock_holder(&lock_dir).map_err(failed)?;
    let log = |(shard, dir)| Log { shard, dir, lock_dir: lock_dir.clone(), holder };
    let mut logs: Vec<Log> = match segments {
        true => vec![log((shard_of(&dir.canonicalize().map_err(failed)?), dir.clone()))],
        false => shards.into_iter().map(|(shard, dir)| log((Some(shard), dir))).collect(),
    };
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
