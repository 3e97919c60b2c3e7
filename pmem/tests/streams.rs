//! Streams that are given up: while the log runs, over restarts, and while a start finds their records.

mod common;

use common::{Random, append_one, config};
use mstream_pmem::format::{Kind, LINE, RECORD_HEADER_BYTES, RecordHeader};
use mstream_pmem::region::{Level, Region};
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{AppendError, TableLimits, Wal, WalConfig};

const SEGMENT: u64 = 64 * 1024;
const SLOTS: u32 = 12;
const TABLES: TableLimits = TableLimits { streams: 3, publications: 6, publishers: 3 };

fn all() -> Vec<u32> {
    (0..SLOTS).collect()
}

fn settings(tables: TableLimits) -> WalConfig {
    WalConfig { tables, ..config(0) }
}

fn new_log(tables: TableLimits) -> Wal<SimRegion> {
    Wal::open(SimRegion::new(SLOTS, SEGMENT, 0), &all(), settings(tables)).expect("a new log").0
}

/// Ends the process and opens what it leaves behind.
fn reopen(wal: Wal<SimRegion>, tables: TableLimits) -> Wal<SimRegion> {
    Wal::open(wal.into_region().after_kill(), &all(), settings(tables)).expect("sound").0
}

/// As [`append_one`], and recycles a little.
fn append<R: Region>(
    wal: &mut Wal<R>,
    stream: u64,
    publisher: u64,
    bytes: usize,
) -> Result<u64, AppendError> {
    let appended = append_one(wal, stream, publisher, bytes);
    wal.housekeep(4);
    appended
}

#[test]
fn a_slot_that_was_given_up_is_a_new_stream() {
    let mut wal = new_log(TABLES);
    for n in 0..50 {
        for stream in [1, 2, 3] {
            assert_eq!(append(&mut wal, stream, 70 + stream % 2, 100), Ok(n));
        }
    }
    assert!(matches!(wal.open_stream(4), Err(full) if full.table == "streams" && full.limit == 3));
    let gone = wal.stream_slot(2).expect("known");
    // 50 records, a publication and the end itself.
    let mut calls = 1;
    while !wal.give_up_stream(gone, 10) {
        calls += 1;
    }
    assert_eq!(calls, 6);
    assert!(wal.stream_slot(2).is_none());
    assert_eq!(wal.open_stream(4), Ok(gone));
    assert_eq!(append(&mut wal, 4, 70, 100), Ok(0), "offsets and sequences begin anew");
    let publication = wal.open_publication(70, gone).expect("known");
    assert_eq!(wal.publication(publication).sequence, 1);
    assert_eq!(append(&mut wal, 1, 71, 100), Ok(50), "the others go on");
    // Around the log many times: what the records of stream 2 said is not said again.
    for _ in 0..20_000 {
        append(&mut wal, 4, 70, 100).expect("room");
    }
    let mut wal = reopen(wal, TABLES);
    assert!(wal.stream_slot(2).is_none(), "its last record is gone");
    assert_eq!(wal.keep_streams(|id| [1, 3, 4].contains(&id)), Ok(0));
    assert_eq!(append(&mut wal, 1, 71, 100), Ok(51));
    assert_eq!(append(&mut wal, 4, 70, 100), Ok(20_001));
}

#[test]
fn a_start_finds_more_than_the_tables_hold_and_keeps_what_the_catalogue_names() {
    let mut wal = new_log(TABLES);
    // Each stream is given up before the next one comes, and its records are still there.
    for id in 1..=20 {
        for publisher in 70..72 {
            append(&mut wal, id, publisher, 100).expect("room");
        }
        let slot = wal.stream_slot(id).expect("known");
        if id < 19 {
            assert!(wal.give_up_stream(slot, 10));
        }
    }
    let mut wal = reopen(wal, TABLES);
    assert!(wal.stream_slot(1).is_some(), "the catalogue did not speak yet");
    assert_eq!(wal.stream_slots(), 20);
    let found = wal.keep_streams(|id| id >= 17);
    assert!(matches!(found, Err(full) if full.table == "streams"), "{found:?}");
    assert_eq!(wal.keep_streams(|id| id >= 19), Ok(2));
    assert!(wal.stream_slot(18).is_none());
    assert_eq!(append(&mut wal, 19, 70, 100), Ok(2));
    let publications: Vec<u64> = (70..73)
        .map(|publisher| {
            let stream = wal.stream_slot(20).expect("kept");
            let slot = wal.open_publication(publisher, stream).expect("room");
            wal.publication(slot).sequence
        })
        .collect();
    assert_eq!(publications, [1, 1, 0]);
    assert_eq!(append(&mut wal, 21, 70, 100), Ok(0), "there is room for one more");
    assert!(wal.open_stream(22).is_err(), "and not for two");
    // And around the log, with the slots that the records of the dead were found in.
    for _ in 0..5_000 {
        append(&mut wal, 21, 70, 500).expect("room");
    }
    let mut wal = reopen(wal, TABLES);
    assert_eq!(wal.keep_streams(|id| id >= 19), Ok(0));
    assert_eq!(append(&mut wal, 20, 71, 100), Ok(2));
}

