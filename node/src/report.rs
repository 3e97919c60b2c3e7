//! What the node says about itself: the plan of `--check`, and its status.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use mstream_controlplane::config::{Config, Device, Driver, Port};
use mstream_controlplane::{Available, Budget};
use mstream_dataplane::{Status, Unreadable};

use crate::Failure;
use crate::args::{Args, Reference};
use crate::placement::Placement;

/// Writes to standard output what a start with this configuration would do.
pub(crate) fn plan(
    args: &Args,
    config: &Config,
    budget: Option<&Budget>,
    placement: &Placement,
) -> Result<(), Failure> {
    let mut text = format!("{}: the configuration is sound\n", args.config.display());
    let node = &config.node;
    let _ = writeln!(text, "node {} ({}), control core {}", node.id, node.name, node.control_core);
    for (number, shard) in config.shards.iter().enumerate() {
        let ports = shard.ports.iter().map(|port| describe(&config.ports[*port], shard.udp_port));
        let ports = ports.collect::<Vec<_>>().join("; ");
        let _ = writeln!(text, "shard {number}: core {}, {:?}; {ports}", shard.core, shard.idle);
        let streams = config.streams.iter().filter(|stream| stream.shard == number).count();
        let wal = &config.wal;
        let _ = writeln!(
            text,
            "shard {number}: {streams} streams; log in {}, at most {} segments of {} bytes; level at \
             least {}, found out at start",
            wal.shard_dir(number).display(),
            wal.segments,
            wal.segment_bytes,
            wal.require.map_or("process", |level| level.name()),
        );
        let _ = writeln!(
            text,
            "shard {number}: cold segments in {}; {} bytes a second at most, {} buffers of {} bytes",
            config.cold_dir(number).display(),
            config.cold.bandwidth_bytes_per_second,
            config.cold.read_buffers,
            config.cold.read_buffer_bytes,
        );
    }
    if let Some(budget) = budget {
        let _ = writeln!(text, "memory:\n{budget}");
        if let Ok(available) = Available::now() {
            let _ = writeln!(
                text,
                "  available: {} MiB, and {} MiB of huge pages",
                available.memory >> 20,
                available.huge_pages >> 20
            );
        }
    }
    for line in &placement.lines {
        let _ = writeln!(text, "{line}");
    }
    for finding in &placement.findings {
        let _ = writeln!(
            text,
            "warning: {}: {}\n    mend it: {}",
            finding.check, finding.text, finding.remedy
        );
    }
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| format!("standard output: {error}"))
}

/// Writes a page of reference to standard output.
pub(crate) fn reference(topic: Reference) -> Result<(), Failure> {
    let page = match topic {
        Reference::Config => mstream_controlplane::config::reference(),
        Reference::Metrics => mstream_controlplane::metrics::page(),
    };
    std::io::stdout()
        .lock()
        .write_all(page.as_bytes())
        .map_err(|error| format!("standard output: {error}"))
}

/// A port in words.
pub(crate) fn describe(port: &Port, udp_port: u16) -> String {
    let what = match &port.driver {
        Driver::Memif { socket, .. } => format!("memif {}", socket.display()),
        Driver::Socket => "kernel socket".to_string(),
        Driver::Dpdk(Device::Memif { socket, .. }) => format!("DPDK memif {}", socket.display()),
        Driver::Dpdk(Device::Tap { interface }) => format!("DPDK tap {interface}"),
        Driver::Dpdk(Device::AfXdp { interface, queue }) => {
            format!("AF_XDP queue {queue} of {interface}")
        }
        Driver::Dpdk(Device::AfPacket { interface }) => format!("packet socket on {interface}"),
        Driver::Dpdk(Device::Pcap { rx, tx }) => {
            let file = |path: &Option<PathBuf>| {
                path.as_ref().map_or("nothing".to_string(), |path| path.display().to_string())
            };
            format!("capture files, from {} to {}", file(rx), file(tx))
        }
        Driver::Dpdk(Device::Pci { address }) => format!("PCI device {address}"),
        Driver::Dpdk(Device::Ring) => "DPDK ring".to_string(),
        Driver::Dpdk(Device::Null) => "DPDK null".to_string(),
    };
    let addresses = port.addresses().map(|ip| SocketAddr::new(ip, udp_port).to_string());
    let addresses = addresses.collect::<Vec<_>>().join(" and ");
    let vlan = port.vlan.map_or_else(String::new, |vlan| format!(" on VLAN {vlan}"));
    format!("{} = {what} at {addresses}{vlan}", port.name)
}

