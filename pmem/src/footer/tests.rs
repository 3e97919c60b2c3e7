use super::*;
use crate::format::{Kind, RecordFields, RecordHeader, record_bytes};

const FACTS: Facts = Facts { generation: 7, sequence: 3, first_lsn: 1000, end: 1 << 20 };

/// Data records in these streams, each with its offset and count; and local records in between.
fn records(wanted: &[(u64, u64, u16)]) -> Vec<(u64, RecordHeader, Vec<u8>)> {
    let mut at = crate::format::SEGMENT_DATA_AT;
    let mut records = Vec::new();
    for (number, (stream, offset, count)) in wanted.iter().enumerate() {
        let block = vec![number as u8; number % 300];
        let mut fields = RecordFields {
            kind: Kind::Data,
            local: false,
            generation: FACTS.generation,
            count: *count,
            block_bytes: block.len() as u32,
            epoch: 1,
            block_crc: crc32c(&block),
            lsn: FACTS.first_lsn + number as u64,
            stream: *stream,
            offset: *offset,
            publisher: 5,
            incarnation: 1,
            sequence: 1,
            time: 10 + number as u64,
        };
        let bytes = record_bytes(block.len());
        records.push((at, RecordHeader::new(&fields, 0), block));
        at += bytes;
        if number.is_multiple_of(50) {
            (fields.kind, fields.local, fields.count) = (Kind::StreamState, true, 0);
            (fields.lsn, fields.block_bytes) = (fields.lsn + 1, 0);
            records.push((at, RecordHeader::new(&fields, 0), Vec::new()));
            at += record_bytes(0);
        }
    }
    records
}

fn footer(records: &[(u64, RecordHeader, Vec<u8>)]) -> Footer {
    let seen = records.iter().map(|(at, header, block)| (*at, header, block.as_slice()));
    Footer::new(build(&FACTS, seen)).expect("sound")
}

/// Streams with ids in order, with gaps, and very far apart.
fn some() -> Vec<(u64, u64, u16)> {
    let id = |n: u64| if n.is_multiple_of(7) { u64::MAX - n } else { (n % 500) * (1 + n % 3) };
    let mut next = std::collections::HashMap::new();
    let mut wanted = Vec::new();
    for n in 0..3000 {
        let stream = id(n * n + n / 3);
        let offset: &mut u64 = next.entry(stream).or_insert(stream % 100);
        let count = 1 + (n % 9) as u16;
        wanted.push((stream, *offset, count));
        *offset += u64::from(count) + if n.is_multiple_of(97) { 1 << 33 } else { 0 };
    }
    wanted
}

#[test]
fn every_record_is_in_one_extent_of_its_stream() {
    let wanted = some();
    let records = records(&wanted);
    let footer = footer(&records);
    assert!(
        footer
            .extents()
            .is_sorted_by_key(|extent| (extent.stream.get(), extent.first_offset.get()))
    );
    assert_eq!(footer.places().len(), wanted.len());
    let mut found = Vec::new();
    for extent in footer.extents() {
        let stream = extent.stream.get();
        assert!(footer.may_hold(hash_of_stream(stream)));
        let places = footer.places_of(extent);
        assert_eq!(places.len(), extent.places.get() as usize);
        for place in places {
            let offset = extent.first_offset.get() + u64::from(place.delta.get());
            assert!((extent.first_offset.get()..extent.end_offset.get()).contains(&offset));
            found.push((place.byte(), stream, offset));
        }
    }
    found.sort_unstable();
    let data = records.iter().filter(|(_, header, _)| header.kind == Kind::Data as u8);
    let data: Vec<_> =
        data.map(|(at, header, _)| (*at, header.stream.get(), header.offset.get())).collect();
    assert_eq!(found, data);
}

#[test]
fn the_extents_of_a_stream_are_found_and_no_others() {
    let footer = footer(&records(&some()));
    let extents = footer.extents();
    let mut passed = 0;
    for stream in (0..2000).chain(u64::MAX - 50_000..=u64::MAX) {
        let first = extents.partition_point(|extent| extent.stream.get() < stream);
        let end = extents.partition_point(|extent| extent.stream.get() <= stream);
        assert_eq!(footer.extents_of(stream), first..end, "stream {stream}");
        passed += u64::from(first == end && footer.may_hold(hash_of_stream(stream)));
    }
    assert!(passed < 52_000 / 50, "{passed} streams pass the filter for nothing");
}

#[test]
fn a_leaf_covers_1024_lsns_and_a_change_shows_on_the_way_to_the_root() {
    let mut records = records(&some());
    let before = footer(&records);
    // Lsns 1000 to 3999: leaves 0 to 3, and a root.
    assert_eq!(before.hashes().len(), 5);
    let changed = records.iter().position(|(_, header, _)| header.lsn.get() == 2100);
    records[changed.expect("there")].2[3] ^= 1;
    let after = footer(&records);
    let differ = before.hashes().iter().zip(after.hashes()).map(|(a, b)| a != b);
    assert_eq!(differ.collect::<Vec<_>>(), [false, false, true, false, true]);
    // What a node stamps on its own copy does not count, nor do local records.
    records.retain(|(_, header, _)| header.local == 0);
    let other = Facts { generation: 8, sequence: 9, ..FACTS };
    let seen = records.iter().map(|(at, header, block)| (at + 64, header, block.as_slice()));
    let moved = Footer::new(build(&other, seen)).expect("sound");
    assert_eq!(moved.hashes(), after.hashes());
}

#[test]
fn a_segment_without_data_has_an_empty_footer() {
    let empty = footer(&[]);
    assert_eq!(empty.bytes().len(), FOOTER_HEADER_BYTES);
    assert!(!empty.may_hold(hash_of_stream(1)) && empty.extents_of(1).is_empty());
    assert_eq!(empty.header().next_lsn.get(), FACTS.first_lsn);
}

#[test]
fn a_flipped_bit_or_a_missing_end_makes_it_none() {
    let sound = footer(&records(&some()[..40])).bytes().to_vec();
    for at in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(Footer::new(flipped).is_err(), "byte {at}");
        assert!(Footer::new(sound[..at].to_vec()).is_err(), "{at} bytes");
    }
    let mut longer = sound;
    longer.push(0);
    assert_eq!(Footer::new(longer).err(), Some(NoFooter::Sizes));
}
