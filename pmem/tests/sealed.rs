//! Sealed segments are lent once each, with all their records, and not recycled while somebody reads them.

mod common;

use common::{History, Random, config, dir_config, open_whole};
use mstream_pmem::format::Kind;
use mstream_pmem::region::Region;
use mstream_pmem::sealed::Sealed;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{AppendError, Wal};

const SEGMENT: u64 = 64 * 1024;

/// Appends `count` batches of 1000 bytes, as far as there is room.
fn fill<R: Region>(
    wal: &mut Wal<R>,
    history: &mut History,
    random: &mut Random,
    count: u64,
) -> u64 {
    let (mut taken, mut tried) = (0, 0);
    while tried < count {
        match history.append(wal, random, 1000) {
            Ok(_) => (taken, tried) = (taken + 1, tried + 1),
            Err(AppendError::Full) => tried += 1,
            Err(AppendError::Window) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
        wal.barrier();
        wal.persisted();
        wal.housekeep(4);
    }
    taken
}

/// Lsns of a segment's data and start records, which are all that this log has.
fn lsns(sealed: &Sealed) -> Vec<u64> {
    let logical = sealed.records().filter(|(_, header, _)| header.local & 1 == 0);
    logical.map(|(_, header, _)| header.lsn.get()).collect()
}

fn check_all<R: Region>(wal: &mut Wal<R>, lent: impl IntoIterator<Item = u64>) -> u64 {
    let mut next = None;
    for sequence in lent {
        let sealed = wal.next_sealed().expect("one more");
        assert_eq!(sealed.sequence(), sequence);
        let (first, behind) = (sealed.first_lsn(), sealed.next_lsn());
        assert!(next.is_none_or(|next| next == first), "no lsn between two segments");
        assert_eq!(lsns(&sealed), (first..behind).collect::<Vec<_>>());
        let (at, header, _) = sealed.records().last().expect("not empty");
        assert!(at + 128 == sealed.end() || header.kind != Kind::Roll as u8);
        assert!(sealed.records().all(|(_, header, _)| header.generation() == sealed.generation()));
        assert!(!sealed.is_lost());
        next = Some(behind);
        wal.give_back(sealed);
    }
    assert!(wal.next_sealed().is_none() && !wal.has_sealed());
    next.unwrap_or(0)
}

fn each_is_lent_once<R: Region>(open: impl Fn(Option<R>) -> Wal<R>) {
    let (mut history, mut random) = (History::default(), Random(1));
    let mut wal = open(None);
    assert!(!wal.has_sealed() && wal.next_sealed().is_none(), "the newest is not sealed");
    while wal.slots_ready() > 8 {
        fill(&mut wal, &mut history, &mut random, 1);
    }
    let behind = check_all(&mut wal, 1..=3);
    assert!(behind + 1 >= wal.appended() - 5 && behind < wal.appended());
    let mut wal = open(Some(wal.into_region()));
    // Also the one that was being written to.
    assert_eq!(check_all(&mut wal, 1..=4), wal.appended() - 1);
    fill(&mut wal, &mut history, &mut random, 60);
    check_all(&mut wal, [5]);
    history.check(&mut wal).expect("everything is there");
}

#[test]
fn in_a_region_that_copies() {
    let slots: Vec<u32> = (0..12).collect();
    each_is_lent_once(|region: Option<SimRegion>| {
        let region = region.map(|region| region.after_kill());
        let region = region.unwrap_or_else(|| SimRegion::new(12, SEGMENT, 0));
        Wal::open(region, &slots, config(0)).expect("sound").0
    });
}

#[test]
fn in_files() {
    for parent in ["/dev/shm", env!("CARGO_TARGET_TMPDIR")] {
        let dir = tempfile::tempdir_in(parent).expect("a directory");
        each_is_lent_once(|region| {
            drop(region);
            let opened = open_whole(dir_config(dir.path(), SEGMENT, 12));
            let (region, slots, _) = opened.expect("a directory");
            Wal::open(region, &slots, config(0)).expect("sound").0
        });
    }
}

#[test]
fn what_is_lent_is_not_recycled_and_what_is_recycled_is_not_lent() {
    let slots: Vec<u32> = (0..7).collect();
    let (mut wal, _) = Wal::open(SimRegion::new(7, SEGMENT, 0), &slots, config(0)).expect("new");
    let (mut history, mut random) = (History::default(), Random(2));
    while !wal.has_sealed() {
        fill(&mut wal, &mut history, &mut random, 1);
    }
    let lent = wal.next_sealed().expect("the first");
    let before = lsns(&lent);
    while fill(&mut wal, &mut history, &mut random, 100) > 0 {}
    assert_eq!(wal.stream_by_id(11).expect("known").earliest_offset, 0, "nothing is given up");
    assert_eq!(lsns(&lent), before);
    wal.give_back(lent);
    assert!(fill(&mut wal, &mut history, &mut random, 1000) > 500, "{wal:?}");
    assert!(wal.stream_by_id(11).expect("known").earliest_offset > 0);
    // Those in between are gone, and nobody hears of them.
    let next = wal.next_sealed().expect("some");
    assert!(next.sequence() > 10);
    assert_eq!(lsns(&next).len() as u64, next.next_lsn() - next.first_lsn());
    wal.give_back(next);
    history.check(&mut wal).expect("what was kept is right");
}

#[test]
fn a_segment_outlives_its_log() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
    let opened = open_whole(dir_config(dir.path(), SEGMENT, 8)).expect("a directory");
    let (region, slots, preparer) = opened;
    let (mut wal, _) = Wal::open(region, &slots, config(0)).expect("new");
    let (mut history, mut random) = (History::default(), Random(3));
    fill(&mut wal, &mut history, &mut random, 60);
    let sealed = wal.next_sealed().expect("one");
    let before = lsns(&sealed);
    drop((wal, preparer));
    assert_eq!(lsns(&sealed), before);
    let mut other = Wal::open(SimRegion::new(8, SEGMENT, 0), &slots, config(0)).expect("new").0;
    other.give_back(sealed);
}

