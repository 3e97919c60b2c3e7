//! A process that appends, fences and says what it acknowledged is killed at random moments; all of that is there.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Random, config, dir_config, open_whole};
use mstream_pmem::AnyRegion;
use mstream_pmem::format::crc32c;
use mstream_pmem::prepare::DirLock;
use mstream_pmem::region::Level;
use mstream_pmem::wal::{AppendData, AppendError, Wal};

const CYCLES: u64 = 30;
/// Names the directory, and makes this the process that is killed.
const CHILD: &str = "MSTREAM_PMEM_KILLED_DIR";

#[test]
fn acknowledged_records_survive_a_kill_on_tmpfs() {
    survives_kills("/dev/shm", Level::Process, 4_000);
}

#[test]
fn acknowledged_records_survive_a_kill_on_an_ordinary_file_system() {
    survives_kills(env!("CARGO_TARGET_TMPDIR"), Level::MediaSync, 700);
}

/// Kills a child `CYCLES` times, each time after up to `most` further records.
fn survives_kills(parent: &str, level: Level, most: u64) {
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let mut random = Random(std::process::id().into());
    let mut rolled = 0;
    for cycle in 0..CYCLES {
        let acknowledged = run_and_kill(dir.path(), random.below(most));
        let lock = DirLock::take(dir.path()).expect("the kernel released the lock");
        let mut wal = open(dir.path());
        assert_eq!(wal.level(), level);
        assert!(wal.appended() > acknowledged, "cycle {cycle}: {acknowledged} {wal:?}");
        let stream = wal.open_stream(11).expect("room");
        let publication = wal.open_publication(21, stream).expect("room");
        let state = *wal.stream(stream);
        assert_eq!(wal.publication(publication).sequence, state.next_offset);
        for offset in state.earliest_offset..state.next_offset {
            let record = wal.lookup(stream, offset, 0).and_then(|(_, at)| wal.record(at));
            assert_eq!(record.expect("held").block, block(offset), "cycle {cycle}");
        }
        rolled = rolled.max(state.earliest_offset);
        drop((wal, lock));
    }
    assert!(rolled > 0, "segments were recycled");
}

/// No test of its own: what the killed process does.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os(CHILD) {
        append_until_killed(Path::new(&dir));
    }
}

/// The block of the message with this offset.
fn block(offset: u64) -> Vec<u8> {
    let mut random = Random(offset);
    (0..1 + random.below(1_200)).map(|_| random.next() as u8).collect()
}

fn open(dir: &Path) -> Wal<AnyRegion> {
    let config_dir = dir_config(&dir.join("shard-0000"), 256 * 1024, 8);
    let (region, slots, _) = open_whole(config_dir).expect("a sound directory");
    Wal::open(region, &slots, config(0)).expect("a sound log").0
}

/// Starts a child and kills it once it has acknowledged `more` records since its first acknowledgement; the last lsn
/// it acknowledged.
fn run_and_kill(dir: &Path, more: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let lsn = |line: &str| line.strip_prefix("ack ").and_then(|lsn| lsn.parse::<u64>().ok());
    let (mut first, mut last) = (0, 0);
    while first == 0 || last < first + more {
        let line = lines.next().expect("the child goes on").expect("text");
        last = lsn(&line).unwrap_or(last);
        first = if first == 0 { last } else { first };
    }
    child.kill().expect("it runs");
    // A line that the kill cut short names a smaller number, or none.
    for line in lines.map_while(Result::ok) {
        last = lsn(&line).unwrap_or(last).max(last);
    }
    child.wait().expect("it ended");
    last
}

fn append_until_killed(dir: &Path) -> ! {
    let _lock = DirLock::take(dir).expect("free");
    let mut wal = open(dir);
    let stream = wal.open_stream(11).expect("room");
    let publication = wal.open_publication(21, stream).expect("room");
    let mut out = std::io::stdout().lock();
    let mut told = 0;
    for round in 0u64.. {
        for _ in 0..round % 8 {
            let block = block(wal.stream(stream).next_offset);
            let data = AppendData {
                stream,
                publication,
                incarnation: 1,
                count: 1,
                block_crc: crc32c(&block),
                time_ns: round,
                block: &block,
            };
            match wal.append_data(&data) {
                Ok(_) | Err(AppendError::Full | AppendError::Window) => {}
                Err(other) => panic!("{other}"),
            }
            wal.housekeep(4);
        }
        wal.barrier();
        let acknowledged = wal.persisted() - 1;
        if acknowledged > told {
            told = acknowledged;
            writeln!(out, "ack {acknowledged}").and_then(|()| out.flush()).expect("the pipe");
        }
    }
    unreachable!("rounds do not end")
}
