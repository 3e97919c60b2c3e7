//! Neighbour discovery (RFC 4861): solicitations and advertisements, as much as resolving addresses takes.

use std::net::Ipv6Addr;

use super::checksum::{fold, pseudo, sum};
use super::ethernet::EtherType;
use super::ipv6::{self, IPV6_BYTES};
use super::{HeaderError, Inbound, IpPair, Link, PROTOCOL_ICMPV6, array};

/// Bytes of the solicitations and advertisements that are written here, without a VLAN tag.
pub const NEIGHBOUR_BYTES: usize = 86;
/// Of every packet of neighbour discovery: no router let it through.
pub(super) const HOP_LIMIT: u8 = 255;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Type, code, checksum, flags, target.
const MESSAGE: usize = 24;
/// A link-layer address option: type, length in units of 8 bytes, MAC address.
const OPTION: usize = 8;
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Somebody asks for the MAC address of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The frame it came in.
    pub link: Link,
    /// Who asks; unspecified when it asks whether the target is taken.
    pub src: Ipv6Addr,
    /// The target itself or its solicited-node group.
    pub dst: Ipv6Addr,
    /// The address asked for.
    pub target: Ipv6Addr,
    /// MAC address that the option names as the asker's.
    pub src_mac: Option<[u8; 6]>,
}

/// Somebody tells the MAC address of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The frame it came in.
    pub link: Link,
    /// The address that is told about.
    pub target: Ipv6Addr,
    /// Its MAC address, if the option names one.
    pub target_mac: Option<[u8; 6]>,
}

/// The group in which solicitations for `ip` are sent.
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    let low = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low)
}

/// The MAC address of frames to a group (RFC 2464).
pub fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

pub(super) fn is(kind: u8) -> bool {
    matches!(kind, SOLICITATION | ADVERTISEMENT)
}

/// Reads a message whose checksum, code and hop limit fit (RFC 4861, 7.1).
pub(super) fn parse(
    link: Link,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    kind: u8,
    body: &[u8],
) -> Result<Inbound<'static>, HeaderError> {
    let (message, options) = body.split_first_chunk::<MESSAGE>().ok_or(HeaderError::Neighbour)?;
    let target: Ipv6Addr = array::<16>(&message[8..24]).into();
    let wanted = if kind == SOLICITATION { SOURCE_ADDRESS } else { TARGET_ADDRESS };
    let mac = link_address(options, wanted)?;
    if target.is_multicast() || target.is_unspecified() || src.is_multicast() {
        return Err(HeaderError::Neighbour);
    }
    if kind == SOLICITATION {
        let group = solicited_node(target);
        if dst != target && dst != group {
            return Err(HeaderError::Neighbour);
        }
        if src.is_unspecified() && (dst != group || mac.is_some()) {
            return Err(HeaderError::Neighbour);
        }
        return Ok(Inbound::Solicitation(Solicitation { link, src, dst, target, src_mac: mac }));
    }
    if dst.is_multicast() && message[4] & SOLICITED != 0 {
        return Err(HeaderError::Neighbour);
    }
    Ok(Inbound::Advertisement(Advertisement { link, target, target_mac: mac }))
}

/// The MAC address in the first option of type `wanted`. Options that are not known are passed over.
fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<[u8; 6]>, HeaderError> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let bytes = usize::from(units) * 8;
        // A length of 0 makes the whole packet invalid.
        if units == 0 || bytes > options.len() {
            return Err(HeaderError::Neighbour);
        }
        if kind == wanted && found.is_none() {
            let mac: [u8; 6] = array(&options[2..OPTION]);
            if units != 1 || mac[0] & 1 != 0 {
                return Err(HeaderError::Neighbour);
            }
            found = Some(mac);
        }
        options = &options[bytes..];
    }
    if options.is_empty() { Ok(found) } else { Err(HeaderError::Neighbour) }
}

/// Writes a solicitation of `mac` and `src` ("who has `target`"); returns its length:
/// [`NEIGHBOUR_BYTES`], or with a tag four more.
///
/// # Panics
/// If the frame has no room for it.
pub fn emit_solicitation(
    frame: &mut [u8],
    mac: [u8; 6],
    vlan: Option<u16>,
    src: Ipv6Addr,
    target: Ipv6Addr,
) -> usize {
    let dst = solicited_node(target);
    let link = Link { src_mac: mac, dst_mac: group_mac(dst), vlan };
    emit(frame, &link, src, dst, [SOLICITATION, 0], target, SOURCE_ADDRESS)
}

/// Writes the answer to a solicitation: `mac` has its target. Returns its length: [`NEIGHBOUR_BYTES`], or
/// with a tag four more.
///
/// # Panics
/// If the frame has no room for it.
pub fn emit_advertisement(frame: &mut [u8], mac: [u8; 6], asked: &Solicitation) -> usize {
    let vlan = asked.link.vlan;
    let (dst, dst_mac, flags) = if asked.src.is_unspecified() {
        (ALL_NODES, group_mac(ALL_NODES), OVERRIDE)
    } else {
        (asked.src, asked.src_mac.unwrap_or(asked.link.src_mac), SOLICITED | OVERRIDE)
    };
    let link = Link { src_mac: mac, dst_mac, vlan };
    emit(frame, &link, asked.target, dst, [ADVERTISEMENT, flags], asked.target, TARGET_ADDRESS)
}

fn emit(
    frame: &mut [u8],
    link: &Link,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    option: u8,
) -> usize {
    const BODY: usize = MESSAGE + OPTION;
    let at = link.emit(frame, EtherType::Ipv6);
    let packet = &mut frame[at..at + IPV6_BYTES + BODY];
    let (header, body) = packet.split_at_mut(IPV6_BYTES);
    if let Some(header) = header.first_chunk_mut() {
        ipv6::emit(header, src, dst, PROTOCOL_ICMPV6, HOP_LIMIT, BODY);
    }
    body[..8].copy_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
    body[8..24].copy_from_slice(&target.octets());
    body[24..26].copy_from_slice(&[option, 1]);
    body[26..].copy_from_slice(&link.src_mac);
    let checksum = !fold(pseudo(&IpPair::V6 { src, dst }, PROTOCOL_ICMPV6, BODY) + sum(body));
    body[2..4].copy_from_slice(&checksum.to_be_bytes());
    at + IPV6_BYTES + BODY
}
