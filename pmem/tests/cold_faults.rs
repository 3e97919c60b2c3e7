//! Cold segments on disks that are full, fail, or are damaged, and in real directories.

mod common;

use common::Random;
use common::cold::one::{STREAM, copy, hot, keep_all};
use common::cold::{LOG, SHARD, World};
use mstream_pmem::cold::{ColdDisk, ColdError, ColdFrom, ColdPage, ColdStore, DirDisk, SimDisk};
use mstream_pmem::region::Level;

fn store() -> ColdStore<SimDisk> {
    ColdStore::open(SimDisk::new(Level::MediaSync), LOG, SHARD).expect("an empty directory")
}

/// Offsets of all records of the stream.
fn offsets<D: ColdDisk>(store: &mut ColdStore<D>) -> Vec<u64> {
    let mut page = ColdPage::new(16 * 1024);
    let (mut at, mut found) = (0, Vec::new());
    while store.read(STREAM, ColdFrom::Offset(at), &mut page).expect("sound") {
        found.extend(page.records().map(|record| record.header.offset.get()));
        at = page.end();
    }
    found
}

#[test]
fn a_full_disk_is_tried_again() {
    // Making the file and writing it may fail for want of room; a name too.
    for operation in [1, 2, 4] {
        let mut store = store();
        copy(&mut store, 1, 0, 50).expect("copied");
        let now = store.disk().operations();
        store.disk_mut().fail_at(now + operation, libc::ENOSPC);
        let error = copy(&mut store, 2, 50, 50).expect_err("full");
        assert!(error.is_full(), "{error}");
        assert!(error.to_string().starts_with("00000002-00000002.cold.new: "), "{error}");
        assert_eq!((store.copied(), offsets(&mut store).len()), (1, 50));
        copy(&mut store, 2, 50, 50).expect("copied");
        assert_eq!((store.copied(), offsets(&mut store).len()), (2, 100));
        let names = store.into_disk().list().expect("listed");
        assert_eq!(names, ["00000001-00000001.cold", "00000002-00000002.cold"]);
    }
}

#[test]
fn a_merge_on_a_full_disk_begins_anew() {
    for operation in 1..=9 {
        let mut store = store();
        for sequence in 1..=4 {
            copy(&mut store, sequence, (sequence - 1) * 200, 200).expect("copied");
        }
        let now = store.disk().operations();
        store.disk_mut().fail_at(now + operation, libc::ENOSPC);
        let outcome = store.maintain(0, &keep_all, u64::MAX);
        assert_eq!(offsets(&mut store), (0..800).collect::<Vec<u64>>(), "{operation}");
        let again = store.maintain(0, &keep_all, u64::MAX);
        match outcome {
            Err(ColdError::Poisoned { .. }) => assert!(again.is_err()),
            Err(error) => assert!(error.is_full() && again.is_ok(), "{error}, {again:?}"),
            Ok(_) => assert!(operation > 8, "{operation}"),
        }
        assert_eq!(offsets(&mut store), (0..800).collect::<Vec<u64>>(), "{operation}");
        let disk = store.into_disk().after_power_cut(&mut |_| 0);
        let mut store = ColdStore::open(disk, LOG, SHARD).expect("opened");
        assert_eq!(offsets(&mut store), (0..800).collect::<Vec<u64>>(), "{operation}");
    }
}

#[test]
fn a_failed_sync_ends_all_writing() {
    // Of the file, and of the directory.
    for operation in [3, 5] {
        let mut store = store();
        copy(&mut store, 1, 0, 10).expect("copied");
        let now = store.disk().operations();
        store.disk_mut().fail_at(now + operation, libc::EIO);
        let error = copy(&mut store, 2, 10, 10).expect_err("the sync failed");
        assert!(matches!(error, ColdError::Poisoned { .. }), "{error}");
        let error = copy(&mut store, 2, 10, 10).expect_err("for good");
        assert!(matches!(error, ColdError::Poisoned { .. }) && !error.is_full(), "{error}");
        assert!(store.maintain(0, &keep_all, 1).is_err());
        assert_eq!((store.copied(), offsets(&mut store).len()), (1, 10), "what is there is read");
        let disk = store.into_disk().after_power_cut(&mut |_| 0);
        let mut store = ColdStore::open(disk, LOG, SHARD).expect("opened");
        copy(&mut store, 2, 10, 10).expect("copied");
        assert_eq!(offsets(&mut store).len(), 20);
    }
}

