//! What a slot holds: its header, and how far its records are valid. Changes nothing.

use crate::format::{
    Kind, LINE, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_DATA_AT, SEGMENT_HEADER_AT,
    SEGMENT_HEADER_BYTES, SegmentHeader, crc32c, record_bytes,
};
use crate::planted::{Bug, planted};
use crate::recovery::RecoveryError;
use crate::region::Region;

/// A segment as found.
pub(crate) struct Found {
    pub(crate) slot: u32,
    pub(crate) header: SegmentHeader,
    pub(crate) scan: Scan,
}

/// How far a segment's records are valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan {
    pub(crate) end: u64,
    pub(crate) lsn: u64,
    pub(crate) chain: u32,
    pub(crate) epoch: u32,
    pub(crate) time: u64,
    pub(crate) rolled: bool,
}

pub(crate) fn base<R: Region>(region: &R, slot: u32) -> u64 {
    u64::from(slot) * region.slot_bytes()
}

/// The newer of the valid header copies.
pub(crate) fn read_header<R: Region>(region: &R, slot: u32) -> Option<SegmentHeader> {
    SEGMENT_HEADER_AT
        .into_iter()
        .filter_map(|copy| {
            SegmentHeader::read(region.bytes(base(region, slot) + copy, SEGMENT_HEADER_BYTES))
        })
        .max_by_key(|header| header.sequence.get())
}

pub(crate) fn check_header<R: Region>(
    region: &R,
    slot: u32,
    header: &SegmentHeader,
    shard: u32,
) -> Result<(), RecoveryError> {
    let what = if header.version.get() != 1 {
        format!("format version {} (this program reads 1)", header.version.get())
    } else if header.shard.get() != shard {
        format!("it belongs to shard {}, not {shard}", header.shard.get())
    } else if header.segment_bytes.get() != region.slot_bytes() {
        format!(
            "it was made for segments of {} bytes, not {}",
            header.segment_bytes.get(),
            region.slot_bytes()
        )
    } else {
        return Ok(());
    };
    Err(RecoveryError::Foreign { slot, what })
}

/// The record at `address` if it follows (`lsn`, `chain`, `epoch`) in a segment of this generation.
fn follows<'a, R: Region>(
    region: &'a R,
    address: u64,
    end: u64,
    generation: u64,
    scan: &Scan,
) -> Option<&'a RecordHeader> {
    if address + RECORD_HEADER_BYTES as u64 > end {
        return None;
    }
    let header = RecordHeader::read(region.bytes(address, RECORD_HEADER_BYTES))?;
    let bytes = header.block_bytes.get() as usize;
    let fits = (header.generation() == generation || planted(Bug::GenerationUnchecked))
        && header.lsn.get() == scan.lsn
        && header.epoch.get() >= scan.epoch
        && header.time.get() >= scan.time
        && (header.chain.get() == header.chain_after(scan.chain) || planted(Bug::ChainUnchecked))
        && Kind::from_number(header.kind).is_some()
        && (header.kind == Kind::Data as u8) == (header.count.get() > 0)
        && address + record_bytes(bytes) <= end;
    let sound = fits
        && (crc32c(region.bytes(address + RECORD_HEADER_BYTES as u64, bytes))
            == header.block_crc.get()
            || planted(Bug::BlockUnchecked));
    sound.then_some(header)
}

/// Walks a segment's valid records.
pub(crate) fn scan<R: Region>(region: &R, slot: u32, header: &SegmentHeader) -> Scan {
    let base = base(region, slot);
    let end = base + region.slot_bytes();
    let mut scan = Scan {
        end: base + SEGMENT_DATA_AT,
        lsn: header.base_lsn.get(),
        chain: header.base_chain.get(),
        epoch: if planted(Bug::EpochOfRecordsOnly) { 0 } else { header.base_epoch.get() },
        time: header.time.get(),
        rolled: false,
    };
    let generation = header.generation();
    while let Some(record) = follows(region, scan.end, end, generation, &scan) {
        scan.end += record_bytes(record.block_bytes.get() as usize);
        scan.chain = record.chain.get();
        scan.lsn += u64::from(record.local & 1 == 0);
        scan.epoch = record.epoch.get();
        scan.time = record.time.get();
        if record.kind == Kind::Roll as u8 {
            scan.rolled = true;
            break;
        }
    }
    scan
}

/// True when something was written behind the valid records.
pub(crate) fn torn<R: Region>(region: &R, segment: &Found) -> bool {
    let behind = segment.scan.end;
    let room = base(region, segment.slot) + region.slot_bytes() - behind;
    let generation = segment.header.generation() as u32;
    room >= LINE && region.bytes(behind, LINE as usize)[4..8] == generation.to_le_bytes()
}

/// A valid record so far behind the first misfit that a barrier had covered what is damaged. Records from
/// lsn `cut` on are void and prove nothing.
pub(crate) fn fault<R: Region>(region: &R, segment: &Found, cut: u64) -> Option<RecoveryError> {
    if segment.scan.rolled || segment.scan.lsn >= cut {
        return None;
    }
    let generation = segment.header.generation();
    let start = base(region, segment.slot);
    let end = start + region.slot_bytes();
    let window = match () {
        () if planted(Bug::WindowTooSmall) => LINE,
        () if planted(Bug::WindowTooLarge) => u64::MAX,
        () => segment.header.window_bytes.get(),
    };
    let mut address = segment.scan.end.saturating_add(window);
    while address.saturating_add(RECORD_HEADER_BYTES as u64) <= end {
        if let Some(header) = RecordHeader::read(region.bytes(address, RECORD_HEADER_BYTES))
            && (header.generation() == generation || planted(Bug::GenerationUnchecked))
            && (segment.scan.lsn..cut).contains(&header.lsn.get())
        {
            let what = format!(
                "no valid record with lsn {}, but one with lsn {} at byte {}",
                segment.scan.lsn,
                header.lsn.get(),
                address - start
            );
            let at = segment.scan.end - start;
            return Some(RecoveryError::Fault { slot: segment.slot, at, what });
        }
        address += LINE;
    }
    None
}

/// Byte of the first record of `generation` (of any, if none is given) in a slot without a segment header.
pub(crate) fn headless<R: Region>(region: &R, slot: u32, generation: Option<u64>) -> Option<u64> {
    let mut at = SEGMENT_DATA_AT;
    while at + RECORD_HEADER_BYTES as u64 <= region.slot_bytes() {
        let bytes = region.bytes(base(region, slot) + at, RECORD_HEADER_BYTES);
        if let Some(record) = RecordHeader::read(bytes)
            && generation.is_none_or(|generation| record.generation() == generation)
        {
            return Some(at);
        }
        at += LINE;
    }
    None
}

/// True when a header copy holds anything but zeros.
pub(crate) fn written_copy<R: Region>(region: &R, slot: u32, copy: u64) -> bool {
    region.bytes(base(region, slot) + copy, SEGMENT_HEADER_BYTES).iter().any(|byte| *byte != 0)
}

/// Where a segment's records become void because a newer segment begins at lsn `cut`.
pub(crate) fn void_from<R: Region>(region: &R, segment: &Found, cut: u64) -> u64 {
    if segment.scan.lsn <= cut {
        return segment.scan.end;
    }
    let mut address = base(region, segment.slot) + SEGMENT_DATA_AT;
    while address < segment.scan.end {
        let Some(header) = RecordHeader::read(region.bytes(address, RECORD_HEADER_BYTES)) else {
            break;
        };
        if header.lsn.get() >= cut {
            break;
        }
        address += record_bytes(header.block_bytes.get() as usize);
    }
    address
}
