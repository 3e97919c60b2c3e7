//! Histories of a log at level `process` whose machine is booted again and again: anything may be lost, but nothing
//! may be made up.

use std::collections::{HashMap, HashSet};

use mstream_pmem::region::{Level, Region};
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{Wal, WalConfig};

use super::oracle::slots;
use super::watch::{Seen, Watch};
use super::world::act;
use super::{History, Random, STREAMS, config};

/// Stream, offset and block.
type Content = (u64, u64, Vec<u8>);

/// What was ever appended and which epochs there were, of all logs that the region held.
#[derive(Default)]
struct Ever {
    /// By log, epoch and lsn.
    blocks: HashMap<([u8; 16], u32, u64), Content>,
    epochs: HashSet<([u8; 16], u32)>,
}

impl Ever {
    fn learn<R: Region>(&mut self, wal: &Wal<R>, history: &History) -> Result<(), String> {
        for batch in &history.batches {
            let content = (batch.stream, batch.offset, batch.block.clone());
            let key = (wal.log_id(), wal.epoch(), batch.lsn);
            if self.blocks.insert(key, content.clone()).is_some_and(|before| before != content) {
                return Err(format!("epoch {}: lsn {} again", wal.epoch(), batch.lsn));
            }
        }
        Ok(())
    }

    /// Everything that the log holds was once appended, and offsets have no gaps.
    fn check<R: Region>(&self, wal: &mut Wal<R>) -> Result<u64, String> {
        let mut held = 0;
        for id in STREAMS {
            let slot = wal.open_stream(id).expect("room");
            let state = *wal.stream(slot);
            let mut offset = state.earliest_offset;
            let mut last = 0;
            while offset < state.next_offset {
                let record = wal.lookup(slot, offset, 0).and_then(|(_, at)| wal.record(at));
                let Some(record) = record else {
                    return Err(format!("stream {id}: offset {offset} is not found"));
                };
                let lsn = record.header.lsn.get();
                let key = (wal.log_id(), record.header.epoch.get(), lsn);
                let content = (id, offset, record.block.to_vec());
                if self.blocks.get(&key) != Some(&content) || lsn <= last {
                    return Err(format!("stream {id}: offset {offset} holds something else"));
                }
                last = lsn;
                offset += u64::from(record.header.count.get());
                held += 1;
            }
        }
        Ok(held)
    }

    /// Opens what a reboot left, if there is room to start in.
    fn reopen<R: Region>(
        &self,
        region: R,
        config: WalConfig,
        sum: &mut Reboots,
    ) -> Result<Option<Wal<R>>, String> {
        let slots = slots(&region);
        let (mut wal, report) = match Wal::open(region, &slots, config) {
            Ok(opened) => opened,
            Err(error) if error.to_string().contains("free") => {
                sum.refused += 1;
                return Ok(None);
            }
            Err(error) => return Err(format!("refused: {error}")),
        };
        if !report.possible_loss && !report.new_log {
            return Err("the loss is not said".to_string());
        }
        if self.epochs.contains(&(wal.log_id(), wal.epoch())) {
            return Err(format!("epoch {} again", wal.epoch()));
        }
        sum.held += self.check(&mut wal)?;
        sum.opened += 1;
        Ok(Some(wal))
    }
}

/// How often reboots were survived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reboots {
    pub opened: u64,
    /// Records that were still held.
    pub held: u64,
    /// For want of a free slot: so many wipes were lost that all seem to be in use.
    pub refused: u64,
}

/// Plays lives that each end with a reboot.
pub fn play(seed: u64) -> Result<Reboots, String> {
    let mut random = Random(seed);
    let mut ever = Ever::default();
    let mut region = SimRegion::new(8, 8192, 0).with_level(Level::Process);
    let mut sum = Reboots::default();
    for boot in 0..6u8 {
        let booted = |boot: u8| WalConfig {
            boot_id: [boot; 16],
            new_log_id: [boot; 16],
            ..config((u64::from(boot) + 1) * 1_000_000_000_000)
        };
        let context = |what: String| format!("seed {seed}, boot {boot}: {what}");
        let seen = Seen::new(random.next(), 60);
        let watched = Watch { inner: region, seen: seen.clone() };
        let Some(mut wal) = ever.reopen(watched, booted(boot), &mut sum).map_err(context)? else {
            break;
        };
        ever.epochs.insert((wal.log_id(), wal.epoch()));
        seen.borrow_mut().points.clear();
        let mut history = History::default();
        for _ in 0..random.below(700) {
            act(&mut wal, &mut history, &mut random);
        }
        ever.learn(&wal, &history).map_err(context)?;
        for point in std::mem::take(&mut seen.borrow_mut().points) {
            let survivors = point.random_survivors(|| random.next());
            ever.reopen(point.after_crash(&survivors), booted(boot + 1), &mut sum)
                .map_err(|what| context(format!("{what}; {}", point.describe(&survivors))))?;
        }
        region = wal.into_region().inner.after_random_power_cut(|| random.next());
    }
    Ok(sum)
}
