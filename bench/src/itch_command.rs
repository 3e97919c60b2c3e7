//! `mstream-bench itch`: sessions in files.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use mstream_bench::itch::check::{Strictness, check_file};
use mstream_bench::itch::generate::Session;
use mstream_framing::{Framing, MessageWriter};

use crate::cli::ItchCommand;
use crate::{Failure, say};

pub(crate) fn run(command: &ItchCommand) -> Result<(), Failure> {
    match command {
        ItchCommand::Generate { seed, messages, output } => generate(*seed, *messages, output),
        ItchCommand::Check { file, lenient } => {
            let strictness = if *lenient { Strictness::Lenient } else { Strictness::Strict };
            check(file, strictness)
        }
    }
}

/// A writer of messages to a file, packed if its name ends in `.gz`.
pub(crate) fn create(path: &Path) -> Result<MessageWriter<File>, Failure> {
    let file = File::create(path).map_err(|error| failed(path, &error))?;
    Ok(match path.extension().is_some_and(|extension| extension == "gz") {
        true => MessageWriter::gzip(file, Framing::BinaryFile),
        false => MessageWriter::plain(file, Framing::BinaryFile),
    })
}

/// Names the file that an error is about.
pub(crate) fn failed(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    format!("{}: {error}", path.display())
}

fn generate(seed: u64, messages: u64, output: &Path) -> Result<(), Failure> {
    let session = Session::new(seed, messages).map_err(|error| error.to_string())?;
    let mut writer = create(output)?;
    let written: io::Result<u64> = session
        .map(|message| {
            writer.write(&message)?;
            Ok(2 + message.len() as u64)
        })
        .sum();
    let finished = written.and_then(|bytes| writer.finish()?.flush().map(|()| bytes));
    let bytes = finished.map_err(|error| failed(output, &error))?;
    say(&format!("{}: {messages} messages, {bytes} bytes\n", output.display()));
    Ok(())
}

fn check(file: &Path, strictness: Strictness) -> Result<(), Failure> {
    let report = check_file(file, strictness).map_err(|error| failed(file, &error))?;
    let mut text = format!(
        "{}: {} messages, {} bytes; {} orders live at the end, at most {}\n",
        file.display(),
        report.messages,
        report.bytes,
        report.live_orders,
        report.most_live_orders,
    );
    for (kind, count) in report.kinds() {
        text.push_str(&format!("  {kind} {count}\n"));
    }
    for (rule, count) in report.broken() {
        text.push_str(&format!("  broken {count} times: {rule}\n"));
    }
    say(&text);
    Ok(())
}
