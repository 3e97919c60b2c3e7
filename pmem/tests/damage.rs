//! Damaged, exchanged, foreign and missing segment files: what is refused is named and left as it is; what can be
//! told from a crash is opened.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{History, Random, config, dir_config, open_whole};
use mstream_pmem::AnyRegion;
use mstream_pmem::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use mstream_pmem::prepare::open_dir;
use mstream_pmem::wal::{Wal, WalConfig};

const SEGMENT: u64 = 256 * 1024;
const SEGMENTS: u32 = 6;

/// A log of three segments, closed: two full ones in slots 0 and 1, and slot 2 more than half full.
struct Log {
    dir: tempfile::TempDir,
    history: History,
}

impl Log {
    fn new() -> Log {
        Log::of(config(0))
    }

    fn of(config: WalConfig) -> Log {
        let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
        let (region, slots, _) =
            open_whole(dir_config(dir.path(), SEGMENT, SEGMENTS)).expect("a directory");
        let (mut wal, _) = Wal::open(region, &slots, config).expect("a new log");
        let (mut history, mut random) = (History::default(), Random(77));
        let mut written = 0;
        while written < SEGMENT * 27 / 10 {
            history.append(&mut wal, &mut random, 1000).expect("room");
            wal.barrier();
            wal.persisted();
            written += 1152;
        }
        drop(wal);
        Log { dir, history }
    }

    fn path(&self, slot: u32) -> PathBuf {
        self.dir.path().join(format!("{slot:08}.seg"))
    }

    /// Turns one bit around.
    fn flip(&self, slot: u32, at: u64) {
        let file = fs::File::options().read(true).write(true).open(self.path(slot)).expect("there");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("inside");
        byte[0] ^= 4;
        file.write_at(&byte, at).expect("inside");
    }

    fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.dir.path()).expect("the directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
    }

    fn try_open(&self, config: WalConfig) -> Result<(Wal<AnyRegion>, bool), String> {
        let (region, slots, _) =
            open_dir(dir_config(self.dir.path(), SEGMENT, SEGMENTS)).map_err(|e| e.to_string())?;
        let (wal, report) = Wal::open(region, &slots, config).map_err(|e| e.to_string())?;
        Ok((wal, report.possible_loss))
    }

    /// The log is refused with this text, twice, and no byte of its directory changes.
    fn refused(&self, expected: &str) {
        self.refused_for(config(0), expected);
    }

    fn refused_for(&self, config: WalConfig, expected: &str) {
        let before = self.bytes();
        for _ in 0..2 {
            let error = self.try_open(config).expect_err(expected);
            assert!(error.contains(expected), "{error}, not {expected}");
            assert!(self.bytes() == before, "a refused log was changed: {error}");
        }
    }

    /// The log opens, again and again, with the first `batches` of its batches.
    fn opens_with(&self, batches: usize) {
        for _ in 0..3 {
            let (mut wal, possible_loss) = self.try_open(config(0)).expect("a sound log");
            assert!(!possible_loss);
            self.prefix(batches).check(&mut wal).expect("what was kept is right");
        }
    }

    fn prefix(&self, batches: usize) -> History {
        let mut history = self.history.clone();
        history.batches.truncate(batches);
        history
    }

    /// Where a batch's record stands: slot and byte.
    fn place(&self, batch: usize) -> (u32, u64) {
        let block = &self.history.batches[batch].block;
        let hit = (0..SEGMENTS).find_map(|slot| {
            let bytes = fs::read(self.path(slot)).expect("a file");
            let at = (4096..bytes.len()).step_by(32).find(|at| bytes[*at..].starts_with(block))?;
            Some((slot, at as u64 - 96))
        });
        hit.expect("the batch is in the log")
    }
}

fn exchange(a: &Path, b: &Path) {
    let other = a.with_extension("other");
    fs::rename(a, &other).expect("renamed");
    fs::rename(b, a).expect("renamed");
    fs::rename(other, b).expect("renamed");
}

#[test]
fn files_of_another_size_are_refused() {
    for slot in 0..3 {
        let resized = |size: u64| {
            let log = Log::new();
            let file = fs::File::options().write(true).open(log.path(slot)).expect("there");
            file.set_len(size).expect("resized");
            log
        };
        for size in [SEGMENT + 1, 2 * SEGMENT] {
            let expected = format!("0000000{slot}.seg: {size} bytes, but [wal] segment_bytes is");
            resized(size).refused(&expected);
        }
        for size in [0, 4096, SEGMENT / 2, SEGMENT - 1] {
            let expected =
                format!("damaged: slot {slot} byte {size}: the file ends here, but a segment has");
            resized(size).refused(&expected);
        }
    }
}

