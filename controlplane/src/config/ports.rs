//! Checks of ports: each driver has keys of its own.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use super::addresses::{self, Addresses};
use super::problem::Collector;
use super::{Device, Driver, Limits, Port, SPARE_FRAMES, devices, raw};

/// Buffers of a port's pool when the file does not say.
const DEFAULT_FRAMES: usize = 4096;
/// The most buffers of one pool.
const MAX_FRAMES: usize = 1 << 20;
/// Longest path of a unix socket (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// Checks all ports. Returns them with the indexes of their names.
pub(super) fn check(
    raw: Vec<Spanned<raw::Port>>,
    run_dir: &Path,
    limits: &Limits,
    problems: &mut Collector<'_>,
) -> (Vec<Port>, HashMap<String, usize>) {
    let mut ports: Vec<Port> = Vec::with_capacity(raw.len());
    let mut by_name = HashMap::with_capacity(raw.len());
    if raw.is_empty() {
        problems.add(0..0, "`port`: no port is defined; a shard needs at least one [[port]]");
    }
    for port in raw {
        let span = port.span();
        let port = port.into_inner();
        let name = port.name.get_ref().clone();
        if name.is_empty() {
            problems.add(port.name.span(), "`name`: a port's name is empty");
        }
        if by_name.insert(name.clone(), ports.len()).is_some() {
            problems.add(port.name.span(), format!("`name`: a second port `{name}`"));
        }
        let port = one(port, span.clone(), run_dir, limits, problems);
        let alone = |driver: &Driver| match driver {
            Driver::Dpdk(device) => !matches!(device, Device::Ring | Device::Null),
            Driver::Memif { .. } | Driver::Socket => false,
        };
        if let Some(other) = ports.iter().find(|other| other.driver == port.driver)
            && alone(&port.driver)
        {
            problems.add(span, format!("`device`: port `{}` has this one already", other.name));
        }
        ports.push(port);
    }
    (ports, by_name)
}

fn one(
    port: raw::Port,
    span: Range<usize>,
    run_dir: &Path,
    limits: &Limits,
    problems: &mut Collector<'_>,
) -> Port {
    refuse_others_keys(&port, problems);
    let Addresses { ip, ip6, vlan, mac } = addresses::check(&port, &span, problems);
    let spare = match port.driver {
        raw::Driver::Dpdk => SPARE_FRAMES + devices::ring_frames(&port),
        raw::Driver::Memif | raw::Driver::Socket => SPARE_FRAMES,
    };
    let least = limits.pending_frames + spare + 1;
    let frames = match &port.frames {
        Some(frames) => {
            if !(least..=MAX_FRAMES).contains(frames.get_ref()) {
                problems.add(
                    frames.span(),
                    format!(
                        "`frames`: {} is not in {least} to {MAX_FRAMES}: more than [limits] \
                         pending_frames ({}) and {spare} on their way must fit",
                        frames.get_ref(),
                        limits.pending_frames
                    ),
                );
            }
            *frames.get_ref()
        }
        None => DEFAULT_FRAMES.max(least.next_power_of_two()),
    };
    let driver = match port.driver {
        raw::Driver::Memif => {
            let socket = socket(&port, &span, run_dir, problems);
            let max_connections = match &port.max_connections {
                Some(max) if !(1..=1024).contains(max.get_ref()) => {
                    let reason =
                        format!("`max_connections`: {} is not in 1 to 1024", max.get_ref());
                    problems.add(max.span(), reason);
                    1
                }
                Some(max) => *max.get_ref(),
                None => 64,
            };
            let trusted = port.trusted.as_ref().is_some_and(|trusted| *trusted.get_ref());
            Driver::Memif { socket, max_connections, trusted }
        }
        raw::Driver::Socket => Driver::Socket,
        raw::Driver::Dpdk => Driver::Dpdk(devices::check(&port, &span, run_dir, problems)),
    };
    Port { name: port.name.into_inner(), ip, ip6, vlan, mac, frames, driver }
}

/// The path of a memif socket; a relative one is below the run directory.
pub(super) fn socket(
    port: &raw::Port,
    span: &Range<usize>,
    run_dir: &Path,
    problems: &mut Collector<'_>,
) -> std::path::PathBuf {
    let Some(socket) = &port.socket else {
        problems.add(span.clone(), "`socket`: a memif port needs the path of its socket");
        return run_dir.to_path_buf();
    };
    let path = run_dir.join(socket.get_ref());
    if socket.get_ref().as_os_str().is_empty() || path.as_os_str().len() > MAX_SOCKET_PATH {
        let reason = format!(
            "`socket`: {} has {} bytes; a socket's path has 1 to {MAX_SOCKET_PATH}",
            path.display(),
            path.as_os_str().len()
        );
        problems.add(socket.span(), reason);
    }
    path
}

/// A key that means nothing to the port's driver is a mistake.
fn refuse_others_keys(port: &raw::Port, problems: &mut Collector<'_>) {
    use raw::Driver::{Dpdk, Memif, Socket};
    type Key<'a> = (&'a str, Option<Range<usize>>, &'a [raw::Driver]);
    let keys: [Key<'_>; 13] = [
        ("vlan", port.vlan.as_ref().map(Spanned::span), &[Memif, Dpdk]),
        ("mac", port.mac.as_ref().map(Spanned::span), &[Memif, Dpdk]),
        ("socket", port.socket.as_ref().map(Spanned::span), &[Memif, Dpdk]),
        ("max_connections", port.max_connections.as_ref().map(Spanned::span), &[Memif]),
        ("trusted", port.trusted.as_ref().map(Spanned::span), &[Memif]),
        ("device", port.device.as_ref().map(Spanned::span), &[Dpdk]),
        ("interface", port.interface.as_ref().map(Spanned::span), &[Dpdk]),
        ("role", port.role.as_ref().map(Spanned::span), &[Dpdk]),
        ("id", port.id.as_ref().map(Spanned::span), &[Dpdk]),
        ("queue", port.queue.as_ref().map(Spanned::span), &[Dpdk]),
        ("rx_pcap", port.rx_pcap.as_ref().map(Spanned::span), &[Dpdk]),
        ("tx_pcap", port.tx_pcap.as_ref().map(Spanned::span), &[Dpdk]),
        ("address", port.address.as_ref().map(Spanned::span), &[Dpdk]),
    ];
    let name = match port.driver {
        Memif => "memif",
        Dpdk => "dpdk",
        Socket => "socket",
    };
    for (key, at, drivers) in keys {
        if let (Some(at), false) = (at, drivers.contains(&port.driver)) {
            problems.add(at, format!("`{key}` is not for driver = \"{name}\""));
        }
    }
}
