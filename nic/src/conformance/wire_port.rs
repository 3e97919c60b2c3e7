//! A port over anything that takes and gives whole frames.

use std::io;

use crate::pool::{MAX_FRAME, Pool, PoolFrame};
use crate::port::{Capabilities, Frame, FrameQueue, Port, PortStats};

/// The foreign end of a port under test: whole Ethernet frames in and out, without blocking.
pub trait Wire {
    /// Sends one frame.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room now; anything else drops the frame.
    fn send(&mut self, frame: &[u8]) -> io::Result<()>;

    /// Receives one frame into `into`, which has room for [`MAX_FRAME`] bytes; returns its length.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none now; anything else counts as a refused frame.
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;
}

/// A port over a [`Wire`], one call for each frame.
#[derive(Debug)]
pub struct WirePort<W> {
    wire: W,
    pool: Pool,
    stats: PortStats,
}

impl<W: Wire> WirePort<W> {
    /// A port over `wire` with a pool of `frames` buffers.
    pub fn new(wire: W, frames: usize) -> WirePort<W> {
        WirePort { wire, pool: Pool::new(frames), stats: PortStats::default() }
    }

    /// The wire.
    pub fn wire(&mut self) -> &mut W {
        &mut self.wire
    }
}

impl<W: Wire> Port for WirePort<W> {
    type Frame = PoolFrame;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ethernet: true,
            max_frame: MAX_FRAME,
            syscalls: true,
            ..Capabilities::default()
        }
    }

    fn receive(&mut self, into: &mut FrameQueue<PoolFrame>, max: usize) -> usize {
        for got in 0..max {
            let Some(mut frame) = self.pool.take() else { return got };
            frame.set_len(MAX_FRAME);
            match self.wire.receive(frame.bytes_mut()) {
                Ok(len) => {
                    frame.set_len(len);
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += len as u64;
                    into.push_back(frame);
                }
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.stats.rx_refused += 1;
                    }
                    return got;
                }
            }
        }
        max
    }

    fn send(&mut self, frame: PoolFrame) -> Result<(), PoolFrame> {
        match self.wire.send(frame.bytes()) {
            Ok(()) => {
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += frame.bytes().len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(frame),
            Err(_) => {
                self.stats.tx_dropped += 1;
                Ok(())
            }
        }
    }

    fn flush(&mut self) {}

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
