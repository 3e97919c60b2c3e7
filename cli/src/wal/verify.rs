//! `mstream wal verify`.

use serde::Serialize;

use super::health::{Problem, footers, of_files, problems, sentence};
use super::logs::Log;
use crate::failure::Failure;
use crate::output::{Output, counted};

#[derive(Serialize)]
struct Verdict<'a> {
    dir: String,
    shard: Option<u32>,
    used_by_pid: Option<u32>,
    sound: bool,
    health: &'a str,
    problems: &'a [Problem],
    segments: usize,
    records: u64,
    messages: u64,
    /// Lsn behind the last sound record.
    next_lsn: u64,
    written_meanwhile: bool,
}

/// Checks the logs.
pub(super) fn run(logs: &[Log], out: &mut Output) -> Result<(), Failure> {
    let mut wrong = 0;
    for log in logs {
        wrong += check(log, out)?;
    }
    match wrong {
        0 => Ok(()),
        wrong => Err(Failure::Failed(format!("{} found", counted(wrong, "problem")))),
    }
}

/// Checks one log; how many things are wrong.
fn check(log: &Log, out: &mut Output) -> Result<u64, Failure> {
    let files = log.files()?;
    let (mut verdict, problems, health);
    match log.examine(&files) {
        Ok(report) => {
            problems = self::problems(log, &files, &report, &footers(log, &files, &report));
            health = sentence(&report, &problems);
            verdict = verdict_of(log);
            verdict.segments = report.segments.len();
            verdict.records = report.segments.iter().map(|segment| segment.records).sum();
            verdict.messages = report.segments.iter().map(|segment| segment.messages).sum();
            verdict.next_lsn = report.segments.last().map_or(1, |segment| segment.next_lsn);
            verdict.written_meanwhile = report.moved;
        }
        Err(reason) => {
            let mut found = of_files(log, &files);
            found.push(Problem::whole(log.dir.display().to_string(), reason));
            problems = found;
            health = "a node would not start on it".to_string();
            verdict = verdict_of(log);
        }
    }
    verdict.sound = problems.is_empty();
    verdict.problems = &problems;
    verdict.health = &health;
    if out.json() {
        out.record(&verdict)?;
        return Ok(problems.len() as u64);
    }
    let mut text = format!(
        "{}: {health}: {}, {}, {}, next lsn {}",
        log.name(),
        counted(verdict.segments as u64, "segment"),
        counted(verdict.records, "record"),
        counted(verdict.messages, "message"),
        verdict.next_lsn
    );
    if let Some(pid) = log.holder {
        text.push_str(&format!("; in use by pid {pid}, so the end moves"));
    }
    for problem in &problems {
        text.push_str(&format!("\n  {}", problem.line()));
    }
    out.line(&text)?;
    Ok(problems.len() as u64)
}

fn verdict_of(log: &Log) -> Verdict<'static> {
    Verdict {
        dir: log.dir.display().to_string(),
        shard: log.shard,
        used_by_pid: log.holder,
        sound: true,
        health: "",
        problems: &[],
        segments: 0,
        records: 0,
        messages: 0,
        next_lsn: 0,
        written_meanwhile: false,
    }
}
