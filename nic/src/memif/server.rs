//! The server's port: polls the connections that its listener made. Lives on a shard's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::pool::{MAX_FRAME, Pool, PoolFrame};
use crate::port::{Capabilities, Frame, FrameQueue, Peer, Port, PortStats};

use super::handover::{Connection, Handover};
use super::rings::{Broken, Sent};

/// Makes a [`ServerPort`] on the thread that will poll it. One comes with each listener.
#[derive(Debug)]
pub struct ServerPortSeed {
    pub(super) handover: Arc<Handover>,
    pub(super) max_connections: usize,
}

impl ServerPortSeed {
    /// Makes the port with a pool of `frames` buffers, on the calling thread.
    pub fn open(self, frames: usize) -> ServerPort {
        let slots = (2 * self.max_connections).next_power_of_two();
        ServerPort {
            pool: Pool::new(frames),
            handover: self.handover,
            seen: 0,
            slots: std::iter::repeat_with(|| None).take(slots).collect(),
            polled: Vec::with_capacity(self.max_connections),
            unpublished: Vec::with_capacity(self.max_connections),
            leaving: Vec::with_capacity(self.max_connections),
            first: 0,
            next_peer: 1,
            ending: false,
            stats: PortStats::default(),
        }
    }
}

/// The port that a shard polls: all memif clients of one listener.
///
/// Each connection is a [`Peer`] of its own. A frame is sent to the peer it names; frames to a peer
/// that is gone are dropped and counted. Frames wait in a client's ring while the pool is empty.
/// Makes no system call, allocates nothing and takes no lock until it is dropped.
#[derive(Debug)]
pub struct ServerPort {
    pool: Pool,
    handover: Arc<Handover>,
    /// The handover's events that were acted upon.
    seen: u32,
    /// Connections, each at its peer number modulo the length, a power of two. At most half are used.
    slots: Box<[Option<Slot>]>,
    /// The peer numbers in `slots`.
    polled: Vec<u32>,
    /// Peers that were sent frames since the last flush.
    unpublished: Vec<u32>,
    /// Connections that are given back as soon as the queue has room.
    leaving: Vec<Connection>,
    /// Where in `polled` the next receive starts.
    first: usize,
    next_peer: u32,
    /// Some connection is ending: its client is gone or broke the rules.
    ending: bool,
    stats: PortStats,
}

#[derive(Debug)]
struct Slot {
    peer: u32,
    connection: Connection,
    /// Is in `unpublished`.
    unpublished: bool,
}

impl ServerPort {
    /// How many clients are connected, as far as the port has noticed.
    pub fn connections(&self) -> usize {
        self.polled.len()
    }

    #[inline]
    fn slot(&mut self, peer: u32) -> Option<&mut Slot> {
        let at = peer as usize & (self.slots.len() - 1);
        self.slots[at].as_mut().filter(|slot| slot.peer == peer)
    }

    /// Something was announced: takes over new connections, looks for clients that are gone.
    #[cold]
    fn act_upon_events(&mut self) {
        for at in 0..self.polled.len() {
            let peer = self.polled[at];
            if let Some(slot) = self.slot(peer)
                // Acquire: pairs with the listener's release; the client wrote nothing later.
                && slot.connection.state.gone.load(Ordering::Acquire)
            {
                slot.connection.reader.end();
                self.ending = true;
            }
        }
        while let Some(connection) = self.handover.fresh.pop() {
            self.admit(connection);
        }
    }

    /// Gives a connection a peer number that was never used and whose place is free.
    fn admit(&mut self, mut connection: Connection) {
        if connection.state.gone.load(Ordering::Acquire) {
            connection.reader.end();
            self.ending = true;
        }
        // The listener hands over at most half as many connections as there are places, so there is a
        // free one, unless four thousand million connections have used up all numbers.
        for _ in 0..self.slots.len() {
            let peer = self.next_peer;
            let Some(after) = peer.checked_add(1) else { break };
            self.next_peer = after;
            let at = peer as usize & (self.slots.len() - 1);
            if self.slots[at].is_none() && self.polled.len() < self.polled.capacity() {
                self.slots[at] = Some(Slot { peer, connection, unpublished: false });
                self.polled.push(peer);
                return;
            }
        }
        connection.state.broken.store(true, Ordering::Release);
        self.leave(connection);
    }