#[test]
fn records_that_were_let_go_are_not_found_and_come_back_with_a_restart() {
    let mut wal = new_log(TABLES);
    for _ in 0..20 {
        append(&mut wal, 1, 70, 100).expect("room");
    }
    let slot = wal.stream_slot(1).expect("known");
    // 96 + 100 bytes take four lines.
    assert_eq!(wal.stream(slot).held_bytes(), 20 * 256);
    for n in 0..19 {
        assert_eq!(wal.oldest(slot).map(|(offset, _)| offset), Some(n));
        wal.drop_oldest(slot);
        assert_eq!(wal.stream(slot).earliest_offset, n + 1);
        assert!(wal.lookup(slot, n, 0).is_none());
        assert!(wal.lookup(slot, n + 1, n).is_some());
    }
    assert_eq!(wal.stream(slot).held_bytes(), 256);
    wal.drop_oldest(slot);
    wal.drop_oldest(slot);
    assert!(wal.oldest(slot).is_none());
    assert_eq!((wal.stream(slot).earliest_offset, wal.stream(slot).held_bytes()), (20, 0));
    let mut wal = reopen(wal, TABLES);
    let slot = wal.stream_slot(1).expect("known");
    assert_eq!((wal.stream(slot).earliest_offset, wal.stream(slot).held_bytes()), (0, 20 * 256));
    for _ in 0..20 {
        wal.drop_oldest(slot);
    }
    for n in 20..2_000 {
        assert_eq!(append(&mut wal, 1, 70, 100), Ok(n));
    }
    let held = wal.stream(slot).held_bytes();
    assert!(held > 3 * SEGMENT && held < u64::from(SLOTS) * SEGMENT, "{held}");
}

#[test]
fn a_stream_goes_on_behind_what_is_held_of_it_elsewhere() {
    let mut wal = new_log(TABLES);
    for n in 0..20 {
        assert_eq!(append(&mut wal, 1, 70, 100), Ok(n));
    }
    assert_eq!(wal.go_on_behind(1, 20), Ok(false), "it says as much");
    assert_eq!(wal.go_on_behind(2, 500), Ok(true), "nothing was known of it");
    let mut wal = reopen(wal, TABLES);
    assert_eq!(wal.go_on_behind(2, 500), Ok(false), "it was written down");
    let state = wal.stream_by_id(2).expect("known");
    assert_eq!((state.earliest_offset, state.next_offset), (500, 500));
    assert_eq!(append(&mut wal, 2, 70, 100), Ok(500));
    // Around the log many times: it is said again.
    for n in 20..20_000 {
        assert_eq!(append(&mut wal, 1, 70, 100), Ok(n));
    }
    let mut wal = reopen(wal, TABLES);
    let state = wal.stream_by_id(2).expect("known");
    assert_eq!((state.earliest_offset, state.next_offset), (501, 501));
    assert_eq!(append(&mut wal, 2, 71, 100), Ok(501));
    let full = wal.go_on_behind(3, 7).and_then(|_| wal.go_on_behind(4, 7));
    assert!(matches!(full, Err(AppendError::TableFull(full)) if full.table == "streams"));
    assert!(wal.stream_slot(4).is_none());
}

