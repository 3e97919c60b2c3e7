//! The durable sequence of commands, in a file (docs/catalogue-format.md).

use std::io;

use mstream_pmem::format::crc32c;
use prost::Message;

use super::record::{Batch, Record, one_of::Content, snapshot};
use super::{Catalogue, Command};

const FILE_MAGIC: [u8; 8] = *b"MSTRMCAT";
/// Of files without, and with, rules of cold streams.
const VERSION: u16 = 1;
const VERSION_COLD: u16 = 2;
const HEADER_BYTES: usize = 32;
const RECORD_MAGIC: [u8; 4] = [0xf5, b'C', b'R', 0xfe];
const RECORD_HEADER_BYTES: usize = 24;
const MAX_CONTENT_BYTES: usize = 64 << 20;
const ALIGNMENT: usize = 8;
/// A file that is smaller is not worth compacting.
const COMPACT_FROM_BYTES: u64 = 1 << 20;
/// A file is compacted when it is this many times as large as what it says.
const COMPACT_FACTOR: u64 = 4;

/// What makes commands durable before they are applied.
pub trait Journal: Send {
    /// Makes `commands` durable, all of them or none. `state` is what they will change.
    ///
    /// # Errors
    /// When they must not be applied.
    fn commit(&mut self, state: &Catalogue, commands: &[Command]) -> Result<(), JournalError>;

    /// Called after commands were applied: a chance to forget what `state` makes superfluous.
    ///
    /// # Errors
    /// When that failed. The commands before are durable all the same.
    fn tidy(&mut self, state: &Catalogue) -> Result<(), JournalError>;
}

/// Why commands did not become durable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// They are not in the file.
    #[error("{place}: cannot write: {reason}")]
    NotWritten {
        /// The file.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// Nothing is known about what the medium holds: no more commands are taken until a restart.
    #[error("{place}: {reason}; no changes are taken until a restart has read it again")]
    Closed {
        /// The file.
        place: String,
        /// What failed.
        reason: String,
    },
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something about the file failed.
    #[error("{place}: {action}: {source}")]
    Io {
        /// The file.
        place: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It holds what no appliance wrote.
    #[error("{place}: damaged at byte {at}: {reason}")]
    Damaged {
        /// The file.
        place: String,
        /// Where.
        at: usize,
        /// In which way.
        reason: String,
    },
    /// Another version wrote it.
    #[error("{place}: version {found}; this appliance reads versions {VERSION} to {VERSION_COLD}")]
    Version {
        /// The file.
        place: String,
        /// Its version.
        found: u16,
    },
}

/// A file in the place of another.
#[derive(Debug)]
pub struct ReplaceError {
    /// What the system said.
    pub error: io::Error,
    /// The old file is still in its place.
    pub kept: bool,
}

/// One file with a name. The effects of a journal, so that tests can let each of them fail.
pub trait Medium: Send {
    /// Where it is, for messages.
    fn place(&self) -> String;

    /// All its bytes; `None` when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>>;

    /// Writes `bytes` at byte `at`, its end.
    ///
    /// # Errors
    /// When not all of them were written; how many were is unknown.
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// When that is not known.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts everything from byte `length` on.
    ///
    /// # Errors
    /// When that is not known to have happened.
    fn cut(&mut self, length: u64) -> io::Result<()>;

    /// Puts a durable file with these contents in its place, at once.
    ///
    /// # Errors
    /// When that is not known to have happened.
    fn replace(&mut self, contents: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), ReplaceError>;
}

/// What was found in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// There was none: it was made.
    pub new: bool,
    /// Commands that were applied again, refused ones included.
    pub commands: u64,
    /// Bytes of an interrupted write that were cut off.
    pub cut_bytes: u64,
}

/// The journal of a single node.
#[derive(Debug)]
pub struct FileJournal<M> {
    medium: M,
    bytes: u64,
    version: u16,
    /// Sequence of the next record.
    sequence: u64,
    /// Why no more commands are taken.
    closed: Option<String>,
}

