//! Recycling by notes: what leaves the index with a segment, and what is counted as held, is what its records say.

mod common;

use common::{Random, append_one, config};
use mstream_pmem::format::record_bytes;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{AppendError, StreamSlot, TableLimits, Wal, WalConfig};

const SEGMENT: u64 = 64 * 1024;
const SLOTS: u32 = 24;

type Log = Wal<SimRegion>;

fn open(region: SimRegion, tables: TableLimits) -> Log {
    let slots: Vec<u32> = (0..SLOTS).collect();
    Wal::open(region, &slots, WalConfig { tables, ..config(0) }).expect("sound").0
}

/// Bytes of the records that a stream holds, as they are read.
fn read(wal: &Log, slot: StreamSlot) -> u64 {
    let state = *wal.stream(slot);
    (state.earliest_offset..state.next_offset)
        .map(|offset| {
            let (_, record) = wal.read(slot, offset, 0).expect("what is held can be read");
            record_bytes(record.block.len())
        })
        .sum()
}

/// Goes on for as long as a segment is being recycled.
fn settle(wal: &mut Log) {
    for _ in 0..8 {
        wal.housekeep(usize::MAX);
        wal.barrier();
        wal.persisted();
    }
}

/// Appends at random to `streams` streams and lets oldest records go, with little recycling at a time; then asks.
fn play(seed: u64, tables: TableLimits, streams: u64) {
    let mut random = Random(seed);
    let mut wal = open(SimRegion::new(SLOTS, SEGMENT, 0), tables);
    for round in 0..12 {
        for _ in 0..2_000 {
            let id = 1 + random.below(streams);
            let publisher = 1 + random.below(3);
            let bytes = 8 + random.below(1_000) as usize;
            let appended = append_one(&mut wal, id, publisher, bytes);
            // Now and then the log has no room yet.
            assert!(matches!(appended, Ok(_) | Err(AppendError::Full)), "{appended:?}");
            if let Some(slot) = wal.stream_slot(1 + random.below(streams))
                && random.below(4) == 0
            {
                for _ in 0..random.below(3) {
                    wal.drop_oldest(slot);
                }
            }
            wal.housekeep(random.below(4) as usize);
        }
        settle(&mut wal);
        for id in 1..=streams {
            let Some(slot) = wal.stream_slot(id) else { continue };
            let held = wal.stream(slot).held_bytes();
            assert_eq!(held, read(&wal, slot), "seed {seed}, round {round}, stream {id}");
        }
    }
    // What each publisher stored is known to the next start, wherever it was written last.
    let known = |wal: &mut Log| -> Vec<u64> {
        let pairs = (1..=streams).flat_map(|id| (1..=3).map(move |publisher| (id, publisher)));
        let sequence = |(id, publisher)| {
            let stream = wal.open_stream(id).expect("room");
            let publication = wal.open_publication(publisher, stream).expect("room");
            wal.publication(publication).sequence
        };
        pairs.map(sequence).collect()
    };
    let before = known(&mut wal);
    let mut wal = open(wal.into_region().after_kill(), tables);
    assert_eq!(known(&mut wal), before, "seed {seed}");
}

#[test]
fn what_is_counted_as_held_is_what_can_be_read() {
    let tables = TableLimits { streams: 4, publications: 12, publishers: 3 };
    (1..=4).for_each(|seed| play(seed, tables, 4));
}

#[test]
fn more_is_noted_than_there_is_room_for() {
    let tables = TableLimits { streams: 60, publications: 180, publishers: 3 };
    (1..=4).for_each(|seed| play(seed, tables, 60));
}
