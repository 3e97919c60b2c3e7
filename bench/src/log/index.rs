//! `index`: finding a record by stream and offset, alone, beside dependent random reads of the same memory.

use std::fmt::Write;
use std::hint::black_box;

use mstream_pmem::index::{ArenaSize, BATCH, Entries, Index};
use mstream_pmem::pages::vec_with_room;
use serde::Serialize;

use super::args::IndexArgs;
use super::footers;
use super::{Place, machine, median, tell};
use crate::Failure;
use crate::measure::Clock;

/// Look-ups in a turn.
const LOOKUPS: usize = 1 << 20;

/// One number of records.
#[derive(Debug, Serialize)]
struct Case {
    records: u64,
    streams: u64,
    bytes_per_record: f64,
    /// ns of a look-up, each when the one before has ended, by medians over the runs.
    single_ns: f64,
    /// In batches of 16 whose memory is waited for together.
    batch_ns: f64,
    /// ns of a dependent random read over as much memory.
    read_ns: f64,
}

/// Where records were found.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Index(Case),
    Footer(footers::Case),
}

/// Fills indexes and looks records up.
pub(crate) fn run(args: &IndexArgs) -> Result<(), Failure> {
    let place = Place::take(&args.log)?;
    let mut text = machine(&place);
    let _ = writeln!(
        text,
        "{:>12} {:>9} {:>9} | {:>8} {:>8} {:>8} ns | {:>6}",
        "records", "streams", "B/record", "single", "batch", "read", "single/read"
    );
    let mut cases = Vec::new();
    for records in &args.records {
        eprintln!("index: {records} records");
        let case = measure(*records, args)?;
        let _ = writeln!(
            text,
            "{:>12} {:>9} {:>9.2} | {:>8.1} {:>8.1} {:>8.1}    | {:>6.2}",
            case.records,
            case.streams,
            case.bytes_per_record,
            case.single_ns,
            case.batch_ns,
            case.read_ns,
            case.single_ns / case.read_ns
        );
        cases.push(case);
    }
    text.push_str("uniform over the streams; batch: 16 at a time; read: dependent random reads over as much memory\n");
    let footers = match args.footer_records {
        0 => None,
        records => {
            eprintln!("index: {records} records in footers");
            Some(footers::measure(&place, args)?)
        }
    };
    if let Some(case) = &footers {
        let _ = writeln!(
            text,
            "through a footer: {:.1} ns, with the record's header {:.1} ns ({} records in {} streams, {} footers, {:.2} \
             B/record)",
            case.single_ns,
            case.record_ns,
            case.records,
            case.streams,
            case.footers,
            case.bytes_per_record
        );
    }
    tell(
        "index",
        &args.log,
        &place,
        cases.into_iter().map(Found::Index).chain(footers.map(Found::Footer)).collect(),
        &text,
    )
}

fn measure(records: u64, args: &IndexArgs) -> Result<Case, Failure> {
    let streams = args.streams.min(records);
    let each = records / streams;
    let records = each * streams;
    // Part-filled leaves at the streams' ends come on top of what a log of one stream would need.
    let leaves = streams * each.div_ceil(8);
    let size = ArenaSize::new(1, (leaves * 8) as usize, streams as usize);
    let mut index = Index::new(size);
    let mut table = vec_with_room(streams as usize);
    table.resize(streams as usize, Entries::EMPTY);
    for number in 0..each {
        for (stream, entries) in table.iter_mut().enumerate() {
            if !index.has_room() {
                return Err("the index has no room left".to_string());
            }
            index.push(entries, number * 17, (number * streams + stream as u64) as u32);
        }
    }
    let used = index.bytes_used() as f64 / records as f64;
    let chain = Chain::new(index.bytes_used() as usize);
    let clock = Clock::new();
    let mut random = Random(args.seed | 1);
    let wanted: Vec<(u32, u64)> = (0..LOOKUPS)
        .map(|_| {
            let stream = random.next() % streams;
            (stream as u32, random.next() % (each * 17))
        })
        .collect();
    let (mut single, mut batch, mut read) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.log.runs {
        single.push(timed(&clock, || {
            let mut before = 0;
            for (stream, offset) in &wanted {
                // The next look-up waits for this one, as the reads of the chain do.
                let entries = &table[(*stream ^ before) as usize];
                let found = index.find(entries, *offset, u64::MAX);
                before = u32::from(found.is_none());
            }
            black_box(before);
        }));
        batch.push(timed(&clock, || {
            let mut found = [None; BATCH];
            let mut queries = [(Entries::EMPTY, 0); BATCH];
            for group in wanted.as_chunks::<BATCH>().0 {
                for (query, (stream, offset)) in queries.iter_mut().zip(group) {
                    *query = (table[*stream as usize], *offset);
                }
                index.find_batch(&queries, &mut found);
                black_box(&found);
            }
        }));
        read.push(timed(&clock, || black_box(chain.walk(LOOKUPS))));
    }
    let case = Case {
        records,
        streams,
        bytes_per_record: used,
        single_ns: median(single),
        batch_ns: median(batch),
        read_ns: median(read),
    };
    Ok(case)
}

fn timed<T>(clock: &Clock, run: impl FnOnce() -> T) -> f64 {
    let begun = clock.now_ns();
    black_box(run());
    (clock.now_ns() - begun) as f64 / LOOKUPS as f64
}

/// Lines that name each other in a random cycle.
struct Chain {
    lines: Vec<[u64; 8]>,
}

impl Chain {
    fn new(bytes: usize) -> Chain {
        let count = (bytes / 64).max(2);
        // One cycle through all (Sattolo's algorithm).
        let mut order: Vec<u64> = (0..count as u64).collect();
        let mut random = Random(7);
        for at in (1..count).rev() {
            order.swap(at, (random.next() % at as u64) as usize);
        }
        let mut lines = vec_with_room(count);
        lines.extend(order.into_iter().map(|next| [next; 8]));
        Chain { lines }
    }

    fn walk(&self, steps: usize) -> u64 {
        let mut at = 0;
        for _ in 0..steps {
            at = self.lines[at as usize][0];
        }
        at
    }
}

/// Marsaglia's xorshift64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