#[test]
fn another_configuration_is_refused() {
    let log = Log::new();
    let before = log.bytes();
    for (segment_bytes, segments, expected) in [
        (SEGMENT / 2, SEGMENTS, "00000000.seg: 262144 bytes, but [wal] segment_bytes is 131072"),
        (SEGMENT, 5, "00000005.seg: segment 5 is beyond [wal] max_bytes (5 segments)"),
    ] {
        let refused = open_dir(dir_config(log.dir.path(), segment_bytes, segments));
        let error = refused.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(log.bytes() == before);
    }
    let (region, slots, _) =
        open_dir(dir_config(log.dir.path(), 2 * SEGMENT, SEGMENTS)).expect("all files are short");
    let refused = Wal::open_even_damaged(region, &slots, config(0)).expect_err("they are not");
    let expected = "segment in slot 0: it was made for [wal] segment_bytes 262144, not 524288";
    assert_eq!(refused.to_string(), expected);
    assert!(log.bytes() == before);
    log.refused_for(
        WalConfig { shard: 4, ..config(0) },
        "segment in slot 0: it belongs to shard 3, not 4",
    );
}

#[test]
fn one_damaged_header_copy_does_no_harm() {
    for copy in [0, 512] {
        for slot in 0..3 {
            for at in [0, 40, 127] {
                let log = Log::new();
                log.flip(slot, copy + at);
                log.opens_with(log.history.batches.len());
            }
        }
    }
}

#[test]
fn two_damaged_header_copies_are_refused() {
    for (slot, expected) in [
        (0, "damaged: slot 0 byte 0: both copies of the segment header are damaged"),
        (1, "segment 2 is missing between slots 0 and 2"),
        (2, "damaged: slot 2 byte 4096: there is a record, but no valid segment header"),
    ] {
        let log = Log::new();
        log.flip(slot, 33);
        log.flip(slot, 512 + 70);
        log.refused(expected);
    }
    // A header that is gone without a trace leaves its records behind.
    let log = Log::new();
    let file = fs::File::options().write(true).open(log.path(2)).expect("there");
    file.write_at(&[0; 4096], 0).expect("wiped");
    log.refused("damaged: slot 2 byte 4096");
}

#[test]
fn a_damaged_record_is_refused_where_a_barrier_had_covered_it() {
    let log = Log::new();
    for (place, what) in [(5, "version"), (9, "check"), (40, "offset"), (300, "block")] {
        for batch in [3, log.history.batches.len() / 2] {
            let log = Log::new();
            let (slot, at) = log.place(batch);
            log.flip(slot, at + place);
            log.refused(&format!("damaged: slot {slot} byte {at}: "));
            assert!(slot < 2, "{what} in a segment that was rolled");
        }
        // In the newest segment, with more than W behind it.
        let log = Log::new();
        let (slot, at) = log.place(log.history.batches.len() - 80);
        assert_eq!(slot, 2);
        log.flip(slot, at + place);
        log.refused(&format!("damaged: slot 2 byte {at}: no valid record with lsn"));
    }
}

#[test]
fn a_damaged_record_within_the_window_is_a_torn_tail() {
    for behind in [1, 2, 40] {
        let log = Log::new();
        let batch = log.history.batches.len() - behind;
        let (slot, at) = log.place(batch);
        log.flip(slot, at + 200);
        log.opens_with(batch);
    }
}

#[test]
fn the_last_record_of_a_rolled_segment_is_missed() {
    let log = Log::new();
    let first_of_second =
        (0..log.history.batches.len()).find(|batch| log.place(*batch).0 == 1).expect("rolled");
    let (slot, at) = log.place(first_of_second - 1);
    log.flip(slot, at + 120);
    log.refused(&format!("damaged: slot 0 byte {at}: no valid record with lsn"));
}

#[test]
fn exchanged_files_are_put_in_order_by_their_headers() {
    let log = Log::new();
    exchange(&log.path(0), &log.path(1));
    exchange(&log.path(2), &log.path(5));
    log.opens_with(log.history.batches.len());
}

