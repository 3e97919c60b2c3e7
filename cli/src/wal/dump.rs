//! `mstream wal dump`.

use std::io::{self, BufWriter, Write};

use mstream_framing::MessageWriter;
use mstream_pmem::format::{Kind, RecordHeader, record_bytes};
use mstream_pmem::inspect::{LogReport, Seen, SegmentFiles, each_record};
use mstream_wire::Block;
use zerocopy::IntoBytes;

use super::beneath::Beneath;
use super::dump_text::{Place, json_message, record_line, text_message, text_record};
use super::logs::Log;
use super::names::Names;
use crate::cli::WalDumpArgs;
use crate::failure::{Failure, note};
use crate::output::Output;

/// Which messages: a stream's, from an offset on, below another.
struct Wanted {
    stream: u64,
    from: u64,
    to: u64,
}

type Written = Result<(), Failure>;

/// What is done with a record: its log, where it stands there, unless cold segments hold it, its header and its block.
type Show<'a> = dyn FnMut(&Log, Option<&Place>, &RecordHeader, &[u8]) -> Written + 'a;

/// Writes what the logs hold.
pub(super) fn run(args: &WalDumpArgs, logs: &[Log], out: &mut Output) -> Result<(), Failure> {
    let names = Names::read(args.catalogue.as_deref(), logs)?;
    let wanted = wanted(args, &names)?;
    let json = out.json();
    let mut stdout = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let whole = match (&wanted, args.framing) {
        _ if args.raw => each(logs, wanted.as_ref(), &names, &mut |_, _, header, block| {
            raw(&mut stdout, header, block)
        })?,
        (Some(wanted), Some(framing)) => {
            let mut writer = MessageWriter::plain(&mut stdout, framing.framing());
            let whole = each_message(logs, wanted, &names, &mut |_, _, message| {
                writer.write(message.payload).map_err(|error| Failure::of_output(&error))
            })?;
            writer.finish().map_err(|error| Failure::of_output(&error))?;
            whole
        }
        (Some(wanted), None) => {
            each_message(logs, wanted, &names, &mut |header, offset, message| {
                let line = match json {
                    true => json_message(header, offset, message)?,
                    false => text_message(header, offset, message),
                };
                line_to(&mut stdout, &line)
            })?
        }
        (None, _) => each(logs, None, &names, &mut |log, place, header, _| {
            let line = record_line(log, place, header, &names);
            let line = match json {
                true => serde_json::to_string(&line).map_err(|error| error.to_string())?,
                false => text_record(&line),
            };
            line_to(&mut stdout, &line)
        })?,
    };
    stdout.flush().map_err(|error| Failure::of_output(&error))?;
    match whole {
        true => Ok(()),
        false => Err(Failure::Failed("what is damaged was left out".to_string())),
    }
}

fn wanted(args: &WalDumpArgs, names: &Names) -> Result<Option<Wanted>, Failure> {
    let Some(stream) = &args.stream else { return Ok(None) };
    let (from, to) = (args.from.unwrap_or(0), args.to.unwrap_or(u64::MAX));
    if from > to {
        return Err(Failure::Usage(format!("--from {from} is behind --to {to}")));
    }
    let stream = match args.id {
        true => stream.parse().map_err(|_| Failure::Usage(format!("{stream} is no stream id")))?,
        false => names.id(stream)?,
    };
    Ok(Some(Wanted { stream, from, to }))
}

fn line_to(writer: &mut impl Write, line: &str) -> Written {
    writeln!(writer, "{line}").map_err(|error| Failure::of_output(&error))
}

/// Writes a record as it stands in the log (`docs/wal-format.md` section 3).
fn raw(writer: &mut impl Write, header: &RecordHeader, block: &[u8]) -> Written {
    let padding = record_bytes(block.len()) as usize - size_of_val(header) - block.len();
    let parts = [header.as_bytes(), block, &[0; 64][..padding]];
    let written = parts.iter().try_for_each(|part| writer.write_all(part));
    written.map_err(|error| Failure::of_output(&error))
}

