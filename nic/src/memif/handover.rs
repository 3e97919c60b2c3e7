//! What the listener's thread and the shard's thread share: connections on their way, and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;

use super::rings::{Reader, Writer};

/// A connection that is ready to be polled. Owns the mapping of the client's memory, so it is made
/// and dropped on the listener's thread.
#[derive(Debug)]
pub(super) struct Connection {
    /// Names the connection to the listener.
    pub(super) token: u64,
    pub(super) state: Arc<ConnectionState>,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

/// What is known of a connection on both threads.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    /// The control socket closed: the client is gone. Set by the listener, noticed by the port.
    pub(super) gone: AtomicBool,
    /// The client broke the rings' rules. Set by the port before it gives the connection back.
    pub(super) broken: AtomicBool,
}

/// The bounded queues between one listener and its port.
#[derive(Debug)]
pub(super) struct Handover {
    /// Connections that the port is to take over.
    pub(super) fresh: ArrayQueue<Connection>,
    /// Connections that the port is done with; the listener unmaps them.
    pub(super) retired: ArrayQueue<Connection>,
    /// Moves on whenever a connection was queued in `fresh` or its state's `gone` was set: all that an
    /// idle port looks at.
    events: AtomicU32,
}

impl Handover {
    pub(super) fn new(connections: usize) -> Handover {
        Handover {
            fresh: ArrayQueue::new(connections),
            retired: ArrayQueue::new(connections),
            events: AtomicU32::new(0),
        }
    }

    /// Tells the port to look. Release: pairs with the acquire in [`Handover::events`], so the port
    /// sees what was queued and set before.
    pub(super) fn announce(&self) {
        self.events.fetch_add(1, Ordering::Release);
    }

    /// Differs from an earlier value if something was announced since.
    #[inline]
    pub(super) fn events(&self) -> u32 {
        self.events.load(Ordering::Acquire)
    }
}

/// Counts of a listener since it was bound, readable from any thread.
#[derive(Debug, Default)]
pub struct ListenerCounters {
    pub(super) accepted: AtomicU64,
    pub(super) connected: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) over_limit: AtomicU64,
    pub(super) broken: AtomicU64,
}

/// A snapshot of [`ListenerCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Control sockets that were accepted.
    pub accepted: u64,
    /// Handshakes that ended with a connection.
    pub connected: u64,
    /// Connections that ended, for whatever reason.
    pub closed: u64,
    /// Handshakes refused because of what the client sent.
    pub refused: u64,
    /// Handshakes that did not end in time.
    pub timed_out: u64,
    /// Control sockets turned away because too many were open.
    pub over_limit: u64,
    /// Connections ended because the client broke the rings' rules.
    pub broken: u64,
}

impl ListenerCounters {
    /// The counts at this moment. Each is exact; together they may be of slightly different moments.
    pub fn snapshot(&self) -> ListenerStats {
        // Relaxed: nothing is ordered by a count.
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ListenerStats {
            accepted: read(&self.accepted),
            connected: read(&self.connected),
            closed: read(&self.closed),
            refused: read(&self.refused),
            timed_out: read(&self.timed_out),
            over_limit: read(&self.over_limit),
            broken: read(&self.broken),
        }
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
