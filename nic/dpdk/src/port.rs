//! The port that a thread polls.

use std::rc::Rc;
use std::sync::Arc;

use mstream_nic::port::BURST;
use mstream_nic::{Capabilities, Frame, FrameQueue, Port, PortStats};

use crate::device::Device;
use crate::error::PoolLeak;
use crate::frame::{DpdkFrame, Home};
use crate::mbuf::{Mbuf, ROOM};
use crate::queue::{Waiting, receive_burst};
use crate::seed::{DpdkPortSeed, Traits};

/// Bytes of an Ethernet header. Nothing shorter can leave.
const ETHERNET_BYTES: usize = 14;

/// A port over one DPDK device.
///
/// Polling allocates nothing, takes no lock of ours and, but for taps, makes no system call. Frames of
/// other ports are refused by [`Port::send`] (dropped and counted): a buffer must not outlive its pool in a
/// foreign device. A frame that the device does not take for want of a link is dropped and counted.
#[derive(Debug)]
pub struct DpdkPort {
    home: Rc<Home>,
    waiting: Waiting,
    device: Device,
    traits: Traits,
    max_frame: usize,
    /// The most frames that may exist while the device is asked for more.
    usable: usize,
    stats: PortStats,
}

impl DpdkPort {
    pub(crate) fn new(seed: DpdkPortSeed) -> DpdkPort {
        let DpdkPortSeed { device, traits } = seed;
        let usable = if traits.wakes_once {
            // What is not in the pool now the device keeps ready for receiving.
            device.pool.available() as usize
        } else {
            usize::MAX
        };
        DpdkPort {
            home: Rc::new(Home::new(Arc::clone(&device.pool))),
            waiting: Waiting::new(),
            max_frame: usize::from(ROOM).min(usize::from(device.mtu()) + ETHERNET_BYTES),
            usable,
            device,
            traits,
            stats: PortStats::default(),
        }
    }

    /// The device's MAC address; of a tap the kernel's.
    pub fn mac(&self) -> [u8; 6] {
        self.device.mac()
    }

    /// Whether the link is up: for memif, whether a peer is connected.
    pub fn link_up(&self) -> bool {
        self.device.link_up()
    }

    /// The device's own counters by name (DPDK's extended statistics), among them frames that it dropped
    /// before they reached this port. Slow; may enter the kernel.
    pub fn device_counters(&self) -> Vec<(String, u64)> {
        self.device.counters()
    }

    /// Buffers that the calling thread has at hand without touching memory that is shared with others.
    pub fn cached_buffers(&self) -> usize {
        self.device.pool.cached() as usize
    }

    /// Stops and removes the device and says whether all buffers came back to the pool.
    ///
    /// Of two ports with one pool the second says it for both.
    ///
    /// # Errors
    /// Buffers are missing. Frames that are still held stay usable, and hold the pool.
    pub fn close(self) -> Result<(), PoolLeak> {
        let DpdkPort { home, waiting, device, .. } = self;
        drop(waiting);
        drop(device);
        let pool = &home.pool;
        if Arc::strong_count(pool) > 1 {
            return Ok(());
        }
        let missing = pool.total().saturating_sub(pool.available()) as usize;
        if missing == 0 {
            return Ok(());
        }
        Err(PoolLeak { missing, total: pool.total() as usize, held: home.frames() })
    }

    /// Offers what waits to the device.
    #[inline]
    fn burst(&mut self) {
        let left = self.waiting.burst(&self.device);
        self.stats.tx_frames += left.frames;
        self.stats.tx_bytes += left.bytes;
        if left.frames == 0 && self.waiting.len() > 0 {
            self.stuck();
        }
    }

    /// The device takes nothing: its queue is full, or its link is down and it never will.
    #[cold]
    fn stuck(&mut self) {
        if !self.device.link_up() {
            self.stats.tx_dropped += self.waiting.clear() as u64;
        }
    }

    /// A received buffer as a frame, unless it is one that a frame cannot be.
    #[inline]
    fn admit(home: &Rc<Home>, mbuf: Mbuf, stats: &mut PortStats) -> Option<DpdkFrame> {
        if !mbuf.is_plain() {
            stats.rx_refused += 1;
            mbuf.free();
            return None;
        }
        stats.rx_frames += 1;
        stats.rx_bytes += u64::from(mbuf.data_len());
        Some(DpdkFrame::new(mbuf, home))
    }
}

impl Port for DpdkPort {
    type Frame = DpdkFrame;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ethernet: true,
            max_frame: self.max_frame,
            syscalls: self.traits.syscalls,
            ..Capabilities::default()
        }
    }

    #[inline]
    fn receive(&mut self, into: &mut FrameQueue<DpdkFrame>, max: usize) -> usize {
        let DpdkPort { home, waiting, device, usable, stats, .. } = self;
        let before = into.len();
        let mut left = max.min(usable.saturating_sub(home.frames() + waiting.len()));
        while left > 0 {
            let asked = left.min(BURST);
            let got = receive_burst(device, asked, |mbuf| {
                if let Some(frame) = DpdkPort::admit(home, mbuf, stats) {
                    into.push_back(frame);
                }
            });
            if got < asked {
                break;
            }
            left -= got;
        }
        into.len() - before
    }

    #[inline]
    fn send(&mut self, frame: DpdkFrame) -> Result<(), DpdkFrame> {
        let len = frame.bytes().len();
        if !(ETHERNET_BYTES..=self.max_frame).contains(&len) || !frame.is_of(&self.home.pool) {
            self.stats.tx_dropped += 1;
            return Ok(());
        }
        if self.waiting.is_full() {
            self.burst();
            if self.waiting.is_full() {
                return Err(frame);
            }
        }
        if let Some(mbuf) = frame.into_mbuf() {
            self.waiting.push(mbuf);
        }
        Ok(())
    }

    #[inline]
    fn flush(&mut self) {
        self.burst();
    }

    #[inline]
    fn frame(&mut self) -> Option<DpdkFrame> {
        self.home.pool.take().map(|mbuf| DpdkFrame::new(mbuf, &self.home))
    }

    /// Of a memif client: connects again if the server is gone.
    fn maintain(&mut self) {
        if self.traits.reconnects && !self.device.link_up() {
            self.device.stop();
            // Nobody listens yet: the next call tries again.
            let _ = self.device.start();
        }
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    /// Frames of this port that are held, and those that wait to be sent. Buffers that the device keeps
    /// ready for receiving do not count.
    fn frames_out(&self) -> usize {
        self.home.frames() + self.waiting.len()
    }
}
