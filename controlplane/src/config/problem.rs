//! What is wrong with a configuration, said with file, line, key and reason.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file was read and says something that cannot be.
    #[error("{0}")]
    Wrong(Problems),
}

/// All that is wrong with a file, in order of lines; one line of text each.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    list: Vec<(usize, String)>,
}

impl Problems {
    /// Line (from 1) and reason of each problem.
    pub fn list(&self) -> &[(usize, String)] {
        &self.list
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (line, reason)) in self.list.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}: {reason}", self.file.display())?;
        }
        Ok(())
    }
}

/// Collects problems of one file while it is checked.
pub(super) struct Collector<'a> {
    file: &'a Path,
    text: &'a str,
    list: Vec<(usize, String)>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Collector<'a> {
        Collector { file, text, list: Vec::new() }
    }

    /// Notes a problem with what stands at `span`.
    pub(super) fn add(&mut self, span: Range<usize>, reason: impl Into<String>) {
        self.list.push((self.line(span.start), reason.into()));
    }

    /// The line, from 1, of byte `at`.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text[..at.min(self.text.len())].matches('\n').count() + 1
    }

    /// What is being checked.
    pub(super) fn source(&self) -> super::Source {
        super::Source { path: self.file.to_path_buf(), text: self.text.to_string() }
    }

    /// Notes what the parser found: a syntax error, a wrong type, an unknown or missing key.
    pub(super) fn add_parse_error(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim().replace('\n', ", ");
        let message = message
            .replace("unknown field", "unknown key")
            .replace("missing field", "missing key")
            .replace("duplicate field", "duplicate key");
        let key = match message.starts_with("unknown key") {
            true => None,
            false => self.key_at(span.start),
        };
        match key {
            Some(key) => self.add(span, format!("`{key}`: {message}")),
            None => self.add(span, message),
        }
    }

    /// The key whose value, or the table whose header, stands at byte `at`.
    fn key_at(&self, at: usize) -> Option<&'a str> {
        let at = at.min(self.text.len());
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[start..].lines().next()?;
        let line = line.split('#').next()?.trim();
        match line.split_once('=') {
            Some((key, _)) => Some(key.trim()),
            None => line.starts_with('[').then_some(line),
        }
        .filter(|key| !key.is_empty())
    }

    /// `value` if nothing was wrong.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigError> {
        self.list.sort_by_key(|(line, _)| *line);
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => {
                let file = self.file.to_path_buf();
                Err(ConfigError::Wrong(Problems { file, list: self.list }))
            }
        }
    }
}
