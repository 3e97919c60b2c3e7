//! How messages are written.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mstream_framing::MessageWriter;
use mstream_wire::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::cli::SubArgs;
use crate::failure::Failure;

/// How often it is looked whether somebody still reads.
const LOOK: Duration = Duration::from_millis(100);

/// Where messages go.
pub(super) struct Sink {
    writer: MessageWriter<Box<dyn Write>>,
    /// The file; without one it is standard output.
    file: Option<PathBuf>,
    json: bool,
    /// Something was written and not handed on.
    unflushed: bool,
    looked: Instant,
    line: Vec<u8>,
}

impl Sink {
    /// Opens what the flags name.
    pub(super) fn open(args: &SubArgs, json: bool) -> Result<Sink, Failure> {
        let framing = match json {
            true => mstream_framing::Framing::Lines,
            false => args.framing.framing(),
        };
        let writer = match &args.output {
            None => MessageWriter::plain(Box::new(io::stdout().lock()) as Box<dyn Write>, framing),
            Some(path) => {
                let file = File::create(path).map_err(|error| failed(path, &error))?;
                match path.extension().is_some_and(|extension| extension == "gz") {
                    true => MessageWriter::gzip(Box::new(file) as Box<dyn Write>, framing),
                    false => MessageWriter::plain(Box::new(file) as Box<dyn Write>, framing),
                }
            }
        };
        let (looked, line) = (Instant::now(), Vec::new());
        Ok(Sink { writer, file: args.output.clone(), json, unflushed: false, looked, line })
    }

    /// Writes a message.
    pub(super) fn message(
        &mut self,
        offset: u64,
        publisher: u64,
        message: &Message<'_>,
    ) -> Result<(), Failure> {
        self.unflushed = true;
        let written = match self.json {
            true => {
                self.line.clear();
                let record = Record { offset, publisher, message };
                serde_json::to_writer(&mut self.line, &record)
                    .map_err(|error| error.to_string())?;
                self.writer.write(&self.line)
            }
            false => self.writer.write(message.payload),
        };
        written.map_err(|error| self.failed(&error))
    }

    /// Hands on what was written, once nothing more comes at once; notices when nobody reads any more.
    pub(super) fn rest(&mut self) -> Result<(), Failure> {
        if self.unflushed {
            self.unflushed = false;
            self.writer.flush().map_err(|error| self.failed(&error))?;
        }
        if self.file.is_none() && self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            let out = io::stdout();
            let mut fds = [PollFd::new(&out, PollFlags::empty())];
            let timeout = Timespec { tv_sec: 0, tv_nsec: 0 };
            let looked = poll(&mut fds, Some(&timeout));
            // Of a pipe without a reader, ERR; a terminal that is gone says HUP.
            let gone = fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
            if looked.is_ok() && gone {
                return Err(Failure::OutputClosed);
            }
        }
        Ok(())
    }

    /// Writes the end.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Sink { writer, file, .. } = self;
        writer.finish().map(drop).map_err(|error| failure(file.as_deref(), &error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        failure(self.file.as_deref(), error)
    }
}

fn failure(file: Option<&Path>, error: &io::Error) -> Failure {
    match file {
        Some(path) => failed(path, error),
        None => Failure::of_output(error),
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

/// A message as JSON has it: bytes that are UTF-8 as text, others in base64 under another name.
pub(crate) struct Record<'a> {
    pub(crate) offset: u64,
    pub(crate) publisher: u64,
    pub(crate) message: &'a Message<'a>,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("offset", &self.offset)?;
        map.serialize_entry("publisher_id", &self.publisher)?;
        let Message { key, headers, payload, .. } = *self.message;
        for (text, base64, bytes) in [
            ("key", "key_base64", key),
            ("headers", "headers_base64", headers),
            ("payload", "payload_base64", payload),
        ] {
            match std::str::from_utf8(bytes) {
                // Key and headers are rare.
                Ok("") if text != "payload" => {}
                Ok(value) => map.serialize_entry(text, value)?,
                Err(_) => map.serialize_entry(base64, &STANDARD.encode(bytes))?,
            }
        }
        map.end()
    }
}
