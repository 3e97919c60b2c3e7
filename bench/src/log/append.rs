//! `wal`: what an append costs beside a bare streaming copy of the same payload and a fence, and beside PMDK's
//! libpmemlog.

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;

use hdrhistogram::Histogram;
use mstream_pmem::MappedRegion;
use mstream_pmem::format::crc32c;
use mstream_pmem::region::Region;
use serde::Serialize;

use super::args::{LogArgs, LogPeer, WalArgs};
use super::pmemlog::Pmemlog;
use super::rig::{Rig, Shape, region};
use super::{Place, histogram, machine, median, percentiles, tell};
use crate::Failure;
use crate::measure::{Clock, Percentiles};

/// Bytes of payload. The last is the largest block that a window of 64 KiB takes.
const SIZES: [usize; 9] = [32, 64, 128, 256, 1024, 1280, 4096, 16384, 65440];
/// Records behind one fence.
const BURSTS: [u64; 2] = [1, 32];
/// Bytes that each side writes in a turn: more than a cache holds.
const TURN_BYTES: u64 = 48 << 20;
const MOST_RECORDS: u64 = 1 << 16;
const SHAPE: Shape = Shape { segment_bytes: 32 << 20, segments: 12 };

/// One size and burst.
#[derive(Debug, Serialize)]
struct Case {
    size: usize,
    burst: u64,
    level: &'static str,
    /// ns of a record: the log's, medians over the runs, each with as many records recycled as appended.
    append_ns: f64,
    /// The same with a store fence behind each barrier (which level `process` does without).
    append_fence_ns: f64,
    /// Without that, while the log is new and nothing is recycled.
    first_ns: f64,
    /// The same payload streamed, and the level's own barrier.
    copy_ns: f64,
    /// The same payload streamed, and a store fence.
    copy_fence_ns: f64,
    /// PMDK's libpmemlog: the same payload by pmemlog_append, or a burst by pmemlog_appendv.
    pmemlog_ns: Option<f64>,
    /// Payload bytes per second.
    bytes_per_s: f64,
    /// Of a burst, its barrier included: those within a segment, and those that began one.
    burst_ns: Percentiles,
    rolling_ns: Percentiles,
    rolls: u64,
}

/// Measures all sizes and bursts, or those asked for.
pub(crate) fn run(args: &WalArgs) -> Result<(), Failure> {
    if args.peers.contains(&LogPeer::Pmemlog) {
        super::pmemlog::force_pmem()?;
    }
    let place = Place::take(&args.log)?;
    let sizes = args.size.map_or(SIZES.to_vec(), |size| vec![size as usize]);
    let bursts = args.burst.map_or(BURSTS.to_vec(), |burst| vec![burst]);
    let mut cases = Vec::new();
    let mut text = machine(&place);
    let _ = writeln!(
        text,
        "{:>6} {:>5} | {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} ns a record | {:>5} {:>6} | {:>6} | {:>8} {:>8} {:>8} {:>9} | {:>9} {:>9} ns a burst",
        "bytes",
        "burst",
        "append",
        "+ fence",
        "new",
        "copy",
        "+ fence",
        "pmemlog",
        "ratio",
        "fenced",
        "GB/s",
        "p50",
        "p99",
        "p99.99",
        "max",
        "roll p50",
        "max"
    );
    for size in sizes {
        for burst in &bursts {
            eprintln!("wal: {size} bytes, {burst} behind a fence");
            let case = measure(&place, &args.log, size, *burst, &args.peers)?;
            row(&mut text, &case);
            cases.push(case);
        }
    }
    text.push_str(
        "append: header, checks, payload, index, recycling; new: before anything is recycled; copy: the payload alone, streamed, and the level's barrier; \
         + fence: and a store fence; ratio: append by copy, fenced: both with a fence. Bursts that began a segment are apart.\n",
    );
    tell("wal", &args.log, &place, cases, &text)
}

fn row(text: &mut String, case: &Case) {
    let Case { size, burst, append_ns, append_fence_ns, first_ns, copy_ns, copy_fence_ns, .. } =
        case;
    let pmemlog = case.pmemlog_ns.map_or("-".to_string(), |ns| format!("{ns:.1}"));
    let (times, rolling) = (&case.burst_ns, &case.rolling_ns);
    let _ = writeln!(
        text,
        "{size:>6} {burst:>5} | {append_ns:>9.1} {append_fence_ns:>9.1} {first_ns:>9.1} {copy_ns:>9.1} {copy_fence_ns:>9.1} {pmemlog:>9} {:11} | {:>5.2} {:>6.2} | {:>6.2} | {:>8} {:>8} {:>8} {:>9} | {:>9} {:>9}",
        "",
        append_ns / copy_ns,
        append_fence_ns / copy_fence_ns,
        case.bytes_per_s / 1e9,
        times.p50,
        times.p99,
        times.p99_99,
        times.max,
        rolling.p50,
        rolling.max,
    );
}

