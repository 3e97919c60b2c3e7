//! Cold segments looked at in real directories: what is said of each file, whatever became of it, and nothing is changed.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::Random;
use common::cold::one::{STREAM, copy, copy_of, keep_all};
use common::cold::{LOG, SHARD};
use mstream_pmem::cold::{ColdError, ColdPage, ColdStore, DirDisk, Owner, of_others, set_aside};
use mstream_pmem::inspect::{ColdFileReport, ColdLook, ColdState};

const OTHER: [u8; 16] = [0xab; 16];
const OWNER: Owner = Owner { log_id: LOG, shard: SHARD };

/// A directory with cold segments, three of 100 records each.
struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        let dir = Dir(tempfile::tempdir_in("/dev/shm").expect("tmpfs"));
        let mut store = dir.store(LOG).expect("an empty directory");
        for sequence in 1..=3 {
            copy(&mut store, sequence, (sequence - 1) * 100, 100).expect("copied");
        }
        dir
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn store(&self, log_id: [u8; 16]) -> Result<ColdStore<DirDisk>, ColdError> {
        let disk = DirDisk::open(self.path(), false).expect("a directory");
        ColdStore::open(disk, log_id, SHARD)
    }

    fn file(&self, from: u64, to: u64) -> PathBuf {
        self.path().join(format!("{from:08}-{to:08}.cold"))
    }

    /// Changes the bytes of a file.
    fn change(&self, from: u64, to: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.file(from, to)).expect("there");
        change(&mut bytes);
        fs::write(self.file(from, to), bytes).expect("written");
    }

    fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.path()).expect("listed").map(|entry| entry.expect("one"));
        let files = entries.map(|entry| entry.path()).filter(|path| path.is_file());
        files.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
    }

    /// Looks at it and reads it whole.
    fn look(&self) -> ColdLook {
        let before = self.content();
        let mut look = ColdLook::open(self.path(), Some(OWNER)).expect("a directory");
        look.verify(&mut |_, _| ());
        assert!(self.content() == before, "looking changes nothing");
        look
    }

    fn states(&self) -> Vec<ColdState> {
        self.look().files().iter().map(|file| file.state.clone()).collect()
    }
}

/// All offsets that can be read.
fn offsets(look: &mut ColdLook) -> Vec<u64> {
    let (mut at, mut found, mut page) = (0, Vec::new(), ColdPage::new(64 * 1024));
    loop {
        match look.read(STREAM, at, &mut page) {
            Ok(false) => return found,
            Ok(true) => {
                found.extend(page.records().map(|record| record.header.offset.get()));
                at = page.end();
            }
            Err(ColdError::Damaged { lost: Some((_, to)), .. }) => at = to,
            Err(error) => panic!("{error}"),
        }
    }
}

fn only_damage(file: &ColdFileReport) -> (u64, &str) {
    assert_eq!((&file.state, file.damages.len()), (&ColdState::Damaged, 1), "{file:?}");
    (file.damages[0].at, &file.damages[0].what)
}

#[test]
fn sound_files_are_counted() {
    let dir = Dir::new();
    let mut look = dir.look();
    let file = &look.files()[1];
    assert_eq!((file.name.as_str(), file.range), ("00000002-00000002.cold", (2, 2)));
    assert_eq!((file.state.clone(), file.damages.len()), (ColdState::Sound, 0));
    assert_eq!((file.streams, file.extents, file.records, file.owner), (1, 1, 100, Some(OWNER)));
    assert_eq!(file.bytes, fs::metadata(dir.file(2, 2)).expect("there").len());
    assert!(file.chunks > 1 && file.record_bytes > 90_000 && file.record_bytes < file.bytes);
    let streams = look.streams();
    assert_eq!(streams.len(), 1);
    let stream = streams[0];
    assert_eq!((stream.id, stream.first, stream.end), (STREAM, 0, 300));
    assert_eq!((stream.extents, stream.records), (3, 300));
    assert_eq!(offsets(&mut look), (0..300).collect::<Vec<u64>>());
    // Where nobody says whose they should be, it is who the first belongs to.
    let look = ColdLook::open(dir.path(), None).expect("a directory");
    assert_eq!(look.owner(), Some(OWNER));
    assert!(look.files().iter().all(|file| file.state == ColdState::Sound));
}

