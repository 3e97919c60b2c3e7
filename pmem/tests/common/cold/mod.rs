//! Cold segments against a model of them: random copies, reads, merges, deletions and power cuts.

mod checks;
mod hot;
pub mod one;

use std::collections::{BTreeMap, BTreeSet};

use mstream_pmem::cold::{ColdError, ColdPage, ColdStore, Keep, SimDisk};
use mstream_pmem::format::RecordHeader;
use mstream_pmem::region::Level;

use super::Random;
pub use hot::{Hot, block, record, segment, segment_of};

pub const LOG: [u8; 16] = *b"a log of a world";
pub const SHARD: u32 = 3;
const SECRET: [u8; 16] = [7; 16];
const STREAMS: [u64; 4] = [2, 3, 9, 1 << 40];
const SECOND: u64 = 1_000_000_000;
/// Records stand in chunks of at most this, and retention is exact to a chunk.
const CHUNK: u64 = 32 * 1024;

/// A batch, and what is known of its fate.
#[derive(Clone, Debug)]
pub struct Batch {
    pub header: RecordHeader,
    pub block: Vec<u8>,
    /// Keys of its messages, empty where there is none.
    keys: Vec<Vec<u8>>,
    /// A newer one has each of its keys, or retention does not want it, or did not once.
    may_miss: bool,
}

impl Batch {
    pub fn offset(&self) -> u64 {
        self.header.offset.get()
    }

    pub fn end(&self) -> u64 {
        self.offset() + u64::from(self.header.count.get())
    }

    fn packed(&self) -> u64 {
        (96 + self.block.len() as u64).next_multiple_of(8)
    }
}

/// What one stream should have.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub keep: Option<Keep>,
    /// Offset of the next batch.
    next: u64,
    /// In order of offset: what was copied.
    pub copied: Vec<Batch>,
    /// Ranges of offsets that no record ever held.
    lost: Vec<(u64, u64)>,
}

impl Stream {
    fn end(&self) -> u64 {
        self.copied.last().map_or(0, Batch::end)
    }
}

pub struct World {
    random: Random,
    pub store: Option<ColdStore<SimDisk>>,
    pub streams: BTreeMap<u64, Stream>,
    /// Hot segments that are still there.
    hot: Vec<Hot>,
    deleted: BTreeSet<u64>,
    next_sequence: u64,
    next_lsn: u64,
    epoch: u32,
    now: u64,
    page: ColdPage,
    pub cuts: u64,
    pub merges: u64,
}

type Outcome = Result<(), String>;

fn said(what: &str) -> impl Fn(ColdError) -> String + '_ {
    move |error| format!("{what}: {error}")
}

impl World {
    pub fn of(seed: u64) -> World {
        let mut random = Random(seed);
        let keeps = [
            Keep::default(),
            Keep { newest_per_key: true, ..Keep::default() },
            Keep { retention_bytes: 200_000, retention_ms: 90_000, ..Keep::default() },
            Keep { newest_per_key: true, retention_bytes: 60_000, retention_ms: 0 },
        ];
        let keep = |number: usize| (number > 0 || random.below(2) == 0).then_some(keeps[number]);
        let streams: BTreeMap<u64, Stream> = STREAMS
            .iter()
            .zip((0..4).map(keep))
            .map(|(stream, keep)| (*stream, Stream { keep, ..Stream::default() }))
            .collect();
        let disk = SimDisk::new(Level::MediaSync);
        let store = ColdStore::open(disk, LOG, SHARD).expect("an empty directory");
        World {
            random,
            store: Some(store),
            streams,
            hot: Vec::new(),
            deleted: BTreeSet::new(),
            next_sequence: 1,
            next_lsn: 1,
            epoch: 1,
            now: 1_000 * SECOND,
            page: ColdPage::new(48 * 1024),
            cuts: 0,
            merges: 0,
        }
    }

    /// Plays `steps` steps; what went wrong.
    pub fn play(&mut self, steps: u64) -> Outcome {
        for step in 0..steps {
            self.step().map_err(|what| format!("step {step}: {what}"))?;
        }
        self.maintain(u64::MAX).map_err(said("the last maintenance"))?;
        self.check()?;
        let limits = |(id, stream): (&u64, &Stream)| Some((*id, stream.keep?.retention_bytes));
        let limits: Vec<(u64, u64)> = self.streams.iter().filter_map(limits).collect();
        for (id, limit) in limits.into_iter().filter(|(_, limit)| *limit > 0) {
            let held = self.check_stream(id)?;
            if held >= limit + 2 * CHUNK {
                return Err(format!("stream {id} has {held} bytes, but should have {limit}"));
            }
        }
        match self.store().stats() {
            stats if stats.files > 12 => Err(format!("files are not merged: {stats:?}")),
            _ => Ok(()),
        }
    }

