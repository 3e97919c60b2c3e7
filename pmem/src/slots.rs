//! Where segments are read from: a region, or files that nobody may change through this program.

use std::borrow::Cow;
use std::io;

use crate::region::Region;

/// How much of a slot's file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// It ends behind this many bytes.
    Short(u64),
    /// The medium cannot read some of it, first at this byte. That reads as zeros.
    Unreadable(u64),
    /// There is none, though there are files of later slots.
    Missing,
}

/// Slots of one size that can be read.
pub trait Slots {
    /// Bytes of a slot.
    fn slot_bytes(&self) -> u64;

    /// How much of a slot's file is there. What is not reads as zeros.
    fn extent(&self, slot: u32) -> Extent;

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

    fn extent(&self, slot: u32) -> Extent {
        Region::extent(self, slot)
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
