//! Frames that are for the shard, and what its neighbours on the link ask: ARP, neighbour discovery, echo.

use std::net::{IpAddr, Ipv4Addr};

use mstream_nic::Frame;
use mstream_nic::headers::{
    Advertisement, Arp, EchoRequest, Link, NEIGHBOUR_BYTES, Solicitation, UdpFrame, VLAN_TAG_BYTES,
    arp_reply_in_place, echo_reply_in_place, emit_advertisement, group_mac, solicited_node,
};

use super::{PortAddress, Refusal};

/// Bytes that an advertisement may take.
const ANSWER_BYTES: usize = NEIGHBOUR_BYTES + VLAN_TAG_BYTES;

/// Whether a datagram is for the shard alone.
#[inline]
pub(super) fn check_udp(
    local: &PortAddress,
    udp_port: u16,
    udp: &UdpFrame<'_>,
) -> Result<(), Refusal> {
    if local.capabilities.ethernet {
        check_link(local, udp.link())?;
    }
    check_ip(local, &udp.dst_ip())?;
    if udp.dst_port() != udp_port { Err(Refusal::OtherPort) } else { Ok(()) }
}

/// Whether a frame is for the port's MAC address, on its VLAN.
#[inline]
fn check_link(local: &PortAddress, link: &Link) -> Result<(), Refusal> {
    if link.vlan != local.vlan {
        return Err(Refusal::OtherVlan);
    }
    if link.dst_mac == local.mac {
        return Ok(());
    }
    Err(if is_group(link.dst_mac) { Refusal::Broadcast } else { Refusal::OtherMac })
}

#[inline]
fn check_ip(local: &PortAddress, ip: &IpAddr) -> Result<(), Refusal> {
    if local.is(ip) {
        return Ok(());
    }
    Err(if is_group_ip(ip) { Refusal::Broadcast } else { Refusal::OtherIp })
}

/// The lowest bit of the first byte marks an address of a group, or of all.
fn is_group(mac: [u8; 6]) -> bool {
    mac[0] & 1 != 0
}

fn is_group_ip(ip: &IpAddr) -> bool {
    ip.is_multicast() || *ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// False for a source that cannot be one host, so that no answer goes to many.
pub(super) fn is_host(mac: [u8; 6], ip: &IpAddr) -> bool {
    !is_group(mac) && !is_group_ip(ip) && !ip.is_unspecified()
}

/// Turns an ARP request for the shard's address into its answer.
pub(super) fn answer_arp<F: Frame>(
    local: &PortAddress,
    arp: &Arp,
    frame: &mut F,
) -> Result<(), Refusal> {
    let Some(ip) = local.ip.filter(|_| local.capabilities.ethernet) else {
        return Err(Refusal::Arp);
    };
    if arp.link.vlan != local.vlan {
        return Err(Refusal::OtherVlan);
    }
    if arp.sender_ip == ip {
        return Err(Refusal::ArpSpoof);
    }
    if !arp.request || arp.target_ip != ip {
        return Err(Refusal::Arp);
    }
    if arp.link.dst_mac != local.mac && !is_group(arp.link.dst_mac) {
        return Err(Refusal::OtherMac);
    }
    arp_reply_in_place(frame.bytes_mut(), local.mac);
    Ok(())
}

/// Turns a solicitation for the shard's address into its answer; also one that asks whether the address
/// is taken.
pub(super) fn answer_solicitation<F: Frame>(
    local: &PortAddress,
    asked: &Solicitation,
    frame: &mut F,
) -> Result<(), Refusal> {
    let Some(ip) = local.ip6.filter(|_| local.capabilities.ethernet) else {
        return Err(Refusal::Neighbour);
    };
    if asked.link.vlan != local.vlan {
        return Err(Refusal::OtherVlan);
    }
    if asked.src == ip {
        return Err(Refusal::NeighbourSpoof);
    }
    if asked.target != ip {
        return Err(Refusal::Neighbour);
    }
    // The filter of a network card: the port's own address and the group of those who may have this one.
    let group = group_mac(solicited_node(ip));
    if asked.link.dst_mac != local.mac && asked.link.dst_mac != group {
        return Err(Refusal::OtherMac);
    }
    if is_group(asked.link.src_mac) {
        return Err(Refusal::NoHost);
    }
    if frame.capacity() < ANSWER_BYTES {
        return Err(Refusal::NoFrame);
    }
    frame.set_len(ANSWER_BYTES);
    let bytes = emit_advertisement(frame.bytes_mut(), local.mac, asked);
    frame.set_len(bytes);
    Ok(())
}

/// Why an advertisement is not used: the shard asks nobody.
pub(super) fn reason(local: &PortAddress, told: &Advertisement) -> Refusal {
    if told.link.vlan != local.vlan {
        Refusal::OtherVlan
    } else if local.ip6 == Some(told.target) {
        Refusal::NeighbourSpoof
    } else {
        Refusal::Neighbour
    }
}

/// Turns an echo request to the shard's address into the reply.
pub(super) fn answer_echo<F: Frame>(
    local: &PortAddress,
    echo: &EchoRequest,
    frame: &mut F,
) -> Result<(), Refusal> {
    if local.capabilities.ethernet {
        check_link(local, &echo.link)?;
    }
    check_ip(local, &echo.ips.dst())?;
    if !is_host(echo.link.src_mac, &echo.ips.src()) {
        return Err(Refusal::NoHost);
    }
    echo_reply_in_place(frame.bytes_mut());
    Ok(())
}
