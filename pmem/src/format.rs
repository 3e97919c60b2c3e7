//! The bytes of segment headers and records, as `docs/wal-format.md` lays them out.

use siphasher::sip::SipHasher24;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::checks::{self, Words};
use crate::planted::{Bug, planted};

/// Where records begin in a segment.
pub const SEGMENT_DATA_AT: u64 = 4096;
/// Where the two copies of the segment header stand.
pub const SEGMENT_HEADER_AT: [u64; 2] = [0, 512];
/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 128;
/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 96;
/// Records start at multiples of this.
pub const LINE: u64 = 64;
/// Bytes at the end of a segment that are kept for its roll record.
pub const ROLL_BYTES: u64 = 128;

const SEGMENT_MAGIC: [u8; 8] = *b"MSTRMWAL";
const RECORD_MAGIC: u16 = 0x5352;
const VERSION: u8 = 1;

/// CRC32C of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Bytes that a record with a block of `block` bytes takes.
#[inline]
pub const fn record_bytes(block: usize) -> u64 {
    (RECORD_HEADER_BYTES as u64 + block as u64).next_multiple_of(LINE)
}

/// A segment's header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct SegmentHeader {
    magic: [u8; 8],
    /// Format version.
    pub version: U16,
    header_bytes: U16,
    /// Shard whose log this is.
    pub shard: U32,
    /// Names the log.
    pub log_id: [u8; 16],
    /// Number of the segment in its log, from 1.
    pub sequence: U64,
    /// Lsn of the first record that consumes one.
    pub base_lsn: U64,
    /// Epoch when the segment was opened.
    pub base_epoch: U32,
    /// Chain before the first record.
    pub base_chain: U32,
    reserved: U32,
    /// Level of the region that wrote it.
    pub level: u8,
    /// 1 opened at a start, 2 rolled, 3 opened to accept a loss.
    pub reason: u8,
    reserved2: U16,
    /// Bytes of the segment.
    pub segment_bytes: U64,
    /// W.
    pub window_bytes: U64,
    /// ns since 1970.
    pub time: U64,
    /// Boot id of the kernel.
    pub boot_id: [u8; 16],
    /// Key of the generations. Never leaves the node.
    pub secret: [u8; 16],
    reserved3: U32,
    check: U32,
}

const _: () = assert!(size_of::<SegmentHeader>() == SEGMENT_HEADER_BYTES);

/// Why a segment was opened.
pub const OPENED_AT_START: u8 = 1;
/// Why a segment was opened.
pub const ROLLED: u8 = 2;
/// Why a segment was opened: an operator accepted a loss. It holds the holes, and has version 2.
pub const ACCEPTED: u8 = 3;
/// The versions of segments that this program reads.
pub const VERSIONS: std::ops::RangeInclusive<u16> = 1..=2;

/// The varying fields of a segment header.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "as in SegmentHeader")]
pub struct SegmentFields {
    pub shard: u32,
    pub log_id: [u8; 16],
    pub sequence: u64,
    pub base_lsn: u64,
    pub base_epoch: u32,
    pub base_chain: u32,
    pub level: u8,
    pub reason: u8,
    pub segment_bytes: u64,
    pub window_bytes: u64,
    pub time: u64,
    pub boot_id: [u8; 16],
    pub secret: [u8; 16],
}

/// The generation of the segment with this number: stamped on its records, it tells them from those of the
/// slot's other lives and from any that were made up without the secret.
pub fn generation(secret: &[u8; 16], sequence: u64) -> u64 {
    let sequence = if planted(Bug::GenerationReused) { 0 } else { sequence };
    SipHasher24::new_with_key(secret).hash(&sequence.to_le_bytes())
}

impl SegmentHeader {
    /// A header with its check.
    pub fn new(fields: &SegmentFields) -> SegmentHeader {
        let mut header = SegmentHeader {
            magic: SEGMENT_MAGIC,
            version: if fields.reason == ACCEPTED { 2 } else { 1 }.into(),
            header_bytes: U16::new(SEGMENT_HEADER_BYTES as u16),
            shard: fields.shard.into(),
            log_id: fields.log_id,
            sequence: fields.sequence.into(),
            base_lsn: fields.base_lsn.into(),
            base_epoch: fields.base_epoch.into(),
            base_chain: fields.base_chain.into(),
            reserved: 0.into(),
            level: fields.level,
            reason: fields.reason,
            reserved2: 0.into(),
            segment_bytes: fields.segment_bytes.into(),
            window_bytes: fields.window_bytes.into(),
            time: fields.time.into(),
            boot_id: fields.boot_id,
            secret: fields.secret,
            reserved3: 0.into(),
            check: 0.into(),
        };
        header.check = crc32c(&header.as_bytes()[..SEGMENT_HEADER_BYTES - 4]).into();
        header
    }

    /// True if the segment began anew rather than going on from a roll record.
    pub fn begins_anew(&self) -> bool {
        matches!(self.reason, OPENED_AT_START | ACCEPTED)
    }

    /// The generation of the segment's records.
    pub fn generation(&self) -> u64 {
        generation(&self.secret, self.sequence.get())
    }

