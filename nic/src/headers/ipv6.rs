//! IPv6 (RFC 8200), without extension headers.

use std::net::Ipv6Addr;

use super::{
    HeaderError, Inbound, IpPair, Link, PROTOCOL_ICMPV6, PROTOCOL_UDP, array, be16, icmp, udp,
};

/// Bytes of an IPv6 header.
pub(super) const IPV6_BYTES: usize = 40;
/// Hops that an emitted packet may take.
pub(super) const HOP_LIMIT: u8 = 64;

/// Extension headers: hop-by-hop, routing, encapsulating security, authentication, no next header,
/// destination options, mobility, host identity, shim6.
const EXTENSIONS: [u8; 9] = [0, 43, 50, 51, 59, 60, 135, 139, 140];
const FRAGMENT: u8 = 44;

/// Sorts a packet that starts at `at` in its frame.
#[inline]
pub(super) fn classify(
    link: Link,
    at: usize,
    packet: &[u8],
    verify: bool,
) -> Result<Inbound<'_>, HeaderError> {
    let (header, rest) = packet.split_first_chunk::<IPV6_BYTES>().ok_or(HeaderError::Ipv6)?;
    let length = be16(&header[4..6]) as usize;
    if header[0] >> 4 != 6 || length > rest.len() {
        return Err(HeaderError::Ipv6);
    }
    let (src, dst): (Ipv6Addr, Ipv6Addr) =
        (array::<16>(&header[8..24]).into(), array::<16>(&header[24..40]).into());
    let (ips, body) = (IpPair::V6 { src, dst }, &rest[..length]);
    match header[6] {
        PROTOCOL_UDP => udp::parse(link, ips, at + IPV6_BYTES, body, verify).map(Inbound::Udp),
        PROTOCOL_ICMPV6 => icmp::v6(link, src, dst, header[7], body),
        FRAGMENT => Err(HeaderError::Fragment),
        next if EXTENSIONS.contains(&next) => Err(HeaderError::IpOptions),
        _ => Err(HeaderError::Protocol),
    }
}

/// Writes a header for `body` bytes of `protocol`.
#[inline]
pub(super) fn emit(
    header: &mut [u8; IPV6_BYTES],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    protocol: u8,
    hop_limit: u8,
    body: usize,
) {
    header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    header[4..6].copy_from_slice(&(body as u16).to_be_bytes());
    header[6..8].copy_from_slice(&[protocol, hop_limit]);
    header[8..24].copy_from_slice(&src.octets());
    header[24..40].copy_from_slice(&dst.octets());
}
