//! The configuration of a node: read from TOML, checked as a whole, handed out as plain values.
//!
//! Everything that is wrong is said with file, line, key and reason; as many problems at once as can be
//! told apart.

mod addresses;
mod admin;
mod check;
mod devices;
mod names;
mod ports;
mod problem;
mod raw;
mod reference;
mod telemetry;
#[cfg(test)]
mod tests;
mod values;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mstream_pmem::prepare::SyncConfig;
use mstream_pmem::region::Level;
use mstream_pmem::wal::TableLimits;

use crate::budget::{Medium, medium};
pub use admin::PORT as ADMIN_PORT;
pub use problem::{ConfigError, Problems};
pub use reference::reference;
pub use values::parse_bytes;

/// The most bytes a message block may have: what a datagram of 1,452 bytes has room for beside its
/// headers, tag and timestamps.
pub const MAX_BLOCK_BYTES: usize = 1344;
/// Frames that a port needs beyond those that wait for the watermark: a burst on its way in and
/// one on its way out.
pub const SPARE_FRAMES: usize = 64;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where it was read from.
    pub source: Source,
    /// The node.
    pub node: Node,
    /// Ports, in the order of the file.
    pub ports: Vec<Port>,
    /// Shards, in the order of the file; a shard's number is its index.
    pub shards: Vec<Shard>,
    /// The logs.
    pub wal: Wal,
    /// Cold segments.
    pub cold: Cold,
    /// Table sizes and limits of each shard.
    pub limits: Limits,
    /// Streams.
    pub streams: Vec<Stream>,
    /// Publishers that may claim a life.
    pub publishers: Vec<Publisher>,
    /// How DPDK is started, if any port needs it.
    pub dpdk: Dpdk,
    /// What is logged, and where to.
    pub log: Log,
    /// Who gets the metrics beside those who ask for them.
    pub metrics: Metrics,
}

/// The file that a configuration was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// The node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Number of the node, never 0.
    pub id: u32,
    /// Name, told to memif clients and in status.
    pub name: String,
    /// Directory of relative memif sockets.
    pub run_dir: PathBuf,
    /// Core of everything that is not a shard.
    pub control_core: usize,
    /// Address of the admin API; `None`: there is none.
    pub admin: Option<SocketAddr>,
    /// Directory of the catalogue; `None`: the log's, or what stands in for it.
    pub catalogue_dir: Option<PathBuf>,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name, unique in the file.
    pub name: String,
    /// IPv4 address of the shards on it. It has one of either family at least.
    pub ip: Option<Ipv4Addr>,
    /// IPv6 address of the shards on it.
    pub ip6: Option<Ipv6Addr>,
    /// VLAN that it is on; `None`: frames have no tag.
    pub vlan: Option<u16>,
    /// MAC address of the shards on it; `None` where there is none, or it is the PCI device's.
    pub mac: Option<[u8; 6]>,
    /// Buffers in its pool.
    pub frames: usize,
    /// What it is.
    pub driver: Driver,
}

impl Port {
    /// Its IP addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ip.map(IpAddr::V4).into_iter().chain(self.ip6.map(IpAddr::V6))
    }
}

/// What a port is, with its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A memif socket that clients of this machine connect to.
    Memif {
        /// Path of the control socket.
        socket: PathBuf,
        /// Connections at a time.
        max_connections: usize,
        /// Clients may hand over memory that can shrink under the appliance.
        trusted: bool,
    },
    /// A kernel UDP socket on the port's address and the shard's UDP port.
    Socket,
    /// A DPDK device.
    Dpdk(Device),
}

/// A DPDK device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// DPDK's net_memif.
    Memif {
        /// Path of the control socket.
        socket: PathBuf,
        /// Server (true) or client of that socket.
        server: bool,
        /// Id of the interface on that socket.
        id: u32,
    },
    /// DPDK's net_tap.
    Tap {
        /// Name of the kernel interface that it makes.
        interface: String,
    },
    /// DPDK's net_af_xdp.
    AfXdp {
        /// Name of an interface that the kernel has.
        interface: String,
        /// Number of the receive and transmit queue on it.
        queue: u16,
    },
    /// DPDK's net_af_packet.
    AfPacket {
        /// Name of an interface that the kernel has.
        interface: String,
    },
    /// DPDK's net_pcap. At least one file is named.
    Pcap {
        /// File to receive from.
        rx: Option<PathBuf>,
        /// File to send to, made anew.
        tx: Option<PathBuf>,
    },
    /// A PCI device.
    Pci {
        /// Its address, such as `0000:3b:00.0`.
        address: String,
    },
    /// DPDK's net_ring: what is sent comes back.
    Ring,
    /// DPDK's net_null: sends nowhere, receives nothing.
    Null,
}

/// What a shard does when a poll found nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls again: the core is the shard's.
    Spin,
    /// Lets other threads of its core run.
    Yield,
    /// Yields, then sleeps up to a millisecond.
    Backoff,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Core that it polls on.
    pub core: usize,
    /// Indexes of its ports in [`Config::ports`].
    pub ports: Vec<usize>,
    /// UDP port on all of them.
    pub udp_port: u16,
    /// What it does when there is nothing to do.
    pub idle: Idle,
}

