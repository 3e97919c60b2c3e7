//! The log on a directory that the machine may lose at any moment, for `scripts/guest-dax`:
//!
//!     guest_log level DIR [trust] [require LEVEL]   what the directory promises, and how its segments are mapped
//!     guest_log append DIR                          appends until killed, and says what is persisted
//!     guest_log verify DIR LSN OFFSET               recovers twice: everything below both is there, the rest is a prefix
//!
//! Exit codes: 0 done, 1 failed with a line on standard error, 2 wrong usage.
#![expect(clippy::print_stdout, reason = "its output is read by the script")]

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use mstream_pmem::AnyRegion;
use mstream_pmem::format::crc32c;
use mstream_pmem::prepare::{DirConfig, DirLock, Preparer, boot_id, open_dir};
use mstream_pmem::recovery::RecoveryReport;
use mstream_pmem::region::{Level, Region};
use mstream_pmem::wal::{
    AppendData, AppendError, PublicationSlot, StreamSlot, TableLimits, Wal, WalConfig,
};

type Failure = Box<dyn Error>;

const SEGMENT_BYTES: u64 = 2 << 20;
const SEGMENTS: u32 = 12;
const STREAM: u64 = 11;
const PUBLISHER: u64 = 21;
/// Bursts between two lines of output: a serial port is slow, and the machine is to die while it appends.
const BURSTS: u64 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["level", dir, ref rest @ ..] => match level_options(rest) {
            Some((trust, require)) => level(Path::new(dir), trust, require),
            None => return usage(),
        },
        ["append", dir] => append(Path::new(dir)),
        ["verify", dir, lsn, offset] => match (lsn.parse(), offset.parse()) {
            (Ok(lsn), Ok(offset)) => verify(Path::new(dir), lsn, offset),
            _ => return usage(),
        },
        _ => return usage(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest_log: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: guest_log level DIR [trust] [require LEVEL] | append DIR | verify DIR LSN OFFSET"
    );
    ExitCode::from(2)
}

fn level_options(words: &[&str]) -> Option<(bool, Option<Level>)> {
    match words {
        [] => Some((false, None)),
        ["trust"] => Some((true, None)),
        ["require", name] => Some((false, Some(Level::from_name(name)?))),
        ["trust", "require", name] => Some((true, Some(Level::from_name(name)?))),
        _ => None,
    }
}

fn dir_config(dir: &Path) -> DirConfig {
    DirConfig {
        dir: dir.join("shard-0000"),
        segment_bytes: SEGMENT_BYTES,
        segments: SEGMENTS,
        require: None,
        trust_host_pmem: false,
        // What is tried is the memory, never a disk.
        sync: None,
    }
}

/// Says the level, how the kernel maps a segment ("sf": faults are synchronous, so MAP_SYNC holds), and why the level
/// is what it is.
fn level(dir: &Path, trust_host_pmem: bool, require: Option<Level>) -> Result<(), Failure> {
    let config = DirConfig { require, trust_host_pmem, ..dir_config(dir) };
    let (region, _, mut preparer) = open_dir(config)?;
    let slot = preparer.prepare_next()?;
    let mapped = if mapped_with_sync(&format!("{slot:08}.seg"))? { "map-sync" } else { "plain" };
    let why = preparer.why();
    println!("level {} {mapped}{}{why}", region.level(), if why.is_empty() { "" } else { ": " });
    Ok(())
}

/// Whether this process maps the file of this name with MAP_SYNC, as /proc/self/smaps says (proc(5), VmFlags).
fn mapped_with_sync(name: &str) -> Result<bool, Failure> {
    let maps = fs::read_to_string("/proc/self/smaps")?;
    let (_, of_file) = maps.split_once(name).ok_or_else(|| format!("{name} is not mapped"))?;
    let flags = of_file.lines().find_map(|line| line.strip_prefix("VmFlags:"));
    let flags = flags.ok_or("/proc/self/smaps has no VmFlags")?;
    Ok(flags.split_whitespace().any(|flag| flag == "sf"))
}

/// The block of the message with this offset: what a reader expects cannot be had from anywhere else in the log.
fn block(offset: u64) -> Vec<u8> {
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut state = offset;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let bytes = 1 + next() as usize % 1_200;
    let mut block: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    block.truncate(bytes);
    block
}

/// A log with the one stream and publisher that are written to.
struct Log {
    wal: Wal<AnyRegion>,
    preparer: Preparer,
    stream: StreamSlot,
    publication: PublicationSlot,
}

impl Log {
    fn open(dir: &Path) -> Result<(Log, RecoveryReport), Failure> {
        let (region, mut slots, mut preparer) = open_dir(dir_config(dir))?;
        // A start takes a segment that holds nothing.
        if preparer.has_next() {
            slots.push(preparer.prepare_next()?);
        }
        let config = WalConfig {
            shard: 0,
            new_log_id: [0xa5; 16],
            new_secret: [0x5e; 16],
            boot_id: boot_id()?,
            tables: TableLimits { streams: 2, publications: 2, publishers: 2 },
            ready_segments: 2,
            time_ns: now_ns(),
        };
        let (mut wal, report) = Wal::open(region, &slots, config)?;
        let stream = wal.open_stream(STREAM)?;
        let publication = wal.open_publication(PUBLISHER, stream)?;
        Ok((Log { wal, preparer, stream, publication }, report))
    }

