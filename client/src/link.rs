//! One client's way to one shard: addresses, ARP, and datagrams in frames of a port.

use std::ops::Range;

use mstream_nic::headers::{
    ARP_BYTES, Inbound, UDP_HEADERS_BYTES, UdpFrame, UdpHeaders, arp_reply_in_place, classify,
    emit_arp_request, emit_udp_headers,
};
use mstream_nic::port::BURST;
use mstream_nic::{Frame, FrameQueue, Port};
use mstream_wire::{DatagramHeader, DatagramWriter, MAX_UNSEALED_BYTES};

use crate::backoff::Backoff;

/// The addresses of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// This client's MAC address; not looked at on ports that are no Ethernet.
    pub mac: [u8; 6],
    /// This client's IPv4 address.
    pub ip: [u8; 4],
    /// This client's UDP port.
    pub udp_port: u16,
    /// The shard's IPv4 address.
    pub shard_ip: [u8; 4],
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
    addresses: Addresses,
    shard_mac: Option<[u8; 6]>,
    ethernet: bool,
    verify: bool,
    arp: Backoff,
    received: FrameQueue<P::Frame>,
    pub(crate) counters: LinkCounters,
}

impl<P: Port> Link<P> {
    pub(crate) fn new(port: P, addresses: Addresses) -> Link<P> {
        let capabilities = port.capabilities();
        Link {
            port,
            addresses,
            shard_mac: (!capabilities.ethernet).then_some([0; 6]),
            ethernet: capabilities.ethernet,
            verify: !capabilities.rx_checksums_verified,
            arp: Backoff::new(100_000_000, 2_000_000_000),
            received: FrameQueue::with_capacity(BURST),
            counters: LinkCounters::default(),
        }
    }

    /// True when datagrams can be sent. Called while a session is set up: asks for the shard's MAC
    /// address, also when one is known, for the shard may have moved to another machine.
    pub(crate) fn ready(&mut self, now_ns: u64) -> bool {
        if self.ethernet
            && self.arp.due(now_ns)
            && let Some(mut frame) = self.port.frame()
        {
            frame.set_len(ARP_BYTES);
            let Addresses { mac, ip, shard_ip, .. } = self.addresses;
            emit_arp_request(frame.bytes_mut(), mac, ip, shard_ip);
            if self.port.send(frame).is_err() {
                self.counters.port_full += 1;
            }
        }
        self.shard_mac.is_some()
    }

    /// Takes a burst from the port; returns how many frames came.
    #[inline]
    pub(crate) fn receive(&mut self) -> usize {
        self.port.receive(&mut self.received, BURST)
    }

    /// The next received frame that holds a UDP payload for this client, and where the payload stands.
    /// ARP is dealt with here.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(P::Frame, Range<usize>)> {
        while let Some(frame) = self.received.pop_front() {
            match classify(frame.bytes(), self.verify) {
                Ok(Inbound::Udp(udp)) if self.is_ours(&udp) => {
                    let payload = UDP_HEADERS_BYTES..UDP_HEADERS_BYTES + udp.payload().len();
                    return Some((frame, payload));
                }
                Ok(Inbound::Arp(arp)) if self.ethernet => {
                    if arp.sender_ip == self.addresses.shard_ip {
                        self.shard_mac = Some(arp.sender_mac);
                    }
                    if arp.request && arp.target_ip == self.addresses.ip {
                        let mut frame = frame;
                        arp_reply_in_place(frame.bytes_mut(), self.addresses.mac);
                        // A port without room: whoever asked asks again.
                        let _ = self.port.send(frame);
                    }
                }
                _ => self.counters.foreign += 1,
            }
        }
        None
    }

    #[inline]
    fn is_ours(&self, udp: &UdpFrame<'_>) -> bool {
        let Addresses { mac, ip, udp_port, shard_ip, shard_udp_port } = self.addresses;
        udp.src_ip() == shard_ip
            && udp.src_port() == shard_udp_port
            && udp.dst_port() == udp_port
            && (!self.ethernet || (udp.dst_ip() == ip && udp.dst_mac() == mac))
    }

    /// Sends one datagram with the frames that `fill` adds; false when the port has no room, or nothing
    /// was added.
    #[inline]
    pub(crate) fn send(
        &mut self,
        header: &DatagramHeader,
        fill: impl FnOnce(&mut DatagramWriter<'_>),
    ) -> bool {
        let Some(shard_mac) = self.shard_mac else { return false };
        let Some(mut frame) = self.port.frame() else {
            self.counters.port_full += 1;
            return false;
        };
        frame.set_len(frame.capacity().min(UDP_HEADERS_BYTES + MAX_UNSEALED_BYTES));
        let Some(room) = frame.bytes_mut().get_mut(UDP_HEADERS_BYTES..) else { return false };
        let Some(mut writer) = DatagramWriter::new(room, header) else { return false };
        fill(&mut writer);
        if writer.is_empty() {
            return false;
        }
        let bytes = writer.finish();
        frame.set_len(UDP_HEADERS_BYTES + bytes);
        let headers = UdpHeaders {
            src_mac: self.addresses.mac,
            dst_mac: shard_mac,
            src_ip: self.addresses.ip,
            dst_ip: self.addresses.shard_ip,
            src_port: self.addresses.udp_port,
            dst_port: self.addresses.shard_udp_port,
        };
        emit_udp_headers(frame.bytes_mut(), &headers, bytes);
        if self.port.send(frame).is_err() {
            self.counters.port_full += 1;
            return false;
        }
        true
    }
}
