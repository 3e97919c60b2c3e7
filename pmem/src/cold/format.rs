//! The bytes of cold segments, as `docs/cold-format.md` lays them out.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::crc32c;
use crate::region::Level;

/// Bytes of the header, and of the footer.
pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes of an entry of the chunk table.
pub(crate) const ENTRY_BYTES: usize = 48;
/// Bytes of an extent.
pub(crate) const EXTENT_BYTES: usize = 80;
/// A chunk is closed when its records come to this.
pub(crate) const CHUNK_BYTES: usize = 32 * 1024;
/// The version that this program reads and writes.
pub(crate) const VERSION: u16 = 1;
const MAGIC: [u8; 8] = *b"MSTRCOLD";
const END_MAGIC: [u8; 8] = *b"MSTRCEND";

/// The beginning of a file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    magic: [u8; 8],
    pub(crate) version: U16,
    header_bytes: U16,
    pub(crate) shard: U32,
    pub(crate) log_id: [u8; 16],
    pub(crate) from: U64,
    pub(crate) to: U64,
    pub(crate) level: u8,
    reserved: [u8; 11],
    check: U32,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

impl Header {
    pub(crate) fn new(log_id: [u8; 16], shard: u32, range: (u64, u64), level: Level) -> Header {
        let mut header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            header_bytes: U16::new(HEADER_BYTES as u16),
            shard: shard.into(),
            log_id,
            from: range.0.into(),
            to: range.1.into(),
            level: level as u8,
            reserved: [0; 11],
            check: 0.into(),
        };
        header.check = crc32c(&header.as_bytes()[..HEADER_BYTES - 4]).into();
        header
    }

    /// The header in these bytes, or what they lack. Its version may be another.
    pub(crate) fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Header, &'static str> {
        let header: Header = zerocopy::transmute!(*bytes);
        if header.magic != MAGIC {
            return Err("the header does not begin with MSTRCOLD");
        }
        match header.check.get() == crc32c(&bytes[..HEADER_BYTES - 4]) {
            true => Ok(header),
            false => Err("the header's check does not fit"),
        }
    }
}

/// The end of a file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Footer {
    magic: [u8; 8],
    pub(crate) table_at: U64,
    pub(crate) chunks: U64,
    pub(crate) extents_at: U64,
    pub(crate) extents: U64,
    pub(crate) last_lsn: U64,
    pub(crate) extents_crc: U32,
    reserved: [u8; 8],
    check: U32,
}

const _: () = assert!(size_of::<Footer>() == HEADER_BYTES);

/// The varying fields of a footer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FooterFields {
    pub(crate) table_at: u64,
    pub(crate) chunks: u64,
    pub(crate) extents_at: u64,
    pub(crate) extents: u64,
    pub(crate) last_lsn: u64,
    pub(crate) extents_crc: u32,
}

impl Footer {
    pub(crate) fn new(header: &Header, fields: &FooterFields) -> Footer {
        let mut footer = Footer {
            magic: END_MAGIC,
            table_at: fields.table_at.into(),
            chunks: fields.chunks.into(),
            extents_at: fields.extents_at.into(),
            extents: fields.extents.into(),
            last_lsn: fields.last_lsn.into(),
            extents_crc: fields.extents_crc.into(),
            reserved: [0; 8],
            check: 0.into(),
        };
        footer.check = footer.expected_check(header).into();
        footer
    }

    /// The footer in the last bytes of a file of `bytes` bytes with this header, or what they lack.
    pub(crate) fn read(
        end: &[u8; HEADER_BYTES],
        header: &Header,
        bytes: u64,
    ) -> Result<Footer, &'static str> {
        let footer: Footer = zerocopy::transmute!(*end);
        if footer.magic != END_MAGIC {
            return Err("no footer ends the file: it was cut short, or its end is another's");
        }
        if footer.check.get() != footer.expected_check(header) {
            return Err("the footer's check does not fit, or it is of another header");
        }
        match footer.fits(bytes) {
            Some(true) => Ok(footer),
            _ => Err("the footer does not fit the file's size"),
        }
    }

    /// True for one whose parts follow each other up to the end of a file of `bytes` bytes.
    fn fits(&self, bytes: u64) -> Option<bool> {
        let part = |count: U64, size: usize| count.get().checked_mul(size as u64);
        let table = part(self.chunks, ENTRY_BYTES)?.checked_add(self.table_at.get())?;
        let extents = part(self.extents, EXTENT_BYTES)?.checked_add(self.extents_at.get())?;
        let follow = self.table_at.get() >= HEADER_BYTES as u64 && table == self.extents_at.get();
        Some(follow && extents.checked_add(HEADER_BYTES as u64) == Some(bytes))
    }

    fn expected_check(&self, header: &Header) -> u32 {
        // Without the checks: behind bytes that end with their own CRC, a CRC goes on the same whatever they are.
        let mut covered = [0; 2 * (HEADER_BYTES - 4)];
        let (first, second) = covered.split_at_mut(HEADER_BYTES - 4);
        first.copy_from_slice(&header.as_bytes()[..HEADER_BYTES - 4]);
        second.copy_from_slice(&self.as_bytes()[..HEADER_BYTES - 4]);
        crc32c(&covered)
    }
}

