//! Logs on staged regions over a disk that can lose power, fail and lie; the sync thread's work is done step by step,
//! at moments that a seed picks.

mod common;

use common::by_hand::{Hand, SLOT_BYTES, Tally, WINDOW, blank, check_image, open, play, steps};
use common::disk::{Disk, Fault};
use common::{History, Random};
use mstream_pmem::region::{Level, Region};
use mstream_pmem::staged::StagedRegion;
use mstream_pmem::wal::{AppendError, Wal};
use mstream_pmem::{Failed, Poison};

#[test]
fn what_is_acknowledged_survives_power_cuts_and_kills() {
    let mut sum = Tally::default();
    for seed in 0..60 {
        let tally = play(seed, |_| {}).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        sum.images += tally.images;
        sum.acknowledged += tally.acknowledged;
    }
    assert!(sum.images > 1_000 && sum.acknowledged > 5_000, "{sum:?}");
}

/// The worlds above can tell: a disk that does not sync is found out.
#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let found =
        (0..20).filter(|seed| play(*seed, |disk| disk.spoil_syncs(1, Fault::Lies)).is_err());
    assert!(found.count() > 10);
}

/// A log with a few records, all of them acknowledged.
fn started() -> (Wal<StagedRegion>, Hand, Disk, History, Random) {
    let disk = Disk::new(blank(), SLOT_BYTES);
    let (wal, hand) = open(&disk, &blank(), 0);
    let (mut wal, mut history, mut random) = (wal.expect("new"), History::default(), Random(1));
    history.started(&wal);
    for _ in 0..3 {
        history.append(&mut wal, &mut random, 200).expect("room");
    }
    wal.barrier();
    steps(&hand, 99);
    assert_eq!(wal.persisted(), wal.appended());
    assert_eq!(wal.level(), Level::MediaSync);
    (wal, hand, disk, history, random)
}

#[test]
fn barriers_complete_together_after_one_sync_and_not_before() {
    let (mut wal, hand, disk, mut history, mut random) = started();
    let before = wal.persisted();
    let (writes, syncs) = disk.calls();
    for _ in 0..5 {
        history.append(&mut wal, &mut random, 100).expect("room");
        wal.barrier();
        assert_eq!(wal.persisted(), before);
    }
    steps(&hand, 1);
    assert_eq!(disk.calls(), (writes + 1, syncs), "one write of all five");
    assert_eq!(wal.persisted(), before, "written is not synced");
    history.append(&mut wal, &mut random, 100).expect("room");
    wal.barrier();
    steps(&hand, 1);
    assert_eq!(disk.calls(), (writes + 1, syncs + 1));
    assert_eq!(wal.persisted(), before, "not told yet");
    steps(&hand, 1);
    assert_eq!(wal.persisted(), before + 5, "what came behind the round's begin waits");
    steps(&hand, 3);
    assert_eq!(disk.calls(), (writes + 2, syncs + 2));
    assert_eq!(wal.persisted(), before + 6);
}

#[test]
fn no_more_than_the_window_waits() {
    let (mut wal, hand, _, mut history, mut random) = started();
    let mut waiting = 0;
    let refused = loop {
        match history.append(&mut wal, &mut random, 160) {
            Ok(_) => waiting += 256,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, AppendError::Window);
    assert!(waiting <= WINDOW && waiting + 256 > WINDOW, "{waiting}");
    steps(&hand, 99);
    history.append(&mut wal, &mut random, 160).expect("room again");
}

/// What follows a failure: nothing is acknowledged or taken any more, whatever the disk says later; what was
/// acknowledged can be read, and is there after the next start.
fn poisoned(spoil: impl Fn(&Disk), expected: Failed, errno: i32) {
    let (mut wal, hand, disk, mut history, mut random) = started();
    let before = wal.persisted();
    spoil(&disk);
    history.append(&mut wal, &mut random, 300).expect("room");
    wal.barrier();
    steps(&hand, 99);
    assert_eq!(wal.persisted(), before);
    let poison = wal.poison().expect("it is known");
    assert_eq!(poison, Poison { failed: expected, slot: 0, errno });
    disk.mend();
    let calls = disk.calls();
    for _ in 0..10 {
        let refused = history.append(&mut wal, &mut random, 100);
        assert_eq!(refused, Err(AppendError::Poisoned(poison)));
        wal.barrier();
        wal.housekeep(100);
        steps(&hand, 99);
    }
    assert_eq!((wal.persisted(), disk.calls()), (before, calls), "nothing is tried again");
    let text = wal.region().poison().expect("poisoned").to_string();
    assert!(text.contains("segment 00000000.seg failed"), "{text}");
    history.check(&mut wal).expect("all that was taken can be read");
    for image in [disk.after_kill(), disk.after_power_cut(&mut random)] {
        check_image(image, &history, before).expect("what was acknowledged is there");
    }
}

#[test]
fn a_failed_write_poisons_the_log() {
    let next = |disk: &Disk| disk.calls().0 + 1;
    poisoned(|disk| disk.spoil_writes(next(disk), Fault::Fails(28)), Failed::Write, 28);
}

#[test]
fn a_failed_sync_poisons_the_log() {
    let next = |disk: &Disk| disk.calls().1 + 1;
    poisoned(|disk| disk.spoil_syncs(next(disk), Fault::Fails(5)), Failed::Sync, 5);
}

#[test]
fn a_write_that_takes_nothing_poisons_the_log() {
    poisoned(|disk| disk.shorten(0), Failed::Write, 0);
}

#[test]
fn an_interrupted_write_is_tried_again() {
    let (mut wal, hand, disk, mut history, mut random) = started();
    let (writes, _) = disk.calls();
    disk.spoil_writes(writes + 1, Fault::Fails(4));
    history.append(&mut wal, &mut random, 300).expect("room");
    wal.barrier();
    steps(&hand, 5);
    assert_eq!(disk.calls().0, writes + 5);
    disk.mend();
    steps(&hand, 99);
    assert_eq!((wal.persisted(), wal.poison()), (wal.appended(), None));
}

/// Every write and sync of a start, and of a history that rolls and recycles, fails once.
#[test]
fn wherever_a_disk_fails_what_was_acknowledged_stays() {
    let mut poisoned = 0;
    for number in 1..150 {
        for sync in [false, true] {
            let spoil = |disk: &Disk| match sync {
                true => disk.spoil_syncs(number, Fault::Fails(5)),
                false => disk.spoil_writes(number, Fault::Fails(28)),
            };
            let disk = Disk::new(blank(), SLOT_BYTES);
            spoil(&disk);
            let (wal, hand) = open(&disk, &blank(), 0);
            let Ok(mut wal) = wal else {
                assert!(number < 25, "only a start's own calls let it fail");
                continue;
            };
            let (mut history, mut random) = (History::default(), Random(number));
            history.started(&wal);
            let mut acknowledged = 0;
            for _ in 0..300 {
                // Refused by the window, or for good.
                let _ = history.append(&mut wal, &mut random, 700);
                wal.barrier();
                steps(&hand, 9);
                acknowledged = wal.persisted();
                wal.housekeep(8);
            }
            poisoned += u64::from(wal.poison().is_some());
            let image = disk.after_power_cut(&mut random);
            check_image(image, &history, acknowledged)
                .unwrap_or_else(|what| panic!("call {number}, sync {sync}: {what}"));
        }
    }
    assert!(poisoned > 200, "{poisoned}");
}
