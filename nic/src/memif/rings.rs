//! The two rings of a connection: taking frames out of one, putting frames into the other.
//!
//! A ring carries frames one way. Its slots are numbered by an index that counts on, modulo 2^16; a
//! slot is used at index modulo ring size.
//!
//! - Client to server: the client fills slots and publishes head; the server empties them and
//!   publishes tail.
//! - Server to client: the client offers empty slots and publishes head, the server fills them and
//!   publishes tail, the client empties them and offers them again by moving head on.
//!
//! So the writer of a ring may go up to the peer's index (server) or to one ring size behind it
//! (client), and a reader publishes how far it read (server) or that plus the ring size (client). The
//! `bias` of a ring is that difference; everything else is the same on both sides.

use crate::pool::{MAX_FRAME, Pool, PoolFrame};
use crate::port::{Frame, FrameQueue, Peer, PortStats};

use super::shared::{Descriptor, Ring, Role};

/// Bytes of each buffer that a client offers.
pub(super) const BUFFER_BYTES: u32 = 2048;
/// The most slots that one frame may be spread over.
const MAX_CHAIN: usize = 8;

/// The peer's index is impossible: it can no longer be said which slots hold what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Where the buffers of a ring's slots are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Buffers {
    /// Where the peer's descriptors say: the server's view.
    Described,
    /// At this offset in region 0, one after the other: the client's own, whatever the descriptors
    /// say by now.
    Own(u32),
}

impl Buffers {
    /// The descriptor of an empty slot of one's own.
    fn own(first: u32, index: u16, size: u16) -> Descriptor {
        let offset = first + u32::from(index & (size - 1)) * BUFFER_BYTES;
        Descriptor { next: false, region: 0, offset, length: BUFFER_BYTES }
    }
}

/// The ring that frames arrive on.
#[derive(Debug)]
pub(super) struct Reader {
    ring: Ring,
    buffers: Buffers,
    bias: u16,
    /// The next slot to read.
    next: u16,
    /// Slots before this one hold frames, as far as is known without looking again.
    limit: u16,
    /// The rest of a refused frame is being skipped.
    skipping: bool,
    /// The peer is gone or broke the rules: only what is known to be there is read.
    last: bool,
}

impl Reader {
    /// Starts at the beginning of a fresh ring: a server asks not to be interrupted, a client offers
    /// all slots.
    pub(super) fn start(ring: Ring, role: Role, buffers: Buffers) -> Reader {
        ring.set_polled();
        let size = ring.size();
        let bias = if role == Role::Client { size } else { 0 };
        if let Buffers::Own(first) = buffers {
            for index in 0..size {
                ring.describe(index, Buffers::own(first, index, size));
            }
        }
        ring.publish(bias);
        Reader { ring, buffers, bias, next: 0, limit: 0, skipping: false, last: false }
    }

    /// Looks where the peer is; true if there is something to read. An idle poll is this one load.
    /// A broken ring is reported once and is empty from then on.
    #[inline]
    fn look(&mut self) -> Result<bool, Broken> {
        if self.next == self.limit && !self.last {
            let theirs = self.ring.theirs();
            // More than a ring ahead (or behind, which is the same modulo 2^16) cannot be.
            if theirs.wrapping_sub(self.next) > self.ring.size() {
                self.last = true;
                return Err(Broken);
            }
            self.limit = theirs;
        }
        Ok(self.next != self.limit)
    }

    /// The peer is gone: what it published until now is the last. Bounded, whoever still writes.
    pub(super) fn end(&mut self) {
        let theirs = self.ring.theirs();
        if theirs.wrapping_sub(self.next) <= self.ring.size() {
            self.limit = theirs;
        }
        self.last = true;
    }

    /// Everything that will ever come was read.
    pub(super) fn ended(&self) -> bool {
        self.last && self.next == self.limit
    }