#[test]
fn hot_segments_are_checked() {
    let (bytes, end) = hot(LOG, 7, 0, 5);
    let fails = |sequence, bytes: &[u8], end| {
        let error = store().copy(sequence, bytes, end, &keep_all).expect_err("refused");
        error.to_string()
    };
    assert_eq!(fails(8, &bytes, end), "hot segment 8: byte 0: the header is another segment's");
    let long = bytes.len() as u64 + 1;
    let text = format!("hot segment 7: byte {long}: its records end behind its bytes");
    assert_eq!(fails(7, &bytes, long), text);
    let mut flipped = bytes.clone();
    flipped[4096 + 1024 + 200] ^= 1;
    let text = "hot segment 7: byte 5120: the block does not fit its crc";
    assert_eq!(fails(7, &flipped, end), text);
    flipped[4096 + 1024] ^= 1;
    let text = "hot segment 7: byte 5120: no record header is there";
    assert_eq!(fails(7, &flipped, end), text);
    assert!(fails(7, &[], 0).ends_with("byte 0: no segment header is there"));
    let error = ColdStore::open(SimDisk::new(Level::Process), [1; 16], SHARD)
        .expect("opened")
        .copy(7, &bytes, end, &keep_all)
        .expect_err("of another log");
    assert!(error.to_string().ends_with("the segment is another log's or shard's"), "{error}");
}

#[test]
fn what_is_held_is_passed_over() {
    let mut store = store();
    copy(&mut store, 3, 0, 10).expect("copied");
    let held = store.stats();
    copy(&mut store, 3, 0, 10).expect("passed over");
    copy(&mut store, 2, 0, 10).expect("passed over");
    copy(&mut store, 4, 0, 10).expect("nothing in it is new");
    assert_eq!((store.stats(), store.copied()), (held, 4));
    copy(&mut store, 5, 5, 10).expect("copied");
    assert_eq!(offsets(&mut store), (0..15).collect::<Vec<u64>>());
}

#[test]
fn a_loss_that_was_accepted_is_passed_over() {
    let (mut bytes, end) = hot(LOG, 7, 0, 5);
    bytes[4096 + 1024..4096 + 3 * 1024].fill(0);
    let hole = mstream_pmem::Hole {
        segment: 7.into(),
        from: (4096 + 1024).into(),
        to: (4096 + 3 * 1024).into(),
        lsn: 2.into(),
        next_lsn: 4.into(),
    };
    let mut store = store();
    store.copy(7, &bytes, end, &keep_all).expect_err("nobody accepted it");
    store.accept(hole);
    store.copy(7, &bytes, end, &keep_all).expect("copied");
    assert_eq!(offsets(&mut store), [0, 3, 4]);
    let mut page = ColdPage::new(16 * 1024);
    assert!(store.read(STREAM, ColdFrom::Offset(0), &mut page).expect("sound"));
    assert_eq!((page.from(), page.end()), (0, 1));
    assert!(store.read(STREAM, ColdFrom::Offset(1), &mut page).expect("sound"));
    assert_eq!((page.from(), page.end()), (3, 5), "what is missing was lost, not compacted away");
}

#[test]
fn files_from_elsewhere_are_named() {
    let mut store = store();
    copy(&mut store, 1, 0, 3).expect("copied");
    copy(&mut store, 2, 3, 3).expect("copied");
    let disk = store.into_disk();
    let opened = |disk: &SimDisk, log, shard| ColdStore::open(disk.clone(), log, shard).map(drop);
    let error = opened(&disk, [0xab; 16], SHARD).expect_err("another log's").to_string();
    assert!(error.starts_with("00000001-00000001.cold: of log 61206c6f67"), "{error}");
    assert!(error.ends_with(&format!("this is log {}, shard 3", "ab".repeat(16))), "{error}");
    assert!(matches!(opened(&disk, LOG, 4), Err(ColdError::OtherLog { found_shard: 3, .. })));
    let mut renamed = disk.clone();
    renamed.rename("00000001-00000001.cold", "00000001-00000002.cold").expect("renamed");
    let error = opened(&renamed, LOG, SHARD).expect_err("its name is wrong").to_string();
    assert!(error.starts_with("00000001-00000002.cold: damaged at byte 32: "), "{error}");
    let mut overlapping = disk.clone();
    for name in ["00000002-00000005.cold", "00000004-00000007.cold"] {
        overlapping.create(name).expect("made");
    }
    overlapping.remove("00000001-00000001.cold").expect("removed");
    let error = opened(&overlapping, LOG, SHARD).expect_err("a file is empty").to_string();
    assert_eq!(
        error,
        "00000002-00000005.cold: damaged at byte 0: the file is shorter than header and footer"
    );
    let mut world = disk;
    world.create("notes.txt").expect("made");
    opened(&world, LOG, SHARD).expect("other files are let alone");
    assert!(world.list().expect("listed").contains(&"notes.txt".to_string()));
}

