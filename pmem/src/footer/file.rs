//! Footers in files beside their segments. Whatever is wrong with one, it is made again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zerocopy::FromBytes;

use super::{FOOTER_HEADER_BYTES, Footer, FooterHeader};
use crate::pages::vec_with_room;
use crate::sealed::Sealed;

/// The file of the footer of slot `slot` in a shard's directory.
pub fn footer_path(dir: &Path, slot: u32) -> PathBuf {
    dir.join(format!("{slot:08}.foot"))
}

/// Why a footer was not written to its file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: writing the footer: {source}")]
pub struct StoreError {
    /// Its file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Makes the footers of one log and keeps them in files. Lives on a control thread.
#[derive(Debug)]
pub struct FooterFiles {
    /// Where they are kept; `None`: nowhere.
    dir: Option<PathBuf>,
    sync: bool,
    /// What the log was given: memory is given back here, not where the log lets go of it.
    given: Vec<Arc<Footer>>,
}

impl FooterFiles {
    /// The footers of the log in `dir`, or of one without files. With `sync` each file is synced.
    pub fn new(dir: Option<PathBuf>, sync: bool) -> FooterFiles {
        FooterFiles { dir, sync, given: Vec::new() }
    }

    /// Makes the footer of a segment, unless its file holds it, and attaches it if the log asks for that.
    ///
    /// # Errors
    /// When the file could not be written. The footer is attached all the same.
    pub fn attend(&mut self, sealed: &mut Sealed) -> Result<(), StoreError> {
        self.given.retain(|footer| Arc::strong_count(footer) > 1);
        let path = self.dir.as_ref().map(|dir| footer_path(dir, sealed.slot()));
        if path.is_none() && !sealed.wants_footer() {
            return Ok(());
        }
        let kept = path.as_ref().and_then(|path| read(path, sealed));
        let fresh = kept.is_none();
        let Some(footer) = kept.or_else(|| sealed.make_footer()) else { return Ok(()) };
        let stored = match path.filter(|_| fresh) {
            Some(path) => {
                self.store(&path, footer.bytes()).map_err(|source| StoreError { path, source })
            }
            None => Ok(()),
        };
        if sealed.wants_footer() {
            let footer = Arc::new(footer);
            self.given.push(Arc::clone(&footer));
            sealed.attach(footer);
        }
        stored
    }

    /// Writes what stands behind the header, then the header, each followed by a sync.
    fn store(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let (header, body) = bytes.split_at(FOOTER_HEADER_BYTES);
        file.set_len(0)?;
        file.write_all_at(body, FOOTER_HEADER_BYTES as u64)?;
        self.sync(&file)?;
        file.write_all_at(header, 0)?;
        self.sync(&file)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.sync { file.sync_data() } else { Ok(()) }
    }
}

/// The footer of `sealed` in its file, if it is there and sound.
fn read(path: &Path, sealed: &Sealed) -> Option<Footer> {
    let file = File::open(path).ok()?;
    let bytes = fs::metadata(path).ok()?.len() as usize;
    let mut front = [0; FOOTER_HEADER_BYTES];
    file.read_exact_at(&mut front, 0).ok()?;
    // Most are of an older segment of the slot.
    let header = FooterHeader::read_from_bytes(&front).ok()?;
    if header.generation.get() != sealed.generation() {
        return None;
    }
    let mut content = vec_with_room(bytes);
    content.resize(bytes, 0);
    file.read_exact_at(&mut content, 0).ok()?;
    Footer::new(content).ok().filter(|footer| footer.fits(sealed.generation(), sealed.end()))
}
