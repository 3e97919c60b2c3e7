//! Starts behind power cuts and kills: they do not use up the log, and what they rely on is durable.

mod common;

use std::sync::atomic::Ordering;

use common::oracle::slots;
use common::world::act;
use common::{History, Random, check_recovered, config};
use mstream_pmem::format::SEGMENT_DATA_AT;
use mstream_pmem::region::{Level, Region};
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{Wal, WalConfig};

const SLOTS: u32 = 8;
const SLOT_BYTES: u64 = 16 * 1024;

/// Opens an image and checks it; the log goes on where `history` was cut.
fn reopen<R: Region>(region: R, history: &mut History, acknowledged: u64, context: &str) -> Wal<R> {
    let slots = slots(&region);
    let (mut wal, _) = Wal::open(region, &slots, config(history.time))
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    check_recovered(&mut wal, history, acknowledged)
        .unwrap_or_else(|complaint| panic!("{context}: {complaint}"));
    wal
}

/// Steps of one life; what was acknowledged at its end.
fn live<R: Region>(
    wal: &mut Wal<R>,
    history: &mut History,
    random: &mut Random,
    steps: u64,
) -> u64 {
    let mut acknowledged = wal.persisted();
    for _ in 0..steps {
        acknowledged = acknowledged.max(act(wal, history, random));
    }
    acknowledged.max(wal.persisted())
}

#[test]
fn starts_in_a_row_do_not_use_up_the_log() {
    let mut history = History::default();
    let mut random = Random(8);
    let mut wal = reopen(SimRegion::new(SLOTS, SLOT_BYTES, 0), &mut history, 0, "new");
    let mut acknowledged = live(&mut wal, &mut history, &mut random, 3_000);
    let mut region = wal.into_region();
    for start in 0..40 {
        let wal =
            reopen(region.after_kill(), &mut history, acknowledged, &format!("start {start}"));
        acknowledged = wal.appended() - 1;
        region = wal.into_region();
    }
    let mut wal = reopen(region, &mut history, acknowledged, "last");
    let before = history.batches.len();
    live(&mut wal, &mut history, &mut random, 500);
    assert!(history.batches.len() > before + 100, "the log takes data again");
}

/// After a kill the next start sees the newest segment, whose header a power cut could still take back.
#[test]
fn what_a_start_relied_on_is_durable() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut history = History::default();
        let mut wal = reopen(SimRegion::new(SLOTS, SLOT_BYTES, 3), &mut history, 0, "new");
        let steps = 1_000 + random.below(300);
        let acknowledged = live(&mut wal, &mut history, &mut random, steps);
        let context = format!("seed {seed}");
        let mut wal = reopen(wal.into_region(), &mut history, acknowledged, &context);
        // Recovered records are served and acknowledged at once.
        let acknowledged = wal.persisted();
        let cut = wal.into_region().after_power_cut();
        reopen(cut, &mut history, acknowledged, &context);
    }
}

/// A log at level `process`, and how it is opened after a reboot.
fn process_log() -> (SimRegion, WalConfig) {
    let region = SimRegion::new(SLOTS, SLOT_BYTES, 0).with_level(Level::Process);
    let mut history = History::default();
    let mut wal = reopen(region, &mut history, 0, "new");
    live(&mut wal, &mut history, &mut Random(2), 300);
    let time_ns = 2_000_000_000_000;
    let rebooted = WalConfig { boot_id: [8; 16], new_log_id: [9; 16], time_ns, ..config(0) };
    (wal.into_region(), rebooted)
}

#[test]
fn a_reboot_that_takes_every_header_begins_a_new_log() {
    let (mut region, rebooted) = process_log();
    let slots = slots(&region);
    for slot in &slots {
        region.damage(u64::from(*slot) * SLOT_BYTES, &[0; SEGMENT_DATA_AT as usize]);
    }
    let elsewhere = Wal::open(region.clone().with_level(Level::Pmem), &slots, rebooted);
    assert!(elsewhere.is_err(), "a log that a reboot cannot harm was damaged");
    let (wal, report) = Wal::open(region, &slots, rebooted).expect("nothing is left to be sound");
    assert!(report.possible_loss && report.new_log);
    assert_eq!(wal.log_id(), [9; 16]);
}

