//! A log under test: what was appended to it, and whether that is there.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod by_hand;
pub mod cold;
pub mod damage;
pub mod disk;
pub mod older;
pub mod oracle;
pub mod reboots;
pub mod watch;
pub mod world;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use mstream_pmem::AnyRegion;
use mstream_pmem::format::crc32c;
use mstream_pmem::prepare::{DirConfig, DirError, Preparer, SyncConfig, open_dir};
use mstream_pmem::region::Region;
use mstream_pmem::staged::default_window_bytes;
use mstream_pmem::wal::{AppendData, AppendError, TableLimits, Wal, WalConfig};

pub const TABLES: TableLimits = TableLimits { streams: 3, publications: 9, publishers: 3 };
pub const STREAMS: [u64; 3] = [11, 12, 13];
pub const PUBLISHERS: [u64; 2] = [21, 22];
/// Those, and an anonymous one: of it nothing is said again.
pub const WRITERS: [u64; 3] = [21, 22, 1 << 63 | 23];

pub fn config(time_ns: u64) -> WalConfig {
    WalConfig {
        shard: 3,
        new_log_id: [0xa5; 16],
        new_secret: [0x5e; 16],
        boot_id: [7; 16],
        tables: TABLES,
        ready_segments: 1,
        time_ns,
    }
}

pub fn dir_config(dir: &Path, segment_bytes: u64, segments: u32) -> DirConfig {
    DirConfig {
        dir: dir.to_path_buf(),
        segment_bytes,
        segments,
        require: None,
        trust_host_pmem: false,
        sync: Some(sync_config(segment_bytes)),
    }
}

pub fn sync_config(segment_bytes: u64) -> SyncConfig {
    let poll = Duration::from_micros(20);
    SyncConfig { poll, window_bytes: default_window_bytes(segment_bytes) }
}

/// A directory with all its slots made.
pub fn open_whole(config: DirConfig) -> Result<(AnyRegion, Vec<u32>, Preparer), DirError> {
    let (region, mut slots, mut preparer) = open_dir(config)?;
    while preparer.has_next() {
        slots.push(preparer.prepare_next()?);
    }
    Ok((region, slots, preparer))
}

/// Appends one message of `publisher` to a stream that may be new, and a barrier.
pub fn append_one<R: Region>(
    wal: &mut Wal<R>,
    stream: u64,
    publisher: u64,
    bytes: usize,
) -> Result<u64, AppendError> {
    let stream = wal.open_stream(stream)?;
    let publication = wal.open_publication(publisher, stream)?;
    let block = vec![stream.0 as u8; bytes];
    let data = AppendData {
        stream,
        publication,
        incarnation: 1,
        count: 1,
        block_crc: crc32c(&block),
        time_ns: 0,
        block: &block,
    };
    let appended = wal.append_data(&data);
    wal.barrier();
    wal.persisted();
    appended.map(|appended| appended.offset)
}

/// The seeds to play: those of MSTREAM_MODEL_SEEDS, if it is set.
pub fn seeds(default: std::ops::RangeInclusive<u64>) -> std::ops::RangeInclusive<u64> {
    let Ok(text) = std::env::var("MSTREAM_MODEL_SEEDS") else { return default };
    let range = text
        .split_once("..=")
        .and_then(|(first, last)| Some(first.trim().parse().ok()?..=last.trim().parse().ok()?));
    range.unwrap_or_else(|| panic!("MSTREAM_MODEL_SEEDS={text}: not of the form A..=B"))
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A batch as it was appended.
#[derive(Clone, Debug)]
pub struct Batch {
    pub lsn: u64,
    pub stream: u64,
    pub publisher: u64,
    pub offset: u64,
    pub sequence: u64,
    pub count: u16,
    pub block: Vec<u8>,
}

/// What was appended, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub batches: Vec<Batch>,
    /// lsn, publisher, incarnation, nonce.
    pub lives: Vec<(u64, u64, u64, [u8; 16])>,
    /// Lsns of the records that starts wrote.
    pub starts: Vec<u64>,
    /// Epoch of the last start that was done.
    pub epoch: u32,
    pub time: u64,
    /// Stream and publisher of most batches: the others' state grows old.
    pub favourite: Option<(u64, u64)>,
}

impl History {
    /// Appends a random batch.
    pub fn append<R: Region>(
        &mut self,
        wal: &mut Wal<R>,
        random: &mut Random,
        bytes: u64,
    ) -> Result<u64, AppendError> {
        let block: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
        self.append_block(wal, random, block)
    }

    /// Appends a batch with this block.
    pub fn append_block<R: Region>(
        &mut self,
        wal: &mut Wal<R>,
        random: &mut Random,
        block: Vec<u8>,
    ) -> Result<u64, AppendError> {
        let mut ids = (STREAMS[random.below(3) as usize], WRITERS[random.below(3) as usize]);
        if let Some(favourite) = self.favourite
            && random.below(64) != 0
        {
            ids = favourite;
        }
        let (stream_id, publisher) = ids;
        let stream = wal.open_stream(stream_id).expect("room in the table");
        let publication = wal.open_publication(publisher, stream).expect("room in the table");
        let count = 1 + random.below(5) as u16;
        let sequence = wal.publication(publication).sequence + 1;
        self.time += random.below(3);
        let appended = wal.append_data(&AppendData {
            stream,
            publication,
            incarnation: 1,
            count,
            block_crc: crc32c(&block),
            time_ns: self.time,
            block: &block,
        })?;
        let (lsn, offset) = (appended.lsn, appended.offset);
        let stream = stream_id;
        self.batches.push(Batch { lsn, stream, publisher, offset, sequence, count, block });
        Ok(lsn)
    }

