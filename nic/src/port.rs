//! The port trait and the ownership rules of frames.

use std::collections::VecDeque;

/// The most frames that a caller should ask for in one burst.
pub const BURST: usize = 32;

/// A queue of owned frames in sending or arrival order. Callers reserve its capacity once.
pub type FrameQueue<F> = VecDeque<F>;

/// Names the other end of a port that has several (a memif port has one per connected process).
///
/// Never reused during the life of a port: a peer that comes back has another number. Ports with a
/// single wire use [`Peer::WIRE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peer(pub u32);

impl Peer {
    /// The one other end of a port that is a single wire.
    pub const WIRE: Peer = Peer(0);
}

/// A checksum that a port can fill in as a frame leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxChecksum {
    /// The IPv4 header's. The field holds 0 until then.
    Ipv4Header,
    /// UDP's over IPv6. The field holds the folded sum of the pseudo-header until then, not complemented.
    UdpOverIpv6,
}

/// What a frame asks of its port, see [`Frame::request_checksum`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumRequest {
    /// The checksum.
    pub what: TxChecksum,
    /// Bytes before the IP header: Ethernet, and a VLAN tag if there is one.
    pub l2_bytes: u8,
    /// Bytes of the IP header.
    pub l3_bytes: u8,
}

/// One Ethernet frame (no FCS) in a buffer that its holder owns alone.
///
/// Dropping a frame gives its buffer back to its pool.
pub trait Frame {
    /// The frame's bytes, starting with the destination MAC address.
    fn bytes(&self) -> &[u8];
    /// The frame's bytes, for writing.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// The largest length that [`Frame::set_len`] takes, in bytes.
    fn capacity(&self) -> usize;
    /// Changes the length in bytes. Bytes that a longer length uncovers are unspecified but initialised.
    ///
    /// # Panics
    /// If `len` is over [`Frame::capacity`]: a bug of the caller.
    fn set_len(&mut self, len: usize);
    /// Where the frame came from, or is to go to.
    fn peer(&self) -> Peer;
    /// Sets where the frame is to go to.
    fn set_peer(&mut self, peer: Peer);
    /// True when the device verified the IPv4 header's and the UDP checksum of this received frame. False
    /// where it did not look, or [`Capabilities::rx_checksums_verified`] speaks for all frames.
    #[inline]
    fn checksums_verified(&self) -> bool {
        false
    }
    /// Asks the port to fill in a checksum as the frame leaves. Called for a checksum that the port's
    /// [`Capabilities`] offer, once the frame is complete; a frame that nothing is asked for leaves as it is.
    #[inline]
    fn request_checksum(&mut self, _request: ChecksumRequest) {}
}

/// What a port does by itself; whatever is not stated, its user does in software.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Frames reach and leave a real Ethernet: addresses must be resolved by ARP. False where the
    /// kernel or a tunnel resolves them and the MAC addresses in a frame mean nothing.
    pub ethernet: bool,
    /// The largest frame in bytes, headers included, without FCS.
    pub max_frame: usize,
    /// The port verified the IPv4 header and UDP checksums of what it hands over.
    pub rx_checksums_verified: bool,
    /// The port fills in IPv4 header checksums that a frame asks for.
    pub tx_ipv4_checksum: bool,
    /// The port fills in checksums of UDP over IPv6 that a frame asks for. (UDP over IPv4 leaves without one.)
    pub tx_udp6_checksum: bool,
    /// Polling enters the kernel.
    pub syscalls: bool,
}

/// Counts since the port was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames handed over by `receive`.
    pub rx_frames: u64,
    /// Bytes of those frames.
    pub rx_bytes: u64,
    /// Frames that arrived and were dropped because no buffer was free.
    pub rx_no_buffer: u64,
    /// Frames or descriptors that the port refused (bad length, bad offset, too long, ...).
    pub rx_refused: u64,
    /// Frames that left.
    pub tx_frames: u64,
    /// Bytes of those frames.
    pub tx_bytes: u64,
    /// Frames that `send` took and dropped because they could never leave (peer gone, too long).
    pub tx_dropped: u64,
}

/// One receive queue and one transmit queue, polled by one thread.
///
/// After it was opened a port allocates nothing and takes no lock; unless [`Capabilities::syscalls`]
/// is set it makes no system call either.
pub trait Port {
    /// The frames this port hands over and takes.
    type Frame: Frame;

    /// What the port does by itself.
    fn capabilities(&self) -> Capabilities;

    /// Appends up to `max` received frames to `into`; returns how many. Never blocks.
    fn receive(&mut self, into: &mut FrameQueue<Self::Frame>, max: usize) -> usize;

    /// Takes one frame to send to [`Frame::peer`]. It leaves at the latest with the next
    /// [`Port::flush`].
    ///
    /// # Errors
    /// Gives the frame back when there is no room for that peer now; other peers are not affected. A
    /// frame that can never leave (peer gone, too long) is taken, dropped and counted in
    /// [`PortStats::tx_dropped`].
    fn send(&mut self, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Lets everything leave that [`Port::send`] took since the last call. Called once per poll.
    fn flush(&mut self);

    /// An empty frame to fill and send on this port, or `None` when the pool is exhausted.
    fn frame(&mut self) -> Option<Self::Frame>;

    /// Slow upkeep that may enter the kernel: notices a dead peer, connects again. For clients that have
    /// heard nothing for a while; a shard never calls it.
    fn maintain(&mut self) {}

    /// Counts since the port was opened.
    fn stats(&self) -> PortStats;

    /// Buffers of this port's pool that are not free: held by users of the port or waiting inside it.
    /// Zero once all frames were dropped or sent and everything sent has left.
    fn frames_out(&self) -> usize;
}
