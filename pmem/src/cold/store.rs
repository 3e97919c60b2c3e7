//! All cold segments of a shard.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::disk::ColdDisk;
use super::error::failed;
use super::file::{ColdFile, Owner, header};
use super::format::{Extent, HEADER_BYTES};
use super::merge::Merge;
use super::names::{Place, arranged};
use super::newest::{Decisions, Newest};
use super::segment::HotSegment;
use super::writer::{Writer, not_synced};
use super::{ColdError, ColdRange, ColdStats, Keep};
use crate::holes::{Hole, Holes};
use crate::wal::Record;

/// The cold segments of one shard's log. One thread uses it; every call may wait for the disk.
#[derive(Debug)]
pub struct ColdStore<D> {
    pub(crate) disk: D,
    pub(crate) log_id: [u8; 16],
    pub(crate) shard: u32,
    /// In order of the hot segments that they cover.
    pub(crate) files: Vec<ColdFile>,
    pub(crate) streams: BTreeMap<u64, StreamState>,
    pub(crate) copied: u64,
    pub(crate) merge: Option<Merge>,
    /// Where retention goes on.
    pub(crate) cursor: u64,
    pub(crate) scratch: Vec<u8>,
    holes: Holes,
    live_bytes: u64,
    live_streams: u64,
    poisoned: Option<(String, io::ErrorKind, String)>,
}

/// What is known of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamState {
    /// Offsets below are given up; no record reaches over it.
    pub(crate) floor: u64,
    /// Bytes that were given up of the extent that reaches over the floor.
    pub(crate) partial: u64,
    /// First offset that is not given up.
    pub(crate) earliest: u64,
    /// Offset behind the last that was copied.
    pub(crate) end: u64,
    /// Bytes of its records that are not given up.
    pub(crate) bytes: u64,
    /// No chunk is older than this: ns since 1970.
    pub(crate) oldest: u64,
}

impl StreamState {
    /// Bytes of an extent that were given up.
    pub(crate) fn dead(&self, extent: &Extent) -> u64 {
        match extent {
            _ if extent.end.get() <= self.floor => extent.bytes.get(),
            _ if extent.from.get() >= self.floor => 0,
            _ => self.partial,
        }
    }
}

impl<D: ColdDisk> ColdStore<D> {
    /// A store without files.
    pub(crate) fn empty(disk: D, log_id: [u8; 16], shard: u32) -> Self {
        ColdStore {
            disk,
            log_id,
            shard,
            files: Vec::new(),
            streams: BTreeMap::new(),
            copied: 0,
            merge: None,
            cursor: 0,
            scratch: Vec::new(),
            holes: Holes::default(),
            live_bytes: 0,
            live_streams: 0,
            poisoned: None,
        }
    }

    /// Opens the cold segments on `disk`, of shard `shard` of the log `log_id`. Half-written files are removed, and those
    /// that a merge's output replaces.
    ///
    /// # Errors
    /// When the system refuses something, or a file is damaged, from elsewhere or of another version. Nothing is removed
    /// then.
    pub fn open(disk: D, log_id: [u8; 16], shard: u32) -> Result<Self, ColdError> {
        let mut store = ColdStore::empty(disk, log_id, shard);
        let owner = Owner { log_id, shard };
        let names = store.disk.list().map_err(failed(".", "listing the files"))?;
        let mut replaced = Vec::new();
        for named in arranged(&names) {
            let name = named.name;
            match named.place {
                Place::Counts => {
                    store.files.push(ColdFile::read(&mut store.disk, &name, Some(owner))?);
                }
                Place::Overlaps(first) => return Err(ColdError::Overlap { first, second: name }),
                Place::HalfWritten | Place::Within(_) => {
                    // Another log's name may say anything here. What has no header is nobody's.
                    if let Ok(Ok(header)) = header(&mut store.disk, &name) {
                        owner.check(&name, Owner::of(&header))?;
                    }
                    replaced.push(name);
                }
            }
        }
        for name in &replaced {
            store.disk.remove(name).map_err(failed(name, "removing it"))?;
        }
        if !replaced.is_empty() {
            store.disk.sync_directory().map_err(not_synced("."))?;
        }
        store.copied = store.files.last().map_or(0, |file| file.range.1);
        store.count_streams()?;
        Ok(store)
    }

