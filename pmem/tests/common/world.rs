//! Long random histories on every medium, with crashes at a sample of their steps. A seed gives all of it.

use mstream_pmem::region::{Level, Region};
use mstream_pmem::sim::{Order, SimRegion};
use mstream_pmem::wal::Wal;

use super::oracle::{Known, check, check_crashes_in_recovery, least, recover};
use super::watch::{Seen, Watch};
use super::{History, Random, STREAMS, WRITERS, config, damage};

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub images: u64,
    pub records: u64,
    pub acknowledged: u64,
    pub damages: u64,
}

/// A world: its region's kind, and how long it is.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub seed: u64,
    pub lives: u64,
    pub actions: u64,
    /// One step in so many is crashed at.
    pub one_in: u64,
}

impl World {
    /// The usual size.
    pub fn of(seed: u64) -> World {
        World { seed, lives: 4, actions: 500, one_in: 12 }
    }

    fn region(&self) -> SimRegion {
        let seed = self.seed;
        let level = [Level::Pmem, Level::MediaSync, Level::Pmem][seed as usize % 3];
        let order = [Order::Any, Order::Any, Order::Program][seed as usize / 3 % 3];
        let delay = [0, 1, 3, 17][seed as usize % 4];
        let window = [64 * 1024, 4096][seed as usize / 2 % 2];
        let slot_bytes = [8192, 16 * 1024][seed as usize / 5 % 2];
        SimRegion::new(8, slot_bytes, delay).with_window(window).with_level(level).with_order(order)
    }

    /// Plays it. What does not hold, with the fewest survivors and how to repeat it.
    pub fn play(self) -> (Tally, Result<(), String>) {
        let mut tally = Tally::default();
        let outcome = self.play_into(&mut tally).map_err(|what| {
            let World { seed, .. } = self;
            format!(
                "seed {seed}: {what}\n  repeat: MSTREAM_MODEL_SEEDS={seed}..={seed} \
                 cargo test -p mstream-pmem --test sampled long_histories"
            )
        });
        (tally, outcome)
    }

    fn play_into(&self, tally: &mut Tally) -> Result<(), String> {
        let mut random = Random(self.seed);
        let mut history = History::default();
        let mut region = self.region();
        let mut acknowledged = 0;
        for life in 0..self.lives {
            let seen = Seen::new(random.next(), self.one_in);
            let at_start = Known {
                history: &history,
                acknowledged,
                epoch: history.epoch,
                config: config(history.time),
            };
            let before = history.epoch;
            let watched = Watch { inner: region, seen: seen.clone() };
            let (mut wal, end) =
                recover(watched, &at_start).map_err(|what| format!("life {life}: {what}"))?;
            history.cut(end);
            history.started(&wal);
            // What was recovered is served and acknowledged at once, but not while it is recovered.
            self.crash(&seen, &history, acknowledged, before, &mut random, tally)
                .map_err(|what| format!("life {life}, at its start: {what}"))?;
            acknowledged = acknowledged.max(wal.persisted());
            history.favourite = (random.below(2) == 0)
                .then(|| (STREAMS[random.below(3) as usize], WRITERS[random.below(3) as usize]));
            let mut ended = None;
            for action in 0..random.below(self.actions) {
                let known = acknowledged;
                acknowledged = acknowledged.max(act(&mut wal, &mut history, &mut random));
                let epoch = history.epoch;
                let header =
                    seen.borrow().points.iter().find(|point| point.pending() <= 4).cloned();
                self.crash(&seen, &history, known, epoch, &mut random, tally)
                    .map_err(|what| format!("life {life}, action {action}: {what}"))?;
                if acknowledged > wal.appended() {
                    return Err(format!("acknowledged below {acknowledged}: {wal:?}"));
                }
                // Little is pending when headers are written and wiped: the next life begins there.
                if let Some(point) = header
                    && random.below(8) == 0
                {
                    ended = Some(point);
                    acknowledged = known;
                    break;
                }
            }
            history.check(&mut wal).map_err(|what| format!("life {life}, alive: {what}"))?;
            tally.records += wal.appended() - end;
            tally.acknowledged = acknowledged;
            let crashed = ended.unwrap_or(wal.into_region().inner);
            let known = Known {
                history: &history,
                acknowledged,
                epoch: history.epoch,
                config: config(history.time),
            };
            tally.damages += damage::check(&crashed.after_kill(), &known, &mut random)
                .map_err(|what| format!("life {life}, damaged at its end: {what}"))?;
            region = match random.below(4) {
                0 => crashed.after_power_cut(),
                1 => crashed.killed(),
                _ => crashed.after_random_power_cut(|| random.next()),
            };
        }
        Ok(())
    }

    /// Checks crashes at the steps that were seen.
    fn crash(
        &self,
        seen: &std::cell::RefCell<Seen>,
        history: &History,
        acknowledged: u64,
        epoch: u32,
        random: &mut Random,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let points = std::mem::take(&mut seen.borrow_mut().points);
        for point in points {
            let known = Known { history, acknowledged, epoch, config: config(history.time) };
            for _ in 0..3 {
                let survivors = point.random_survivors(|| random.next());
                let image = point.after_crash(&survivors);
                tally.images += 1;
                // A start that crashes takes a segment of the reserve, which allows for one such start.
                if random.below(16) == 0 && epoch == history.epoch {
                    tally.images += check_crashes_in_recovery(&image, &known, random.next(), 2)?;
                }
                check(image, &known).map_err(|_| least(&point, &survivors, &known))?;
            }
            tally.images += 1;
            check(point, &known).map_err(|what| format!("after a kill: {what}"))?;
        }
        Ok(())
    }
}

/// Does something to the log; what is acknowledged behind it.
pub fn act<R: Region>(wal: &mut Wal<R>, history: &mut History, random: &mut Random) -> u64 {
    match random.below(16) {
        0 => history.live(wal, random),
        // Refusals are back-pressure here: nothing was written.
        1 => {
            let block = damage::forged_block(wal.appended(), wal.epoch(), random);
            let _ = history.append_block(wal, random, block);
        }
        2..=8 => {
            let bytes = [0, 16, 100, 700][random.below(4) as usize];
            let bytes = 8 + random.below(bytes + 1);
            let _ = history.append(wal, random, bytes);
        }
        9..=11 => wal.barrier(),
        12 | 13 => return wal.persisted(),
        _ => wal.housekeep(1 + random.below(40) as usize),
    }
    0
}