#[test]
fn missing_and_repeated_segments_are_refused() {
    let log = Log::new();
    fs::remove_file(log.path(1)).expect("there");
    log.refused("damaged: slot 1 byte 0: the file is missing, and later ones are there");
    // An empty file in its place.
    fs::write(log.path(1), vec![0; SEGMENT as usize]).expect("written");
    log.refused("segment 2 is missing between slots 0 and 2");
    // Another's bytes in its place.
    fs::copy(log.path(0), log.path(1)).expect("copied");
    log.refused("it has the same number as the one in slot");
}

#[test]
fn an_older_life_of_a_slot_is_refused() {
    let mut log = Log::new();
    let older = fs::read(log.path(0)).expect("there");
    let (mut wal, _) = log.try_open(config(0)).expect("sound");
    let mut random = Random(5);
    // Until slot 0 was taken again.
    let life = |bytes: &[u8]| SegmentHeader::read(&bytes[..SEGMENT_HEADER_BYTES]);
    let first = life(&older).expect("a header").sequence.get();
    while life(&fs::read(log.path(0)).expect("there")).is_none_or(|h| h.sequence.get() == first) {
        // Refusals are back-pressure: recycling has to go on first.
        let _ = log.history.append(&mut wal, &mut random, 1000);
        wal.barrier();
        wal.persisted();
        wal.housekeep(64);
    }
    drop(wal);
    fs::write(log.path(0), older).expect("written");
    log.refused("is missing between slots 0 and");
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let (log, other) = (Log::new(), Log::of(WalConfig { new_log_id: [9; 16], ..config(0) }));
    for slot in 0..3 {
        let own = fs::read(log.path(slot)).expect("there");
        fs::copy(other.path(slot), log.path(slot)).expect("copied");
        log.refused(&format!("segment in slot {slot}: it belongs to another log"));
        fs::write(log.path(slot), own).expect("written");
    }
    log.opens_with(log.history.batches.len());
}

/// Recovers after a reboot with batches from `batches` on lost, and goes on.
fn loses_from(log: &Log, batches: usize) {
    let rebooted = WalConfig { boot_id: [8; 16], ..config(0) };
    let (mut wal, possible_loss) = log.try_open(rebooted).expect("kept with its valid prefix");
    assert!(possible_loss);
    let mut history = log.prefix(batches);
    history.check(&mut wal).expect("the prefix is there");
    for start in 0..6 {
        for _ in 0..10 {
            history.append(&mut wal, &mut Random(start), 500).expect("room");
            wal.barrier();
            wal.persisted();
        }
        drop(wal);
        let (again, possible_loss) = log.try_open(rebooted).expect("the loss was accepted");
        assert!(!possible_loss, "the same boot goes on");
        wal = again;
        history.check(&mut wal).expect("prefix and what followed are there");
        while wal.slots_ready() < 3 {
            wal.housekeep(64);
        }
        history.check(&mut wal).expect("recycling keeps it so");
    }
}

#[test]
fn a_reboot_of_a_process_log_may_lose_anything_but_order() {
    let log = Log::new();
    let (slot, at) = log.place(5);
    log.flip(slot, at + 100);
    loses_from(&log, 5);

    let log = Log::new();
    let batch = log.history.batches.len() - 80;
    let (slot, at) = log.place(batch);
    log.flip(slot, at + 100);
    loses_from(&log, batch);

    // The header of the second, then of the third segment never reached the disk, then of both.
    for lost in [&[1][..], &[2], &[1, 2]] {
        let log = Log::new();
        let kept = (0..log.history.batches.len()).find(|batch| log.place(*batch).0 == lost[0]);
        for slot in lost {
            let file = fs::File::options().write(true).open(log.path(*slot)).expect("there");
            file.write_at(&[0; 4096], 0).expect("wiped");
        }
        loses_from(&log, kept.expect("rolled"));
    }
}

#[test]
fn records_that_a_reboot_left_behind_older_headers_do_no_harm() {
    let log = Log::new();
    let in_first = (0..log.history.batches.len()).take_while(|batch| log.place(*batch).0 == 0);
    let kept = in_first.count();
    let before = log.bytes();
    // How the log went on before the reboot: segments by number.
    let mut lost = BTreeMap::new();
    let mut history = log.history.clone();
    for start in 0..5 {
        let (mut wal, _) = log.try_open(config(0)).expect("sound");
        for _ in 0..200 {
            history.append(&mut wal, &mut Random(start), 1000).expect("room");
            wal.barrier();
            wal.persisted();
            wal.housekeep(8);
        }
        while wal.slots_ready() < 3 {
            wal.housekeep(64);
        }
        drop(wal);
        for bytes in log.bytes().into_values() {
            if let Some(header) = SegmentHeader::read(&bytes) {
                lost.insert(header.sequence.get(), bytes);
            }
        }
    }
    let later: Vec<u64> = lost.keys().copied().filter(|sequence| *sequence > 3).collect();
    assert!(later.len() >= 5, "segments {later:?}");
    for sequence in later {
        // The reboot kept the second segment's header, records of a later life of its slot, and nothing behind it.
        for (path, bytes) in &before {
            fs::write(path, bytes).expect("written");
        }
        fs::write(log.path(2), vec![0; SEGMENT as usize]).expect("written");
        let mut second = before[&log.path(1)].clone();
        second[4096..].copy_from_slice(&lost[&sequence][4096..]);
        fs::write(log.path(1), second).expect("written");
        loses_from(&log, kept);
    }
}

