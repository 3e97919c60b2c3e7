//! A port of any driver, for shards whose ports are not all of one.

use mstream_nic::memif::ServerPort;
use mstream_nic::port::BURST;
use mstream_nic::socket::SocketPort;
use mstream_nic::{
    Capabilities, ChecksumRequest, Frame, FrameQueue, Peer, PoolFrame, Port, PortStats,
};
use mstream_nic_dpdk::{DpdkFrame, DpdkPort};

/// A frame of any driver.
pub(crate) enum AnyFrame {
    /// Of a memif or socket port.
    Pool(PoolFrame),
    /// Of a DPDK port.
    Dpdk(DpdkFrame),
}

macro_rules! each {
    ($self:expr, $frame:ident => $what:expr) => {
        match $self {
            AnyFrame::Pool($frame) => $what,
            AnyFrame::Dpdk($frame) => $what,
        }
    };
}

impl Frame for AnyFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        each!(self, frame => frame.bytes())
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        each!(self, frame => frame.bytes_mut())
    }

    #[inline]
    fn capacity(&self) -> usize {
        each!(self, frame => frame.capacity())
    }

    #[inline]
    fn set_len(&mut self, len: usize) {
        each!(self, frame => frame.set_len(len));
    }

    #[inline]
    fn peer(&self) -> Peer {
        each!(self, frame => frame.peer())
    }

    #[inline]
    fn set_peer(&mut self, peer: Peer) {
        each!(self, frame => frame.set_peer(peer));
    }

    #[inline]
    fn checksums_verified(&self) -> bool {
        each!(self, frame => frame.checksums_verified())
    }

    #[inline]
    fn request_checksum(&mut self, request: ChecksumRequest) {
        each!(self, frame => frame.request_checksum(request));
    }
}

/// The port behind.
pub(crate) enum Inner {
    Memif(ServerPort),
    Socket(SocketPort),
    Dpdk(Box<DpdkPort>),
}

/// A port of any driver.
pub(crate) struct AnyPort {
    inner: Inner,
    pool_frames: FrameQueue<PoolFrame>,
    dpdk_frames: FrameQueue<DpdkFrame>,
    /// Frames of another driver that were to be sent: dropped, for they can never leave here.
    foreign: u64,
}

impl AnyPort {
    pub(crate) fn new(inner: Inner) -> AnyPort {
        AnyPort {
            inner,
            pool_frames: FrameQueue::with_capacity(BURST),
            dpdk_frames: FrameQueue::with_capacity(BURST),
            foreign: 0,
        }
    }

    pub(crate) fn into_inner(self) -> Inner {
        self.inner
    }
}

macro_rules! each_port {
    ($self:expr, $port:ident => $what:expr) => {
        match $self {
            Inner::Memif($port) => $what,
            Inner::Socket($port) => $what,
            Inner::Dpdk($port) => $what,
        }
    };
}

impl Port for AnyPort {
    type Frame = AnyFrame;

    fn capabilities(&self) -> Capabilities {
        each_port!(&self.inner, port => port.capabilities())
    }

    #[inline]
    fn receive(&mut self, into: &mut FrameQueue<AnyFrame>, max: usize) -> usize {
        // The queues between must not grow.
        let max = max.min(BURST);
        let got = match &mut self.inner {
            Inner::Memif(port) => port.receive(&mut self.pool_frames, max),
            Inner::Socket(port) => port.receive(&mut self.pool_frames, max),
            Inner::Dpdk(port) => port.receive(&mut self.dpdk_frames, max),
        };
        into.extend(self.pool_frames.drain(..).map(AnyFrame::Pool));
        into.extend(self.dpdk_frames.drain(..).map(AnyFrame::Dpdk));
        got
    }

    #[inline]
    fn send(&mut self, frame: AnyFrame) -> Result<(), AnyFrame> {
        match (&mut self.inner, frame) {
            (Inner::Memif(port), AnyFrame::Pool(frame)) => port.send(frame).map_err(AnyFrame::Pool),
            (Inner::Socket(port), AnyFrame::Pool(frame)) => {
                port.send(frame).map_err(AnyFrame::Pool)
            }
            (Inner::Dpdk(port), AnyFrame::Dpdk(frame)) => port.send(frame).map_err(AnyFrame::Dpdk),
            (Inner::Memif(_) | Inner::Socket(_), AnyFrame::Dpdk(_))
            | (Inner::Dpdk(_), AnyFrame::Pool(_)) => {
                self.foreign += 1;
                Ok(())
            }
        }
    }

    #[inline]
    fn flush(&mut self) {
        each_port!(&mut self.inner, port => port.flush());
    }

    #[inline]
    fn frame(&mut self) -> Option<AnyFrame> {
        match &mut self.inner {
            Inner::Memif(port) => port.frame().map(AnyFrame::Pool),
            Inner::Socket(port) => port.frame().map(AnyFrame::Pool),
            Inner::Dpdk(port) => port.frame().map(AnyFrame::Dpdk),
        }
    }

    fn stats(&self) -> PortStats {
        let stats = each_port!(&self.inner, port => port.stats());
        PortStats { tx_dropped: stats.tx_dropped + self.foreign, ..stats }
    }

    fn frames_out(&self) -> usize {
        each_port!(&self.inner, port => port.frames_out())
    }
}
