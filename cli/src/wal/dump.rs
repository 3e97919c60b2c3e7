//! `mstream wal dump`.

use std::io::{self, BufWriter, Write};

use mstream_framing::MessageWriter;
use mstream_pmem::format::{Kind, RecordHeader};
use mstream_pmem::inspect::{LogReport, Seen, SegmentFiles, each_record};
use mstream_wire::Block;
use serde::Serialize;

use super::beneath::Beneath;
use super::logs::Log;
use super::names::Names;
use crate::cli::WalDumpArgs;
use crate::failure::{Failure, note};
use crate::output::{Output, time};
use crate::pubsub::Record;

/// A record as JSON has it.
#[derive(Serialize)]
struct RecordLine<'a> {
    shard: Option<u32>,
    segment: u64,
    slot: u32,
    byte: u64,
    lsn: u64,
    kind: &'static str,
    local: bool,
    epoch: u32,
    time_ns: u64,
    stream_id: u64,
    stream: &'a str,
    offset: u64,
    count: u16,
    publisher_id: u64,
    incarnation: u64,
    sequence: u64,
    block_bytes: u32,
    block_crc: u32,
}

/// A message as JSON has it: as `mstream sub` writes it, and where it comes from.
#[derive(Serialize)]
struct MessageLine<'a> {
    #[serde(flatten)]
    record: Record<'a>,
    lsn: u64,
    epoch: u32,
    time_ns: u64,
}

/// Which messages.
struct Wanted {
    stream: u64,
    from: u64,
    to: u64,
}

type Written = Result<(), Failure>;

/// Writes what the logs hold.
pub(super) fn run(args: &WalDumpArgs, logs: &[Log], out: &mut Output) -> Result<(), Failure> {
    let names = Names::read(args.catalogue.as_deref(), logs)?;
    let wanted = match &args.stream {
        None => None,
        Some(stream) => {
            let stream = match args.id {
                true => stream
                    .parse()
                    .map_err(|_| Failure::Usage(format!("{stream} is no stream id")))?,
                false => names.id(stream)?,
            };
            let (from, to) = (args.from.unwrap_or(0), args.to.unwrap_or(u64::MAX));
            Some(Wanted { stream, from, to })
        }
    };
    let json = out.json();
    let stdout = || BufWriter::with_capacity(1 << 16, io::stdout().lock());
    match (&wanted, args.framing) {
        (Some(wanted), Some(framing)) => {
            let mut writer = MessageWriter::plain(stdout(), framing.framing());
            each_message(logs, wanted, &names, &mut |_, _, message| {
                writer.write(message.payload).map_err(|error| Failure::of_output(&error))
            })?;
            writer.finish().map(drop).map_err(|error| Failure::of_output(&error))
        }
        (Some(wanted), None) => {
            let mut writer = stdout();
            each_message(logs, wanted, &names, &mut |header, offset, message| {
                let line = match json {
                    true => json_message(header, offset, message)?,
                    false => text_message(header, offset, message),
                };
                line_to(&mut writer, &line)
            })?;
            writer.flush().map_err(|error| Failure::of_output(&error))
        }
        (None, _) => {
            let mut writer = stdout();
            each(logs, &mut |log, seen| {
                let line = record_line(log, seen, &names);
                let line = match json {
                    true => serde_json::to_string(&line).map_err(|error| error.to_string())?,
                    false => text_record(&line),
                };
                line_to(&mut writer, &line)
            })?;
            writer.flush().map_err(|error| Failure::of_output(&error))
        }
    }
}

fn line_to(writer: &mut impl Write, line: &str) -> Written {
    writeln!(writer, "{line}").map_err(|error| Failure::of_output(&error))
}

