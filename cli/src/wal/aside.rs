//! `mstream wal set-cold-aside`.

use mstream_pmem::cold::{Owner, SetAside, of_others, set_aside};
use mstream_pmem::prepare::DirLock;
use serde::Serialize;

use super::cold::{owner, whose};
use super::logs::Log;
use crate::failure::Failure;
use crate::output::{Output, counted, hex};

#[derive(Serialize)]
struct Line<'a> {
    dir: String,
    shard: Option<u32>,
    set_aside: Vec<Moved<'a>>,
}

#[derive(Serialize)]
struct Moved<'a> {
    log_id: String,
    shard: u32,
    dir: String,
    files: &'a [String],
}

/// Moves cold segments of other logs out of the way of those that are there.
pub(super) fn run(logs: &[Log], out: &mut Output) -> Result<(), Failure> {
    let lock_dir = logs.first().map(|log| log.lock_dir.clone()).unwrap_or_default();
    let _lock = DirLock::take(&lock_dir).map_err(|error| error.to_string())?;
    for log in logs {
        let failed = |reason: String| Failure::Failed(format!("{}: {reason}", log.name()));
        let files = log.files()?;
        let report = log.examine(&files).map_err(failed)?;
        let owner = owner(&report)
            .ok_or_else(|| failed("its log has no name yet: start its node once".to_string()))?;
        let Some(dir) = &log.cold else {
            return Err(failed("no cold segments beside it: say where with --cold".to_string()));
        };
        let named = |error: mstream_pmem::cold::ColdError| {
            Failure::Failed(format!("{}: {error}", dir.display()))
        };
        let others = of_others(dir, owner).map_err(named)?;
        set_aside(dir, &others).map_err(named)?;
        tell(log, &owner, &others, out)?;
    }
    Ok(())
}

fn tell(log: &Log, owner: &Owner, others: &[SetAside], out: &mut Output) -> Result<(), Failure> {
    if out.json() {
        let moved = others.iter().map(|other| Moved {
            log_id: hex(&other.owner.log_id),
            shard: other.owner.shard,
            dir: other.dir.display().to_string(),
            files: &other.files,
        });
        let (dir, shard, set_aside) = (log.dir.display().to_string(), log.shard, moved.collect());
        return out.record(&Line { dir, shard, set_aside });
    }
    if others.is_empty() {
        let text = format!(
            "{}: nothing was moved: all cold segments with a sound header are of {}",
            log.name(),
            whose(owner)
        );
        return out.line(&text);
    }
    for other in others {
        let text = format!(
            "{}: {} of {} moved to {}; `mstream wal` reads them there",
            log.name(),
            counted(other.files.len() as u64, "cold segment"),
            whose(&other.owner),
            other.dir.display()
        );
        out.line(&text)?;
    }
    Ok(())
}
