//! A process that appends, fences and says what it acknowledged is killed with -9, at moments that a seed and its
//! progress pick. All of that is there then, what is there is a prefix with the right content, and the log goes on.
//!
//! `MSTREAM_KILL_CYCLES=2000 cargo test -p mstream-pmem --test killed -- --nocapture` kills more often on each medium;
//! `MSTREAM_KILL_SEED=N` picks the same moments again, as far as they are a seed's.
#![expect(clippy::print_stdout, reason = "says its seeds, and what was skipped")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::{PUBLISHERS, Random, STREAMS, config, dir_config, open_whole};
use mstream_pmem::AnyRegion;
use mstream_pmem::format::crc32c;
use mstream_pmem::prepare::DirLock;
use mstream_pmem::region::Level;
use mstream_pmem::wal::{AppendData, AppendError, Wal};

/// Kills on each medium, unless [`CYCLES_VARIABLE`] says otherwise.
const CYCLES: u64 = 200;
const CYCLES_VARIABLE: &str = "MSTREAM_KILL_CYCLES";
const SEED_VARIABLE: &str = "MSTREAM_KILL_SEED";
/// Names the directory, and makes this the process that is killed.
const CHILD_DIR: &str = "MSTREAM_PMEM_KILLED_DIR";
const CHILD_SEGMENT: &str = "MSTREAM_PMEM_KILLED_SEGMENT";
const CHILD_SEED: &str = "MSTREAM_PMEM_KILLED_SEED";

const PUBLISHER: u64 = PUBLISHERS[0];
const SEGMENTS: u32 = 7;

#[test]
fn acknowledged_records_survive_kills_on_tmpfs() {
    survives_kills(Path::new("/dev/shm"), Level::Process, 64 * 1024, 300);
}

#[test]
fn acknowledged_records_survive_kills_on_hugetlbfs() {
    let Some(mount) = std::env::var_os("MSTREAM_HUGETLBFS") else {
        println!(
            "SKIP acknowledged_records_survive_kills_on_hugetlbfs: MSTREAM_HUGETLBFS names no mount"
        );
        return;
    };
    survives_kills(Path::new(&mount), Level::Process, 2 << 20, 150);
}

#[test]
fn acknowledged_records_survive_kills_on_an_ordinary_file_system() {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    survives_kills(parent, Level::MediaSync, 64 * 1024, 40);
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

/// Kills a child again and again, each time after fewer than `most` reports, or while it opens the log.
fn survives_kills(parent: &Path, level: Level, segment_bytes: u64, most: u64) {
    let cycles = number(CYCLES_VARIABLE).unwrap_or(CYCLES);
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64;
    let seed = number(SEED_VARIABLE).unwrap_or(now);
    println!("{}: {SEED_VARIABLE}={seed}, {cycles} kills", parent.display());
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let log = Log { dir: dir.path().to_path_buf(), segment_bytes };
    let (mut random, mut known) = (Random(seed), Known::default());
    for cycle in 0..cycles {
        let moment = match random.below(4) {
            0 => Moment::Opening(Duration::from_micros(random.below(4_000))),
            _ => Moment::Reports(random.below(most), Duration::from_micros(random.below(300))),
        };
        let told = run_and_kill(&log, random.next(), &moment);
        known
            .check(&log, level, told)
            .unwrap_or_else(|what| panic!("{SEED_VARIABLE}={seed}, kill {cycle}: {what}"));
    }
    println!("{}: {} messages, {} lives", parent.display(), known.total(), known.life);
    assert!(cycles < CYCLES || known.recycled, "segments were recycled");
}

/// When the child is killed: so long after it begins to open the log, or after so many reports.
#[derive(Debug)]
enum Moment {
    Opening(Duration),
    Reports(u64, Duration),
}

/// What a child acknowledged: the number of its publisher's life, and how many messages the log holds or held.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    life: u64,
    total: u64,
}

struct Log {
    dir: PathBuf,
    segment_bytes: u64,
}

impl Log {
    fn open(&self) -> Result<Wal<AnyRegion>, String> {
        let config_dir = dir_config(&self.dir.join("shard-0000"), self.segment_bytes, SEGMENTS);
        let (region, slots, _) = open_whole(config_dir).map_err(|error| error.to_string())?;
        let opened = Wal::open(region, &slots, config(0)).map_err(|error| error.to_string())?;
        Ok(opened.0)
    }

