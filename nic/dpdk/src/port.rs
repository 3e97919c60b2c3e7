//! The port that a thread polls.

use std::rc::Rc;
use std::sync::Arc;

use mstream_nic::port::BURST;
use mstream_nic::{Capabilities, Frame, FrameQueue, Port, PortStats};

use crate::device::Device;
use crate::error::PoolLeak;
use crate::frame::{DpdkFrame, Home};
use crate::mbuf::{Checksums, Mbuf};
use crate::probe::{DpdkProbe, Link};
use crate::queue::{self, Waiting, receive_burst};
use crate::seed::{DpdkPortSeed, Traits};

/// Bytes of an Ethernet header. Nothing shorter can leave.
const ETHERNET_BYTES: usize = 14;

/// A port over one DPDK device.
///
/// Polling allocates nothing, takes no lock of ours and makes no system call but where
/// [`Capabilities::syscalls`] says so. Frames of other ports are refused by [`Port::send`] (dropped and counted): a buffer must not outlive its pool in a
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
    /// Buffers that the driver had from the start.
    in_driver: u32,
    stats: PortStats,
    checksums: ChecksumCounts,
}

/// What the device said of received frames' checksums, if it looks at them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChecksumCounts {
    pub(crate) good: u64,
    pub(crate) bad: u64,
}

impl DpdkPort {
    pub(crate) fn new(seed: DpdkPortSeed) -> DpdkPort {
        let DpdkPortSeed { device, traits } = seed;
        // What is not in the pool now the device keeps ready for receiving.
        let available = device.pool.available();
        let usable = if traits.wakes_once { available as usize } else { usize::MAX };
        DpdkPort {
            home: Rc::new(Home::new(Arc::clone(&device.pool), device.shared.offloads().verifies())),
            waiting: Waiting::new(),
            max_frame: usize::from(traits.room).min(usize::from(device.mtu()) + ETHERNET_BYTES),
            usable,
            in_driver: device.pool.total().saturating_sub(available),
            device,
            traits,
            stats: PortStats::default(),
            checksums: ChecksumCounts::default(),
        }
    }

    /// The port for a control thread, to which it says the link's state, the MAC address and the device's
    /// own counters.
    pub fn probe(&self) -> DpdkProbe {
        DpdkProbe(Arc::clone(&self.device.shared))
    }

    /// Whether the link is up: for memif, whether a peer is connected. Slow; may enter the kernel.
    pub fn link_up(&self) -> bool {
        self.device.shared.link() == Link::Up
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
        let DpdkPort { home, waiting, device, traits, in_driver, .. } = self;
        drop(waiting);
        let forgotten = match traits.forgets {
            true => {
                let held = u32::try_from(home.frames()).unwrap_or(u32::MAX);
                let has = queue::settle(&device, in_driver, held);
                // Frames whose interface went away under them never leave.
                if device.shared.link() == Link::Up { has.min(in_driver) } else { has }
            }
            false => 0,
        };
        drop(device);
        let pool = &home.pool;
        if Arc::strong_count(pool) > 1 {
            return Ok(());
        }
        let missing = pool.total().saturating_sub(pool.available() + forgotten) as usize;
        if missing == 0 {
            return Ok(());
        }
        Err(PoolLeak { missing, total: pool.total() as usize, held: home.frames() })
    }

    /// Offers what waits to the device.
    #[inline]
    fn burst(&mut self) {
        if self.traits.watched && !self.device.shared.was_up() {
            self.stats.tx_dropped += self.waiting.clear() as u64;
            return;
        }
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
        // Where the probe looks after the link, the frames wait until it did.
        if !self.traits.watched && !self.link_up() {
            self.stats.tx_dropped += self.waiting.clear() as u64;
        }
    }

    /// A received buffer as a frame, unless it is one that a frame cannot be.
    #[inline]
    fn admit(
        home: &Rc<Home>,
        mbuf: Mbuf,
        stats: &mut PortStats,
        checksums: &mut ChecksumCounts,
    ) -> Option<DpdkFrame> {
        if !mbuf.is_plain() {
            stats.rx_refused += 1;
            mbuf.free();
            return None;
        }
        if home.verifies {
            match mbuf.checksums() {
                Checksums::Good => checksums.good += 1,
                Checksums::Bad => checksums.bad += 1,
                Checksums::Unknown => {}
            }
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
            // Of each frame by itself: a device does not look at all of them.
            rx_checksums_verified: false,
            tx_ipv4_checksum: self.device.shared.offloads().fills_ipv4(),
            tx_udp6_checksum: self.device.shared.offloads().fills_udp(),
            syscalls: self.traits.syscalls,
        }
    }

    #[inline]
    fn receive(&mut self, into: &mut FrameQueue<DpdkFrame>, max: usize) -> usize {
        let DpdkPort { home, waiting, device, usable, stats, checksums, .. } = self;
        let before = into.len();
        let mut left = max.min(usable.saturating_sub(home.frames() + waiting.len()));
        while left > 0 {
            let asked = left.min(BURST);
            let got = receive_burst(device, asked, |mbuf| {
                if let Some(frame) = DpdkPort::admit(home, mbuf, stats, checksums) {
                    into.push_back(frame);
                }
            });
            if got < asked {
                break;
            }
            left -= got;
        }
        if home.verifies {
            device.shared.publish(*checksums);
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
        if self.traits.reconnects && !self.link_up() {
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
