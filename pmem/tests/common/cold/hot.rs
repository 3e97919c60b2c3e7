//! Hot segments, laid out by hand.

use mstream_pmem::format::{
    Kind, OPENED_AT_START, RecordFields, RecordHeader, SEGMENT_DATA_AT, SegmentFields,
    SegmentHeader, crc32c, record_bytes,
};
use mstream_pmem::region::Level;
use mstream_wire::BlockWriter;
use zerocopy::IntoBytes;

use super::{Batch, LOG, SECRET, SHARD};

/// A sealed hot segment.
#[derive(Clone, Debug)]
pub struct Hot {
    pub sequence: u64,
    pub bytes: Vec<u8>,
    pub end: u64,
    pub(super) batches: Vec<Batch>,
    pub(super) base_lsn: u64,
}

/// Lays a hot segment of `LOG` out.
pub fn segment(sequence: u64, base_lsn: u64, batches: &[(RecordHeader, &[u8])]) -> (Vec<u8>, u64) {
    segment_of(LOG, sequence, base_lsn, batches)
}

/// Lays a hot segment of any log out.
pub fn segment_of(
    log_id: [u8; 16],
    sequence: u64,
    base_lsn: u64,
    batches: &[(RecordHeader, &[u8])],
) -> (Vec<u8>, u64) {
    let room: u64 = batches.iter().map(|(_, block)| record_bytes(block.len())).sum();
    let mut bytes = vec![0; (SEGMENT_DATA_AT + room) as usize + 4096];
    let header = SegmentHeader::new(&SegmentFields {
        shard: SHARD,
        log_id,
        sequence,
        base_lsn,
        base_epoch: 1,
        base_chain: 0,
        level: Level::Process as u8,
        reason: OPENED_AT_START,
        segment_bytes: bytes.len() as u64,
        window_bytes: 65_536,
        time: 0,
        boot_id: [0; 16],
        secret: SECRET,
    });
    bytes[..128].copy_from_slice(header.as_bytes());
    bytes[512..640].copy_from_slice(header.as_bytes());
    let mut at = SEGMENT_DATA_AT as usize;
    for (record, block) in batches {
        bytes[at..at + 96].copy_from_slice(record.as_bytes());
        bytes[at + 96..at + 96 + block.len()].copy_from_slice(block);
        at += record_bytes(block.len()) as usize;
    }
    (bytes, at as u64)
}

/// A data record's header.
pub fn record(
    sequence: u64,
    stream: u64,
    (lsn, offset, count): (u64, u64, u16),
    (epoch, time): (u32, u64),
    block: &[u8],
) -> RecordHeader {
    let fields = RecordFields {
        kind: Kind::Data,
        local: false,
        generation: mstream_pmem::format::generation(&SECRET, sequence),
        count,
        block_bytes: block.len() as u32,
        epoch,
        block_crc: crc32c(block),
        lsn,
        stream,
        offset,
        publisher: 5,
        incarnation: 1,
        sequence: lsn,
        time,
    };
    RecordHeader::new(&fields, 0)
}

/// A block of messages with these keys, each with so many bytes of payload.
pub fn block(keys: &[Vec<u8>], payload: usize, fill: u8) -> Vec<u8> {
    let mut room = vec![0; keys.len() * (payload + 300)];
    let mut writer = BlockWriter::at(&mut room, 0);
    let mut length = 0;
    for key in keys {
        length = writer.push(key, b"", &vec![fill; payload]).expect("it fits");
    }
    room.truncate(length);
    room
}
