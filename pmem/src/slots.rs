//! Where segments are read from: a region, or files that nobody may change through this program.

use std::borrow::Cow;
use std::io;

use crate::region::Region;

/// Slots of one size that can be read.
pub trait Slots {
    /// Bytes of a slot.
    fn slot_bytes(&self) -> u64;

    /// All bytes of a slot.
    ///
    /// # Errors
    /// When they cannot be read.
    fn slot(&self, slot: u32) -> io::Result<Cow<'_, [u8]>>;

    /// The first [`crate::format::SEGMENT_DATA_AT`] bytes of a slot.
    ///
    /// # Errors
    /// When they cannot be read.
    fn front(&self, slot: u32) -> io::Result<Cow<'_, [u8]>>;
}

impl<R: Region> Slots for R {
    fn slot_bytes(&self) -> u64 {
        Region::slot_bytes(self)
    }

    fn slot(&self, slot: u32) -> io::Result<Cow<'_, [u8]>> {
        let bytes = Region::slot_bytes(self);
        Ok(Cow::Borrowed(self.bytes(u64::from(slot) * bytes, bytes as usize)))
    }

    fn front(&self, slot: u32) -> io::Result<Cow<'_, [u8]>> {
        let at = u64::from(slot) * Region::slot_bytes(self);
        Ok(Cow::Borrowed(self.bytes(at, crate::format::SEGMENT_DATA_AT as usize)))
    }
}
