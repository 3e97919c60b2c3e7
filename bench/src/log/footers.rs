//! Finding a record of a segment that is not in the index any more: through its footer.

use std::hint::black_box;
use std::sync::Arc;

use mstream_pmem::format::{crc32c, record_bytes};
use mstream_pmem::index::ArenaSize;
use mstream_pmem::pages::vec_with_room;
use mstream_pmem::region::Region;
use mstream_pmem::wal::{AppendData, StreamSlot, TableLimits, Wal, WalConfig};
use serde::Serialize;

use super::args::IndexArgs;
use super::index::Random;
use super::rig::{Shape, config, open_streams, region};
use super::{Place, median};
use crate::Failure;
use crate::measure::Clock;

/// Look-ups in a turn.
const LOOKUPS: usize = 1 << 18;
const SEGMENT_BYTES: u64 = 8 << 20;
/// Bytes of a record's block.
const BLOCK: usize = 64;

/// A log whose oldest segments are in footers.
#[derive(Debug, Serialize)]
pub(super) struct Case {
    /// Records of the segments that are looked up in footers.
    pub(super) records: u64,
    pub(super) streams: u64,
    /// Segments that are looked up in footers.
    pub(super) footers: u32,
    pub(super) bytes_per_record: f64,
    /// ns of a look-up, each when the one before has ended, by medians over the runs.
    pub(super) single_ns: f64,
    /// The same of a whole record: its header and the check of that as well.
    pub(super) record_ns: f64,
}

pub(super) fn measure(place: &Place, args: &IndexArgs) -> Result<Case, Failure> {
    let streams = args.footer_streams.min(args.footer_records);
    let segments = (args.footer_records * record_bytes(BLOCK)).div_ceil(SEGMENT_BYTES) as u32;
    let tables = TableLimits { streams: streams as usize, publications: 1, publishers: 1 };
    let reserve = tables.reserve_segments(SEGMENT_BYTES);
    let shape = Shape { segment_bytes: SEGMENT_BYTES, segments: segments + 2 * reserve + 4 };
    let (region, slots) = region(&place.dir.path().join("footers"), shape)?;
    let config = WalConfig { tables, ..config()? };
    // Room for the records of a few segments.
    let arena = ArenaSize::new(1, (SEGMENT_BYTES / record_bytes(BLOCK)) as usize, streams as usize);
    let opened = Wal::open_with_index(region, &slots, config, arena);
    let (mut wal, _) = opened.map_err(|error| error.to_string())?;
    wal.use_footers();
    let slots = fill(&mut wal, args.footer_records, streams)?;
    let footers = wal.segments_in_footers();
    if footers == 0 {
        return Err("no segment is in a footer: more records are needed".to_string());
    }
    let clock = Clock::new();
    let mut random = Random(args.seed | 1);
    let mut wanted: Vec<(StreamSlot, u64)> = vec_with_room(LOOKUPS);
    while wanted.len() < LOOKUPS {
        let slot = slots[(random.next() % streams) as usize];
        let offset = random.next() % wal.stream(slot).next_offset.max(1);
        // What is in the index is not what is measured.
        if wal.is_in_footers(slot, offset) {
            wanted.push((slot, offset));
        }
    }
    let (mut single, mut record) = (Vec::new(), Vec::new());
    for _ in 0..args.log.runs {
        single.push(timed(&clock, &wanted, |slot, offset| {
            wal.lookup(slot, offset, u64::MAX).is_some()
        })?);
        record.push(timed(&clock, &wanted, |slot, offset| {
            let found = wal.lookup(slot, offset, u64::MAX);
            found.is_some_and(|(_, at)| wal.record(at).is_some())
        })?);
    }
    Ok(Case {
        records: wal.records_in_footers(),
        streams,
        footers,
        bytes_per_record: wal.footer_bytes() as f64 / wal.records_in_footers().max(1) as f64,
        single_ns: median(single),
        record_ns: median(record),
    })
}

/// Appends records to the streams in turn, and makes the footers that the log asks for.
fn fill<R: Region>(
    wal: &mut Wal<R>,
    records: u64,
    streams: u64,
) -> Result<Vec<StreamSlot>, Failure> {
    let block = [7; BLOCK];
    let block_crc = crc32c(&block);
    let (slots, publication) = open_streams(wal, streams)?;
    let mut filled = 0;
    let mut refused = 0;
    while filled < records {
        let stream = slots[(filled % streams) as usize];
        let data = AppendData {
            stream,
            publication,
            incarnation: 1,
            count: 1,
            block_crc,
            time_ns: 0,
            block: &block,
        };
        match wal.append_data(&data) {
            Ok(_) => (filled, refused) = (filled + 1, 0),
            Err(_) if refused < 1_000_000 => refused += 1,
            Err(error) => return Err(error.to_string()),
        }
        if filled.is_multiple_of(32) || refused > 0 {
            wal.barrier();
            wal.persisted();
            wal.housekeep(64);
            if let Some(mut sealed) = wal.next_sealed() {
                if sealed.wants_footer()
                    && let Some(footer) = sealed.make_footer()
                {
                    sealed.attach(Arc::new(footer));
                }
                wal.give_back(sealed);
            }
        }
    }
    Ok(slots)
}

/// ns of a look-up.
fn timed(
    clock: &Clock,
    wanted: &[(StreamSlot, u64)],
    find: impl Fn(StreamSlot, u64) -> bool,
) -> Result<f64, Failure> {
    let begun = clock.now_ns();
    let mut missed = 0;
    for (slot, offset) in wanted {
        // The next look-up waits for this one.
        missed += u64::from(!find(*slot, offset ^ missed));
    }
    let took = (clock.now_ns() - begun) as f64 / wanted.len() as f64;
    match black_box(missed) {
        0 => Ok(took),
        missed => Err(format!("{missed} records were not found")),
    }
}
