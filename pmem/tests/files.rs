//! Segment files that somebody shortened, took away, changed or exchanged for older ones, under a stopped and under a
//! running log, mapped and staged: what is lost is named, nothing else is, and no reader gets one record for another.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{Batch, History, Random, config, dir_config, open_whole};
use mstream_pmem::accept::{AcceptError, accept_loss};
use mstream_pmem::format::{LINE, SEGMENT_DATA_AT, SegmentHeader, crc32c};
use mstream_pmem::prepare::open_dir;
use mstream_pmem::recovery::RecoveryReport;
use mstream_pmem::region::{Level, Region};
use mstream_pmem::wal::{Wal, WalConfig};
use mstream_pmem::{AnyRegion, DamageKind, Extent};

const SEGMENT: u64 = 256 * 1024;
/// So many that starts and accepted losses recycle nothing.
const SEGMENTS: u32 = 12;

/// Where a log is: mapped, and staged.
const MEDIA: [&str; 2] = ["/dev/shm", env!("CARGO_TARGET_TMPDIR")];

/// A log of three segments in slots 0 to 2, the last one more than half full.
struct Log {
    dir: tempfile::TempDir,
    history: History,
}

impl Log {
    fn new(parent: &str) -> Log {
        let dir = tempfile::tempdir_in(parent).expect("a directory");
        let mut log = Log { dir, history: History::default() };
        let mut wal = log.open_new();
        log.write(&mut wal, SEGMENT * 27 / 10);
        log
    }

    fn open_new(&self) -> Wal<AnyRegion> {
        let (region, slots, _) =
            open_whole(dir_config(self.dir.path(), SEGMENT, SEGMENTS)).expect("a directory");
        Wal::open(region, &slots, config(0)).expect("a sound log").0
    }

    /// Appends so many bytes; all of it is acknowledged then.
    fn write(&mut self, wal: &mut Wal<AnyRegion>, bytes: u64) {
        let mut random = Random(bytes);
        let mut written = 0;
        while written < bytes {
            // Refusals are back-pressure: barriers and recycling have to go on first.
            if self.history.append(wal, &mut random, 1000).is_ok() {
                written += 1152;
            }
            wal.barrier();
            wal.persisted();
            wal.housekeep(8);
        }
        while wal.persisted() < wal.appended() {
            wal.barrier();
        }
    }

    fn path(&self, slot: u32) -> PathBuf {
        self.dir.path().join(format!("{slot:08}.seg"))
    }

    fn shorten(&self, slot: u32, bytes: u64) {
        let file = File::options().write(true).open(self.path(slot)).expect("there");
        file.set_len(bytes).expect("shortened");
    }

    fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.dir.path()).expect("the directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
    }

    fn try_open(&self, config: WalConfig) -> Result<(Wal<AnyRegion>, RecoveryReport), String> {
        let dir_config = dir_config(self.dir.path(), SEGMENT, SEGMENTS);
        let (region, slots, _) = open_dir(dir_config).map_err(|error| error.to_string())?;
        Wal::open_even_damaged(region, &slots, config).map_err(|error| error.to_string())
    }

    fn accept(&self, config: WalConfig) -> Result<usize, AcceptError> {
        let dir_config = dir_config(self.dir.path(), SEGMENT, SEGMENTS);
        let (region, slots, preparer) = open_dir(dir_config).expect("it can be opened");
        let (damages, region) = accept_loss(region, &slots, config)?;
        preparer.restore(&region, &slots).expect("room");
        Ok(damages.len())
    }

    /// The first batch in a slot.
    fn first_of(&self, slot: u32) -> usize {
        let bytes = fs::read(self.path(slot)).expect("a file");
        let holds = |batch: &Batch| {
            let lines = (SEGMENT_DATA_AT as usize..bytes.len()).step_by(LINE as usize / 2);
            lines.into_iter().any(|at| bytes[at..].starts_with(&batch.block))
        };
        self.history.batches.iter().position(holds).expect("a batch")
    }
}