/// Positions, counters and ports of shard `number`, one line each. Counters that are 0 are left out.
pub(crate) fn status(number: usize, names: &[String], status: &Status) -> Vec<String> {
    let numbers = |all: &mut dyn Iterator<Item = (&'static str, u64)>| {
        all.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let mut lines = vec![
        format!("shard {number}: {}", numbers(&mut status.positions())),
        format!(
            "shard {number}: {}",
            numbers(&mut status.counters().filter(|(_, value)| *value > 0))
        ),
    ];
    for (port, name) in names.iter().enumerate() {
        if let Some(stats) = status.port(port) {
            lines.push(format!(
                "shard {number}: port {name}: rx_frames={} rx_bytes={} rx_no_buffer={} rx_refused={} \
                 tx_frames={} tx_bytes={} tx_dropped={}",
                stats.rx_frames,
                stats.rx_bytes,
                stats.rx_no_buffer,
                stats.rx_refused,
                stats.tx_frames,
                stats.tx_bytes,
                stats.tx_dropped,
            ));
        }
    }
    lines
}

/// What is wrong with a log of which readers cannot be given all that they ask for, if it is so. It stays the same once
/// there is something: metrics have it as a label.
pub(crate) fn damage(unreadable: &Unreadable) -> Option<String> {
    let (stream, offset) = unreadable.first;
    (unreadable.messages > 0).then(|| {
        format!("damaged: stored messages cannot be read, the first one met is offset {offset} of stream {stream}")
    })
}

/// What a shard refused, by reason, as far as it became more.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    before: Vec<u64>,
}

impl Refusals {
    /// The reasons whose counts grew since the last call, with how much.
    pub(crate) fn grown(&mut self, status: &Status) -> Vec<(&'static str, u64)> {
        let refusals: Vec<_> = status.counters().filter(|(name, _)| is_refusal(name)).collect();
        self.before.resize(refusals.len(), 0);
        let mut grown = Vec::new();
        for ((name, value), before) in refusals.into_iter().zip(&mut self.before) {
            if value > *before {
                grown.push((name, value - *before));
                *before = value;
            }
        }
        grown
    }
}

/// What went wrong at the ports of a shard.
#[derive(Debug, Default)]
pub(crate) struct PortErrors {
    before: Vec<[u64; 3]>,
}

impl PortErrors {
    /// What became more since the last call at one of `ports` ports: which, what, and how much.
    pub(crate) fn grown(
        &mut self,
        status: &Status,
        ports: usize,
    ) -> Vec<(usize, &'static str, u64)> {
        const WHAT: [&str; 3] = [
            "no buffer for a received frame (rx_no_buffer)",
            "the device refused a received frame (rx_refused)",
            "a frame could not be sent (tx_dropped)",
        ];
        self.before.resize(ports, [0; 3]);
        let mut grown = Vec::new();
        for (port, before) in self.before.iter_mut().enumerate() {
            let Some(stats) = status.port(port) else { continue };
            let now = [stats.rx_no_buffer, stats.rx_refused, stats.tx_dropped];
            for ((what, now), before) in WHAT.into_iter().zip(now).zip(before) {
                if now > *before {
                    grown.push((port, what, now - *before));
                    *before = now;
                }
            }
        }
        grown
    }
}

fn is_refusal(name: &str) -> bool {
    mstream_dataplane::Refusal::ALL.iter().any(|refusal| refusal.name() == name)
        || mstream_wire::WireError::ALL.into_iter().any(|error| error.name() == name)
}