    /// The block of the `number`th message of the log: of any length that goes well with the segments.
    fn block(&self, number: u64) -> Vec<u8> {
        let mut random = Random(number);
        let bytes = 1 + random.below(self.segment_bytes / 50);
        let words = (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
        words.take(bytes as usize).collect()
    }

    /// Appends message `number`, and waits for room if there is none. What was refused was not appended.
    fn append(
        &self,
        wal: &mut Wal<AnyRegion>,
        number: u64,
        mut waits: impl FnMut(&mut Wal<AnyRegion>),
    ) {
        let block = self.block(number);
        let stream = wal.open_stream(stream_of(number)).expect("room");
        let publication = wal.open_publication(PUBLISHER, stream).expect("room");
        let data = AppendData {
            stream,
            publication,
            incarnation: 1,
            count: 1,
            block_crc: crc32c(&block),
            time_ns: number,
            block: &block,
        };
        loop {
            match wal.append_data(&data) {
                Ok(_) => return,
                Err(AppendError::Full | AppendError::Window) => waits(wal),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

/// The stream of the `number`th message.
fn stream_of(number: u64) -> u64 {
    STREAMS[Random(!number).below(3) as usize]
}

/// What the `number`th life of the publisher was claimed with.
fn nonce(number: u64) -> [u8; 16] {
    [number as u8 ^ (number >> 8) as u8; 16]
}

fn messages(wal: &Wal<AnyRegion>) -> u64 {
    let next = |id: &u64| wal.stream_by_id(*id).map_or(0, |stream| stream.next_offset);
    STREAMS.iter().map(next).sum()
}

/// What the log is known to have held.
#[derive(Default)]
struct Known {
    /// By stream: the number in the log of each of its messages.
    numbers: [Vec<u64>; 3],
    life: u64,
    recycled: bool,
}

impl Known {
    fn total(&self) -> u64 {
        self.numbers.iter().map(|numbers| numbers.len() as u64).sum()
    }

    /// Compares the log with what was acknowledged, and goes on with it.
    fn check(&mut self, log: &Log, level: Level, told: Told) -> Result<(), String> {
        let _lock = DirLock::take(&log.dir).map_err(|error| error.to_string())?;
        let mut wal = log.open()?;
        if wal.level() != level {
            return Err(format!("level {}", wal.level()));
        }
        let total = messages(&wal);
        let least = told.total.max(self.total());
        if total < least {
            return Err(format!("acknowledged {least} messages, {total} are there"));
        }
        for number in self.total()..total {
            self.numbers[place(stream_of(number))].push(number);
        }
        for id in STREAMS {
            self.check_stream(log, &mut wal, id).map_err(|what| format!("stream {id}: {what}"))?;
        }
        let life = wal.life(PUBLISHER).map_or(0, |life| life.incarnation);
        let least = told.life.max(self.life);
        if life < least || life > 0 && wal.life(PUBLISHER).is_some_and(|it| it.nonce != nonce(life))
        {
            return Err(format!("acknowledged life {least}, {:?} is there", wal.life(PUBLISHER)));
        }
        self.life = life;
        log.append(&mut wal, total, goes_on);
        while wal.persisted() < wal.appended() {
            goes_on(&mut wal);
        }
        self.numbers[place(stream_of(total))].push(total);
        Ok(())
    }

    fn check_stream(&mut self, log: &Log, wal: &mut Wal<AnyRegion>, id: u64) -> Result<(), String> {
        let stream = wal.open_stream(id).map_err(|error| error.to_string())?;
        let publication =
            wal.open_publication(PUBLISHER, stream).map_err(|error| error.to_string())?;
        let state = *wal.stream(stream);
        let numbers = &self.numbers[place(id)];
        let (next, sequence) = (state.next_offset, wal.publication(publication).sequence);
        if (next, sequence) != (numbers.len() as u64, next) {
            return Err(format!("next offset {next}, sequence {sequence}, not {}", numbers.len()));
        }
        for offset in state.earliest_offset..next {
            let found = wal.lookup(stream, offset, 0).and_then(|(_, at)| wal.record(at));
            let record = found.ok_or_else(|| format!("offset {offset} is not found"))?;
            let header = record.header;
            let place = (header.stream.get(), header.offset.get(), header.sequence.get());
            if place != (id, offset, offset + 1) {
                return Err(format!("offset {offset} holds {place:?}"));
            }
            if record.block != log.block(numbers[offset as usize]) {
                return Err(format!("offset {offset} holds another content"));
            }
        }
        self.recycled |= state.earliest_offset > 0;
        Ok(())
    }
}

/// Index of a stream in [`STREAMS`].
fn place(stream: u64) -> usize {
    (stream - STREAMS[0]) as usize
}

/// Lets the log do what it waits for.
fn goes_on(wal: &mut Wal<AnyRegion>) {
    wal.barrier();
    wal.persisted();
    wal.housekeep(4);
    assert_eq!((wal.poison(), wal.unreadable()), (None, None));
    std::thread::yield_now();
}

/// Starts a child and kills it at the moment; what it acknowledged.
fn run_and_kill(log: &Log, seed: u64, moment: &Moment) -> Told {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD_DIR, &log.dir)
        .env(CHILD_SEGMENT, log.segment_bytes.to_string())
        .env(CHILD_SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut reports = Reports(BufReader::new(child.stdout.take().expect("a pipe")));
    let opens = |report: &Report| matches!(report, Report::Opens);
    while !reports.next().is_some_and(|report| opens(&report)) {}
    let mut told = Told::default();
    let pause = match moment {
        Moment::Opening(pause) => *pause,
        Moment::Reports(number, pause) => {
            for _ in 0..=*number {
                match reports.next() {
                    Some(Report::Acknowledged(now)) => told = now,
                    other => panic!("the child ended by itself: {other:?}, {moment:?}"),
                }
            }
            *pause
        }
    };
    let until = Instant::now() + pause;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().expect("it runs");
    while let Some(report) = reports.next() {
        if let Report::Acknowledged(now) = report {
            told = now;
        }
    }
    child.wait().expect("it ended");
    told
}

#[derive(Debug)]
enum Report {
    Opens,
    Acknowledged(Told),
}

/// Whole lines of a child that are reports.
struct Reports<R>(BufReader<R>);

impl<R: std::io::Read> Reports<R> {
    /// `None` where they end; a line that the kill cut short does not count.
    fn next(&mut self) -> Option<Report> {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("text");
            let words: Vec<&str> = line.strip_suffix('\n')?.split(' ').collect();
            match words[..] {
                ["opens"] => return Some(Report::Opens),
                ["ack", life, total] => {
                    let (life, total) = (life.parse(), total.parse());
                    let (life, total) = (life.expect("a life"), total.expect("a total"));
                    return Some(Report::Acknowledged(Told { life, total }));
                }
                _ => {}
            }
        }
    }
}

/// No test of its own: what the killed process does.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let segment_bytes = number(CHILD_SEGMENT).expect("set with it");
        let random = Random(number(CHILD_SEED).expect("set with it"));
        append_until_killed(&Log { dir: PathBuf::from(dir), segment_bytes }, random);
    }
}

fn append_until_killed(log: &Log, mut random: Random) -> ! {
    let mut out = std::io::stdout().lock();
    writeln!(out, "opens").and_then(|()| out.flush()).expect("the pipe");
    let _lock = DirLock::take(&log.dir).expect("free");
    let mut wal = log.open().expect("a sound log");
    let life = 1 + wal.life(PUBLISHER).map_or(0, |life| life.incarnation);
    while wal.append_life(PUBLISHER, life, &nonce(life), 0).is_err() {
        goes_on(&mut wal);
    }
    // From here on each message takes one lsn.
    let (first, mut total) = (wal.appended(), messages(&wal));
    let before = total;
    let mut persisted = 0;
    loop {
        for _ in 0..random.below(8) {
            log.append(&mut wal, total, goes_on);
            total += 1;
            wal.housekeep(random.below(5) as usize);
        }
        wal.barrier();
        let now = wal.persisted();
        if now > persisted.max(first - 1) {
            persisted = now;
            let acknowledged = before + (now - first);
            writeln!(out, "ack {life} {acknowledged}")
                .and_then(|()| out.flush())
                .expect("the pipe");
        }
    }
}
