//! The journal's file in a directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Catalogue;
use super::journal::{self, Medium, OpenError, ReplaceError};

const NAME: &str = "catalogue.log";
const NEW_NAME: &str = "catalogue.new";

/// The catalogue in `dir` as it is now, if there is one. Nothing is changed: a node may be using it.
///
/// # Errors
/// When the file is damaged, of another version, or cannot be read.
pub fn read_only(dir: &Path) -> Result<Option<Catalogue>, OpenError> {
    let path = dir.join(NAME);
    let place = path.display().to_string();
    match fs::read(&path) {
        Ok(file) => journal::read(&place, &file).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { place, action: "reading", source }),
    }
}

/// `catalogue.log` of a directory that nobody else uses.
#[derive(Debug)]
pub struct Directory {
    dir: PathBuf,
    file: Option<File>,
}

impl Directory {
    /// The file in `dir`, which exists.
    pub fn new(dir: &Path) -> Directory {
        Directory { dir: dir.to_path_buf(), file: None }
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("not open"))
    }

    fn write_new(&self, contents: &mut dyn Iterator<Item = Vec<u8>>) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.dir.join(NEW_NAME))?;
        let mut out = BufWriter::new(file);
        for bytes in contents {
            out.write_all(&bytes)?;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(file)
    }
}

impl Medium for Directory {
    fn place(&self) -> String {
        self.dir.join(NAME).display().to_string()
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        match fs::remove_file(self.dir.join(NEW_NAME)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let path = self.dir.join(NAME);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        self.file = Some(file);
        fs::read(path).map(Some)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file()?.set_len(length)
    }

    fn replace(&mut self, contents: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), ReplaceError> {
        let kept = |error| ReplaceError { error, kept: true };
        let new = self.dir.join(NEW_NAME);
        let renamed = self
            .write_new(contents)
            .and_then(|file| fs::rename(&new, self.dir.join(NAME)).map(|()| file));
        match renamed {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                // It would only take room; a start removes it too.
                let _ = fs::remove_file(&new);
                return Err(kept(error));
            }
        }
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| ReplaceError { error, kept: false })
    }
}
