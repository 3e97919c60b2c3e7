//! Proves that a session keeps the rules of the ITCH 5.0 specification: that a book built from it is
//! right at every message.

mod book;
mod rule;

use std::path::Path;

use super::message::ShapeError;
use book::Book;
use mstream_framing::{Framing, MessageReader, ReadError};
pub use rule::Rule;

/// What a broken rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Ends the check: for sessions that must be whole.
    Strict,
    /// Is counted in the report: for excerpts and artificial samples. Framing, types and lengths must
    /// be right all the same.
    Lenient,
}

/// Why a session is refused. Message numbers count from 0, as offsets in a stream do; positions are
/// bytes of the unpacked file, at the message's length field.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The file is not one of messages.
    #[error("message {message}, {source}")]
    Framing {
        /// The message that could not be read.
        message: u64,
        /// Where and why.
        source: ReadError,
    },
    /// A message of no known type or of a wrong length.
    #[error("message {message}, at byte {at}: {source}")]
    Shape {
        /// The message.
        message: u64,
        /// Where it starts.
        at: u64,
        /// What is wrong.
        source: ShapeError,
    },
    /// A rule is broken.
    #[error(transparent)]
    Rule(#[from] Fault),
}

/// The breach of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {message}, at byte {at}: {rule}")]
pub struct Fault {
    /// Number of the message, from 0.
    pub message: u64,
    /// Where its length field starts, in bytes of the unpacked file.
    pub at: u64,
    /// The rule.
    pub rule: Rule,
}

/// What a session holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Messages, without the end mark of the file.
    pub messages: u64,
    /// Bytes of the unpacked file, length fields included.
    pub bytes: u64,
    /// Orders live at the end.
    pub live_orders: u64,
    /// The most that were live at a time.
    pub most_live_orders: u64,
    /// The first broken rule.
    pub first_fault: Option<Fault>,
    kinds: [u64; 256],
    broken: [u64; Rule::ALL.len()],
}

impl Report {
    /// Messages of the type.
    pub fn of_kind(&self, kind: u8) -> u64 {
        self.kinds[usize::from(kind)]
    }

    /// The types that are there and how many messages each has, in order of the letters.
    pub fn kinds(&self) -> impl Iterator<Item = (char, u64)> + '_ {
        let counted = self.kinds.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(kind, count)| (char::from(kind as u8), *count))
    }

    /// The rules that were broken and how often.
    pub fn broken(&self) -> impl Iterator<Item = (Rule, u64)> + '_ {
        let counted = Rule::ALL.into_iter().zip(self.broken);
        counted.filter(|(_, count)| *count > 0)
    }
}

/// Checks a session message by message. Holds the live orders.
#[derive(Debug)]
pub struct Checker {
    strictness: Strictness,
    book: Book,
    report: Report,
}

impl Checker {
    /// A checker before the first message.
    pub fn new(strictness: Strictness) -> Checker {
        let report = Report {
            messages: 0,
            bytes: 0,
            live_orders: 0,
            most_live_orders: 0,
            first_fault: None,
            kinds: [0; 256],
            broken: [0; Rule::ALL.len()],
        };
        Checker { strictness, book: Book::new(), report }
    }

    /// Checks the next message, without its length field. An empty one is the end mark.
    ///
    /// # Errors
    /// Type or length are wrong, or a rule is broken and the checker is strict.
    #[inline]
    pub fn message(&mut self, bytes: &[u8]) -> Result<(), CheckError> {
        let (message, at) = (self.report.messages, self.report.bytes);
        self.report.bytes += 2 + bytes.len() as u64;
        if bytes.is_empty() {
            return Ok(());
        }
        let parsed = super::message::Message::parse(bytes).map_err(|source| CheckError::Shape {
            message,
            at,
            source,
        })?;
        self.report.messages += 1;
        self.report.kinds[usize::from(parsed.head().kind)] += 1;
        let outcome = self.book.take(&parsed);
        self.report.live_orders = self.book.live_orders();
        self.report.most_live_orders = self.report.most_live_orders.max(self.report.live_orders);
        outcome.or_else(|rule| self.broken(Fault { message, at, rule }))
    }

    /// Ends the session.
    ///
    /// # Errors
    /// It is not complete and the checker is strict.
    pub fn finish(mut self) -> Result<Report, CheckError> {
        if !self.book.is_ended() {
            let (message, at) = (self.report.messages, self.report.bytes);
            self.broken(Fault { message, at, rule: Rule::EndMissing })?;
        }
        Ok(self.report)
    }

    fn broken(&mut self, fault: Fault) -> Result<(), CheckError> {
        if self.strictness == Strictness::Strict {
            return Err(fault.into());
        }
        self.report.broken[fault.rule as usize] += 1;
        self.report.first_fault.get_or_insert(fault);
        Ok(())
    }
}

/// Checks everything that `reader` gives.
///
/// # Errors
/// The first thing that is wrong, of those that `strictness` minds.
pub fn check(mut reader: MessageReader, strictness: Strictness) -> Result<Report, CheckError> {
    let mut checker = Checker::new(strictness);
    loop {
        let message = checker.report.messages;
        match reader.next_message() {
            Ok(Some(bytes)) => checker.message(bytes)?,
            Ok(None) => return checker.finish(),
            Err(source) => return Err(CheckError::Framing { message, source }),
        }
    }
}

/// Checks a file, plain or gzip.
///
/// # Errors
/// It cannot be read, or see [`check`].
pub fn check_file(path: &Path, strictness: Strictness) -> Result<Report, CheckError> {
    let reader = MessageReader::open(path, Framing::BinaryFile)
        .map_err(|source| CheckError::Framing { message: 0, source })?;
    check(reader, strictness)
}
