//! Checks of DPDK devices: each kind has keys of its own.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::problem::Collector;
use super::{Device, ports, raw};

/// Longest name of a kernel interface.
const MAX_INTERFACE: usize = 15;
/// Longest path that the kernel takes.
const MAX_PATH: usize = 4095;

/// Buffers that the device of a port keeps in its rings.
pub(super) fn ring_frames(port: &raw::Port) -> usize {
    match port.device.as_ref().map(|device| *device.get_ref()) {
        // Those that the kernel has for receiving, and those on their way out and back.
        Some(raw::Device::AfXdp) => 4096,
        // 512 each way.
        _ => 1024,
    }
}

/// The device of a port with `driver = "dpdk"`.
pub(super) fn check(
    port: &raw::Port,
    span: &Range<usize>,
    run_dir: &Path,
    problems: &mut Collector<'_>,
) -> Device {
    let Some(device) = &port.device else {
        let reason = "`device`: a dpdk port needs device = \"af_xdp\", \"af_packet\", \"pci\", \"tap\", \
                      \"memif\", \"pcap\", \"ring\" or \"null\"";
        problems.add(span.clone(), reason);
        return Device::Null;
    };
    let device = *device.get_ref();
    refuse_others_keys(port, device, problems);
    match device {
        raw::Device::Memif => Device::Memif {
            socket: ports::socket(port, span, run_dir, problems),
            server: port.role.as_ref().is_none_or(|role| *role.get_ref() == raw::Role::Server),
            id: port.id.as_ref().map_or(0, |id| *id.get_ref()),
        },
        raw::Device::Tap => {
            Device::Tap { interface: interface(port, span, "a tap", "to make", problems) }
        }
        raw::Device::AfXdp => Device::AfXdp {
            interface: interface(port, span, "an AF_XDP port", "to use", problems),
            queue: port.queue.as_ref().map_or(0, |queue| *queue.get_ref()),
        },
        raw::Device::AfPacket => Device::AfPacket {
            interface: interface(port, span, "a packet socket's port", "to use", problems),
        },
        raw::Device::Pcap => pcap(port, span, problems),
        raw::Device::Pci => Device::Pci { address: address(port, span, problems) },
        raw::Device::Ring => Device::Ring,
        raw::Device::Null => Device::Null,
    }
}

/// A key that means nothing to the port's device is a mistake.
fn refuse_others_keys(port: &raw::Port, device: raw::Device, problems: &mut Collector<'_>) {
    use raw::Device::{AfPacket, AfXdp, Memif, Pcap, Pci, Tap};
    type Key<'a> = (&'a str, Option<Range<usize>>, &'a [raw::Device], &'a str);
    let memif = "device = \"memif\"";
    let keys: [Key<'_>; 8] = [
        ("socket", port.socket.as_ref().map(Spanned::span), &[Memif], memif),
        ("role", port.role.as_ref().map(Spanned::span), &[Memif], memif),
        ("id", port.id.as_ref().map(Spanned::span), &[Memif], memif),
        (
            "interface",
            port.interface.as_ref().map(Spanned::span),
            &[Tap, AfXdp, AfPacket],
            "device = \"tap\", \"af_xdp\" or \"af_packet\"",
        ),
        ("queue", port.queue.as_ref().map(Spanned::span), &[AfXdp], "device = \"af_xdp\""),
        ("rx_pcap", port.rx_pcap.as_ref().map(Spanned::span), &[Pcap], "device = \"pcap\""),
        ("tx_pcap", port.tx_pcap.as_ref().map(Spanned::span), &[Pcap], "device = \"pcap\""),
        ("address", port.address.as_ref().map(Spanned::span), &[Pci], "device = \"pci\""),
    ];
    for (key, at, devices, only) in keys {
        if let (Some(at), false) = (at, devices.contains(&device)) {
            problems.add(at, format!("`{key}` is only for {only}"));
        }
    }
}

/// The name of the port's interface.
fn interface(
    port: &raw::Port,
    span: &Range<usize>,
    what: &str,
    purpose: &str,
    problems: &mut Collector<'_>,
) -> String {
    let interface = port.interface.as_ref().map(|name| name.get_ref().clone());
    let sound = |name: &String| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=MAX_INTERFACE).contains(&name.len()) && name.bytes().all(plain)
    };
    if !interface.as_ref().is_some_and(sound) {
        let at = port.interface.as_ref().map_or(span.clone(), Spanned::span);
        let reason = format!(
            "`interface`: {what} needs the name of the kernel interface {purpose}, 1 to {MAX_INTERFACE} \
             letters, digits, `-`, `_` or `.`"
        );
        problems.add(at, reason);
    }
    interface.unwrap_or_default()
}

fn pcap(port: &raw::Port, span: &Range<usize>, problems: &mut Collector<'_>) -> Device {
    let path = |key: &str, path: &Option<Spanned<PathBuf>>, problems: &mut Collector<'_>| {
        let path = path.as_ref()?;
        let sound = path.get_ref().to_str().is_some_and(|text| {
            (1..=MAX_PATH).contains(&text.len()) && !text.contains([',', '=', '[', ']', '"'])
        });
        if !sound {
            let reason =
                format!("`{key}`: a file's path has 1 to {MAX_PATH} bytes and none of , = [ ] \"");
            problems.add(path.span(), reason);
        }
        Some(path.get_ref().clone())
    };
    let rx = path("rx_pcap", &port.rx_pcap, problems);
    let tx = path("tx_pcap", &port.tx_pcap, problems);
    match (&rx, &tx) {
        (None, None) => {
            let reason = "`rx_pcap`: a pcap port needs a file to receive from (`rx_pcap`), to send to \
                          (`tx_pcap`), or both";
            problems.add(span.clone(), reason);
        }
        (Some(rx), Some(tx)) if rx == tx => {
            let at = port.tx_pcap.as_ref().map_or(span.clone(), Spanned::span);
            problems.add(at, "`tx_pcap`: it is `rx_pcap` too, and would be overwritten");
        }
        _ => {}
    }
    Device::Pcap { rx, tx }
}

fn address(port: &raw::Port, span: &Range<usize>, problems: &mut Collector<'_>) -> String {
    let address = port.address.as_ref().map(|address| address.get_ref().clone());
    if !address.as_deref().is_some_and(is_pci_address) {
        let at = port.address.as_ref().map_or(span.clone(), Spanned::span);
        problems
            .add(at, "`address`: a pci port needs the device's address, such as \"0000:3b:00.0\"");
    }
    address.unwrap_or_default()
}

/// Domain, bus, device and function, as `lspci -D` writes them.
fn is_pci_address(text: &str) -> bool {
    let pattern = b"hhhh:hh:hh.h";
    let fits = |(byte, pattern): (u8, &u8)| match pattern {
        b'h' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        other => byte == *other,
    };
    text.len() == pattern.len() && text.bytes().zip(pattern).all(fits)
}