/// Reads all batches of a history, as a reader does: those that are there are right, and what lies between is a hole.
/// Whether each is there.
fn read_all<R: Region>(wal: &Wal<R>, history: &History) -> Vec<bool> {
    let there = |batch: &Batch| {
        let Some(stream) = wal.stream_slot(batch.stream) else { return false };
        let end = batch.offset + u64::from(batch.count);
        for offset in batch.offset..end {
            let Some((_, record)) = wal.read(stream, offset, offset) else {
                let state = wal.stream(stream);
                if offset >= state.earliest_offset && offset < state.next_offset {
                    let (to, _) = wal.hole(stream, offset, offset).expect("a hole");
                    assert!(to >= end, "{to}: inside a batch");
                }
                return false;
            };
            assert_eq!(wal.hole(stream, offset, offset), None);
            let header = record.header;
            let found = (header.stream.get(), header.offset.get(), header.lsn.get());
            assert_eq!(found, (batch.stream, batch.offset, batch.lsn));
            // Who subscribes checks the block.
            if crc32c(record.block) == header.block_crc.get() {
                assert!(record.block == batch.block, "another content under offset {offset}");
            }
        }
        true
    };
    history.batches.iter().map(there).collect()
}

/// The log is a fault that says `expected`; nothing of it is changed; the loss is accepted, and the log goes on. Returns
/// what can be read of it.
fn is_a_fault(log: &mut Log, slot: u32, expected: &str) -> Vec<bool> {
    let before = log.bytes();
    let mut found = Vec::new();
    for _ in 0..2 {
        let (region, slots, _) =
            open_dir(dir_config(log.dir.path(), SEGMENT, SEGMENTS)).expect("it can be opened");
        assert_ne!(Region::extent(&region, slot), Extent::Whole);
        let refused = Wal::open(region, &slots, config(0)).expect_err("a fault").to_string();
        assert_eq!(refused, format!("damaged: {expected}; the log is kept as it is"));
        let (mut wal, report) = log.try_open(config(0)).expect("what is sound");
        let fault = wal.fault().expect("a fault").clone();
        assert!(fault.to_string().starts_with(expected), "{fault}");
        let files = report.damages.iter().filter(|damage| damage.kind == DamageKind::File);
        assert_eq!(files.count(), 1, "{report:?}");
        found = read_all(&wal, &log.history);
        let refused = History::default().append(&mut wal, &mut Random(1), 10);
        assert!(refused.is_err(), "{refused:?}");
        wal.housekeep(1000);
        wal.barrier();
        wal.persisted();
        drop(wal);
        assert!(log.bytes() == before, "a fault is not written to: {expected}");
    }
    let accepted = log.accept(config(1)).expect("accepted");
    assert!(accepted > 0);
    assert_eq!(log.accept(config(1)).expect("sound"), 0, "nothing is left to be accepted");
    for _ in 0..2 {
        let (wal, report) = log.try_open(config(2)).expect("a sound log");
        assert_eq!((wal.fault(), report.damages.len()), (None, 0), "{expected}");
        assert!(read_all(&wal, &log.history) == found, "the same as before: {expected}");
    }
    for slot in 0..SEGMENTS {
        assert_eq!(fs::metadata(log.path(slot)).expect("there").len(), SEGMENT);
    }
    let (mut wal, _) = log.try_open(config(3)).expect("a sound log");
    let before = log.history.batches.len();
    log.write(&mut wal, SEGMENT / 4);
    let newer = log.history.batches.split_off(before);
    let newer = History { batches: newer, ..History::default() };
    assert!(read_all(&wal, &newer).iter().all(|there| *there), "what follows is there");
    found
}

