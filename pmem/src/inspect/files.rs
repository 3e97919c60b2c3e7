//! The segment files of a log that is only looked at: opened for reading alone, copied piece by piece.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::format::{SEGMENT_DATA_AT, SegmentHeader};
use crate::scan::read_header;
use crate::slots::Slots;

/// Segment files of one directory.
#[derive(Debug)]
pub struct SegmentFiles {
    /// By slot; `None` where the number is left out.
    files: Vec<Option<File>>,
    slot_bytes: u64,
    odd: Vec<(u32, u64)>,
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
        let mut files: Vec<Option<File>> = Vec::new();
        let mut paths: Vec<(u32, PathBuf)> = Vec::new();
        for entry in fs::read_dir(dir).map_err(|error| named(dir, error))? {
            let path = entry.map_err(|error| named(dir, error))?.path();
            if let Some(slot) = slot_of(&path) {
                paths.push((slot, path));
            }
        }
        paths.sort();
        let mut lengths = Vec::new();
        let mut header: Option<SegmentHeader> = None;
        for (slot, path) in paths {
            let file = OpenOptions::new().read(true).open(&path);
            let file = file.map_err(|error| named(&path, error))?;
            let length = file.metadata().map_err(|error| named(&path, error))?.len();
            let front = read_padded(&file, length.min(SEGMENT_DATA_AT), SEGMENT_DATA_AT)
                .map_err(|error| named(&path, error))?;
            header = header.or_else(|| read_header(&front));
            lengths.push((slot, length));
            files.resize_with(slot as usize + 1, || None);
            files[slot as usize] = Some(file);
        }
        let longest = lengths.iter().map(|(_, length)| *length).max();
        let Some(longest) = longest else {
            let error = io::Error::new(io::ErrorKind::NotFound, "no segment files (*.seg)");
            return Err(named(dir, error));
        };
        let slot_bytes = header.map_or(longest, |header| header.segment_bytes.get());
        if !(SEGMENT_DATA_AT..=1 << 40).contains(&slot_bytes) {
            let what = format!("segments of {slot_bytes} bytes are none");
            return Err(named(dir, io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        lengths.retain(|(_, length)| *length != slot_bytes);
        Ok(SegmentFiles { files, slot_bytes, odd: lengths })
    }

    /// Slots that have a file.
    pub fn slots(&self) -> Vec<u32> {
        let there = |slot: &u32| self.files[*slot as usize].is_some();
        (0..self.files.len() as u32).filter(there).collect()
    }

    /// Numbers that are left out below the highest: files that are missing.
    pub fn missing(&self) -> Vec<u32> {
        let gone = |slot: &u32| self.files[*slot as usize].is_none();
        (0..self.files.len() as u32).filter(gone).collect()
    }

    /// Slots whose files are of another size than a segment, with their bytes. What they lack is read as zeros.
    pub fn odd_sizes(&self) -> &[(u32, u64)] {
        &self.odd
    }

    fn read(&self, slot: u32, bytes: u64) -> io::Result<Cow<'_, [u8]>> {
        let Some(file) = self.files.get(slot as usize).and_then(Option::as_ref) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let there = file.metadata()?.len().min(bytes);
        read_padded(file, there, bytes).map(Cow::Owned)
    }
}

impl Slots for SegmentFiles {
    fn slot_bytes(&self) -> u64 {
        self.slot_bytes
    }

    fn slot(&self, slot: u32) -> io::Result<Cow<'_, [u8]>> {
        self.read(slot, self.slot_bytes)
    }

    fn front(&self, slot: u32) -> io::Result<Cow<'_, [u8]>> {
        self.read(slot, SEGMENT_DATA_AT)
    }
}

/// The first `there` bytes of a file, and zeros up to `bytes`. A file that becomes shorter meanwhile reads as zeros too.
fn read_padded(file: &File, there: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes as usize];
    let mut at = 0;
    while at < there {
        match file.read_at(&mut buffer[at as usize..there as usize], at) {
            Ok(0) => break,
            Ok(read) => at += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer)
}

/// The slot that a segment file's name says.
pub fn slot_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok()
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
