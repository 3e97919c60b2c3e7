//! Ethernet, VLAN, ARP, IPv4, IPv6, UDP, ICMP echo and neighbour discovery as checked views, and their
//! emit.
//!
//! Used by the shard for every received frame and by the client library. [`classify`] checks a frame once;
//! what it returns has only plain fields.

mod arp;
mod checksum;
mod ethernet;
mod icmp;
mod ipv4;
mod ipv6;
mod neighbour;
#[cfg(test)]
mod tests;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use arp::{ARP_BYTES, Arp, arp_reply_in_place, emit_arp_request};
use ethernet::{ETHERNET_BYTES, EtherType};
pub use ethernet::{Link, VLAN_TAG_BYTES};
pub use icmp::{EchoRequest, echo_reply_in_place};
use ipv4::IPV4_BYTES;
use ipv6::IPV6_BYTES;
pub use neighbour::{
    Advertisement, NEIGHBOUR_BYTES, Solicitation, emit_advertisement, emit_solicitation, group_mac,
    solicited_node,
};
pub use udp::{
    MAX_UDP_HEADERS_BYTES, UDP_HEADERS_BYTES, UDP6_HEADERS_BYTES, UdpFrame, UdpHeaders,
    emit_udp_headers, finish_udp_frame, udp_headers_bytes,
};

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;

/// Why a frame is none of those that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeaderError {
    /// Too short for Ethernet, a malformed or second VLAN tag, or neither IPv4, IPv6 nor ARP.
    Ethernet,
    /// Malformed ARP, or not for IPv4 over Ethernet.
    Arp,
    /// A malformed IPv4 header.
    Ipv4,
    /// A malformed IPv6 header.
    Ipv6,
    /// A fragment of a packet of either family.
    Fragment,
    /// IPv4 options or IPv6 extension headers.
    IpOptions,
    /// A wrong checksum of an IPv4 header.
    Ipv4Checksum,
    /// An IP protocol other than UDP and ICMP, or ICMP other than an echo request and neighbour discovery.
    Protocol,
    /// A wrong checksum of ICMP or ICMPv6.
    IcmpChecksum,
    /// Neighbour discovery that RFC 4861 says to ignore.
    Neighbour,
    /// A malformed UDP header.
    Udp,
    /// A wrong UDP checksum, or over IPv6 none.
    UdpChecksum,
}

/// A frame sorted by what it is.
#[derive(Clone, Copy, Debug)]
pub enum Inbound<'a> {
    /// UDP over IPv4 or IPv6.
    Udp(UdpFrame<'a>),
    /// An ARP request or reply.
    Arp(Arp),
    /// An ICMP or ICMPv6 echo request.
    EchoRequest(EchoRequest),
    /// A neighbour solicitation.
    Solicitation(Solicitation),
    /// A neighbour advertisement.
    Advertisement(Advertisement),
}

impl Inbound<'_> {
    /// MAC addresses and VLAN of the frame.
    #[inline]
    pub fn link(&self) -> &Link {
        match self {
            Inbound::Udp(udp) => udp.link(),
            Inbound::Arp(arp) => &arp.link,
            Inbound::EchoRequest(echo) => &echo.link,
            Inbound::Solicitation(asked) => &asked.link,
            Inbound::Advertisement(told) => &told.link,
        }
    }
}

/// Source and destination of a packet: of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpPair {
    /// IPv4.
    V4 {
        /// Source.
        src: Ipv4Addr,
        /// Destination.
        dst: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// Source.
        src: Ipv6Addr,
        /// Destination.
        dst: Ipv6Addr,
    },
}

impl IpPair {
    /// A pair; `None` if the families differ.
    pub const fn new(src: IpAddr, dst: IpAddr) -> Option<IpPair> {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Some(IpPair::V4 { src, dst }),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Some(IpPair::V6 { src, dst }),
            _ => None,
        }
    }

    /// The source.
    #[inline]
    pub const fn src(&self) -> IpAddr {
        match self {
            IpPair::V4 { src, .. } => IpAddr::V4(*src),
            IpPair::V6 { src, .. } => IpAddr::V6(*src),
        }
    }

    /// The destination.
    #[inline]
    pub const fn dst(&self) -> IpAddr {
        match self {
            IpPair::V4 { dst, .. } => IpAddr::V4(*dst),
            IpPair::V6 { dst, .. } => IpAddr::V6(*dst),
        }
    }

    /// The pair of a packet in the other direction.
    pub const fn swapped(self) -> IpPair {
        match self {
            IpPair::V4 { src, dst } => IpPair::V4 { src: dst, dst: src },
            IpPair::V6 { src, dst } => IpPair::V6 { src: dst, dst: src },
        }
    }

    /// Bytes of an IP header for it.
    #[inline]
    const fn header_bytes(&self) -> usize {
        match self {
            IpPair::V4 { .. } => IPV4_BYTES,
            IpPair::V6 { .. } => IPV6_BYTES,
        }
    }
}

/// Sorts a frame and checks all its headers; with `verify` also the checksums of the IPv4 header and UDP
/// (over IPv4 a UDP checksum of zero is absent and fits). Checksums of ICMP are always verified.
///
/// # Errors
/// The first header that does not fit.
#[inline]
pub fn classify(frame: &[u8], verify: bool) -> Result<Inbound<'_>, HeaderError> {
    let (ethernet, packet) =
        frame.split_first_chunk::<ETHERNET_BYTES>().ok_or(HeaderError::Ethernet)?;
    if ethernet[12..] == EtherType::Ipv4.bytes() {
        return ipv4::classify(Link::untagged(ethernet), ETHERNET_BYTES, packet, verify);
    }
    other(frame, verify)
}

/// Everything but IPv4 without a tag, which is not made to wait for the questions asked here.
#[inline(never)]
fn other(frame: &[u8], verify: bool) -> Result<Inbound<'_>, HeaderError> {
    let (link, ethertype, at) = ethernet::parse(frame)?;
    let packet = &frame[at..];
    match ethertype {
        EtherType::Ipv4 => ipv4::classify(link, at, packet, verify),
        EtherType::Ipv6 => ipv6::classify(link, at, packet, verify),
        EtherType::Arp => arp::parse(link, packet).map(Inbound::Arp),
    }
}

#[inline]
fn be16(bytes: &[u8]) -> u16 {
    u16::from(bytes[0]) << 8 | u16::from(bytes[1])
}

#[inline]
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