    /// Takes all streams from the files' extents.
    pub(crate) fn count_streams(&mut self) -> Result<(), ColdError> {
        self.streams.clear();
        (self.live_bytes, self.live_streams) = (0, 0);
        let files = std::mem::take(&mut self.files);
        let counted = files.iter().try_for_each(|file| self.count(file));
        self.files = files;
        counted
    }

    /// Takes the streams of a file that is behind all others, or nothing of it.
    pub(crate) fn count(&mut self, file: &ColdFile) -> Result<(), ColdError> {
        // Those of one stream in one file are in order.
        let again = file.extents.iter().any(|extent| {
            let held = self.streams.get(&extent.stream.get());
            held.is_some_and(|held| extent.from.get() < held.end)
        });
        if again {
            let at = file.bytes - HEADER_BYTES as u64;
            return Err(super::file::damage(
                &file.name,
                at,
                "a stream's offsets are in an older file too",
            ));
        }
        for extent in &file.extents {
            let state = self.streams.entry(extent.stream.get()).or_default();
            self.live_streams += u64::from(append_extent(state, extent));
            self.live_bytes += extent.bytes.get();
        }
        Ok(())
    }

    /// Tells of a loss that an operator accepted: bytes of a hot segment in which no record is expected.
    pub fn accept(&mut self, hole: Hole) {
        self.holes.add(hole);
    }

    /// Sequence of the newest hot segment that is copied; 0: none. After a start it may be lower than before: newer ones
    /// held nothing that is kept.
    pub fn copied(&self) -> u64 {
        self.copied
    }

    /// What is held of each stream that has anything, in order of ids. After a start that includes what had been given
    /// up, until it is by [`ColdStore::maintain`].
    pub fn ranges(&self) -> impl Iterator<Item = (u64, ColdRange)> {
        let held = self.streams.iter().filter(|(_, state)| state.bytes > 0);
        held.map(|(id, state)| (*id, ColdRange { earliest: state.earliest, end: state.end }))
    }

    /// What is held of one stream, if anything.
    pub fn range(&self, stream: u64) -> Option<ColdRange> {
        let state = self.streams.get(&stream).filter(|state| state.bytes > 0)?;
        Some(ColdRange { earliest: state.earliest, end: state.end })
    }

    /// The directory.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The directory, for simulations that let it fail.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Gives the directory back: the end of the store.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Copies what is kept of the sealed hot segment with this sequence: `bytes` is the whole segment, `end` the byte
    /// behind its last valid record. `keep` says what a stream wants kept: `None` for those that have nothing in cold
    /// segments. When this returns, what was copied is as durable as the directory's level says, and the hot segment may
    /// be recycled. Segments come in order; one that was copied already is passed over, as are records below the end of
    /// what is held of their stream.
    ///
    /// # Errors
    /// When the segment is not what it should be, or the system refuses something: nothing was copied then. Trying again
    /// helps where [`ColdError::is_full`].
    pub fn copy(
        &mut self,
        sequence: u64,
        bytes: &[u8],
        end: u64,
        keep: &dyn Fn(u64) -> Option<Keep>,
    ) -> Result<(), ColdError> {
        self.check_writable()?;
        if sequence <= self.copied {
            return Ok(());
        }
        let hot = HotSegment::new(sequence, bytes, end, self.log_id, self.shard)?;
        let mut wanted: HashMap<u64, Option<Keep>> = HashMap::new();
        let mut found: Vec<Record<'_>> = Vec::new();
        for record in hot.records(&self.holes) {
            let record = record?;
            let stream = record.header.stream.get();
            let keep = wanted.entry(stream).or_insert_with(|| keep(stream));
            let held = self.streams.get(&stream).map_or(0, |state| state.end);
            if keep.is_some() && record.header.offset.get() >= held {
                found.push(record);
            }
        }
        // Stable and by offset: records of a stream stand in the segment in that order, but for those of a life that lost
        // its tail, which are behind the segment's end.
        found.sort_by_key(|record| (record.header.stream.get(), record.header.offset.get()));
        if !found.is_empty() {
            let level = self.disk.level();
            let range = (sequence, sequence);
            let mut writer = Writer::create(&mut self.disk, self.log_id, self.shard, range, level)?;
            let written = write_all(&mut self.disk, &mut writer, &found, &wanted);
            let new = writer.new_name();
            let file = written.and_then(|()| writer.finish(&mut self.disk));
            let file = file.inspect_err(|error| self.abandon(&new, error))?;
            self.count(&file)?;
            self.files.push(file);
        }
        self.copied = sequence;
        Ok(())
    }

