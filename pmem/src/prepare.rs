//! The directory of a log: its lock, its segment files, and the making of new ones off the shard's thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::any::AnyRegion;
pub use crate::dir_error::DirError;
use crate::dir_error::failed;
use crate::footer::FooterFiles;
use crate::mapped::{ALIGNMENT, MappedRegion, Reservation, probe_level};
use crate::read_around::read_around;
use crate::region::Level;
use crate::scan::read_header;
use crate::slots::{Extent, Slots};
use crate::staged::{Files, Media, StagedRegion};

/// Magic numbers of file systems in memory in statfs (statfs(2)).
const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;
const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;
/// Bytes of an ordinary page.
const PAGE: usize = 4096;
/// Bytes that a new file is filled with at a time.
const FILL_BYTES: usize = 1 << 20;

/// Holds a log's lock until dropped.
#[derive(Debug)]
pub struct DirLock {
    file: File,
}

impl DirLock {
    /// Makes `dir` if needed and takes its lock.
    ///
    /// # Errors
    /// When the directory cannot be made or written to, or another process holds the lock.
    pub fn take(dir: &Path) -> Result<DirLock, DirError> {
        fs::create_dir_all(dir).map_err(failed(dir, "making the log's directory"))?;
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path, "opening the lock"))?;
        // SAFETY: flock on a descriptor that `file` owns.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(failed(&path, "locking")(error));
            }
            let mut pid = String::new();
            // Only for the message: an unreadable pid changes nothing.
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.is_empty() { "unknown".to_string() } else { pid.trim().to_string() };
            return Err(DirError::InUse { path, pid });
        }
        // hugetlbfs takes no write(2); the pid is a courtesy only.
        let _ = file.set_len(0);
        let _ = file.rewind();
        let _ = write!(file, "{}", std::process::id());
        Ok(DirLock { file })
    }
}

