//! Regions of memory, what they promise, and the write-ahead log on them.
//!
//! [`region::Region`] is the seam: every store of the log goes through it. [`prepare::open_dir`] opens a
//! directory of segment files as one ([`AnyRegion`]): mapped, or [`staged`] in memory and synced by a thread;
//! [`sim::SimRegion`] is one that can lose power. [`wal::Wal`] is the log of one shard, in the format of
//! `docs/wal-format.md`. [`sealed`] is how others read what it is done with.

pub mod accept;
mod any;
mod append;
#[expect(unsafe_code, reason = "checksums by the processor's instruction")]
mod checks;
pub mod cold;
#[expect(unsafe_code, reason = "streaming stores and write-backs are instructions")]
mod copy;
mod damage;
mod device;
mod dir_error;
mod fault;
pub mod footer;
pub mod format;
mod holdings;
mod holes;
pub mod index;
pub mod inspect;
#[expect(unsafe_code, reason = "mapped memory")]
mod mapped;
mod older;
#[expect(unsafe_code, reason = "advice about pages is a system call")]
pub mod pages;
pub mod places;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
mod poison;
#[expect(unsafe_code, reason = "file locks and allocation by system calls")]
pub mod prepare;
mod read;
mod read_around;
pub mod recovery;
#[expect(unsafe_code, reason = "memory that is lent to another thread")]
pub mod region;
mod retire;
mod scan;
#[expect(unsafe_code, reason = "memory that is lent to another thread")]
pub mod sealed;
#[expect(unsafe_code, reason = "a signal handler that maps memory")]
pub mod sigbus;
pub mod sim;
mod slots;
#[expect(unsafe_code, reason = "memory that another thread reads")]
pub mod staged;
mod survey;
mod tables;
pub mod wal;

pub use any::AnyRegion;
pub use damage::{Damage, DamageKind};
pub use fault::{Fault, Missing};
pub use holes::{Hole, holes_in};
pub use mapped::MappedRegion;
pub use poison::{Failed, Poison};
pub use scan::Misfit;
pub use slots::Extent;
