//! What a shard is made of, as plain values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mstream_nic::Capabilities;
use mstream_nic::headers::IpPair;
use mstream_pmem::region::Level;
use mstream_pmem::wal::TableFull;
use mstream_wire::DEFAULT_MAX_BLOCK_BYTES;

/// One port of the shard, as the network sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAddress {
    /// MAC address the shard answers to; not looked at on ports that are no Ethernet.
    pub mac: [u8; 6],
    /// IPv4 address the shard answers to, if it does.
    pub ip: Option<Ipv4Addr>,
    /// IPv6 address the shard answers to, if it does.
    pub ip6: Option<Ipv6Addr>,
    /// VLAN that the port is on, 1 to 4094; `None`: frames have no tag.
    pub vlan: Option<u16>,
    /// What the port does by itself.
    pub capabilities: Capabilities,
}

impl PortAddress {
    /// Whether `ip` is the shard's.
    #[inline]
    pub(super) fn is(&self, ip: &IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.ip == Some(*ip),
            IpAddr::V6(ip) => self.ip6 == Some(*ip),
        }
    }

    /// The addresses of a packet to `ip`, which sent one to the shard's address of its family.
    #[inline]
    pub(super) fn to(&self, ip: &IpAddr) -> IpPair {
        match *ip {
            IpAddr::V4(dst) => IpPair::V4 { src: self.ip.unwrap_or(Ipv4Addr::UNSPECIFIED), dst },
            IpAddr::V6(dst) => IpPair::V6 { src: self.ip6.unwrap_or(Ipv6Addr::UNSPECIFIED), dst },
        }
    }
}

/// A stream of the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// Id, never 0.
    pub id: u64,
    /// Name that clients may use instead.
    pub name: Box<str>,
    /// Its rules.
    pub rules: StreamRules,
}

/// What makes a message visible and acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Watermark {
    /// A barrier of the region's level covers it on this node.
    Persisted,
    /// It is persisted on the required copies.
    #[default]
    Committed,
}

/// The rules of a stream. 0 means: no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamRules {
    /// What makes its messages visible and acknowledged.
    pub watermark: Watermark,
    /// A shard whose region gives less refuses the stream.
    pub minimum_level: Option<Level>,
    /// Bytes of records that it keeps at most.
    pub retention_bytes: u64,
    /// Age that its records reach at most, in milliseconds.
    pub retention_ms: u64,
    /// Largest block, in bytes.
    pub max_block_bytes: u32,
    /// Publications at a time.
    pub max_publications: u32,
    /// Subscriptions at a time.
    pub max_subscriptions: u32,
    /// Cold segments keep what the log recycles, and see to its retention.
    pub cold: bool,
}

impl StreamRules {
    /// No limit of its own.
    pub const NONE: StreamRules = StreamRules {
        watermark: Watermark::Committed,
        minimum_level: None,
        retention_bytes: 0,
        retention_ms: 0,
        max_block_bytes: 0,
        max_publications: 0,
        max_subscriptions: 0,
        cold: false,
    };

    /// True if records go from the log because of these rules. Those of a cold stream stay until their segments are
    /// recycled: they may not be copied yet.
    pub(crate) fn expires(&self) -> bool {
        !self.cold && (self.retention_bytes != 0 || self.retention_ms != 0)
    }

    /// The most bytes of a block, where the shard takes `most`.
    #[inline]
    pub(crate) fn most_block_bytes(&self, most: usize) -> usize {
        match self.max_block_bytes {
            0 => most,
            own => most.min(own as usize),
        }
    }
}

/// True when `count` open ones are as many as a rule allows.
pub(crate) fn at_limit(count: u32, rule: u32) -> bool {
    rule != 0 && count >= rule
}

/// Why a shard cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The log's tables have no room for the streams or publishers.
    #[error(transparent)]
    Full(#[from] TableFull),
    /// The region promises less than a stream demands.
    #[error("stream {name} demands level {wants}, the shard's log has level {has}")]
    Level {
        /// Name of the stream.
        name: Box<str>,
        /// The stream's minimum level.
        wants: Level,
        /// The region's level.
        has: Level,
    },
}

/// A publisher that may claim a life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherEntry {
    /// Id, never 0, top bit clear.
    pub id: u64,
    /// Name, for people.
    pub name: Box<str>,
}

/// Fixed sizes of a shard's tables, and limits told to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time.
    pub sessions: usize,
    /// Publications (a session's open streams) at a time.
    pub publications: usize,
    /// Subscriptions at a time.
    pub subscriptions: usize,
    /// Records that may wait for the watermark.
    pub pending_records: usize,
    /// Received frames kept with those records, to be delivered without a copy.
    pub pending_frames: usize,
    /// Largest message block in bytes.
    pub max_block_bytes: usize,
    /// Block bytes a session may send beyond what it was told is stored.
    pub session_window_bytes: u64,
    /// Silence after which a session ends, in milliseconds.
    pub session_timeout_ms: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sessions: 1024,
            publications: 1024,
            subscriptions: 1024,
            pending_records: 4096,
            pending_frames: 1024,
            max_block_bytes: DEFAULT_MAX_BLOCK_BYTES,
            session_window_bytes: 256 * 1024,
            session_timeout_ms: 30_000,
        }
    }
}

/// Everything a shard is told at start.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// The shard's ports, in the order of their indexes.
    pub ports: Vec<PortAddress>,
    /// UDP port of the shard on all of them.
    pub udp_port: u16,
    /// Table sizes and limits.
    pub limits: Limits,
    /// Streams that live on this shard.
    pub streams: Vec<StreamEntry>,
    /// Publishers that may claim a life.
    pub publishers: Vec<PublisherEntry>,
    /// Secret random bytes for cookies and tokens, new at every start.
    pub secret: [u8; 16],
}