    /// The header in these bytes, if they are one.
    pub fn read(bytes: &[u8]) -> Option<SegmentHeader> {
        let (header, _) = SegmentHeader::read_from_prefix(bytes).ok()?;
        let check = crc32c(&header.as_bytes()[..SEGMENT_HEADER_BYTES - 4]);
        let sound = header.check.get() == check || planted(Bug::SegmentHeaderUnchecked);
        (header.magic == SEGMENT_MAGIC && sound).then_some(header)
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "section 3.1 of the format")]
pub enum Kind {
    Data = 1,
    Abort = 2,
    EpochStart = 3,
    PublisherState = 4,
    StreamState = 5,
    Roll = 6,
    Pad = 7,
    Hint = 8,
    Hole = 9,
}

impl Kind {
    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Kind> {
        [
            Kind::Data,
            Kind::Abort,
            Kind::EpochStart,
            Kind::PublisherState,
            Kind::StreamState,
            Kind::Roll,
            Kind::Pad,
            Kind::Hint,
            Kind::Hole,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// A record's header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct RecordHeader {
    magic: U16,
    version: u8,
    /// Bit 0: local.
    pub local: u8,
    generation_low: U32,
    check: U32,
    generation_high: U32,
    /// Record type.
    pub kind: u8,
    flags: u8,
    /// Messages in the block.
    pub count: U16,
    /// Bytes of the block.
    pub block_bytes: U32,
    /// Epoch of the shard.
    pub epoch: U32,
    /// CRC32C of the block.
    pub block_crc: U32,
    /// Record number.
    pub lsn: U64,
    /// Stream id.
    pub stream: U64,
    /// Offset of the first message.
    pub offset: U64,
    /// Publisher id.
    pub publisher: U64,
    /// Life of the publisher.
    pub incarnation: U64,
    /// Sequence of the first message.
    pub sequence: U64,
    /// ns since 1970.
    pub time: U64,
    /// Chained checksum.
    pub chain: U32,
    reserved: U32,
}

const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_BYTES);

/// The logical fields of a record.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "as in RecordHeader")]
pub struct RecordFields {
    pub kind: Kind,
    pub local: bool,
    pub generation: u64,
    pub count: u16,
    pub block_bytes: u32,
    pub epoch: u32,
    pub block_crc: u32,
    pub lsn: u64,
    pub stream: u64,
    pub offset: u64,
    pub publisher: u64,
    pub incarnation: u64,
    pub sequence: u64,
    pub time: u64,
}

impl RecordHeader {
    /// A header whose chain follows `previous`.
    pub fn new(fields: &RecordFields, previous: u32) -> RecordHeader {
        let mut words = [0; 12];
        RecordHeader::write(fields, previous, &mut words);
        zerocopy::transmute!(words.map(U64::new))
    }

    /// Writes a header whose chain follows `previous` as little-endian words; its chain.
    #[inline(always)]
    pub(crate) fn write(fields: &RecordFields, previous: u32, words: &mut Words) -> u32 {
        let halves = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let magic =
            u32::from(RECORD_MAGIC) | u32::from(VERSION) << 16 | u32::from(fields.local) << 24;
        let kind = fields.kind as u32 | u32::from(fields.count) << 16;
        *words = [
            halves(magic, fields.generation as u32),
            0,
            halves(kind, fields.block_bytes),
            halves(fields.epoch, fields.block_crc),
            fields.lsn,
            fields.stream,
            fields.offset,
            fields.publisher,
            fields.incarnation,
            fields.sequence,
            fields.time,
            0,
        ];
        let chain = if fields.local { previous } else { checks::chain(previous, words) };
        words[11] = chain.into();
        words[1] = fields.generation >> 32 << 32;
        words[1] |= u64::from(checks::check(words));
        chain
    }

    /// The header in these bytes, if magic, version and check say that they are one.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<&RecordHeader> {
        let (header, _) = RecordHeader::ref_from_prefix(bytes).ok()?;
        (header.magic.get() == RECORD_MAGIC
            && header.version == VERSION
            && (header.check.get() == header.expected_check()
                || planted(Bug::RecordHeaderUnchecked)))
        .then_some(header)
    }

    /// The header in these bytes, of which [`RecordHeader::read`] has said that they are one.
    #[inline]
    pub(crate) fn checked(bytes: &[u8]) -> Option<&RecordHeader> {
        let (header, _) = RecordHeader::ref_from_prefix(bytes).ok()?;
        (header.magic.get() == RECORD_MAGIC).then_some(header)
    }

    /// The generation of the segment that the record was written to.
    #[inline]
    pub fn generation(&self) -> u64 {
        u64::from(self.generation_low.get()) | u64::from(self.generation_high.get()) << 32
    }

    /// What the chain field must be behind a record whose chain was `previous`.
    #[inline]
    pub fn chain_after(&self, previous: u32) -> u32 {
        if self.local & 1 != 0 {
            return previous;
        }
        checks::chain(previous, &self.words())
    }

    #[inline]
    fn expected_check(&self) -> u32 {
        checks::check(&self.words())
    }

    #[inline]
    fn words(&self) -> Words {
        let words: [U64; 12] = zerocopy::transmute!(*self);
        words.map(U64::get)
    }
}