    /// Lets go of the connections that are over.
    #[cold]
    fn end_connections(&mut self) {
        let mut still_ending = false;
        let mut at = 0;
        while at < self.polled.len() {
            let peer = self.polled[at];
            let place = peer as usize & (self.slots.len() - 1);
            let over = self.slots[place].as_ref().is_none_or(|slot| {
                let state = &slot.connection.state;
                still_ending |= state.gone.load(Ordering::Relaxed);
                state.broken.load(Ordering::Relaxed) || slot.connection.reader.ended()
            });
            if !over {
                at += 1;
                continue;
            }
            self.polled.swap_remove(at);
            if let Some(slot) = self.slots[place].take() {
                if slot.unpublished {
                    self.unpublished.retain(|other| *other != peer);
                }
                self.leave(slot.connection);
            }
        }
        self.ending = still_ending || !self.leaving.is_empty();
    }

    fn leave(&mut self, connection: Connection) {
        if let Err(connection) = self.handover.retired.push(connection) {
            // Tried again with the next receive. The capacity is that of all connections.
            self.leaving.push(connection);
            self.ending = true;
        }
    }

    /// Polls every connection once, each for at most `share` frames.
    #[inline]
    fn poll_all(
        &mut self,
        into: &mut FrameQueue<PoolFrame>,
        max: usize,
        share: usize,
        full_shares: &mut bool,
    ) -> usize {
        let mut got = 0;
        let count = self.polled.len();
        for step in 0..count {
            let mut at = self.first + step;
            if at >= count {
                at -= count;
            }
            let peer = self.polled[at];
            let place = peer as usize & (self.slots.len() - 1);
            let Some(slot) = &mut self.slots[place] else { continue };
            let (connection, stats) = (&mut slot.connection, &mut self.stats);
            let wanted = share.min(max - got);
            match connection.reader.receive(&self.pool, Peer(peer), into, wanted, stats) {
                Ok(frames) => {
                    got += frames;
                    *full_shares |= frames == share;
                }
                Err(Broken) => {
                    stats.rx_refused += 1;
                    connection.state.broken.store(true, Ordering::Release);
                    self.ending = true;
                }
            }
            if got == max {
                // The next receive goes on behind the one that took the rest.
                self.first = if at + 1 == count { 0 } else { at + 1 };
                break;
            }
        }
        got
    }
}

impl Port for ServerPort {
    type Frame = PoolFrame;

    fn capabilities(&self) -> Capabilities {
        Capabilities { ethernet: true, max_frame: MAX_FRAME, ..Capabilities::default() }
    }

    #[inline]
    fn receive(&mut self, into: &mut FrameQueue<PoolFrame>, max: usize) -> usize {
        let events = self.handover.events();
        if events != self.seen {
            self.seen = events;
            self.act_upon_events();
        }
        let count = self.polled.len();
        if max == 0 || count == 0 && !self.ending {
            return 0;
        }
        if self.first >= count {
            self.first = 0;
        }
        // First everyone gets a fair share; what others leave goes to those that have more.
        let share = max.div_ceil(count.max(1));
        let mut full_shares = false;
        let mut got = self.poll_all(into, max, share, &mut full_shares);
        if got < max && full_shares && count > 1 {
            got += self.poll_all(into, max - got, max - got, &mut full_shares);
        }
        if self.ending {
            while let Some(connection) = self.leaving.pop() {
                if let Err(connection) = self.handover.retired.push(connection) {
                    self.leaving.push(connection);
                    break;
                }
            }
            self.end_connections();
        }
        got
    }

    #[inline]
    fn send(&mut self, frame: PoolFrame) -> Result<(), PoolFrame> {
        let peer = frame.peer().0;
        let Some(slot) = self.slot(peer) else {
            self.stats.tx_dropped += 1;
            return Ok(());
        };
        let bytes = frame.bytes();
        match slot.connection.writer.send(bytes) {
            Sent::Yes => {
                let first = !slot.unpublished;
                slot.unpublished = true;
                if first {
                    self.unpublished.push(peer);
                }
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += bytes.len() as u64;
            }
            Sent::Full => return Err(frame),
            Sent::TooLong => self.stats.tx_dropped += 1,
            Sent::Broken => {
                slot.connection.state.broken.store(true, Ordering::Release);
                self.ending = true;
                self.stats.tx_dropped += 1;
            }
        }
        Ok(())
    }

    #[inline]
    fn flush(&mut self) {
        while let Some(peer) = self.unpublished.pop() {
            if let Some(slot) = self.slot(peer) {
                slot.unpublished = false;
                slot.connection.writer.publish();
            }
        }
    }

    fn frame(&mut self) -> Option<PoolFrame> {
        self.pool.take()
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn frames_out(&self) -> usize {
        self.pool.out()
    }
}
