//! Every crash image of a three-record burst, under an honest policy of acknowledging and under a dishonest one.

mod common;

use common::{History, Random, check_recovered, config};
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::Wal;

const SLOTS: [u32; 4] = [0, 1, 2, 3];

/// Appends three records behind one that is durable, and returns region, history and what `acknowledge` says.
fn burst(acknowledge: fn(&mut Wal<SimRegion>) -> u64) -> (SimRegion, History, u64) {
    let region = SimRegion::new(4, 8192, 1);
    let (mut wal, _) = Wal::open(region, &SLOTS, config(5)).expect("a new log");
    let mut history = History::default();
    let mut random = Random(1);
    history.append(&mut wal, &mut random, 50).expect("room");
    wal.barrier();
    while wal.persisted() < wal.appended() {}
    for bytes in [8, 32, 40] {
        history.append(&mut wal, &mut random, bytes).expect("room");
    }
    let acknowledged = acknowledge(&mut wal);
    (wal.into_region(), history, acknowledged)
}

/// How many crash images break a promise, and the first one's complaint.
fn violations(region: &SimRegion, history: &History, acknowledged: u64) -> (u64, u64, String) {
    let (mut broken, mut first) = (0, String::new());
    let images = region.each_crash_image(|image| {
        let mut prefix = history.clone();
        let (mut wal, report) = Wal::open(image, &SLOTS, config(6)).expect("no image is a fault");
        let mut found = check_recovered(&mut wal, &mut prefix, acknowledged);
        if found.is_ok() {
            // Once more, from what the first recovery left.
            let lsn = wal.appended();
            let again = wal.into_region().after_power_cut();
            let (mut wal, second) = Wal::open(again, &SLOTS, config(6)).expect("no fault");
            assert_eq!((second.records, second.messages), (report.records, report.messages));
            assert!(wal.appended() >= lsn, "the second recovery went back");
            found = prefix.check(&mut wal);
        }
        if let Err(complaint) = found {
            broken += 1;
            first = if first.is_empty() { complaint } else { std::mem::take(&mut first) };
        }
    });
    (images, broken, first)
}

#[test]
fn an_ack_behind_the_fence_is_kept_in_every_image() {
    let (mut region, history, acknowledged) = burst(|wal| wal.persisted());
    assert_eq!(acknowledged, history.batches[1].lsn, "the burst itself is not acknowledged yet");
    let (images, broken, first) = violations(&region, &history, acknowledged);
    assert!(images > 100_000, "{images} images");
    assert_eq!(broken, 0, "{first}");
    // Behind the completed barrier one image is left, and it holds everything.
    region.barrier();
    region.completed();
    region.completed();
    let (images, broken, first) = violations(&region, &history, history.batches[3].lsn + 1);
    assert_eq!((images, broken), (1, 0), "{first}");
}

#[test]
fn an_ack_before_the_fence_is_caught() {
    let (region, history, acknowledged) = burst(|wal| wal.appended());
    let (images, broken, first) = violations(&region, &history, acknowledged);
    assert!(broken > 0 && broken < images, "{broken} of {images} images");
    assert!(first.contains("acknowledged"), "{first}");
}

#[test]
fn an_ack_when_the_barrier_was_issued_but_is_not_complete_is_caught() {
    let (region, history, acknowledged) = burst(|wal| {
        wal.barrier();
        wal.appended()
    });
    assert!(violations(&region, &history, acknowledged).1 > 0);
}