/// What stands at a place of a file.
enum Found<'a> {
    /// A record that fits its checks, and where it ends.
    Sound { sequence: u64, content: &'a [u8], end: usize },
    /// None, for this reason.
    None(&'static str),
}

/// The record at byte `at`.
fn find(file: &[u8], at: usize) -> Found<'_> {
    let Some(header) = file.get(at..at + RECORD_HEADER_BYTES) else {
        return Found::None("an incomplete record header");
    };
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    if header[..4] != RECORD_MAGIC || number(20) != crc32c(&header[..20]) {
        return Found::None("no record header");
    }
    let sequence = u64::from(number(8)) | u64::from(number(12)) << 32;
    let length = number(4) as usize;
    let start = at + RECORD_HEADER_BYTES;
    let end = (start + length).next_multiple_of(ALIGNMENT);
    if length > MAX_CONTENT_BYTES || end > file.len() {
        return Found::None("an incomplete record");
    }
    let content = &file[start..start + length];
    if number(16) != crc32c(content) || file[start + length..end].iter().any(|byte| *byte != 0) {
        return Found::None("a record whose content does not fit its check");
    }
    Found::Sound { sequence, content, end }
}

/// Appends a record to `out`.
fn emit(out: &mut Vec<u8>, sequence: u64, record: &Record) {
    let start = out.len();
    out.resize(start + RECORD_HEADER_BYTES, 0);
    record.encode_raw(out);
    let content = start + RECORD_HEADER_BYTES;
    let (length, check) = (out.len() - content, crc32c(&out[content..]));
    let header = &mut out[start..content];
    header[..4].copy_from_slice(&RECORD_MAGIC);
    header[4..8].copy_from_slice(&(length as u32).to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..20].copy_from_slice(&check.to_le_bytes());
    let check = crc32c(&header[..20]);
    header[20..].copy_from_slice(&check.to_le_bytes());
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

fn file_header(version: u16, first_sequence: u64) -> Vec<u8> {
    let mut header = vec![0; HEADER_BYTES];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..10].copy_from_slice(&version.to_le_bytes());
    header[10..12].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
    header[16..24].copy_from_slice(&first_sequence.to_le_bytes());
    let check = crc32c(&header[..28]);
    header[28..].copy_from_slice(&check.to_le_bytes());
    header
}

/// The header of a file of another version.
#[cfg(test)]
pub(super) fn file_header_of(version: u16) -> Vec<u8> {
    file_header(version, 1)
}

/// Reads a file: the catalogue it makes, the sequence of its next record, where its sound part ends.
struct Reading<'a> {
    place: &'a str,
    file: &'a [u8],
    catalogue: Catalogue,
    commands: u64,
    version: u16,
    sequence: u64,
    batches: bool,
}

/// The catalogue that the bytes of a journal make, an interrupted write at its end aside.
///
/// # Errors
/// When they are damaged, or of another version.
pub(super) fn read(place: &str, file: &[u8]) -> Result<Catalogue, OpenError> {
    Ok(Reading::of(place, file)?.0.catalogue)
}

impl<'a> Reading<'a> {
    /// Reads a whole file; where its sound part ends.
    fn of(place: &'a str, file: &'a [u8]) -> Result<(Reading<'a>, usize), OpenError> {
        let mut reading = Reading {
            place,
            file,
            catalogue: Catalogue::default(),
            commands: 0,
            version: 0,
            sequence: 0,
            batches: false,
        };
        reading.header()?;
        let end = reading.records()?;
        Ok((reading, end))
    }
}

