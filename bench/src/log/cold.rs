//! `cold`: reading records from cold segments, as a shard does it for a subscriber that is far behind.

use std::fmt::Write;
use std::path::Path;

use mstream_pmem::cold::{ColdDisk, ColdFrom, ColdPage, ColdStore, DirDisk, Keep};
use mstream_pmem::format::crc32c;
use mstream_pmem::region::Level;
use mstream_pmem::wal::{AppendData, TableLimits, Wal, WalConfig};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::Serialize;

use super::args::ColdArgs;
use super::index::Random;
use super::rig::{Shape, config, open_streams, region};
use super::{MESSAGE_HEADER, Place, histogram, machine, median, percentiles, tell};
use crate::Failure;
use crate::measure::{Clock, Percentiles};

/// Streams whose records lie among each other in the log.
const STREAMS: u64 = 16;
/// The least segment: on hugetlbfs they are of whole pages.
const HUGE_PAGE: u64 = 2 << 20;
/// What `[cold] read_buffer_bytes` is by default.
const PAGE_BYTES: usize = 256 * 1024;
/// Room for a few records: of a look-up that reads one chunk.
const SMALL_PAGE_BYTES: usize = 16 * 1024;
/// Look-ups in a turn, and in one that has the page cache emptied before each.
const LOOKUPS: u32 = 4096;
const UNCACHED_LOOKUPS: u32 = 64;

/// What the cold segments are full of.
#[derive(Debug, Serialize)]
struct Case {
    what: &'static str,
    level: String,
    records: u64,
    messages: u64,
    /// Of records, headers included.
    bytes: u64,
    files: u64,
    cached: Reading,
    /// `None` where files are memory.
    uncached: Option<Reading>,
}

/// All records once, a page at a time, by medians over the runs; and single look-ups.
#[derive(Debug, Serialize)]
struct Reading {
    seconds: f64,
    bytes_per_s: f64,
    records_per_s: f64,
    messages_per_s: f64,
    /// ns until the record at a random offset is in a page with room for a few.
    lookup_ns: Percentiles,
    /// ns until a whole page from a random offset on is there.
    page_ns: Percentiles,
}

/// Fills cold segments of each kind and reads them again and again.
pub(crate) fn run(args: &ColdArgs) -> Result<(), Failure> {
    let place = Place::take(&args.log)?;
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::Builder::new()
        .prefix("mstream-bench-")
        .tempdir_in(&parent)
        .map_err(|error| format!("--dir {}: {error}", parent.display()))?;
    let mut text = machine(&place);
    let _ = writeln!(
        text,
        "{:<46} {:>10} {:>6} {:>5} | {:>6} {:>11} {:>11} | {:>9} {:>9} | {:>9} us",
        "", "records", "MiB", "files", "GB/s", "records/s", "messages/s", "look-up", "p99", "page"
    );
    let mut cases = Vec::new();
    for (what, block, count) in [
        ("full batches, 17 messages of 64 B", 17 * (64 + MESSAGE_HEADER), 17),
        ("single messages of 64 B", 64 + MESSAGE_HEADER, 1),
    ] {
        eprintln!("cold: {what}");
        let case = measure(&place, dir.path(), args, (what, block, count))?;
        for (how, reading) in
            [("cached", Some(&case.cached)), ("not cached", case.uncached.as_ref())]
        {
            let what = format!("{what}, {how}");
            match reading {
                Some(reading) => line(&mut text, &what, &case, reading),
                None => {
                    let _ = writeln!(text, "{what}: not measured, the files are memory");
                }
            }
        }
        cases.push(case);
    }
    let _ = writeln!(
        text,
        "level {}; {STREAMS} streams; look-up: a record at a random offset, median and p99; page: {} KiB from there on",
        cases.first().map(|case| case.level.as_str()).unwrap_or_default(),
        PAGE_BYTES >> 10
    );
    tell("cold", &args.log, &place, cases, &text)
}