/// A reboot of a `process` log takes what was said again of a stream's end, and not what of a publisher in it.
#[test]
fn what_a_publisher_stored_lies_below_the_end_of_its_stream() {
    let tables = TABLES;
    let region = SimRegion::new(SLOTS, SEGMENT, 0).with_level(Level::Process);
    let mut wal = Wal::open(region, &all(), settings(tables)).expect("a new log").0;
    for n in 0..20 {
        assert_eq!(append(&mut wal, 2, 71, 100), Ok(n));
    }
    while wal.stream_by_id(2).is_some_and(|state| state.earliest_offset < 20) {
        append(&mut wal, 1, 70, 100).expect("room");
    }
    // Until nothing is left of its records.
    let ready = wal.slots_ready();
    while wal.slots_ready() <= ready {
        wal.barrier();
        wal.persisted();
        wal.housekeep(4);
    }
    let mut region = wal.into_region().after_kill();
    let ends = |at: &u64| {
        let room = RECORD_HEADER_BYTES.min((SEGMENT - at % SEGMENT) as usize);
        RecordHeader::read(region.bytes(*at, room)).is_some_and(|record| {
            (record.kind, record.stream.get(), record.publisher.get())
                == (Kind::StreamState as u8, 2, 0)
        })
    };
    let end = (0..u64::from(SLOTS) * SEGMENT).step_by(LINE as usize).find(ends).expect("said");
    region.damage(end, &vec![0; (SEGMENT - end % SEGMENT) as usize]);
    let rebooted = WalConfig { boot_id: [8; 16], ..settings(tables) };
    let (mut wal, report) = Wal::open(region, &all(), rebooted).expect("a prefix");
    assert!(report.possible_loss);
    let state = wal.stream_by_id(2).expect("a publisher stored in it");
    assert_eq!((state.earliest_offset, state.next_offset), (20, 20));
    assert_eq!(append(&mut wal, 2, 71, 100), Ok(20));
    // Around the log many times: it is said again.
    for _ in 0..20_000 {
        append(&mut wal, 1, 72, 100).expect("room");
    }
    let mut wal = Wal::open(wal.into_region().after_kill(), &all(), rebooted).expect("sound").0;
    let stream = wal.open_stream(2).expect("known");
    let publication = wal.open_publication(71, stream).expect("known");
    let publication = wal.publication(publication);
    assert_eq!((publication.sequence, publication.offset), (21, 21));
    assert_eq!(wal.stream(stream).next_offset, 21);
}

/// Far more streams than the arena has leaves for: data is refused and recycling makes room, for good.
#[test]
fn an_index_that_is_used_up_is_back_pressure() {
    let streams = 300_000;
    let tables = TableLimits { streams, publications: streams, publishers: 1 };
    let segments = tables.least_segments(1 << 20, 1) + 8;
    let slots: Vec<u32> = (0..segments).collect();
    let region = SimRegion::new(segments, 1 << 20, 0);
    let (mut wal, _) = Wal::open(region, &slots, settings(tables)).expect("a new log");
    let mut random = Random(3);
    let (mut refused, mut next) = (0, vec![0; streams]);
    for _ in 0..600_000 {
        let stream = 1 + random.below(streams as u64);
        match append(&mut wal, stream, 70, 8) {
            Ok(offset) => {
                assert_eq!(offset, next[stream as usize - 1]);
                next[stream as usize - 1] += 1;
            }
            Err(AppendError::Full) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    let stored: u64 = next.iter().sum();
    assert!(stored > 400_000, "{refused} refused: {wal:?}");
    let ready = tables.reserve_segments(1 << 20) + 1;
    assert!(wal.slots_ready() > ready, "segments are not what runs short");
    let held = |id| wal.stream_by_id(id).map_or(0, |state| state.earliest_offset);
    assert!((1..=streams as u64).any(|id| held(id) > 0), "the oldest were recycled all the same");
    let (mut wal, _) =
        Wal::open(wal.into_region().after_kill(), &slots, settings(tables)).expect("sound");
    assert_eq!(wal.keep_streams(|_| true), Ok(0));
    for (id, next) in (1..).zip(next) {
        let known = wal.stream_slot(id).map_or(0, |slot| wal.stream(slot).next_offset);
        assert_eq!(known, next, "stream {id}");
    }
}

#[test]
fn a_million_streams_are_affordable() {
    let few = TableLimits { streams: 1, publications: 64, publishers: 4 };
    let many = TableLimits { streams: 1_000_000, ..few };
    let bytes = |tables: &TableLimits| tables.table_bytes() + tables.index_bytes(64, 64 << 20);
    let each = (bytes(&many) - bytes(&few)) / 1_000_000;
    assert!(each <= 120, "{each} bytes for a stream without records");
}
