//! The segment files of a log that is only looked at: opened for reading alone, copied piece by piece.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::format::{SEGMENT_DATA_AT, SegmentHeader};
use crate::prepare::slot_of;
use crate::read_around::read_around;
use crate::scan::read_header;
use crate::slots::{Extent, Slots};

/// More than any log has: what is named beyond is somebody else's.
const MOST_SLOTS: u32 = 1 << 20;

/// Segment files of one directory.
#[derive(Debug)]
pub struct SegmentFiles {
    /// By slot, with its bytes; `None` where the number is left out.
    files: Vec<Option<(File, u64)>>,
    slot_bytes: u64,
    /// First bytes that could not be read, by slot, as far as was read.
    unreadable: RefCell<BTreeMap<u32, u64>>,
}

impl SegmentFiles {
    /// Opens the segment files in `dir`, the directory of one shard's log.
    ///
    /// # Errors
    /// When there is none, or one cannot be opened or read; the text names the path.
    pub fn open(dir: &Path) -> io::Result<SegmentFiles> {
        let named = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let mut paths: BTreeMap<u32, PathBuf> = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(|error| named(dir, error))? {
            let path = entry.map_err(|error| named(dir, error))?.path();
            if let Some(slot) = slot_of(&path) {
                paths.insert(slot, path);
            }
        }
        let mut files: Vec<Option<(File, u64)>> = Vec::new();
        let mut header: Option<SegmentHeader> = None;
        let mut unreadable = BTreeMap::new();
        if let Some((_, path)) = paths.range(MOST_SLOTS..).next() {
            let error = io::Error::new(io::ErrorKind::InvalidData, "no log has as many segments");
            return Err(named(path, error));
        }
        let behind = paths.keys().last().map_or(0, |last| last + 1);
        for slot in 0..behind {
            // One that was made while the directory was listed may not have been listed.
            let path = paths.remove(&slot).unwrap_or_else(|| dir.join(format!("{slot:08}.seg")));
            let file = match OpenOptions::new().read(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    files.push(None);
                    continue;
                }
                Err(error) => return Err(named(&path, error)),
            };
            let length = file.metadata().map_err(|error| named(&path, error))?.len();
            let mut front = vec![0; SEGMENT_DATA_AT as usize];
            let lost = read_around(&file, &mut front).map_err(|error| named(&path, error))?;
            unreadable.extend(lost.map(|at| (slot, at)));
            header = header.or_else(|| read_header(&front));
            files.push(Some((file, length)));
        }
        let longest = files.iter().flatten().map(|(_, length)| *length).max();
        let Some(longest) = longest else {
            let error = io::Error::new(io::ErrorKind::NotFound, "no segment files (*.seg)");
            return Err(named(dir, error));
        };
        let slot_bytes = header.map_or(longest, |header| header.segment_bytes.get());
        if !(SEGMENT_DATA_AT..=1 << 40).contains(&slot_bytes) {
            let what = format!("segments of {slot_bytes} bytes are none");
            return Err(named(dir, io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        Ok(SegmentFiles { files, slot_bytes, unreadable: RefCell::new(unreadable) })
    }

    /// Slots up to the last one that has a file.
    pub fn slots(&self) -> Vec<u32> {
        (0..self.files.len() as u32).collect()
    }

    /// Slots whose files are larger than a segment, with their bytes.
    pub fn too_large(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let length = |slot: u32| self.files[slot as usize].as_ref().map(|(_, length)| *length);
        let lengths =
            (0..self.files.len() as u32).filter_map(move |slot| Some((slot, length(slot)?)));
        lengths.filter(|(_, length)| *length > self.slot_bytes)
    }

    fn read(&self, slot: u32, bytes: u64) -> io::Result<Cow<'_, [u8]>> {
        let mut read = vec![0; bytes as usize];
        if let Some((file, _)) = self.files.get(slot as usize).and_then(Option::as_ref)
            && let Some(at) = read_around(file, &mut read)?
        {
            self.unreadable.borrow_mut().entry(slot).or_insert(at);
        }
        Ok(Cow::Owned(read))
    }
}

impl Slots for SegmentFiles {
    fn slot_bytes(&self) -> u64 {
        self.slot_bytes
    }

    fn extent(&self, slot: u32) -> Extent {
        match self.files.get(slot as usize).and_then(Option::as_ref) {
            Some((_, length)) if *length < self.slot_bytes => Extent::Short(*length),
            Some(_) => {
                let unreadable = self.unreadable.borrow().get(&slot).copied();
                unreadable.map_or(Extent::Whole, Extent::Unreadable)
            }
            None => Extent::Missing,
        }
    }

    fn slot(&self, slot: u32) -> io::Result<Cow<'_, [u8]>> {
        self.read(slot, self.slot_bytes)
    }

    fn front(&self, slot: u32) -> io::Result<Cow<'_, [u8]>> {
        self.read(slot, SEGMENT_DATA_AT)
    }
}

/// Process that holds the lock of the logs in `dir`, as the kernel lists it. Nothing is locked for that, so a node that
/// starts at this moment does not mind; and one in another pid namespace is not seen.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn lock_holder(dir: &Path) -> io::Result<Option<u32>> {
    let lock = match fs::metadata(dir.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let device = lock.dev();
    let place = format!("{:02x}:{:02x}:{}", major(device), minor(device), lock.ino());
    let locks = fs::read_to_string("/proc/locks")?;
    // "1: FLOCK  ADVISORY  WRITE 123 00:1a:45 0 EOF" (proc_locks(5)).
    let holder = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let held = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&place.as_str());
        held.then(|| fields.get(4).and_then(|pid| pid.parse().ok()))
    });
    Ok(holder.flatten())
}

/// The parts of a device number (makedev(3)).
fn major(device: u64) -> u64 {
    (device >> 32 & 0xffff_f000) | (device >> 8 & 0xfff)
}

fn minor(device: u64) -> u64 {
    (device >> 12 & 0xffff_ff00) | (device & 0xff)
}