/// Looks at a log, and says what is damaged.
fn look(log: &Log) -> Result<(SegmentFiles, LogReport), Failure> {
    let files = log.files()?;
    let report = log.examine(&files).map_err(|reason| format!("{}: {reason}", log.name()))?;
    for damage in &report.damages {
        let file = log.file(damage.slot).display().to_string();
        note(&format!("{file}: damaged: {damage}; what is sound follows"));
    }
    Ok((files, report))
}

/// Shows the sound records of all logs: those of the wanted stream that reach into what is wanted, in order, or every
/// one, those first that cold segments alone hold. False if some are damaged and left out.
fn each(
    logs: &[Log],
    wanted: Option<&Wanted>,
    names: &Names,
    show: &mut Show<'_>,
) -> Result<bool, Failure> {
    let mut whole = true;
    for log in logs {
        let opened = if log.hot { Some(look(log)?) } else { None };
        let (files, report) = opened.unzip();
        let report = report.unwrap_or_default();
        let mut beneath = Beneath::of(log, &report, names)?;
        match wanted {
            Some(wanted) => of_stream(log, files.as_ref(), &report, &mut beneath, wanted, show)?,
            None => {
                for stream in beneath.streams() {
                    let hot = report.streams.iter().find(|hot| hot.id == stream && hot.records > 0);
                    beneath.begin(stream, 0);
                    let end = hot.map_or(u64::MAX, |hot| hot.first);
                    beneath.up_to(end, &mut |header, block| show(log, None, header, block))?;
                }
                if let Some(files) = &files {
                    each_of(log, files, &report, &mut |place, header, block| {
                        show(log, Some(place), header, block)
                    })?;
                }
            }
        }
        whole &= report.damages.is_empty() && beneath.is_whole();
    }
    Ok(whole)
}

/// Shows the wanted records of one log, those that only cold segments have among them.
fn of_stream(
    log: &Log,
    files: Option<&SegmentFiles>,
    report: &LogReport,
    beneath: &mut Beneath,
    wanted: &Wanted,
    show: &mut Show<'_>,
) -> Written {
    let mut inside = |place: Option<&Place>, header: &RecordHeader, block: &[u8]| {
        let (first, count) = (header.offset.get(), header.count.get());
        match first < wanted.to && first + u64::from(count) > wanted.from {
            true => show(log, place, header, block),
            false => Ok(()),
        }
    };
    beneath.begin(wanted.stream, wanted.from);
    if let Some(files) = files {
        each_of(log, files, report, &mut |place, header, block| {
            if header.kind != Kind::Data as u8 || header.stream.get() != wanted.stream {
                return Ok(());
            }
            let first = header.offset.get();
            beneath
                .up_to(first.min(wanted.to), &mut |header, block| inside(None, header, block))?;
            beneath.pass(first + u64::from(header.count.get()));
            inside(Some(place), header, block)
        })?;
    }
    beneath.up_to(wanted.to, &mut |header, block| inside(None, header, block))
}

/// Shows all sound records of a log.
fn each_of(
    log: &Log,
    files: &SegmentFiles,
    report: &LogReport,
    show: &mut dyn FnMut(&Place, &RecordHeader, &[u8]) -> Written,
) -> Written {
    let mut written = Ok(());
    let skipped = each_record(files, report, &mut |seen: &Seen<'_>| {
        let place = Place { segment: seen.sequence, slot: seen.slot, byte: seen.at };
        written = show(&place, seen.header, seen.block);
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

/// Shows the wanted messages of all logs in order; as [`each`].
fn each_message(
    logs: &[Log],
    wanted: &Wanted,
    names: &Names,
    show: &mut dyn FnMut(&RecordHeader, u64, &mstream_wire::Message<'_>) -> Written,
) -> Result<bool, Failure> {
    each(logs, Some(wanted), names, &mut |_, _, header, block| {
        let (first, count) = (header.offset.get(), header.count.get());
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
    })
}
