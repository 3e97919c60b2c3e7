//! Any bytes in and behind segment headers: recovery never panics, what it gives was stored, in order and without a gap, and is
//! no less than what stands before the first byte that changed; recovering twice gives the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mstream_pmem::accept::accept_loss;
use mstream_pmem::format::{SEGMENT_DATA_AT, record_bytes};
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{AppendData, TableLimits, Wal, WalConfig};

const SLOTS: u32 = 6;
const SLOT_BYTES: u64 = 16 * 1024;

fn config(new_log_id: u8) -> WalConfig {
    WalConfig {
        shard: 0,
        new_log_id: [new_log_id; 16],
        new_secret: [0x5e; 16],
        boot_id: [1; 16],
        tables: TableLimits { streams: 4, publications: 8, publishers: 4 },
        ready_segments: 1,
        time_ns: 1,
    }
}

/// A damaged log is read without a store, at least this many messages; once its loss was accepted it opens with what was
/// read.
fn damaged(region: &SimRegion, slots: &[u32], least: u64) {
    let Ok((wal, report)) = Wal::open_even_damaged(region.after_kill(), slots, config(6)) else {
        return;
    };
    assert!(wal.fault().is_some() && (least..=20).contains(&report.messages));
    assert_eq!(wal.region().bytes(0, 1024), region.bytes(0, 1024));
    if let Ok((damages, region)) = accept_loss(region.after_kill(), slots, config(7)) {
        assert_eq!(damages, report.damages);
        let (_, after) = Wal::open(region.after_kill(), slots, config(8)).expect("accepted");
        assert_eq!(after.messages, report.messages);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let slots: Vec<u32> = (0..SLOTS).collect();
    let region = SimRegion::new(SLOTS, SLOT_BYTES, 0);
    let Ok((mut wal, _)) = Wal::open(region, &slots, config(5)) else {
        panic!("an empty log opens")
    };
    let stream = wal.open_stream(1).expect("room");
    let publication = wal.open_publication(2, stream).expect("room");
    let mut ends = Vec::new();
    for n in 0..20u8 {
        let block = [n; 200];
        let data = AppendData {
            stream,
            publication,
            incarnation: 1,
            count: 1,
            block_crc: mstream_wire::crc32c(&block),
            time_ns: u64::from(n),
            block: &block,
        };
        let at = wal.append_data(&data).expect("room").at;
        ends.push(at.address() + record_bytes(block.len()));
    }
    wal.barrier();
    // Each three bytes of input damage one byte: place, place, value.
    let mut region = wal.into_region().after_kill();
    let before = region.bytes(0, SLOT_BYTES as usize).to_vec();
    for change in bytes.chunks_exact(3) {
        let at = (u64::from(change[0]) << 8 | u64::from(change[1])) % (SLOT_BYTES * 2);
        region.store(at, &change[2..]);
    }
    let mut pairs = before.iter().zip(region.bytes(0, SLOT_BYTES as usize));
    let changed = pairs.position(|(before, now)| before != now).unwrap_or(usize::MAX) as u64;
    // Without its header nothing of a segment need be found.
    let whole = changed >= SEGMENT_DATA_AT;
    let least = ends.iter().filter(|end| whole && **end <= changed).count() as u64;
    let once = Wal::open(region.after_kill(), &slots, config(6));
    let again = Wal::open(region.after_kill(), &slots, config(6));
    match (once, again) {
        (Ok((wal, report)), Ok((_, same))) => {
            assert_eq!(report, same);
            assert!((least..=20).contains(&report.messages), "{} of {least}", report.messages);
            if let Some(slot) = wal.stream_slot(1) {
                let state = *wal.stream(slot);
                for offset in state.earliest_offset..state.next_offset {
                    let found = wal.lookup(slot, offset, 0).and_then(|(_, at)| wal.record(at));
                    let block = found.expect("no gap in what is held").block;
                    assert_eq!(block, [offset as u8; 200], "offset {offset} as it was stored");
                }
            }
            let (_, third) =
                Wal::open(wal.into_region().after_kill(), &slots, config(6)).expect("sound");
            assert_eq!((third.records, third.messages), (report.records, report.messages));
        }
        (Err(_), Err(_)) => damaged(&region, &slots, least),
        _ => panic!("the same bytes were recovered differently"),
    }
});