fn line(text: &mut String, what: &str, case: &Case, reading: &Reading) {
    let us = |ns: u64| ns as f64 / 1e3;
    let _ = writeln!(
        text,
        "{what:<46} {:>10} {:>6} {:>5} | {:>6.2} {:>11.0} {:>11.0} | {:>9.1} {:>9.1} | {:>9.1}",
        case.records,
        case.bytes >> 20,
        case.files,
        reading.bytes_per_s / 1e9,
        reading.records_per_s,
        reading.messages_per_s,
        us(reading.lookup_ns.p50),
        us(reading.lookup_ns.p99),
        us(reading.page_ns.p50),
    );
}

fn measure(
    place: &Place,
    dir: &Path,
    args: &ColdArgs,
    (what, block, count): (&'static str, usize, u16),
) -> Result<Case, Failure> {
    let path = dir.join("cold");
    let mut store = fill(place, &path, args.mib, block, count)?;
    let stats = store.stats();
    let mut bench = Bench { clock: Clock::new(), random: Random(args.seed | 1), dir: path };
    let warm = bench.read_all(&mut store)?;
    let (bytes, records, messages) = (stats.live_bytes, warm.records, warm.messages);
    let cached = bench.reading(&mut store, args.log.runs, false)?;
    let is_memory = store.disk().level() != Level::MediaSync;
    let uncached = match is_memory {
        true => None,
        false => Some(bench.reading(&mut store, args.log.runs, true)?),
    };
    drop(store);
    std::fs::remove_dir_all(&bench.dir)
        .map_err(|error| format!("{}: {error}", bench.dir.display()))?;
    let level = stats.level.to_string();
    Ok(Case { what, level, records, messages, bytes, files: stats.files, cached, uncached })
}

/// Cold segments with so many MiB of records in `STREAMS` streams, copied out of a log and merged as they are for a shard.
fn fill(
    place: &Place,
    path: &Path,
    mib: u64,
    block: usize,
    count: u16,
) -> Result<ColdStore<DirDisk>, Failure> {
    let segment_bytes = ((mib << 20) / 8).next_power_of_two().clamp(HUGE_PAGE, 64 << 20);
    let tables = TableLimits { streams: STREAMS as usize, publications: 1, publishers: 1 };
    let shape = Shape { segment_bytes, segments: 8 + 2 * tables.reserve_segments(segment_bytes) };
    let log = place.dir.path().join("log");
    let (region, slots) = region(&log, shape)?;
    let opened = Wal::open_holding(region, &slots, WalConfig { tables, ..config()? }, None);
    let (mut wal, _) = opened.map_err(|error| error.to_string())?;
    let failed = |error: mstream_pmem::cold::ColdError| format!("{}: {error}", path.display());
    let disk =
        DirDisk::open(path, false).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut store = ColdStore::open(disk, wal.log_id(), 0).map_err(failed)?;
    let keep = |_: u64| Some(Keep::default());
    let payload: Vec<u8> = (0..block).map(|at| (at * 31) as u8).collect();
    let block_crc = crc32c(&payload);
    let (streams, publication) = open_streams(&mut wal, STREAMS)?;
    // A few records of each stream at a time, so that the copy has something to sort.
    let mut refused = 0;
    for number in 0_u64.. {
        if store.stats().live_bytes >= mib << 20 {
            break;
        }
        let stream = streams[(number % STREAMS) as usize];
        let data = AppendData {
            stream,
            publication,
            incarnation: 1,
            count,
            block_crc,
            time_ns: number,
            block: &payload,
        };
        for _ in 0..4 {
            match wal.append_data(&data) {
                Ok(_) => refused = 0,
                Err(_) if refused < 1_000_000 => refused += 1,
                Err(error) => return Err(error.to_string()),
            }
        }
        wal.barrier();
        wal.persisted();
        wal.housekeep(64);
        if let Some(sealed) = wal.next_sealed() {
            store.copy(sealed.sequence(), sealed.bytes(), sealed.end(), &keep).map_err(failed)?;
            wal.give_back(sealed);
            while store.maintain(0, &keep, 16 << 20).map_err(failed)?.more {}
        }
    }
    drop(wal);
    std::fs::remove_dir_all(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    Ok(store)
}

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    records: u64,
    messages: u64,
}

struct Bench {
    clock: Clock,
    random: Random,
    dir: std::path::PathBuf,
}

impl Bench {
    fn reading(
        &mut self,
        store: &mut ColdStore<DirDisk>,
        runs: u16,
        evict: bool,
    ) -> Result<Reading, Failure> {
        let mut times = Vec::new();
        let (mut lookups, mut pages) = (histogram()?, histogram()?);
        let mut read = Read::default();
        for _ in 0..runs {
            if evict {
                self.evict()?;
            }
            let begun = self.clock.now_ns();
            read = self.read_all(store)?;
            times.push((self.clock.now_ns() - begun) as f64 / 1e9);
            self.look_up(store, evict, SMALL_PAGE_BYTES, &mut lookups)?;
            self.look_up(store, evict, PAGE_BYTES, &mut pages)?;
        }
        let seconds = median(times);
        Ok(Reading {
            seconds,
            bytes_per_s: store.stats().live_bytes as f64 / seconds,
            records_per_s: read.records as f64 / seconds,
            messages_per_s: read.messages as f64 / seconds,
            lookup_ns: percentiles(&lookups),
            page_ns: percentiles(&pages),
        })
    }

    /// Reads all streams, one after the other, from their first to their last record.
    fn read_all(&self, store: &mut ColdStore<DirDisk>) -> Result<Read, Failure> {
        let mut page = ColdPage::new(PAGE_BYTES);
        let mut read = Read::default();
        let ranges: Vec<_> = store.ranges().collect();
        for (stream, range) in ranges {
            let mut at = range.earliest;
            while store.read(stream, ColdFrom::Offset(at), &mut page).map_err(|e| e.to_string())? {
                for record in page.records() {
                    let (offset, count) = (record.header.offset.get(), record.header.count.get());
                    if offset != at {
                        return Err(format!("stream {stream}: offset {offset} instead of {at}"));
                    }
                    at += u64::from(count);
                    read.records += 1;
                    read.messages += u64::from(count);
                }
            }
            if at != range.end {
                return Err(format!("stream {stream}: read up to {at}, not {}", range.end));
            }
        }
        Ok(read)
    }

    /// Times reads from random offsets into pages of `page` bytes.
    fn look_up(
        &mut self,
        store: &mut ColdStore<DirDisk>,
        evict: bool,
        page: usize,
        times: &mut hdrhistogram::Histogram<u64>,
    ) -> Result<(), Failure> {
        let mut page = ColdPage::new(page);
        let ranges: Vec<_> = store.ranges().collect();
        for _ in 0..if evict { UNCACHED_LOOKUPS } else { LOOKUPS } {
            let (stream, range) = ranges[(self.random.next() % ranges.len() as u64) as usize];
            let wanted = range.earliest + self.random.next() % (range.end - range.earliest);
            if evict {
                self.evict()?;
            }
            let begun = self.clock.now_ns();
            store.read(stream, ColdFrom::Offset(wanted), &mut page).map_err(|e| e.to_string())?;
            times.saturating_record(self.clock.now_ns() - begun);
            let found = page.records().next().map(|record| record.header.offset.get());
            if page.record_at_or_after(wanted).map(|record| record.header.offset.get()) != found {
                return Err(format!("stream {stream}: offset {wanted} was not found"));
            }
        }
        Ok(())
    }

    /// Takes the files out of the page cache; what holds the disk may have a cache of its own.
    fn evict(&self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.dir.display());
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let file = std::fs::File::open(entry.map_err(failed)?.path()).map_err(failed)?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
                .map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }
}