impl Drop for DirLock {
    /// Unlocks by name: closing alone would leave the lock to any child between its fork and its exec, which
    /// holds a copy of the descriptor for that moment.
    fn drop(&mut self) {
        // SAFETY: flock on a descriptor that `file` owns. A failure leaves the lock to the close that follows.
        unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// What a log directory is to hold.
#[derive(Clone, Debug)]
pub struct DirConfig {
    /// The shard's directory.
    pub dir: PathBuf,
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// Segments at most.
    pub segments: u32,
    /// The least level that will do.
    pub require: Option<Level>,
    /// Persistent memory counts as such whatever speaks against it: a hypervisor underneath, a module that is not
    /// armed, memory that only a kernel argument calls persistent.
    pub trust_host_pmem: bool,
    /// How ordinary files are synced; `None`: they are mapped, not synced, and promise no more than `process`.
    pub sync: Option<SyncConfig>,
}

/// How ordinary files are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// How often the sync thread looks for work when it has none; after a hundred looks in vain eight times as rarely.
    pub poll: Duration,
    /// Bytes that may be written and not yet be synced: a multiple of 64.
    pub window_bytes: u64,
}

/// Makes segment slots. Lives on the control plane's thread.
#[derive(Debug)]
pub struct Preparer {
    config: DirConfig,
    reservation: Arc<Reservation>,
    backing: Backing,
    why: String,
    /// Whether other files than segments are kept in the directory: not where they would take memory.
    other_files: bool,
    next: u32,
}

/// What stands behind the memory of a slot.
#[derive(Debug)]
enum Backing {
    /// The file itself, mapped.
    Mapped { map_sync: bool },
    /// Memory of its own, whose file a thread writes.
    Staged(Arc<Files>),
}

/// Opens a shard's directory: the region, the slots that exist (in memory, populated), and the preparer of more. A file
/// that is short, or missing below others, has a slot all the same ([`crate::region::Region::extent`]), which is not to be
/// written to: what is there of it is in memory, and the file is left as it is.
///
/// # Errors
/// What is wrong with the directory or a file in it.
pub fn open_dir(config: DirConfig) -> Result<(AnyRegion, Vec<u32>, Preparer), DirError> {
    open_dir_on(config, |files| files)
}

/// As [`open_dir`]; ordinary files are written and synced through what `media` makes of them. For tests of media that
/// fail.
///
/// # Errors
/// As [`open_dir`].
pub fn open_dir_on<M: Media + 'static>(
    config: DirConfig,
    media: impl FnOnce(Arc<Files>) -> M,
) -> Result<(AnyRegion, Vec<u32>, Preparer), DirError> {
    let dir = &config.dir;
    fs::create_dir_all(dir).map_err(failed(dir, "making the shard's directory"))?;
    let kind = FileSystem::of(dir).map_err(failed(dir, "asking for the file system"))?;
    let huge_page = match kind {
        FileSystem::Hugetlbfs { page } => page,
        FileSystem::Memory | FileSystem::Other => 0,
    };
    if huge_page > 0 && !config.segment_bytes.is_multiple_of(huge_page) {
        return Err(DirError::HugePage { path: dir.clone(), page: huge_page });
    }
    let page = huge_page.max(ALIGNMENT);
    let medium = probe_level(dir, page, config.trust_host_pmem)
        .map_err(failed(dir, "finding out its level"))?;
    let sync = config.sync.filter(|_| kind == FileSystem::Other && !medium.map_sync);
    let level = if sync.is_some() { Level::MediaSync } else { medium.level };
    let why = match (level, kind) {
        _ if medium.map_sync => medium.why,
        (Level::MediaSync, _) => "an ordinary file, not persistent memory".to_string(),
        (_, FileSystem::Other) => "an ordinary file, and [wal] sync is false".to_string(),
        _ => "a file system in memory".to_string(),
    };
    if let Some(required) = config.require
        && level < required
    {
        return Err(DirError::Level { path: dir.clone(), found: level, why, required });
    }
    let reservation = Reservation::new(config.segments, config.segment_bytes, page)
        .map_err(failed(dir, "reserving addresses"))?;
    let reservation = Arc::new(reservation);
    let (region, backing) = match sync {
        None => {
            let page = if huge_page > 0 { huge_page as usize } else { PAGE };
            let region = MappedRegion::new(Arc::clone(&reservation), level, page)
                .map_err(failed(dir, "guarding its memory"))?;
            (AnyRegion::Mapped(region), Backing::Mapped { map_sync: medium.map_sync })
        }
        Some(SyncConfig { poll, window_bytes }) => {
            let files = Arc::new(Files::new(config.segments));
            let media = media(Arc::clone(&files));
            let region = StagedRegion::start(Arc::clone(&reservation), window_bytes, poll, media)
                .map_err(failed(dir, "starting the thread that syncs it"))?;
            (AnyRegion::Staged(region), Backing::Staged(files))
        }
    };
    let other_files = kind == FileSystem::Other;
    let mut preparer = Preparer { reservation, backing, why, other_files, next: 0, config };
    let mut slots = Vec::new();
    for _ in 0..preparer.slots_there()? {
        slots.push(preparer.take_next()?);
    }
    Ok((region, slots, preparer))
}

impl Preparer {
    /// In words why the directory's level is not `pmem`, or what speaks against it and is trusted
    /// ([`DirConfig::trust_host_pmem`]); empty when there is nothing to say.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Who makes the footers of the log's segments: in files, unless those would be in memory, and synced where segments
    /// outlive more than the process.
    pub fn footer_files(&self) -> FooterFiles {
        let sync = match self.backing {
            Backing::Mapped { map_sync } => map_sync,
            Backing::Staged(_) => true,
        };
        FooterFiles::new(self.other_files.then(|| self.config.dir.clone()), sync)
    }

    /// True while there is a slot that was not made yet.
    pub fn has_next(&self) -> bool {
        self.next < self.config.segments
    }

