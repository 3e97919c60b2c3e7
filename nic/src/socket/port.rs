//! The port itself: headers on, headers off, bursts in and out.

use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

use crate::headers::{Inbound, UDP_HEADERS_BYTES, UdpHeaders, classify, emit_udp_headers};
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
    local: SocketAddrV4,
    pool: Pool,
    batch: Batch,
    /// Empty frames that the next datagrams are received into.
    posted: VecDeque<PoolFrame>,
    leaving: VecDeque<Leaving>,
    stats: PortStats,
    /// The kernel's count of drops when it was last heard of.
    kernel_drops: u32,
}

/// A frame that waits to be sent.
#[derive(Debug)]
struct Leaving {
    frame: PoolFrame,
    /// Bytes of UDP payload.
    payload: usize,
    to: SocketAddrV4,
}

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
    /// chooses a port, see [`SocketPort::local_address`]. Bound to 0.0.0.0, received frames carry that
    /// as their destination address.
    ///
    /// # Errors
    /// The address cannot be bound: in use, not of this host, not allowed.
    pub fn bind(address: SocketAddrV4, frames: usize) -> Result<SocketPort, SocketError> {
        let failed = |action| move |source| SocketError::Io { address, action, source };
        let socket = UdpSocket::bind(address).map_err(failed("bind"))?;
        socket.set_nonblocking(true).map_err(failed("make it non-blocking"))?;
        ask_for_room(&socket);
        count_kernel_drops(socket.as_fd()).map_err(failed("have drops counted"))?;
        let local = match socket.local_addr().map_err(failed("read its address"))? {
            SocketAddr::V4(local) => local,
            SocketAddr::V6(_) => address,
        };
        Ok(SocketPort {
            socket,
            local,
            pool: Pool::new(frames),
            batch: Batch::new(),
            posted: VecDeque::with_capacity(BURST),
            leaving: VecDeque::with_capacity(SEND_QUEUE),
            stats: PortStats::default(),
            kernel_drops: 0,
        })
    }

    /// The address that the socket is bound to, with the port that was chosen.
    pub fn local_address(&self) -> SocketAddrV4 {
        self.local
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
        if datagram.truncated {
            self.stats.rx_refused += 1;
            return false;
        }
        frame.set_len(UDP_HEADERS_BYTES + datagram.len);
        let headers = UdpHeaders {
            src_mac: [0; 6],
            dst_mac: [0; 6],
            src_ip: datagram.from.ip().octets(),
            dst_ip: self.local.ip().octets(),
            src_port: datagram.from.port(),
            dst_port: self.local.port(),
        };
        emit_udp_headers(frame.bytes_mut(), &headers, datagram.len);
        frame.set_peer(Peer::WIRE);
        self.stats.rx_frames += 1;
        self.stats.rx_bytes += frame.bytes().len() as u64;
        true
    }

    /// Sends one burst of what waits.
    fn send_burst(&mut self) -> Burst {
        let datagrams = self.leaving.iter().map(|leaving| Outgoing {
            payload: &leaving.frame.bytes()[UDP_HEADERS_BYTES..][..leaving.payload],
            to: leaving.to,
        });
        let sent = self.batch.send(self.socket.as_fd(), datagrams);
        match sent {
            Ok(0) => Burst::Full,
            Ok(sent) => Burst::Left(sent),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR) => Burst::Full,
                _ => Burst::Dropped,
            },
        }
    }
}

impl Port for SocketPort {
    type Frame = PoolFrame;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ethernet: false,
            max_frame: MAX_FRAME,
            rx_checksums_verified: true,
            syscalls: true,
            ..Capabilities::default()
        }
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
        let rooms =
            self.posted.iter_mut().take(max).map(|f| &mut f.bytes_mut()[UDP_HEADERS_BYTES..]);
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
        let to = SocketAddrV4::new(udp.dst_ip().into(), udp.dst_port());
        let payload = udp.payload().len();
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

/// Asks for large kernel buffers, over the system's limit if that is allowed. Whatever is given is
/// worked with: what the buffers cannot hold is dropped and counted.
fn ask_for_room(socket: &UdpSocket) {
    use rustix::net::sockopt::{
        set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_send_buffer_size,
    };
    if set_socket_recv_buffer_size_force(socket, KERNEL_BUFFER_BYTES).is_err() {
        let _ = set_socket_recv_buffer_size(socket, KERNEL_BUFFER_BYTES);
    }
    let _ = set_socket_send_buffer_size(socket, KERNEL_BUFFER_BYTES);
}
