//! The port itself: headers on, headers off, bursts in and out.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use crate::headers::{
    Inbound, IpPair, Link, UdpHeaders, classify, finish_udp_frame, udp_headers_bytes,
};
use crate::pool::{MAX_FRAME, Pool, PoolFrame};
use crate::port::{BURST, Capabilities, Frame, FrameQueue, Peer, Port, PortStats};

use super::batch::{Batch, Outgoing, count_kernel_drops};
use super::error::SocketError;

/// Frames that wait until the kernel takes them.
const SEND_QUEUE: usize = 256;
/// What the kernel is asked to buffer each way, in bytes: some milliseconds of traffic.
const KERNEL_BUFFER_BYTES: usize = 8 << 20;

/// A port over one UDP socket, for a shard or a client.
///
/// The kernel is entered once for each receive and once for each burst that leaves. Datagrams wait in
/// the kernel while the pool is empty; what the kernel drops because its buffer is full is counted in
/// [`PortStats::rx_no_buffer`], as soon as a later datagram arrives. An error that concerns one
/// destination (unreachable, refused, too long for the path) drops the frame and never ends the port.
#[derive(Debug)]
pub struct SocketPort {
    socket: UdpSocket,
    local: SocketAddr,
    pool: Pool,
    batch: Batch,
    /// Empty frames that the next datagrams are received into.
    posted: VecDeque<PoolFrame>,
    leaving: VecDeque<Leaving>,
    stats: PortStats,
    /// The kernel is given neighbours to one destination as one, until it turns out that it cannot.
    grouping: bool,
    /// The kernel's count of drops when it was last heard of.
    kernel_drops: u32,
}

/// A frame that waits to be sent.
#[derive(Debug)]
struct Leaving {
    frame: PoolFrame,
    /// Where the UDP payload stands.
    payload: std::ops::Range<usize>,
    to: SocketAddr,
}

/// The kernel resolves, verifies and sums: headers of frames only name addresses.
const CAPABILITIES: Capabilities = Capabilities {
    ethernet: false,
    max_frame: MAX_FRAME,
    rx_checksums_verified: true,
    tx_ipv4_checksum: true,
    tx_udp6_checksum: true,
    syscalls: true,
};

/// How headers of received datagrams are written: the kernel verified the checksum of UDP over IPv6, so
/// none is made again.
const RECEIVED: Capabilities = Capabilities { tx_ipv4_checksum: false, ..CAPABILITIES };

/// What became of a burst.
enum Burst {
    /// Some datagrams left.
    Left(usize),
    /// The first one never will.
    Dropped,
    /// The kernel takes no more now.
    Full,
}

impl SocketPort {
    /// Binds a UDP socket to `address` and makes a pool of `frames` buffers. With port 0 the kernel
    /// chooses a port, see [`SocketPort::local_address`]. Bound to 0.0.0.0 or ::, received frames carry
    /// that as their destination address. A scope id goes with everything that is sent to link-local
    /// addresses. Bound to an IPv6 address it speaks IPv6 alone.
    ///
    /// # Errors
    /// The address cannot be bound: in use, not of this host, not allowed.
    pub fn bind(address: impl Into<SocketAddr>, frames: usize) -> Result<SocketPort, SocketError> {
        let address = address.into();
        let failed = |action| move |source| SocketError::Io { address, action, source };
        let socket = open(address).map_err(failed("bind"))?;
        ask_for_room(&socket);
        count_kernel_drops(socket.as_fd()).map_err(failed("have drops counted"))?;
        let mut local = socket.local_addr().map_err(failed("read its address"))?;
        if let (SocketAddr::V6(local), SocketAddr::V6(asked)) = (&mut local, address) {
            local.set_scope_id(asked.scope_id());
        }
        Ok(SocketPort {
            socket,
            local,
            pool: Pool::new(frames),
            batch: Batch::new(),
            posted: VecDeque::with_capacity(BURST),
            leaving: VecDeque::with_capacity(SEND_QUEUE),
            stats: PortStats::default(),
            grouping: true,
            kernel_drops: 0,
        })
    }

    /// The address that the socket is bound to, with the port that was chosen.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The scope id for datagrams to `ip`.
    fn scope_id(&self, ip: Ipv6Addr) -> u32 {
        match self.local {
            SocketAddr::V6(local) if ip.is_unicast_link_local() => local.scope_id(),
            _ => 0,
        }
    }

    /// Makes a frame of the datagram at this place that was received into `frame`; false if it is
    /// refused.
    #[inline]
    fn complete(&mut self, frame: &mut PoolFrame, at: usize) -> bool {
        let datagram = self.batch.datagram(at);
        if let Some(dropped) = datagram.dropped {
            self.stats.rx_no_buffer += u64::from(dropped.wrapping_sub(self.kernel_drops));
            self.kernel_drops = dropped;
        }
        let ips = datagram.from.and_then(|from| IpPair::new(from.ip(), self.local.ip()));
        let (Some(from), Some(ips), false) = (datagram.from, ips, datagram.truncated) else {
            self.stats.rx_refused += 1;
            return false;
        };
        let headers = UdpHeaders {
            link: Link { src_mac: [0; 6], dst_mac: [0; 6], vlan: None },
            ips,
            src_port: from.port(),
            dst_port: self.local.port(),
        };
        frame.set_len(headers.bytes() + datagram.len);
        finish_udp_frame(frame, &headers, datagram.len, &RECEIVED);
        frame.set_peer(Peer::WIRE);
        self.stats.rx_frames += 1;
        self.stats.rx_bytes += frame.bytes().len() as u64;
        true
    }