    fn step(&mut self) -> Outcome {
        match self.random.below(12) {
            0..5 => {
                self.seal();
                self.copy_all().map_err(said("copying"))?;
            }
            5..8 => {
                let budget = 1 + self.random.below(300_000);
                self.maintain(budget).map_err(said("maintaining"))?;
            }
            8 => self.check()?,
            9 => self.lose_power()?,
            10 if self.random.below(6) == 0 => self.delete(),
            10 => self.copy_again().map_err(said("copying again"))?,
            _ if self.random.below(3) == 0 => self.lose_tail()?,
            _ => self.now += self.random.below(40) * SECOND,
        }
        Ok(())
    }

    fn store(&mut self) -> &mut ColdStore<SimDisk> {
        self.store.as_mut().expect("there between steps")
    }

    /// A hot segment more, copied, and all maintenance that is due.
    pub fn copy_and_merge(&mut self) -> Outcome {
        self.seal();
        self.copy_all().map_err(said("copying"))?;
        self.maintain(u64::MAX).map_err(said("maintaining"))
    }

    /// A hot segment more, copied.
    pub fn copy_one(&mut self) -> Outcome {
        self.seal();
        self.copy_all().map_err(said("copying"))
    }

    /// Operations on the disk so far.
    pub fn operations(&mut self) -> u64 {
        self.store().disk().operations()
    }

    /// Cuts the power before this operation.
    pub fn stop_at(&mut self, number: u64) {
        self.store().disk_mut().stop_at(number);
    }

    /// Starts again after a power cut that left the oldest of what it may leave (0), the newest (1), or anything.
    pub fn start_after(&mut self, kind: u64) -> Outcome {
        let mut random = Random(kind);
        let mut pick = |below: u64| match kind {
            0 => 0,
            1 => below - 1,
            _ => random.below(below),
        };
        let disk = self.store().disk().after_power_cut(&mut pick);
        self.open(disk, u64::MAX)
    }

    /// A new hot segment.
    fn seal(&mut self) {
        let sequence = self.next_sequence;
        let base_lsn = self.next_lsn;
        let mut batches = Vec::new();
        let ids: Vec<u64> =
            self.streams.keys().copied().filter(|id| !self.deleted.contains(id)).collect();
        for _ in 0..self.random.below(40) {
            let Some(id) = ids.get(self.random.below(4) as usize) else { continue };
            self.now += self.random.below(SECOND);
            let count = 1 + self.random.below(3) as u16;
            let key = |random: &mut Random| match random.below(12) {
                0 => Vec::new(),
                number => vec![number as u8; 1 + number as usize],
            };
            let keys: Vec<Vec<u8>> = (0..count).map(|_| key(&mut self.random)).collect();
            let payload = if self.random.below(5) == 0 { 9_000 } else { 40 };
            let fill = self.random.below(256) as u8;
            let block = block(&keys, payload, fill);
            let Some(stream) = self.streams.get_mut(id) else { continue };
            if self.random.below(30) == 0 {
                stream.lost.push((stream.next, stream.next + 4));
                stream.next += 4;
            }
            let place = (self.next_lsn, stream.next, count);
            let header = record(sequence, *id, place, (self.epoch, self.now), &block);
            stream.next += u64::from(count);
            self.next_lsn += 1;
            batches.push(Batch { header, block, keys, may_miss: false });
        }
        let records: Vec<(RecordHeader, &[u8])> =
            batches.iter().map(|batch| (batch.header, &batch.block[..])).collect();
        let (bytes, end) = segment(sequence, base_lsn, &records);
        self.hot.push(Hot { sequence, bytes, end, batches, base_lsn });
        self.next_sequence += 1;
        if self.hot.len() > 5 {
            self.hot.remove(0);
        }
    }

    /// Copies what is not copied; the model takes what was said to be.
    fn copy_all(&mut self) -> Result<(), ColdError> {
        for number in 0..self.hot.len() {
            self.copy(number)?;
        }
        Ok(())
    }

    fn copy_again(&mut self) -> Result<(), ColdError> {
        match self.hot.len() as u64 {
            0 => Ok(()),
            count => {
                let number = self.random.below(count) as usize;
                self.copy(number)
            }
        }
    }

    fn copy(&mut self, number: usize) -> Result<(), ColdError> {
        let hot = self.hot[number].clone();
        let keeps: BTreeMap<u64, Option<Keep>> = self.keeps();
        let keep = |stream: u64| keeps.get(&stream).copied().flatten();
        self.store().copy(hot.sequence, &hot.bytes, hot.end, &keep)?;
        for batch in &hot.batches {
            let id = batch.header.stream.get();
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if keep(id).is_some() && batch.offset() >= stream.end() {
                stream.copied.push(batch.clone());
                displace(stream);
            }
        }
        Ok(())
    }

    fn keeps(&self) -> BTreeMap<u64, Option<Keep>> {
        let keep = |(id, stream): (&u64, &Stream)| {
            (*id, stream.keep.filter(|_| !self.deleted.contains(id)))
        };
        self.streams.iter().map(keep).collect()
    }

    fn maintain(&mut self, budget: u64) -> Result<(), ColdError> {
        let keeps = self.keeps();
        let now = self.now;
        let files = self.store().stats().files;
        let mut bytes = 0;
        self.note_retention();
        for _ in 0..10_000 {
            let keep = |stream: u64| keeps.get(&stream).copied().flatten();
            let done = self.store().maintain(now, &keep, budget.min(1 << 40))?;
            bytes += done.bytes;
            if bytes >= budget || !done.more {
                break;
            }
        }
        self.merges += u64::from(self.store().stats().files < files);
        Ok(())
    }

