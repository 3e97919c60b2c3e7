//! Logs on staged regions over a disk that can lose power, fail and lie; the sync thread's work is done step by step,
//! at moments that a seed picks.

mod common;

use std::sync::{Arc, Mutex};

use common::disk::{Disk, Fault};
use common::{History, Random, check_recovered, config};
use mstream_pmem::region::{Level, Region};
use mstream_pmem::staged::{StagedRegion, Syncer};
use mstream_pmem::wal::{AppendError, Wal};
use mstream_pmem::{Failed, Poison};

const SLOTS: u32 = 8;
const SLOT_BYTES: u64 = 16 * 1024;
const WINDOW: u64 = 4096;

type Hand = Arc<Mutex<Syncer<Disk>>>;

/// Opens the log on `disk`, which holds `image`.
fn open(disk: &Disk, image: &[u8], time: u64) -> (Result<Wal<StagedRegion>, String>, Hand) {
    let (region, syncer) =
        StagedRegion::by_hand(SLOTS, image, WINDOW, disk.clone()).expect("memory");
    let hand = Arc::new(Mutex::new(syncer));
    let helper = Arc::clone(&hand);
    let region = region.waiting_by(move || {
        helper.lock().expect("sound").step();
    });
    let slots: Vec<u32> = (0..SLOTS).collect();
    let opened = Wal::open(region, &slots, config(time)).map_err(|error| error.to_string());
    (opened.map(|opened| opened.0), hand)
}

fn steps(hand: &Hand, most: u64) {
    for _ in 0..most {
        if !hand.lock().expect("sound").step() {
            return;
        }
    }
}

fn blank() -> Vec<u8> {
    vec![0; (u64::from(SLOTS) * SLOT_BYTES) as usize]
}

/// Recovers `image` and compares it with what was appended.
fn check_image(image: Vec<u8>, history: &History, acknowledged: u64) -> Result<(), String> {
    let disk = Disk::new(image.clone(), SLOT_BYTES);
    let (wal, _) = open(&disk, &image, history.time);
    check_recovered(&mut wal?, &mut history.clone(), acknowledged)
}

/// What became of a world.
#[derive(Debug, Default)]
struct Tally {
    images: u64,
    acknowledged: u64,
}

/// Several lives of a log, each ended by a power cut or a kill, with looks at what other ones would leave.
fn play(seed: u64, spoil: impl Fn(&Disk)) -> Result<Tally, String> {
    let mut random = Random(seed);
    let mut history = History::default();
    let (mut image, mut acknowledged, mut tally) = (blank(), 0, Tally::default());
    for life in 0..3 {
        let disk = Disk::new(image.clone(), SLOT_BYTES);
        spoil(&disk);
        if random.below(2) == 0 {
            disk.shorten(64 + random.below(700) as usize);
        }
        let (wal, hand) = open(&disk, &image, history.time);
        let mut wal = wal.map_err(|what| format!("life {life}: {what}"))?;
        check_recovered(&mut wal, &mut history, acknowledged)
            .map_err(|what| format!("life {life}: {what}"))?;
        history.started(&wal);
        // What was found is served at once.
        acknowledged = wal.appended() - 1;
        for action in 0..400 {
            match random.below(16) {
                0..6 => {
                    let bytes = random.below(900);
                    match history.append(&mut wal, &mut random, bytes) {
                        Ok(_) | Err(AppendError::Full | AppendError::Window) => {}
                        Err(other) => return Err(other.to_string()),
                    }
                }
                6..9 => wal.barrier(),
                9..13 => steps(&hand, random.below(9)),
                13 => history.live(&mut wal, &mut random),
                14 => acknowledged = acknowledged.max(wal.persisted()),
                _ => wal.housekeep(random.below(20) as usize),
            }
            if random.below(12) == 0 {
                tally.images += 1;
                check_image(disk.after_power_cut(&mut random), &history, acknowledged)
                    .map_err(|what| format!("life {life}, action {action}, power cut: {what}"))?;
                check_image(disk.after_kill(), &history, acknowledged)
                    .map_err(|what| format!("life {life}, action {action}, kill: {what}"))?;
            }
        }
        acknowledged = acknowledged.max(wal.persisted());
        tally.acknowledged = acknowledged;
        image = match random.below(2) {
            0 => disk.after_power_cut(&mut random),
            _ => disk.after_kill(),
        };
    }
    Ok(tally)
}

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
