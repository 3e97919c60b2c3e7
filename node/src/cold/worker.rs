//! The thread beside a shard that drives the worker of its cold segments, and says what goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mstream_controlplane::catalogue::Keeper;
use mstream_dataplane::{Clock, ColdStreams, ColdWatch, ColdWork, ColdWorker, TscClock};
use mstream_pmem::cold::{ColdError, DirDisk, Keep};

use super::kept;
use super::status::{Cells, Count};

/// The pause between two looks when a subscription was served a moment ago, and otherwise. Each look takes the control
/// core from whoever has it.
const SHORT_TURN: Duration = Duration::from_micros(200);
const TURN: Duration = Duration::from_millis(10);
/// Turns without a read after which the longer pause is made.
const IDLE_TURNS: u32 = 50;

/// Looks after the cold segments of one shard.
pub(crate) struct Worker {
    pub(super) worker: ColdWorker<DirDisk>,
    pub(super) streams: Streams,
    pub(super) watch: Watch,
}

impl Worker {
    /// Serves until `stop` is set.
    pub(crate) fn run(&mut self, stop: &AtomicBool, clock: &mut TscClock) {
        let (mut idle, mut busy) = (IDLE_TURNS, true);
        // Relaxed: whoever sets it waits for this thread's end.
        while !stop.load(Ordering::Relaxed) {
            let now = clock.now();
            let worked = self.worker.turn(now, &self.streams, &mut self.watch);
            let (segments, ns) = self.worker.waiting(now);
            if worked || segments > 0 || busy {
                let store = self.worker.store();
                self.watch.cells.set_store(&store.stats(), store.copied());
            }
            self.watch.cells.set_waiting(segments as u64, ns / 1_000_000);
            busy = worked;
            idle = if self.watch.take_served() { 0 } else { idle.saturating_add(1) };
            if !worked {
                std::thread::sleep(if idle < IDLE_TURNS { SHORT_TURN } else { TURN });
            }
        }
    }
}

/// The streams of a shard, as the catalogue knows them.
pub(crate) struct Streams {
    pub(super) keeper: Arc<Keeper>,
    pub(super) shard: u32,
}

impl ColdStreams for Streams {
    fn any(&self) -> bool {
        self.keeper.read(|state| state.cold_streams_on(self.shard)) > 0
    }

    fn keep(&self, stream: u64) -> Option<Keep> {
        kept(&self.keeper, self.shard, stream)
    }
}

/// Counts what is done and says what fails.
pub(crate) struct Watch {
    pub(super) cells: Arc<Cells>,
    pub(super) shard: u32,
    /// A subscription was served since this was asked last.
    pub(super) served: bool,
}

impl Watch {
    fn take_served(&mut self) -> bool {
        std::mem::take(&mut self.served)
    }
}

impl ColdWatch for Watch {
    fn copied(&mut self, bytes: u64) {
        self.cells.count(Count::CopiedSegments, 1);
        self.cells.count(Count::CopiedBytes, bytes);
    }

    fn moved(&mut self, bytes: u64) {
        self.cells.count(Count::MovedBytes, bytes);
    }

    fn read(&mut self) {
        self.cells.count(Count::Reads, 1);
        self.served = true;
    }

    /// Said once for as long as it stays the same.
    fn failed(&mut self, work: ColdWork, error: &ColdError) {
        self.cells.count(Count::Errors, 1);
        let said = error.to_string();
        if self.cells.trouble(work, Some(said.clone())) {
            let waits = match work {
                ColdWork::Copying => ": the log recycles nothing until it can be copied",
                ColdWork::Merging | ColdWork::Reading => "",
            };
            let what = super::status::name(work);
            tracing::error!(shard = self.shard, "{what} cold segments: {said}{waits}");
        }
    }

    fn succeeded(&mut self, work: ColdWork) {
        if self.cells.trouble(work, None) {
            let what = super::status::name(work);
            tracing::info!(shard = self.shard, "{what} cold segments goes on");
        }
    }
}
