//! `mstream wal inspect`.

use mstream_pmem::inspect::{FooterState, LogReport, SegmentReport, StreamExtent, StreamReport};
use mstream_pmem::region::Level;
use serde::Serialize;

use super::cold::Cold;
use super::cold_text::ColdRecord;
use super::health::{Problem, TornTail, footers, problems, sentence};
use super::logs::Log;
use super::names::Names;
use crate::failure::Failure;
use crate::output::{self, Output, count, counted, hex};

#[derive(Serialize)]
struct LogRecord<'a> {
    dir: String,
    shard: Option<u32>,
    used_by_pid: Option<u32>,
    health: &'a str,
    problems: &'a [Problem],
    torn_tail: Option<TornTail>,
    log_id: Option<String>,
    level: Option<&'static str>,
    epoch: u32,
    boot_id: Option<String>,
    segment_bytes: u64,
    last_record_ns: u64,
    written_meanwhile: bool,
    segments: Vec<SegmentRecord>,
    free_slots: &'a [u32],
    streams: Vec<StreamRecord<'a>>,
    missing: Vec<MissingRecord<'a>>,
    cold: Option<ColdRecord<'a>>,
}

#[derive(Serialize)]
struct SegmentRecord {
    slot: u32,
    sequence: u64,
    version: u16,
    opened_by: &'static str,
    base_lsn: u64,
    next_lsn: u64,
    epoch: u32,
    level: Option<&'static str>,
    records: u64,
    messages: u64,
    bytes: u64,
    ended: &'static str,
    /// Stretches of sound records, as bytes in the file.
    sound: Vec<(u64, u64)>,
    footer: &'static str,
    recycled_meanwhile: bool,
    /// How many streams it holds anything of.
    streams: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    extents: Option<Vec<ExtentRecord>>,
}

#[derive(Serialize)]
struct ExtentRecord {
    stream_id: u64,
    first_offset: u64,
    next_offset: u64,
    records: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct StreamRecord<'a> {
    id: u64,
    name: &'a str,
    first_offset: u64,
    next_offset: u64,
    records: u64,
    messages: u64,
    bytes: u64,
    missing_messages: u64,
}

#[derive(Serialize)]
struct MissingRecord<'a> {
    stream_id: u64,
    stream: &'a str,
    from: u64,
    to: u64,
}

/// A log and what was found of it.
struct View<'a> {
    log: &'a Log,
    report: LogReport,
    footers: Vec<(u32, FooterState)>,
    problems: Vec<Problem>,
    cold: Option<Cold>,
    names: &'a Names,
    health: String,
    /// The extents of each segment are shown.
    extents: bool,
}

/// Describes the logs.
pub(super) fn run(logs: &[Log], extents: bool, out: &mut Output) -> Result<(), Failure> {
    let names = Names::read(None, logs)?;
    let mut failed = Vec::new();
    for log in logs {
        match look(log, &names, extents)? {
            Ok(view) if out.json() => out.record(&record(&view))?,
            Ok(view) => out.line(&text(&view))?,
            Err(reason) => failed.push(format!("{}: {reason}", log.name())),
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::Failed(failed.join("\n"))),
    }
}

/// Looks at a log and its cold segments, or at these alone.
fn look<'a>(
    log: &'a Log,
    names: &'a Names,
    extents: bool,
) -> Result<Result<View<'a>, String>, Failure> {
    let (mut report, mut footers, mut problems) = (LogReport::default(), Vec::new(), Vec::new());
    let mut health = "cold segments alone".to_string();
    if log.hot {
        let files = log.files()?;
        report = match log.examine(&files) {
            Ok(report) => report,
            Err(reason) => return Ok(Err(reason)),
        };
        footers = self::footers(log, &files, &report);
        problems = self::problems(log, &files, &report, &footers);
        health = sentence(&report, &problems);
    }
    let cold = Cold::look(log, &report)?;
    problems.extend(cold.iter().flat_map(|cold| cold.problems(names)));
    Ok(Ok(View { log, report, footers, problems, cold, names, health, extents }))
}

fn level(number: u8) -> Option<&'static str> {
    Level::from_number(number).map(Level::name)
}

fn record<'a>(view: &'a View<'_>) -> LogRecord<'a> {
    let View { log, report, footers, problems, cold, names, health, extents } = view;
    let newest = report.segments.last().map(|segment| &segment.header);
    LogRecord {
        dir: log.dir.display().to_string(),
        shard: newest.map(|header| header.shard.get()).or(log.shard),
        used_by_pid: log.holder,
        health,
        problems,
        torn_tail: TornTail::of(log, report),
        log_id: report.log_id.map(|id| hex(&id)),
        level: newest.and_then(|header| level(header.level)),
        epoch: report.epoch,
        boot_id: newest.map(|header| hex(&header.boot_id)),
        segment_bytes: report.segment_bytes,
        last_record_ns: report.time,
        written_meanwhile: report.moved,
        segments: report
            .segments
            .iter()
            .map(|segment| segment_record(segment, footer(footers, segment.slot), *extents))
            .collect(),
        free_slots: &report.free,
        streams: report.streams.iter().map(|stream| stream_record(stream, names)).collect(),
        missing: report
            .missing
            .iter()
            .map(|missing| MissingRecord {
                stream_id: missing.stream,
                stream: names.of(missing.stream),
                from: missing.from,
                to: missing.to,
            })
            .collect(),
        cold: cold.as_ref().map(|cold| cold.record(names)),
    }
}

