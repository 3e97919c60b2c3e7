//! What cold segments cost: bandwidth of copying, merging and reading, and the space that they take beside what they hold.
//!
//! `cargo run --release -p mstream-pmem --example cold_cost -- DIR [SEGMENTS]`
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use mstream_pmem::cold::{ColdFrom, ColdPage, ColdStore, DirDisk, Keep};
use mstream_pmem::format::{
    Kind, OPENED_AT_START, RecordFields, RecordHeader, SEGMENT_DATA_AT, SegmentFields,
    SegmentHeader, crc32c, generation, record_bytes,
};
use zerocopy::IntoBytes;

const SEGMENT_BYTES: usize = 64 << 20;
const MESSAGE_BYTES: usize = 256;
const PER_BATCH: usize = 4;

/// Streams, keys in each, and what they want kept.
struct Shape {
    name: &'static str,
    streams: u64,
    keys: u64,
    keep: Keep,
}

fn shapes() -> [Shape; 5] {
    let keep = Keep::default();
    let newest = Keep { newest_per_key: true, ..keep };
    [
        Shape { name: "everything, 16 streams", streams: 16, keys: 0, keep },
        Shape { name: "everything, 100,000 streams", streams: 100_000, keys: 0, keep },
        Shape {
            name: "at most 8 MiB of each of 16 streams",
            streams: 16,
            keys: 0,
            keep: Keep { retention_bytes: 8 << 20, ..keep },
        },
        Shape { name: "newest of 4 x 10,000 keys", streams: 4, keys: 10_000, keep: newest },
        Shape { name: "newest of 4 x 200,000 keys", streams: 4, keys: 200_000, keep: newest },
    ]
}

/// Makes hot segments full of batches, each of a random stream and with random keys.
struct Hot {
    bytes: Vec<u8>,
    random: u64,
    lsn: u64,
    next: HashMap<u64, u64>,
}

impl Hot {
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn fill(&mut self, sequence: u64, shape: &Shape) -> u64 {
        let header = SegmentHeader::new(&SegmentFields {
            shard: 0,
            log_id: [1; 16],
            sequence,
            base_lsn: self.lsn,
            base_epoch: 1,
            base_chain: 0,
            level: 1,
            reason: OPENED_AT_START,
            segment_bytes: SEGMENT_BYTES as u64,
            window_bytes: 65_536,
            time: 0,
            boot_id: [0; 16],
            secret: [2; 16],
        });
        self.bytes[..128].copy_from_slice(header.as_bytes());
        let generation = generation(&[2; 16], sequence);
        let mut block = vec![0; PER_BATCH * MESSAGE_BYTES];
        let mut at = SEGMENT_DATA_AT as usize;
        let bytes = record_bytes(block.len()) as usize;
        while at + bytes <= self.bytes.len() {
            for message in block.chunks_exact_mut(MESSAGE_BYTES) {
                // Length, flags (begin and end), key length, header length, key.
                message[..4].copy_from_slice(&(MESSAGE_BYTES as u32 - 8).to_le_bytes());
                message[4..8].copy_from_slice(&[3, if shape.keys > 0 { 8 } else { 0 }, 0, 0]);
                let key = self.random() % shape.keys.max(1);
                message[8..16].copy_from_slice(&key.to_le_bytes());
            }
            let stream = 1 + self.random() % shape.streams;
            let offset = self.next.entry(stream).or_default();
            let fields = RecordFields {
                kind: Kind::Data,
                local: false,
                generation,
                count: PER_BATCH as u16,
                block_bytes: block.len() as u32,
                epoch: 1,
                block_crc: crc32c(&block),
                lsn: self.lsn,
                stream,
                offset: *offset,
                publisher: 1,
                incarnation: 1,
                sequence: self.lsn,
                time: self.lsn,
            };
            *offset += PER_BATCH as u64;
            self.lsn += 1;
            let record = RecordHeader::new(&fields, 0);
            self.bytes[at..at + 96].copy_from_slice(record.as_bytes());
            self.bytes[at + 96..at + 96 + block.len()].copy_from_slice(&block);
            at += bytes;
        }
        at as u64
    }
}