    /// Appends the next message, unless the log has to make room first.
    fn append(&mut self) -> Result<(), AppendError> {
        let block = block(self.wal.stream(self.stream).next_offset);
        let data = AppendData {
            stream: self.stream,
            publication: self.publication,
            incarnation: 1,
            count: 1,
            block_crc: crc32c(&block),
            time_ns: now_ns(),
            block: &block,
        };
        match self.wal.append_data(&data) {
            Ok(_) | Err(AppendError::Full) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Checks every record held; what each is: offset, lsn, epoch.
    fn records(&self) -> Result<Vec<(u64, u64, u32)>, Failure> {
        let state = self.wal.stream(self.stream);
        let publication = self.wal.publication(self.publication);
        if publication.sequence != state.next_offset {
            let (sequence, end) = (publication.sequence, state.next_offset);
            return Err(format!("the publisher is at {sequence}, its stream at {end}").into());
        }
        let mut records: Vec<(u64, u64, u32)> = Vec::new();
        for offset in state.earliest_offset..state.next_offset {
            let found = self.wal.lookup(self.stream, offset, 0);
            let record = found.and_then(|(_, at)| self.wal.record(at));
            let record = record.ok_or_else(|| format!("offset {offset} is missing"))?;
            if record.block != block(offset) || record.header.offset.get() != offset {
                return Err(format!("offset {offset} holds something else").into());
            }
            let (lsn, epoch) = (record.header.lsn.get(), record.header.epoch.get());
            if records.last().is_some_and(|before| (before.1, before.2) >= (lsn, epoch)) {
                return Err(format!("offset {offset}: lsn {lsn} is not behind the last").into());
            }
            records.push((offset, lsn, epoch));
        }
        Ok(records)
    }
}

fn append(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir)?;
    let _lock = DirLock::take(dir)?;
    let (mut log, _) = Log::open(dir)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "appending from {} at level {}", log.wal.appended(), log.wal.level())?;
    for round in 1u64.. {
        while log.wal.slots_wanted() > 0 && log.preparer.has_next() {
            let slot = log.preparer.prepare_next()?;
            log.wal.add_ready(slot);
        }
        let faults_before = page_faults()?;
        for burst in 0..BURSTS {
            for _ in 0..burst % 8 {
                log.append()?;
                log.wal.housekeep(4);
            }
            log.wal.barrier();
        }
        let faults = page_faults()? - faults_before;
        let persisted = log.wal.persisted();
        if persisted != log.wal.appended() {
            return Err(format!("a barrier has not completed: {:?}", log.wal).into());
        }
        let state = log.wal.stream(log.stream);
        let (from, end) = (state.earliest_offset, state.next_offset);
        writeln!(out, "ack {persisted} {end} from {from} round {round} faults {faults};")?;
        out.flush()?;
    }
    Ok(())
}

fn verify(dir: &Path, lsn: u64, offset: u64) -> Result<(), Failure> {
    let _lock = DirLock::take(dir)?;
    let (log, report) = Log::open(dir)?;
    // The start's own record took one lsn.
    let (appended, end) = (log.wal.appended() - 1, log.wal.stream(log.stream).next_offset);
    if appended < lsn || end < offset {
        return Err(format!(
            "acknowledged: lsn below {lsn}, offsets below {offset}; recovered: below {appended} and {end}"
        )
        .into());
    }
    if log.wal.possible_loss() {
        return Err("the log says possible-loss".into());
    }
    let (epoch, level, records) = (log.wal.epoch(), log.wal.level(), log.records()?);
    let from = records.first().map_or(end, |first| first.0);
    drop(log);
    let (log, again) = Log::open(dir)?;
    // A start that finds no more than the reserve free recycles the oldest segment, after it has recovered all.
    let held = log.records()?;
    if !records.ends_with(&held)
        || held.len() * 2 < records.len()
        || (again.records, again.messages) != (report.records, report.messages)
    {
        return Err(format!("recovered again it is another log: {report:?}, then {again:?}").into());
    }
    if log.wal.epoch() <= epoch {
        return Err(format!("epoch {} after {epoch}", log.wal.epoch()).into());
    }
    println!(
        "verified offsets {from} to {end}, {} beyond the acknowledged; {} torn tails, level {level}",
        end - offset,
        report.torn_tails
    );
    Ok(())
}

/// Page faults of this process so far, minor and major (proc(5), stat, fields 10 and 12).
fn page_faults() -> Result<u64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, behind_name) = stat.rsplit_once(')').ok_or("/proc/self/stat has no name")?;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
    let (minor, major) = field(10).zip(field(12)).ok_or("/proc/self/stat is too short")?;
    Ok(minor + major)
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
