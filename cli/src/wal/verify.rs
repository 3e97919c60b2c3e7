//! `mstream wal verify`.

use mstream_pmem::inspect::LogReport;
use serde::Serialize;

use super::cold::Cold;
use super::cold_text::ColdRecord;
use super::health::{Problem, TornTail, footers, of_files, problems, sentence};
use super::logs::Log;
use super::names::Names;
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
    torn_tail: Option<TornTail>,
    segments: usize,
    records: u64,
    messages: u64,
    /// Lsn behind the last sound record.
    next_lsn: u64,
    written_meanwhile: bool,
    cold: Option<ColdRecord<'a>>,
}

/// Checks the logs.
pub(super) fn run(logs: &[Log], out: &mut Output) -> Result<(), Failure> {
    let names = Names::read(None, logs)?;
    let mut wrong = 0;
    for log in logs {
        wrong += check(log, &names, out)?;
    }
    match wrong {
        0 => Ok(()),
        wrong => Err(Failure::Failed(format!("{} found", counted(wrong, "problem")))),
    }
}

/// Checks one log and its cold segments; how many things are wrong.
fn check(log: &Log, names: &Names, out: &mut Output) -> Result<u64, Failure> {
    let mut verdict = verdict_of(log);
    let (mut report, mut problems) = (LogReport::default(), Vec::new());
    let mut health = "cold segments alone".to_string();
    if log.hot {
        let files = log.files()?;
        match log.examine(&files) {
            Ok(found) => {
                problems = self::problems(log, &files, &found, &footers(log, &files, &found));
                health = sentence(&found, &problems);
                verdict.next_lsn = found.segments.last().map_or(1, |segment| segment.next_lsn);
                report = found;
            }
            Err(reason) => {
                problems = of_files(log, &files);
                problems.push(Problem::whole(log.dir.display().to_string(), reason));
                health = "a node would not start on it".to_string();
            }
        }
    }
    let mut cold = Cold::look(log, &report)?;
    if let Some(cold) = &mut cold {
        cold.verify(log);
        problems.extend(cold.problems(names));
    }
    verdict.torn_tail = TornTail::of(log, &report);
    verdict.segments = report.segments.len();
    verdict.records = report.segments.iter().map(|segment| segment.records).sum();
    verdict.messages = report.segments.iter().map(|segment| segment.messages).sum();
    verdict.written_meanwhile = report.moved;
    verdict.sound = problems.is_empty();
    verdict.problems = &problems;
    verdict.health = &health;
    verdict.cold = cold.as_ref().map(|cold| cold.record(names));
    match out.json() {
        true => out.record(&verdict)?,
        false => out.line(&text(log, &verdict, cold.as_ref()))?,
    }
    Ok(problems.len() as u64)
}

fn text(log: &Log, verdict: &Verdict<'_>, cold: Option<&Cold>) -> String {
    let mut text = format!("{}: {}", log.name(), verdict.health);
    if log.hot {
        text.push_str(&format!(
            ": {}, {}, {}, next lsn {}",
            counted(verdict.segments as u64, "segment"),
            counted(verdict.records, "record"),
            counted(verdict.messages, "message"),
            verdict.next_lsn
        ));
    }
    if let Some(pid) = log.holder {
        text.push_str(&format!("; in use by pid {pid}, so the end moves"));
    }
    if let Some(cold) = cold {
        text.push_str(&format!("\n  {}", cold.line()));
    }
    for problem in verdict.problems {
        text.push_str(&format!("\n  {}", problem.line()));
    }
    if let Some(torn) = &verdict.torn_tail {
        text.push_str(&format!("\n  {}", torn.line()));
    }
    text
}

fn verdict_of(log: &Log) -> Verdict<'static> {
    Verdict {
        dir: log.dir.display().to_string(),
        shard: log.shard,
        used_by_pid: log.holder,
        sound: true,
        health: "",
        problems: &[],
        torn_tail: None,
        segments: 0,
        records: 0,
        messages: 0,
        next_lsn: 0,
        written_meanwhile: false,
        cold: None,
    }
}
