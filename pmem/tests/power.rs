//! Long random histories with crashes at every kind of moment: while appending, rolling, recycling, and inside
//! the recovery of the crash before.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::{History, Random, check_recovered, config};
use mstream_pmem::region::{Barrier, Level, Region};
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::Wal;

const SLOTS: u32 = 8;
const SLOT_BYTES: u64 = 16 * 1024;

/// A simulated region that keeps what a crash before each of its steps could leave behind.
struct Watched {
    inner: SimRegion,
    random: Random,
    images: Rc<RefCell<Vec<SimRegion>>>,
}

impl Watched {
    fn snap(&mut self) {
        let random = &mut self.random;
        let image = self.inner.after_random_power_cut(|| random.next());
        let mut images = self.images.borrow_mut();
        images.push(image);
        images.push(self.inner.after_power_cut());
        // A kill: all stores are visible, but not yet durable.
        images.push(self.inner.clone());
    }
}

impl Region for Watched {
    fn level(&self) -> Level {
        self.inner.level()
    }
    fn slot_bytes(&self) -> u64 {
        self.inner.slot_bytes()
    }
    fn slots(&self) -> u32 {
        self.inner.slots()
    }
    fn window_bytes(&self) -> u64 {
        self.inner.window_bytes()
    }
    fn store(&mut self, at: u64, bytes: &[u8]) {
        self.snap();
        self.inner.store(at, bytes);
    }
    fn stream(&mut self, at: u64, bytes: &[u8]) {
        self.snap();
        self.inner.stream(at, bytes);
    }
    fn flush(&mut self, at: u64, len: usize) {
        self.snap();
        self.inner.flush(at, len);
    }
    fn barrier(&mut self) -> Barrier {
        self.snap();
        self.inner.barrier()
    }
    fn completed(&mut self) -> Barrier {
        self.inner.completed()
    }
    fn bytes(&self, at: u64, len: usize) -> &[u8] {
        self.inner.bytes(at, len)
    }
    fn prefetch(&self, at: u64) {
        self.inner.prefetch(at);
    }
    fn sync(&mut self, at: u64, len: usize) -> std::io::Result<()> {
        self.snap();
        self.inner.sync(at, len)
    }
}

fn slots() -> Vec<u32> {
    (0..SLOTS).collect()
}

/// Opens an image and checks it; the log goes on where `history` was cut.
fn reopen<R: Region>(region: R, history: &mut History, acknowledged: u64, context: &str) -> Wal<R> {
    let time = history.time;
    let (mut wal, _) = Wal::open(region, &slots(), config(time))
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    check_recovered(&mut wal, history, acknowledged)
        .unwrap_or_else(|complaint| panic!("{context}: {complaint}"));
    wal
}

/// Steps of one life; what was acknowledged at its end.
fn live<R: Region>(
    wal: &mut Wal<R>,
    history: &mut History,
    random: &mut Random,
    steps: u64,
) -> u64 {
    let mut acknowledged = wal.persisted();
    for _ in 0..steps {
        match random.below(16) {
            0 => history.live(wal, random),
            1..=9 => {
                let bytes = random.below(900);
                // Refusals are back-pressure here: nothing was written.
                let _ = history.append(wal, random, bytes);
            }
            10..=12 => wal.barrier(),
            13 => acknowledged = acknowledged.max(wal.persisted()),
            _ => wal.housekeep(1 + random.below(40) as usize),
        }
    }
    acknowledged.max(wal.persisted())
}

/// Lives of random length, each ended by a random crash, the next one recovering from it.
fn lives(seed: u64) -> u64 {
    let mut random = Random(seed);
    let delay = [0, 1, 3, 17][seed as usize % 4];
    let window = [64 * 1024, 4096][seed as usize / 4 % 2];
    let mut region = SimRegion::new(SLOTS, SLOT_BYTES, delay).with_window(window);
    let mut history = History::default();
    let mut acknowledged = 0;
    for life in 0..10 {
        let context = format!("seed {seed}, life {life}");
        let mut wal = reopen(region, &mut history, acknowledged, &context);
        let steps = random.below(900);
        acknowledged = live(&mut wal, &mut history, &mut random, steps);
        history.check(&mut wal).unwrap_or_else(|complaint| panic!("{context}: {complaint}"));
        let crashed = wal.into_region();
        region = match random.below(4) {
            0 => crashed.after_power_cut(),
            1 => crashed.after_kill(),
            // A kill after which what was not durable still is not.
            2 => crashed,
            _ => crashed.after_random_power_cut(|| random.next()),
        };
    }
    acknowledged
}

