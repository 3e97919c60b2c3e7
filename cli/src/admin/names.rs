//! Many names: from the command line and files, in requests of a size that the node takes.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mstream_admin::v1::Failure as ItemFailure;
use mstream_framing::{Framing, MessageReader};

use super::PAGE;
use crate::cli::NamesArgs;
use crate::failure::{Failure, note};
use crate::output::{count, counted};

/// Bytes of names in one request at most; the node's limit for a request is above it.
const REQUEST_BYTES: usize = 2 << 20;
/// Failures of items that are told one by one.
const TOLD: u64 = 10;

/// Gives names in portions for requests.
pub(super) struct Names {
    given: std::vec::IntoIter<String>,
    file: Option<(MessageReader, PathBuf)>,
    /// Read, but over the size of the portion before.
    over: Option<String>,
    line: u64,
}

impl Names {
    pub(super) fn open(args: &NamesArgs) -> Result<Names, Failure> {
        let file = args.file.as_ref().map(|path| {
            let reader = match path.as_os_str() == "-" {
                true => MessageReader::new(io::stdin(), Framing::Lines),
                false => File::open(path)
                    .map_err(|error| format!("{}: {error}", path.display()))
                    .map(|file| MessageReader::new(file, Framing::Lines))?,
            };
            match reader {
                Ok(reader) => Ok((reader, path.clone())),
                Err(error) => Err(format!("{}: {error}", path.display())),
            }
        });
        let file = file.transpose()?;
        Ok(Names { given: args.names.clone().into_iter(), file, over: None, line: 0 })
    }

    /// The next names, as many as one request takes; empty at the end.
    pub(super) fn portion(&mut self) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        let mut bytes = 0;
        while names.len() < PAGE as usize {
            let Some(name) = self.next()? else { break };
            bytes += name.len();
            if bytes > REQUEST_BYTES && !names.is_empty() {
                self.over = Some(name);
                break;
            }
            names.push(name);
        }
        Ok(names)
    }

    fn next(&mut self) -> Result<Option<String>, Failure> {
        if let Some(name) = self.over.take().or_else(|| self.given.next()) {
            return Ok(Some(name));
        }
        let Some((reader, path)) = &mut self.file else { return Ok(None) };
        loop {
            self.line += 1;
            let place = |path: &Path, line| format!("{}:{line}", path.display());
            let line = reader
                .next_message()
                .map_err(|error| format!("{}: {error}", place(path, self.line)))?;
            let Some(line) = line else { return Ok(None) };
            match std::str::from_utf8(line) {
                Ok(name) if name.trim().is_empty() => {}
                Ok(name) => return Ok(Some(name.strip_suffix('\r').unwrap_or(name).into())),
                Err(_) => return Err(format!("{}: not UTF-8", place(path, self.line)).into()),
            }
        }
    }
}

/// Counts what became of many items; tells the first failures, and how far it is on a terminal.
pub(super) struct Tally {
    /// What is done to what: "created", "stream".
    done: &'static str,
    what: &'static str,
    json: bool,
    pub(super) succeeded: u64,
    failed: u64,
    bar: Option<ProgressBar>,
}

impl Tally {
    pub(super) fn new(done: &'static str, what: &'static str, json: bool) -> Tally {
        Tally { done, what, json, succeeded: 0, failed: 0, bar: None }
    }

    /// A portion more is done. Long work shows how far it is.
    pub(super) fn portion_done(&mut self) {
        if self.succeeded + self.failed >= u64::from(PAGE) {
            let bar = self.bar.get_or_insert_with(spinner);
            bar.set_message(format!("{} {}", self.done, counted(self.succeeded, self.what)));
        }
    }

    pub(super) fn failure(&mut self, name: &str, failure: &ItemFailure) {
        self.failed += 1;
        if !self.json && self.failed <= TOLD {
            let name = shortened(name);
            let told = format!("{} {name}: {}", self.what, failure.message);
            match &self.bar {
                Some(bar) => bar.suspend(|| note(&told)),
                None => note(&told),
            }
        }
    }

    /// What is to be said at the end; an error if anything failed.
    pub(super) fn finish(self) -> Result<String, Failure> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        match self.failed {
            0 => Ok(format!("{} {}", self.done, counted(self.succeeded, self.what))),
            failed => Err(Failure::Failed(format!(
                "{} of {} not {}",
                count(failed),
                counted(failed + self.succeeded, self.what),
                self.done
            ))),
        }
    }
}

/// Something that turns, with words, on standard error if that is a terminal.
pub(crate) fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A name that may be of any length, for a line of text.
fn shortened(name: &str) -> String {
    let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
    if name.chars().nth(60).is_some() { format!("{shown}...") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_portions_that_requests_take() {
        let long = "x".repeat(REQUEST_BYTES / 2);
        let names = vec![long.clone(), long.clone(), "c".into()];
        let mut names = Names::open(&NamesArgs { names, file: None }).expect("no file");
        assert_eq!(names.portion().expect("no file"), [long.clone(), long]);
        assert_eq!(names.portion().expect("no file"), ["c"]);
        assert!(names.portion().expect("no file").is_empty());
    }
}
