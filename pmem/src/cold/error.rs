//! Why cold segments cannot be used.

use std::io;

/// What went wrong with cold segments.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    /// The system refused something. Worth trying again where its reason may pass, as a full disk's.
    #[error("{file}: {action}: {source}")]
    Io {
        /// Which file.
        file: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed, now or before: what was written may be lost, and nothing more is written by this process.
    #[error("{file}: a sync failed, nothing is copied until the next start: {source}")]
    Poisoned {
        /// The file, or the directory (`.`), whose sync failed.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{file}: damaged at byte {at}: {what}")]
    Damaged {
        /// Which file.
        file: String,
        /// Where what does not fit begins.
        at: u64,
        /// What does not fit.
        what: &'static str,
        /// The offsets that cannot be read because of it, from the first to behind the last, if only those: a reader
        /// goes on behind them.
        lost: Option<(u64, u64)>,
    },
    /// A file belongs to another log, or another shard's.
    #[error("{file}: of log {found}, shard {found_shard}: this is log {expected}, shard {shard}")]
    OtherLog {
        /// Which file.
        file: String,
        /// Id of the file's log, in hexadecimal digits.
        found: String,
        /// The file's shard.
        found_shard: u32,
        /// Id of the log that the store was opened for.
        expected: String,
        /// The shard that it was opened for.
        shard: u32,
    },
    /// A file was written by another version of the program.
    #[error("{file}: format version {version} is not known here")]
    Version {
        /// Which file.
        file: String,
        /// Its version.
        version: u16,
    },
    /// Two files cover the same hot segments in part: one of them does not belong here.
    #[error("{first} and {second} cover hot segments in part both: one of them is from elsewhere")]
    Overlap {
        /// A file.
        first: String,
        /// The other.
        second: String,
    },
    /// A hot segment cannot be copied as it is.
    #[error("hot segment {sequence}: byte {at}: {what}")]
    Segment {
        /// Its number in its log.
        sequence: u64,
        /// Where in the segment.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A record is larger than the page that it should be read into.
    #[error("a record of {record} bytes does not fit a page of {page} bytes")]
    PageTooSmall {
        /// Bytes of the record.
        record: usize,
        /// Bytes of the page.
        page: usize,
    },
}

impl ColdError {
    /// True when trying again may help: the disk was full, or over quota.
    pub fn is_full(&self) -> bool {
        matches!(self, ColdError::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ))
    }
}

/// What the system refused, as an error.
pub(crate) fn failed(file: &str, action: &'static str) -> impl FnOnce(io::Error) -> ColdError {
    let file = file.to_string();
    move |source| ColdError::Io { file, action, source }
}
