//! The format's bytes, written by hand from docs/wal-format.md, read and written.

use mstream_pmem::format::{
    ACCEPTED, Kind, OPENED_AT_START, RecordFields, RecordHeader, SegmentFields, SegmentHeader,
    generation, record_bytes,
};
use mstream_pmem::{Hole, holes_in};
use zerocopy::IntoBytes;

/// CRC32C bit by bit (RFC 3720 appendix B.4: polynomial 0x1EDC6F41, reflected).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(mstream_pmem::format::crc32c(b"123456789"), 0xe306_9283);
}

/// The test vector of SipHash's authors (reference implementation, vectors_sip64) for 8 bytes: key 00, 01, ..,
/// input 00, 01, ..
#[test]
fn the_generation_is_siphash_of_the_sequence() {
    let secret = std::array::from_fn(|place| place as u8);
    assert_eq!(generation(&secret, 0x0706_0504_0302_0100), 0x93f5_f579_9a93_2462);
}

#[test]
fn segment_header() {
    let mut golden = bytes(
        "4d5354524d57414c 0100 8000 03000000
         000102030405060708090a0b0c0d0e0f
         0500000000000000 e803000000000000 07000000 efbeadde
         00000000 01 01 0000
         0000100000000000 0000010000000000 15cd5b0700000000
         f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
         b0b1b2b3b4b5b6b7b8b9babbbcbdbebf 00000000",
    );
    let check = crc32c(&golden);
    golden.extend(check.to_le_bytes());
    assert_eq!(golden.len(), 128);
    let log_id = std::array::from_fn(|place| place as u8);
    let boot_id = std::array::from_fn(|place| 0xf0 + place as u8);
    let header = SegmentHeader::new(&SegmentFields {
        shard: 3,
        log_id,
        sequence: 5,
        base_lsn: 1000,
        base_epoch: 7,
        base_chain: 0xdead_beef,
        level: 1,
        reason: OPENED_AT_START,
        segment_bytes: 1 << 20,
        window_bytes: 1 << 16,
        time: 123_456_789,
        boot_id,
        secret: std::array::from_fn(|place| 0xb0 + place as u8),
    });
    assert_eq!(header.as_bytes(), golden);
    assert_eq!(SegmentHeader::read(&golden), Some(header));
    assert_eq!(header.generation(), generation(&header.secret, 5));
    for place in 0..128 {
        let mut damaged = golden.clone();
        damaged[place] ^= 0x10;
        assert_eq!(SegmentHeader::read(&damaged), None, "byte {place}");
    }
}

/// A segment that records losses has another version and reason.
#[test]
fn segment_header_of_accepted_losses() {
    let mut golden = bytes(
        "4d5354524d57414c 0200 8000 00000000
         00000000000000000000000000000000
         0900000000000000 0100000000000000 03000000 00000000
         00000000 04 03 0000
         0000100000000000 0000010000000000 0000000000000000
         00000000000000000000000000000000
         00000000000000000000000000000000 00000000",
    );
    let check = crc32c(&golden);
    golden.extend(check.to_le_bytes());
    let header = SegmentHeader::new(&SegmentFields {
        shard: 0,
        log_id: [0; 16],
        sequence: 9,
        base_lsn: 1,
        base_epoch: 3,
        base_chain: 0,
        level: 4,
        reason: ACCEPTED,
        segment_bytes: 1 << 20,
        window_bytes: 1 << 16,
        time: 0,
        boot_id: [0; 16],
        secret: [0; 16],
    });
    assert_eq!(header.as_bytes(), golden);
    assert!(header.begins_anew());
}

#[test]
fn holes() {
    let block = bytes(
        "0700000000000000 c010000000000000 0012000000000000 2a00000000000000 2c00000000000000
         0800000000000000 0000000000000000 0010000000000000 6400000000000000 6400000000000000",
    );
    let hole = |segment: u64, from: u64, to: u64, lsn: u64, next_lsn: u64| Hole {
        segment: segment.into(),
        from: from.into(),
        to: to.into(),
        lsn: lsn.into(),
        next_lsn: next_lsn.into(),
    };
    let expected = [hole(7, 0x10c0, 0x1200, 42, 44), hole(8, 0, 4096, 100, 100)];
    assert_eq!(holes_in(&block).collect::<Vec<_>>(), expected);
    assert_eq!(expected.as_bytes(), block);
}