    /// Sends one burst of what waits.
    fn send_burst(&mut self) -> Burst {
        if self.grouping {
            match self.send_as(true) {
                Err(error) if !is_full(&error) && self.batch.first_was_group() => {
                    // Its datagrams are sent one by one, and where the kernel cannot cut
                    // them apart, all later ones too.
                    self.grouping = !matches!(
                        error.raw_os_error(),
                        Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP | libc::EMSGSIZE)
                    );
                }
                sent => return outcome(sent),
            }
        }
        outcome(self.send_as(false))
    }

    fn send_as(&mut self, grouped: bool) -> std::io::Result<usize> {
        let datagrams = self.leaving.iter().map(|leaving| Outgoing {
            payload: &leaving.frame.bytes()[leaving.payload.clone()],
            to: leaving.to,
        });
        self.batch.send(self.socket.as_fd(), datagrams, grouped)
    }
}

/// The kernel takes no more now; later it will.
fn is_full(error: &std::io::Error) -> bool {
    let later = [libc::EAGAIN, libc::ENOBUFS, libc::ENOMEM, libc::EINTR];
    error.raw_os_error().is_some_and(|number| later.contains(&number))
}

fn outcome(sent: std::io::Result<usize>) -> Burst {
    match sent {
        Ok(0) => Burst::Full,
        Ok(sent) => Burst::Left(sent),
        Err(error) if is_full(&error) => Burst::Full,
        Err(_) => Burst::Dropped,
    }
}

impl Port for SocketPort {
    type Frame = PoolFrame;

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn receive(&mut self, into: &mut FrameQueue<PoolFrame>, max: usize) -> usize {
        let max = max.min(BURST);
        while self.posted.len() < max {
            let Some(mut frame) = self.pool.take() else { break };
            frame.set_len(MAX_FRAME);
            self.posted.push_back(frame);
        }
        if max == 0 || self.posted.is_empty() {
            return 0;
        }
        let headers = udp_headers_bytes(&self.local.ip(), None);
        let rooms = self.posted.iter_mut().take(max).map(|f| &mut f.bytes_mut()[headers..]);
        // An error means that there is nothing, or that something sent earlier was not delivered.
        let Ok(arrived) = self.batch.receive(self.socket.as_fd(), rooms) else { return 0 };
        let mut got = 0;
        for at in 0..arrived {
            let Some(mut frame) = self.posted.pop_front() else { break };
            if self.complete(&mut frame, at) {
                into.push_back(frame);
                got += 1;
            }
        }
        got
    }

    fn send(&mut self, frame: PoolFrame) -> Result<(), PoolFrame> {
        let Ok(Inbound::Udp(udp)) = classify(frame.bytes(), false) else {
            // Only UDP can leave through a UDP socket.
            self.stats.tx_dropped += 1;
            return Ok(());
        };
        if self.leaving.len() == SEND_QUEUE {
            return Err(frame);
        }
        let to = match udp.dst_ip() {
            IpAddr::V6(ip) => SocketAddrV6::new(ip, udp.dst_port(), 0, self.scope_id(ip)).into(),
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, udp.dst_port()),
        };
        let payload = udp.payload_at()..udp.payload_at() + udp.payload().len();
        self.leaving.push_back(Leaving { frame, payload, to });
        Ok(())
    }

    fn flush(&mut self) {
        while !self.leaving.is_empty() {
            match self.send_burst() {
                Burst::Left(count) => {
                    for leaving in self.leaving.drain(..count) {
                        self.stats.tx_frames += 1;
                        self.stats.tx_bytes += leaving.frame.bytes().len() as u64;
                    }
                }
                Burst::Dropped => {
                    self.leaving.pop_front();
                    self.stats.tx_dropped += 1;
                }
                Burst::Full => return,
            }
        }
    }

    fn frame(&mut self) -> Option<PoolFrame> {
        let mut frame = self.pool.take().or_else(|| self.posted.pop_back())?;
        frame.set_len(0);
        Some(frame)
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn frames_out(&self) -> usize {
        self.pool.out() - self.posted.len()
    }
}

/// A socket bound to `address` that does not block.
fn open(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket.into())
}

/// Asks for large kernel buffers, over the system's limit if that is allowed. Whatever is given is
/// worked with: what the buffers cannot hold is dropped and counted.
fn ask_for_room(socket: &UdpSocket) {
    use sockopt::{
        set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_send_buffer_size,
    };
    if set_socket_recv_buffer_size_force(socket, KERNEL_BUFFER_BYTES).is_err() {
        let _ = set_socket_recv_buffer_size(socket, KERNEL_BUFFER_BYTES);
    }
    let _ = set_socket_send_buffer_size(socket, KERNEL_BUFFER_BYTES);
}
