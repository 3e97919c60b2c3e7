//! Making a footer of a segment's records.

use zerocopy::IntoBytes;

use super::tree::Tree;
use super::{
    BLOOM_BITS, BLOOM_BLOCK, Extent, FOOTER_HEADER_BYTES, FooterHeader, MAGIC, Place, VERSION,
    bits, block_of, hash_of_stream,
};
use crate::format::{Kind, LINE, RecordHeader, crc32c};
use crate::planted::{Bug, planted};

/// What a footer says of its segment as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Generation of its records.
    pub generation: u64,
    /// Its number in the log.
    pub sequence: u64,
    /// Lsn of its first record that consumes one.
    pub first_lsn: u64,
    /// Byte behind its last valid record.
    pub end: u64,
}

/// A data record, as far as the footer goes.
struct Entry {
    stream: u64,
    offset: u64,
    end_offset: u64,
    time: u64,
    line: u32,
}

/// The bytes of the footer of a segment with these valid records: the byte where each begins, its header and its block,
/// in the order of the segment. The same records give the same bytes.
pub fn build<'a>(
    facts: &Facts,
    records: impl Iterator<Item = (u64, &'a RecordHeader, &'a [u8])>,
) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut tree = Tree::new(facts.first_lsn);
    let mut next_lsn = facts.first_lsn;
    for (at, header, block) in records {
        if header.local & 1 == 0 {
            tree.add(header, block);
            next_lsn = header.lsn.get() + 1;
        }
        if header.kind == Kind::Data as u8 {
            let offset = header.offset.get();
            entries.push(Entry {
                stream: header.stream.get(),
                offset,
                end_offset: offset + u64::from(header.count.get()),
                time: header.time.get(),
                line: (at / LINE) as u32,
            });
        }
    }
    if planted(Bug::FooterWithoutLast) {
        entries.pop();
    }
    // Stable: the records of one stream stay in the order of their offsets.
    entries.sort_by_key(|entry| entry.stream);
    let (extents, places) = extents(&entries);
    let bloom = bloom(&extents);
    let hashes = tree.finish(facts.first_lsn, next_lsn);
    let sections = [bloom.as_slice(), extents.as_bytes(), places.as_bytes(), hashes.as_bytes()];
    let bytes = FOOTER_HEADER_BYTES + sections.iter().map(|section| section.len()).sum::<usize>();
    let mut footer = crate::pages::vec_with_room(bytes);
    footer.resize(FOOTER_HEADER_BYTES, 0);
    sections.iter().for_each(|section| footer.extend_from_slice(section));
    let mut header = FooterHeader {
        magic: MAGIC,
        version: VERSION.into(),
        header_bytes: (FOOTER_HEADER_BYTES as u16).into(),
        reserved: 0.into(),
        generation: facts.generation.into(),
        sequence: facts.sequence.into(),
        first_lsn: facts.first_lsn.into(),
        next_lsn: next_lsn.into(),
        end: facts.end.into(),
        bytes: (bytes as u64).into(),
        extents: (extents.len() as u32).into(),
        places: (places.len() as u32).into(),
        bloom_blocks: ((bloom.len() / BLOOM_BLOCK) as u32).into(),
        hashes: (hashes.len() as u32).into(),
        body_check: crc32c(&footer[FOOTER_HEADER_BYTES..]).into(),
        reserved2: [0; 40],
        check: 0.into(),
    };
    header.check = header.expected_check().into();
    footer[..FOOTER_HEADER_BYTES].copy_from_slice(header.as_bytes());
    footer
}

/// Extents and places of records that are in the order of streams and offsets.
fn extents(entries: &[Entry]) -> (Vec<Extent>, Vec<Place>) {
    let mut extents: Vec<Extent> = Vec::new();
    let mut places = Vec::with_capacity(entries.len());
    for entry in entries {
        let open = extents.last_mut().filter(|open| open.stream.get() == entry.stream);
        let near = |open: &&mut Extent| {
            entry.offset.wrapping_sub(open.first_offset.get()) <= u32::MAX.into()
        };
        let delta = match open.filter(near) {
            Some(open) => {
                open.end_offset = entry.end_offset.into();
                open.places += 1;
                entry.offset - open.first_offset.get()
            }
            None => {
                extents.push(Extent {
                    stream: entry.stream.into(),
                    first_offset: entry.offset.into(),
                    end_offset: entry.end_offset.into(),
                    first_time: entry.time.into(),
                    first_place: (places.len() as u32).into(),
                    places: 1.into(),
                });
                0
            }
        };
        places.push(Place { line: entry.line.into(), delta: (delta as u32).into() });
    }
    (extents, places)
}

/// The filter over the streams of `extents`.
fn bloom(extents: &[Extent]) -> Vec<u8> {
    let blocks = (extents.len() * BLOOM_BITS).div_ceil(8 * BLOOM_BLOCK);
    let mut bloom = vec![0; blocks * BLOOM_BLOCK];
    for extent in extents {
        let hash = hash_of_stream(extent.stream.get());
        let at = block_of(hash, blocks as u32) * BLOOM_BLOCK;
        let (words, _) = bloom[at..at + BLOOM_BLOCK].as_chunks_mut::<8>();
        for (word, bit) in words.iter_mut().zip(bits(hash)) {
            *word = (u64::from_le_bytes(*word) | bit).to_le_bytes();
        }
    }
    bloom
}
