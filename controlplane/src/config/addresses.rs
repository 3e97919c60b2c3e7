//! Checks of a port's addresses: IPv4, IPv6, MAC and VLAN.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use toml::Spanned;

use super::problem::Collector;
use super::raw;

/// What a port is called on its network.
pub(super) struct Addresses {
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) ip6: Option<Ipv6Addr>,
    pub(super) vlan: Option<u16>,
    pub(super) mac: Option<[u8; 6]>,
}

pub(super) fn check(
    port: &raw::Port,
    span: &Range<usize>,
    problems: &mut Collector<'_>,
) -> Addresses {
    let ip = port.ip.as_ref().map(|ip| *ip.get_ref());
    let ip6 = port.ip6.as_ref().map(|ip| *ip.get_ref());
    let socket = port.driver == raw::Driver::Socket;
    // Such a device has an address of its own.
    let pci = port.device.as_ref().is_some_and(|device| *device.get_ref() == raw::Device::Pci);
    if let Some(at) = &port.ip
        && let ip = at.get_ref()
        && (ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast())
    {
        problems.add(at.span(), format!("`ip`: {ip} is not the address of one host"));
    }
    if let Some(at) = &port.ip6 {
        let ip = at.get_ref();
        if ip.is_unspecified() || ip.is_multicast() || ip.to_ipv4_mapped().is_some() {
            problems.add(at.span(), format!("`ip6`: {ip} is not the IPv6 address of one host"));
        } else if socket && ip.is_unicast_link_local() {
            let reason = format!(
                "`ip6`: {ip} means another host on each interface, and a socket port names none"
            );
            problems.add(at.span(), reason);
        }
    }
    match (&port.ip, &port.ip6) {
        (None, None) => {
            problems.add(span.clone(), "`ip`: a port needs an address: `ip`, `ip6` or both");
        }
        (Some(_), Some(second)) if socket => {
            let reason =
                "`ip6`: a socket port has one address; make another [[port]] for the second";
            problems.add(second.span(), reason);
        }
        _ => {}
    }
    let vlan = port.vlan.as_ref().map(|vlan| {
        if !(1..=4094).contains(vlan.get_ref()) {
            let reason = format!("`vlan`: {} is not in 1 to 4094", vlan.get_ref());
            problems.add(vlan.span(), reason);
        }
        *vlan.get_ref()
    });
    let mac = port.mac.as_ref().map(Spanned::get_ref).map(|mac| mac.0).or_else(|| {
        // Nobody hands out addresses on such a port: one that is administered locally.
        let [a, b, c, d] = match (ip, ip6) {
            _ if socket || pci => return None,
            (Some(ip), _) => ip.octets(),
            (None, ip6) => {
                let [.., a, b, c, d] = ip6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets();
                [a, b, c, d]
            }
        };
        Some([2, 0, a, b, c, d])
    });
    Addresses { ip, ip6, vlan, mac }
}
