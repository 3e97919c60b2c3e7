//! Ethernet (IEEE 802.3) and the VLAN tag (IEEE 802.1Q).

use super::{HeaderError, array, be16};

/// Bytes of an Ethernet header without a tag.
pub(super) const ETHERNET_BYTES: usize = 14;
/// Bytes that a VLAN tag adds.
pub const VLAN_TAG_BYTES: usize = 4;
/// VLAN ids are below this; it is reserved itself.
const RESERVED_VLAN: u16 = 0x0fff;
/// The destination of ARP requests.
pub(super) const BROADCAST: [u8; 6] = [0xff; 6];

const VLAN: [u8; 2] = [0x81, 0x00];

/// What follows an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EtherType {
    Ipv4,
    Ipv6,
    Arp,
}

impl EtherType {
    pub(super) const fn bytes(self) -> [u8; 2] {
        match self {
            EtherType::Ipv4 => [0x08, 0x00],
            EtherType::Ipv6 => [0x86, 0xdd],
            EtherType::Arp => [0x08, 0x06],
        }
    }
}

/// Who sent a frame to whom, on which VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// VLAN id, 1 to 4094. A tag with id 0 only says a priority: such a frame is on no VLAN.
    pub vlan: Option<u16>,
}

impl Link {
    #[inline]
    pub(super) fn untagged(header: &[u8; ETHERNET_BYTES]) -> Link {
        Link { src_mac: array(&header[6..12]), dst_mac: array(&header[..6]), vlan: None }
    }

    /// The link of a frame in the other direction.
    pub fn swapped(self) -> Link {
        Link { src_mac: self.dst_mac, dst_mac: self.src_mac, ..self }
    }

    /// Bytes of an Ethernet header for it.
    #[inline]
    pub(super) const fn header_bytes(&self) -> usize {
        match self.vlan {
            None => ETHERNET_BYTES,
            Some(_) => ETHERNET_BYTES + VLAN_TAG_BYTES,
        }
    }

    /// Writes the Ethernet header, with priority 0 if it has a tag; returns its length.
    ///
    /// # Panics
    /// If the frame has no room for it.
    #[inline]
    pub(super) fn emit(&self, frame: &mut [u8], ethertype: EtherType) -> usize {
        frame[..6].copy_from_slice(&self.dst_mac);
        frame[6..12].copy_from_slice(&self.src_mac);
        let Some(vlan) = self.vlan else {
            frame[12..14].copy_from_slice(&ethertype.bytes());
            return ETHERNET_BYTES;
        };
        frame[12..14].copy_from_slice(&VLAN);
        frame[14..16].copy_from_slice(&vlan.to_be_bytes());
        frame[16..18].copy_from_slice(&ethertype.bytes());
        ETHERNET_BYTES + VLAN_TAG_BYTES
    }
}

/// An Ethernet header with or without a tag: the link, what follows, and where.
pub(super) fn parse(frame: &[u8]) -> Result<(Link, EtherType, usize), HeaderError> {
    let header = frame.first_chunk::<ETHERNET_BYTES>().ok_or(HeaderError::Ethernet)?;
    let mut link = Link::untagged(header);
    let mut at = ETHERNET_BYTES;
    if header[12..] == VLAN {
        at += VLAN_TAG_BYTES;
        let id = be16(frame.get(ETHERNET_BYTES..at).ok_or(HeaderError::Ethernet)?) & 0x0fff;
        if id == RESERVED_VLAN {
            return Err(HeaderError::Ethernet);
        }
        link.vlan = (id != 0).then_some(id);
    }
    let ethertype = match frame[at - 2..at] {
        [0x08, 0x00] => EtherType::Ipv4,
        [0x86, 0xdd] => EtherType::Ipv6,
        [0x08, 0x06] => EtherType::Arp,
        // A second tag as well.
        _ => return Err(HeaderError::Ethernet),
    };
    Ok((link, ethertype, at))
}

/// Turns a frame that was parsed around: to its sender, from `mac`, with priority 0. Returns where its
/// packet starts.
pub(super) fn turn_around(frame: &mut [u8], mac: [u8; 6]) -> usize {
    let sender: [u8; 6] = array(&frame[6..12]);
    frame[..6].copy_from_slice(&sender);
    frame[6..12].copy_from_slice(&mac);
    if frame[12..14] != VLAN {
        return ETHERNET_BYTES;
    }
    frame[14] &= 0x0f;
    ETHERNET_BYTES + VLAN_TAG_BYTES
}
