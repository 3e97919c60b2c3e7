//! Cold segments: what streams keep longer than the log does, in files sorted by stream and offset
//! (`docs/cold-format.md`).

mod aside;
mod bandwidth;
mod disk;
mod error;
pub(crate) mod file;
mod format;
mod maintain;
mod merge;
pub(crate) mod names;
mod newest;
mod page;
mod policy;
mod read;
mod read_only;
mod retention;
mod segment;
mod sim;
mod store;
mod verify;
mod writer;

pub use aside::{SetAside, of_others, set_aside};
pub use bandwidth::Bandwidth;
pub use disk::{ColdDisk, DirDisk, cold_level};
pub use error::ColdError;
pub use file::Owner;
pub use names::is_cold_name;
pub use page::ColdPage;
pub use read_only::ReadOnly;
pub use sim::SimDisk;
pub use store::ColdStore;
pub use verify::ColdDamage;

use crate::region::Level;

/// What a stream wants kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Only records one of whose keys is the newest of its kind, or one of whose messages has no key.
    pub newest_per_key: bool,
    /// Bytes of records in cold segments, headers included, beyond which the oldest go. 0: no limit.
    pub retention_bytes: u64,
    /// Age in milliseconds beyond which records go. 0: no limit.
    pub retention_ms: u64,
}

/// Offsets of a stream that cold segments hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdRange {
    /// First offset that was not given up: of a record, or one that was compacted away.
    pub earliest: u64,
    /// Offset behind the last record that was copied.
    pub end: u64,
}

/// Where a read begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdFrom {
    /// The first record whose batch ends beyond this offset.
    Offset(u64),
    /// The first record that was stored at or after this time, ns since 1970.
    Time(u64),
    /// None: the page is empty and begins behind the last record of this epoch or one before it, at 0 if there is none.
    BehindEpoch(u32),
}

/// What a step of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Bytes that were read and written.
    pub bytes: u64,
    /// True when there is more to do now.
    pub more: bool,
}

/// What a cold store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdStats {
    /// Cold segments, one file each.
    pub files: u64,
    /// Bytes of the files, a half-written one included. Divided by `live_bytes`: the space amplification.
    pub file_bytes: u64,
    /// Bytes of the records that readers can get, headers included; those too that newer ones will displace when they
    /// meet in a merge.
    pub live_bytes: u64,
    /// Streams that have records.
    pub streams: u64,
    /// Bytes that the store takes in memory for what it knows of its files.
    pub memory_bytes: u64,
    /// The lowest level at which one of the files was written and synced; the directory's, if there is no file.
    pub level: Level,
}