/// One record of each kind. Written by hand but for the checks, which the bitwise CRC gives.
#[test]
fn records_of_each_kind() {
    // number, kind, local, bytes 16-31 but the block crc, bytes 32-87
    let kinds = [
        (
            Kind::Data,
            false,
            "01 00 0300 04000000 09000000",
            "2a00000000000000 0b00000000000000 6400000000000000 1500000000000000 0200000000000000 0a00000000000000 e703000000000000",
        ),
        (
            Kind::Abort,
            false,
            "02 00 0000 04000000 09000000",
            "2a00000000000000 0b00000000000000 6400000000000000 1500000000000000 0200000000000000 0a00000000000000 e703000000000000",
        ),
        (
            Kind::EpochStart,
            false,
            "03 00 0000 00000000 09000000",
            "2a00000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 e703000000000000",
        ),
        (
            Kind::PublisherState,
            false,
            "04 00 0000 10000000 09000000",
            "2a00000000000000 0000000000000000 0000000000000000 1500000000000000 0200000000000000 0000000000000000 e703000000000000",
        ),
        (
            Kind::PublisherState,
            true,
            "04 00 0000 10000000 09000000",
            "2a00000000000000 0000000000000000 0000000000000000 1500000000000000 0200000000000000 0000000000000000 e703000000000000",
        ),
        (
            Kind::StreamState,
            true,
            "05 00 0000 00000000 09000000",
            "2a00000000000000 0b00000000000000 6400000000000000 1500000000000000 0200000000000000 0a00000000000000 e703000000000000",
        ),
        (
            Kind::Roll,
            true,
            "06 00 0000 00000000 09000000",
            "2a00000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 e703000000000000",
        ),
        (
            Kind::Pad,
            true,
            "07 00 0000 20000000 09000000",
            "2a00000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 e703000000000000",
        ),
        (
            Kind::Hint,
            true,
            "08 00 0000 00000000 09000000",
            "2a00000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 e703000000000000",
        ),
        (
            Kind::Hole,
            true,
            "09 00 0000 28000000 09000000",
            "2a00000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 e703000000000000",
        ),
    ];
    let previous: u32 = 0x0403_0201;
    for (number, (kind, local, sizes, numbers)) in kinds.into_iter().enumerate() {
        let block = vec![0x5a; u32::from_le_bytes(bytes(sizes)[4..8].try_into().unwrap()) as usize];
        let mut shared = bytes(sizes);
        shared.extend(crc32c(&block).to_le_bytes());
        shared.extend(bytes(numbers));
        assert_eq!(shared.len(), 72);
        let chained = [previous.to_le_bytes().as_slice(), &shared].concat();
        let chain = if local { previous } else { crc32c(&chained) };
        let first = bytes(if local { "5253 01 01 44332211" } else { "5253 01 00 44332211" });
        let mut rest = bytes("88776655");
        rest.extend(&shared);
        rest.extend(chain.to_le_bytes());
        rest.extend(bytes("00000000"));
        let check = crc32c(&[first.as_slice(), &rest].concat());
        let golden = [first.as_slice(), &check.to_le_bytes(), &rest].concat();
        assert_eq!(golden.len(), 96);

        let read = RecordHeader::read(&golden).expect("a record");
        assert_eq!((read.kind, read.local), (kind as u8, u8::from(local)), "kind {number}");
        assert_eq!(Kind::from_number(read.kind), Some(kind));
        assert_eq!(read.chain_after(previous), chain);
        let written = RecordHeader::new(
            &RecordFields {
                kind,
                local,
                generation: read.generation(),
                count: read.count.get(),
                block_bytes: read.block_bytes.get(),
                epoch: read.epoch.get(),
                block_crc: read.block_crc.get(),
                lsn: read.lsn.get(),
                stream: read.stream.get(),
                offset: read.offset.get(),
                publisher: read.publisher.get(),
                incarnation: read.incarnation.get(),
                sequence: read.sequence.get(),
                time: read.time.get(),
            },
            previous,
        );
        assert_eq!(written.as_bytes(), golden, "{kind:?}");
        assert_eq!(read.generation(), 0x5566_7788_1122_3344);
        assert_eq!((read.epoch.get(), read.lsn.get()), (9, 42));
        assert_eq!(read.time.get(), 999);
        for place in 0..96 {
            let mut damaged = golden.clone();
            damaged[place] ^= 1;
            assert!(RecordHeader::read(&damaged).is_none(), "{kind:?} byte {place}");
        }
    }
    assert_eq!([record_bytes(0), record_bytes(32), record_bytes(33)], [128, 128, 192]);
}
