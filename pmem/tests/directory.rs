//! The log's directory: lock, levels, and a disk that is full.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{dir_config, open_whole};
use mstream_pmem::prepare::{DirConfig, DirError, DirLock, open_dir};
use mstream_pmem::region::{Level, Region};

#[test]
fn a_second_lock_is_refused_with_the_holders_pid() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = DirLock::take(dir.path()).expect("free");
    let refused = DirLock::take(dir.path()).expect_err("held");
    let pid = std::process::id().to_string();
    assert!(matches!(&refused, DirError::InUse { pid: found, .. } if *found == pid), "{refused}");
    assert!(refused.to_string().contains(&format!("pid {pid}")), "{refused}");
    drop(held);
    DirLock::take(dir.path()).expect("free again");
}

/// Opens a directory below `parent` with each level demanded: what it gives is found, and no more.
fn gives(parent: &str, sync: bool, gives: Level, why: &str) {
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let mut config = dir_config(dir.path(), 1 << 20, 2);
    if !sync {
        config.sync = None;
    }
    for required in [Level::PmemEmulated, Level::MediaSync, Level::Pmem] {
        for trust_host_pmem in [false, true] {
            if required <= gives {
                continue;
            }
            let config = DirConfig { require: Some(required), trust_host_pmem, ..config.clone() };
            let refused = open_dir(config).expect_err("no MAP_SYNC here");
            assert!(
                matches!(refused, DirError::Level { found, required: asked, .. }
                    if asked == required && found == gives),
                "{refused}"
            );
            let expected = format!("gives level {gives} ({why}), but [wal] require is {required}");
            assert!(refused.to_string().ends_with(&expected), "{refused}");
        }
    }
    assert_eq!(names(dir.path()), Vec::<String>::new(), "a refusal leaves no file");
    let config = DirConfig { require: Some(gives), ..config };
    let (region, _, _) = open_whole(config).expect("that is what there is");
    assert_eq!(region.level(), gives);
    assert_eq!(names(dir.path()), ["00000000.seg", "00000001.seg"]);
}

#[test]
fn what_a_file_system_promises_is_found_out() {
    gives("/dev/shm", true, Level::Process, "a file system in memory");
    let ordinary = env!("CARGO_TARGET_TMPDIR");
    gives(ordinary, true, Level::MediaSync, "an ordinary file, not persistent memory");
    let unsynced = "an ordinary file, and [wal] sync is false";
    gives(ordinary, false, Level::Process, unsynced);
}

#[test]
fn a_directory_that_cannot_be_used_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("a file");
    let refused = open_dir(dir_config(&file, 1 << 20, 2)).expect_err("not a directory");
    assert!(refused.to_string().contains("making the shard's directory"), "{refused}");
    let (_, _, mut preparer) =
        open_dir(dir_config(&dir.path().join("a"), 1 << 20, 2)).expect("new");
    fs::remove_dir(dir.path().join("a")).expect("empty");
    let refused = preparer.prepare_next().expect_err("gone");
    assert!(refused.to_string().contains("making the segment"), "{refused}");
    fs::create_dir(dir.path().join("a")).expect("made again");
    assert_eq!(preparer.prepare_next().expect("tried again"), 0);
}

/// A file system of its own; unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    /// `what` mounted with these arguments; none, and a word about it, where that is not allowed.
    #[expect(clippy::print_stdout, reason = "says that it was skipped")]
    fn new(test: &str, arguments: &[&str], what: &Path) -> Option<Mount> {
        let mount = Mount(tempfile::tempdir().expect("a directory"));
        let mounted = Command::new("mount").args(arguments).arg(what).arg(mount.0.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(mount);
        }
        println!("SKIP {test}: {} cannot be mounted", what.display());
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_memory_is_an_error_that_can_be_tried_again() {
    let test = "a_full_memory_is_an_error_that_can_be_tried_again";
    let arguments = ["-t", "tmpfs", "-o", "size=4m"];
    if let Some(mount) = Mount::new(test, &arguments, Path::new("tmpfs")) {
        is_full_and_tried_again(&mount, 5 << 19, Level::Process);
    }
}

#[test]
fn a_full_disk_is_an_error_that_can_be_tried_again() {
    let test = "a_full_disk_is_an_error_that_can_be_tried_again";
    let image = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    image.as_file().set_len(8 << 20).expect("a size");
    let made =
        Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(image.path()).output();
    assert!(made.is_ok_and(|output| output.status.success()), "mkfs.ext4");
    if let Some(mount) = Mount::new(test, &["-o", "loop"], image.path()) {
        // Beside the file system's own: room for one segment and less than two.
        is_full_and_tried_again(&mount, 11 << 19, Level::MediaSync);
    }
}

/// Makes segments on a disk with `ballast` bytes on it that leave room for one.
fn is_full_and_tried_again(mount: &Mount, bytes: usize, level: Level) {
    let dir = mount.0.path().join("shard-0000");
    let ballast = mount.0.path().join("ballast");
    fs::write(&ballast, vec![1; bytes]).expect("much of the disk");
    let (region, slots, mut preparer) = open_dir(dir_config(&dir, 1 << 20, 4)).expect("empty");
    assert_eq!((region.level(), slots), (level, Vec::<u32>::new()));
    assert_eq!(preparer.prepare_next().expect("room for one"), 0);
    for _ in 0..2 {
        let refused = preparer.prepare_next().expect_err("no room for two");
        let DirError::Io { path, source, .. } = &refused else { panic!("{refused}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        assert!(path.starts_with(&dir), "{refused}");
        assert!(refused.to_string().contains("allocating the segment"), "{refused}");
        assert_eq!(names(&dir), ["00000000.seg"], "no half file is left");
    }
    fs::remove_file(&ballast).expect("space is freed");
    assert_eq!(preparer.prepare_next().expect("room now"), 1);
    assert_eq!(names(&dir), ["00000000.seg", "00000001.seg"]);
    drop((preparer, region));
    let (_, slots, _) = open_dir(dir_config(&dir, 1 << 20, 4)).expect("sound");
    assert_eq!(slots, [0, 1]);
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