    /// Appends a new life of a random publisher.
    pub fn live<R: Region>(&mut self, wal: &mut Wal<R>, random: &mut Random) {
        let publisher = PUBLISHERS[random.below(2) as usize];
        let incarnation = 1 + wal.life(publisher).map_or(0, |life| life.incarnation);
        let nonce = [random.next() as u8; 16];
        if let Ok(appended) = wal.append_life(publisher, incarnation, &nonce, self.time) {
            self.lives.push((appended.lsn, publisher, incarnation, nonce));
        }
    }

    /// Forgets what stands at `lsn` and behind.
    pub fn cut(&mut self, lsn: u64) {
        self.batches.retain(|batch| batch.lsn < lsn);
        self.lives.retain(|life| life.0 < lsn);
        self.starts.retain(|start| *start < lsn);
    }

    /// Notes a start that is done, whose epoch record is the last one.
    pub fn started<R: Region>(&mut self, wal: &Wal<R>) {
        self.starts.push(wal.appended() - 1);
        self.epoch = self.epoch.max(wal.epoch());
    }

    /// Compares a log with this history: states of streams, publications and lives, and every batch from each
    /// stream's earliest offset on. What differs first, if anything.
    pub fn check<R: Region>(&self, wal: &mut Wal<R>) -> Result<(), String> {
        self.check_below(wal, u64::MAX)
    }

    /// Compares a log with what stands below `end` in this history.
    pub fn check_below<R: Region>(&self, wal: &mut Wal<R>, end: u64) -> Result<(), String> {
        let mut next: HashMap<u64, u64> = HashMap::new();
        let mut publications: HashMap<(u64, u64), (u64, u64)> = HashMap::new();
        let batches = || self.batches.iter().filter(|batch| batch.lsn < end);
        for batch in batches() {
            let behind = batch.offset + u64::from(batch.count);
            next.insert(batch.stream, behind);
            let last = batch.sequence + u64::from(batch.count) - 1;
            publications.insert((batch.publisher, batch.stream), (last, behind));
        }
        for id in STREAMS {
            let slot = wal.open_stream(id).expect("room in the table");
            let state = *wal.stream(slot);
            let expected = next.get(&id).copied().unwrap_or(0);
            if state.next_offset != expected {
                return Err(format!("stream {id}: next {} not {expected}", state.next_offset));
            }
            for publisher in PUBLISHERS {
                let publication = wal.open_publication(publisher, slot).expect("room");
                let found = wal.publication(publication);
                let found = (found.sequence, found.offset);
                let expected = publications.get(&(publisher, id)).copied().unwrap_or((0, 0));
                if found != expected {
                    return Err(format!("{publisher} in {id}: {found:?} not {expected:?}"));
                }
            }
            let held = batches()
                .filter(|batch| batch.stream == id && batch.offset >= state.earliest_offset);
            let mut from = state.earliest_offset;
            for batch in held {
                if batch.offset != from {
                    return Err(format!("stream {id}: earliest {from} is inside a batch"));
                }
                from += u64::from(batch.count);
                for offset in batch.offset..from {
                    let found = wal.lookup(slot, offset, 0).and_then(|(_, at)| wal.record(at));
                    let Some(record) = found else {
                        return Err(format!("stream {id}: offset {offset} is not found"));
                    };
                    if record.block != batch.block || record.header.lsn.get() != batch.lsn {
                        return Err(format!("stream {id}: offset {offset} holds something else"));
                    }
                }
            }
            if wal.lookup(slot, state.next_offset, 0).is_some()
                || (state.earliest_offset > 0
                    && wal.lookup(slot, state.earliest_offset - 1, 0).is_some())
            {
                return Err(format!("stream {id}: an offset that is not held is found"));
            }
        }
        for publisher in PUBLISHERS {
            let expected = self.lives.iter().rfind(|life| life.1 == publisher && life.0 < end);
            let found = wal.life(publisher).map(|life| (life.incarnation, life.nonce));
            if found != expected.map(|life| (life.2, life.3)) {
                return Err(format!("life of {publisher}: {found:?} not {expected:?}"));
            }
        }
        Ok(())
    }
}

/// Checks a log that was just opened: acknowledged records (lsn below `acknowledged`) are there, and what is there is a
/// prefix of the history, to which this cuts it.
pub fn check_recovered<R: Region>(
    wal: &mut Wal<R>,
    history: &mut History,
    acknowledged: u64,
) -> Result<(), String> {
    // The start's own epoch record took one lsn.
    let recovered = wal.appended() - 1;
    if recovered < acknowledged {
        return Err(format!("acknowledged to {acknowledged}, recovered to {recovered}"));
    }
    history.cut(recovered);
    history.check(wal)
}