#[test]
fn an_epoch_that_a_reboot_took_is_not_used_again() {
    let (region, rebooted) = process_log();
    let slots = slots(&region);
    let (wal, report) = Wal::open(region.after_power_cut(), &slots, rebooted).expect("a prefix");
    assert!(report.possible_loss);
    assert_eq!(wal.epoch(), 2001, "behind every start that there can have been in 2000 s");
    let again = wal.into_region().after_kill();
    assert_eq!(Wal::open(again, &slots, rebooted).expect("sound").0.epoch(), 2002);
}

#[test]
fn power_can_be_lost_before_any_operation() {
    let mut region = SimRegion::new(1, 4096, 0);
    region.cut_in(2);
    region.store(0, &[1; 8]);
    region.flush(0, 8);
    assert!(!region.is_cut());
    assert!(region.take_cut().is_none(), "only two operations were done");
    region.cut_in(1);
    let off = region.off();
    region.store(0, &[2; 8]);
    region.store(0, &[3; 8]);
    region.store(0, &[4; 8]);
    assert!(region.is_cut() && off.load(Ordering::Relaxed), "whoever looks sees it at once");
    let cut = region.take_cut().expect("it was lost before the second store");
    assert!(!region.is_cut() && !cut.is_cut());
    assert_eq!(cut.after_kill().bytes(0, 8), [2; 8]);
    assert_eq!(region.bytes(0, 8), [4; 8], "the region itself goes on");
    region.cut_in(0);
    region.sync(0, 8).expect("it cannot fail");
    let cut = region.take_cut().expect("it was lost before the sync");
    assert!(!cut.is_durable(0, 8) && region.is_durable(0, 8));
}

#[test]
fn a_kill_leaves_every_store_visible_and_none_more_durable() {
    let mut region = SimRegion::new(1, 4096, 1);
    region.stream(0, &[1; 64]);
    region.barrier();
    region.completed();
    region.completed();
    region.stream(64, &[2; 64]);
    region.barrier();
    let mut left = region.killed();
    assert_eq!(left.bytes(0, 128), region.bytes(0, 128));
    assert!(left.is_durable(0, 64), "its barrier was complete");
    let own = left.barrier();
    (0..3).for_each(|_| assert!(left.completed() <= own));
    assert_eq!(left.completed(), own, "the next process's barriers are its own");
    assert!(!left.is_durable(64, 64), "neither the old barrier nor a new one covers it");
    assert_eq!(left.after_power_cut().bytes(64, 64), [0; 64]);
    left.sync(64, 64).expect("it cannot fail");
    assert!(left.is_durable(64, 64));
}

#[test]
fn a_kill_takes_what_was_not_written_to_files_by_then() {
    let mut region = SimRegion::new(1, 4096, 1).with_level(Level::MediaSync);
    for word in 0..64 {
        region.store(word * 8, &[7; 8]);
    }
    let mut random = Random(1);
    let left = region.killed_while_writing(|| random.next());
    let words =
        |region: &SimRegion| region.bytes(0, 512).iter().filter(|byte| **byte == 7).count() / 8;
    assert!((1..64).contains(&words(&left)), "a part is there: {}", words(&left));
    assert_eq!(left.pending(), words(&left), "and none of it is durable");
    assert_eq!(words(&left.after_power_cut()), 0);
}

#[test]
fn nothing_is_durable_while_barriers_hang() {
    let mut region = SimRegion::new(1, 4096, 0);
    region.hang(true);
    region.stream(64, &[1; 64]);
    let barrier = region.barrier();
    for _ in 0..10 {
        assert!(region.completed() < barrier);
        assert!(!region.is_durable(100, 8), "a word of the line is pending");
        assert!(region.is_durable(128, 8), "the next line was not touched");
    }
    region.hang(false);
    assert_eq!(region.completed(), barrier);
    assert!(region.is_durable(64, 64));
}
