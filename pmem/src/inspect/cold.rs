//! Cold segments looked at without touching them. A node may write them meanwhile: what it merges away stays open here.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::cold::file::{ColdFile, header};
use crate::cold::names::{Named, Place, arranged};
use crate::cold::{
    ColdDamage, ColdDisk, ColdError, ColdFrom, ColdPage, ColdStore, Owner, ReadOnly,
};
use crate::region::Level;

/// What is to be said of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColdState {
    /// Nothing is wrong, as far as it was read.
    Sound,
    /// It was being written: the next start removes it.
    HalfWritten,
    /// The file that is named covers what it covers: the next start removes it.
    Within(String),
    /// It covers in part what the file that is named covers too.
    Overlaps(String),
    /// It is of another log or shard.
    OtherLog,
    /// It is of a version that is not known here.
    Version(u16),
    /// It is not what was written.
    Damaged,
}

impl ColdState {
    /// True for what a start refuses, or readers miss.
    pub fn is_wrong(&self) -> bool {
        !matches!(self, ColdState::Sound | ColdState::HalfWritten | ColdState::Within(_))
    }
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdFileReport {
    /// Its name.
    pub name: String,
    /// The hot segments that it covers, as its name says.
    pub range: (u64, u64),
    /// Its size.
    pub bytes: u64,
    /// Whose it is, if its header is sound.
    pub owner: Option<Owner>,
    /// The level at which it was written, if its header is sound.
    pub level: Option<Level>,
    /// Streams that have records in it. This and what follows: 0 where its summary cannot be read.
    pub streams: u64,
    /// Ranges of offsets that it speaks for.
    pub extents: u64,
    /// Its chunks.
    pub chunks: u64,
    /// Its records.
    pub records: u64,
    /// Bytes of its records.
    pub record_bytes: u64,
    /// What is to be said of it.
    pub state: ColdState,
    /// Where it is damaged.
    pub damages: Vec<ColdDamage>,
}

/// What cold segments hold of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdStreamReport {
    /// Stream id.
    pub id: u64,
    /// First offset that they speak for.
    pub first: u64,
    /// Offset behind the last.
    pub end: u64,
    /// Ranges of offsets; more than those that follow each other when offsets between are lost.
    pub extents: u64,
    /// Records.
    pub records: u64,
    /// Bytes of the records.
    pub bytes: u64,
}

/// The cold segments of a directory.
#[derive(Debug)]
pub struct ColdLook {
    files: Vec<ColdFileReport>,
    owner: Option<Owner>,
    store: ColdStore<ReadOnly>,
}

impl ColdLook {
    /// Looks at the cold segments in `dir`, at their names and what stands at both ends of them. They should be `owner`'s;
    /// where that is not known, the first one's.
    ///
    /// # Errors
    /// When the directory or a file cannot be opened.
    pub fn open(dir: &Path, owner: Option<Owner>) -> io::Result<ColdLook> {
        let mut disk = ReadOnly::open(dir)?;
        let names = disk.list()?;
        let found = arranged(&names).into_iter().map(|named| Found::read(&mut disk, named));
        let found: Vec<Found> = found.collect();
        let owner = owner.or_else(|| found.iter().find_map(|found| found.report.owner));
        let expected = owner.unwrap_or(Owner { log_id: [0; 16], shard: 0 });
        let mut store = ColdStore::empty(disk, expected.log_id, expected.shard);
        let files = found.into_iter().map(|found| found.judge(expected, &mut store)).collect();
        Ok(ColdLook { files, owner, store })
    }

    /// The files, in order of the hot segments that they cover, half-written ones last.
    pub fn files(&self) -> &[ColdFileReport] {
        &self.files
    }

    /// Whose the files should be: what was told, or what the first says.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Reads all files that count, and checks all that there is to check. `progress` hears how many of how many were read.
    pub fn verify(&mut self, progress: &mut dyn FnMut(usize, usize)) {
        let total = self.files.len();
        for (number, file) in self.files.iter_mut().enumerate() {
            if file.state == ColdState::Sound {
                let held = self.store.files.iter().find(|held| held.name == file.name);
                file.damages =
                    held.map(|held| held.verify(&mut self.store.disk)).unwrap_or_default();
                if !file.damages.is_empty() {
                    file.state = ColdState::Damaged;
                }
            }
            progress(number + 1, total);
        }
    }