#[test]
fn a_short_file_is_a_fault_and_what_is_there_is_served() {
    for parent in MEDIA {
        for slot in 0..3 {
            for bytes in [0, 600, 4096, SEGMENT / 2 + 1000, SEGMENT - 4096] {
                let mut log = Log::new(parent);
                let first = log.first_of(slot);
                let behind =
                    if slot < 2 { log.first_of(slot + 1) } else { log.history.batches.len() };
                log.shorten(slot, bytes);
                let what = format!(
                    "slot {slot} byte {bytes}: the file ends here, but a segment has {SEGMENT} bytes"
                );
                let found = is_a_fault(&mut log, slot, &what);
                let lost: Vec<usize> = (0..found.len()).filter(|batch| !found[*batch]).collect();
                assert!(lost.iter().all(|batch| (first..behind).contains(batch)), "{lost:?}");
                let kept = (behind - first) - lost.len();
                // Records of this test take 1,152 bytes.
                let expected = bytes.saturating_sub(SEGMENT_DATA_AT + 1152) / 1152;
                assert!(kept as u64 >= expected.min((behind - first) as u64 - 1), "{what}: {kept}");
                assert!(slot == 2 && bytes > SEGMENT * 3 / 4 || !lost.is_empty(), "{what}");
            }
        }
    }
}

#[test]
fn a_missing_file_is_a_fault_and_the_others_are_served() {
    for parent in MEDIA {
        // The last one holds nothing: that its neighbour is missing tells.
        for slot in [0, 1, 2, 7] {
            let mut log = Log::new(parent);
            let holds = (slot < 3).then(|| log.first_of(slot));
            let behind = if slot < 2 { log.first_of(slot + 1) } else { log.history.batches.len() };
            fs::remove_file(log.path(slot)).expect("there");
            let what = format!("slot {slot} byte 0: the file is missing, and later ones are there");
            let found = is_a_fault(&mut log, slot, &what);
            let lost = holds.map_or(0..0, |first| first..behind);
            for (batch, there) in found.iter().enumerate() {
                assert_eq!(*there, !lost.contains(&batch), "batch {batch}, {what}");
            }
        }
    }
}

#[test]
fn several_files_at_once_are_one_fault() {
    for parent in MEDIA {
        let log = Log::new(parent);
        log.shorten(0, SEGMENT / 2);
        fs::remove_file(log.path(1)).expect("there");
        log.shorten(4, 0);
        let (wal, report) = log.try_open(config(0)).expect("what is sound");
        let files = report.damages.iter().filter(|damage| damage.kind == DamageKind::File);
        assert_eq!(files.map(|damage| damage.slot).collect::<Vec<u32>>(), [0, 1, 4]);
        assert!(report.missing.iter().all(|missing| missing.from < missing.to));
        let found = read_all(&wal, &log.history);
        drop(wal);
        log.accept(config(1)).expect("accepted");
        let (wal, report) = log.try_open(config(2)).expect("sound");
        assert_eq!(report.damages, []);
        assert!(read_all(&wal, &log.history) == found);
    }
}

/// A power cut may take anything of a log of level `process`: then files that are not whole are an operator's matter.
#[test]
fn after_a_reboot_a_file_is_given_its_size_by_hand() {
    let log = Log::new("/dev/shm");
    log.shorten(1, SEGMENT / 2);
    let rebooted = WalConfig { boot_id: [8; 16], ..config(1) };
    let before = log.bytes();
    let (wal, _) = log.try_open(rebooted).expect("what is sound");
    assert!(wal.fault().is_some() && wal.possible_loss());
    drop(wal);
    let refused = log.accept(rebooted).expect_err("it is no damage");
    assert!(matches!(refused, AcceptError::Rebooted { slot: 1 }), "{refused}");
    assert!(log.bytes() == before);
    File::options().write(true).open(log.path(1)).and_then(|f| f.set_len(SEGMENT)).expect("sized");
    let (wal, report) = log.try_open(rebooted).expect("its valid prefix");
    assert!(wal.fault().is_none() && report.possible_loss);
    let found = read_all(&wal, &log.history);
    assert!(found[0] && !found[found.len() - 1]);
}