/// Opens a log after a reboot, with the loss that it says.
fn reboots(log: &Log, boot: u8) -> Wal<AnyRegion> {
    let rebooted = WalConfig { boot_id: [boot; 16], ..config(0) };
    let (wal, possible_loss) = log.try_open(rebooted).expect("anything may be lost");
    assert!(possible_loss);
    wal
}

/// A reboot may bring back a header that was wiped: its segment, of a time before an earlier loss, ends the log then, and
/// has higher record numbers than the segments behind it, which are void.
#[test]
fn void_segments_stay_void_when_those_before_them_are_recycled() {
    let log = Log::new();
    let old_header = log.bytes()[&log.path(2)][..4096].to_vec();
    let (slot, at) = log.place(5);
    log.flip(slot, at + 100);
    let mut wal = reboots(&log, 8);
    let (mut history, mut random) = (log.prefix(5), Random(5));
    let by_sequence = || -> BTreeMap<u64, PathBuf> {
        let read = |(path, bytes): (PathBuf, Vec<u8>)| {
            Some((SegmentHeader::read(&bytes)?.sequence.get(), path))
        };
        log.bytes().into_iter().filter_map(read).collect()
    };
    // Until the segment of the first boot is recycled, both copies of its header.
    while by_sequence().first_key_value().is_none_or(|(sequence, _)| *sequence < 4) {
        history.append(&mut wal, &mut random, 1100).expect("room");
        wal.barrier();
        wal.persisted();
        wal.housekeep(8);
    }
    for _ in 0..4 {
        wal.housekeep(8);
        wal.persisted();
    }
    let records = wal.appended();
    drop(wal);
    let segments = by_sequence();
    assert!(segments.len() >= 2 && !segments.values().any(|path| *path == log.path(2)));
    let header = SegmentHeader::read(&old_header).expect("it is one");
    assert!(header.base_lsn.get() > records, "{} is not behind {records}", header.base_lsn);
    let mut front = old_header;
    front.resize(SEGMENT as usize, 0);
    fs::write(log.path(2), front).expect("written");
    let first = fs::File::options().write(true).open(&segments[&4]).expect("there");
    first.write_at(&[0; 4096], 0).expect("wiped");

    let mut wal = reboots(&log, 9);
    let mut history = History::default();
    history.check(&mut wal).expect("nothing is left");
    for start in 0..8 {
        for _ in 0..300 {
            history.append(&mut wal, &mut Random(start), 500).expect("room");
            wal.barrier();
            wal.persisted();
            wal.housekeep(8);
        }
        drop(wal);
        let (again, possible_loss) =
            log.try_open(WalConfig { boot_id: [9; 16], ..config(0) }).expect("sound");
        assert!(!possible_loss);
        wal = again;
        history.check(&mut wal).expect("nothing came back");
    }
}

#[test]
fn the_one_free_slot_of_a_log_may_hold_what_a_reboot_left() {
    let log = Log::new();
    let kept = (0..log.history.batches.len()).take_while(|batch| log.place(*batch).0 < 2).count();
    let third = fs::File::options().write(true).open(log.path(2)).expect("there");
    third.write_at(&[0; 4096], 0).expect("wiped");
    let (region, slots, _) =
        open_dir(dir_config(log.dir.path(), SEGMENT, SEGMENTS)).expect("a directory");
    let rebooted = WalConfig { boot_id: [8; 16], ..config(0) };
    let (mut wal, report) = Wal::open(region, &slots[..3], rebooted).expect("its records are lost");
    assert!(report.possible_loss);
    log.prefix(kept).check(&mut wal).expect("the prefix is there");
    drop(wal);
    log.prefix(kept).check(&mut log.try_open(rebooted).expect("sound").0).expect("as before");
}
