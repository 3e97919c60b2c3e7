//! One client's way to one shard: addresses, ARP and neighbour discovery, and datagrams in frames of a port.

use std::ops::Range;

use mstream_nic::headers::{
    ARP_BYTES, Inbound, IpPair, Link as Ends, NEIGHBOUR_BYTES, Solicitation, UdpFrame, UdpHeaders,
    VLAN_TAG_BYTES, arp_reply_in_place, classify, emit_advertisement, emit_arp_request,
    emit_solicitation, finish_udp_frame,
};
use mstream_nic::port::BURST;
use mstream_nic::{Capabilities, Frame, FrameQueue, Port};
use mstream_wire::{DatagramHeader, DatagramWriter, MAX_UNSEALED_BYTES};

use crate::backoff::Backoff;

/// Bytes of a question for a MAC address in either family.
const QUESTION_BYTES: usize =
    if ARP_BYTES > NEIGHBOUR_BYTES { ARP_BYTES } else { NEIGHBOUR_BYTES } + VLAN_TAG_BYTES;

/// The addresses of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// This client's MAC address; not looked at on ports that are no Ethernet.
    pub mac: [u8; 6],
    /// VLAN that both are on, 1 to 4094; `None`: frames have no tag.
    pub vlan: Option<u16>,
    /// This client's IP address and the shard's, as source and destination.
    pub ips: IpPair,
    /// This client's UDP port.
    pub udp_port: u16,
    /// The shard's UDP port.
    pub shard_udp_port: u16,
}

/// Frames that were not for this client, or not sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Frames with wrong headers or for somebody else.
    pub foreign: u64,
    /// Datagrams that are no datagrams of the protocol.
    pub malformed: u64,
    /// Datagrams of no session of this client.
    pub unknown_session: u64,
    /// Frames that the port had no room or buffer for; what they said is said again.
    pub port_full: u64,
}

/// A port with addresses.
pub(crate) struct Link<P: Port> {
    pub(crate) port: P,
    /// Of frames to the shard. Its MAC address is meant once it is known.
    headers: UdpHeaders,
    shard_known: bool,
    capabilities: Capabilities,
    resolving: Backoff,
    received: FrameQueue<P::Frame>,
    pub(crate) counters: LinkCounters,
}

impl<P: Port> Link<P> {
    pub(crate) fn new(port: P, addresses: Addresses) -> Link<P> {
        let capabilities = port.capabilities();
        let Addresses { mac, vlan, ips, udp_port, shard_udp_port } = addresses;
        Link {
            port,
            headers: UdpHeaders {
                link: Ends { src_mac: mac, dst_mac: [0; 6], vlan },
                ips,
                src_port: udp_port,
                dst_port: shard_udp_port,
            },
            shard_known: !capabilities.ethernet,
            capabilities,
            resolving: Backoff::new(100_000_000, 2_000_000_000),
            received: FrameQueue::with_capacity(BURST),
            counters: LinkCounters::default(),
        }
    }

    /// True when datagrams can be sent. Called while a session is set up: asks for the shard's MAC
    /// address, also when one is known, for the shard may have moved to another machine.
    pub(crate) fn ready(&mut self, now_ns: u64) -> bool {
        if self.capabilities.ethernet
            && self.resolving.due(now_ns)
            && let Some(mut frame) = self.port.frame()
        {
            frame.set_len(QUESTION_BYTES);
            let Ends { src_mac, vlan, .. } = self.headers.link;
            let bytes = match self.headers.ips {
                IpPair::V4 { src, dst } => {
                    emit_arp_request(frame.bytes_mut(), src_mac, vlan, src, dst)
                }
                IpPair::V6 { src, dst } => {
                    emit_solicitation(frame.bytes_mut(), src_mac, vlan, src, dst)
                }
            };
            frame.set_len(bytes);
            if self.port.send(frame).is_err() {
                self.counters.port_full += 1;
            }
        }
        self.shard_known
    }

    /// Takes a burst from the port; returns how many frames came.
    #[inline]
    pub(crate) fn receive(&mut self) -> usize {
        self.port.receive(&mut self.received, BURST)
    }

