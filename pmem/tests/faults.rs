//! Damaged logs opened as they are: what is sound is served, what is missing is named, nothing is stored; and losses that
//! an operator accepts.

mod common;

use std::collections::BTreeMap;

use common::oracle::slots;
use common::watch::{Seen, Watch};
use common::{History, PUBLISHERS, Random, STREAMS, config};
use mstream_pmem::Missing;
use mstream_pmem::accept::{AcceptError, accept_loss};
use mstream_pmem::format::{SEGMENT_DATA_AT, crc32c};
use mstream_pmem::inspect::examine;
use mstream_pmem::recovery::RecoveryError;
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{AppendError, Wal};

const SEGMENT: u64 = 64 * 1024;
const SLOTS: u32 = 16;
const WINDOW: u64 = 4 * 1024;

/// A sound log of three full segments and a part of a fourth, and what is in it.
fn sound() -> (SimRegion, History) {
    let region = SimRegion::new(SLOTS, SEGMENT, 0).with_window(WINDOW);
    let slots = slots(&region);
    let (mut wal, _) = Wal::open(region, &slots, config(0)).expect("a new log");
    let (mut history, mut random) = (History::default(), Random(42));
    history.live(&mut wal, &mut random);
    let mut written = 0;
    while written < SEGMENT * 35 / 10 {
        history.append(&mut wal, &mut random, 300).expect("room");
        written += 448;
        wal.barrier();
        wal.persisted();
    }
    (wal.into_region().after_kill(), history)
}

/// Byte of the region where a batch's block stands.
fn place(region: &SimRegion, history: &History, batch: usize) -> u64 {
    let bytes = region.whole();
    let block = &history.batches[batch].block;
    let at = (0..bytes.len()).step_by(32).find(|at| bytes[*at..].starts_with(block));
    at.expect("the batch is in the log") as u64
}

fn flip(region: &mut SimRegion, at: u64) {
    let byte = region.bytes(at, 1)[0] ^ 0x10;
    region.damage(at, &[byte]);
}

/// What is found of each stream from its earliest offset on: offset and checksum of each batch, and the holes between.
type Content = BTreeMap<u64, (Vec<(u64, u32)>, Vec<(u64, u64)>)>;

fn content<R: Region>(wal: &Wal<R>) -> Content {
    let mut content = Content::new();
    for id in STREAMS {
        let Some(slot) = wal.stream_slot(id) else { continue };
        let state = *wal.stream(slot);
        let (mut batches, mut holes) = (Vec::new(), Vec::new());
        let mut next = state.earliest_offset;
        while next < state.next_offset {
            if let Some((to, accepted)) = wal.hole(slot, next, 0) {
                assert_eq!(accepted, wal.fault().is_none());
                assert!(to > next, "a hole leads on");
                holes.push((next, to));
                next = to;
                continue;
            }
            let (_, at) = wal.lookup(slot, next, 0).expect("no hole, so a record");
            let record = wal.record(at).expect("it is one");
            batches.push((record.header.offset.get(), crc32c(record.block)));
            next = record.header.offset.get() + u64::from(record.header.count.get());
        }
        content.insert(id, (batches, holes));
    }
    content
}

/// What should be found of a history without some of its batches.
fn expected(history: &History, lost: impl Fn(usize) -> bool) -> Content {
    let mut content = Content::new();
    let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
    for (number, batch) in history.batches.iter().enumerate() {
        let (batches, holes) = content.entry(batch.stream).or_default();
        if lost(number) {
            continue;
        }
        let end = ends.entry(batch.stream).or_default();
        if *end < batch.offset && !batches.is_empty() {
            holes.push((*end, batch.offset));
        }
        *end = batch.offset + u64::from(batch.count);
        batches.push((batch.offset, crc32c(&batch.block)));
    }
    content
}