#[test]
fn what_a_start_removes_is_told_apart() {
    let dir = Dir::new();
    let inputs: Vec<(PathBuf, Vec<u8>)> = dir.content().into_iter().collect();
    let mut store = dir.store(LOG).expect("sound");
    copy(&mut store, 4, 300, 100).expect("copied");
    while store.maintain(0, &keep_all, u64::MAX).expect("merged").more {}
    drop(store);
    // A crash between the output's name and the inputs' removal, and one amid a copy.
    for (path, bytes) in &inputs {
        fs::write(path, bytes).expect("written");
    }
    fs::write(dir.path().join("00000005-00000005.cold.new"), &inputs[0].1[..70_000])
        .expect("written");
    let output = "00000001-00000004.cold".to_string();
    let within = ColdState::Within(output);
    let (sound, half) = (ColdState::Sound, ColdState::HalfWritten);
    assert_eq!(dir.states(), [sound, within.clone(), within.clone(), within, half]);
    assert!(!dir.look().files().iter().any(|file| file.state.is_wrong()));
    assert_eq!(offsets(&mut dir.look()).len(), 400);
    dir.store(LOG).expect("opened");
    assert_eq!(dir.states(), [ColdState::Sound]);
}

#[test]
fn the_first_bad_byte_of_each_place_is_named() {
    let dir = Dir::new();
    let sound = dir.content();
    // The header of the third record of the first chunk (each takes 96 bytes and a block of 912), and a byte of its block.
    let third = 64 + 2 * 1008;
    for (flipped, at) in [(third + 40, third), (third + 300, third + 96)] {
        dir.change(2, 2, |bytes| bytes[flipped] ^= 4);
        let mut look = dir.look();
        let damaged = &look.files()[1];
        assert_eq!(only_damage(damaged), (at as u64, "the chunk does not fit its crc"));
        let (stream, from, to) = damaged.damages[0].lost.expect("offsets");
        assert_eq!((stream, from), (STREAM, 100));
        let rest: Vec<u64> = (0..100).chain(to..300).collect();
        assert_eq!(offsets(&mut look), rest, "what is behind can be read");
        dir.change(2, 2, |bytes| bytes[flipped] ^= 4);
    }
    let length = sound[&dir.file(2, 2)].len();
    let footer = length - 64;
    let extents = footer - 80;
    let table = footer - 80 - 48 * dir.look().files()[1].chunks as usize;
    for (flipped, at, what) in [
        (20, 0, "the header's check does not fit"),
        (table + 50, table + 48, "the entry of the chunk table does not fit its check"),
        (extents + 3, extents, "the extents do not fit their crc"),
        (footer, footer, "no footer ends the file: it was cut short, or its end is another's"),
        (footer + 9, footer, "the footer's check does not fit, or it is of another header"),
    ] {
        dir.change(2, 2, |bytes| bytes[flipped] ^= 0x10);
        assert_eq!(only_damage(&dir.look().files()[1]), (at as u64, what), "byte {flipped}");
        dir.change(2, 2, |bytes| bytes[flipped] ^= 0x10);
    }
    for length in [length - 1, length / 2, 100, 0] {
        dir.change(2, 2, |bytes| bytes.truncate(length));
        let look = dir.look();
        let (at, what) = only_damage(&look.files()[1]);
        assert!(at as usize == length.saturating_sub(64) || at as usize == length, "{at}");
        assert!(what.contains("cut short") || what.contains("shorter"), "{what}");
        fs::write(dir.file(2, 2), &sound[&dir.file(2, 2)]).expect("written");
    }
    assert_eq!(dir.states(), [ColdState::Sound, ColdState::Sound, ColdState::Sound]);
}