    /// Appends up to `max` frames to `into`. Refused frames count towards `max`: they are work too.
    /// Frames stay in the ring while the pool has no buffer. Returns how many frames were appended.
    #[inline]
    pub(super) fn receive(
        &mut self,
        pool: &Pool,
        peer: Peer,
        into: &mut FrameQueue<PoolFrame>,
        max: usize,
        stats: &mut PortStats,
    ) -> Result<usize, Broken> {
        if !self.look()? {
            return Ok(0);
        }
        let from = self.next;
        let (mut got, mut work) = (0, 0);
        while work < max && self.next != self.limit {
            work += 1;
            if self.skipping {
                self.skipping = self.take_slot().next;
                continue;
            }
            let Some(mut frame) = pool.take() else { break };
            if self.assemble(&mut frame) {
                frame.set_peer(peer);
                stats.rx_frames += 1;
                stats.rx_bytes += frame.bytes().len() as u64;
                got += 1;
                into.push_back(frame);
            } else {
                stats.rx_refused += 1;
            }
        }
        if self.next != from {
            // The copies are done (release in `publish`): the peer may use the slots again.
            self.ring.publish(self.next.wrapping_add(self.bias));
        }
        Ok(got)
    }

    /// Takes the next slot of the ring: its descriptor, read once.
    #[inline]
    fn take_slot(&mut self) -> Descriptor {
        let index = self.next;
        self.next = index.wrapping_add(1);
        let found = self.ring.descriptor(index);
        match self.buffers {
            Buffers::Described => found,
            Buffers::Own(first) => {
                // The slot is offered again with the next publish.
                let own = Buffers::own(first, index, self.ring.size());
                self.ring.describe(index, own);
                Descriptor { region: own.region, offset: own.offset, ..found }
            }
        }
    }

    /// Copies the next frame, all its parts, into `frame`; false if it was refused.
    #[inline]
    fn assemble(&mut self, frame: &mut PoolFrame) -> bool {
        let mut len = 0;
        for _ in 0..MAX_CHAIN {
            if self.next == self.limit {
                // The frame goes on in slots that were not published.
                return false;
            }
            let part = self.take_slot();
            let part_len = part.length as usize;
            if part_len > MAX_FRAME - len {
                self.skipping = part.next;
                return false;
            }
            frame.set_len(len + part_len);
            if !self.ring.copy_out(part.region, part.offset, &mut frame.bytes_mut()[len..]) {
                self.skipping = part.next;
                return false;
            }
            len += part_len;
            if !part.next {
                return len > 0;
            }
        }
        self.skipping = true;
        false
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is in the ring and leaves with the next publish.
    Yes,
    /// The ring has no free slot now.
    Full,
    /// The peer's buffer cannot take a frame of this length.
    TooLong,
    /// The peer broke the ring's rules.
    Broken,
}

/// The ring that frames leave on.
#[derive(Debug)]
pub(super) struct Writer {
    ring: Ring,
    buffers: Buffers,
    bias: u16,
    /// The next slot to write.
    next: u16,
    /// Slots before this one are free, as far as is known without looking again.
    limit: u16,
}

impl Writer {
    /// Starts at the beginning of a fresh ring.
    pub(super) fn start(ring: Ring, role: Role, buffers: Buffers) -> Writer {
        let bias = if role == Role::Client { ring.size() } else { 0 };
        if let Buffers::Own(first) = buffers {
            for index in 0..ring.size() {
                ring.describe(index, Buffers::own(first, index, ring.size()));
            }
        }
        ring.publish(0);
        Writer { ring, buffers, bias, next: 0, limit: 0 }
    }

    /// Copies a frame into the next free slot. It is seen by the peer after [`Writer::publish`].
    #[inline]
    pub(super) fn send(&mut self, bytes: &[u8]) -> Sent {
        if self.next == self.limit {
            // Acquire (in `theirs`): the peer's reads of the slots before its index are over.
            let limit = self.ring.theirs().wrapping_add(self.bias);
            if limit.wrapping_sub(self.next) > self.ring.size() {
                return Sent::Broken;
            }
            if limit == self.next {
                return Sent::Full;
            }
            self.limit = limit;
        }
        let slot = match self.buffers {
            Buffers::Described => self.ring.descriptor(self.next),
            Buffers::Own(first) => Buffers::own(first, self.next, self.ring.size()),
        };
        if bytes.len() > slot.length as usize {
            return Sent::TooLong;
        }
        if !self.ring.copy_in(slot.region, slot.offset, bytes) {
            return Sent::Broken;
        }
        // Fits: the length is at most MAX_FRAME.
        let length = bytes.len() as u32;
        self.ring.describe(self.next, Descriptor { next: false, length, ..slot });
        self.next = self.next.wrapping_add(1);
        Sent::Yes
    }

    /// Lets the peer see everything that was sent.
    #[inline]
    pub(super) fn publish(&self) {
        self.ring.publish(self.next);
    }
}