/// Opens a damaged log as a fault; nothing is stored. Returns what is found, with the fault's words and missing offsets.
fn faulty(region: &SimRegion) -> (Content, String, Vec<Missing>) {
    let seen = Seen::new(0, 0);
    let all = slots(region);
    let watched = Watch { inner: region.clone(), seen: seen.clone() };
    assert!(Wal::open(region.clone(), &all, config(9)).is_err(), "a damaged log is refused");
    let (mut wal, report) =
        Wal::open_even_damaged(watched, &all, config(9)).expect("what is sound");
    let fault = wal.fault().expect("a fault").clone();
    assert_eq!(fault.damages, report.damages);
    let looked = examine(region, &all, config(9).boot_id, &mut |_, _| {}).expect("it can be read");
    assert_eq!(looked.missing, fault.missing, "the tools and a start name the same");
    let found = content(&wal);
    let mut random = Random(1);
    let refused = History::default().append(&mut wal, &mut random, 10);
    assert_eq!(refused, Err(AppendError::Fault));
    assert!(matches!(wal.append_life(21, 99, &[1; 16], 0), Err(AppendError::Fault)));
    wal.housekeep(1000);
    wal.barrier();
    wal.persisted();
    assert_eq!(wal.slots_wanted(), 0);
    assert_eq!(seen.borrow().steps, 0, "a fault is not written to");
    (found, fault.to_string(), fault.missing)
}

/// Where segments were recycled a publisher's state may be all that is left of a stream, or of a part of it that is damaged.
#[test]
fn what_was_recycled_is_not_missing() {
    let mut faults = 0;
    for seed in 0..60 {
        let mut random = Random(seed);
        let region = SimRegion::new(8, 8 * 1024, 0);
        let all = slots(&region);
        let (mut wal, _) = Wal::open(region, &all, config(0)).expect("a new log");
        let mut history = History::default();
        for number in 0..600 {
            if number % 100 == 0 {
                history.favourite = Some((STREAMS[random.below(3) as usize], PUBLISHERS[0]));
            }
            let _ = history.append(&mut wal, &mut random, 100);
            wal.barrier();
            wal.persisted();
            wal.housekeep(4);
        }
        let mut region = wal.into_region().after_kill();
        let sound = examine(&region, &all, config(9).boot_id, &mut |_, _| {}).expect("sound");
        let begins: BTreeMap<u64, u64> =
            sound.streams.iter().map(|stream| (stream.id, stream.first)).collect();
        let at = random.below(8) * 8 * 1024 + SEGMENT_DATA_AT + random.below(2 * 1024);
        flip(&mut region, at);
        if Wal::open(region.clone(), &all, config(9)).is_ok() {
            continue;
        }
        faults += 1;
        let (_, _, missing) = faulty(&region);
        for missing in missing {
            let begin = begins[&missing.stream];
            assert!(missing.from >= begin, "seed {seed}: {missing:?}, the stream began at {begin}");
        }
    }
    assert!(faults > 10, "{faults}");
}

/// Accepts what is damaged and opens the log, twice; goes on with it until all old segments were recycled.
fn accepted(region: SimRegion, found: &Content) -> Wal<SimRegion> {
    let all = slots(&region);
    let (damages, region) = accept_loss(region, &all, config(10)).expect("accepted");
    assert!(!damages.is_empty());
    let (again, region) = accept_loss(region, &all, config(10)).expect("sound");
    assert_eq!(again, [], "what was accepted is not damage any more");
    // What accepting wrote was synced.
    let mut region = region.after_power_cut();
    for _ in 0..2 {
        let (wal, report) = Wal::open(region, &all, config(11)).expect("a sound log");
        assert_eq!((wal.fault(), report.damages.len()), (None, 0));
        assert_eq!(content(&wal), *found, "what the fault showed is what is kept");
        region = wal.into_region().after_power_cut();
    }
    let (wal, _) = Wal::open(region, &all, config(11)).expect("a sound log");
    wal
}

/// Goes on with a log until every old segment was taken again; it stays sound.
fn goes_on(mut wal: Wal<SimRegion>) {
    let mut random = Random(3);
    let mut history = History::default();
    for round in 0..4 * u64::from(SLOTS) * SEGMENT / 448 {
        // Refusals are back-pressure.
        let _ = history.append(&mut wal, &mut random, 300);
        wal.barrier();
        wal.persisted();
        wal.housekeep(8);
        assert_eq!(wal.unreadable(), None, "round {round}");
    }
    let region = wal.into_region().after_kill();
    let all = slots(&region);
    let (wal, report) = Wal::open(region, &all, config(12)).expect("sound");
    assert_eq!(report.missing, [], "the holes are gone with their segments");
    for slot in STREAMS.iter().filter_map(|id| wal.stream_slot(*id)) {
        assert!(wal.stream(slot).earliest_offset > 0);
    }
}