    /// Makes the next slot: its file at full size, in memory, every page present. Blocks for as long as that
    /// takes.
    ///
    /// # Errors
    /// What failed, with the path: no space, a read-only or vanished directory. The slot can be tried
    /// again.
    pub fn prepare_next(&mut self) -> Result<u32, DirError> {
        let slot = self.next;
        let path = self.path(slot);
        if slot >= self.config.segments {
            return Err(DirError::TooMany { path, slot, slots: self.config.segments });
        }
        let old = path.exists();
        if !old {
            self.make(&path)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed(&path, "opening the segment"))?;
        let found = file.metadata().map_err(failed(&path, "asking for its size"))?.len();
        let expected = self.config.segment_bytes;
        if found != expected {
            return Err(DirError::Size { path, found, expected });
        }
        allocate(&file, expected).map_err(failed(&path, "allocating the segment"))?;
        match &self.backing {
            Backing::Mapped { map_sync } => {
                self.reservation.map(slot, &file, *map_sync).map_err(failed(&path, "mapping"))?;
                self.reservation.populate(slot).map_err(failed(&path, "populating"))?;
            }
            Backing::Staged(files) => {
                self.reservation.map_memory(slot).map_err(failed(&path, "mapping memory"))?;
                self.reservation.populate(slot).map_err(failed(&path, "populating"))?;
                if old {
                    let lost = self.load(slot, &file, expected);
                    if let Some(at) = lost.map_err(failed(&path, "reading the segment"))? {
                        self.reservation.set_extent(slot, Extent::Unreadable(at));
                    }
                }
                files.add(slot, file);
            }
        }
        self.next += 1;
        Ok(slot)
    }

    /// Takes over the next slot, which was made at some time: as much of it as is there.
    fn take_next(&mut self) -> Result<u32, DirError> {
        let slot = self.next;
        let path = self.path(slot);
        let extent = match fs::metadata(&path) {
            Ok(facts) if facts.len() < self.config.segment_bytes => Extent::Short(facts.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Extent::Missing,
            _ => return self.prepare_next(),
        };
        // Memory that is not the file's: nothing can be stored to it, or be used where it has ended.
        self.reservation.map_memory(slot).map_err(failed(&path, "mapping memory"))?;
        self.reservation.populate(slot).map_err(failed(&path, "populating"))?;
        if let Extent::Short(bytes) = extent {
            let file = File::open(&path).map_err(failed(&path, "opening the segment"))?;
            self.load(slot, &file, bytes).map_err(failed(&path, "reading the segment"))?;
            if let Backing::Staged(files) = &self.backing {
                files.add(slot, file);
            }
        }
        self.reservation.set_extent(slot, extent);
        self.next += 1;
        Ok(slot)
    }

    /// Makes the files that were short, missing or not to be read whole, once their loss was accepted ([`crate::accept`]): one
    /// with a segment header is made longer by zeros, or written again with zeros where it could not be read; any other one is
    /// made new and holds nothing.
    ///
    /// # Errors
    /// What failed, with the path. It can be tried again.
    pub fn restore(&self, region: &AnyRegion, slots: &[u32]) -> Result<(), DirError> {
        for slot in slots {
            let path = self.path(*slot);
            let front = region.front(*slot).map_err(failed(&path, "reading the segment"))?;
            match Slots::extent(region, *slot) {
                Extent::Whole => {}
                Extent::Short(bytes) if read_header(&front).is_some() => {
                    let file = OpenOptions::new().write(true).open(&path);
                    let file = file.map_err(failed(&path, "opening the segment"))?;
                    self.lengthen(&path, &file, bytes)?;
                }
                Extent::Unreadable(_) if read_header(&front).is_some() => {
                    // A device puts another place where one cannot be read when that is written to.
                    let bytes = region.slot(*slot).map_err(failed(&path, "reading the segment"))?;
                    let file = OpenOptions::new().write(true).open(&path);
                    let file = file.map_err(failed(&path, "opening the segment"))?;
                    let written = file.write_all_at(&bytes, 0).and_then(|()| file.sync_all());
                    written.map_err(failed(&path, "writing the segment again"))?;
                }
                Extent::Short(_) | Extent::Unreadable(_) | Extent::Missing => self.make(&path)?,
            }
        }
        Ok(())
    }

    /// Reads what the medium holds of the first `bytes` bytes of a slot, not what the kernel still has in memory: after a sync that failed in an
    /// earlier process that may be what never got there. The first byte that it cannot read, if there is one.
    fn load(&self, slot: u32, file: &File, bytes: u64) -> io::Result<Option<u64>> {
        file.sync_data()?;
        // SAFETY: advice on a descriptor that `file` owns. It may be ignored, then the file system has no such memory.
        let refused =
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if refused != 0 {
            return Err(io::Error::from_raw_os_error(refused));
        }
        // SAFETY: the slot was mapped just now, and the region's owner is not told of it yet.
        unsafe {
            self.reservation.fill(slot, |memory| read_around(file, &mut memory[..bytes as usize]))
        }
    }

    /// Makes a segment file under a name of its own, then gives it `path`: a segment file of another size was
    /// damaged, never half made.
    fn make(&self, path: &Path) -> Result<(), DirError> {
        let unfinished = path.with_extension("new");
        let made = self.make_at(&unfinished).and_then(|()| {
            fs::rename(&unfinished, path).map_err(failed(path, "naming the segment"))
        });
        if made.is_err() {
            // The first error counts; a file that is left over is overwritten by the next try.
            let _ = fs::remove_file(&unfinished);
        }
        made?;
        let dir = &self.config.dir;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir, "syncing"))
    }

    fn make_at(&self, path: &Path) -> Result<(), DirError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(failed(path, "making the segment"))?;
        self.lengthen(path, &file, 0)
    }

    /// Gives a file of `from` bytes the size of a segment.
    fn lengthen(&self, path: &Path, file: &File, from: u64) -> Result<(), DirError> {
        allocate(file, self.config.segment_bytes)
            .map_err(failed(path, "allocating the segment"))?;
        if matches!(self.backing, Backing::Staged(_)) {
            // Blocks that were never written to are noted as such by the file system, and each first write to one
            // would make it write that down as part of the sync.
            fill(file, from, self.config.segment_bytes)
                .map_err(failed(path, "filling the segment"))?;
        }
        file.sync_all().map_err(failed(path, "syncing the segment's size"))
    }

    fn path(&self, slot: u32) -> PathBuf {
        self.config.dir.join(format!("{slot:08}.seg"))
    }

    /// How many slots were made: slots get their files in the order of their numbers, so those below the highest one had
    /// theirs.
    fn slots_there(&self) -> Result<u32, DirError> {
        let dir = &self.config.dir;
        let mut there = 0;
        for entry in fs::read_dir(dir).map_err(failed(dir, "listing"))? {
            let path = entry.map_err(failed(dir, "listing"))?.path();
            let Some(slot) = slot_of(&path) else { continue };
            if slot >= self.config.segments {
                return Err(DirError::TooMany { path, slot, slots: self.config.segments });
            }
            there = there.max(slot + 1);
        }
        Ok(there)
    }
}