impl Reading<'_> {
    fn damaged(&self, at: usize, reason: impl Into<String>) -> OpenError {
        OpenError::Damaged { place: self.place.to_string(), at, reason: reason.into() }
    }

    fn header(&mut self) -> Result<(), OpenError> {
        let file = self.file;
        let Some(header) = file.get(..HEADER_BYTES) else {
            return Err(self.damaged(file.len(), "the file ends inside its header"));
        };
        if header[..8] != FILE_MAGIC {
            return Err(self.damaged(0, "not a catalogue"));
        }
        self.version = u16::from_le_bytes([header[8], header[9]]);
        let sound = header[28..] == crc32c(&header[..28]).to_le_bytes();
        if !sound {
            return Err(self.damaged(0, "the file's header does not fit its check"));
        }
        if !(VERSION..=VERSION_COLD).contains(&self.version) {
            let found = self.version;
            return Err(OpenError::Version { place: self.place.to_string(), found });
        }
        self.sequence = u64::from_le_bytes(header[16..24].try_into().unwrap_or_default());
        Ok(())
    }

    /// Applies all records; where the sound part ends.
    fn records(&mut self) -> Result<usize, OpenError> {
        let file = self.file;
        let mut at = HEADER_BYTES;
        while at < file.len() {
            let reason = match find(file, at) {
                Found::Sound { sequence, content, end } if sequence == self.sequence => {
                    self.apply(at, content)?;
                    self.sequence += 1;
                    at = end;
                    continue;
                }
                Found::Sound { sequence, .. } => {
                    let reason = format!("record {sequence} where {} belongs", self.sequence);
                    return Err(self.damaged(at, reason));
                }
                Found::None(reason) => reason,
            };
            // The end, unless something later is sound: that was written after this was synced.
            let later = (at + ALIGNMENT..file.len()).step_by(ALIGNMENT).find(|later| {
                matches!(find(file, *later), Found::Sound { sequence, .. }
                    if sequence > self.sequence)
            });
            return match later {
                Some(later) => {
                    let reason = format!("{reason}, and a sound record follows at byte {later}");
                    Err(self.damaged(at, reason))
                }
                None => Ok(at),
            };
        }
        Ok(at)
    }

    fn apply(&mut self, at: usize, content: &[u8]) -> Result<(), OpenError> {
        let record =
            Record::decode(content).map_err(|error| self.damaged(at, error.to_string()))?;
        match record.content {
            Some(Content::Batch(batch)) => {
                self.batches = true;
                for command in batch.commands {
                    let command = command.decode().map_err(|reason| self.damaged(at, reason))?;
                    // What was refused then is refused again.
                    let _ = self.catalogue.apply(&command);
                    self.commands += 1;
                }
                Ok(())
            }
            Some(Content::Facts(_)) if self.batches => {
                Err(self.damaged(at, "a part of a snapshot after commands"))
            }
            Some(Content::Facts(facts)) => {
                facts.restore(&mut self.catalogue).map_err(|reason| self.damaged(at, reason))
            }
            None => Err(self.damaged(at, "a record that this version does not know")),
        }
    }
}

impl<M: Medium> FileJournal<M> {
    /// Reads the journal on `medium`, or makes a new one there, and the catalogue that it holds.
    ///
    /// # Errors
    /// When the file is damaged, of another version, or cannot be read or made.
    pub fn open(mut medium: M) -> Result<(FileJournal<M>, Catalogue, Recovered), OpenError> {
        let place = medium.place();
        let failed = |action, source| OpenError::Io { place: place.clone(), action, source };
        let Some(file) = medium.read().map_err(|error| failed("reading", error))? else {
            let header = file_header(VERSION, 1);
            let bytes = header.len() as u64;
            medium
                .replace(&mut std::iter::once(header))
                .map_err(|error| failed("making it", error.error))?;
            let version = VERSION;
            let journal = FileJournal { medium, bytes, version, sequence: 1, closed: None };
            return Ok((
                journal,
                Catalogue::default(),
                Recovered { new: true, ..Recovered::default() },
            ));
        };
        let (reading, end) = Reading::of(&place, &file)?;
        let Reading { catalogue, commands, version, sequence, .. } = reading;
        let cut_bytes = (file.len() - end) as u64;
        if cut_bytes > 0 {
            medium
                .cut(end as u64)
                .and_then(|()| medium.sync())
                .map_err(|error| failed("cutting off an interrupted write", error))?;
        }
        let journal = FileJournal { medium, bytes: end as u64, version, sequence, closed: None };
        Ok((journal, catalogue, Recovered { new: false, commands, cut_bytes }))
    }

