//! Footers of sealed segments (`docs/wal-format.md` section 7): which streams a segment holds records of and where they
//! are, and checksums over ranges of lsns. Made from the segment's bytes alone; read without a system call.

mod build;
mod file;
mod tree;

#[cfg(test)]
mod tests;

use std::ops::Range;

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use build::{Facts, build};
pub use file::{FooterFiles, StoreError, footer_path};
pub use tree::{HASH_BYTES, LEAF_LSNS};

use crate::format::{LINE, crc32c};
use crate::planted::{Bug, planted};

const MAGIC: [u8; 8] = *b"MSTRMFOT";
const VERSION: u16 = 1;
/// Bytes of a footer's header.
pub const FOOTER_HEADER_BYTES: usize = 128;
/// Bytes of a block of the bloom filter: one line.
pub const BLOOM_BLOCK: usize = 64;
/// Bits of the bloom filter for each extent.
const BLOOM_BITS: usize = 12;

/// A footer's header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct FooterHeader {
    magic: [u8; 8],
    version: U16,
    header_bytes: U16,
    reserved: U32,
    /// Generation of the segment.
    pub generation: U64,
    /// Number of the segment in its log.
    pub sequence: U64,
    /// Lsn of the segment's first record that consumes one.
    pub first_lsn: U64,
    /// Lsn behind that of the last one; `first_lsn` if there is none.
    pub next_lsn: U64,
    /// Byte of the segment behind its last valid record.
    pub end: U64,
    /// Bytes of the footer, this header included.
    pub bytes: U64,
    /// How many extents there are.
    pub extents: U32,
    /// How many places there are: data records of the segment.
    pub places: U32,
    /// Blocks of the bloom filter.
    pub bloom_blocks: U32,
    /// Hashes of the checksum tree.
    pub hashes: U32,
    /// CRC32C of everything behind this header.
    body_check: U32,
    reserved2: [u8; 40],
    check: U32,
}

const _: () = assert!(size_of::<FooterHeader>() == FOOTER_HEADER_BYTES);

/// Records of one stream that follow each other, as they stand in a segment.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Extent {
    /// Stream id.
    pub stream: U64,
    /// Offset of the first message.
    pub first_offset: U64,
    /// Offset behind the last one.
    pub end_offset: U64,
    /// Time of the first record, ns since 1970.
    pub first_time: U64,
    /// Where its records' places begin among all.
    pub first_place: U32,
    /// How many records there are.
    pub places: U32,
}

/// Where a record is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Place {
    /// Byte in the segment where it begins, in units of 64.
    pub line: U32,
    /// How far its first offset is from that of its extent.
    pub delta: U32,
}

/// Why bytes are no footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFooter {
    /// Shorter than a header, or than its header says.
    #[error("it is too short")]
    Short,
    /// Magic or version.
    #[error("no footer of a known version begins here")]
    Magic,
    /// The header's check.
    #[error("its header does not fit its check")]
    Header,
    /// The sizes do not fit each other.
    #[error("its sizes do not fit each other")]
    Sizes,
    /// The check of the rest.
    #[error("its content does not fit its check")]
    Body,
}

/// A sound footer in memory.
pub struct Footer {
    bytes: Vec<u8>,
    header: FooterHeader,
    extents: Range<usize>,
    places: Range<usize>,
    bloom: Range<usize>,
    hashes: Range<usize>,
}

impl Footer {
    /// The footer that `bytes` are.
    ///
    /// # Errors
    /// Why they are none.
    pub fn new(bytes: Vec<u8>) -> Result<Footer, NoFooter> {
        let (header, _) = FooterHeader::read_from_prefix(&bytes).map_err(|_| NoFooter::Short)?;
        if header.magic != MAGIC || header.version.get() != VERSION {
            return Err(NoFooter::Magic);
        }
        if header.check.get() != header.expected_check() {
            return Err(NoFooter::Header);
        }
        let mut end = FOOTER_HEADER_BYTES;
        let mut section = |number: U32, size: usize| {
            let start = end;
            end += number.get() as usize * size;
            start..end
        };
        let bloom = section(header.bloom_blocks, BLOOM_BLOCK);
        let extents = section(header.extents, size_of::<Extent>());
        let places = section(header.places, size_of::<Place>());
        let hashes = section(header.hashes, HASH_BYTES);
        if header.bytes.get() != end as u64 || bytes.len() as u64 > header.bytes.get() {
            return Err(NoFooter::Sizes);
        }
        let body = bytes.get(FOOTER_HEADER_BYTES..end).ok_or(NoFooter::Short)?;
        if crc32c(body) != header.body_check.get() {
            return Err(NoFooter::Body);
        }
        Ok(Footer { header, extents, places, bloom, hashes, bytes })
    }

    /// Its header.
    pub fn header(&self) -> &FooterHeader {
        &self.header
    }

