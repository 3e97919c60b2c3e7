//! A pool of private frame buffers for the ports that need no C library.
//!
//! A pool belongs to one thread. All buffers are made and touched when the pool is made, but for those of simulated
//! ports; after that, taking a frame and dropping it moves one pointer and allocates nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::port::{Frame, Peer};

/// Bytes of one buffer.
const BUFFER_BYTES: usize = 2048;
/// Where a frame starts in its buffer. Behind Ethernet, IPv4 and UDP headers (42 bytes), a datagram
/// header (32) and a publish header (32) the message block then starts on a cache line.
const HEADROOM: usize = 22;
/// The longest frame a pool buffer takes, in bytes.
pub const MAX_FRAME: usize = BUFFER_BYTES - HEADROOM;

#[repr(align(64))]
struct Buffer([u8; BUFFER_BYTES]);

struct Shelf {
    #[expect(clippy::vec_box, reason = "frames move the pointer, never the buffer")]
    free: RefCell<Vec<Box<Buffer>>>,
    /// Buffers that exist.
    made: Cell<usize>,
    total: usize,
}

impl Shelf {
    /// One buffer more, while there may be.
    #[cold]
    fn make(&self) -> Option<Box<Buffer>> {
        let made = self.made.get();
        self.made.set(made + usize::from(made < self.total));
        (made < self.total).then(|| Box::new(Buffer([0; BUFFER_BYTES])))
    }
}

/// A fixed number of frame buffers of one thread.
pub struct Pool {
    shelf: Rc<Shelf>,
}

impl Pool {
    /// Makes a pool of `frames` buffers and touches all of them.
    pub fn new(frames: usize) -> Pool {
        let mut free = Vec::with_capacity(frames);
        for _ in 0..frames {
            let mut buffer = Box::new(Buffer([0; BUFFER_BYTES]));
            // Zeroed memory may be mapped lazily: write to each page now, not on the message path.
            for byte in buffer.0.iter_mut().step_by(512) {
                *std::hint::black_box(byte) = 1;
            }
            free.push(buffer);
        }
        Pool::with(free, frames)
    }

    /// A pool of `frames` buffers, each of which is made when it is first needed.
    pub(crate) fn growing(frames: usize) -> Pool {
        Pool::with(Vec::new(), frames)
    }

    #[expect(clippy::vec_box, reason = "as above")]
    fn with(free: Vec<Box<Buffer>>, total: usize) -> Pool {
        let made = Cell::new(free.len());
        Pool { shelf: Rc::new(Shelf { free: RefCell::new(free), made, total }) }
    }

    /// An empty frame, or `None` when all buffers are out.
    #[inline]
    pub fn take(&self) -> Option<PoolFrame> {
        let free = self.shelf.free.borrow_mut().pop();
        let buffer = free.or_else(|| self.shelf.make())?;
        Some(PoolFrame {
            buffer: Some(buffer),
            shelf: Rc::clone(&self.shelf),
            len: 0,
            peer: Peer::WIRE,
        })
    }

    /// Buffers that frames hold at the moment.
    pub fn out(&self) -> usize {
        self.shelf.made.get() - self.shelf.free.borrow().len()
    }

    /// All buffers, free or out.
    pub fn total(&self) -> usize {
        self.shelf.total
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("total", &self.total()).field("out", &self.out()).finish()
    }
}

/// A frame in a [`Pool`] buffer.
pub struct PoolFrame {
    /// `None` only while the frame is being dropped.
    buffer: Option<Box<Buffer>>,
    shelf: Rc<Shelf>,
    len: u16,
    peer: Peer,
}

impl PoolFrame {
    /// Replaces the contents by `bytes`; false, and no change, when they do not fit.
    #[inline]
    pub fn fill(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > MAX_FRAME {
            return false;
        }
        self.set_len(bytes.len());
        self.bytes_mut().copy_from_slice(bytes);
        true
    }
}

/// Bytes of a frame in a buffer of no pool: of those that are on their way in a simulated network.
pub(crate) struct LooseFrame {
    buffer: Box<Buffer>,
    len: u16,
}

impl LooseFrame {
    pub(crate) fn new() -> LooseFrame {
        LooseFrame { buffer: Box::new(Buffer([0; BUFFER_BYTES])), len: 0 }
    }

    /// Replaces the contents by those of a frame.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> &mut [u8] {
        self.len = bytes.len() as u16;
        let room = &mut self.buffer.0[HEADROOM..HEADROOM + bytes.len()];
        room.copy_from_slice(bytes);
        room
    }

    /// Puts the contents into `frame`, whose buffer is this one's from then on.
    pub(crate) fn put_into(&mut self, frame: &mut PoolFrame) {
        if let Some(buffer) = &mut frame.buffer {
            std::mem::swap(buffer, &mut self.buffer);
            frame.len = self.len;
        }
    }
}

impl std::fmt::Debug for LooseFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LooseFrame").field("len", &self.len).finish()
    }
}

impl Frame for PoolFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match &self.buffer {
            Some(buffer) => &buffer.0[HEADROOM..HEADROOM + self.len as usize],
            None => &[],
        }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            Some(buffer) => &mut buffer.0[HEADROOM..HEADROOM + self.len as usize],
            None => &mut [],
        }
    }

    fn capacity(&self) -> usize {
        MAX_FRAME
    }

    #[inline]
    fn set_len(&mut self, len: usize) {
        assert!(len <= MAX_FRAME, "frame length {len} over {MAX_FRAME}");
        self.len = len as u16;
    }

    fn peer(&self) -> Peer {
        self.peer
    }

    fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }
}

impl Drop for PoolFrame {
    #[inline]
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.shelf.free.borrow_mut().push(buffer);
        }
    }
}

impl std::fmt::Debug for PoolFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolFrame").field("len", &self.len).field("peer", &self.peer).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_frame_comes_back_and_an_empty_pool_says_so() {
        let pool = Pool::new(2);
        let a = pool.take().expect("two free");
        let b = pool.take().expect("one free");
        assert!(pool.take().is_none());
        drop(a);
        assert_eq!(pool.out(), 1);
        assert!(pool.take().is_some());
        drop(b);
        assert_eq!(pool.out(), 0);
    }

    #[test]
    fn a_block_behind_all_headers_starts_on_a_cache_line() {
        let pool = Pool::new(1);
        let mut frame = pool.take().expect("one free");
        frame.set_len(42 + 32 + 32 + 8);
        let block = frame.bytes()[42 + 32 + 32..].as_ptr();
        assert_eq!(block.align_offset(64), 0);
    }

    #[test]
    fn a_frame_over_the_buffer_is_refused() {
        let pool = Pool::new(1);
        let mut frame = pool.take().expect("one free");
        assert!(!frame.fill(&[0; MAX_FRAME + 1]));
        assert!(frame.fill(&[7; MAX_FRAME]));
        assert_eq!(frame.bytes().len(), MAX_FRAME);
    }
}
