//! What can go wrong on a path, and how often it did.

use std::ops::RangeInclusive;

/// How a path misbehaves. Chances are in parts per million, each drawn for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// A frame is lost.
    pub loss_ppm: u32,
    /// A frame arrives twice; the second copy has a delay of its own.
    pub duplicate_ppm: u32,
    /// A frame is held back by up to [`Faults::reorder_ns`], so that later ones overtake it.
    pub reorder_ppm: u32,
    /// One bit of a frame is flipped anywhere behind its destination address.
    pub corrupt_ppm: u32,
    /// A corrupted frame's IP and UDP checksums are made to fit again: what is wrong with it has to be
    /// noticed above them. One that is no datagram any more stays as it was.
    pub mend_ppm: u32,
    /// In front of a frame comes one that somebody else made of it ([`super::SimNet::set_forger`]).
    pub forge_ppm: u32,
    /// How long a frame takes, in nanoseconds. Frames of a path do not overtake each other, however
    /// their delays fall, unless one is held back.
    pub delay_ns: RangeInclusive<u64>,
    /// How long a frame is held back at most, in nanoseconds.
    pub reorder_ns: u64,
}

impl Faults {
    /// Every frame arrives once, unchanged and at once.
    pub const NONE: Faults = Faults {
        loss_ppm: 0,
        duplicate_ppm: 0,
        reorder_ppm: 0,
        corrupt_ppm: 0,
        mend_ppm: 0,
        forge_ppm: 0,
        delay_ns: 0..=0,
        reorder_ns: 0,
    };
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::NONE
    }
}

/// What happened to frames in a network since it was made.
///
/// Each frame that enters a path, and each second copy of one, is in the end either in `delivered`,
/// `cut`, `lost`, `overrun` or `departed`, or still on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that entered a path: a broadcast counts once for each receiver.
    pub sent: u64,
    /// Frames that reached their receiver's queue.
    pub delivered: u64,
    /// Frames on a path that was cut.
    pub cut: u64,
    /// Frames that were lost by chance.
    pub lost: u64,
    /// Frames of which a second copy was made.
    pub duplicated: u64,
    /// Frames that were held back.
    pub reordered: u64,
    /// Frames in which a bit was flipped.
    pub corrupted: u64,
    /// Of those, frames whose checksums were made to fit again.
    pub mended: u64,
    /// Frames that somebody else made; they count as sent, too.
    pub forged: u64,
    /// Frames that found their receiver's queue full.
    pub overrun: u64,
    /// Frames that arrived after their receiver had left.
    pub departed: u64,
    /// Frames to an address that no port has. They enter no path.
    pub unknown: u64,
}