fn measure(
    place: &Place,
    args: &LogArgs,
    size: usize,
    burst: u64,
    peers: &[LogPeer],
) -> Result<Case, Failure> {
    let records = (TURN_BYTES / size as u64).clamp(burst, MOST_RECORDS) / burst * burst;
    let payload: Vec<u8> = (0..size).map(|at| (at * 31) as u8).collect();
    let dir = |name: &str| place.dir.path().join(format!("{name}-{size}-{burst}"));
    let mut bare = Bare::new(&dir("copy"))?;
    let mut log = Log::new(&dir("log"))?;
    let mut peer = match peers.contains(&LogPeer::Pmemlog) {
        true => Some(Pmemlog::create(&dir("pmemlog"), 2 * records * (size as u64 + 64))?),
        false => None,
    };
    let clock = Clock::new();
    let (mut copies, mut fenced, mut appends, mut others) = (vec![], vec![], vec![], vec![]);
    let mut fenced_appends = vec![];
    let (mut times, mut rolling) = (histogram()?, histogram()?);
    let first_ns = log.fill(&clock, &payload, burst)?;
    // One turn of each warms up.
    for turn in 0..=args.runs {
        let copy = per_record(&clock, records, || bare.run(&payload, records, burst, false));
        let fence = per_record(&clock, records, || bare.run(&payload, records, burst, true));
        let (mut inside, mut between) = (histogram()?, histogram()?);
        let mut failed = Ok(());
        let append = per_record(&clock, records, || {
            failed = log.run(&clock, &payload, (records, burst, false), &mut inside, &mut between);
        });
        failed?;
        let (mut aside, mut failed) = ((histogram()?, histogram()?), Ok(()));
        let fenced_append = per_record(&clock, records, || {
            failed = log.run(&clock, &payload, (records, burst, true), &mut aside.0, &mut aside.1);
        });
        failed?;
        let other = match &mut peer {
            Some(peer) => {
                let mut failed = Ok(());
                let ns =
                    per_record(&clock, records, || failed = peer.run(&payload, records, burst));
                failed?;
                peer.rewind()?;
                Some(ns)
            }
            None => None,
        };
        if turn > 0 {
            copies.push(copy);
            fenced.push(fence);
            appends.push(append);
            fenced_appends.push(fenced_append);
            others.extend(other);
            let added = times.add(inside).and_then(|()| rolling.add(between));
            added.map_err(|error| error.to_string())?;
        }
    }
    let append_ns = median(appends);
    Ok(Case {
        size,
        burst,
        level: log.rig.wal.level().name(),
        append_ns,
        append_fence_ns: median(fenced_appends),
        first_ns,
        copy_ns: median(copies),
        copy_fence_ns: median(fenced),
        pmemlog_ns: (!others.is_empty()).then(|| median(others)),
        bytes_per_s: size as f64 / append_ns * 1e9,
        burst_ns: percentiles(&times),
        rolling_ns: percentiles(&rolling),
        rolls: rolling.len(),
    })
}

fn per_record(clock: &Clock, records: u64, run: impl FnOnce()) -> f64 {
    let begun = clock.now_ns();
    run();
    (clock.now_ns() - begun) as f64 / records as f64
}

/// A region that is only copied to.
struct Bare {
    region: MappedRegion,
    at: u64,
}

impl Bare {
    fn new(dir: &Path) -> Result<Bare, Failure> {
        Ok(Bare { region: region(dir, SHAPE)?.0, at: 0 })
    }

    /// Streams whole lines of the payload alone.
    fn run(&mut self, payload: &[u8], records: u64, burst: u64, fence: bool) {
        let lines = payload.len().next_multiple_of(64);
        let mut padded = payload.to_vec();
        padded.resize(lines, 0);
        let end = SHAPE.segment_bytes * u64::from(SHAPE.segments);
        for number in 1..=records {
            if self.at + lines as u64 > end {
                self.at = 0;
            }
            self.region.stream(self.at, black_box(&padded));
            self.at += lines as u64;
            if number.is_multiple_of(burst) {
                black_box(self.region.barrier());
                if fence {
                    self.region.store_fence();
                }
            }
        }
    }
}

/// A log that is appended to, and recycled as a shard does.
struct Log {
    rig: Rig,
}

impl Log {
    fn new(dir: &Path) -> Result<Log, Failure> {
        Ok(Log { rig: Rig::new(dir, SHAPE)? })
    }

    /// Appends until one segment is recycled for each that is begun; what a record took before any was.
    fn fill(&mut self, clock: &Clock, payload: &[u8], burst: u64) -> Result<f64, Failure> {
        let (mut inside, mut rolling) = (histogram()?, histogram()?);
        let segments = u64::from(SHAPE.segments);
        let records = (SHAPE.segment_bytes / 2 / payload.len() as u64 / burst * burst).max(burst);
        let mut new = Vec::new();
        while rolling.len() < 2 * segments {
            let begun = clock.now_ns();
            self.run(clock, payload, (records, burst, false), &mut inside, &mut rolling)?;
            if (1..segments / 2).contains(&rolling.len()) {
                new.push((clock.now_ns() - begun) as f64 / records as f64);
            }
        }
        Ok(median(new))
    }

    /// Appends so many records in bursts of so many, with a store fence behind each burst's barrier or without.
    fn run(
        &mut self,
        clock: &Clock,
        payload: &[u8],
        (records, burst, fence): (u64, u64, bool),
        inside: &mut Histogram<u64>,
        rolling: &mut Histogram<u64>,
    ) -> Result<(), Failure> {
        // Publishers make it; the log only stores it.
        let block_crc = crc32c(payload);
        let mut segment = None;
        let mut begun = clock.now_ns();
        let mut rolled = false;
        for number in 1..=records {
            let batch = self.rig.batch(black_box(payload), block_crc, 1);
            let appended =
                self.rig.wal.append_data(&batch).map_err(|refused| refused.to_string())?;
            let slot = appended.at.address() / SHAPE.segment_bytes;
            rolled |= segment.is_some_and(|before| before != slot);
            segment = Some(slot);
            if number.is_multiple_of(burst) {
                self.rig.wal.barrier();
                if fence {
                    self.rig.wal.region().store_fence();
                }
                black_box(self.rig.wal.persisted());
                self.rig.wal.housekeep((2 * burst).clamp(8, 64) as usize);
                let now = clock.now_ns();
                let times = if rolled { &mut *rolling } else { &mut *inside };
                times.saturating_record(now - begun);
                (begun, rolled) = (now, false);
            }
        }
        Ok(())
    }
}
