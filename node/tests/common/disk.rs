//! Small disks that can be full.

use std::path::Path;
use std::process::Command;

/// A small disk, mounted for one test.
pub struct Disk {
    dir: tempfile::TempDir,
    _image: tempfile::NamedTempFile,
}

impl Disk {
    /// None, and a word about it, where mounting is not allowed.
    pub fn new(test: &str, bytes: u64) -> Option<Disk> {
        let image = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
        image.as_file().set_len(bytes).expect("a size");
        let made =
            Command::new("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(image.path()).status();
        assert!(made.expect("mkfs.ext4 runs").success());
        let dir = tempfile::tempdir().expect("a directory");
        let mount =
            Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(dir.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Disk { dir, _image: image });
        }
        eprintln!("SKIP {test}: a file cannot be mounted");
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}
