//! A directory that can lose power: what was not synced is lost, in any part.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::disk::ColdDisk;
use crate::region::Level;

const SECTOR: usize = 512;

/// Files in memory. After a power cut each sector that was written since its file was synced holds anything that it held
/// since then, zeros or what it held before; the file has any length that it had; and each name that was changed since
/// the directory was synced stands for any file that it stood for, or for none if that was so.
#[derive(Clone, Debug)]
pub struct SimDisk {
    level: Level,
    names: BTreeMap<String, u64>,
    /// What names that were changed since the directory was synced stood for.
    changed: BTreeMap<String, Vec<Option<u64>>>,
    files: BTreeMap<u64, SimFile>,
    next: u64,
    operations: u64,
    stop_at: u64,
    fault: Option<(u64, i32)>,
    lies: bool,
}

#[derive(Clone, Debug, Default)]
struct SimFile {
    /// Shared by copies until one is written to.
    content: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// What was written since the last sync, call by call. As nothing is written twice, this says what each sector held.
    appends: Vec<Range<usize>>,
}

impl SimFile {
    fn append(&mut self, bytes: &[u8]) {
        let from = self.content.len();
        Arc::make_mut(&mut self.content).extend_from_slice(bytes);
        self.appends.push(from..self.content.len());
    }

    fn after_power_cut(&self, pick: &mut dyn FnMut(u64) -> u64) -> SimFile {
        let mut left = Vec::clone(&self.durable);
        if let (Some(first), Some(last)) = (self.appends.first(), self.appends.last()) {
            let length = pick(self.appends.len() as u64 + 1) as usize;
            let length = self.appends.get(length).map_or(self.durable.len(), |append| append.end);
            left.resize(length.max(self.durable.len()), 0);
            for sector in first.start / SECTOR..last.end.div_ceil(SECTOR) {
                self.sector_after_power_cut(sector, &mut left, pick);
            }
        }
        let left = Arc::new(left);
        SimFile { durable: Arc::clone(&left), content: left, appends: Vec::new() }
    }

    /// A sector holds what it did behind any of the appends that reach into it, or what is durable.
    fn sector_after_power_cut(
        &self,
        sector: usize,
        left: &mut [u8],
        pick: &mut dyn FnMut(u64) -> u64,
    ) {
        let from = sector * SECTOR;
        let before = self.appends.partition_point(|append| append.end.div_ceil(SECTOR) <= sector);
        let reaching = &self.appends[before..];
        let reaching =
            &reaching[..reaching.partition_point(|append| append.start / SECTOR <= sector)];
        if reaching.is_empty() {
            return;
        }
        let survives = pick(reaching.len() as u64 + 1) as usize;
        if let (Some(append), Some(room)) = (reaching.get(survives), left.get_mut(from..)) {
            let room_bytes = room.len().min(SECTOR);
            let held = &self.content[from..append.end.min(from + room_bytes)];
            room[..held.len()].copy_from_slice(held);
            room[held.len()..room_bytes].fill(0);
        }
    }
}

impl SimDisk {
    /// An empty directory of this level.
    pub fn new(level: Level) -> SimDisk {
        SimDisk {
            level,
            names: BTreeMap::new(),
            changed: BTreeMap::new(),
            files: BTreeMap::new(),
            next: 0,
            operations: 0,
            stop_at: u64::MAX,
            fault: None,
            lies: false,
        }
    }

    /// Calls that changed something, or tried to.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// From the `number`th such call on, from 1, all fail: the power is cut. An append then writes half.
    pub fn stop_at(&mut self, number: u64) {
        self.stop_at = number;
    }

    /// The `number`th such call fails with this error number, once. A sync that fails drops what it should have synced,
    /// though readers see it.
    pub fn fail_at(&mut self, number: u64, errno: i32) {
        self.fault = Some((number, errno));
    }

    /// Whether syncs do nothing and say that they did.
    pub fn lie(&mut self, lies: bool) {
        self.lies = lies;
    }

    /// What a power cut leaves. `pick` is asked for numbers below its argument: 0 is the oldest of what may be, but for
    /// sectors and lengths, where the greatest is what was durable.
    pub fn after_power_cut(&self, pick: &mut dyn FnMut(u64) -> u64) -> SimDisk {
        let mut disk = SimDisk::new(self.level);
        let mut names = self.names.clone();
        for (name, stood_for) in &self.changed {
            let choices = stood_for.len() as u64 + 1;
            let now = self.names.get(name).copied();
            match stood_for.get(pick(choices) as usize).copied().unwrap_or(now) {
                Some(file) => names.insert(name.clone(), file),
                None => names.remove(name),
            };
        }
        for (number, file) in &self.files {
            if names.values().any(|named| named == number) {
                disk.files.insert(*number, file.after_power_cut(pick));
            }
        }
        (disk.names, disk.next) = (names, self.next);
        disk
    }