#[test]
fn damaged_records_cost_themselves_alone() {
    let (region, history) = sound();
    // In a rolled segment, several of them, and in the newest one.
    for lost in [vec![5], vec![9, 10, 11], vec![40, 200, 203], vec![history.batches.len() - 30]] {
        let mut damaged = region.clone();
        for batch in &lost {
            let at = place(&region, &history, *batch);
            flip(&mut damaged, at + 7);
        }
        let (found, words, missing) = faulty(&damaged);
        let expected = expected(&history, |batch| lost.contains(&batch));
        assert_eq!(found, expected, "{lost:?}: {words}");
        for batch in &lost {
            let batch = &history.batches[*batch];
            let named = missing.iter().any(|missing| {
                missing.stream == batch.stream
                    && missing.from <= batch.offset
                    && missing.to >= batch.offset + u64::from(batch.count)
            });
            assert!(named, "{batch:?} is not among {missing:?}");
        }
        goes_on(accepted(damaged, &found));
    }
}

#[test]
fn the_end_of_a_rolled_segment_is_served_behind_a_damage() {
    let (region, history) = sound();
    let slot = |batch: usize| place(&region, &history, batch) / SEGMENT;
    let first = (0..history.batches.len()).find(|batch| slot(*batch) == 1).expect("rolled");
    let lost = first - 3;
    let mut damaged = region.clone();
    flip(&mut damaged, place(&region, &history, lost));
    let (found, ..) = faulty(&damaged);
    assert_eq!(found, expected(&history, |batch| batch == lost));
    goes_on(accepted(damaged, &found));
}

#[test]
fn a_roll_record_that_is_damaged_costs_nothing_else() {
    let (region, history) = sound();
    let slot = |batch: usize| place(&region, &history, batch) / SEGMENT;
    let first = (0..history.batches.len()).find(|batch| slot(*batch) == 1).expect("rolled");
    let roll = (place(&region, &history, first - 1) + 300).next_multiple_of(64);
    let mut damaged = region.clone();
    flip(&mut damaged, roll + 20);
    let (found, words, missing) = faulty(&damaged);
    assert!(words.contains("slot 0 byte") && missing.is_empty(), "{words} {missing:?}");
    assert_eq!(found, expected(&history, |_| false));
    goes_on(accepted(damaged, &found));
    // With a record shortly before it as well.
    let mut damaged = region.clone();
    flip(&mut damaged, roll + 20);
    flip(&mut damaged, place(&region, &history, first - 4));
    let (found, ..) = faulty(&damaged);
    assert_eq!(found, expected(&history, |batch| batch == first - 4));
    goes_on(accepted(damaged, &found));
}

#[test]
fn a_lost_header_costs_its_segment() {
    let (region, history) = sound();
    let slot_of = |batch: usize| place(&region, &history, batch) / SEGMENT;
    for slot in 0..4 {
        for wiped in [false, true] {
            let mut damaged = region.clone();
            match wiped {
                // Only the newest's absence shows by the records that it leaves; the oldest's not at all.
                true if slot == 0 => continue,
                true => damaged.damage(slot * SEGMENT, &[0; SEGMENT_DATA_AT as usize]),
                false => [9, 512 + 9].iter().for_each(|at| flip(&mut damaged, slot * SEGMENT + at)),
            }
            let (found, words, _) = faulty(&damaged);
            let kept = expected(&history, |batch| slot_of(batch) == slot);
            assert_eq!(found, kept, "slot {slot}, wiped {wiped}: {words}");
            goes_on(accepted(damaged, &found));
        }
    }
}

#[test]
fn a_segment_full_of_nothing_is_missing() {
    let (region, history) = sound();
    let slot_of = |batch: usize| place(&region, &history, batch) / SEGMENT;
    let mut damaged = region.clone();
    damaged.damage(SEGMENT, &vec![0; SEGMENT as usize]);
    let (found, words, missing) = faulty(&damaged);
    assert_eq!(words, "segment 2 is missing between slots 0 and 2");
    assert_eq!(missing.len(), STREAMS.len());
    assert_eq!(found, expected(&history, |batch| slot_of(batch) == 1));
    goes_on(accepted(damaged, &found));
}

