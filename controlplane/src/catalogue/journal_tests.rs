//! The journal on media that lose power, fail and are damaged.

use std::io;
use std::sync::{Arc, Mutex};

use super::journal::ReplaceError;
use super::state_tests::{configured, create, register};
use super::*;

/// A file in memory, seen by the test too.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    file: Option<Vec<u8>>,
    fail_write: bool,
    fail_sync: bool,
    fail_cut: bool,
    fail_replace: Option<bool>,
    syncs: u32,
    replaced: u32,
}

impl Memory {
    fn with(file: &[u8]) -> Memory {
        let memory = Memory::default();
        memory.set(|inside| inside.file = Some(file.to_vec()));
        memory
    }

    fn set<T>(&self, change: impl FnOnce(&mut Inside) -> T) -> T {
        change(&mut self.0.lock().expect("no panic inside"))
    }

    fn file(&self) -> Vec<u8> {
        self.set(|inside| inside.file.clone()).expect("a file")
    }
}

fn broken(fails: bool) -> io::Result<()> {
    match fails {
        true => Err(io::Error::other("broken")),
        false => Ok(()),
    }
}

impl Medium for Memory {
    fn place(&self) -> String {
        "memory".to_string()
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.set(|inside| inside.file.clone()))
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.set(|inside| {
            let failed = broken(inside.fail_write);
            let file = inside.file.as_mut().expect("a file");
            assert_eq!(at, file.len() as u64, "at its end");
            // Half of it gets there all the same.
            let taken = if failed.is_err() { bytes.len() / 2 } else { bytes.len() };
            file.extend_from_slice(&bytes[..taken]);
            failed
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.set(|inside| {
            inside.syncs += 1;
            broken(inside.fail_sync)
        })
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set(|inside| {
            broken(inside.fail_cut)?;
            inside.file.as_mut().expect("a file").truncate(length as usize);
            Ok(())
        })
    }

    fn replace(&mut self, contents: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), ReplaceError> {
        self.set(|inside| {
            if let Some(kept) = inside.fail_replace {
                return Err(ReplaceError { error: io::Error::other("broken"), kept });
            }
            inside.file = Some(contents.flatten().collect());
            inside.replaced += 1;
            Ok(())
        })
    }
}

fn open(memory: &Memory) -> (Keeper, Recovered) {
    let (journal, catalogue, recovered) = FileJournal::open(memory.clone()).expect("sound");
    (Keeper::new(catalogue, journal), recovered)
}

fn shown(keeper: &Keeper) -> String {
    keeper.read(|state| format!("{state:?}"))
}

/// A file of several batches, and the state and length after each.
fn grown() -> (Vec<u8>, Vec<(usize, String)>) {
    let memory = Memory::default();
    let (keeper, _) = open(&memory);
    let mut states = vec![(memory.file().len(), shown(&keeper))];
    let batches = [
        vec![Command::Configure(configured())],
        vec![create("a"), create("a"), create("b")],
        vec![register(None, "feed"), Command::ReserveStreamIds(20)],
        vec![Command::DeleteStream(StreamKey::Name("a".into())), create("c")],
        vec![create("d")],
    ];
    for batch in batches {
        keeper.change(&batch).expect("durable");
        states.push((memory.file().len(), shown(&keeper)));
    }
    (memory.file(), states)
}

#[test]
fn a_file_cut_anywhere_gives_what_was_whole_and_reading_twice_changes_nothing() {
    let (file, states) = grown();
    for length in states[0].0..=file.len() {
        let memory = Memory::with(&file[..length]);
        let (keeper, recovered) = open(&memory);
        let (whole, state) =
            states.iter().rev().find(|(end, _)| *end <= length).expect("the header is whole");
        assert_eq!(&shown(&keeper), state, "{length}");
        assert_eq!(recovered.cut_bytes, (length - whole) as u64, "{length}");
        let (again, recovered) = open(&memory);
        assert_eq!((&shown(&again), recovered.cut_bytes), (state, 0), "{length}");
        // It goes on from there.
        again.change(&[Command::ReserveStreamIds(50)]).expect("durable");
        let (after, _) = open(&memory);
        assert_eq!(shown(&after), shown(&again), "{length}");
    }
    for length in 0..states[0].0 {
        let error = FileJournal::open(Memory::with(&file[..length])).expect_err("no header");
        assert!(error.to_string().starts_with("memory: damaged at byte "), "{error}");
    }
}

#[test]
fn a_flipped_bit_before_sound_records_is_damage_and_is_told_with_its_place() {
    let (file, states) = grown();
    let ends: Vec<_> = states.iter().map(|(end, _)| *end).collect();
    let last = ends[ends.len() - 2];
    for at in 0..file.len() {
        for bit in [0, 3, 7] {
            let mut file = file.clone();
            file[at] ^= 1 << bit;
            let memory = Memory::with(&file);
            match FileJournal::open(memory.clone()) {
                Err(OpenError::Damaged { place, at: told, .. }) => {
                    assert!(at < last, "{at}: {told}");
                    let start = if at < ends[0] {
                        0
                    } else {
                        *ends.iter().rev().find(|end| **end <= at).expect("one")
                    };
                    assert_eq!((place.as_str(), told), ("memory", start), "{at}");
                    assert_eq!(memory.file(), file, "{at}: left as it is");
                }
                Ok((_, catalogue, recovered)) => {
                    // The last record cannot be told from an interrupted write.
                    assert!(at >= last, "{at}");
                    assert_eq!(format!("{catalogue:?}"), states[states.len() - 2].1);
                    assert_eq!(recovered.cut_bytes, (file.len() - last) as u64);
                }
                Err(other) => panic!("{at}: {other}"),
            }
        }
    }
}

#[test]
fn another_version_is_refused() {
    let memory = Memory::with(&journal::file_header_of(3));
    let error = FileJournal::open(memory).expect_err("not ours").to_string();
    assert_eq!(error, "memory: version 3; this appliance reads versions 1 to 2");
}

#[test]
fn a_file_with_a_cold_stream_is_of_another_version() {
    let memory = Memory::with(&journal::file_header_of(1));
    let version = || u16::from_le_bytes([memory.file()[8], memory.file()[9]]);
    let (journal, catalogue, _) = FileJournal::open(memory.clone()).expect("sound");
    let keeper = Keeper::new(catalogue, journal);
    keeper.change(&[Command::Configure(configured()), create("hot")]).expect("durable");
    assert_eq!(version(), 1);
    let rules = Rules { cold: true, newest_per_key: true, ..Rules::default() };
    let cold = Command::CreateStream { time_ns: 7, id: None, name: "c".into(), shard: None, rules };
    keeper.change(&[cold]).expect("durable");
    assert_eq!(version(), 2);
    let (journal, catalogue, recovered) = FileJournal::open(memory.clone()).expect("sound");
    assert_eq!((format!("{catalogue:?}"), recovered.commands), (shown(&keeper), 1));
    let stream = catalogue.stream(&StreamKey::Name("c".into())).expect("there");
    assert_eq!(stream.rules, rules);
    // It goes on as it is.
    let keeper = Keeper::new(catalogue, journal);
    keeper.change(&[create("later")]).expect("durable");
    assert_eq!(version(), 2);
    let (_, catalogue, _) = FileJournal::open(memory.clone()).expect("sound");
    assert_eq!(format!("{catalogue:?}"), shown(&keeper));
}

#[test]
fn a_missing_record_is_damage() {
    let (file, states) = grown();
    let (from, to) = (states[1].0, states[2].0);
    let mut file = file;
    file.drain(from..to);
    let error = FileJournal::open(Memory::with(&file)).expect_err("a gap").to_string();
    assert_eq!(error, format!("memory: damaged at byte {from}: record 3 where 2 belongs"));
}

#[test]
fn a_failed_write_changes_nothing_and_the_next_one_may_go_through() {
    let memory = Memory::default();
    let (keeper, _) = open(&memory);
    keeper.change(&[Command::Configure(configured())]).expect("durable");
    let (before, file) = (shown(&keeper), memory.file());
    memory.set(|inside| inside.fail_write = true);
    let error = keeper.change(&[create("a")]).expect_err("broken");
    assert!(matches!(error, JournalError::NotWritten { .. }), "{error}");
    assert_eq!((shown(&keeper), memory.file()), (before, file));
    assert_eq!(keeper.closed(), None);
    memory.set(|inside| inside.fail_write = false);
    keeper.change(&[create("a")]).expect("durable");
    let (again, _) = open(&memory);
    assert_eq!(shown(&again), shown(&keeper));
}

#[test]
fn after_a_failed_sync_or_cut_no_more_changes_are_taken() {
    let broken_sync: fn(&mut Inside) = |inside| inside.fail_sync = true;
    let broken_cut: fn(&mut Inside) = |inside| (inside.fail_write, inside.fail_cut) = (true, true);
    for break_it in [broken_sync, broken_cut] {
        let memory = Memory::default();
        let (keeper, _) = open(&memory);
        keeper.change(&[Command::Configure(configured())]).expect("durable");
        let before = shown(&keeper);
        memory.set(break_it);
        let error = keeper.change(&[create("a")]).expect_err("broken");
        assert!(matches!(error, JournalError::Closed { .. }), "{error}");
        memory.set(|inside| {
            (inside.fail_write, inside.fail_sync, inside.fail_cut) = (false, false, false);
        });
        let file = memory.file();
        keeper.change(&[create("b")]).expect_err("closed");
        assert_eq!((shown(&keeper), memory.file()), (before, file), "nothing more is written");
        assert!(keeper.closed().expect("closed").contains("until a restart"));
        open(&memory);
    }
}

#[test]
fn a_batch_is_one_write_and_one_sync_and_a_repetition_none() {
    let memory = Memory::default();
    let (keeper, _) = open(&memory);
    keeper.change(&[Command::Configure(configured())]).expect("durable");
    let syncs = memory.set(|inside| inside.syncs);
    keeper.change(&[create("a"), create("b"), register(None, "w")]).expect("durable");
    assert_eq!(memory.set(|inside| inside.syncs), syncs + 1);
    let file = memory.file();
    let outcomes = keeper
        .change(&[create("a"), register(None, "w"), Command::Configure(configured())])
        .expect("nothing to do");
    assert!(outcomes[0].is_err() && outcomes[1].is_ok() && outcomes[2].is_ok());
    assert_eq!(memory.file(), file);
    assert_eq!(memory.set(|inside| inside.syncs), syncs + 1);
}

/// A journal of many streams that come and go.
fn churned(memory: &Memory) -> Keeper {
    let (keeper, _) = open(memory);
    let wide = Configured { streams_per_shard: 1 << 20, publishers: 99, ..configured() };
    keeper.change(&[Command::Configure(wide), register(None, "w")]).expect("durable");
    for round in 0..30 {
        let name = |n: usize| format!("{round}-{n}-{}", "x".repeat(40));
        let batch: Vec<_> = (0..1000).map(|n| create(&name(n))).collect();
        keeper.change(&batch).expect("durable");
        let key = |n| StreamKey::Name(name(n).into());
        let batch: Vec<_> = (1..1000).map(|n| Command::DeleteStream(key(n))).collect();
        keeper.change(&batch).expect("durable");
    }
    keeper
}

#[test]
fn what_is_superfluous_is_compacted_and_the_file_goes_on() {
    let memory = Memory::default();
    let keeper = churned(&memory);
    assert!(memory.set(|inside| inside.replaced) > 1, "beside its making");
    assert!(memory.file().len() < 2 << 20, "{}", memory.file().len());
    keeper.change(&[create("after")]).expect("durable");
    let (again, recovered) = open(&memory);
    assert_eq!((shown(&again), recovered.cut_bytes), (shown(&keeper), 0));
}

#[test]
fn a_failed_compaction_loses_nothing() {
    let memory = Memory::default();
    open(&memory);
    memory.set(|inside| inside.fail_replace = Some(true));
    let keeper = churned(&memory);
    assert_eq!(keeper.closed(), None, "the old file serves");
    let (again, _) = open(&memory);
    assert_eq!(shown(&again), shown(&keeper));
    memory.set(|inside| inside.fail_replace = Some(false));
    keeper.change(&[create("committed before")]).expect("durable before the compaction");
    keeper.change(&[create("later")]).expect_err("which file is there is unknown");
    let (again, _) = open(&memory);
    assert_eq!(shown(&again), shown(&keeper));
}

#[test]
fn a_directory_holds_it_from_start_to_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let medium = || Directory::new(dir.path());
    let (journal, catalogue, recovered) = FileJournal::open(medium()).expect("made");
    assert!(recovered.new);
    let keeper = Keeper::new(catalogue, journal);
    keeper.change(&[Command::Configure(configured()), create("a")]).expect("durable");
    std::fs::write(dir.path().join("catalogue.new"), "left behind").expect("written");
    let (mut journal, catalogue, recovered) = FileJournal::open(medium()).expect("sound");
    assert_eq!(recovered, Recovered { new: false, commands: 2, cut_bytes: 0 });
    assert_eq!(format!("{catalogue:?}"), shown(&keeper));
    assert!(!dir.path().join("catalogue.new").exists());
    journal.commit(&catalogue, &[create("b")]).expect("durable");
    std::fs::write(
        dir.path().join("catalogue.log"),
        "no catalogue at all, but text of some length",
    )
    .expect("written");
    let error = FileJournal::open(medium()).expect_err("damaged").to_string();
    let path = dir.path().join("catalogue.log");
    assert_eq!(error, format!("{}: damaged at byte 0: not a catalogue", path.display()));
}