    /// True if it is that of the segment with this generation whose records end at byte `end`.
    pub fn fits(&self, generation: u64, end: u64) -> bool {
        (self.header.generation.get() == generation || planted(Bug::FooterOfAnotherLife))
            && (self.header.end.get() == end || planted(Bug::FooterOfAnotherLife))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Extents by stream id, those of one stream by offset.
    #[inline]
    pub fn extents(&self) -> &[Extent] {
        self.slice(&self.extents)
    }

    /// Places of the records, extent after extent.
    #[inline]
    pub fn places(&self) -> &[Place] {
        self.slice(&self.places)
    }

    /// Places of an extent's records.
    #[inline]
    pub fn places_of(&self, extent: &Extent) -> &[Place] {
        let first = extent.first_place.get() as usize;
        let places = self.places().get(first..).unwrap_or_default();
        places.get(..extent.places.get() as usize).unwrap_or_default()
    }

    /// The checksum tree: leaves, then each level above them.
    pub fn hashes(&self) -> &[[u8; HASH_BYTES]] {
        self.slice(&self.hashes)
    }

    #[inline]
    fn slice<T: FromBytes + Immutable + KnownLayout + Unaligned>(
        &self,
        range: &Range<usize>,
    ) -> &[T] {
        let bytes = self.bytes.get(range.clone()).unwrap_or_default();
        <[T]>::ref_from_bytes(bytes).unwrap_or_default()
    }

    /// What stands at a byte of the footer, in words.
    pub(crate) fn part_at(&self, at: usize) -> &'static str {
        let parts = [
            (&self.bloom, "filter blocks"),
            (&self.extents, "extents"),
            (&self.places, "places"),
            (&self.hashes, "checksums"),
        ];
        parts
            .into_iter()
            .find(|(part, _)| part.contains(&at))
            .map_or("header's fields", |(_, name)| name)
    }

    /// False if no record of the stream with this hash ([`hash_of_stream`]) is in the segment.
    #[inline]
    pub fn may_hold(&self, hash: u64) -> bool {
        let Some(block) = self.bloom_block(hash) else { return false };
        let missing = bits(hash).zip(block.as_chunks::<8>().0);
        missing.fold(0, |missing, (bit, word)| missing | bit & !u64::from_le_bytes(*word)) == 0
    }

    #[inline]
    fn bloom_block(&self, hash: u64) -> Option<&[u8]> {
        let at = self.bloom.start + block_of(hash, self.header.bloom_blocks.get()) * BLOOM_BLOCK;
        self.bytes.get(..self.bloom.end)?.get(at..at + BLOOM_BLOCK)
    }

    /// Asks the processor to bring near what [`Footer::may_hold`] reads.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(block) = self.bloom_block(hash) {
            crate::copy::prefetch(block.as_ptr());
        }
    }

    /// The extents of a stream, as numbers among all; empty if there are none.
    #[inline]
    pub fn extents_of(&self, stream: u64) -> Range<usize> {
        let extents = self.extents();
        let first = first_of(extents, stream);
        let same = extents[first..].iter().take_while(|extent| extent.stream.get() == stream);
        first..first + same.count()
    }
}

/// Number of the first extent whose stream is `stream` or above. Ids are given out in order, so a guess by proportion is
/// near; a binary search ends it.
#[inline]
fn first_of(extents: &[Extent], stream: u64) -> usize {
    let (mut low, mut high) = (0, extents.len());
    for _ in 0..GUESSES {
        if high - low < FEW {
            break;
        }
        let (first, last) = (extents[low].stream.get(), extents[high - 1].stream.get());
        if stream <= first {
            return low;
        }
        if stream > last {
            return high;
        }
        // first < stream <= last
        let span = (high - 1 - low) as u128;
        let guess = low + (u128::from(stream - first) * span / u128::from(last - first)) as usize;
        // A little to the side where less is left, so that the stream ends up between the two.
        let (left, right) = (guess.saturating_sub(SIDE).max(low), (guess + SIDE).min(high - 1));
        if extents[left].stream.get() >= stream {
            high = left + 1;
        } else if extents[right].stream.get() < stream {
            low = right + 1;
        } else {
            (low, high) = (left + 1, right + 1);
        }
    }
    low + extents[low..high].partition_point(|extent| extent.stream.get() < stream)
}

/// Guesses before a search is binary.
const GUESSES: usize = 4;
/// Extents that are searched without a guess.
const FEW: usize = 16;
/// How far from a guess extents are looked at.
const SIDE: usize = 4;

impl FooterHeader {
    fn expected_check(&self) -> u32 {
        crc32c(&self.as_bytes()[..FOOTER_HEADER_BYTES - 4])
    }
}

impl Place {
    /// Byte in the segment where the record begins.
    #[inline]
    pub fn byte(&self) -> u64 {
        u64::from(self.line.get()) * LINE
    }
}

/// The hash under which a stream is in bloom filters: the finalizer of SplitMix64.
#[inline]
pub fn hash_of_stream(stream: u64) -> u64 {
    let mut z = stream.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The block of the filter that a hash is in.
#[inline]
fn block_of(hash: u64, blocks: u32) -> usize {
    (((hash >> 32) * u64::from(blocks)) >> 32) as usize
}

/// One bit in each of a block's eight words.
#[inline]
fn bits(hash: u64) -> impl Iterator<Item = u64> {
    // Other bits than those that pick the block: a second mix of the low half.
    let mixed = (hash & 0xffff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..8).map(move |word| 1 << (mixed >> (8 + 6 * word) & 63))
}

impl std::fmt::Debug for Footer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Footer").field("header", &self.header).finish_non_exhaustive()
    }
}