/// Offsets go on behind what is known to be lost, and a publisher's sequence where its last sound record left it.
#[test]
fn the_log_goes_on_behind_its_last_sound_record() {
    let (region, history) = sound();
    let last = history.batches.len() - 1;
    let lost = (0..last - 20).rfind(|batch| history.batches[*batch].stream == STREAMS[0]);
    let lost = lost.expect("there is one");
    let mut damaged = region.clone();
    flip(&mut damaged, place(&region, &history, lost));
    let (found, ..) = faulty(&damaged);
    let mut wal = accepted(damaged, &found);
    let epoch = wal.epoch();
    for id in STREAMS {
        let batches = history.batches.iter().filter(|batch| batch.stream == id);
        let end = batches.map(|batch| batch.offset + u64::from(batch.count)).max().expect("some");
        let slot = wal.stream_slot(id).expect("known");
        assert_eq!(wal.stream(slot).next_offset, end);
    }
    let mut more = History::default();
    more.append(&mut wal, &mut Random(8), 100).expect("the log takes more");
    let batch = &more.batches[0];
    let slot = wal.stream_slot(batch.stream).expect("known");
    assert_eq!(wal.first_of_later_epoch(slot, epoch - 1), Some(batch.offset), "readers diverge");
}

#[test]
fn damage_after_an_accepted_loss_is_a_fault_again() {
    let (region, history) = sound();
    let mut damaged = region.clone();
    flip(&mut damaged, place(&region, &history, 20));
    let (found, ..) = faulty(&damaged);
    let mut again = accepted(damaged, &found).into_region().after_kill();
    flip(&mut again, place(&region, &history, 60));
    let (found, words, _) = faulty(&again);
    assert!(words.starts_with("slot 0 byte") && !words.contains("more places"), "{words}");
    assert_eq!(found, expected(&history, |batch| batch == 20 || batch == 60));
    // The place where the loss is recorded, too: then it is not accepted any more.
    goes_on(accepted(again, &found));
}

#[test]
fn a_log_without_any_header_has_nothing_to_serve_or_accept() {
    let (mut region, _) = sound();
    for slot in 0..u64::from(SLOTS) {
        for at in [9, 512 + 9] {
            flip(&mut region, slot * SEGMENT + at);
        }
    }
    let all = slots(&region);
    let refused = Wal::open_even_damaged(region.clone(), &all, config(9)).map(drop);
    assert!(matches!(refused, Err(RecoveryError::Fault { .. })), "{refused:?}");
    let refused = accept_loss(region, &all, config(9));
    assert!(matches!(refused, Err(AcceptError::Recovery(RecoveryError::Fault { .. }))));
}

/// A crash at each step of accepting, with a sample of what survives: what is found is the same before and after, and
/// accepting again ends it.
#[test]
fn a_crash_in_the_middle_of_accepting_is_safe() {
    let (region, history) = sound();
    let mut images = 0;
    for damage in 0..4 {
        let mut damaged = region.clone();
        match damage {
            0 => flip(&mut damaged, place(&region, &history, 33)),
            1 => [9, SEGMENT / 2, 2 * SEGMENT + 512 + 9, 2 * SEGMENT + 9]
                .iter()
                .for_each(|at| flip(&mut damaged, *at)),
            // The newest segment's header.
            2 => [9, 512 + 9].iter().for_each(|at| flip(&mut damaged, 3 * SEGMENT + at)),
            _ => [3, 30, 77, 140].iter().for_each(|batch| {
                flip(&mut damaged, place(&region, &history, *batch));
            }),
        }
        let (found, ..) = faulty(&damaged);
        let all = slots(&damaged);
        let seen = Seen::new(5, 1);
        let watched = Watch { inner: damaged.clone(), seen: seen.clone() };
        accept_loss(watched, &all, config(10)).expect("accepted");
        let points = std::mem::take(&mut seen.borrow_mut().points);
        assert!(points.len() > 10);
        let mut random = Random(damage);
        for point in &points {
            for _ in 0..6 {
                let survivors = point.random_survivors(|| random.next());
                let image = point.after_crash(&survivors);
                images += 1;
                let (wal, report) =
                    Wal::open_even_damaged(image.clone(), &all, config(11)).expect("readable");
                assert_eq!(content(&wal), found, "{}", point.describe(&survivors));
                if report.damages.is_empty() {
                    continue;
                }
                let (_, image) = accept_loss(image, &all, config(12)).expect("accepted again");
                let (wal, _) =
                    Wal::open(image.after_power_cut(), &all, config(13)).expect("accepted");
                assert_eq!(content(&wal), found, "{}", point.describe(&survivors));
            }
        }
    }
    assert!(images > 500, "{images} images");
}

