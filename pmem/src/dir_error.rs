//! Why a log's directory cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::region::Level;

/// Why a log's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Something about a path failed.
    #[error("{path}: {action}: {source}")]
    Io {
        /// Which path.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the log.
    #[error("{path}: the log is in use by another mstreamd (pid {pid})")]
    InUse {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as written there.
        pid: String,
    },
    /// A segment file has another size.
    #[error("{path}: {found} bytes, but [wal] segment_bytes is {expected}")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        found: u64,
        /// Configured bytes.
        expected: u64,
    },
    /// The file system needs larger units.
    #[error(
        "{path}: on hugetlbfs segment_bytes must be a multiple of the huge page size, {page} bytes"
    )]
    HugePage {
        /// The directory.
        path: PathBuf,
        /// Bytes of a huge page.
        page: u64,
    },
    /// There are more segment files than the log may have.
    #[error("{path}: segment {slot} is beyond [wal] max_bytes ({slots} segments)")]
    TooMany {
        /// The file.
        path: PathBuf,
        /// Its slot.
        slot: u32,
        /// Slots of the log.
        slots: u32,
    },
    /// The medium gives less than what was demanded.
    #[error("{path}: gives level {found} ({why}), but [wal] require is {required}")]
    Level {
        /// The directory.
        path: PathBuf,
        /// What it gives.
        found: Level,
        /// Why not more.
        why: String,
        /// What was demanded.
        required: Level,
    },
}

pub(crate) fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> DirError {
    let path = path.to_path_buf();
    move |source| DirError::Io { path, action, source }
}
