//! `recovery`: how fast a log is read again at start.

use std::fmt::Write;

use mstream_pmem::format::crc32c;
use serde::Serialize;

use super::args::RecoveryArgs;
use super::rig::{Rig, Shape, open, region};
use super::{MESSAGE_HEADER, Place, machine, median, tell};
use crate::Failure;
use crate::measure::Clock;

const SEGMENT_BYTES: u64 = 64 << 20;

/// What the log is full of.
#[derive(Debug, Serialize)]
struct Case {
    what: &'static str,
    records: u64,
    messages: u64,
    /// Of records, as they stand in the log.
    bytes: u64,
    /// Median: checks, index and tables, and the fresh segment. The files were mapped before.
    seconds: f64,
    /// Median: mapping the files, all their pages touched.
    map_seconds: f64,
    bytes_per_s: f64,
    records_per_s: f64,
}

/// Fills a log of each kind and opens it again and again.
pub(crate) fn run(args: &RecoveryArgs) -> Result<(), Failure> {
    let place = Place::take(&args.log)?;
    let mut text = machine(&place);
    let _ = writeln!(
        text,
        "{:<34} {:>10} {:>9} {:>9} {:>7} {:>12} {:>9}",
        "", "records", "MiB", "s", "GB/s", "records/s", "mapping s"
    );
    let mut cases = Vec::new();
    for (what, block, count) in [
        ("full batches, 17 messages of 64 B", 17 * (64 + MESSAGE_HEADER), 17),
        ("single messages of 64 B", 64 + MESSAGE_HEADER, 1),
        ("single records of 64 B in all", 64, 1),
    ] {
        eprintln!("recovery: {what}");
        let case = measure(&place, args, what, block, count)?;
        let _ = writeln!(
            text,
            "{what:<34} {:>10} {:>9} {:>9.3} {:>7.2} {:>12.0} {:>9.3}",
            case.records,
            case.bytes >> 20,
            case.seconds,
            case.bytes_per_s / 1e9,
            case.records_per_s,
            case.map_seconds
        );
        cases.push(case);
    }
    tell("recovery", &args.log, &place, cases, &text)
}

fn measure(
    place: &Place,
    args: &RecoveryArgs,
    what: &'static str,
    block: usize,
    count: u16,
) -> Result<Case, Failure> {
    let dir = place.dir.path().join(what.replace([' ', ','], "-"));
    let data = args.mib.div_ceil(SEGMENT_BYTES >> 20) as u32;
    // Each opening takes a segment; the reserve and the ready ones stay free.
    let shape =
        Shape { segment_bytes: SEGMENT_BYTES, segments: data + 8 + u32::from(args.log.runs) };
    let payload: Vec<u8> = (0..block).map(|at| (at * 31) as u8).collect();
    let block_crc = crc32c(&payload);
    let mut rig = Rig::new(&dir, shape)?;
    let mut written = 0;
    while written < args.mib << 20 {
        for _ in 0..16 {
            let batch = rig.batch(&payload, block_crc, count);
            rig.wal.append_data(&batch).map_err(|refused| refused.to_string())?;
            written += mstream_pmem::format::record_bytes(block);
        }
        rig.wal.barrier();
        rig.wal.persisted();
    }
    drop(rig);
    let clock = Clock::new();
    let (mut mapping, mut times) = (Vec::new(), Vec::new());
    let mut found = None;
    for _ in 0..args.log.runs {
        let begun = clock.now_ns();
        let (region, slots) = region(&dir, shape)?;
        let mapped = clock.now_ns();
        let (wal, report) = open(region, &slots)?;
        times.push((clock.now_ns() - mapped) as f64 / 1e9);
        mapping.push((mapped - begun) as f64 / 1e9);
        found = Some(report);
        drop(wal);
    }
    let report = found.ok_or("no run")?;
    if report.bytes < written {
        return Err(format!("recovery found {} of {written} bytes", report.bytes));
    }
    let seconds = median(times);
    // One log at a time: they are large.
    std::fs::remove_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(Case {
        what,
        records: report.records,
        messages: report.messages,
        bytes: report.bytes,
        seconds,
        map_seconds: median(mapping),
        bytes_per_s: report.bytes as f64 / seconds,
        records_per_s: report.records as f64 / seconds,
    })
}
