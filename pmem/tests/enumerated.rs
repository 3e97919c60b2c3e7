//! Short traces, whole: every crash image of every step is recovered.
#![expect(clippy::print_stdout, reason = "figures for who asks for them")]

mod common;

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use common::oracle::{Known, check, least, recover};
use common::watch::{Seen, Watch};
use common::{History, Random, TABLES, config};
use mstream_pmem::format::crc32c;
use mstream_pmem::region::Level;
use mstream_pmem::sim::{Order, SimRegion};
use mstream_pmem::wal::Wal;

const SLOT_BYTES: u64 = 8192;
const SLOTS: u32 = 7;
/// Six lines that each survive or not, and one of them torn in every way.
const MOST_IMAGES: u64 = 50_000;

/// A log whose every step is looked at.
struct Trace {
    wal: Wal<Watch>,
    seen: Rc<RefCell<Seen>>,
    history: History,
    random: Random,
    acknowledged: u64,
    /// Images that were recovered, by content and by what was acknowledged.
    done: HashSet<(u32, u32, u64)>,
    /// Steps at which too much was pending to enumerate.
    left: u64,
    /// Most images of a step.
    limit: u64,
}

impl Trace {
    /// Opens the log in `region`, looked at from the first step on.
    fn open(region: SimRegion, history: History, acknowledged: u64) -> Trace {
        let seen = Seen::new(0, 1);
        let known =
            Known { history: &history, acknowledged, epoch: history.epoch, config: config(0) };
        let (wal, _) = recover(Watch { inner: region, seen: seen.clone() }, &known)
            .unwrap_or_else(|what| panic!("{what}"));
        let done = HashSet::new();
        let mut trace = Trace {
            wal,
            seen,
            history,
            random: Random(5),
            acknowledged,
            done,
            left: 0,
            limit: MOST_IMAGES,
        };
        let before = trace.history.epoch;
        trace.history.started(&trace.wal);
        trace.crash(before);
        trace
    }

    fn new(region: SimRegion) -> Trace {
        Trace::open(region, History::default(), 0)
    }

    /// Appends a record with a block of so many bytes.
    fn append(&mut self, bytes: u64) {
        self.history.append(&mut self.wal, &mut self.random, bytes).expect("room");
        self.crash(self.history.epoch);
    }

    fn barrier(&mut self) {
        self.wal.barrier();
        self.crash(self.history.epoch);
    }

    fn persisted(&mut self) {
        self.acknowledged = self.wal.persisted();
        self.crash(self.history.epoch);
    }

    /// Everything so far gets durable, unwatched.
    fn settle(&mut self) {
        self.seen.borrow_mut().one_in = 0;
        self.wal.barrier();
        while self.wal.persisted() < self.wal.appended() {}
        self.acknowledged = self.wal.persisted();
        let mut seen = self.seen.borrow_mut();
        seen.points.clear();
        seen.one_in = 1;
    }

    /// Recovers every crash image of the steps seen since the last call; of the start that is not done yet, if
    /// `epoch` is the one before it.
    fn crash(&mut self, epoch: u32) {
        let known = Known {
            history: &self.history,
            acknowledged: self.acknowledged,
            epoch,
            config: config(0),
        };
        for point in std::mem::take(&mut self.seen.borrow_mut().points) {
            let limit = self.limit;
            let visited = point.each_survivors(limit, |survivors| {
                let image = point.after_crash(survivors);
                let bytes = image.whole();
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let key = (crc32c(first), crc32c(second), known.acknowledged);
                if !self.done.insert(key) {
                    return;
                }
                // All are recovered, each eighth then twice more.
                let found = match self.done.len() % 8 {
                    0 => check(image, &known).map(|_| ()),
                    _ => recover(image, &known).map(|_| ()),
                };
                if found.is_err() {
                    panic!("{}", least(&point, survivors, &known));
                }
            });
            self.left += u64::from(visited.is_none());
        }
    }

    /// How many images there were, of all but so many steps.
    fn images(&self) -> (usize, u64) {
        (self.done.len(), self.left)
    }
}