    /// What the files hold.
    pub fn stats(&self) -> ColdStats {
        let files = self.files.iter();
        let half = self.merge.as_ref().map_or(0, |merge| merge.writer.bytes());
        let extents: usize = files.clone().map(|file| file.extents.len()).sum();
        let memory = extents * size_of::<Extent>()
            + self.streams.len() * (size_of::<StreamState>() + size_of::<u64>());
        ColdStats {
            files: self.files.len() as u64,
            file_bytes: files.clone().map(|file| file.bytes).sum::<u64>() + half,
            live_bytes: self.live_bytes,
            streams: self.live_streams,
            memory_bytes: memory as u64,
            level: files.map(|file| file.level).min().unwrap_or(self.disk.level()),
        }
    }

    /// Changes what is known of a stream.
    pub(crate) fn set(&mut self, stream: u64, state: StreamState) {
        let before = self.streams.insert(stream, state).map_or(0, |before| before.bytes);
        self.live_bytes = self.live_bytes + state.bytes - before;
        self.live_streams = self.live_streams + u64::from(state.bytes > 0) - u64::from(before > 0);
    }

    /// An error when a sync failed before.
    pub(crate) fn check_writable(&self) -> Result<(), ColdError> {
        let Some((file, kind, text)) = &self.poisoned else { return Ok(()) };
        let source = io::Error::new(*kind, text.clone());
        Err(ColdError::Poisoned { file: file.clone(), source })
    }

    /// Gives up a file that could not be written, unless a failed sync leaves all for the next start.
    pub(crate) fn abandon(&mut self, new: &str, error: &ColdError) {
        self.poison_by(error);
        if !matches!(error, ColdError::Poisoned { .. }) {
            // If this fails too, the next start does it.
            let _ = self.disk.remove(new);
        }
    }

    /// Ends all writing if the error is a failed sync.
    pub(crate) fn poison_by(&mut self, error: &ColdError) {
        if let ColdError::Poisoned { file, source } = error {
            self.poisoned = Some((file.clone(), source.kind(), source.to_string()));
        }
    }
}

/// Takes an extent behind what is held of its stream; true if nothing was.
fn append_extent(state: &mut StreamState, extent: &Extent) -> bool {
    let first = state.bytes == 0;
    if first {
        (state.earliest, state.oldest) = (extent.from.get(), extent.first_time.get());
    }
    state.end = extent.end.get();
    state.bytes += extent.bytes.get();
    first
}

/// Writes records that are sorted by stream and offset, but those that newer ones displace.
fn write_all(
    disk: &mut impl ColdDisk,
    writer: &mut Writer,
    records: &[Record<'_>],
    wanted: &HashMap<u64, Option<Keep>>,
) -> Result<(), ColdError> {
    for stream in records.chunk_by(|one, next| one.header.stream == next.header.stream) {
        let keep = wanted.get(&stream[0].header.stream.get()).copied().flatten();
        let mut newest = keep.filter(|keep| keep.newest_per_key).map(|_| Newest::default());
        let mut decisions = Decisions::default();
        for record in stream.iter().rev() {
            decisions.push(newest.as_mut().is_none_or(|newest| newest.wants(record)));
        }
        let (mut from, mut spoken) = (stream[0].header.offset.get(), 0);
        for record in stream {
            let offset = record.header.offset.get();
            if offset != spoken {
                from = offset;
            }
            spoken = record.end_offset();
            if decisions.pop() == Some(true) {
                writer.push(disk, from, record)?;
                from = spoken;
            }
        }
    }
    Ok(())
}
