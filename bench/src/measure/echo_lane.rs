//! The lane that measures the floor: frames of the same length through the same kind of port, sent back by
//! `mstreamd --echo`.

use std::net::SocketAddrV4;

use mstream_nic::headers::{IpPair, Link, UDP_HEADERS_BYTES, UdpHeaders, emit_udp_headers};
use mstream_nic::port::BURST;
use mstream_nic::{Frame, FrameQueue, Port};

use super::lane::Lane;

/// Bytes of a datagram in front of its one block: its header and that of the frame in it.
const PROTOCOL_BYTES: usize = 64;
const NUMBER_AT: usize = UDP_HEADERS_BYTES;

/// The lane.
pub(crate) struct EchoLane<P: Port> {
    port: P,
    frame: Vec<u8>,
    came: FrameQueue<P::Frame>,
}

impl<P: Port> EchoLane<P> {
    /// Frames from `local` to `echo` as long as those of datagrams with a block of `block` bytes.
    pub(crate) fn new(
        port: P,
        local: SocketAddrV4,
        echo: SocketAddrV4,
        block: usize,
    ) -> EchoLane<P> {
        let payload = PROTOCOL_BYTES + block;
        let mut frame = vec![0x5a; UDP_HEADERS_BYTES + payload];
        let headers = UdpHeaders {
            link: Link {
                src_mac: [0x02, 0, 0, 0, 0, 2],
                dst_mac: [0x02, 0, 0, 0, 0, 1],
                vlan: None,
            },
            ips: IpPair::V4 { src: *local.ip(), dst: *echo.ip() },
            src_port: local.port(),
            dst_port: echo.port(),
        };
        emit_udp_headers(&mut frame, &headers, payload);
        EchoLane { port, frame, came: FrameQueue::with_capacity(BURST) }
    }
}

impl<P: Port> Lane for EchoLane<P> {
    /// Nobody sends again here. A port that loses frames (UDP) lost them by then.
    const GIVES_UP_NS: Option<u64> = Some(1_000_000_000);

    #[inline]
    fn send(&mut self, first: u64, count: u16) -> u16 {
        let Some(mut frame) = self.port.frame() else { return 0 };
        frame.set_len(self.frame.len());
        frame.bytes_mut().copy_from_slice(&self.frame);
        let last = first + u64::from(count) - 1;
        frame.bytes_mut()[NUMBER_AT..NUMBER_AT + 8].copy_from_slice(&last.to_le_bytes());
        if self.port.send(frame).is_err() {
            return 0;
        }
        count
    }

    #[inline]
    fn flush(&mut self) {
        self.port.flush();
    }

    #[inline]
    fn poll(&mut self, _now_ns: u64, mut on: impl FnMut(u64)) -> usize {
        self.port.receive(&mut self.came, BURST);
        let mut answers = 0;
        for frame in self.came.drain(..) {
            let bytes = frame.bytes();
            // Frames of other programs may be on the same wire.
            if bytes.len() == self.frame.len()
                && let Some(number) = bytes[NUMBER_AT..].first_chunk()
            {
                answers += 1;
                on(u64::from_le_bytes(*number));
            }
        }
        answers
    }

    fn trouble(&self) -> Option<&str> {
        None
    }
}