/// The slot that a segment file's name says.
pub fn slot_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok()
}

/// Gives a file its size and every block of it. Fails with a reason, where a store into a hole would kill the
/// process later.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    // SAFETY: fallocate on a descriptor that `file` owns.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Writes zeros to a file, from byte `at` to byte `bytes`.
fn fill(file: &File, mut at: u64, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    while at < bytes {
        let len = (bytes - at).min(FILL_BYTES as u64);
        file.write_all_at(&zeros[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

/// What keeps the files of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// Huge pages of so many bytes.
    Hugetlbfs { page: u64 },
    /// Ordinary memory.
    Memory,
    /// Something else: a device, or what lies over one.
    Other,
}

impl FileSystem {
    pub(crate) fn of(dir: &Path) -> io::Result<FileSystem> {
        let handle = File::open(dir)?;
        // SAFETY: statfs is plain data for which zeros are a value; the descriptor is owned by `handle`.
        let facts = unsafe {
            let mut facts: libc::statfs = std::mem::zeroed();
            if libc::fstatfs(handle.as_raw_fd(), &raw mut facts) != 0 {
                return Err(io::Error::last_os_error());
            }
            facts
        };
        Ok(match facts.f_type as i64 & 0xffff_ffff {
            HUGETLBFS_MAGIC => FileSystem::Hugetlbfs { page: facts.f_bsize as u64 },
            TMPFS_MAGIC | RAMFS_MAGIC => FileSystem::Memory,
            _ => FileSystem::Other,
        })
    }
}

/// The running kernel's boot id: a log of level `process` does not outlive it.
///
/// # Errors
/// When /proc does not say it.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
        *byte = pair.iter().fold(0, |value, digit| value << 4 | *digit as u8);
    }
    Ok(id)
}
