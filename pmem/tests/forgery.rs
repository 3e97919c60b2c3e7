//! Blocks that hold what looks like records of segments to come: what a publisher knows does not make them pass.

mod common;

use common::{History, PUBLISHERS, Random, STREAMS, check_recovered, config};
use mstream_pmem::format::{Kind, RecordFields, RecordHeader, SegmentHeader, generation};
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{AppendError, Wal};
use zerocopy::IntoBytes;

const SLOTS: u32 = 6;
const SEGMENT: u64 = 64 * 1024;
const WINDOW: u64 = 4 * 1024;
/// Forged headers in a block, and what one takes with the distance to the next.
const FORGED: usize = 20;
const STRIDE: usize = 128;
/// A record's block begins 32 bytes behind a multiple of 64, where no record can start.
const FIRST: usize = 32;

/// A block of record headers whose generations are those of `generation` for the next segments.
fn forged(newest: u64, generation: &dyn Fn(u64) -> u64) -> Vec<u8> {
    let mut block = vec![0; FIRST + FORGED * STRIDE];
    for (ahead, place) in block[FIRST..].chunks_exact_mut(STRIDE).enumerate() {
        let fields = RecordFields {
            kind: Kind::Data,
            local: false,
            generation: generation(newest + ahead as u64),
            count: 1,
            block_bytes: 0,
            epoch: u32::MAX,
            block_crc: 0,
            lsn: 1 << 60,
            stream: STREAMS[0],
            offset: 1 << 60,
            publisher: PUBLISHERS[0],
            incarnation: 1 << 60,
            sequence: 1 << 60,
            time: 1 << 60,
        };
        place[..96].copy_from_slice(RecordHeader::new(&fields, 0).as_bytes());
    }
    block
}

/// Number of the newest segment.
fn newest(region: &SimRegion) -> u64 {
    let header = |slot: u32| SegmentHeader::read(region.bytes(u64::from(slot) * SEGMENT, 128));
    (0..SLOTS).filter_map(header).map(|header| header.sequence.get()).max().unwrap_or(0)
}

/// Fills a log with forged blocks through three lives of each slot, with crashes on the way. How many of them
/// were refused at the next start.
fn refused(generation: &dyn Fn(u64) -> u64) -> (u32, u32) {
    let slots: Vec<u32> = (0..SLOTS).collect();
    let region = SimRegion::new(SLOTS, SEGMENT, 0).with_window(WINDOW);
    let (mut wal, _) = Wal::open(region, &slots, config(0)).expect("a new log");
    let (mut history, mut random) = (History::default(), Random(3));
    let (mut crashes, mut refused, mut appended) = (0, 0, 0);
    while newest(wal.region()) < 3 * u64::from(SLOTS) {
        let block = forged(newest(wal.region()), generation);
        match history.append_block(&mut wal, &mut random, block) {
            Ok(_) => appended += 1,
            Err(AppendError::Full) => {}
            Err(other) => panic!("{other}"),
        }
        wal.barrier();
        let acknowledged = wal.persisted();
        wal.housekeep(64);
        if appended % 7 != 0 {
            continue;
        }
        for region in [
            wal.region().after_kill(),
            wal.region().after_power_cut(),
            wal.region().after_random_power_cut(|| random.next()),
        ] {
            crashes += 1;
            match Wal::open(region, &slots, config(history.time)) {
                Ok((mut wal, _)) => {
                    let mut history = history.clone();
                    check_recovered(&mut wal, &mut history, acknowledged).expect("undisturbed");
                }
                Err(_) => refused += 1,
            }
        }
    }
    (refused, crashes)
}

#[test]
fn forged_records_do_not_disturb_recovery() {
    // The log's id is told to every client, and how many segments there were can be guessed.
    let id = config(0).new_log_id;
    let id = u64::from_le_bytes(*id.first_chunk().expect("16 bytes"));
    let guesses: [&dyn Fn(u64) -> u64; 4] = [
        &|sequence| sequence,
        &|sequence| (sequence ^ id) & 0xffff_ffff,
        &|sequence| sequence ^ id,
        &|sequence| generation(&config(0).new_log_id, sequence),
    ];
    for guess in guesses {
        let (refused, crashes) = refused(guess);
        assert!(refused == 0 && crashes > 50, "{refused} of {crashes} starts were refused");
    }
}

#[test]
fn the_forged_records_would_pass_with_the_secret() {
    let (refused, crashes) = refused(&|sequence| generation(&config(0).new_secret, sequence));
    assert!(refused > 5, "only {refused} of {crashes} starts were refused");
}
