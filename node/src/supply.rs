//! What helpers see of a shard: what its status says, the queue of commands to it, and the segments that it lends.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_queue::ArrayQueue;
use mstream_admin::v1;
use mstream_controlplane::admin::now_ns;
use mstream_controlplane::{Lender, Owner};
use mstream_dataplane::{Command, Status};
use mstream_pmem::sealed::Sealed;

/// Why no slot can be made for a shard, for whoever asks: its housekeeper writes, others read.
#[derive(Debug, Default)]
pub(crate) struct Shortage(Mutex<Failing>);

#[derive(Debug, Default)]
struct Failing {
    /// Since when, and why; `None` while all is well.
    now: Option<v1::Shortage>,
    /// Since the start.
    failures: u64,
}

impl Shortage {
    fn note(&self, reason: Option<&str>) {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failing.failures += u64::from(reason.is_some());
        let since_ns = failing.now.as_ref().map_or_else(now_ns, |now| now.since_ns);
        failing.now = reason.map(|reason| v1::Shortage { reason: reason.to_string(), since_ns });
    }

    /// As the admin API tells it; `None` while all is well.
    pub(crate) fn told(&self) -> Option<v1::Shortage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    /// How often a slot could not be made.
    pub(crate) fn failures(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failures
    }
}

/// A shard that takes prepared slots.
pub(crate) struct Supplied {
    status: Arc<Status>,
    commands: Arc<ArrayQueue<Command>>,
    shortage: Arc<Shortage>,
    /// The status knows of the last slot once it was updated this often.
    trusted_from: u64,
}

impl Supplied {
    pub(crate) fn new(
        status: Arc<Status>,
        commands: Arc<ArrayQueue<Command>>,
        shortage: Arc<Shortage>,
    ) -> Supplied {
        Supplied { status, commands, shortage, trusted_from: 0 }
    }
}

impl Owner for Supplied {
    fn wanted(&mut self) -> u64 {
        match self.status.updates() < self.trusted_from {
            true => 0,
            false => self.status.slots_wanted(),
        }
    }

    fn give(&mut self, slot: u32) -> bool {
        let taken = self.commands.push(Command::SlotReady(slot)).is_ok();
        // The update that is under way may not know of it yet; the one after that does.
        self.trusted_from = self.status.updates() + 2;
        taken
    }

    fn troubled(&mut self, reason: Option<&str>) {
        self.shortage.note(reason);
    }
}

/// Sealed segments that may wait to be read.
pub(crate) const LENT: usize = 4;

/// A shard that lends its sealed segments. What was read goes on to the worker of its cold segments, which gives it back.
pub(crate) struct Lends {
    sealed: Arc<ArrayQueue<Sealed>>,
    read: Arc<ArrayQueue<Sealed>>,
}

impl Lends {
    pub(crate) fn new(sealed: Arc<ArrayQueue<Sealed>>, read: Arc<ArrayQueue<Sealed>>) -> Lends {
        Lends { sealed, read }
    }
}

impl Lender for Lends {
    fn lend(&mut self) -> Option<Sealed> {
        self.sealed.pop()
    }

    fn give_back(&mut self, sealed: Sealed) -> Result<(), Sealed> {
        self.read.push(sealed)
    }
}