#[test]
fn files_from_elsewhere_are_told() {
    let dir = Dir::new();
    let other = Dir(tempfile::tempdir_in("/dev/shm").expect("tmpfs"));
    let mut store = other.store(OTHER).expect("an empty directory");
    copy_of(OTHER, &mut store, 4, 0, 10).expect("copied");
    fs::copy(other.file(4, 4), dir.file(4, 4)).expect("copied");
    // A newer version: its check fits.
    fs::copy(dir.file(1, 1), dir.file(5, 5)).expect("copied");
    dir.change(5, 5, |bytes| {
        bytes[8] = 2;
        let check = mstream_pmem::format::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&check.to_le_bytes());
    });
    // One that has another's name, one that overlaps, one whose offsets are there already, and what is no file.
    fs::copy(dir.file(1, 1), dir.file(6, 9)).expect("copied");
    fs::copy(dir.file(1, 1), dir.file(8, 10)).expect("copied");
    fs::create_dir(dir.file(11, 11)).expect("made");
    fs::write(dir.path().join("notes.txt"), "not ours").expect("written");
    let look = dir.look();
    let states: Vec<&ColdState> = look.files().iter().map(|file| &file.state).collect();
    let sound = &ColdState::Sound;
    assert_eq!(states[..3], [sound, sound, sound]);
    assert_eq!(states[3..5], [&ColdState::OtherLog, &ColdState::Version(2)]);
    assert_eq!(look.files()[3].owner, Some(Owner { log_id: OTHER, shard: SHARD }));
    let (at, what) = only_damage(&look.files()[5]);
    assert!(at == 32 && what.contains("does not fit the name"), "{at} {what}");
    assert_eq!(states[6], &ColdState::Overlaps("00000006-00000009.cold".to_string()));
    assert_eq!((states.len(), states[7]), (8, &ColdState::Damaged));
    assert!(states[3..].iter().all(|state| state.is_wrong()));
}

/// What is copied, merged and removed while it is looked at is not taken for damage, and nothing is missing.
#[test]
fn files_that_are_merged_meanwhile_are_whole() {
    let dir = Dir(tempfile::tempdir_in("/dev/shm").expect("tmpfs"));
    let mut store = dir.store(LOG).expect("an empty directory");
    copy(&mut store, 1, 0, 20).expect("copied");
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for sequence in 2..=300 {
                copy(&mut store, sequence, (sequence - 1) * 20, 20).expect("copied");
                while store.maintain(0, &keep_all, 40_000).expect("merged").more {}
            }
        });
        let (mut least, mut looks) = (20, 0);
        while !writer.is_finished() || looks == 0 {
            let mut look = ColdLook::open(dir.path(), Some(OWNER)).expect("a directory");
            look.verify(&mut |_, _| ());
            assert!(look.files().iter().all(|file| !file.state.is_wrong()), "{:?}", look.files());
            let found = offsets(&mut look);
            assert!(found.len() >= least, "{} after {least}", found.len());
            (least, looks) = (found.len(), looks + 1);
            assert_eq!(found, (0..least as u64).collect::<Vec<u64>>());
        }
    });
    assert_eq!(offsets(&mut dir.look()).len(), 6_000);
}

