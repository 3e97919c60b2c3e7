//! A port of a simulated network.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::pool::{MAX_FRAME, Pool, PoolFrame};
use crate::port::{Capabilities, Frame, FrameQueue, Peer, Port, PortStats};

use super::network::Network;
use super::{Endpoint, SEND_QUEUE};

/// A port of a [`SimNet`](super::SimNet); leaves the network when it is dropped.
///
/// Up to [`SEND_QUEUE`] frames wait for the next flush. Arrived frames wait while the pool is empty.
/// Its only peer is [`Peer::WIRE`]; who gets a frame is a matter of its destination address.
#[derive(Debug)]
pub struct SimPort {
    network: Rc<RefCell<Network>>,
    endpoint: Endpoint,
    pool: Pool,
    leaving: VecDeque<PoolFrame>,
    stats: PortStats,
}

impl SimPort {
    pub(super) fn new(network: Rc<RefCell<Network>>, endpoint: Endpoint, frames: usize) -> SimPort {
        SimPort {
            network,
            endpoint,
            pool: Pool::growing(frames),
            leaving: VecDeque::new(),
            stats: PortStats::default(),
        }
    }

    /// The port's name in its network.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// A buffer, unless all are out but those that are withheld.
    fn take(&self, withheld: usize) -> Option<PoolFrame> {
        if self.pool.out() + withheld >= self.pool.total() { None } else { self.pool.take() }
    }
}

impl Port for SimPort {
    type Frame = PoolFrame;

    fn capabilities(&self) -> Capabilities {
        Capabilities { ethernet: true, max_frame: MAX_FRAME, ..Capabilities::default() }
    }

    fn receive(&mut self, into: &mut FrameQueue<PoolFrame>, max: usize) -> usize {
        let mut network = self.network.borrow_mut();
        let withheld = network.withheld(self.endpoint);
        let max = max.min(network.burst(self.endpoint));
        for got in 0..max {
            if !network.has_arrived(self.endpoint) {
                return got;
            }
            let Some(mut frame) = self.take(withheld) else { return got };
            network.receive(self.endpoint, &mut frame);
            frame.set_peer(Peer::WIRE);
            self.stats.rx_frames += 1;
            self.stats.rx_bytes += frame.bytes().len() as u64;
            into.push_back(frame);
        }
        max
    }

    fn send(&mut self, frame: PoolFrame) -> Result<(), PoolFrame> {
        if self.leaving.len() == SEND_QUEUE {
            return Err(frame);
        }
        self.leaving.push_back(frame);
        Ok(())
    }

    fn flush(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let mut network = self.network.borrow_mut();
        for frame in self.leaving.drain(..) {
            network.send(self.endpoint, frame.bytes());
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += frame.bytes().len() as u64;
        }
    }

    fn frame(&mut self) -> Option<PoolFrame> {
        let withheld = self.network.borrow().withheld(self.endpoint);
        self.take(withheld)
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn frames_out(&self) -> usize {
        self.pool.out()
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        self.network.borrow_mut().detach(self.endpoint);
    }
}