    /// What they hold of each stream, by id.
    pub fn streams(&self) -> Vec<ColdStreamReport> {
        let mut streams: BTreeMap<u64, ColdStreamReport> = BTreeMap::new();
        for extent in self.store.files.iter().flat_map(|file| &file.extents) {
            let (id, first) = (extent.stream.get(), extent.from.get());
            let fresh = ColdStreamReport { id, first, ..ColdStreamReport::default() };
            let stream = streams.entry(id).or_insert(fresh);
            stream.end = extent.end.get();
            stream.extents += 1;
            stream.records += u64::from(extent.records.get());
            stream.bytes += extent.bytes.get();
        }
        streams.into_values().collect()
    }

    /// Fills `page` with records of `stream` from `offset` on, as [`ColdStore::read`] does.
    ///
    /// # Errors
    /// As it.
    pub fn read(
        &mut self,
        stream: u64,
        offset: u64,
        page: &mut ColdPage,
    ) -> Result<bool, ColdError> {
        self.store.read(stream, ColdFrom::Offset(offset), page)
    }
}

/// A file, before it is known whose it should be.
struct Found {
    report: ColdFileReport,
    /// What its summary says, or what is wrong with it; `None` of a file that is not read.
    summary: Option<Result<ColdFile, ColdError>>,
}

impl Found {
    fn read(disk: &mut ReadOnly, named: Named) -> Found {
        let name = named.name;
        let head = header(disk, &name).ok().and_then(Result::ok);
        let half = named.place == Place::HalfWritten;
        let summary = (!half).then(|| ColdFile::read(disk, &name, None));
        let report = ColdFileReport {
            range: named.range,
            bytes: disk.len(&name).unwrap_or(0),
            owner: head.as_ref().map(Owner::of),
            level: head.and_then(|head| Level::from_number(head.level)),
            name,
            streams: 0,
            extents: 0,
            chunks: 0,
            records: 0,
            record_bytes: 0,
            state: match named.place {
                Place::Counts => ColdState::Sound,
                Place::HalfWritten => ColdState::HalfWritten,
                Place::Within(other) => ColdState::Within(other),
                Place::Overlaps(other) => ColdState::Overlaps(other),
            },
            damages: Vec::new(),
        };
        Found { report, summary }
    }

    /// What is said of it beside the others; if it counts, it goes into the store.
    fn judge(self, expected: Owner, store: &mut ColdStore<ReadOnly>) -> ColdFileReport {
        let mut report = self.report;
        if let Some(Ok(file)) = &self.summary {
            report.count(file);
        }
        if report.owner.is_some_and(|owner| owner != expected) {
            report.state = ColdState::OtherLog;
        }
        match self.summary {
            Some(Err(ColdError::Version { version, .. })) => {
                report.state = ColdState::Version(version);
            }
            Some(Err(error)) if report.state == ColdState::Sound => report.damaged(&error),
            Some(Ok(file)) if report.state == ColdState::Sound => match store.count(&file) {
                Ok(()) => store.files.push(file),
                Err(error) => report.damaged(&error),
            },
            _ => {}
        }
        report
    }
}

impl ColdFileReport {
    fn count(&mut self, file: &ColdFile) {
        let mut last = None;
        for extent in &file.extents {
            let stream = extent.stream.get();
            self.streams += u64::from(last.replace(stream) != Some(stream));
            self.extents += 1;
            self.chunks += u64::from(extent.chunks.get());
            self.records += u64::from(extent.records.get());
            self.record_bytes += extent.bytes.get();
        }
    }

    fn damaged(&mut self, error: &ColdError) {
        self.state = ColdState::Damaged;
        self.damages.push(ColdDamage::of(error));
    }
}
