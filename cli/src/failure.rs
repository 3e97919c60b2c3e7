//! Why a command did not do what it was asked for.

use std::io::{self, Write};
use std::process::ExitCode;

/// What went wrong, and with it the exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried and failed: 1.
    Failed(String),
    /// It cannot be meant so: 2.
    Usage(String),
    /// Who read standard output reads no more: there is nobody to write for, and nothing is wrong.
    OutputClosed,
}

impl Failure {
    /// Says it on standard error.
    pub(crate) fn tell(self) -> ExitCode {
        let (text, code) = match self {
            Failure::Failed(text) => (text, 1),
            Failure::Usage(text) => (text, 2),
            Failure::OutputClosed => return ExitCode::SUCCESS,
        };
        for line in text.lines() {
            note(line);
        }
        ExitCode::from(code)
    }

    /// Of writing to standard output.
    pub(crate) fn of_output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Failed(format!("standard output: {error}")),
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::Failed(text)
    }
}

/// A line on standard error. Nobody is left to be told when that is gone.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "mstream: {line}");
}
