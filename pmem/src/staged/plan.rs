//! What a sync thread writes and syncs next, as a state machine without I/O.
//!
//! Work goes in rounds. What was handed over when a round begins is written, run by run; then each file that was
//! written to is synced once; then every barrier that was issued before the round began is complete. What is handed
//! over meanwhile waits for the next round: one sync serves all barriers of a round.

use crate::planted::{Bug, planted};
use crate::region::Barrier;

/// What a shard hands over, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// Bytes of one slot that are to be written to its file. They stay as they are until a barrier behind them has
    /// completed.
    Range {
        /// Address in the region.
        at: u64,
        /// How many.
        len: u64,
        /// A barrier that was issued right behind them; [`Barrier`] 0: none.
        barrier: Barrier,
    },
    /// A slot whose file is to be synced also if nothing is written to it.
    Sync {
        /// The slot.
        slot: u32,
    },
    /// A barrier with nothing before it that was not handed over already.
    Mark {
        /// The barrier.
        barrier: Barrier,
    },
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing was handed over.
    Idle,
    /// Bytes of a slot are to be written to its file, as many as go: [`Plan::wrote`] says how many did.
    Write {
        /// The slot.
        slot: u32,
        /// Address in the region.
        at: u64,
        /// How many.
        len: u64,
    },
    /// The file of a slot is to be synced; then [`Plan::synced`].
    Sync {
        /// The slot.
        slot: u32,
    },
    /// All is synced: barriers up to this one are complete; then [`Plan::completed`].
    Complete(Barrier),
}

/// Neighbouring bytes of one slot.
#[derive(Clone, Copy, Debug)]
struct Run {
    at: u64,
    len: u64,
}

/// Things handed over that one round takes at most.
const ROUND: usize = 1024;

/// See the module. Allocates nothing once made.
#[derive(Debug)]
pub struct Plan {
    slot_bytes: u64,
    writes: Vec<Run>,
    /// Slots whose files are to be synced, each once.
    syncs: Vec<u32>,
    barrier: Barrier,
    /// How many of `writes` and `syncs` are done.
    written: usize,
    synced: usize,
    begun: bool,
}

impl Plan {
    /// A plan for a region with slots of `slot_bytes` bytes, with nothing to do.
    pub fn new(slot_bytes: u64) -> Plan {
        Plan {
            slot_bytes,
            writes: Vec::with_capacity(ROUND),
            syncs: Vec::with_capacity(ROUND),
            barrier: Barrier::default(),
            written: 0,
            synced: 0,
            begun: false,
        }
    }

    /// True if the round that comes next takes more: none has begun, and it is not full.
    pub fn takes(&self) -> bool {
        !self.begun && self.writes.len() < ROUND && self.syncs.len() < ROUND
    }

    /// Adds to the next round what was handed over. Only while it [takes](Plan::takes) more.
    pub fn take(&mut self, handover: Handover) {
        assert!(self.takes(), "a round has begun or is full");
        match handover {
            Handover::Range { at, len, barrier } => {
                let slot = self.slot(at);
                match self.writes.last_mut() {
                    Some(last)
                        if last.at + last.len == at && !at.is_multiple_of(self.slot_bytes) =>
                    {
                        last.len += len;
                    }
                    _ => self.writes.push(Run { at, len }),
                }
                self.sync(slot);
                self.barrier = self.barrier.max(barrier);
            }
            Handover::Sync { slot } => self.sync(slot),
            Handover::Mark { barrier } => self.barrier = self.barrier.max(barrier),
        }
    }

    fn slot(&self, at: u64) -> u32 {
        (at / self.slot_bytes) as u32
    }

    fn sync(&mut self, slot: u32) {
        // The newest segment's file, nearly always.
        if !self.syncs.iter().rev().any(|known| *known == slot) {
            if planted(Bug::OneFileSynced) {
                self.syncs.clear();
            }
            self.syncs.push(slot);
        }
    }

    /// What is to be done. The round begins when this says anything but [`Step::Idle`].
    pub fn step(&mut self) -> Step {
        let run = self.writes.get(self.written);
        let write =
            run.map(|run| Step::Write { slot: self.slot(run.at), at: run.at, len: run.len });
        let synced = if planted(Bug::RoundNotSynced) { self.syncs.len() } else { self.synced };
        let sync = self.syncs.get(synced).map(|slot| Step::Sync { slot: *slot });
        let next = match planted(Bug::SyncedBeforeWritten) {
            false => write.or(sync),
            true => sync.or(write),
        };
        let step = if let Some(step) = next {
            step
        } else if self.barrier > Barrier::default() {
            Step::Complete(self.barrier)
        } else if self.begun {
            // A round without a barrier: nobody waits for it, but it is over.
            self.reset();
            Step::Idle
        } else {
            Step::Idle
        };
        self.begun = step != Step::Idle;
        step
    }

