//! The echo: every frame goes back to where it came from. What it takes is the floor under the latency of
//! a shard on the same ports.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mstream_dataplane::{Idle, PortAddress};
use mstream_nic::headers::{
    Inbound, IpPair, NEIGHBOUR_BYTES, VLAN_TAG_BYTES, arp_reply_in_place, classify,
    echo_reply_in_place, emit_advertisement,
};
use mstream_nic::port::BURST;
use mstream_nic::{Frame, FrameQueue, Port};
use tokio::sync::mpsc::UnboundedSender;

use crate::Failure;
use crate::ports::{Opened, PortUser};
use crate::shard::{Event, poll_until};

/// Bytes of a UDP header.
const UDP_BYTES: usize = 8;

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
        Ok(Inbound::Udp(udp)) => {
            let at = udp.payload_at();
            let ips = match udp.headers().ips {
                IpPair::V4 { .. } => (at - UDP_BYTES - 8, 4),
                IpPair::V6 { .. } => (at - UDP_BYTES - 32, 16),
            };
            swap_addresses(frame.bytes_mut(), [(0, 6), ips, (at - UDP_BYTES, 2)]);
        }
        Ok(Inbound::Arp(arp)) if arp.request && address.ip == Some(arp.target_ip) => {
            arp_reply_in_place(frame.bytes_mut(), address.mac);
        }
        Ok(Inbound::Solicitation(asked)) if address.ip6 == Some(asked.target) => {
            frame.set_len(NEIGHBOUR_BYTES + VLAN_TAG_BYTES);
            let bytes = emit_advertisement(frame.bytes_mut(), address.mac, &asked);
            frame.set_len(bytes);
        }
        Ok(Inbound::EchoRequest(echo)) if is_ours(address, echo.ips.dst()) => {
            echo_reply_in_place(frame.bytes_mut());
        }
        _ => return None,
    }
    Some(frame)
}

fn is_ours(address: &PortAddress, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => address.ip == Some(ip),
        IpAddr::V6(ip) => address.ip6 == Some(ip),
    }
}

/// Swaps what lies in pairs at these places, of these many bytes each: MAC addresses, IP addresses and UDP
/// ports of a UDP frame. All checksums stay right: they are sums.
#[inline]
fn swap_addresses(frame: &mut [u8], pairs: [(usize, usize); 3]) {
    for (at, bytes) in pairs {
        let Some(pair) = frame.get_mut(at..at + 2 * bytes) else { return };
        let (a, b) = pair.split_at_mut(bytes);
        a.swap_with_slice(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use mstream_nic::headers::{
        Link, UdpHeaders, emit_arp_request, emit_solicitation, emit_udp_headers,
    };
    use mstream_nic::{Capabilities, Peer, Pool};

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const ADDRESS: PortAddress = PortAddress {
        mac: [2; 6],
        ip: Some(IP),
        ip6: Some(IP6),
        vlan: None,
        capabilities: Capabilities {
            ethernet: true,
            max_frame: 2000,
            rx_checksums_verified: false,
            tx_ipv4_checksum: false,
            tx_udp6_checksum: false,
            syscalls: true,
        },
    };
    const TAP: Opened = Opened { address: ADDRESS, addressed: true };
    const MEMIF: Opened = Opened { address: ADDRESS, addressed: false };

    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);

    #[test]
    fn a_datagram_goes_back_with_addresses_swapped_and_checksums_right() {
        let pool = Pool::new(1);
        let families = [IpPair::V4 { src: PEER, dst: IP }, IpPair::V6 { src: PEER6, dst: IP6 }];
        for (ips, vlan) in families.into_iter().flat_map(|ips| [(ips, None), (ips, Some(7))]) {
            let link = Link { src_mac: [4; 6], dst_mac: [2; 6], vlan };
            let headers = UdpHeaders { link, ips, src_port: 4000, dst_port: 7500 };
            let mut frame = pool.take().expect("free");
            let mut bytes = vec![0; headers.bytes()];
            bytes.extend_from_slice(b"hello");
            emit_udp_headers(&mut bytes, &headers, 5);
            assert!(frame.fill(&bytes));
            let frame = answer(frame, &TAP).expect("an answer");
            let Ok(Inbound::Udp(udp)) = classify(frame.bytes(), true) else { panic!("not UDP") };
            assert_eq!(*udp.headers(), headers.swapped());
            assert_eq!(udp.payload(), b"hello");
        }
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
    fn questions_for_the_port_are_answered_and_others_are_not() {
        let pool = Pool::new(1);
        for (asked, asked6, answered) in [(IP, IP6, true), (PEER, PEER6, false)] {
            let mut frame = pool.take().expect("free");
            frame.set_len(60);
            emit_arp_request(frame.bytes_mut(), [4; 6], None, PEER, asked);
            assert_eq!(answer(frame, &TAP).is_some(), answered);
            let mut frame = pool.take().expect("free");
            frame.set_len(NEIGHBOUR_BYTES);
            emit_solicitation(frame.bytes_mut(), [4; 6], None, PEER6, asked6);
            let answer = answer(frame, &TAP);
            assert_eq!(answer.is_some(), answered);
            if let Some(frame) = answer {
                let told = classify(frame.bytes(), true);
                assert!(matches!(told, Ok(Inbound::Advertisement(told)) if told.target == IP6));
            }
        }
    }
}