/// The word for what stands beside a slot's segment.
fn footer(footers: &[(u32, FooterState)], slot: u32) -> &'static str {
    let of = footers.iter().find(|(of, _)| *of == slot);
    of.map_or("none", |(_, state)| state.name())
}

fn segment_record(segment: &SegmentReport, footer: &'static str, extents: bool) -> SegmentRecord {
    let extent = |(id, extent): (&u64, &StreamExtent)| ExtentRecord {
        stream_id: *id,
        first_offset: extent.first,
        next_offset: extent.next,
        records: extent.records,
        bytes: extent.bytes,
    };
    SegmentRecord {
        slot: segment.slot,
        sequence: segment.sequence,
        version: segment.header.version.get(),
        opened_by: segment.reason(),
        base_lsn: segment.header.base_lsn.get(),
        next_lsn: segment.next_lsn,
        epoch: segment.header.base_epoch.get(),
        level: level(segment.header.level),
        records: segment.records,
        messages: segment.messages,
        bytes: segment.bytes,
        ended: segment.ended.name(),
        sound: segment.runs.clone(),
        footer,
        recycled_meanwhile: segment.recycled,
        streams: segment.extents.len(),
        extents: extents.then(|| segment.extents.iter().map(extent).collect()),
    }
}

fn stream_record<'a>(stream: &StreamReport, names: &'a Names) -> StreamRecord<'a> {
    StreamRecord {
        id: stream.id,
        name: names.of(stream.id),
        first_offset: stream.first,
        next_offset: stream.next,
        records: stream.records,
        messages: stream.messages,
        bytes: stream.bytes,
        missing_messages: stream.missing,
    }
}

fn text(view: &View<'_>) -> String {
    let mut text = log_text(view);
    if let Some(cold) = &view.cold {
        text.push_str(&format!("\n{}", cold.text(view.names)));
    }
    text
}

fn log_text(view: &View<'_>) -> String {
    let View { log, report, footers, problems, names, health, .. } = view;
    let mut text = format!("{}: {health}", log.name());
    for problem in problems {
        text.push_str(&format!("\n  {}", problem.line()));
    }
    if let Some(torn) = TornTail::of(log, report) {
        text.push_str(&format!("\n  {}", torn.line()));
    }
    if let Some(pid) = log.holder {
        text.push_str(&format!(
            "\n  in use by pid {pid}: figures are of a moment that has passed, and the newest segment grows"
        ));
    }
    if report.moved {
        text.push_str(
            "\n  it was written to or recycled while it was looked at; that is no damage",
        );
    }
    let Some(newest) = report.segments.last().map(|segment| &segment.header) else { return text };
    text.push_str(&format!(
        "\n  log {}, level {}, epoch {}, segments of {}, last record {}\n  boot {}",
        report.log_id.map(|id| hex(&id)).unwrap_or_default(),
        level(newest.level).unwrap_or("unknown"),
        report.epoch,
        output::bytes(report.segment_bytes),
        output::time(report.time),
        hex(&newest.boot_id),
    ));
    let mut table = output::table(&[
        "segment",
        "slot",
        "opened by",
        "epoch",
        "lsns",
        "records",
        "messages",
        "bytes",
        "streams",
        "ends",
        "footer",
    ]);
    for segment in &report.segments {
        let (base, next) = (segment.header.base_lsn.get(), segment.next_lsn);
        let mut ends = segment.ended.name().to_string();
        if segment.runs.len() > 1 {
            let gaps = segment.runs.len() as u64 - 1;
            ends.push_str(&format!(", with {}", counted(gaps, "gap")));
        }
        if segment.recycled {
            ends = "recycled meanwhile".to_string();
        }
        table.add_row(vec![
            segment.sequence.to_string(),
            segment.slot.to_string(),
            segment.reason().to_string(),
            segment.header.base_epoch.get().to_string(),
            if next > base { format!("{base} to {}", next - 1) } else { "none".to_string() },
            count(segment.records),
            count(segment.messages),
            count(segment.bytes),
            count(segment.extents.len() as u64),
            ends,
            footer(footers, segment.slot).to_string(),
        ]);
    }
    text.push_str(&format!("\n\n{table}\n{} free\n", counted(report.free.len() as u64, "slot")));
    if view.extents {
        text.push_str(&extents_text(report, names));
    }
    if report.streams.is_empty() {
        return text;
    }
    let mut table =
        output::table(&["stream", "id", "first", "next", "records", "bytes", "missing"]);
    for stream in &report.streams {
        table.add_row(vec![
            names.of(stream.id).to_string(),
            stream.id.to_string(),
            count(stream.first),
            count(stream.next),
            count(stream.records),
            count(stream.bytes),
            count(stream.missing),
        ]);
    }
    text.push_str(&format!("\n{table}\n"));
    text
}

/// A table of what each segment holds of each stream.
fn extents_text(report: &LogReport, names: &Names) -> String {
    let mut table =
        output::table(&["segment", "stream", "id", "first", "next", "records", "bytes"]);
    for segment in &report.segments {
        for (id, extent) in &segment.extents {
            table.add_row(vec![
                segment.sequence.to_string(),
                names.of(*id).to_string(),
                id.to_string(),
                count(extent.first),
                count(extent.next),
                count(extent.records),
                count(extent.bytes),
            ]);
        }
    }
    format!("\n{table}\n")
}