    /// The next received frame that holds a UDP payload for this client, and where the payload stands.
    /// ARP and neighbour discovery are dealt with here.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(P::Frame, Range<usize>)> {
        while let Some(frame) = self.received.pop_front() {
            let verified = self.capabilities.rx_checksums_verified || frame.checksums_verified();
            match classify(frame.bytes(), !verified) {
                Ok(Inbound::Udp(udp)) if self.is_ours(&udp) => {
                    let payload = udp.payload_at()..udp.payload_at() + udp.payload().len();
                    return Some((frame, payload));
                }
                Ok(Inbound::Udp(_)) | Err(_) => self.counters.foreign += 1,
                Ok(inbound) => {
                    let ours =
                        self.capabilities.ethernet && inbound.link().vlan == self.headers.link.vlan;
                    let what = if ours { self.neighbour(&inbound) } else { Neighbour::Foreign };
                    self.answer(frame, what);
                }
            }
        }
        None
    }

    /// Learns from what a neighbour says; what is to be done about it.
    fn neighbour(&mut self, inbound: &Inbound<'_>) -> Neighbour {
        let mut learnt = None;
        let what = match (inbound, self.headers.ips) {
            (Inbound::Arp(arp), IpPair::V4 { src, dst }) => {
                learnt = (arp.sender_ip == dst).then_some(arp.sender_mac);
                if arp.request && arp.target_ip == src { Neighbour::Arp } else { Neighbour::Heard }
            }
            (Inbound::Advertisement(told), IpPair::V6 { dst, .. }) => {
                learnt = told.target_mac.filter(|_| told.target == dst);
                Neighbour::Heard
            }
            (Inbound::Solicitation(asked), IpPair::V6 { src, .. }) if asked.target == src => {
                Neighbour::Solicitation(*asked)
            }
            (Inbound::Solicitation(_), IpPair::V6 { .. }) => Neighbour::Heard,
            _ => Neighbour::Foreign,
        };
        if let Some(mac) = learnt {
            (self.headers.link.dst_mac, self.shard_known) = (mac, true);
        }
        what
    }

    fn answer(&mut self, mut frame: P::Frame, what: Neighbour) {
        let mac = self.headers.link.src_mac;
        match what {
            Neighbour::Foreign => self.counters.foreign += 1,
            Neighbour::Heard => {}
            Neighbour::Arp => {
                arp_reply_in_place(frame.bytes_mut(), mac);
                // A port without room: whoever asked asks again.
                let _ = self.port.send(frame);
            }
            Neighbour::Solicitation(asked) => {
                frame.set_len(QUESTION_BYTES);
                let bytes = emit_advertisement(frame.bytes_mut(), mac, &asked);
                frame.set_len(bytes);
                let _ = self.port.send(frame);
            }
        }
    }

    #[inline]
    fn is_ours(&self, udp: &UdpFrame<'_>) -> bool {
        let UdpHeaders { link, ips, src_port, dst_port } = &self.headers;
        let mine = || {
            let Ends { dst_mac, vlan, .. } = *udp.link();
            udp.dst_ip() == ips.src() && dst_mac == link.src_mac && vlan == link.vlan
        };
        udp.src_ip() == ips.dst()
            && udp.src_port() == *dst_port
            && udp.dst_port() == *src_port
            && (!self.capabilities.ethernet || mine())
    }

    /// Sends one datagram with the frames that `fill` adds; false when the port has no room, or nothing
    /// was added.
    #[inline]
    pub(crate) fn send(
        &mut self,
        header: &DatagramHeader,
        fill: impl FnOnce(&mut DatagramWriter<'_>),
    ) -> bool {
        if !self.shard_known {
            return false;
        }
        let Some(mut frame) = self.port.frame() else {
            self.counters.port_full += 1;
            return false;
        };
        let header_bytes = self.headers.bytes();
        frame.set_len(frame.capacity().min(header_bytes + MAX_UNSEALED_BYTES));
        let Some(room) = frame.bytes_mut().get_mut(header_bytes..) else { return false };
        let Some(mut writer) = DatagramWriter::new(room, header) else { return false };
        fill(&mut writer);
        if writer.is_empty() {
            return false;
        }
        let bytes = writer.finish();
        frame.set_len(header_bytes + bytes);
        finish_udp_frame(&mut frame, &self.headers, bytes, &self.capabilities);
        if self.port.send(frame).is_err() {
            self.counters.port_full += 1;
            return false;
        }
        true
    }
}

/// What is to be done about a frame of a neighbour.
enum Neighbour {
    /// Nothing: it is for somebody else.
    Foreign,
    /// Nothing more.
    Heard,
    /// It asks for this client's MAC address.
    Arp,
    Solicitation(Solicitation),
}