/// The logs: one for each shard, in a directory below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wal {
    /// Directory that holds the lock and the shards' directories.
    pub dir: PathBuf,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Segments of each shard at most.
    pub segments: u32,
    /// The least durability level that will do.
    pub require: Option<Level>,
    /// Persistent memory counts as such under a hypervisor, on modules that are not armed and on `memmap=` regions.
    pub trust_host_pmem: bool,
    /// How ordinary files are synced; `None`: they are not.
    pub sync: Option<SyncConfig>,
    /// Segments kept ready to be written to.
    pub ready_segments: u32,
}

impl Wal {
    /// Directory of shard `shard`.
    pub fn shard_dir(&self, shard: usize) -> PathBuf {
        self.dir.join(format!("shard-{shard}"))
    }
}

/// Cold segments: what cold streams keep of what the logs recycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cold {
    /// Directory that holds a directory for each shard; `None`: beside the log, or what stands in for that.
    pub dir: Option<PathBuf>,
    /// Bytes that copying and merging move in a second at most, for each shard.
    pub bandwidth_bytes_per_second: u64,
    /// Buffers of each shard that cold segments are read into.
    pub read_buffers: usize,
    /// Bytes of each of them.
    pub read_buffer_bytes: usize,
}

/// Table sizes and limits, of each shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time.
    pub sessions: usize,
    /// Publications open at a time.
    pub publications: usize,
    /// Subscriptions open at a time.
    pub subscriptions: usize,
    /// Streams at a time; deleted ones count until they are given up.
    pub streams: usize,
    /// Publishers that the log may know, former ones included.
    pub publishers: usize,
    /// Records that may wait for the watermark.
    pub pending_records: usize,
    /// Received frames kept with those records.
    pub pending_frames: usize,
    /// Largest message block in bytes.
    pub max_block_bytes: usize,
    /// Block bytes a session may send beyond what it was told is stored.
    pub session_window_bytes: u64,
    /// Silence after which a session ends, in milliseconds.
    pub session_timeout_ms: u32,
}

impl Limits {
    /// Publications that the log remembers: one of each named publisher in each stream, up to a bound, and
    /// those that are open without a name.
    pub fn stored_publications(&self) -> usize {
        self.publications + self.publishers.saturating_mul(self.streams).min(1 << 16)
    }

    /// Sizes of the log's tables.
    pub fn log_tables(&self) -> TableLimits {
        TableLimits {
            streams: self.streams,
            publications: self.stored_publications(),
            publishers: self.publishers,
        }
    }
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Id, never 0.
    pub id: u64,
    /// Name, unique in the file.
    pub name: String,
    /// Number of its shard.
    pub shard: usize,
    /// Cold segments keep what the log recycles.
    pub cold: bool,
    /// Cold segments keep of each key the newest message only. Such a stream is cold.
    pub newest_per_key: bool,
    /// Line of its entry in the file.
    pub line: usize,
}

/// A publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Id, never 0, top bit clear.
    pub id: u64,
    /// Name, for people.
    pub name: String,
    /// Line of its entry in the file.
    pub line: usize,
}

/// How DPDK is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dpdk {
    /// Huge pages: demanded, forbidden, or used when there are any.
    pub huge_pages: Option<bool>,
    /// MiB of memory that DPDK takes.
    pub memory_mib: u32,
}

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is logged: off, error, warn, info, debug or trace.
    pub level: String,
    /// What a line on standard error looks like.
    pub format: LogFormat,
    /// To the journal instead of standard error; `None`: if standard error is connected to it.
    pub journald: Option<bool>,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object in each line.
    Json,
}

/// The export of metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// URI of an OTLP receiver (gRPC).
    pub otlp_endpoint: Option<String>,
    /// Time between two exports.
    pub otlp_interval: Duration,
}

impl Config {
    /// Reads and checks `file` for a machine on which this process may use `cores`.
    ///
    /// # Errors
    /// All problems that were found, with their lines.
    pub fn load(file: &Path, cores: &[usize]) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { path: file.to_path_buf(), source })?;
        Config::parse(file, &text, cores)
    }

    /// Checks `text`, the contents of `file`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(file: &Path, text: &str, cores: &[usize]) -> Result<Config, ConfigError> {
        let mut problems = problem::Collector::new(file, text);
        let raw = match toml::from_str::<raw::Raw>(text) {
            Ok(raw) => raw,
            Err(error) => {
                problems.add_parse_error(&error);
                return problems.finish(None);
            }
        };
        let config = check::check(raw, cores, &mut problems);
        problems.finish(Some(config))
    }

    /// Directory of the cold segments of shard `shard`.
    pub fn cold_dir(&self, shard: usize) -> PathBuf {
        match &self.cold.dir {
            Some(dir) => dir.join(format!("shard-{shard}")),
            // Files there cannot be written to by system calls.
            None if medium(&self.wal.dir) == Medium::Hugetlbfs => {
                self.node.run_dir.join("cold").join(format!("shard-{shard}"))
            }
            None => self.wal.shard_dir(shard).join("cold"),
        }
    }

    /// True if a port needs DPDK.
    pub fn uses_dpdk(&self) -> bool {
        self.ports.iter().any(|port| matches!(port.driver, Driver::Dpdk(_)))
    }

    /// What is allowed, but worth a word.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            if shard.core == self.node.control_core && shard.idle == Idle::Spin {
                remarks.push(format!(
                    "shard {number} spins on core {}, which is the control core too: figures taken \
                     this way mean little",
                    shard.core
                ));
            }
        }
        remarks
    }
}