fn run(dir: &Path, segments: u64, shape: &Shape) -> Result<(), Box<dyn std::error::Error>> {
    let path = dir.join("cold-cost");
    let mut store = ColdStore::open(DirDisk::open(&path, false)?, [1; 16], 0)?;
    let mut hot = Hot {
        bytes: vec![0; SEGMENT_BYTES],
        random: 88_172_645_463_325_252,
        lsn: 1,
        next: HashMap::new(),
    };
    let keep = |_: u64| Some(shape.keep);
    let (mut copied, mut merged, mut copying, mut merging) = (0.0, 0.0, 0.0, 0.0);
    let (mut most, mut sum, mut most_files) = (0f64, 0.0, 0);
    for sequence in 1..=segments {
        let end = hot.fill(sequence, shape);
        let start = Instant::now();
        store.copy(sequence, &hot.bytes, end, &keep)?;
        copying += start.elapsed().as_secs_f64();
        copied += end as f64;
        let start = Instant::now();
        loop {
            let done = store.maintain(0, &keep, 16 << 20)?;
            merged += done.bytes as f64;
            let stats = store.stats();
            most = most.max(stats.file_bytes as f64 / needed(shape, &hot, stats.live_bytes));
            if !done.more {
                break;
            }
        }
        merging += start.elapsed().as_secs_f64();
        let stats = store.stats();
        sum += stats.file_bytes as f64 / needed(shape, &hot, stats.live_bytes);
        most_files = most_files.max(stats.files);
    }
    let start = Instant::now();
    let (mut page, mut read) = (ColdPage::new(256 * 1024), 0);
    let streams: Vec<_> = store.ranges().collect();
    for (stream, range) in streams {
        let mut at = range.earliest;
        while store.read(stream, ColdFrom::Offset(at), &mut page)? {
            read += page.records().map(|record| 96 + record.block.len()).sum::<usize>();
            at = page.end();
        }
    }
    let reading = start.elapsed().as_secs_f64();
    let stats = store.stats();
    let start = Instant::now();
    let store = ColdStore::open(store.into_disk(), [1; 16], 0)?;
    println!(
        "{}: level {}, copied {:.0} MiB at {:.0} MiB/s, merged (read + written) {:.0} MiB at {:.0} MiB/s, read {:.0} MiB at \
         {:.0} MiB/s, opened in {:.1} ms; files {} (at most {most_files}), {:.1} MiB, memory {:.1} MiB; space amplification {:.2} \
         at the end, {:.2} on average between merges, {most:.2} at most during one",
        shape.name,
        stats.level,
        copied / 1048576.0,
        copied / 1048576.0 / copying,
        merged / 1048576.0,
        merged / 1048576.0 / merging.max(1e-9),
        read as f64 / 1048576.0,
        read as f64 / 1048576.0 / reading,
        start.elapsed().as_secs_f64() * 1e3,
        stats.files,
        stats.file_bytes as f64 / 1048576.0,
        stats.memory_bytes as f64 / 1048576.0,
        stats.file_bytes as f64 / needed(shape, &hot, stats.live_bytes),
        sum / segments as f64,
    );
    drop(store);
    Ok(std::fs::remove_dir_all(path)?)
}

/// Bytes that a store without any overhead would take: what is live, but of a key the newest record alone.
fn needed(shape: &Shape, hot: &Hot, live: u64) -> f64 {
    if shape.keys == 0 {
        return live as f64;
    }
    // A batch stays while one of its keys is the newest: at rest, a batch of n keys in K stays for as long as none of
    // them comes again, so that about K x (1 + 1/2 + .. + 1/n) messages' worth of batches are there.
    let per_key: f64 = (1..=PER_BATCH).map(|n| 1.0 / n as f64).sum();
    let batches = shape.keys as f64 * per_key / PER_BATCH as f64;
    let packed = (96 + PER_BATCH * MESSAGE_BYTES) as f64;
    (shape.streams as f64 * batches * packed).min(hot.lsn as f64 * packed)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("which directory?")?;
    let segments = arguments.next().map_or(Ok(24), |text| text.parse())?;
    shapes().iter().try_for_each(|shape| run(Path::new(&dir), segments, shape))
}
