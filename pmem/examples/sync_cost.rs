//! What durability costs on ordinary files: from an append to its completed barrier, one at a time and with as much
//! under way as the window allows.
//!
//! `cargo run --release -p mstream-pmem --example sync_cost [DIR]` on a folder made in DIR (by default the current
//! one) and removed afterwards.
#![expect(clippy::print_stdout, reason = "a report")]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mstream_pmem::format::crc32c;
use mstream_pmem::prepare::{DirConfig, SyncConfig, open_dir};
use mstream_pmem::staged::default_window_bytes;
use mstream_pmem::wal::{AppendData, AppendError, TableLimits, Wal, WalConfig};

const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENTS: u32 = 8;
const ALONE: usize = 2_000;
const TOGETHER: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).map_or(PathBuf::from("."), PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    let (region, mut slots, mut preparer) = open_dir(DirConfig {
        dir: dir.path().to_path_buf(),
        segment_bytes: SEGMENT_BYTES,
        segments: SEGMENTS,
        require: None,
        trust_host_pmem: false,
        sync: Some(SyncConfig {
            poll: Duration::from_micros(50),
            window_bytes: default_window_bytes(SEGMENT_BYTES),
        }),
    })?;
    while preparer.has_next() {
        slots.push(preparer.prepare_next()?);
    }
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
    println!("level {} on {}", wal.level(), dir.path().display());
    let stream = wal.open_stream(1)?;
    let publication = wal.open_publication(1, stream)?;
    for block in [64, 1280] {
        let bytes = vec![7; block];
        let data = AppendData {
            stream,
            publication,
            incarnation: 1,
            count: 1,
            block_crc: crc32c(&bytes),
            time_ns: 0,
            block: &bytes,
        };
        let mut times = Vec::with_capacity(ALONE);
        for _ in 0..ALONE {
            let start = Instant::now();
            wal.append_data(&data)?;
            wal.barrier();
            while wal.persisted() < wal.appended() {
                std::hint::spin_loop();
            }
            times.push(start.elapsed().as_nanos() as f64 / 1000.0);
            wal.housekeep(4);
        }
        times.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| times[(ALONE as f64 * part) as usize];
        println!(
            "{block} B, one at a time: p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us",
            at(0.5),
            at(0.99),
            at(0.999)
        );
        let (start, mut appended) = (Instant::now(), 0_u64);
        while start.elapsed() < TOGETHER {
            for _ in 0..32 {
                match wal.append_data(&data) {
                    Ok(_) => appended += 1,
                    Err(AppendError::Full | AppendError::Window) => break,
                    Err(other) => return Err(other.into()),
                }
            }
            wal.barrier();
            wal.persisted();
            wal.housekeep(64);
        }
        while wal.persisted() < wal.appended() {
            std::hint::spin_loop();
        }
        let seconds = start.elapsed().as_secs_f64();
        let rate = appended as f64 / seconds;
        println!(
            "{block} B, window full: {rate:.0} records/s, {:.0} MB/s",
            rate * block as f64 / 1e6
        );
    }
    Ok(())
}