    /// What retention may have given up may be missing from now on, also after a start.
    fn note_retention(&mut self) {
        let now = self.now;
        for stream in self.streams.values_mut() {
            let Some(keep) = stream.keep else { continue };
            let cutoff = now.saturating_sub(keep.retention_ms * 1_000_000);
            let mut held = 0;
            for batch in stream.copied.iter_mut().rev() {
                let too_much = keep.retention_bytes > 0 && held >= keep.retention_bytes;
                let too_old = keep.retention_ms > 0 && batch.header.time.get() < cutoff;
                batch.may_miss |= too_much || too_old;
                held += batch.packed();
            }
        }
    }

    fn delete(&mut self) {
        let id = STREAMS[self.random.below(4) as usize];
        self.deleted.insert(id);
        self.store().forget(id);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.copied.iter_mut().for_each(|batch| batch.may_miss = true);
        }
    }

    /// Cuts the power while something is done, and starts again.
    fn lose_power(&mut self) -> Outcome {
        self.cuts += 1;
        let now = self.store().disk().operations();
        let at = now + 1 + self.random.below(12);
        self.store().disk_mut().stop_at(at);
        for _ in 0..6 {
            let outcome = match self.random.below(2) {
                0 => {
                    self.seal();
                    self.copy_all()
                }
                _ => self.maintain(1_000_000),
            };
            if outcome.is_err() {
                break;
            }
        }
        self.start(u64::MAX)
    }

    /// What a power cut leaves is opened, with a hot log that goes on with `next_lsn` if that is lower than before.
    fn start(&mut self, next_lsn: u64) -> Outcome {
        let store = self.store.take().expect("there between steps");
        let random = &mut self.random;
        let mut disk = store.into_disk().after_power_cut(&mut |below| random.below(below));
        // A start may be cut short too.
        if self.random.below(3) == 0 {
            let mut short = disk.clone();
            short.stop_at(1 + self.random.below(4));
            let store = ColdStore::open(short.clone(), LOG, SHARD);
            let newest = self.next_sequence - 1;
            if let Ok(mut store) = store {
                let _ = store.settle(newest, next_lsn);
                short = store.into_disk();
                let random = &mut self.random;
                disk = short.after_power_cut(&mut |below| random.below(below));
            }
        }
        self.open(disk, next_lsn)?;
        if self.random.below(2) == 0 {
            self.maintain(1_000_000).map_err(said("maintaining after a start"))?;
        }
        self.check()
    }

    fn open(&mut self, disk: SimDisk, next_lsn: u64) -> Outcome {
        let mut store = ColdStore::open(disk, LOG, SHARD).map_err(said("opening"))?;
        store.settle(self.next_sequence - 1, next_lsn).map_err(said("settling"))?;
        for (id, range) in store.ranges() {
            let end = self.streams[&id].copied.iter().rfind(|one| !one.may_miss);
            if end.is_some_and(|last| range.end < last.end()) {
                return Err(format!("stream {id} ends at {} after a start", range.end));
            }
        }
        self.store = Some(store);
        self.copy_all().map_err(said("copying after a start"))
    }

    /// The hot log loses its tail and goes on with other content.
    fn lose_tail(&mut self) -> Outcome {
        let kept = self.hot.len() - self.random.below(3).min(self.hot.len() as u64) as usize;
        let lost = self.hot.split_off(kept);
        let Some(first) = lost.first() else { return Ok(()) };
        self.next_sequence = first.sequence;
        self.next_lsn = first.base_lsn;
        self.epoch += 1;
        for stream in self.streams.values_mut() {
            stream.copied.retain(|batch| batch.header.lsn.get() < first.base_lsn);
        }
        for batch in lost.iter().rev().flat_map(|hot| hot.batches.iter().rev()) {
            if let Some(stream) = self.streams.get_mut(&batch.header.stream.get()) {
                stream.next = batch.offset();
                stream.lost.retain(|(from, _)| *from < stream.next);
            }
        }
        self.start(first.base_lsn)
    }
}

/// Marks batches all of whose keys newer ones have, but the last one of each epoch.
fn displace(stream: &mut Stream) {
    if !stream.keep.is_some_and(|keep| keep.newest_per_key) {
        return;
    }
    let Some((newest, older)) = stream.copied.split_last_mut() else { return };
    let mut newer: BTreeSet<&[u8]> = newest.keys.iter().map(Vec::as_slice).collect();
    let mut epoch = newest.header.epoch.get();
    for batch in older.iter_mut().rev() {
        let last = std::mem::replace(&mut epoch, batch.header.epoch.get()) > epoch;
        batch.may_miss |=
            !last && batch.keys.iter().all(|key| !key.is_empty() && newer.contains(&key[..]));
        newer.extend(batch.keys.iter().map(Vec::as_slice));
    }
}