    /// The first `bytes` of what was to be written are.
    pub fn wrote(&mut self, bytes: u64) {
        let Some(run) = self.writes.get_mut(self.written) else { return };
        let bytes = if planted(Bug::ShortWriteIsWhole) { run.len } else { bytes.min(run.len) };
        run.at += bytes;
        run.len -= bytes;
        self.written += usize::from(run.len == 0);
    }

    /// The file is synced.
    pub fn synced(&mut self) {
        self.synced += 1;
    }

    /// Whoever waited was told; the next round may begin.
    pub fn completed(&mut self) {
        self.reset();
    }

    fn reset(&mut self) {
        self.writes.clear();
        self.syncs.clear();
        self.barrier = Barrier::default();
        (self.written, self.synced, self.begun) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: u64 = 1 << 16;

    fn range(at: u64, len: u64, barrier: u64) -> Handover {
        Handover::Range { at, len, barrier: Barrier(barrier) }
    }

    /// Does all steps of a round; a write does `most` bytes at a time.
    fn round(plan: &mut Plan, most: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let step = plan.step();
            match step {
                Step::Idle => return steps,
                Step::Write { len, .. } => plan.wrote(len.min(most)),
                Step::Sync { .. } => plan.synced(),
                Step::Complete(_) => plan.completed(),
            }
            steps.push(step);
        }
    }

    #[test]
    fn nothing_to_do_is_idle() {
        let mut plan = Plan::new(SLOT);
        assert_eq!(round(&mut plan, SLOT), []);
        assert!(plan.takes());
    }

    #[test]
    fn all_barriers_of_a_round_complete_with_one_sync_of_each_file() {
        let mut plan = Plan::new(SLOT);
        plan.take(range(4096, 128, 1));
        plan.take(range(4224, 64, 2));
        plan.take(range(SLOT, 128, 3));
        plan.take(range(4288, 64, 4));
        let expected = [
            Step::Write { slot: 0, at: 4096, len: 192 },
            Step::Write { slot: 1, at: SLOT, len: 128 },
            Step::Write { slot: 0, at: 4288, len: 64 },
            Step::Sync { slot: 0 },
            Step::Sync { slot: 1 },
            Step::Complete(Barrier(4)),
        ];
        assert_eq!(round(&mut plan, SLOT), expected);
        assert_eq!(round(&mut plan, SLOT), []);
    }

    #[test]
    fn a_round_that_has_begun_takes_no_more() {
        let mut plan = Plan::new(SLOT);
        plan.take(range(4096, 128, 1));
        assert!(plan.takes());
        assert!(matches!(plan.step(), Step::Write { .. }));
        assert!(!plan.takes());
        plan.wrote(128);
        assert!(matches!(plan.step(), Step::Sync { .. }));
        assert!(!plan.takes());
        plan.synced();
        assert_eq!(plan.step(), Step::Complete(Barrier(1)));
        assert!(!plan.takes());
        plan.completed();
        assert!(plan.takes());
        for at in 0..ROUND as u64 {
            assert!(plan.takes());
            plan.take(range(4096 + 128 * at, 64, 2));
        }
        assert!(!plan.takes(), "it is full");
    }

    #[test]
    fn short_writes_go_on_where_they_ended() {
        let mut plan = Plan::new(SLOT);
        plan.take(range(4096, 100, 7));
        let expected = [
            Step::Write { slot: 0, at: 4096, len: 100 },
            Step::Write { slot: 0, at: 4136, len: 60 },
            Step::Write { slot: 0, at: 4176, len: 20 },
            Step::Sync { slot: 0 },
            Step::Complete(Barrier(7)),
        ];
        assert_eq!(round(&mut plan, 40), expected);
    }

    #[test]
    fn runs_end_where_files_do() {
        let mut plan = Plan::new(SLOT);
        plan.take(range(SLOT - 64, 64, 0));
        plan.take(range(SLOT, 64, 5));
        let steps = round(&mut plan, SLOT);
        assert_eq!(steps[0], Step::Write { slot: 0, at: SLOT - 64, len: 64 });
        assert_eq!(steps[1], Step::Write { slot: 1, at: SLOT, len: 64 });
    }

    #[test]
    fn files_can_be_synced_and_barriers_pass_without_a_write() {
        let mut plan = Plan::new(SLOT);
        plan.take(Handover::Sync { slot: 3 });
        plan.take(Handover::Sync { slot: 3 });
        plan.take(Handover::Mark { barrier: Barrier(9) });
        assert_eq!(round(&mut plan, SLOT), [Step::Sync { slot: 3 }, Step::Complete(Barrier(9))]);
        plan.take(range(4096, 64, 0));
        let expected = [Step::Write { slot: 0, at: 4096, len: 64 }, Step::Sync { slot: 0 }];
        assert_eq!(round(&mut plan, SLOT), expected, "no barrier: nothing completes");
        assert!(plan.takes());
    }
}
