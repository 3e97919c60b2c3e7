//! Cold segments that are only looked at.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::disk::ColdDisk;
use super::names::is_cold_name;
use crate::region::Level;

/// Listings of a directory in which names come and go, at most, before that is said.
const LISTINGS: usize = 100;

/// The cold segments of a directory as they were at one moment, opened for reading: what is merged or removed meanwhile
/// stays readable. Nothing can be written.
#[derive(Debug)]
pub struct ReadOnly {
    files: BTreeMap<String, File>,
}

impl ReadOnly {
    /// Opens all cold segments in `dir`, half-written ones too.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn open(dir: &Path) -> io::Result<ReadOnly> {
        for _ in 0..LISTINGS {
            if let Some(files) = open_all(dir)? {
                return Ok(ReadOnly { files });
            }
        }
        let what = "files come and go faster than they can be opened";
        Err(io::Error::new(io::ErrorKind::ResourceBusy, what))
    }

    fn file(&self, name: &str) -> io::Result<&File> {
        self.files.get(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// All cold segments in `dir`; `None` when one was gone before it could be opened: another may be in its place.
fn open_all(dir: &Path) -> io::Result<Option<BTreeMap<String, File>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !is_cold_name(&name) {
            continue;
        }
        match File::open(entry.path()) {
            Ok(file) => files.insert(name, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
        };
    }
    Ok(Some(files))
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl ColdDisk for ReadOnly {
    /// Nothing is promised of what is not written.
    fn level(&self) -> Level {
        Level::Process
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn create(&mut self, _: &str) -> io::Result<()> {
        refused()
    }

    fn append(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        refused()
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        refused()
    }

    fn len(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn read_at(&mut self, name: &str, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file(name)?.read_exact_at(bytes, at)
    }

    fn rename(&mut self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        refused()
    }
}
