//! Losses that an operator accepted (`docs/wal-format.md` section 6.1).

use zerocopy::byteorder::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One accepted gap or joint, as it stands in the block of a hole record.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Hole {
    /// Sequence of the segment with the gap; of a joint, of the later segment.
    pub segment: U64,
    /// Byte in the segment where the gap begins; 0: a joint.
    pub from: U64,
    /// Byte where reading goes on; the segment's size: nowhere.
    pub to: U64,
    /// First lsn that is missing.
    pub lsn: U64,
    /// First lsn that is not.
    pub next_lsn: U64,
}

/// Bytes of a hole in the block of its record.
pub const HOLE_BYTES: usize = 40;
const _: () = assert!(size_of::<Hole>() == HOLE_BYTES);

/// Holes that one record says at most: they fit the smallest window and are torn or whole together.
pub(crate) const HOLES_PER_RECORD: usize = 24;

/// The holes in the block of a hole record.
pub fn holes_in(block: &[u8]) -> impl Iterator<Item = Hole> + '_ {
    block.chunks_exact(HOLE_BYTES).filter_map(|bytes| Hole::read_from_bytes(bytes).ok())
}

/// All accepted losses that were found, by place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holes(std::collections::BTreeMap<(u64, u64), Hole>);

impl Holes {
    pub(crate) fn add(&mut self, hole: Hole) {
        self.0.insert((hole.segment.get(), hole.from.get()), hole);
    }

    /// The hole that begins at byte `from` of this segment.
    pub(crate) fn at(&self, segment: u64, from: u64) -> Option<&Hole> {
        self.0.get(&(segment, from))
    }

    /// The accepted loss in front of this segment.
    pub(crate) fn joint(&self, segment: u64) -> Option<&Hole> {
        self.at(segment, 0)
    }
}
