//! Frames in DPDK's packet buffers.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use mstream_nic::{ChecksumRequest, Frame, Peer};

use crate::mbuf::{Checksums, Mbuf};
use crate::pool::PacketPool;

/// What the frames of one port share: the pool they come from, and how many there are.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) pool: Arc<PacketPool>,
    /// The device looks at the checksums of what it receives.
    pub(crate) verifies: bool,
    frames: Cell<usize>,
}

impl Home {
    pub(crate) fn new(pool: Arc<PacketPool>, verifies: bool) -> Home {
        Home { pool, verifies, frames: Cell::new(0) }
    }

    /// Frames that exist.
    pub(crate) fn frames(&self) -> usize {
        self.frames.get()
    }
}

/// A frame in one packet buffer of DPDK, owned alone. Belongs to the thread that polls its port.
#[derive(Debug)]
pub struct DpdkFrame {
    /// `None` only while the frame is being dropped or sent.
    mbuf: Option<Mbuf>,
    home: Rc<Home>,
    peer: Peer,
}

impl DpdkFrame {
    /// Takes over a plain buffer of the home's pool.
    #[inline]
    pub(crate) fn new(mbuf: Mbuf, home: &Rc<Home>) -> DpdkFrame {
        home.frames.set(home.frames.get() + 1);
        DpdkFrame { mbuf: Some(mbuf), home: Rc::clone(home), peer: Peer::WIRE }
    }

    /// Whether the frame's buffer is one of `pool`.
    #[inline]
    pub(crate) fn is_of(&self, pool: &Arc<PacketPool>) -> bool {
        Arc::ptr_eq(&self.home.pool, pool)
    }

    /// Ends the frame and hands over its buffer.
    #[inline]
    pub(crate) fn into_mbuf(mut self) -> Option<Mbuf> {
        let mbuf = self.mbuf.take();
        self.home.frames.set(self.home.frames.get() - 1);
        mbuf
    }
}

impl Frame for DpdkFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.mbuf.as_ref().map_or(&[], Mbuf::bytes)
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.mbuf.as_mut().map_or(&mut [], Mbuf::bytes_mut)
    }

    #[inline]
    fn capacity(&self) -> usize {
        self.mbuf.as_ref().map_or(0, |mbuf| mbuf.capacity().into())
    }

    #[inline]
    fn set_len(&mut self, len: usize) {
        let capacity = self.capacity();
        assert!(len <= capacity, "frame length {len} over {capacity}");
        if let Some(mbuf) = &mut self.mbuf {
            mbuf.set_data_len(len as u16);
        }
    }

    #[inline]
    fn peer(&self) -> Peer {
        self.peer
    }

    #[inline]
    fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }

    #[inline]
    fn checksums_verified(&self) -> bool {
        let found = |mbuf: &Mbuf| mbuf.checksums() == Checksums::Good;
        self.home.verifies && self.mbuf.as_ref().is_some_and(found)
    }

    #[inline]
    fn request_checksum(&mut self, request: ChecksumRequest) {
        if let Some(mbuf) = &mut self.mbuf {
            mbuf.ask(request);
        }
    }
}

impl Drop for DpdkFrame {
    #[inline]
    fn drop(&mut self) {
        if let Some(mbuf) = self.mbuf.take() {
            mbuf.free();
            self.home.frames.set(self.home.frames.get() - 1);
        }
    }
}