/// Writes bytes over a file in place, as it may be mapped.
fn overwrite(path: &Path, bytes: &[u8]) {
    let file = File::options().write(true).open(path).expect("there");
    file.write_all_at(bytes, 0).expect("inside");
}

/// Goes on until the slot was taken again; what it held before.
fn older_life(log: &mut Log, wal: &mut Wal<AnyRegion>, slot: u32) -> Vec<u8> {
    let older = fs::read(log.path(slot)).expect("there");
    let life = |bytes: &[u8]| SegmentHeader::read(bytes).map(|header| header.sequence.get());
    let first = life(&older).expect("a header");
    while life(&fs::read(log.path(slot)).expect("there")).is_none_or(|now| now == first) {
        log.write(wal, SEGMENT / 8);
    }
    log.write(wal, SEGMENT / 8);
    older
}

#[test]
fn an_older_life_of_a_slot_under_a_running_log_is_never_served() {
    for parent in MEDIA {
        let mut log = Log::new(parent);
        let mut wal = log.open_new();
        let older = older_life(&mut log, &mut wal, 1);
        let before = read_all(&wal, &log.history);
        let staged = wal.level() == Level::MediaSync;
        let newest = fs::read(log.path(1)).expect("there");
        overwrite(&log.path(1), &older);
        let found = read_all(&wal, &log.history);
        if staged {
            assert!(found == before, "readers are served from memory");
        } else {
            assert!(found != before, "what is in the segment is lost");
        }
        let lost = found.iter().zip(&before).filter(|(now, before)| now < before).count();
        assert!(found.iter().zip(&before).all(|(now, before)| now <= before));
        // It is not recycled either, as if it were what it should be; and it is found at the next start.
        for _ in 0..SEGMENTS * 400 {
            let _ = log.history.append(&mut wal, &mut Random(1), 1000);
            wal.barrier();
            wal.persisted();
            wal.housekeep(8);
        }
        if !staged {
            let unreadable = wal.unreadable().expect("recycling stopped");
            assert_eq!(unreadable / SEGMENT, 1);
            assert!(lost > 0);
            overwrite(&log.path(1), &newest);
            let refused = read_all(&wal, &log.history);
            assert!(refused.iter().zip(&before).any(|(now, before)| *now && *before));
        }
    }
}

#[test]
fn an_older_life_of_a_slot_in_a_stopped_log_is_a_fault() {
    for parent in MEDIA {
        for slot in 0..3 {
            let mut log = Log::new(parent);
            let mut wal = log.open_new();
            let older = older_life(&mut log, &mut wal, slot);
            drop(wal);
            overwrite(&log.path(slot), &older);
            let before = log.bytes();
            let (wal, report) = log.try_open(config(0)).expect("what is sound");
            let text = wal.fault().expect("a fault").to_string();
            assert!(text.contains("missing between slots"), "{text}");
            assert!(text.contains(&format!("slots {slot} and")), "{text} names the segment");
            assert!(!report.damages.is_empty());
            read_all(&wal, &log.history);
            drop(wal);
            assert!(log.bytes() == before);
            log.accept(config(1)).expect("accepted");
            let (wal, _) = log.try_open(config(2)).expect("sound");
            assert_eq!(wal.fault(), None);
            read_all(&wal, &log.history);
        }
    }
}

/// A copy of the same life of a segment, from when it held less.
#[test]
fn an_older_copy_of_the_same_life_is_a_fault_unless_it_is_the_newest() {
    for parent in MEDIA {
        let mut log = Log::new(parent);
        // The third segment, from when it was the newest.
        let older = fs::read(log.path(2)).expect("there");
        let (mut wal, _) = log.try_open(config(0)).expect("sound");
        log.write(&mut wal, SEGMENT / 2);
        drop(wal);
        overwrite(&log.path(2), &older);
        // Nothing was written to it since: a start goes on in a segment of its own.
        let (mut wal, _) = log.try_open(config(0)).expect("sound");
        assert_eq!(wal.fault(), None);
        assert!(read_all(&wal, &log.history).iter().all(|there| *there));
        let newest = wal.region().slots();
        assert_eq!(newest, SEGMENTS);
        // The one that it goes on in now: slot 4. A copy, then more than that holds.
        log.write(&mut wal, SEGMENT / 8);
        let copied = log.history.batches.len();
        let older = fs::read(log.path(4)).expect("there");
        log.write(&mut wal, SEGMENT);
        drop(wal);
        overwrite(&log.path(4), &older);
        let (wal, report) = log.try_open(config(0)).expect("what is sound");
        assert!(wal.fault().is_some(), "a segment follows: {report:?}");
        let found = read_all(&wal, &log.history);
        assert!(found[copied - 1] && !found[copied]);
    }
}