    /// A file's bytes, to damage them.
    pub fn bytes_mut(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        let number = self.names.get(name)?;
        self.files.get_mut(number).map(|file| Arc::make_mut(&mut file.content))
    }

    /// Counts a call that changes something; an error if it is to fail.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.operations >= self.stop_at {
            return Err(io::Error::other("the power is cut"));
        }
        match self.fault {
            Some((number, errno)) if number == self.operations => {
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    fn name(&mut self, name: &str, file: Option<u64>) {
        let before = self.names.get(name).copied();
        self.changed.entry(name.into()).or_default().push(before);
        match file {
            Some(file) => self.names.insert(name.into(), file),
            None => self.names.remove(name),
        };
    }

    fn number(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, name: &str) -> io::Result<&mut SimFile> {
        let number = self.number(name)?;
        self.files.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl ColdDisk for SimDisk {
    fn level(&self) -> Level {
        self.level
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().cloned().collect())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.operate()?;
        self.files.insert(self.next, SimFile::default());
        self.name(name, Some(self.next));
        self.next += 1;
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.operate();
        let written = if outcome.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.file(name)?.append(&bytes[..written]);
        outcome
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let outcome = self.operate();
        if self.lies {
            return Ok(());
        }
        let cut = self.operations >= self.stop_at;
        let file = self.file(name)?;
        if cut {
            return outcome;
        }
        file.appends.clear();
        if outcome.is_ok() {
            file.durable = Arc::clone(&file.content);
        }
        outcome
    }

    fn len(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.content.len() as u64)
    }

    fn read_at(&mut self, name: &str, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let content = &self.file(name)?.content;
        let from = content.get(at as usize..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn rename(&mut self, name: &str, to: &str) -> io::Result<()> {
        self.operate()?;
        let number = self.number(name)?;
        self.name(name, None);
        self.name(to, Some(number));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.operate()?;
        self.number(name)?;
        self.name(name, None);
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.operate()?;
        if self.lies {
            return Ok(());
        }
        self.changed.clear();
        // Files without a name are gone for good.
        let names = &self.names;
        self.files.retain(|number, _| names.values().any(|named| named == number));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(disk: &SimDisk) -> SimDisk {
        disk.after_power_cut(&mut |_| 0)
    }

    fn last(disk: &SimDisk) -> SimDisk {
        disk.after_power_cut(&mut |below| below - 1)
    }

    #[test]
    fn what_was_synced_is_there_and_the_rest_may_be() {
        let mut disk = SimDisk::new(Level::MediaSync);
        disk.create("a").expect("made");
        disk.append("a", &[1; 700]).expect("written");
        assert_eq!(first(&disk).list().expect("listed"), [""; 0], "its name is not durable");
        disk.sync_directory().expect("synced");
        assert_eq!(last(&disk).bytes_mut("a").expect("there"), &[0; 0]);
        assert_eq!(first(&disk).bytes_mut("a").expect("there"), &[1; 700]);
        disk.sync("a").expect("synced");
        disk.append("a", &[2; 700]).expect("written");
        assert_eq!(last(&disk).bytes_mut("a").expect("there"), &[1; 700]);
        assert_eq!(first(&disk).bytes_mut("a").expect("there")[699..701], [1, 2]);
        let mut picks = [0, 1, 0].into_iter();
        let mut torn = disk.after_power_cut(&mut |_| picks.next().expect("length and two sectors"));
        let torn = torn.bytes_mut("a").expect("there");
        assert_eq!(torn[699..=700], [1, 0], "the sector is as it was, in a longer file");
        assert_eq!(torn[1024..], [2; 376]);
    }

    #[test]
    fn a_renamed_file_has_either_name() {
        let mut disk = SimDisk::new(Level::MediaSync);
        for name in ["a", "b"] {
            disk.create(name).expect("made");
            disk.append(name, name.as_bytes()).expect("written");
            disk.sync(name).expect("synced");
        }
        disk.sync_directory().expect("synced");
        disk.rename("a", "b").expect("renamed");
        assert_eq!(first(&disk).bytes_mut("b").expect("there"), b"b");
        assert_eq!(first(&disk).bytes_mut("a").expect("there"), b"a");
        assert_eq!(last(&disk).bytes_mut("b").expect("there"), b"a");
        assert_eq!(last(&disk).list().expect("listed"), ["b"]);
        disk.sync_directory().expect("synced");
        assert_eq!(first(&disk).list().expect("listed"), ["b"]);
    }

    #[test]
    fn calls_fail_where_they_should() {
        let mut disk = SimDisk::new(Level::MediaSync);
        disk.create("a").expect("made");
        disk.fail_at(2, libc::ENOSPC);
        let error = disk.append("a", &[1; 8]).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.len("a").expect("asked"), 4);
        disk.stop_at(4);
        disk.append("a", &[1; 8]).expect("written");
        assert!(disk.sync("a").is_err());
        assert!(disk.remove("a").is_err());
        assert_eq!(disk.operations(), 5);
    }
}