/// Shows all sound records of all logs.
fn each(logs: &[Log], show: &mut dyn FnMut(&Log, &Seen<'_>) -> Written) -> Written {
    for log in logs {
        let (files, report) = look(log)?;
        each_of(log, &files, &report, &mut |seen| show(log, seen))?;
    }
    Ok(())
}

/// Looks at a log, and says what is damaged.
fn look(log: &Log) -> Result<(SegmentFiles, LogReport), Failure> {
    let files = log.files()?;
    let report = log.examine(&files).map_err(|reason| format!("{}: {reason}", log.name()))?;
    for damage in &report.damages {
        note(&format!("{}: damaged: {damage}; what is sound follows", log.name()));
    }
    Ok((files, report))
}

/// Shows all sound records of a log.
fn each_of(
    log: &Log,
    files: &SegmentFiles,
    report: &LogReport,
    show: &mut dyn FnMut(&Seen<'_>) -> Written,
) -> Written {
    let mut written = Ok(());
    let skipped = each_record(files, report, &mut |seen| {
        written = show(seen);
        written.is_ok()
    });
    written?;
    match skipped.map_err(|error| format!("{}: {error}", log.dir.display()))? {
        0 => {}
        some => note(&format!(
            "{}: {some} segments were recycled meanwhile and are left out",
            log.name()
        )),
    }
    Ok(())
}

/// What is done with a message: its record's header, its offset and itself.
type Show<'a> = dyn FnMut(&RecordHeader, u64, &mstream_wire::Message<'_>) -> Written + 'a;

/// Shows the wanted messages of all logs in order, those that only cold segments have among them.
fn each_message(logs: &[Log], wanted: &Wanted, names: &Names, show: &mut Show<'_>) -> Written {
    for log in logs {
        let opened = if log.hot { Some(look(log)?) } else { None };
        let (files, report) = opened.unzip();
        let report = report.unwrap_or_default();
        let mut beneath = Beneath::of(log, &report, (wanted.stream, wanted.from), names)?;
        if let Some(files) = &files {
            each_of(log, files, &report, &mut |seen| {
                let (header, first) = (seen.header, seen.header.offset.get());
                if header.kind != Kind::Data as u8 || header.stream.get() != wanted.stream {
                    return Ok(());
                }
                beneath.up_to(first.min(wanted.to), &mut |header, block| {
                    messages(header, block, wanted, show)
                })?;
                beneath.pass(first + u64::from(header.count.get()));
                messages(header, seen.block, wanted, show)
            })?;
        }
        beneath.up_to(wanted.to, &mut |header, block| messages(header, block, wanted, show))?;
    }
    Ok(())
}

/// Shows the wanted messages of a record of the wanted stream.
fn messages(header: &RecordHeader, block: &[u8], wanted: &Wanted, show: &mut Show<'_>) -> Written {
    let (first, count) = (header.offset.get(), header.count.get());
    if first >= wanted.to || first + u64::from(count) <= wanted.from {
        return Ok(());
    }
    let block = match Block::parse(block, count, header.block_crc.get()) {
        Ok(block) => block,
        Err(error) => {
            note(&format!("offset {first}: no messages in its block: {error}"));
            return Ok(());
        }
    };
    for (offset, message) in (first..).zip(block.messages()) {
        if (wanted.from..wanted.to).contains(&offset) {
            show(header, offset, &message)?;
        }
    }
    Ok(())
}

fn json_message(
    header: &RecordHeader,
    offset: u64,
    message: &mstream_wire::Message<'_>,
) -> Result<String, Failure> {
    let line = MessageLine {
        record: Record { offset, publisher: header.publisher.get(), message },
        lsn: header.lsn.get(),
        epoch: header.epoch.get(),
        time_ns: header.time.get(),
    };
    serde_json::to_string(&line).map_err(|error| Failure::Failed(error.to_string()))
}

fn text_message(header: &RecordHeader, offset: u64, message: &mstream_wire::Message<'_>) -> String {
    format!(
        "{offset} {} publisher {:x} {}",
        time(header.time.get()),
        header.publisher.get(),
        message.payload.escape_ascii()
    )
}

fn kind_name(kind: u8) -> &'static str {
    match Kind::from_number(kind) {
        None => "unknown",
        Some(Kind::Data) => "data",
        Some(Kind::Abort) => "abort",
        Some(Kind::EpochStart) => "epoch-start",
        Some(Kind::PublisherState) => "publisher-state",
        Some(Kind::StreamState) => "stream-state",
        Some(Kind::Roll) => "roll",
        Some(Kind::Pad) => "pad",
        Some(Kind::Hint) => "hint",
        Some(Kind::Hole) => "hole",
    }
}

fn record_line<'a>(log: &Log, seen: &Seen<'_>, names: &'a Names) -> RecordLine<'a> {
    let header = seen.header;
    RecordLine {
        shard: log.shard,
        segment: seen.sequence,
        slot: seen.slot,
        byte: seen.at,
        lsn: header.lsn.get(),
        kind: kind_name(header.kind),
        local: header.local & 1 != 0,
        epoch: header.epoch.get(),
        time_ns: header.time.get(),
        stream_id: header.stream.get(),
        stream: names.of(header.stream.get()),
        offset: header.offset.get(),
        count: header.count.get(),
        publisher_id: header.publisher.get(),
        incarnation: header.incarnation.get(),
        sequence: header.sequence.get(),
        block_bytes: header.block_bytes.get(),
        block_crc: header.block_crc.get(),
    }
}

fn text_record(line: &RecordLine<'_>) -> String {
    let mut text = format!(
        "segment {} slot {} byte {}: lsn {}{} {} epoch {} {}",
        line.segment,
        line.slot,
        line.byte,
        line.lsn,
        if line.local { " (local)" } else { "" },
        line.kind,
        line.epoch,
        time(line.time_ns),
    );
    if line.stream_id != 0 {
        text.push_str(&format!(" stream {} {}", line.stream_id, line.stream));
        text.push_str(&format!(" offset {} count {}", line.offset, line.count));
    }
    if line.publisher_id != 0 {
        text.push_str(&format!(" publisher {:x}", line.publisher_id));
        text.push_str(&format!(" incarnation {:x} sequence {}", line.incarnation, line.sequence));
    }
    text.push_str(&format!(" block {} bytes crc {:08x}", line.block_bytes, line.block_crc));
    text
}
