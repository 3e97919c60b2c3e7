//! A cold segment's bytes, written by hand from docs/cold-format.md.

mod common;

use common::cold::{LOG, record, segment};
use mstream_pmem::cold::{ColdStore, Keep, SimDisk};
use mstream_pmem::format::crc32c;
use mstream_pmem::region::Level;
use zerocopy::IntoBytes;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// With the CRC32C of `covered` behind them.
fn checked(mut bytes: Vec<u8>, covered: &[&[u8]]) -> Vec<u8> {
    bytes.extend(crc32c(&covered.concat()).to_le_bytes());
    bytes
}

#[test]
fn a_cold_segment() {
    // Two batches of stream 0x0b with a loss between them, one of stream 0x0a; in the log in another order.
    let blocks: [&[u8]; 3] = [&[0x5a; 8], &[0x5b; 9], &[0x5c; 1]];
    let headers = [
        record(5, 0x0b, (0x31, 0x64, 3), (7, 0x1000), blocks[0]),
        record(5, 0x0b, (0x32, 0x70, 1), (7, 0x1001), blocks[1]),
        record(5, 0x0a, (0x33, 0, 2), (8, 0x1002), blocks[2]),
    ];
    let batches: Vec<_> = headers.into_iter().zip(blocks).collect();
    let (hot, end) = segment(5, 0x31, &batches);
    let disk = SimDisk::new(Level::MediaSync);
    let mut store = ColdStore::open(disk, LOG, 3).expect("an empty directory");
    store.copy(5, &hot, end, &|_| Some(Keep::default())).expect("copied");
    let mut disk = store.into_disk();

    let log_id: String = LOG.iter().map(|byte| format!("{byte:02x}")).collect();
    let head = bytes(&format!(
        "4d535452434f4c44 0100 4000 03000000 {log_id} 0500000000000000 0500000000000000 03 0000000000000000000000"
    ));
    let header = checked(head.clone(), &[&head]);
    assert_eq!(header.len(), 64);
    // 104, 104 and 112 bytes: sorted by stream and offset.
    let chunks: [Vec<u8>; 3] = [
        [headers[2].as_bytes(), blocks[2], &[0; 7]].concat(),
        [headers[0].as_bytes(), blocks[0]].concat(),
        [headers[1].as_bytes(), blocks[1], &[0; 7]].concat(),
    ];
    let entry = |number: u64, stream: u64, before: &str, epoch: &str| {
        let chunk = crc32c(&chunks[number as usize]).to_le_bytes();
        let entry = [bytes(before), chunk.to_vec(), bytes(epoch)].concat();
        checked(entry.clone(), &[&stream.to_le_bytes(), &number.to_le_bytes(), &entry])
    };
    let table = [
        entry(
            0,
            0x0a,
            "0000000000000000 0200000000000000 0210000000000000 4000000000000000 68000000",
            "08000000",
        ),
        entry(
            1,
            0x0b,
            "6400000000000000 6700000000000000 0010000000000000 a800000000000000 68000000",
            "07000000",
        ),
        entry(
            2,
            0x0b,
            "7000000000000000 7100000000000000 0110000000000000 1001000000000000 70000000",
            "07000000",
        ),
    ]
    .concat();
    assert_eq!(table.len(), 3 * 48);
    let extents = bytes(
        "0a00000000000000 0000000000000000 0000000000000000 0200000000000000 6800000000000000 0000000000000000
         0210000000000000 0210000000000000 01000000 01000000 08000000 08000000
         0b00000000000000 6400000000000000 6400000000000000 6700000000000000 6800000000000000 0100000000000000
         0010000000000000 0010000000000000 01000000 01000000 07000000 07000000
         0b00000000000000 7000000000000000 7000000000000000 7100000000000000 7000000000000000 0200000000000000
         0110000000000000 0110000000000000 01000000 01000000 07000000 07000000",
    );
    assert_eq!(extents.len(), 3 * 80);
    // The table begins at 64 + 104 + 104 + 112 = 0x180, the extents at 0x210.
    let end = [
        bytes("4d53545243454e44 8001000000000000 0300000000000000 1002000000000000 0300000000000000 3300000000000000"),
        crc32c(&extents).to_le_bytes().to_vec(),
        bytes("0000000000000000"),
    ]
    .concat();
    let footer = checked(end.clone(), &[&head, &end]);
    assert_eq!(footer.len(), 64);
    let golden = [header, chunks.concat(), table, extents, footer].concat();
    assert_eq!(disk.bytes_mut("00000005-00000005.cold"), Some(&mut golden.clone()));

    // Every bit of what is read at a start is covered by some check.
    for place in (0..64).chain(0x210..golden.len()) {
        disk.bytes_mut("00000005-00000005.cold").expect("there")[place] ^= 0x10;
        assert!(ColdStore::open(disk.clone(), LOG, 3).is_err(), "byte {place}");
        disk.bytes_mut("00000005-00000005.cold").expect("there")[place] ^= 0x10;
    }
}