/// A chunk, as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) last_time: u64,
    pub(crate) place: u64,
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
    pub(crate) last_epoch: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    first: U64,
    end: U64,
    last_time: U64,
    place: U64,
    bytes: U32,
    crc: U32,
    last_epoch: U32,
    check: U32,
}

const _: () = assert!(size_of::<Entry>() == ENTRY_BYTES);

fn entry_check(stream: u64, number: u64, entry: &[u8; ENTRY_BYTES]) -> u32 {
    let mut covered = [0; ENTRY_BYTES + 12];
    covered[..8].copy_from_slice(&stream.to_le_bytes());
    covered[8..16].copy_from_slice(&number.to_le_bytes());
    covered[16..].copy_from_slice(&entry[..ENTRY_BYTES - 4]);
    crc32c(&covered)
}

impl Chunk {
    /// The entry with this number, of a chunk of `stream`.
    pub(crate) fn entry(&self, stream: u64, number: u64) -> [u8; ENTRY_BYTES] {
        let mut entry = Entry {
            first: self.first.into(),
            end: self.end.into(),
            last_time: self.last_time.into(),
            place: self.place.into(),
            bytes: self.bytes.into(),
            crc: self.crc.into(),
            last_epoch: self.last_epoch.into(),
            check: 0.into(),
        };
        entry.check = entry_check(stream, number, &zerocopy::transmute!(entry)).into();
        zerocopy::transmute!(entry)
    }

    /// What the entry with this number says, if it is one of a chunk of `stream`.
    pub(crate) fn read(stream: u64, number: u64, bytes: &[u8; ENTRY_BYTES]) -> Option<Chunk> {
        let entry: Entry = zerocopy::transmute!(*bytes);
        (entry.check.get() == entry_check(stream, number, bytes)).then(|| Chunk {
            first: entry.first.get(),
            end: entry.end.get(),
            last_time: entry.last_time.get(),
            place: entry.place.get(),
            bytes: entry.bytes.get(),
            crc: entry.crc.get(),
            last_epoch: entry.last_epoch.get(),
        })
    }
}

/// A range of a stream's offsets that a file speaks for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub(crate) struct Extent {
    pub(crate) stream: U64,
    pub(crate) from: U64,
    pub(crate) first: U64,
    pub(crate) end: U64,
    pub(crate) bytes: U64,
    pub(crate) table: U64,
    pub(crate) first_time: U64,
    pub(crate) last_time: U64,
    pub(crate) chunks: U32,
    pub(crate) records: U32,
    pub(crate) first_epoch: U32,
    pub(crate) last_epoch: U32,
}

const _: () = assert!(size_of::<Extent>() == EXTENT_BYTES);

impl Extent {
    /// True if the extents are what a file can hold: in order, with chunks that follow each other in a table of
    /// `chunks` entries, and those within `room` bytes.
    pub(crate) fn sound(extents: &[Extent], chunks: u64, room: u64) -> bool {
        let mut next = 0;
        let mut bytes = 0u64;
        let each = extents.iter().all(|extent| {
            let inside = extent.from.get() <= extent.first.get()
                && extent.first.get() < extent.end.get()
                && extent.table.get() == next
                && extent.chunks.get() > 0
                && extent.records.get() >= extent.chunks.get();
            next += u64::from(extent.chunks.get());
            bytes = bytes.saturating_add(extent.bytes.get());
            inside
        });
        let ordered = extents.windows(2).all(|pair| {
            pair[0].stream.get() < pair[1].stream.get()
                || (pair[0].stream == pair[1].stream && pair[0].end.get() <= pair[1].from.get())
        });
        each && ordered && next == chunks && bytes == room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_counts_in_its_place_only() {
        let chunk =
            Chunk { first: 1, end: 2, last_time: 3, place: 64, bytes: 104, crc: 5, last_epoch: 6 };
        let entry = chunk.entry(9, 4);
        assert_eq!(Chunk::read(9, 4, &entry), Some(chunk));
        assert_eq!(Chunk::read(9, 5, &entry), None);
        assert_eq!(Chunk::read(8, 4, &entry), None);
        for byte in 0..ENTRY_BYTES {
            let mut flipped = entry;
            flipped[byte] ^= 1;
            assert_eq!(Chunk::read(9, 4, &flipped), None, "byte {byte}");
        }
    }

    #[test]
    fn a_footer_belongs_to_its_header() {
        let header = Header::new([1; 16], 2, (3, 4), Level::MediaSync);
        let other = Header::new([1; 16], 2, (3, 5), Level::MediaSync);
        let fields = FooterFields {
            table_at: 64,
            chunks: 0,
            extents_at: 64,
            extents: 0,
            last_lsn: 0,
            extents_crc: 0,
        };
        let footer: [u8; HEADER_BYTES] = zerocopy::transmute!(Footer::new(&header, &fields));
        assert!(Footer::read(&footer, &header, 128).is_ok());
        assert!(Footer::read(&footer, &other, 128).is_err());
        assert!(Footer::read(&footer, &header, 129).is_err());
    }
}
