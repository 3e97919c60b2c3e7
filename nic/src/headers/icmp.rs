//! Echo of ICMP (RFC 792) and ICMPv6 (RFC 4443), and where neighbour discovery branches off.

use std::net::Ipv6Addr;

use super::checksum::{fits, fold, pseudo, sum};
use super::ipv4::{IPV4_BYTES, TTL};
use super::ipv6::{HOP_LIMIT, IPV6_BYTES};
use super::{
    HeaderError, Inbound, IpPair, Link, PROTOCOL_ICMPV6, array, be16, ethernet, neighbour,
};

/// Bytes of an echo message without data: type, code, checksum, identifier, sequence number.
const ECHO: usize = 8;
const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;

/// An echo request ("ping") with a fitting checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoRequest {
    /// The frame it came in.
    pub link: Link,
    /// Who asks whom.
    pub ips: IpPair,
}

pub(super) fn v4(link: Link, ips: IpPair, body: &[u8]) -> Result<Inbound<'static>, HeaderError> {
    if body.len() < ECHO || body[..2] != [V4_REQUEST, 0] {
        return Err(HeaderError::Protocol);
    }
    if !fits(sum(body)) {
        return Err(HeaderError::IcmpChecksum);
    }
    Ok(Inbound::EchoRequest(EchoRequest { link, ips }))
}

pub(super) fn v6(
    link: Link,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    hop_limit: u8,
    body: &[u8],
) -> Result<Inbound<'static>, HeaderError> {
    let ips = IpPair::V6 { src, dst };
    let [kind, code, ..] = *body else { return Err(HeaderError::Protocol) };
    let echo = kind == V6_REQUEST && code == 0 && body.len() >= ECHO;
    if !echo && !neighbour::is(kind) {
        return Err(HeaderError::Protocol);
    }
    if !fits(pseudo(&ips, PROTOCOL_ICMPV6, body.len()) + sum(body)) {
        return Err(HeaderError::IcmpChecksum);
    }
    if echo {
        return Ok(Inbound::EchoRequest(EchoRequest { link, ips }));
    }
    if code != 0 || hop_limit != neighbour::HOP_LIMIT {
        return Err(HeaderError::Neighbour);
    }
    neighbour::parse(link, src, dst, kind, body)
}

/// Turns a frame that [`classify`](super::classify) found to be an echo request of either family into
/// the reply, with no other change to what it carries.
pub fn echo_reply_in_place(frame: &mut [u8]) {
    let Ok((link, _, at)) = ethernet::parse(frame) else { return };
    ethernet::turn_around(frame, link.dst_mac);
    let packet = &mut frame[at..];
    match packet.first().map_or(0, |byte| byte >> 4) {
        4 => v4_reply(packet),
        6 => v6_reply(packet),
        _ => {}
    }
}

fn v4_reply(packet: &mut [u8]) {
    let Some((header, rest)) = packet.split_first_chunk_mut::<IPV4_BYTES>() else { return };
    let total = be16(&header[2..4]) as usize;
    let Some(icmp) = rest.get_mut(..total.saturating_sub(IPV4_BYTES)) else { return };
    let (src, dst): ([u8; 4], [u8; 4]) = (array(&header[12..16]), array(&header[16..20]));
    header[12..16].copy_from_slice(&dst);
    header[16..20].copy_from_slice(&src);
    // Swapped addresses leave the IPv4 sum as it was; the TTL is set anew, so it is made again.
    header[8] = TTL;
    header[10..12].copy_from_slice(&[0, 0]);
    let checksum = !fold(sum(header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    reply(icmp, V4_REPLY, 0);
}

fn v6_reply(packet: &mut [u8]) {
    let Some((header, rest)) = packet.split_first_chunk_mut::<IPV6_BYTES>() else { return };
    let length = be16(&header[4..6]) as usize;
    let Some(icmp) = rest.get_mut(..length) else { return };
    let (src, dst): ([u8; 16], [u8; 16]) = (array(&header[8..24]), array(&header[24..40]));
    header[8..24].copy_from_slice(&dst);
    header[24..40].copy_from_slice(&src);
    header[7] = HOP_LIMIT;
    let ips = IpPair::V6 { src: dst.into(), dst: src.into() };
    reply(icmp, V6_REPLY, pseudo(&ips, PROTOCOL_ICMPV6, length));
}

fn reply(icmp: &mut [u8], kind: u8, pseudo: u64) {
    if icmp.len() < ECHO {
        return;
    }
    icmp[0] = kind;
    icmp[2..4].copy_from_slice(&[0, 0]);
    let checksum = !fold(pseudo + sum(icmp));
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
}