#[test]
fn acknowledged_records_survive_crashes_of_many_lives() {
    let appended: u64 = (0..160).map(lives).sum();
    assert!(appended > 200_000, "{appended} records are too few to prove anything");
}

/// Every step of a life that rolls and recycles, and of the recovery from it, is a place to crash; from a sample of
/// those crashes the log is recovered with a crash at every step of that, too.
#[test]
fn no_step_is_a_bad_one_to_crash_in() {
    for (seed, delay) in [(1, 0), (2, 2), (3, 5)] {
        let mut random = Random(seed);
        let mut history = History::default();
        let mut wal = reopen(SimRegion::new(SLOTS, SLOT_BYTES, delay), &mut history, 0, "new");
        // Until segments are recycled.
        let before = live(&mut wal, &mut history, &mut random, 2_000);
        let images = Rc::new(RefCell::new(Vec::new()));
        let watched =
            Watched { inner: wal.into_region(), random: Random(9), images: images.clone() };
        let mut wal = reopen(watched, &mut history, before, "watched");
        let mut crashes = 0;
        let mut acknowledged = before;
        for burst in 0..60 {
            for (step, image) in images.take().into_iter().enumerate() {
                let context = format!("seed {seed}, burst {burst}, step {step}");
                crashes += 1;
                // The first images are of a start already: each that crashes takes a segment of the reserve.
                if burst > 0 && step % 16 == 0 {
                    crashes += crash_in_recovery(&image, &history, acknowledged, &context);
                }
                reopen(image, &mut history.clone(), acknowledged, &context);
            }
            // What is acknowledged at the burst's start holds at each of its steps.
            acknowledged = wal.persisted();
            live(&mut wal, &mut history, &mut random, 10);
        }
        assert!(crashes > 1_500, "{crashes} crashes");
    }
}

/// Recovers with a crash before each step; all those are recovered from.
fn crash_in_recovery(
    image: &SimRegion,
    history: &History,
    acknowledged: u64,
    context: &str,
) -> u64 {
    let images = Rc::new(RefCell::new(Vec::new()));
    let watched = Watched { inner: image.clone(), random: Random(4), images: images.clone() };
    let mut first = history.clone();
    let wal = reopen(watched, &mut first, acknowledged, context);
    drop(wal);
    let crashes = images.take();
    let count = crashes.len() as u64;
    for (step, crash) in crashes.into_iter().enumerate() {
        // The first recovery's epoch record may stand where something that was not acknowledged stood.
        let context = format!("{context}, recovery step {step}");
        reopen(crash, &mut first.clone(), acknowledged, &context);
    }
    count
}

#[test]
fn starts_in_a_row_do_not_use_up_the_log() {
    let mut history = History::default();
    let mut random = Random(8);
    let mut wal = reopen(SimRegion::new(SLOTS, SLOT_BYTES, 0), &mut history, 0, "new");
    let mut acknowledged = live(&mut wal, &mut history, &mut random, 3_000);
    let mut region = wal.into_region();
    for start in 0..40 {
        let wal =
            reopen(region.after_kill(), &mut history, acknowledged, &format!("start {start}"));
        acknowledged = wal.appended() - 1;
        region = wal.into_region();
    }
    let mut wal = reopen(region, &mut history, acknowledged, "last");
    let before = history.batches.len();
    live(&mut wal, &mut history, &mut random, 500);
    assert!(history.batches.len() > before + 100, "the log takes data again");
}

/// After a kill the next start sees the newest segment, whose header a power cut could still take back.
#[test]
fn what_a_start_relied_on_is_durable() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut history = History::default();
        let mut wal = reopen(SimRegion::new(SLOTS, SLOT_BYTES, 3), &mut history, 0, "new");
        let steps = 1_000 + random.below(300);
        let acknowledged = live(&mut wal, &mut history, &mut random, steps);
        let context = format!("seed {seed}");
        let mut wal = reopen(wal.into_region(), &mut history, acknowledged, &context);
        // Recovered records are served and acknowledged at once.
        let acknowledged = wal.persisted();
        let cut = wal.into_region().after_power_cut();
        reopen(cut, &mut history, acknowledged, &context);
    }
}
