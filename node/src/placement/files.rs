//! What the kernel tells in files, below a root that tests choose.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of a host. What is not there is `None`: kernels and machines differ.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    /// The files below `root`; paths are relative to it.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Files {
        Files { root: root.into() }
    }

    /// The text of a file, without the white space around it.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let bytes = self.bytes(path)?;
        Some(String::from_utf8_lossy(&bytes).trim().to_string())
    }

    /// The number that a file holds.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The cores that a file lists, as in `0-3,8`.
    pub(crate) fn cores(&self, path: &str) -> Option<Vec<usize>> {
        cores(&self.text(path)?)
    }

    /// The contents of a file.
    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.root.join(path)).ok()
    }

    /// The first `N` bytes of a file that has at least so many: devices may never end.
    pub(crate) fn first<const N: usize>(&self, path: &str) -> Option<[u8; N]> {
        use std::io::Read;
        let mut bytes = [0; N];
        let mut file = fs::File::open(self.root.join(path)).ok()?;
        file.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    /// Names in a directory, in order.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(path)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The last part of what a symbolic link points to.
    pub(crate) fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(path)).ok()?;
        Path::new(&target).file_name()?.to_str().map(str::to_string)
    }
}

/// The cores of a list as in `0-3,8`; empty for an empty one.
pub(crate) fn cores(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        // More cores than any kernel knows: not such a list.
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last > 1 << 16 {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}
