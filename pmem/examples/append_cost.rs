//! What appending to the log costs beside a bare streaming copy of the same bytes.
//!
//! `cargo run --release -p mstream-pmem --example append_cost [DIR]`: ns per record, medians of runs that take
//! turns, on DIR (by default a folder made in /dev/shm and removed afterwards).
#![expect(clippy::print_stdout, reason = "a report")]

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mstream_pmem::AnyRegion;
use mstream_pmem::format::{crc32c, record_bytes};
use mstream_pmem::prepare::{DirConfig, SyncConfig, open_dir};
use mstream_pmem::region::Region;
use mstream_pmem::staged::default_window_bytes;
use mstream_pmem::wal::{AppendData, PublicationSlot, StreamSlot, TableLimits, Wal, WalConfig};

const SEGMENT_BYTES: u64 = 32 << 20;
const SEGMENTS: u32 = 6;
const RECORDS: u64 = 16_384;
const RUNS: usize = 41;

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).map_or(PathBuf::from("/dev/shm"), PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    println!(
        "ns per record, medians of {RUNS} runs of {RECORDS} records on {}",
        dir.path().display()
    );
    println!("{:>6} {:>6} {:>9} {:>9} {:>6}", "block", "burst", "append", "bare copy", "ratio");
    for block in [64, 1280] {
        for burst in [1, 32] {
            let mut bare = Bare::new(&dir.path().join(format!("bare-{block}-{burst}")))?;
            let mut log = Log::new(&dir.path().join(format!("log-{block}-{burst}")))?;
            let bytes = vec![7; block];
            let (mut appends, mut copies) = (Vec::new(), Vec::new());
            for _ in 0..RUNS {
                copies.push(bare.run(&bytes, burst));
                appends.push(log.run(&bytes, burst)?);
                log.recycle();
            }
            let (append, copy) = (median(&mut appends), median(&mut copies));
            println!("{block:>6} {burst:>6} {append:>9.1} {copy:>9.1} {:>6.2}", append / copy);
        }
    }
    Ok(())
}

/// A region that is only copied to.
struct Bare {
    region: AnyRegion,
    at: u64,
}

impl Bare {
    fn new(dir: &Path) -> Result<Bare, Box<dyn Error>> {
        let (region, _) = open(dir)?;
        Ok(Bare { region, at: 0 })
    }

    /// Streams as many whole lines as the record of `block` takes.
    fn run(&mut self, block: &[u8], burst: u64) -> f64 {
        let record = vec![block[0]; record_bytes(block.len()) as usize];
        let end = SEGMENT_BYTES * u64::from(SEGMENTS);
        timed(burst, |fence| {
            if self.at + record.len() as u64 > end {
                self.at = 0;
            }
            self.region.stream(self.at, black_box(&record));
            self.at += record.len() as u64;
            if fence {
                black_box(self.region.barrier());
            }
        })
    }
}

/// A log that is appended to.
struct Log {
    wal: Wal<AnyRegion>,
    stream: StreamSlot,
    publication: PublicationSlot,
}

impl Log {
    fn new(dir: &Path) -> Result<Log, Box<dyn Error>> {
        let (region, slots) = open(dir)?;
        let config = WalConfig {
            shard: 0,
            new_log_id: [1; 16],
            new_secret: [0x5e; 16],
            boot_id: [2; 16],
            tables: TableLimits { streams: 4, publications: 4, publishers: 4 },
            ready_segments: 2,
            time_ns: 0,
        };
        let (mut wal, _) = Wal::open(region, &slots, config)?;
        let stream = wal.open_stream(1)?;
        let publication = wal.open_publication(1, stream)?;
        Ok(Log { wal, stream, publication })
    }

    fn run(&mut self, block: &[u8], burst: u64) -> Result<f64, Box<dyn Error>> {
        let block_crc = crc32c(block);
        let mut refused = None;
        let ns = timed(burst, |fence| {
            let data = AppendData {
                stream: self.stream,
                publication: self.publication,
                incarnation: 1,
                count: 1,
                block_crc,
                time_ns: 0,
                block: black_box(block),
            };
            refused = self.wal.append_data(&data).err().or(refused);
            if fence {
                self.wal.barrier();
                black_box(self.wal.persisted());
            }
        });
        refused.map_or(Ok(ns), |refused| Err(refused.into()))
    }

    fn recycle(&mut self) {
        for _ in 0..8 {
            self.wal.housekeep(usize::MAX);
        }
    }
}

fn open(dir: &Path) -> Result<(AnyRegion, Vec<u32>), Box<dyn Error>> {
    let config = DirConfig {
        dir: dir.to_path_buf(),
        segment_bytes: SEGMENT_BYTES,
        segments: SEGMENTS,
        require: None,
        trust_host_pmem: false,
        sync: Some(SyncConfig {
            poll: Duration::from_micros(50),
            window_bytes: default_window_bytes(SEGMENT_BYTES),
        }),
    };
    let (region, mut slots, mut preparer) = open_dir(config)?;
    while preparer.has_next() {
        slots.push(preparer.prepare_next()?);
    }
    Ok((region, slots))
}

/// ns per step of RECORDS steps; every `burst`-th is told to fence.
fn timed(burst: u64, mut step: impl FnMut(bool)) -> f64 {
    let start = Instant::now();
    for number in 1..=RECORDS {
        step(number % burst == 0);
    }
    start.elapsed().as_nanos() as f64 / RECORDS as f64
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
