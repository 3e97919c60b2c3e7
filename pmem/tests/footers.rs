//! Footers in files: made once, used again, and made anew whatever is wrong with them.

mod common;

use std::fs;
use std::path::Path;

use common::{History, Random, config, dir_config, open_whole};
use mstream_pmem::AnyRegion;
use mstream_pmem::footer::{Footer, FooterFiles, footer_path};
use mstream_pmem::index::ArenaSize;
use mstream_pmem::wal::{AppendError, Wal};

const SEGMENT: u64 = 64 * 1024;

fn open(dir: &Path) -> Wal<AnyRegion> {
    let (region, slots, _) = open_whole(dir_config(dir, SEGMENT, 8)).expect("a directory");
    let small = ArenaSize::new(1, 200, 3);
    let (mut wal, _) = Wal::open_with_index(region, &slots, config(0), small).expect("sound");
    wal.use_footers();
    wal
}

/// Appends batches, and attends to what is lent. How many were taken.
fn fill(
    wal: &mut Wal<AnyRegion>,
    history: &mut History,
    random: &mut Random,
    files: &mut FooterFiles,
    count: u64,
) -> u64 {
    let mut taken = 0;
    for _ in 0..count {
        match history.append(wal, random, 200) {
            Ok(_) => taken += 1,
            Err(AppendError::Full | AppendError::Window) => {}
            Err(other) => panic!("{other}"),
        }
        wal.barrier();
        wal.persisted();
        wal.housekeep(8);
        if let Some(mut sealed) = wal.next_sealed() {
            files.attend(&mut sealed).expect("written");
            wal.give_back(sealed);
        }
    }
    taken
}

#[test]
fn a_log_goes_on_in_footers_and_finds_them_again() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
    let (mut history, mut random) = (History::default(), Random(5));
    let mut files = FooterFiles::new(Some(dir.path().to_path_buf()), false);
    let mut wal = open(dir.path());
    for _ in 0..3 {
        fill(&mut wal, &mut history, &mut random, &mut files, 3000);
        history.check(&mut wal).expect("everything is there");
    }
    assert!(wal.segments_in_footers() >= 3 && wal.footer_bytes() > 0, "{wal:?}");
    drop(wal);
    // All are cut short but one, which is used as it is; the start before left it the newest of the sealed ones.
    let mut wal = open(dir.path());
    let mut newest = None;
    while let Some(mut sealed) = wal.next_sealed() {
        files.attend(&mut sealed).expect("written");
        newest = Some(footer_path(dir.path(), sealed.slot()));
        wal.give_back(sealed);
    }
    let newest = newest.expect("some are sealed");
    drop(wal);
    let other = fs::read(&newest).expect("a footer");
    let stamp = fs::metadata(&newest).and_then(|file| file.modified()).expect("there");
    for (slot, cut) in [0, 20, 200, 0, 128, 1000, 0, other.len()].into_iter().enumerate() {
        let path = footer_path(dir.path(), slot as u32);
        if path != newest {
            fs::write(&path, &other[..cut.min(other.len())]).expect("written");
        }
    }
    let mut wal = open(dir.path());
    let mut lent = 0;
    while let Some(mut sealed) = wal.next_sealed() {
        files.attend(&mut sealed).expect("written");
        let bytes = fs::read(footer_path(dir.path(), sealed.slot())).expect("a footer");
        let footer = Footer::new(bytes).expect("sound");
        assert!(footer.fits(sealed.generation(), sealed.end()));
        assert_eq!(footer.bytes(), sealed.make_footer().expect("sound").bytes());
        wal.give_back(sealed);
        lent += 1;
    }
    assert!(lent >= 2, "{lent}");
    history.check(&mut wal).expect("everything is there");
    let now = fs::metadata(&newest).and_then(|file| file.modified()).expect("there");
    assert_eq!(now, stamp, "a sound footer is not written again");
}

#[test]
fn a_file_that_cannot_be_written_costs_nothing_else() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
    let (mut history, mut random) = (History::default(), Random(6));
    let mut files = FooterFiles::new(Some(dir.path().join("gone")), false);
    let mut wal = open(dir.path());
    let mut failed = 0;
    for _ in 0..1200 {
        let _ = history.append(&mut wal, &mut random, 200);
        wal.barrier();
        wal.persisted();
        wal.housekeep(8);
        if let Some(mut sealed) = wal.next_sealed() {
            let error = files.attend(&mut sealed).expect_err("no such directory");
            assert!(error.to_string().contains(".foot: writing the footer: "), "{error}");
            wal.give_back(sealed);
            failed += 1;
        }
    }
    assert!(failed > 3 && wal.segments_in_footers() > 1);
    history.check(&mut wal).expect("everything is there");
}
