//! How far a client is: a line a second for people, a file for scripts.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{Failure, replace_file};

const LINE: Duration = Duration::from_secs(1);
const FILE: Duration = Duration::from_millis(50);

/// Tells, at its times.
pub(super) struct Progress {
    file: Option<PathBuf>,
    line_at: Instant,
    file_at: Instant,
}

impl Progress {
    pub(super) fn new(file: Option<PathBuf>) -> Progress {
        let now = Instant::now();
        Progress { file, line_at: now + LINE, file_at: now }
    }

    /// Tells what is due.
    pub(super) fn tell<S: Serialize>(
        &mut self,
        state: &S,
        line: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        if now >= self.line_at {
            self.line_at = now + LINE;
            // That nobody reads it is no reason to stop.
            let _ = writeln!(std::io::stderr().lock(), "mstream-bench: {}", line());
        }
        if now >= self.file_at {
            self.file_at = now + FILE;
            self.write(state)?;
        }
        Ok(())
    }

    /// Writes the file now.
    pub(super) fn write<S: Serialize>(&self, state: &S) -> Result<(), Failure> {
        let Some(path) = &self.file else { return Ok(()) };
        let text = serde_json::to_string(state).map_err(|error| error.to_string())?;
        replace_file(path, &(text + "\n"))
    }
}
