//! UDP (RFC 768) over both families.

use std::net::IpAddr;

use super::checksum::{fits, fold, pseudo, sum};
use super::ethernet::{ETHERNET_BYTES, EtherType, VLAN_TAG_BYTES};
use super::ipv4::{self, IPV4_BYTES};
use super::ipv6::{self, HOP_LIMIT, IPV6_BYTES};
use super::{HeaderError, IpPair, Link, PROTOCOL_UDP, be16};
use crate::port::{Capabilities, ChecksumRequest, Frame, TxChecksum};

/// Bytes of Ethernet, IPv4 (no options) and UDP headers together.
pub const UDP_HEADERS_BYTES: usize = ETHERNET_BYTES + IPV4_BYTES + UDP;
/// Bytes of Ethernet, IPv6 and UDP headers together.
pub const UDP6_HEADERS_BYTES: usize = ETHERNET_BYTES + IPV6_BYTES + UDP;
/// The most bytes of headers in front of a UDP payload: IPv6 and a VLAN tag.
pub const MAX_UDP_HEADERS_BYTES: usize = UDP6_HEADERS_BYTES + VLAN_TAG_BYTES;

const UDP: usize = 8;

/// A checked UDP frame.
#[derive(Clone, Copy, Debug)]
pub struct UdpFrame<'a> {
    headers: UdpHeaders,
    payload_at: usize,
    payload: &'a [u8],
}

impl<'a> UdpFrame<'a> {
    /// All addresses.
    #[inline]
    pub fn headers(&self) -> &UdpHeaders {
        &self.headers
    }

    /// MAC addresses and VLAN.
    #[inline]
    pub fn link(&self) -> &Link {
        &self.headers.link
    }

    /// Source IP address.
    #[inline]
    pub fn src_ip(&self) -> IpAddr {
        self.headers.ips.src()
    }

    /// Destination IP address.
    #[inline]
    pub fn dst_ip(&self) -> IpAddr {
        self.headers.ips.dst()
    }

    /// Source UDP port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        self.headers.src_port
    }

    /// Destination UDP port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        self.headers.dst_port
    }

    /// The UDP payload, without Ethernet padding.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Where the payload starts in the frame, in bytes.
    #[inline]
    pub fn payload_at(&self) -> usize {
        self.payload_at
    }
}

/// Addresses of a UDP frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHeaders {
    /// MAC addresses and VLAN.
    pub link: Link,
    /// IP addresses.
    pub ips: IpPair,
    /// Source UDP port.
    pub src_port: u16,
    /// Destination UDP port.
    pub dst_port: u16,
}

impl UdpHeaders {
    /// Bytes of headers in front of the payload.
    #[inline]
    pub const fn bytes(&self) -> usize {
        self.link.header_bytes() + self.ips.header_bytes() + UDP
    }

    /// The addresses of a frame in the other direction.
    pub fn swapped(&self) -> UdpHeaders {
        UdpHeaders {
            link: self.link.swapped(),
            ips: self.ips.swapped(),
            src_port: self.dst_port,
            dst_port: self.src_port,
        }
    }
}

/// Bytes of headers in front of a UDP payload between addresses of the family of `ip`.
#[inline]
pub const fn udp_headers_bytes(ip: &IpAddr, vlan: Option<u16>) -> usize {
    let bytes = match ip {
        IpAddr::V4(_) => UDP_HEADERS_BYTES,
        IpAddr::V6(_) => UDP6_HEADERS_BYTES,
    };
    if vlan.is_some() { bytes + VLAN_TAG_BYTES } else { bytes }
}