#[test]
fn a_log_that_holds_recycles_only_what_was_given_back() {
    let slots: Vec<u32> = (0..6).collect();
    let open = |region| Wal::open_holding(region, &slots, config(0), None).expect("sound").0;
    let mut wal = open(SimRegion::new(6, SEGMENT, 0));
    assert_eq!(wal.starts_behind(), (0, 1));
    let (mut history, mut random) = (History::default(), Random(4));
    while fill(&mut wal, &mut history, &mut random, 100) > 0 {}
    assert_eq!(wal.stream_by_id(11).expect("known").earliest_offset, 0, "nobody was lent any");
    // A start that finds too few free segments waits for its caller.
    let mut starts = 0;
    while !wal.is_short_of_segments() {
        let before = wal.appended();
        wal = open(wal.into_region().after_kill());
        assert_eq!(wal.starts_behind().1, before, "the log goes on");
        starts += 1;
        assert!(starts < 6, "{wal:?}");
    }
    wal.refill_reserve();
    assert!(wal.is_short_of_segments(), "all are held");
    let mut lent = 0;
    while wal.is_short_of_segments() {
        let sealed = wal.next_sealed().expect("one");
        lent += 1;
        assert_eq!(sealed.sequence(), lent);
        wal.give_back(sealed);
        wal.refill_reserve();
    }
    assert!(wal.stream_by_id(11).expect("known").earliest_offset > 0);
    // From then on it goes as fast as they are given back.
    let mut taken = 0;
    while taken < 500 {
        taken += fill(&mut wal, &mut history, &mut random, 10);
        let Some(sealed) = wal.next_sealed() else { continue };
        lent += 1;
        assert_eq!(sealed.sequence(), lent, "each in order");
        wal.give_back(sealed);
    }
    history.check(&mut wal).expect("what was kept is right");
}