/// Every crash image of every step of accepting, in a log that is small enough for that.
#[test]
fn each_crash_image_of_accepting_is_safe() {
    const SMALL: u64 = 8192;
    const SLOTS: u32 = 10;
    let region = SimRegion::new(SLOTS, SMALL, 0).with_window(1024);
    let all = slots(&region);
    let (mut wal, _) = Wal::open(region, &all, config(0)).expect("a new log");
    let (mut history, mut random) = (History::default(), Random(6));
    for _ in 0..14 {
        history.append(&mut wal, &mut random, 300).expect("room");
        wal.barrier();
        wal.persisted();
    }
    let region = wal.into_region().after_kill();
    let find = |batch: usize| {
        let bytes = region.whole();
        let block = &history.batches[batch].block;
        (0..bytes.len()).step_by(32).find(|at| bytes[*at..].starts_with(block)).expect("stored")
    };
    let mut damaged = region.clone();
    flip(&mut damaged, find(2) as u64);
    flip(&mut damaged, find(5) as u64);
    let (found, words, _) = faulty(&damaged);
    assert!(words.contains("1 more places"), "{words}");
    let seen = Seen::new(0, 1);
    let watched = Watch { inner: damaged, seen: seen.clone() };
    accept_loss(watched, &all, config(10)).expect("accepted");
    let mut done = std::collections::HashSet::new();
    let (mut faults, mut sound) = (0, 0);
    for point in std::mem::take(&mut seen.borrow_mut().points) {
        let visited = point.each_survivors(100_000, |survivors| {
            let image = point.after_crash(survivors);
            let bytes = image.whole();
            let (first, second) = bytes.split_at(bytes.len() / 2);
            if !done.insert((crc32c(first), crc32c(second))) {
                return;
            }
            let (wal, report) =
                Wal::open_even_damaged(image.clone(), &all, config(11)).expect("readable");
            assert_eq!(content(&wal), found, "{}", point.describe(survivors));
            // Both places are recorded together, or none is.
            assert!([0, 2].contains(&report.damages.len()), "{}", point.describe(survivors));
            if report.damages.is_empty() {
                sound += 1;
                return;
            }
            faults += 1;
            let (_, image) = accept_loss(image, &all, config(12)).expect("accepted again");
            let (wal, _) = Wal::open(image.after_power_cut(), &all, config(13)).expect("accepted");
            assert_eq!(content(&wal), found, "{}", point.describe(survivors));
        });
        assert!(visited.is_some(), "too much is pending: {} pieces", point.pending());
    }
    assert!(faults > 1000 && sound > 0, "{faults} faults, {sound} accepted");
}

#[test]
fn versions_are_read_or_refused_by_name() {
    let (region, _) = sound();
    let all = slots(&region);
    for version in [0u16, 3, 9] {
        let mut other = region.clone();
        for copy in [0, 512] {
            let mut header = other.bytes(SEGMENT + copy, 128).to_vec();
            header[8..10].copy_from_slice(&version.to_le_bytes());
            let check = crc32c(&header[..124]);
            header[124..].copy_from_slice(&check.to_le_bytes());
            other.damage(SEGMENT + copy, &header);
        }
        let words =
            format!("segment in slot 1: format version {version} (this program reads 1 to 2)");
        let error = Wal::open_even_damaged(other.clone(), &all, config(9)).map(drop);
        assert_eq!(error.expect_err("refused").to_string(), words);
        let error = accept_loss(other, &all, config(9)).map(drop);
        assert_eq!(error.expect_err("refused").to_string(), words);
    }
}
