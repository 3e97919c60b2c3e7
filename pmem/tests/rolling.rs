//! Logs in files that roll many times: tmpfs, an ordinary file system, synced and not, and hugetlbfs where there is one.

mod common;

use std::fs;
use std::path::Path;

use common::{History, Random, STREAMS, config, dir_config, open_whole};
use mstream_pmem::AnyRegion;
use mstream_pmem::format::SegmentHeader;
use mstream_pmem::prepare::DirConfig;
use mstream_pmem::region::{Level, Region};
use mstream_pmem::wal::{AppendError, Wal};

const SEGMENTS: u32 = 8;

fn open(config_dir: &DirConfig, history: &History) -> Wal<AnyRegion> {
    let (region, slots, _) = open_whole(config_dir.clone()).expect("the directory is sound");
    let (mut wal, report) = Wal::open(region, &slots, config(history.time)).expect("a sound log");
    assert_eq!(report.torn_tails, 0, "{report:?}");
    assert!(!report.possible_loss);
    history.check(&mut wal).expect("everything is there");
    wal
}

fn earliest(wal: &mut Wal<AnyRegion>) -> Vec<u64> {
    STREAMS
        .iter()
        .map(|id| {
            let slot = wal.open_stream(*id).expect("room");
            wal.stream(slot).earliest_offset
        })
        .collect()
}

/// The newest segment's number.
fn rolled(dir: &Path) -> u64 {
    let headers = (0..SEGMENTS).map(|slot| dir.join(format!("{slot:08}.seg"))).map(|path| {
        let bytes = fs::read(path).expect("a segment file");
        SegmentHeader::read(&bytes).map_or(0, |header| header.sequence.get())
    });
    headers.max().unwrap_or(0)
}

/// Rolls at least 24 times over several starts. hugetlbfs takes no write(2), so files are read by what works everywhere.
fn rolls_and_survives(config_dir: &DirConfig, expected: Level) {
    let (dir, segment_bytes) = (config_dir.dir.as_path(), config_dir.segment_bytes);
    let mut random = Random(segment_bytes);
    let mut history = History::default();
    let mut before = vec![0; STREAMS.len()];
    // Written once, at the beginning: it must outlive the segment it was first written in.
    let mut wal = open(config_dir, &history);
    history.live(&mut wal, &mut random);
    history.live(&mut wal, &mut random);
    for start in 0..4 {
        if start > 0 {
            wal = open(config_dir, &history);
        }
        let mut written = 0;
        while written < 7 * segment_bytes {
            let bytes = 200 + random.below(1_081);
            match history.append(&mut wal, &mut random, bytes) {
                Ok(_) => written += bytes + 96,
                Err(AppendError::Full) => {}
                Err(AppendError::Window) if expected == Level::MediaSync => {}
                Err(other) => panic!("{other}"),
            }
            wal.barrier();
            if expected == Level::Process {
                assert_eq!(wal.persisted(), wal.appended(), "a fence is all it takes");
            }
            wal.housekeep(4);
        }
        history.check(&mut wal).expect("everything is there");
        let now = earliest(&mut wal);
        assert!(now.iter().zip(&before).all(|(now, before)| now >= before), "{now:?} {before:?}");
        if start > 0 {
            assert!(
                now.iter().zip(&before).all(|(now, before)| now > before),
                "{now:?} {before:?}"
            );
        }
        before = now;
        drop(wal);
        let sizes: Vec<u64> = fs::read_dir(dir)
            .expect("the directory")
            .map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len())
            .collect();
        assert_eq!(sizes, vec![segment_bytes; SEGMENTS as usize], "the log keeps to its bytes");
        wal = open(config_dir, &history);
        drop(wal);
        wal = open(config_dir, &history);
    }
    let level = wal.region().level();
    assert_eq!(level, expected);
    drop(wal);
    assert!(rolled(dir) >= 24, "rolled to {} only", rolled(dir));
}

#[test]
fn on_tmpfs() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
    rolls_and_survives(&dir_config(dir.path(), 1 << 20, SEGMENTS), Level::Process);
}

#[test]
fn on_an_ordinary_file_system() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = dir_config(dir.path(), 1 << 20, SEGMENTS);
    rolls_and_survives(&config, Level::MediaSync);
}

#[test]
fn on_an_ordinary_file_system_that_is_not_synced() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = DirConfig { sync: None, ..dir_config(dir.path(), 1 << 20, SEGMENTS) };
    rolls_and_survives(&config, Level::Process);
}

#[test]
#[expect(clippy::print_stdout, reason = "says that it was skipped")]
fn on_hugetlbfs() {
    let Some(mount) = std::env::var_os("MSTREAM_HUGETLBFS") else {
        println!("SKIP on_hugetlbfs: MSTREAM_HUGETLBFS names no mount");
        return;
    };
    let dir = tempfile::tempdir_in(mount).expect("hugetlbfs");
    rolls_and_survives(&dir_config(dir.path(), 2 << 20, SEGMENTS), Level::Process);
    let odd = tempfile::tempdir_in(dir.path().parent().expect("the mount")).expect("hugetlbfs");
    let refused = open_whole(dir_config(odd.path(), 1 << 20, 2)).expect_err("half a huge page");
    assert!(refused.to_string().contains("multiple of the huge page size"), "{refused}");
}
