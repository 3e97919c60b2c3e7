//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::ethernet::{self, EtherType};
use super::{HeaderError, Link, array};

/// Bytes of an ARP frame without a VLAN tag.
pub const ARP_BYTES: usize = 42;
const PACKET: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// The frame it came in.
    pub link: Link,
    /// True for a request, false for a reply.
    pub request: bool,
    /// MAC address of the sender.
    pub sender_mac: [u8; 6],
    /// IPv4 address of the sender; 0.0.0.0 in a probe, which asks whether the target is taken.
    pub sender_ip: Ipv4Addr,
    /// IPv4 address asked for (request) or told (reply).
    pub target_ip: Ipv4Addr,
}

pub(super) fn parse(link: Link, packet: &[u8]) -> Result<Arp, HeaderError> {
    let packet = packet.first_chunk::<PACKET>().ok_or(HeaderError::Arp)?;
    let request = match packet[6..8] {
        [0, 1] => true,
        [0, 2] => false,
        _ => return Err(HeaderError::Arp),
    };
    let sender_mac: [u8; 6] = array(&packet[8..14]);
    if packet[..6] != FIXED || sender_mac[0] & 1 != 0 {
        return Err(HeaderError::Arp);
    }
    Ok(Arp {
        link,
        request,
        sender_mac,
        sender_ip: array(&packet[14..18]).into(),
        target_ip: array(&packet[24..28]).into(),
    })
}

/// Writes an ARP request of `mac` and `ip` ("who has `target_ip`"); returns its length: [`ARP_BYTES`], or
/// with a tag four more.
///
/// # Panics
/// If the frame has no room for it.
pub fn emit_arp_request(
    frame: &mut [u8],
    mac: [u8; 6],
    vlan: Option<u16>,
    ip: Ipv4Addr,
    target_ip: Ipv4Addr,
) -> usize {
    let link = Link { src_mac: mac, dst_mac: ethernet::BROADCAST, vlan };
    let at = link.emit(frame, EtherType::Arp);
    let packet = &mut frame[at..at + PACKET];
    packet[..6].copy_from_slice(&FIXED);
    packet[6..8].copy_from_slice(&[0, 1]);
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&ip.octets());
    packet[18..24].copy_from_slice(&[0; 6]);
    packet[24..28].copy_from_slice(&target_ip.octets());
    at + PACKET
}

/// Turns a frame that [`classify`](super::classify) found to be an ARP request into the reply that names
/// `mac`.
///
/// # Panics
/// If the frame is none: a bug of the caller.
pub fn arp_reply_in_place(frame: &mut [u8], mac: [u8; 6]) {
    let at = ethernet::turn_around(frame, mac);
    let packet = &mut frame[at..at + PACKET];
    let sender: [u8; 10] = array(&packet[8..18]);
    let target_ip: [u8; 4] = array(&packet[24..28]);
    packet[6..8].copy_from_slice(&[0, 2]);
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&target_ip);
    packet[18..28].copy_from_slice(&sender);
    // The address that is asked to know, not the one that the frame came from.
    frame[..6].copy_from_slice(&sender[..6]);
}
