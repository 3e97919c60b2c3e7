//! Cold segments that are only looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::disk::ColdDisk;
use super::names::{is_cold_name, range_of};
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

/// All cold segments in `dir`; `None` when others were there a moment later: a merge may have replaced some.
fn open_all(dir: &Path) -> io::Result<Option<BTreeMap<String, File>>> {
    let mut files = BTreeMap::new();
    let names = names(dir)?;
    for name in &names {
        match File::open(dir.join(name)) {
            Ok(file) => files.insert(name.clone(), file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
        };
    }
    // What is being written comes and goes.
    let whole = |names: &BTreeSet<String>| -> BTreeSet<String> {
        names.iter().filter(|name| range_of(name).is_some()).cloned().collect()
    };
    let (before, after) = (whole(&names), whole(&self::names(dir)?));
    let opened = before.iter().all(|name| files.contains_key(name));
    Ok((opened && before == after).then_some(files))
}

fn names(dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| is_cold_name(name)));
    }
    Ok(names)
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
