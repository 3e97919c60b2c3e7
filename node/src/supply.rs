//! What helpers see of a shard: what its status says, the queue of commands to it, and the segments that it lends.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use mstream_controlplane::{Lender, Owner};
use mstream_dataplane::{Command, Status};
use mstream_pmem::sealed::Sealed;

/// A shard that takes prepared slots.
pub(crate) struct Supplied {
    status: Arc<Status>,
    commands: Arc<ArrayQueue<Command>>,
    /// The status knows of the last slot once it was updated this often.
    trusted_from: u64,
}

impl Supplied {
    pub(crate) fn new(status: Arc<Status>, commands: Arc<ArrayQueue<Command>>) -> Supplied {
        Supplied { status, commands, trusted_from: 0 }
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
