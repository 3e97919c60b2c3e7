//! The thread that writes and syncs what a shard hands over.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use crate::mapped::Reservation;
use crate::poison::{Failed, Poison};
use crate::region::Barrier;
use crate::staged::media::Media;
use crate::staged::plan::{Handover, Plan, Step};
use crate::staged::times::TimesCells;

/// After so many looks in vain the thread looks only every so many intervals: each look costs some microseconds.
const PATIENT: u32 = 100;
const LAZY: u32 = 8;

/// What shard and sync thread share beside the memory.
#[derive(Debug)]
pub(super) struct Shared {
    /// To the sync thread, in the shard's order.
    pub(super) queue: ArrayQueue<Handover>,
    /// The last barrier that completed.
    completed: AtomicU64,
    /// [`Poison::to_bits`]; 0: sound. Set once.
    poison: AtomicU64,
    /// How long syncs took, failed ones included.
    pub(super) times: TimesCells,
    /// Ends the thread once all that was handed over before is done.
    pub(super) stop: AtomicBool,
}

impl Shared {
    pub(super) fn new(places: usize) -> Shared {
        Shared {
            queue: ArrayQueue::new(places),
            completed: AtomicU64::new(0),
            poison: AtomicU64::new(0),
            times: TimesCells::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// The last barrier that completed. After poison it stays what it is.
    pub(super) fn completed(&self) -> Barrier {
        Barrier(self.completed.load(Ordering::Acquire))
    }

    pub(super) fn poison(&self) -> Option<Poison> {
        Poison::from_bits(self.poison.load(Ordering::Acquire))
    }

    fn fail(&self, poison: Poison) {
        let bits = poison.to_bits();
        // The first failure is the one that counts.
        let _ = self.poison.compare_exchange(0, bits, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Writes and syncs what a [`crate::staged::StagedRegion`] hands over: on a thread of its own, or step by step.
#[derive(Debug)]
pub struct Syncer<M> {
    shared: Arc<Shared>,
    memory: Arc<Reservation>,
    media: M,
    plan: Plan,
}

impl<M: Media> Syncer<M> {
    pub(super) fn new(
        shared: Arc<Shared>,
        memory: Arc<Reservation>,
        slot_bytes: u64,
        media: M,
    ) -> Syncer<M> {
        Syncer { shared, memory, media, plan: Plan::new(slot_bytes) }
    }

    /// One write, one sync, or the completion of a round. False when there is nothing to do.
    pub fn step(&mut self) -> bool {
        if self.shared.poison().is_some() {
            // Taken so that the shard finds room; never written: what comes behind a failure is not promised.
            while self.shared.queue.pop().is_some() {}
            return false;
        }
        while self.plan.takes()
            && let Some(handover) = self.shared.queue.pop()
        {
            self.plan.take(handover);
        }
        let outcome = match self.plan.step() {
            Step::Idle => return false,
            Step::Write { slot, at, len } => {
                self.write(slot, at, len).map_err(|error| Poison::new(Failed::Write, slot, &error))
            }
            Step::Sync { slot } => {
                let begun = Instant::now();
                let synced = self.media.sync(slot);
                self.shared.times.record(begun.elapsed());
                synced
                    .map(|()| self.plan.synced())
                    .map_err(|error| Poison::new(Failed::Sync, slot, &error))
            }
            Step::Complete(barrier) => {
                self.plan.completed();
                // Release: whoever sees it sees what was synced before.
                self.shared.completed.store(barrier.0, Ordering::Release);
                Ok(())
            }
        };
        if let Err(poison) = outcome {
            self.shared.fail(poison);
        }
        true
    }

    fn write(&mut self, slot: u32, at: u64, len: u64) -> io::Result<()> {
        // SAFETY: the range was handed over, and the shard does not store to it again before a barrier behind it
        // has completed (`Region::store`), which only this thread makes happen, after this.
        let bytes = unsafe { self.memory.bytes(at, len as usize) };
        match self.media.write_at(slot, at % self.memory.slot_bytes(), bytes) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(wrote) => {
                self.plan.wrote(wrote as u64);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Serves until told to stop, and then until all that was handed over before is done. Looks every `poll` when there
    /// is nothing to do, and more rarely after many looks in vain: the shard wakes nobody.
    pub(super) fn run(mut self, poll: Duration) {
        let shared = Arc::clone(&self.shared);
        let served = catch_unwind(AssertUnwindSafe(|| {
            let mut vain = 0_u32;
            loop {
                // Looked at first: what was handed over before it was set is seen by the steps.
                let stops = self.shared.stop.load(Ordering::Acquire);
                vain = vain.saturating_add(1);
                while self.step() {
                    vain = 0;
                }
                if stops {
                    return;
                }
                std::thread::sleep(if vain < PATIENT { poll } else { poll * LAZY });
            }
        }));
        if served.is_err() {
            shared.fail(Poison { failed: Failed::Thread, slot: 0, errno: 0 });
        }
    }
}
