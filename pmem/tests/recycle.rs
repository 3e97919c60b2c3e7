//! Recycling where it could stop for good: few segments, a full disk, a damaged record.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use common::{History, Random, TABLES, config, dir_config, open_whole};
use mstream_pmem::format::{SEGMENT_DATA_AT, crc32c};
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{AppendData, AppendError, TableLimits, Wal, WalConfig};

const SEGMENT: u64 = 64 * 1024;
const SECOND_NS: u64 = 1_000_000_000;

/// Tries to append `tries` batches, each followed by a barrier and upkeep. How many were taken.
fn fill<R: Region>(
    wal: &mut Wal<R>,
    history: &mut History,
    random: &mut Random,
    tries: u64,
) -> u64 {
    let mut taken = 0;
    for _ in 0..tries {
        match history.append(wal, random, 1000) {
            Ok(_) => taken += 1,
            Err(AppendError::Full) => {}
            Err(other) => panic!("{other}"),
        }
        wal.barrier();
        wal.persisted();
        wal.housekeep(4);
    }
    taken
}

#[test]
fn the_least_number_of_segments_is_enough() {
    // Tables whose restated state takes more than two segments.
    let tables = TableLimits { streams: 400, publications: 400, publishers: 400 };
    let config = WalConfig { tables, ..config(0) };
    let least = tables.least_segments(SEGMENT, config.ready_segments);
    assert_eq!(tables.reserve_segments(SEGMENT), 2 + 3);
    assert_eq!(least, 5 + 3 + 1 + 2);
    let slots: Vec<u32> = (0..least).collect();
    let (mut wal, _) = Wal::open(SimRegion::new(least, SEGMENT, 0), &slots, config).expect("new");
    let (mut history, mut random) = (History::default(), Random(1));
    // All tables but what the history itself uses are full of states to be kept.
    for id in 100..491 {
        let stream = wal.open_stream(id).expect("room");
        let publication = wal.open_publication(id, stream).expect("room in the table");
        let nonce = [id as u8; 16];
        wal.append_life(id, 1, &nonce, 0).expect("room in the log");
        let data = AppendData {
            stream,
            publication,
            incarnation: 1,
            count: 7,
            block_crc: crc32c(&nonce),
            time_ns: 0,
            block: &nonce,
        };
        wal.append_data(&data).expect("room in the log");
        wal.barrier();
        wal.persisted();
    }
    for _ in 0..20 {
        assert!(fill(&mut wal, &mut history, &mut random, 500) > 50, "{wal:?}");
    }
    history.check(&mut wal).expect("everything is there");
    let (mut wal, _) = Wal::open(wal.into_region().after_kill(), &slots, config).expect("sound");
    for id in 100..491 {
        assert_eq!(wal.life(id).map(|life| life.nonce), Some([id as u8; 16]));
        let stream = wal.open_stream(id).expect("known");
        assert_eq!(wal.stream(stream).next_offset, 7);
        let publication = wal.open_publication(id, stream).expect("known");
        assert_eq!(wal.publication(publication).sequence, 7);
    }
}

#[test]
fn a_log_that_cannot_grow_recycles_what_there_is() {
    let made: Vec<u32> = (0..6).collect();
    let (mut wal, _) = Wal::open(SimRegion::new(9, SEGMENT, 0), &made, config(0)).expect("new");
    let (mut history, mut random) = (History::default(), Random(2));
    let earliest = |wal: &Wal<SimRegion>| wal.stream_by_id(11).expect("known").earliest_offset;
    fill(&mut wal, &mut history, &mut random, 1000);
    assert_eq!(fill(&mut wal, &mut history, &mut random, 10), 0, "slots are waited for");
    wal.set_moment(SECOND_NS);
    assert_eq!(fill(&mut wal, &mut history, &mut random, 10), 0, "still");
    // The calendar's clock may jump as it likes.
    history.time += 3600 * SECOND_NS;
    assert_eq!(fill(&mut wal, &mut history, &mut random, 10), 0, "no more time has passed");
    assert_eq!(earliest(&wal), 0, "nothing was given up yet");
    assert!(wal.slots_wanted() > 0);
    history.time -= 3000 * SECOND_NS;
    wal.set_moment(2 * SECOND_NS);
    assert!(fill(&mut wal, &mut history, &mut random, 1000) > 500, "{wal:?}");
    assert!(earliest(&wal) > 0);
    history.check(&mut wal).expect("what was kept is right");
    // There is room on the disk again: the slots that come are used before anything is given up.
    assert!(wal.slots_wanted() > 0, "slots are wanted all the time");
    let before = earliest(&wal);
    for slot in 6..8 {
        wal.add_ready(slot);
    }
    let one_segment = SEGMENT / 1152 - 5;
    assert_eq!(fill(&mut wal, &mut history, &mut random, one_segment), one_segment);
    assert_eq!(earliest(&wal), before);
    let made: Vec<u32> = (0..8).collect();
    let (mut wal, _) =
        Wal::open(wal.into_region().after_kill(), &made, config(history.time)).expect("sound");
    history.check(&mut wal).expect("what was kept is there");
}

#[test]
fn a_damaged_record_is_told_and_not_wiped() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
    let (region, slots, _) = open_whole(dir_config(dir.path(), SEGMENT, 6)).expect("a directory");
    let (mut wal, _) = Wal::open(region, &slots, config(0)).expect("new");
    let (mut history, mut random) = (History::default(), Random(3));
    fill(&mut wal, &mut history, &mut random, 20);
    // The records of segments that a start found are read when they are recycled.
    let (mut wal, _) = Wal::open(wal.into_region(), &slots, config(history.time)).expect("sound");
    // Behind the start's own record of two lines and two batches.
    let at = SEGMENT_DATA_AT + 128 + 2 * 1152;
    let file = File::options().read(true).write(true).open(dir.path().join("00000000.seg"));
    let file = file.expect("the first segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at + 50).expect("inside");
    file.write_at(&[byte[0] ^ 1], at + 50).expect("inside");
    fill(&mut wal, &mut history, &mut random, 1000);
    assert_eq!(wal.unreadable(), Some(at));
    assert_eq!(fill(&mut wal, &mut history, &mut random, 10), 0, "nothing is recycled");
    file.write_at(&byte, at + 50).expect("inside");
    assert!(fill(&mut wal, &mut history, &mut random, 1000) > 500);
    assert_eq!(wal.unreadable(), None);
    history.check(&mut wal).expect("everything is there");
}

#[test]
fn a_publisher_too_many_is_not_back_pressure() {
    let slots: Vec<u32> = (0..4).collect();
    let (mut wal, _) = Wal::open(SimRegion::new(4, SEGMENT, 0), &slots, config(0)).expect("new");
    for id in 0..TABLES.publishers as u64 {
        wal.append_life(id, 1, &[1; 16], 0).expect("room");
    }
    let refused = wal.append_life(99, 1, &[1; 16], 0);
    assert!(matches!(refused, Err(AppendError::TableFull(_))), "{refused:?}");
    wal.append_life(0, 2, &[2; 16], 0).expect("a new life of a known publisher");
}
