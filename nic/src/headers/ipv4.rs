//! IPv4 (RFC 791), without options and fragments.

use super::checksum::{fits, fold, sum};
use super::{
    HeaderError, Inbound, IpPair, Link, PROTOCOL_ICMP, PROTOCOL_UDP, array, be16, icmp, udp,
};

/// Bytes of an IPv4 header without options.
pub(super) const IPV4_BYTES: usize = 20;
/// Hops that an emitted packet may take.
pub(super) const TTL: u8 = 64;

/// Sorts a packet that starts at `at` in its frame.
#[inline]
pub(super) fn classify(
    link: Link,
    at: usize,
    packet: &[u8],
    verify: bool,
) -> Result<Inbound<'_>, HeaderError> {
    let header = packet.first_chunk::<IPV4_BYTES>().ok_or(HeaderError::Ipv4)?;
    let total = be16(&header[2..4]) as usize;
    // 0x45: version 4, five words of header. Fragments: more-fragments bit or an offset.
    let fragment = be16(&header[6..8]) & 0x3fff != 0;
    if header[0] != 0x45 || total < IPV4_BYTES || total > packet.len() || fragment {
        return Err(match header[0] {
            0x46..=0x4f => HeaderError::IpOptions,
            0x45 if fragment => HeaderError::Fragment,
            _ => HeaderError::Ipv4,
        });
    }
    if verify && !fits(sum(header)) {
        return Err(HeaderError::Ipv4Checksum);
    }
    let ips = IpPair::V4 { src: array(&header[12..16]).into(), dst: array(&header[16..20]).into() };
    let body = &packet[IPV4_BYTES..total];
    match header[9] {
        PROTOCOL_UDP => udp::parse(link, ips, at + IPV4_BYTES, body, verify).map(Inbound::Udp),
        PROTOCOL_ICMP => icmp::v4(link, ips, body),
        _ => Err(HeaderError::Protocol),
    }
}

/// Writes a header for `body` bytes of `protocol`: no fragmenting, and the checksum unless the port fills
/// it in.
#[inline]
pub(super) fn emit(
    header: &mut [u8; IPV4_BYTES],
    src: std::net::Ipv4Addr,
    dst: std::net::Ipv4Addr,
    protocol: u8,
    body: usize,
    port_sums: bool,
) {
    let total = (body + IPV4_BYTES) as u16;
    header[..2].copy_from_slice(&[0x45, 0]);
    header[2..4].copy_from_slice(&total.to_be_bytes());
    // No identification is needed where nothing may be fragmented (RFC 6864).
    header[4..12].copy_from_slice(&[0, 0, 0x40, 0, TTL, protocol, 0, 0]);
    header[12..16].copy_from_slice(&src.octets());
    header[16..20].copy_from_slice(&dst.octets());
    if !port_sums {
        // Summed from the values, not from the bytes just written: loads that span several stores stall.
        let fixed = 0x4500 + 0x4000 + (u64::from(TTL) << 8) + u64::from(protocol);
        let sum = fixed + u64::from(total) + u64::from(src.to_bits()) + u64::from(dst.to_bits());
        header[10..12].copy_from_slice(&(!fold(sum)).to_be_bytes());
    }
}