    fn close(&mut self, reason: String) -> JournalError {
        self.closed = Some(reason.clone());
        JournalError::Closed { place: self.medium.place(), reason }
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts a file of `version` that holds `state` as a snapshot in the place of this one; `doing` that is what errors
    /// name.
    fn rewrite(
        &mut self,
        state: &Catalogue,
        version: u16,
        doing: &str,
    ) -> Result<(), JournalError> {
        let (mut bytes, mut sequence) = (HEADER_BYTES as u64, self.sequence);
        let records = snapshot(state).map(|facts| {
            let mut record = Vec::new();
            emit(&mut record, sequence, &Record { content: Some(Content::Facts(facts)) });
            bytes += record.len() as u64;
            sequence += 1;
            record
        });
        let mut contents = std::iter::once(file_header(version, self.sequence)).chain(records);
        let replaced = self.medium.replace(&mut contents);
        drop(contents);
        match replaced {
            Ok(()) => {
                (self.bytes, self.version, self.sequence) = (bytes, version, sequence);
                Ok(())
            }
            Err(ReplaceError { error, kept: true }) => Err(JournalError::NotWritten {
                place: self.medium.place(),
                reason: format!("{doing}: {error}"),
            }),
            Err(ReplaceError { error, kept: false }) => {
                Err(self.close(format!("{doing}: {error}")))
            }
        }
    }
}

/// The version of files that hold these commands.
fn version_of(commands: &[Command]) -> u16 {
    let cold =
        |command: &Command| matches!(command, Command::CreateStream { rules, .. } if rules.cold);
    if commands.iter().any(cold) { VERSION_COLD } else { VERSION }
}

impl<M: Medium> Journal for FileJournal<M> {
    fn commit(&mut self, state: &Catalogue, commands: &[Command]) -> Result<(), JournalError> {
        if let Some(reason) = self.closed.clone() {
            return Err(JournalError::Closed { place: self.medium.place(), reason });
        }
        let version = version_of(commands);
        if version > self.version {
            // An appliance that would pass over what is new must not take the file for its own.
            self.rewrite(state, version, &format!("making it a file of version {version}"))?;
        }
        let batch = Batch { commands: commands.iter().map(Into::into).collect() };
        let mut record = Vec::new();
        emit(&mut record, self.sequence, &Record { content: Some(Content::Batch(batch)) });
        if record.len() > MAX_CONTENT_BYTES {
            let reason = format!("{} commands take {} bytes", commands.len(), record.len());
            return Err(JournalError::NotWritten { place: self.medium.place(), reason });
        }
        if let Err(error) = self.medium.write(self.bytes, &record) {
            let reason = error.to_string();
            return Err(match self.medium.cut(self.bytes) {
                Ok(()) => JournalError::NotWritten { place: self.medium.place(), reason },
                Err(cut) => self.close(format!("{reason}, and cutting that off failed: {cut}")),
            });
        }
        if let Err(error) = self.medium.sync() {
            return Err(self.close(format!("a sync failed: {error}")));
        }
        self.bytes += record.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    fn tidy(&mut self, state: &Catalogue) -> Result<(), JournalError> {
        let content = state.snapshot_bytes();
        if self.closed.is_some()
            || self.bytes < COMPACT_FROM_BYTES
            || self.bytes < content.saturating_mul(COMPACT_FACTOR)
        {
            return Ok(());
        }
        let cold = state.streams.all().any(|stream| stream.rules.cold);
        let version = if cold { VERSION_COLD } else { VERSION };
        self.rewrite(state, version, "compacting")
    }
}
