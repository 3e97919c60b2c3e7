//! The files behind staging memory, and the seam for tests that let them fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

/// What a sync thread does to files: the only I/O behind a staged region.
pub trait Media: Send {
    /// Writes some of `bytes`, from byte `at` of the slot's file on. How many: fewer than all are no error, none are.
    ///
    /// # Errors
    /// What the system said.
    fn write_at(&mut self, slot: u32, at: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Makes all that was written to the slot's file durable.
    ///
    /// # Errors
    /// What the system said. What was written since the last success may be lost then, whatever a later call says.
    fn sync(&mut self, slot: u32) -> io::Result<()>;
}

/// The segment files of a log, by slot.
#[derive(Debug)]
pub struct Files {
    slots: Vec<OnceLock<File>>,
}

impl Files {
    /// Room for the files of `slots` slots.
    pub(crate) fn new(slots: u32) -> Files {
        Files { slots: (0..slots).map(|_| OnceLock::new()).collect() }
    }

    /// Announces the file of a slot, before the slot is.
    pub(crate) fn add(&self, slot: u32, file: File) {
        // A slot is made once, so there is none yet.
        let _ = self.slots[slot as usize].set(file);
    }

    fn file(&self, slot: u32) -> io::Result<&File> {
        let file = self.slots.get(slot as usize).and_then(OnceLock::get);
        file.ok_or_else(|| io::Error::other("the slot has no file"))
    }
}

impl Media for Arc<Files> {
    fn write_at(&mut self, slot: u32, at: u64, bytes: &[u8]) -> io::Result<usize> {
        self.file(slot)?.write_at(bytes, at)
    }

    fn sync(&mut self, slot: u32) -> io::Result<()> {
        // The file's size and blocks are settled when the slot is made: the data alone is left.
        self.file(slot)?.sync_data()
    }
}
