//! `mstream wal accept-loss`.

use std::time::Duration;

use mstream_pmem::accept::accept_loss;
use mstream_pmem::inspect::LogReport;
use mstream_pmem::prepare::{DirConfig, DirLock, SyncConfig, boot_id, open_dir};
use mstream_pmem::region::Level;
use mstream_pmem::wal::{TableLimits, WalConfig};
use serde::Serialize;
use time::OffsetDateTime;

use super::health::{Problem, problems};
use super::logs::Log;
use super::names::Names;
use crate::ask::ask;
use crate::failure::{Failure, note};
use crate::output::{Output, counted};

#[derive(Serialize)]
struct Accepted<'a> {
    dir: String,
    shard: Option<u32>,
    accepted: usize,
    problems: Vec<Problem>,
    missing: Vec<MissingLine<'a>>,
}

#[derive(Serialize)]
struct MissingLine<'a> {
    stream_id: u64,
    stream: &'a str,
    from: u64,
    to: u64,
}

/// Accepts what damaged logs have lost.
pub(super) fn run(logs: &[Log], yes: bool, out: &mut Output) -> Result<(), Failure> {
    let lock_dir = logs.first().map(|log| log.lock_dir.clone()).unwrap_or_default();
    let _lock = DirLock::take(&lock_dir).map_err(|error| error.to_string())?;
    let names = Names::read(None, logs)?;
    for log in logs {
        accept(log, yes, &names, out)?;
    }
    Ok(())
}

fn accept(log: &Log, yes: bool, names: &Names, out: &mut Output) -> Result<(), Failure> {
    let failed = |reason: String| Failure::Failed(format!("{}: {reason}", log.name()));
    let files = log.files()?;
    if let Some(problem) = super::health::of_files(log, &files).first() {
        return Err(failed(format!("{}; give it its size first (truncate)", problem.line())));
    }
    let report = log.examine(&files).map_err(failed)?;
    let mut found = problems(log, &files, &report, &[]);
    found.retain(|problem| problem.fault);
    if found.is_empty() {
        if !out.json() {
            out.line(&format!("{}: nothing is lost; it was left as it is", log.name()))?;
            return Ok(());
        }
        return told(log, &report, 0, found, names, out);
    }
    if report.segments.is_empty() {
        let dir = log.dir.display();
        return Err(failed(format!(
            "{}; no segment header is left, so nothing of the log can be read and there is nothing to go on with: move {dir} \
             away, and the node begins a new log",
            found[0].line()
        )));
    }
    for line in loss(&report, &found, names) {
        note(&format!("{}: {line}", log.name()));
    }
    let question = format!("{}: go on without what is missing, for good?", log.name());
    if !yes && !ask(&question, "accepting a loss cannot be taken back")? {
        return Err(failed("nothing was changed".to_string()));
    }
    let segments = files.slots().len() as u32;
    drop(files);
    let accepted = write(log, &report, segments).map_err(failed)?;
    if accepted == 0 {
        return Err(failed(
            "nothing was recorded: a start finds no loss there any more".to_string(),
        ));
    }
    if out.json() {
        return told(log, &report, accepted, found, names, out);
    }
    out.line(&format!(
        "{}: the loss at {} is recorded; the node can be started",
        log.name(),
        counted(accepted as u64, "place")
    ))
}

fn told(
    log: &Log,
    report: &LogReport,
    accepted: usize,
    problems: Vec<Problem>,
    names: &Names,
    out: &mut Output,
) -> Result<(), Failure> {
    let missing = report.missing.iter().map(|missing| MissingLine {
        stream_id: missing.stream,
        stream: names.of(missing.stream),
        from: missing.from,
        to: missing.to,
    });
    let (dir, shard, missing) = (log.dir.display().to_string(), log.shard, missing.collect());
    out.record(&Accepted { dir, shard, accepted, problems, missing })
}

/// What would be lost, in words.
fn loss(report: &LogReport, found: &[Problem], names: &Names) -> Vec<String> {
    let mut lines: Vec<String> = found.iter().map(Problem::line).collect();
    for missing in &report.missing {
        let name = names.named(missing.stream);
        let messages = counted(missing.to - missing.from, "message");
        lines.push(format!(
            "{name}: {messages} missing, offsets {} to {}",
            missing.from,
            missing.to - 1
        ));
    }
    lines.push(
        "streams may also miss messages at their ends: their readers will be told that they diverged".to_string(),
    );
    lines
}

/// How the log's medium was synced when it was written last, if it is an ordinary file.
fn sync(report: &LogReport) -> Option<SyncConfig> {
    let newest = &report.segments.last()?.header;
    let window_bytes = newest.window_bytes.get();
    let synced = newest.level == Level::MediaSync as u8;
    synced.then_some(SyncConfig { poll: Duration::from_millis(1), window_bytes })
}

/// Records the loss; at how many places.
fn write(log: &Log, report: &LogReport, segments: u32) -> Result<usize, String> {
    let (region, mut slots, mut preparer) = open_dir(DirConfig {
        dir: log.dir.clone(),
        segment_bytes: report.segment_bytes,
        // One more, should all be in use.
        segments: segments + 1,
        require: None,
        trust_host_pmem: false,
        sync: sync(report),
    })
    .map_err(|error| error.to_string())?;
    if report.free.is_empty() {
        let slot = preparer.prepare_next().map_err(|error| error.to_string())?;
        note(&format!(
            "{}: no segment was free, {} was made: raise [wal] max_bytes if the node finds one too many",
            log.name(),
            log.file(slot).display()
        ));
        slots.push(slot);
    }
    let newest = report.segments.last().map(|segment| segment.header.shard.get());
    let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
    let config = WalConfig {
        shard: newest.or(log.shard).unwrap_or(0),
        // There is a log already.
        new_log_id: [0; 16],
        new_secret: [0; 16],
        boot_id: boot_id().map_err(|error| format!("the boot id: {error}"))?,
        tables: TableLimits { streams: 0, publications: 0, publishers: 0 },
        ready_segments: 0,
        time_ns: u64::try_from(now).unwrap_or(0),
    };
    let (accepted, region) =
        accept_loss(region, &slots, config).map_err(|error| error.to_string())?;
    preparer.restore(&region, &slots).map_err(|error| error.to_string())?;
    Ok(accepted.len())
}
