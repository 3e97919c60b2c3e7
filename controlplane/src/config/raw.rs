//! The configuration as it stands in the file: every key with its place, nothing believed yet.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::values::{Bytes, Mac, Switch};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) node: Node,
    #[serde(default)]
    pub(super) port: Vec<Spanned<Port>>,
    #[serde(default)]
    pub(super) shard: Vec<Spanned<Shard>>,
    pub(super) wal: Wal,
    #[serde(default)]
    pub(super) cold: Cold,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) stream: Vec<Spanned<Stream>>,
    #[serde(default)]
    pub(super) publisher: Vec<Spanned<Publisher>>,
    pub(super) dpdk: Option<Spanned<Dpdk>>,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) metrics: Metrics,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) id: Spanned<u32>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) run_dir: PathBuf,
    pub(super) control_core: Option<Spanned<usize>>,
    pub(super) admin: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) insecure: bool,
    pub(super) catalogue_dir: Option<Spanned<PathBuf>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Driver {
    Memif,
    Dpdk,
    Socket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Device {
    Memif,
    Tap,
    AfXdp,
    AfPacket,
    Pcap,
    Pci,
    Ring,
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Server,
    Client,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub(super) name: Spanned<String>,
    pub(super) driver: Driver,
    pub(super) ip: Option<Spanned<Ipv4Addr>>,
    pub(super) ip6: Option<Spanned<Ipv6Addr>>,
    pub(super) vlan: Option<Spanned<u16>>,
    pub(super) mac: Option<Spanned<Mac>>,
    pub(super) frames: Option<Spanned<usize>>,
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) max_connections: Option<Spanned<usize>>,
    pub(super) trusted: Option<Spanned<bool>>,
    pub(super) device: Option<Spanned<Device>>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) role: Option<Spanned<Role>>,
    pub(super) id: Option<Spanned<u32>>,
    pub(super) queue: Option<Spanned<u16>>,
    pub(super) rx_pcap: Option<Spanned<PathBuf>>,
    pub(super) tx_pcap: Option<Spanned<PathBuf>>,
    pub(super) address: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Idle {
    Spin,
    Yield,
    Backoff,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shard {
    pub(super) core: Spanned<usize>,
    pub(super) ports: Spanned<Vec<Spanned<String>>>,
    pub(super) udp_port: Spanned<u16>,
    pub(super) idle: Idle,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wal {
    pub(super) dir: Spanned<PathBuf>,
    pub(super) segment_bytes: Spanned<Bytes>,
    pub(super) max_bytes: Spanned<Bytes>,
    pub(super) require: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) trust_host_pmem: bool,
    pub(super) sync: Option<bool>,
    pub(super) sync_window_bytes: Option<Spanned<Bytes>>,
    pub(super) sync_poll_us: Option<Spanned<u64>>,
    pub(super) ready_segments: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cold {
    pub(super) dir: Option<Spanned<PathBuf>>,
    pub(super) bandwidth_bytes_per_second: Option<Spanned<Bytes>>,
    pub(super) read_buffers: Option<Spanned<usize>>,
    pub(super) read_buffer_bytes: Option<Spanned<Bytes>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) sessions: Option<Spanned<usize>>,
    pub(super) publications: Option<Spanned<usize>>,
    pub(super) subscriptions: Option<Spanned<usize>>,
    pub(super) streams: Option<Spanned<usize>>,
    pub(super) publishers: Option<Spanned<usize>>,
    pub(super) pending_records: Option<Spanned<usize>>,
    pub(super) pending_frames: Option<Spanned<usize>>,
    pub(super) max_block_bytes: Option<Spanned<Bytes>>,
    pub(super) session_window_bytes: Option<Spanned<Bytes>>,
    pub(super) session_timeout_ms: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) id: Spanned<u64>,
    pub(super) name: Spanned<String>,
    pub(super) shard: Option<Spanned<usize>>,
    #[serde(default)]
    pub(super) cold: bool,
    #[serde(default)]
    pub(super) newest_per_key: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publisher {
    pub(super) id: Spanned<u64>,
    pub(super) name: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dpdk {
    pub(super) huge_pages: Option<Switch>,
    pub(super) memory_mib: Option<Spanned<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: Option<Spanned<String>>,
    pub(super) format: Option<LogFormat>,
    pub(super) journald: Option<Switch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) otlp_endpoint: Option<Spanned<String>>,
    pub(super) otlp_interval_ms: Option<Spanned<u32>>,
}