/// Bits flipped, ends cut, parts zeroed anywhere: said in words, and never more than what was stored is read.
#[test]
fn any_damage_is_said_and_nothing_else_is_read() {
    let (dir, mut random, mut damaged) = (Dir::new(), Random(7), 0);
    let sound = dir.content();
    for _ in 0..200 {
        let number = 1 + random.below(3);
        dir.change(number, number, |bytes| {
            let at = random.below(bytes.len() as u64) as usize;
            let end = bytes.len() - 1 - random.below(900) as usize;
            match random.below(4) {
                0 => bytes.truncate(at),
                1 => bytes[at..].fill(0),
                2 => bytes[end] ^= 1 << random.below(8),
                _ => bytes[at] ^= 1 << random.below(8),
            }
        });
        let mut look = dir.look();
        let wrong = look.files().iter().filter(|file| file.state.is_wrong()).count();
        // Zeros may be there already.
        damaged += usize::from(dir.content() != sound);
        assert_eq!(wrong == 1, dir.content() != sound, "{:?}", look.files());
        let read = offsets(&mut look);
        assert!(read.is_sorted() && read.iter().all(|offset| *offset < 300) && read.len() <= 300);
        let file = dir.file(number, number);
        fs::write(&file, &sound[&file]).expect("written");
    }
    assert!(damaged > 150, "{damaged}");
}

#[test]
fn files_of_a_log_that_is_no_more_are_set_aside_and_stay_readable() {
    let dir = Dir::new();
    let whole = dir.content();
    // Nothing is removed where a start is refused: not even what was half written, or seems to be replaced.
    let half = dir.path().join("00000004-00000004.cold.new");
    fs::write(&half, &whole[&dir.file(1, 1)][..70_000]).expect("written");
    let before = dir.content();
    assert!(matches!(dir.store(OTHER), Err(ColdError::OtherLog { .. })));
    assert!(dir.content() == before);
    let owner = Owner { log_id: OTHER, shard: SHARD };
    let others = of_others(dir.path(), owner).expect("read");
    assert_eq!(others.len(), 1);
    assert_eq!((others[0].owner, others[0].files.len()), (OWNER, 4));
    assert!(others[0].dir.ends_with("log-61206c6f67206f66206120776f726c64-shard-3"));
    set_aside(dir.path(), &others).expect("moved");
    assert!(of_others(dir.path(), owner).expect("read").is_empty());
    let mut store = dir.store(OTHER).expect("nothing is in the way");
    copy_of(OTHER, &mut store, 1, 0, 10).expect("copied");
    let mut look = ColdLook::open(&others[0].dir, None).expect("a directory");
    assert_eq!(offsets(&mut look), (0..300).collect::<Vec<u64>>());
    // Put back beside the new ones by mistake: refused, also where one seems to replace another.
    fs::copy(others[0].dir.join("00000001-00000001.cold"), dir.file(1, 2)).expect("copied");
    assert!(matches!(dir.store(OTHER), Err(ColdError::OtherLog { .. })));
    fs::remove_file(dir.file(1, 2)).expect("there");
    fs::rename(dir.file(1, 1), dir.path().join("kept")).expect("there");
    fs::copy(others[0].dir.join("00000001-00000001.cold"), dir.file(1, 1)).expect("copied");
    let again = of_others(dir.path(), owner).expect("read");
    let error = set_aside(dir.path(), &again).expect_err("one of that name is there");
    assert!(error.to_string().contains("00000001-00000001.cold: setting a file aside"), "{error}");
    assert!(dir.file(1, 1).exists());
}

/// A file of another log whose range lies within that of a merge's output: a start does not take it for an input.
#[test]
fn a_file_of_another_log_is_not_removed_as_an_input() {
    let dir = Dir::new();
    let mut store = dir.store(LOG).expect("sound");
    copy(&mut store, 4, 300, 100).expect("copied");
    while store.maintain(0, &keep_all, u64::MAX).expect("merged").more {}
    let other = Dir(tempfile::tempdir_in("/dev/shm").expect("tmpfs"));
    let mut theirs = other.store(OTHER).expect("an empty directory");
    copy_of(OTHER, &mut theirs, 2, 0, 10).expect("copied");
    fs::copy(other.file(2, 2), dir.file(2, 2)).expect("copied");
    assert_eq!(dir.states(), [ColdState::Sound, ColdState::OtherLog]);
    let error = dir.store(LOG).map(drop).expect_err("one is another's").to_string();
    assert!(error.starts_with("00000002-00000002.cold: of log abab"), "{error}");
    assert!(dir.file(2, 2).exists());
}
