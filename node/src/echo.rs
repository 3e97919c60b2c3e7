//! The echo: every frame goes back to where it came from. What it takes is the floor under the latency of
//! a shard on the same ports.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mstream_dataplane::Idle;
use mstream_nic::headers::{Inbound, arp_reply_in_place, classify, echo_reply_in_place};
use mstream_nic::port::BURST;
use mstream_nic::{Frame, FrameQueue, Port};
use tokio::sync::mpsc::UnboundedSender;

use crate::Failure;
use crate::ports::{Opened, PortUser};
use crate::shard::{Event, poll_until};

/// Sends frames back.
pub(crate) struct Echo {
    pub(crate) idle: Idle,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) events: UnboundedSender<Event>,
}

impl PortUser for Echo {
    fn use_ports<P: Port>(self, mut ports: Vec<P>, opened: Vec<Opened>) -> Result<Vec<P>, Failure> {
        let mut received = FrameQueue::with_capacity(BURST);
        let _ = self.events.send(Event::Polling);
        poll_until(&self.stop, self.idle, || {
            let mut work = 0;
            for (port, opened) in ports.iter_mut().zip(&opened) {
                work += port.receive(&mut received, BURST) as u64;
                while let Some(frame) = received.pop_front() {
                    if let Some(frame) = answer(frame, opened) {
                        // A peer that reads too slowly loses frames, as on any wire.
                        let _ = port.send(frame);
                    }
                }
                port.flush();
            }
            work
        });
        Ok(ports)
    }
}

/// The frame that goes back, if one does: unchanged where a frame goes to its peer by itself.
#[inline]
fn answer<F: Frame>(mut frame: F, opened: &Opened) -> Option<F> {
    if !opened.addressed {
        return Some(frame);
    }
    let address = &opened.address;
    match classify(frame.bytes(), false) {
        Ok(Inbound::Udp(_)) => swap_addresses(frame.bytes_mut()),
        Ok(Inbound::Arp(arp)) if arp.request && arp.target_ip == address.ip => {
            arp_reply_in_place(frame.bytes_mut(), address.mac);
        }
        Ok(Inbound::EchoRequest { dst_ip }) if dst_ip == address.ip => {
            echo_reply_in_place(frame.bytes_mut());
        }
        _ => return None,
    }
    Some(frame)
}

/// Swaps MAC addresses, IP addresses and UDP ports of a UDP frame. Both checksums stay right: they are sums.
#[inline]
fn swap_addresses(frame: &mut [u8]) {
    for (at, bytes) in [(0, 6), (26, 4), (34, 2)] {
        let Some(pair) = frame.get_mut(at..at + 2 * bytes) else { return };
        let (a, b) = pair.split_at_mut(bytes);
        a.swap_with_slice(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mstream_dataplane::PortAddress;
    use mstream_nic::headers::{UdpHeaders, emit_arp_request, emit_udp_headers};
    use mstream_nic::{Peer, Pool};

    const ADDRESS: PortAddress =
        PortAddress { mac: [2; 6], ip: [10, 0, 0, 1], ethernet: true, checksums_verified: false };
    const TAP: Opened = Opened { address: ADDRESS, addressed: true };
    const MEMIF: Opened = Opened { address: ADDRESS, addressed: false };

    const HEADERS: UdpHeaders = UdpHeaders {
        src_mac: [4; 6],
        dst_mac: [2; 6],
        src_ip: [10, 0, 0, 9],
        dst_ip: [10, 0, 0, 1],
        src_port: 4000,
        dst_port: 7500,
    };

    #[test]
    fn a_datagram_goes_back_with_addresses_swapped_and_checksums_right() {
        let pool = Pool::new(1);
        let mut frame = pool.take().expect("free");
        let mut bytes = vec![0; 42];
        bytes.extend_from_slice(b"hello");
        emit_udp_headers(&mut bytes, &HEADERS, 5);
        assert!(frame.fill(&bytes));
        let frame = answer(frame, &TAP).expect("an answer");
        let Ok(Inbound::Udp(udp)) = classify(frame.bytes(), true) else { panic!("not UDP") };
        assert_eq!((udp.src_mac(), udp.dst_mac()), ([2; 6], [4; 6]));
        assert_eq!((udp.src_ip(), udp.dst_ip()), ([10, 0, 0, 1], [10, 0, 0, 9]));
        assert_eq!((udp.src_port(), udp.dst_port()), (7500, 4000));
        assert_eq!(udp.payload(), b"hello");
    }

    #[test]
    fn a_memif_frame_goes_back_unchanged() {
        let pool = Pool::new(1);
        let mut frame = pool.take().expect("free");
        assert!(frame.fill(b"anything at all"));
        frame.set_peer(Peer(3));
        let frame = answer(frame, &MEMIF).expect("an answer");
        assert_eq!((frame.bytes(), frame.peer()), (&b"anything at all"[..], Peer(3)));
    }

    #[test]
    fn an_arp_request_for_the_port_is_answered_and_others_are_not() {
        let pool = Pool::new(1);
        for (asked, answered) in [([10, 0, 0, 1], true), ([10, 0, 0, 2], false)] {
            let mut frame = pool.take().expect("free");
            frame.set_len(60);
            emit_arp_request(frame.bytes_mut(), [4; 6], [10, 0, 0, 9], asked);
            assert_eq!(answer(frame, &TAP).is_some(), answered);
        }
    }
}