/// Reads the body of a packet that starts at `at` in its frame.
#[inline]
pub(super) fn parse(
    link: Link,
    ips: IpPair,
    at: usize,
    body: &[u8],
    verify: bool,
) -> Result<UdpFrame<'_>, HeaderError> {
    let header = body.first_chunk::<UDP>().ok_or(HeaderError::Udp)?;
    let length = be16(&header[4..6]) as usize;
    if length < UDP || length > body.len() {
        return Err(HeaderError::Udp);
    }
    let datagram = &body[..length];
    // Over IPv4 a checksum of zero is absent; over IPv6 it must be there (RFC 8200, 8.1).
    let present = header[6..8] != [0, 0];
    let wanted = present || matches!(ips, IpPair::V6 { .. });
    if verify && wanted && !(present && fits(pseudo(&ips, PROTOCOL_UDP, length) + sum(datagram))) {
        return Err(HeaderError::UdpChecksum);
    }
    let (src_port, dst_port) = (be16(&header[..2]), be16(&header[2..4]));
    Ok(UdpFrame {
        headers: UdpHeaders { link, ips, src_port, dst_port },
        payload_at: at + UDP,
        payload: &datagram[UDP..],
    })
}

/// Writes Ethernet, IP and UDP headers in front of a payload of `payload` bytes, which stands in its place
/// already: no fragmenting, TTL 64, the IPv4 header's checksum or that of UDP over IPv6. UDP over IPv4
/// goes without one, which IPv4 allows.
///
/// # Panics
/// If the frame has no room for headers and payload: a bug of the caller.
#[inline]
pub fn emit_udp_headers(frame: &mut [u8], headers: &UdpHeaders, payload: usize) {
    write(frame, headers, payload, &Capabilities::default());
}

/// As [`emit_udp_headers`], with the checksums left to a port that fills them in: what leaves is the
/// same.
///
/// # Panics
/// If the frame has no room for headers and payload: a bug of the caller.
#[inline]
pub fn finish_udp_frame<F: Frame>(
    frame: &mut F,
    headers: &UdpHeaders,
    payload: usize,
    port: &Capabilities,
) {
    write(frame.bytes_mut(), headers, payload, port);
    let what = match headers.ips {
        IpPair::V4 { .. } if port.tx_ipv4_checksum => TxChecksum::Ipv4Header,
        IpPair::V6 { .. } if port.tx_udp6_checksum => TxChecksum::UdpOverIpv6,
        _ => return,
    };
    frame.request_checksum(ChecksumRequest {
        what,
        l2_bytes: headers.link.header_bytes() as u8,
        l3_bytes: headers.ips.header_bytes() as u8,
    });
}

#[inline]
fn write(frame: &mut [u8], headers: &UdpHeaders, payload: usize, port: &Capabilities) {
    let length = UDP + payload;
    match headers.ips {
        IpPair::V4 { src, dst } => {
            let at = headers.link.emit(frame, EtherType::Ipv4);
            let packet = frame[at..]
                .first_chunk_mut::<{ IPV4_BYTES + UDP }>()
                .expect("a frame holds the headers");
            let (header, udp) = packet.split_at_mut(IPV4_BYTES);
            let header = header.first_chunk_mut().expect("split there");
            ipv4::emit(header, src, dst, PROTOCOL_UDP, length, port.tx_ipv4_checksum);
            write_udp(udp, headers, length, 0);
        }
        IpPair::V6 { src, dst } => {
            let at = headers.link.emit(frame, EtherType::Ipv6);
            let packet = &mut frame[at..at + IPV6_BYTES + length];
            let (header, datagram) = packet.split_at_mut(IPV6_BYTES);
            let header = header.first_chunk_mut().expect("split there");
            ipv6::emit(header, src, dst, PROTOCOL_UDP, HOP_LIMIT, length);
            let (udp, payload) = datagram.split_at_mut(UDP);
            let pseudo = pseudo(&headers.ips, PROTOCOL_UDP, length);
            let checksum = if port.tx_udp6_checksum {
                fold(pseudo)
            } else {
                let fields = u64::from(headers.src_port) + u64::from(headers.dst_port);
                match !fold(pseudo + fields + length as u64 + sum(payload)) {
                    // Zero would say that there is none; in this arithmetic both are the same.
                    0 => 0xffff,
                    checksum => checksum,
                }
            };
            write_udp(udp, headers, length, checksum);
        }
    }
}

#[inline]
fn write_udp(udp: &mut [u8], headers: &UdpHeaders, length: usize, checksum: u16) {
    udp[..2].copy_from_slice(&headers.src_port.to_be_bytes());
    udp[2..4].copy_from_slice(&headers.dst_port.to_be_bytes());
    udp[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
}