#[test]
fn ranges_that_overlap_are_named() {
    let mut store = store();
    for sequence in 1..=8 {
        copy(&mut store, sequence, (sequence - 1) * 10, 10).expect("copied");
    }
    let mut other = ColdStore::open(store.disk().clone(), LOG, SHARD).expect("opened");
    while other.maintain(0, &keep_all, u64::MAX).expect("merged").more {}
    let mut disk = other.into_disk();
    assert_eq!(disk.list().expect("listed"), ["00000001-00000008.cold"]);
    let content = std::mem::take(disk.bytes_mut("00000001-00000008.cold").expect("there"));
    let mut mixed = store.into_disk();
    mixed.create("00000001-00000008.cold").expect("made");
    *mixed.bytes_mut("00000001-00000008.cold").expect("there") = content;
    mixed.create("00000008-00000009.cold").expect("made");
    let error = ColdStore::open(mixed, LOG, SHARD).map(drop).expect_err("one is from elsewhere");
    assert_eq!(
        error.to_string(),
        "00000001-00000008.cold and 00000008-00000009.cold cover hot segments in part both: \
         one of them is from elsewhere"
    );
}

/// Files with flipped bits, cut short, zeroed, exchanged: what is served is what was stored, and what is missing is named.
#[test]
fn damage_is_named_and_never_served() {
    let (mut opened, mut refused) = (0, 0);
    for seed in 1..=40 {
        let mut random = Random(seed);
        let mut world = World::of(seed);
        for _ in 0..3 + random.below(4) {
            world.copy_one().expect("nothing is wrong");
        }
        if random.below(2) == 0 {
            world.copy_and_merge().expect("nothing is wrong");
        }
        for _ in 0..12 {
            let mut disk = world.store.as_ref().expect("there").disk().clone();
            let names = disk.list().expect("listed");
            let name = &names[random.below(names.len() as u64) as usize];
            let other = &names[random.below(names.len() as u64) as usize];
            let other = disk.bytes_mut(other).expect("there").clone();
            let bytes = disk.bytes_mut(name).expect("there");
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_slice(&other),
                2 => *bytes = other,
                3 => {
                    let end = bytes.len().min(at + 512);
                    bytes[at..end].fill(0);
                }
                // Mostly where structure is: at the end.
                4 => {
                    let at = bytes.len() - 1 - at.min(500);
                    bytes[at] ^= 1 << random.below(8);
                }
                _ => bytes[at] ^= 1 << random.below(8),
            }
            match ColdStore::open(disk, LOG, SHARD) {
                Err(_) => refused += 1,
                Ok(store) => {
                    opened += 1;
                    let checked = world.check_damaged(store);
                    checked.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
                }
            }
        }
    }
    assert!(opened > 50 && refused > 50, "{opened} opened, {refused} refused");
}

#[test]
fn a_page_too_small_is_said() {
    let mut store = store();
    copy(&mut store, 1, 0, 3).expect("copied");
    let mut page = ColdPage::new(500);
    let error = store.read(STREAM, ColdFrom::Offset(1), &mut page).expect_err("too small");
    assert_eq!(error.to_string(), "a record of 1008 bytes does not fit a page of 500 bytes");
    assert_eq!(page.records().count(), 0);
}

#[test]
fn a_step_keeps_to_its_budget() {
    let mut store = store();
    for sequence in 1..=4 {
        copy(&mut store, sequence, (sequence - 1) * 500, 500).expect("copied");
    }
    let files = store.stats();
    let (mut steps, mut bytes) = (0, 0);
    loop {
        let done = store.maintain(0, &keep_all, 100_000).expect("sound");
        assert!(done.bytes < 100_000 + 3 * 33 * 1024, "{done:?}");
        assert_eq!(offsets(&mut store).len(), 2_000, "all is served meanwhile");
        (steps, bytes) = (steps + 1, bytes + done.bytes);
        if !done.more {
            break;
        }
    }
    assert!(steps > 30 && bytes > 2 * files.live_bytes, "{steps} steps, {bytes} bytes");
    assert_eq!((store.stats().files, store.stats().live_bytes), (1, files.live_bytes));
}

#[test]
fn a_real_directory_keeps_what_was_copied() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cold");
    let open = || {
        let disk = DirDisk::open(&path, false).expect("opened");
        ColdStore::open(disk, LOG, SHARD).expect("opened")
    };
    let mut store = open();
    for sequence in 1..=9 {
        copy(&mut store, sequence, (sequence - 1) * 100, 100).expect("copied");
        if sequence == 6 {
            while store.maintain(0, &keep_all, 65_536).expect("merged").more {}
        }
    }
    store.maintain(0, &keep_all, 1).expect("a merge began");
    std::fs::write(path.join("00000010-00000010.cold.new"), "half").expect("written");
    drop(store);
    let mut store = open();
    assert_eq!(store.copied(), 9);
    assert_eq!(offsets(&mut store), (0..900).collect::<Vec<u64>>());
    while store.maintain(0, &keep_all, 65_536).expect("merged").more {}
    store.forget(STREAM);
    store.maintain(0, &keep_all, 65_536).expect("removed");
    assert_eq!((store.stats().files, store.stats().file_bytes), (0, 0));
    assert_eq!(std::fs::read_dir(&path).expect("listed").count(), 0);
}
