//! Where cold segments lie: files of one directory, by name.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::mapped::{ALIGNMENT, probe_level};
use crate::prepare::FileSystem;
use crate::region::Level;

/// Files by name in one directory. What was written may be lost, in any part, until the file was synced; what was
/// created, renamed or removed may be undone until the directory was.
pub trait ColdDisk {
    /// What a sync promises here.
    fn level(&self) -> Level;

    /// The names of all files.
    ///
    /// # Errors
    /// What the system said; so with all that follows.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// Makes an empty file, also in place of one of the same name.
    fn create(&mut self, name: &str) -> io::Result<()>;

    /// Writes `bytes` behind what the file holds: all of them, or it is an error.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's content durable. What was written since the last success may be lost when this fails.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Bytes of the file.
    fn len(&mut self, name: &str) -> io::Result<u64>;

    /// Fills `bytes` with the file's bytes from byte `at` on; a file that ends before that is an error of kind
    /// `UnexpectedEof`.
    fn read_at(&mut self, name: &str, at: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Gives a file another name, also in place of one that has it.
    fn rename(&mut self, name: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// Makes durable which names there are.
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// A real directory.
#[derive(Debug)]
pub struct DirDisk {
    path: PathBuf,
    level: Level,
    directory: File,
    open: HashMap<String, File>,
}

impl DirDisk {
    /// The directory at `path`, which is made if it is not there; `trust_host_pmem` as in [`cold_level`].
    ///
    /// # Errors
    /// What the system said, or that the file system takes no cold segments.
    pub fn open(path: &Path, trust_host_pmem: bool) -> io::Result<DirDisk> {
        fs::create_dir_all(path)?;
        let level = cold_level(path, trust_host_pmem)?;
        let directory = File::open(path)?;
        Ok(DirDisk { path: path.to_path_buf(), level, directory, open: HashMap::new() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        if !self.open.contains_key(name) {
            let file = File::open(self.path.join(name))?;
            self.open.insert(name.to_string(), file);
        }
        self.open.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl ColdDisk for DirDisk {
    fn level(&self) -> Level {
        self.level
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        self.open.insert(name.to_string(), file);
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_all()
    }

    fn len(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn read_at(&mut self, name: &str, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file(name)?.read_exact_at(bytes, at)
    }

    fn rename(&mut self, name: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(name), self.path.join(to))?;
        self.open.remove(to);
        if let Some(file) = self.open.remove(name) {
            self.open.insert(to.to_string(), file);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

/// The level of cold segments in the directory `dir`, found out by trying: a sync on DAX writes the processor's caches
/// back to memory that is as persistent as the device is (or `trust_host_pmem` says it is), one on a file system in
/// memory keeps nothing that the process's end would not leave, and any other has the medium write.
///
/// # Errors
/// What the system said, or that files cannot be written there (hugetlbfs).
pub fn cold_level(dir: &Path, trust_host_pmem: bool) -> io::Result<Level> {
    let kind = FileSystem::of(dir)?;
    if let FileSystem::Hugetlbfs { .. } = kind {
        let what = "cold segments cannot be written to hugetlbfs";
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    let medium = probe_level(dir, ALIGNMENT, trust_host_pmem)?;
    Ok(match kind {
        FileSystem::Other if !medium.map_sync => Level::MediaSync,
        _ => medium.level,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_from_a_disk() {
        let memory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        assert_eq!(cold_level(memory.path(), true).expect("asked"), Level::Process);
        assert_eq!(fs::read_dir(memory.path()).expect("listed").count(), 0, "nothing is left");
        let gone = memory.path().join("gone");
        assert_eq!(cold_level(&gone, true).expect_err("not there").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn files_keep_their_content_under_another_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut disk = DirDisk::open(&dir.path().join("cold"), false).expect("opened");
        disk.create("a").expect("made");
        disk.append("a", b"one").expect("written");
        disk.append("a", b"two").expect("written");
        disk.create("b").expect("made");
        disk.append("b", b"old").expect("written");
        disk.rename("a", "b").expect("renamed");
        disk.sync("b").expect("synced");
        disk.sync_directory().expect("synced");
        assert_eq!(disk.list().expect("listed"), ["b"]);
        let mut bytes = [0; 3];
        disk.read_at("b", 3, &mut bytes).expect("read");
        assert_eq!((&bytes, disk.len("b").expect("asked")), (b"two", 6));
        let short = disk.read_at("b", 4, &mut bytes).expect_err("it ends before");
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        disk.remove("b").expect("removed");
        assert!(disk.read_at("b", 0, &mut bytes).is_err());
    }
}
