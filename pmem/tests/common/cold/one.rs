//! Cold segments of one stream.

use mstream_pmem::cold::{ColdDisk, ColdError, ColdStore, Keep};
use mstream_pmem::format::RecordHeader;

use super::{LOG, block, record, segment_of};

pub const STREAM: u64 = 9;

pub fn keep_all(_: u64) -> Option<Keep> {
    Some(Keep::default())
}

/// A hot segment of a log with so many batches of one message of `STREAM`, from `offset` on.
pub fn hot(log_id: [u8; 16], sequence: u64, offset: u64, batches: u64) -> (Vec<u8>, u64) {
    let batch = |number: u64| {
        let keys = [vec![number as u8; 3]];
        let block = block(&keys, 900, number as u8);
        let place = (offset + number + 1, offset + number, 1);
        (record(sequence, STREAM, place, (1, 1_000 + offset + number), &block), block)
    };
    let batches: Vec<(RecordHeader, Vec<u8>)> = (0..batches).map(batch).collect();
    let borrowed: Vec<(RecordHeader, &[u8])> =
        batches.iter().map(|(header, block)| (*header, &block[..])).collect();
    segment_of(log_id, sequence, offset + 1, &borrowed)
}

/// Copies such a segment of `LOG`.
pub fn copy<D: ColdDisk>(
    store: &mut ColdStore<D>,
    sequence: u64,
    offset: u64,
    batches: u64,
) -> Result<(), ColdError> {
    copy_of(LOG, store, sequence, offset, batches)
}

/// Copies such a segment of any log.
pub fn copy_of<D: ColdDisk>(
    log_id: [u8; 16],
    store: &mut ColdStore<D>,
    sequence: u64,
    offset: u64,
    batches: u64,
) -> Result<(), ColdError> {
    let (bytes, end) = hot(log_id, sequence, offset, batches);
    store.copy(sequence, &bytes, end, &keep_all)
}
