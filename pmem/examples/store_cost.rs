//! What a durable store costs by size: past the cache (streamed), or through it and written back; each with the fence
//! of a level that needs one, and without.
//!
//! `cargo run --release -p mstream-pmem --example store_cost [DIR]`: ns per store, medians of runs that take turns, on
//! DIR (by default a folder made in /dev/shm and removed afterwards). Memory of the machine stands in for persistent
//! memory: the instructions are the same, the medium's own time is not in the figures.
#![expect(clippy::print_stdout, reason = "a report")]

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use mstream_pmem::AnyRegion;
use mstream_pmem::prepare::{DirConfig, open_dir};
use mstream_pmem::region::{Level, Region};

const SEGMENT_BYTES: u64 = 32 << 20;
const SEGMENTS: u32 = 4;
const STORES: u64 = 16_384;
const RUNS: usize = 31;

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).map_or(PathBuf::from("/dev/shm"), PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;
    let (region, mut slots, mut preparer) = open_dir(DirConfig {
        dir: dir.path().to_path_buf(),
        segment_bytes: SEGMENT_BYTES,
        segments: SEGMENTS,
        require: None,
        trust_host_pmem: false,
        sync: None,
    })?;
    while preparer.has_next() {
        slots.push(preparer.prepare_next()?);
    }
    let AnyRegion::Mapped(mut region) = region else { return Err("a staged region".into()) };
    println!("ns per store, medians of {RUNS} runs of {STORES} on {}", dir.path().display());
    println!("{:>6} {:>6} {:>26} {:>26}", "", "", "with a fence (pmem)", "without (process)");
    println!(
        "{:>6} {:>6} {:>12} {:>13} {:>12} {:>13}",
        "bytes", "burst", "streamed", "written back", "streamed", "stored"
    );
    let mut at = 0;
    for bytes in [64, 128, 192, 256, 384, 512, 1024, 1472] {
        for burst in [1, 32] {
            let mut figures = vec![Vec::new(); 4];
            for _ in 0..RUNS {
                for (way, figures) in figures.iter_mut().enumerate() {
                    let level = if way < 2 { Level::Pmem } else { Level::Process };
                    region = region.forced(level);
                    figures.push(run(&mut region, &mut at, bytes, burst, way % 2 == 0));
                }
            }
            let medians: Vec<f64> = figures.iter_mut().map(|figures| median(figures)).collect();
            let [a, b, c, d] = medians[..] else { continue };
            println!("{bytes:>6} {burst:>6} {a:>12.1} {b:>13.1} {c:>12.1} {d:>13.1}");
        }
    }
    Ok(())
}

/// ns per store of `bytes` bytes, one behind the other; every `burst`-th is followed by a barrier.
fn run(region: &mut impl Region, at: &mut u64, bytes: usize, burst: u64, stream: bool) -> f64 {
    let from = vec![7; bytes];
    let start = Instant::now();
    for number in 1..=STORES {
        if *at + bytes as u64 > SEGMENT_BYTES * u64::from(SEGMENTS) {
            *at = 0;
        }
        if stream {
            region.stream(*at, black_box(&from));
        } else {
            region.store(*at, black_box(&from));
            region.flush(*at, bytes);
        }
        *at += bytes as u64;
        if number % burst == 0 {
            black_box(region.barrier());
        }
    }
    start.elapsed().as_nanos() as f64 / STORES as f64
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
