//! Cold segments of a log that is no more, set aside for the one that took its place.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::ColdError;
use super::disk::ColdDisk;
use super::error::failed;
use super::file::{Owner, header, hex};
use super::read_only::ReadOnly;

/// Cold segments that were moved into a directory of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Whose they are.
    pub owner: Owner,
    /// The directory, in the one where they were.
    pub dir: PathBuf,
    /// Their names.
    pub files: Vec<String>,
}

/// Name of the directory for cold segments of a log that is no more.
fn name_of(owner: Owner) -> String {
    format!("log-{}-shard-{}", hex(&owner.log_id), owner.shard)
}

/// The cold segments in `dir` of other logs and shards than `owner`'s, by where they go. Files that do not begin with a
/// sound header are left out: nobody can say whose they are.
///
/// # Errors
/// When the system refuses something.
pub fn of_others(dir: &Path, owner: Owner) -> Result<Vec<SetAside>, ColdError> {
    let mut disk = ReadOnly::open(dir).map_err(failed(".", "opening the files"))?;
    let mut others: Vec<SetAside> = Vec::new();
    for name in disk.list().map_err(failed(".", "listing the files"))? {
        let Ok(Ok(header)) = header(&mut disk, &name) else { continue };
        let found = Owner::of(&header);
        if found == owner {
            continue;
        }
        match others.iter_mut().find(|other| other.owner == found) {
            Some(other) => other.files.push(name),
            None => {
                let dir = dir.join(name_of(found));
                others.push(SetAside { owner: found, dir, files: vec![name] });
            }
        }
    }
    Ok(others)
}

/// Moves cold segments in `dir` as [`of_others`] said it. Whoever writes there is stopped. No file is written over.
/// When it ends halfway, doing it again moves the rest.
///
/// # Errors
/// When a file of the same name is where one should go, in which case nothing is moved; or the system refuses something.
pub fn set_aside(dir: &Path, others: &[SetAside]) -> Result<(), ColdError> {
    for other in others {
        if let Some(name) = other.files.iter().find(|name| other.dir.join(name).exists()) {
            let file = other.dir.join(name).display().to_string();
            let source = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(failed(&file, "setting a file aside under this name")(source));
        }
    }
    for other in others {
        let place = other.dir.display().to_string();
        fs::create_dir_all(&other.dir).map_err(failed(&place, "making it"))?;
        for name in &other.files {
            let moved = fs::rename(dir.join(name), other.dir.join(name));
            moved.map_err(failed(name, "setting it aside"))?;
        }
        // There first: a name that a crash undoes in both directories would be a file that is nowhere.
        sync(&other.dir)?;
        sync(dir)?;
    }
    Ok(())
}

fn sync(dir: &Path) -> Result<(), ColdError> {
    let synced = File::open(dir).and_then(|directory| directory.sync_all());
    synced.map_err(failed(&dir.display().to_string(), "syncing it"))
}