#[test]
fn a_burst_and_its_barrier() {
    let mut trace = Trace::new(SimRegion::new(SLOTS, SLOT_BYTES, 1));
    trace.append(50);
    trace.settle();
    // Both lines of the first record torn at once.
    trace.limit = 1 << 16;
    trace.append(8);
    trace.append(24);
    trace.limit = MOST_IMAGES;
    trace.barrier();
    trace.append(20);
    trace.persisted();
    trace.persisted();
    trace.barrier();
    let counted = trace.images();
    println!("a burst: {counted:?} images and steps left out");
    assert!(matches!(counted, (10_000.., 0)));
}

#[test]
fn a_burst_on_a_file() {
    let region = SimRegion::new(SLOTS, SLOT_BYTES, 3);
    let region = region.with_level(Level::MediaSync).with_order(Order::Program);
    let mut trace = Trace::new(region);
    trace.settle();
    for bytes in [8, 100, 8, 8] {
        trace.append(bytes);
    }
    trace.barrier();
    trace.append(8);
    trace.barrier();
    for _ in 0..5 {
        trace.persisted();
    }
    let counted = trace.images();
    println!("a burst on a file: {counted:?} images and steps left out");
    assert!(matches!(counted, (10_000.., 0)));
}

#[test]
fn rolling() {
    let mut trace = Trace::new(SimRegion::new(SLOTS, SLOT_BYTES, 1));
    // Room for one small record and the roll.
    for _ in 0..29 {
        trace.history.append(&mut trace.wal, &mut trace.random, 8).expect("room");
    }
    trace.settle();
    trace.append(8);
    let full = trace.wal.slots_ready();
    while trace.wal.slots_ready() == full {
        // Refused until each of the steps is durable.
        let _ = trace.history.append(&mut trace.wal, &mut trace.random, 8);
        trace.crash(trace.history.epoch);
    }
    trace.append(8);
    trace.barrier();
    trace.persisted();
    trace.persisted();
    let counted = trace.images();
    println!("rolling: {counted:?} images and steps left out");
    assert!(matches!(counted, (10_000.., 0)));
}

/// A log in which recycling the oldest segment comes next, all of it durable.
fn full() -> Trace {
    let mut trace = Trace::new(SimRegion::new(SLOTS, SLOT_BYTES, 1));
    trace.seen.borrow_mut().one_in = 0;
    trace.history.live(&mut trace.wal, &mut trace.random);
    for _ in 0..40 {
        let _ = trace.history.append(&mut trace.wal, &mut trace.random, 8);
    }
    trace.history.favourite = Some((common::STREAMS[0], common::PUBLISHERS[0]));
    while trace.wal.slots_ready() > TABLES.reserve_segments(SLOT_BYTES) {
        let _ = trace.history.append(&mut trace.wal, &mut trace.random, 8);
    }
    trace.settle();
    trace
}

#[test]
fn recycling() {
    let mut trace = full();
    let ready = trace.wal.slots_ready();
    while trace.wal.slots_ready() == ready {
        trace.wal.housekeep(4);
        trace.crash(trace.history.epoch);
        if trace.wal.region().inner.pending() >= 6 {
            trace.barrier();
            trace.persisted();
            trace.persisted();
        }
    }
    let counted = trace.images();
    println!("recycling: {counted:?} images and steps left out");
    assert!(matches!(counted, (5_000.., 0)));
    trace.history.check(&mut trace.wal).expect("nothing was forgotten");
}

#[test]
fn starting() {
    for seed in 0..3 {
        let mut trace = full();
        let mut random = Random(seed);
        // After a kill that left stores pending they stay so while the log starts.
        for _ in 0..if seed == 1 { 1 } else { 3 } {
            let _ = trace.history.append(&mut trace.wal, &mut random, 8);
        }
        let crashed = trace.wal.into_region().inner;
        let region = match seed {
            0 => crashed.after_kill(),
            1 => crashed,
            _ => crashed.after_random_power_cut(|| random.next()),
        };
        let known = Known {
            history: &trace.history,
            acknowledged: trace.acknowledged,
            epoch: trace.history.epoch,
            config: config(0),
        };
        let end = check(region.clone(), &known).unwrap_or_else(|what| panic!("{what}"));
        let mut history = trace.history.clone();
        history.cut(end);
        let trace = Trace::open(region, history, trace.acknowledged);
        // What a start writes again when it recycles is too much to enumerate.
        let counted = trace.images();
        println!("starting: {counted:?} images and steps left out");
        assert!(matches!(counted, (5_000.., 0..20)));
    }
}
