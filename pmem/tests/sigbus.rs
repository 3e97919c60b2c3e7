//! Segment files cut short under a running log, with real SIGBUS: that costs the range, not the process.
#![expect(clippy::print_stdout, reason = "a test that runs itself says that it is ready")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use common::{History, Random, config, dir_config, open_whole};
use mstream_pmem::sigbus;
use mstream_pmem::wal::{AppendError, Wal};

const SEGMENT: u64 = 256 * 1024;

#[test]
fn a_file_cut_short_costs_its_range() {
    sigbus::install().expect("a handler");
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
    let (region, slots, _) = open_whole(dir_config(dir.path(), SEGMENT, 6)).expect("a directory");
    let (mut wal, _) = Wal::open(region, &slots, config(0)).expect("a new log");
    let (mut history, mut random) = (History::default(), Random(3));
    for _ in 0..300 {
        history.append(&mut wal, &mut random, 1000).expect("room");
        wal.barrier();
        wal.persisted();
    }
    let persisted = wal.persisted();
    assert_eq!(wal.poison(), None);
    // The second segment is the one that is written to.
    let cut = |slot: u32, bytes: u64| {
        let path = dir.path().join(format!("{slot:08}.seg"));
        fs::File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.set_len(bytes))
            .expect("cut");
    };
    cut(1, 64 * 1024);
    let mut refused = None;
    for _ in 0..300 {
        let appended = history.append(&mut wal, &mut random, 1000);
        wal.barrier();
        wal.persisted();
        if let Err(error) = appended {
            refused = Some(error);
            break;
        }
    }
    let poison = wal.poison().expect("the store was noticed");
    assert_eq!(refused, Some(AppendError::Poisoned(poison)));
    assert!(poison.to_string().contains("00000001.seg"), "{poison}");
    assert_eq!(wal.persisted(), persisted, "no watermark moves any more");

    // What is in the first segment is all there; of the second what stands before the cut.
    let (mut read, mut gone) = (0, 0);
    for batch in &history.batches {
        if batch.lsn >= persisted {
            continue;
        }
        let stream = wal.stream_slot(batch.stream).expect("known");
        let (_, at) = wal.lookup(stream, batch.offset, 0).expect("indexed");
        match wal.record(at).filter(|record| wal.still_sound(record)) {
            Some(record) => {
                assert_eq!(record.block, batch.block);
                read += 1;
            }
            None => gone += 1,
        }
    }
    assert!(read > 200 && gone > 0, "{read} read, {gone} gone");

    // A segment that is only read loses its range in the same way.
    cut(0, 4096);
    let first = &history.batches[0];
    let stream = wal.stream_slot(first.stream).expect("known");
    let (_, at) = wal.lookup(stream, first.offset, 0).expect("indexed");
    assert!(wal.record(at).filter(|record| wal.still_sound(record)).is_none());
    wal.housekeep(1000);
    wal.barrier();
    assert_eq!(wal.persisted(), persisted);
}

/// Where this test finds what it is to do when it runs itself.
const CHILD: &str = "MSTREAM_SIGBUS_CHILD";

#[test]
fn elsewhere_the_process_ends_as_before() {
    const NAME: &str = "elsewhere_the_process_ends_as_before";
    if std::env::var_os(CHILD).is_some() {
        sigbus::install().expect("a handler");
        println!("waits");
        std::thread::sleep(std::time::Duration::from_secs(600));
        return;
    }
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", NAME, "--nocapture"]).env(CHILD, "1");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut said = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(
        said.any(|line| line.is_ok_and(|line| line.ends_with("waits"))),
        "its handler is there"
    );
    let killed = Command::new("kill").args(["-s", "BUS", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let status = child.wait().expect("a child of ours");
    assert_eq!(status.signal(), Some(7), "SIGBUS: {status:?}");
}
