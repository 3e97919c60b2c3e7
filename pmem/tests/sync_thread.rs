//! The thread that syncs a log, over files whose syncs wait for the test, and one that ends by a bug.

mod common;

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{History, Random, config, dir_config};
use mstream_pmem::prepare::open_dir_on;
use mstream_pmem::region::Level;
use mstream_pmem::staged::{Files, Media};
use mstream_pmem::wal::{AppendError, Wal};
use mstream_pmem::{AnyRegion, Failed};

/// Longer than anything takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    shut: bool,
    waits: bool,
    syncs: u64,
    panics: bool,
}

/// Files whose syncs wait while it is shut.
#[derive(Clone, Debug)]
struct Gate {
    files: Arc<Files>,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Media for Gate {
    fn write_at(&mut self, slot: u32, at: u64, bytes: &[u8]) -> io::Result<usize> {
        assert!(!self.state.0.lock().expect("sound").panics, "as the test wants it");
        self.files.write_at(slot, at, bytes)
    }

    fn sync(&mut self, slot: u32) -> io::Result<()> {
        let (state, changed) = &*self.state;
        let mut state = state.lock().expect("sound");
        state.syncs += 1;
        while state.shut {
            state.waits = true;
            changed.notify_all();
            state = changed.wait(state).expect("sound");
        }
        state.waits = false;
        drop(state);
        self.files.sync(slot)
    }
}

/// A new log behind a gate that is open.
fn open(dir: &std::path::Path) -> (Wal<AnyRegion>, Arc<(Mutex<State>, Condvar)>) {
    let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
    let gate = Arc::clone(&state);
    let made = open_dir_on(dir_config(dir, 1 << 20, 8), |files| Gate { files, state: gate });
    let (region, mut slots, mut preparer) = made.expect("a directory");
    while preparer.has_next() {
        slots.push(preparer.prepare_next().expect("room"));
    }
    let (wal, _) = Wal::open(region, &slots, config(0)).expect("a new log");
    assert_eq!(wal.level(), Level::MediaSync);
    (wal, state)
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn nothing_is_persisted_before_its_sync_has_returned() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (mut wal, gate) = open(dir.path());
    let (mut history, mut random) = (History::default(), Random(5));
    until("the start's record", || wal.persisted() == wal.appended());
    let before = wal.persisted();
    let syncs = {
        let mut state = gate.0.lock().expect("sound");
        state.shut = true;
        state.syncs
    };
    history.append(&mut wal, &mut random, 500).expect("room");
    wal.barrier();
    until("a sync that waits", || gate.0.lock().expect("sound").waits);
    let file = std::fs::File::open(dir.path().join("00000000.seg")).expect("the segment");
    let mut written = vec![0; 1 << 20];
    file.read_exact_at(&mut written, 0).expect("all of it");
    let block = &history.batches[0].block;
    assert!(written.windows(block.len()).any(|bytes| bytes == block), "it is written");
    for _ in 0..5 {
        assert_eq!(wal.persisted(), before, "and not synced");
        history.append(&mut wal, &mut random, 500).expect("room");
        wal.barrier();
    }
    gate.0.lock().expect("sound").shut = false;
    gate.1.notify_all();
    until("all of them", || wal.persisted() == wal.appended());
    let state = gate.0.lock().expect("sound");
    assert_eq!(state.syncs, syncs + 2, "one for the first, one for those that came meanwhile");
}

#[test]
fn what_is_under_way_when_a_region_is_dropped_gets_to_its_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (mut wal, _) = open(dir.path());
    let (mut history, mut random) = (History::default(), Random(6));
    history.started(&wal);
    for _ in 0..100 {
        history.append(&mut wal, &mut random, 500).expect("room");
    }
    wal.barrier();
    drop(wal);
    let (mut wal, _) = open(dir.path());
    history.check(&mut wal).expect("all of it is there");
}

#[test]
fn a_thread_that_ends_poisons_the_log() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (mut wal, gate) = open(dir.path());
    let (mut history, mut random) = (History::default(), Random(7));
    until("the start's record", || wal.persisted() == wal.appended());
    gate.0.lock().expect("sound").panics = true;
    let before = wal.persisted();
    history.append(&mut wal, &mut random, 500).expect("room");
    wal.barrier();
    until("poison", || {
        assert_eq!(wal.persisted(), before);
        wal.poison().is_some()
    });
    let poison = wal.poison().expect("poisoned");
    assert_eq!(poison.failed, Failed::Thread);
    assert_eq!(poison.to_string(), "the thread that syncs the log has ended");
    let refused = history.append(&mut wal, &mut random, 500);
    assert_eq!(refused, Err(AppendError::Poisoned(poison)));
}