#[test]
fn records_under_the_index_that_were_moved_or_changed_are_not_served() {
    let log = Log::new("/dev/shm");
    let (wal, _) = log.try_open(config(0)).expect("sound");
    let before = read_all(&wal, &log.history);
    assert!(before.iter().all(|there| *there));
    let whole = fs::read(log.path(0)).expect("there");
    let mut random = Random(9);
    let mut lost = 0;
    for round in 0..60 {
        let mut bytes = whole.clone();
        let records = (SEGMENT - 2 * SEGMENT_DATA_AT) / 1152 - 2;
        // All records of this test, behind the start's own, take the same bytes.
        let place = |number: u64| (SEGMENT_DATA_AT + 128 + number * 1152) as usize;
        match round % 3 {
            0 => {
                // One record in the place of another, of the same segment.
                let (from, to) = (random.below(records), random.below(records));
                bytes.copy_within(place(from)..place(from) + 1152, place(to));
            }
            1 => {
                let from = random.below(SEGMENT - SEGMENT_DATA_AT - 4096) + SEGMENT_DATA_AT;
                let to = random.below(SEGMENT - SEGMENT_DATA_AT - 4096) + SEGMENT_DATA_AT;
                bytes.copy_within(from as usize..from as usize + 4096, to as usize);
            }
            _ => {
                let at = random.below(SEGMENT - SEGMENT_DATA_AT) + SEGMENT_DATA_AT;
                bytes[at as usize] ^= 1 << random.below(8);
            }
        }
        overwrite(&log.path(0), &bytes);
        let found = read_all(&wal, &log.history);
        lost += found.iter().filter(|there| !**there).count();
    }
    assert!(lost > 20, "{lost}");
    overwrite(&log.path(0), &whole);
    assert!(read_all(&wal, &log.history) == before);
}

/// A staged log is served from memory whatever becomes of its files; the next start finds what was lost.
#[test]
fn files_shortened_or_changed_under_a_running_staged_log_are_found_at_the_next_start() {
    type Change = fn(&Log);
    let changes: [(Change, &str); 3] = [
        (|log| log.shorten(0, SEGMENT / 2), "slot 0 byte 131072: the file ends here"),
        (|log| fs::remove_file(log.path(0)).expect("there"), "slot 0 byte 0: the file is missing"),
        (
            |log| {
                let mut bytes = fs::read(log.path(0)).expect("there");
                bytes[100_000] ^= 1;
                overwrite(&log.path(0), &bytes);
            },
            "slot 0 byte ",
        ),
    ];
    for (change, expected) in changes {
        let mut log = Log::new(env!("CARGO_TARGET_TMPDIR"));
        let (mut wal, _) = log.try_open(config(0)).expect("sound");
        assert_eq!(wal.level(), Level::MediaSync);
        change(&log);
        log.write(&mut wal, SEGMENT / 8);
        assert!(read_all(&wal, &log.history).iter().all(|there| *there));
        drop(wal);
        let (wal, _) = log.try_open(config(0)).expect("what is sound");
        let text = wal.fault().expect("a fault").to_string();
        assert!(text.starts_with(expected), "{text}");
        let found = read_all(&wal, &log.history);
        assert!(found[found.len() - 1] && found.iter().any(|there| !there));
    }
}
