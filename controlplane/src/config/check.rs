//! Checks of the configuration as a whole, and the defaults of what it leaves out.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use mstream_pmem::prepare::SyncConfig;
use mstream_pmem::region::Level;
use mstream_pmem::staged::default_window_bytes;
use toml::Spanned;

use super::problem::Collector;
use super::values::{Bytes, Switch};
use super::{
    Cold, Config, Device, Dpdk, Driver, Idle, Limits, MAX_BLOCK_BYTES, Node, Port, Shard, Wal, raw,
};
use super::{admin, names, ports, telemetry};

/// Longest name of the node: what memif has room for.
const MAX_NODE_NAME: usize = 31;
/// The log addresses records by 32 bits in units of 64 bytes.
const MAX_LOG_BYTES: u64 = 64 << 32;
/// A packet buffer of DPDK with its room for headers and its place in a pool.
const DPDK_FRAME_BYTES: u64 = 3072;
const LEAST_SEGMENT_BYTES: u64 = 64 << 10;
/// Some records of the largest blocks.
const LEAST_SYNC_WINDOW: u64 = 16 << 10;

/// Checks `raw`; what is wrong goes to `problems`, and the result is only of use when nothing did.
pub(super) fn check(raw: raw::Raw, cores: &[usize], problems: &mut Collector<'_>) -> Config {
    let limits = limits(&raw.limits, raw.stream.len(), raw.publisher.len(), problems);
    let (ports, port_names) = ports::check(raw.port, &raw.node.run_dir, &limits, problems);
    let shards = shards(&raw.shard, &ports, &port_names, cores, problems);
    let node = node(raw.node, &shards, cores, problems);
    let wal = wal(&raw.wal, &limits, problems);
    let cold = cold(&raw.cold, problems);
    let streams = names::streams(raw.stream, shards.len(), problems);
    let publishers = names::publishers(raw.publisher, problems);
    let dpdk = dpdk(raw.dpdk, &ports, problems);
    let log = telemetry::log(raw.log, problems);
    let metrics = telemetry::metrics(raw.metrics, problems);
    let source = problems.source();
    Config {
        source,
        node,
        ports,
        shards,
        wal,
        cold,
        limits,
        streams,
        publishers,
        dpdk,
        log,
        metrics,
    }
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn node(raw: raw::Node, shards: &[Shard], cores: &[usize], problems: &mut Collector<'_>) -> Node {
    if *raw.id.get_ref() == 0 {
        problems.add(raw.id.span(), "`id`: node ids start at 1");
    }
    let name = match raw.name {
        Some(name) => {
            if !(1..=MAX_NODE_NAME).contains(&name.get_ref().len()) {
                let reason = format!("`name`: a node's name has 1 to {MAX_NODE_NAME} bytes");
                problems.add(name.span(), reason);
            }
            name.into_inner()
        }
        None => format!("node-{}", raw.id.get_ref()),
    };
    let control_core = match raw.control_core {
        Some(core) => {
            if !cores.contains(core.get_ref()) {
                let reason = format!(
                    "`control_core`: there is no core {}; this process may use {}",
                    core.get_ref(),
                    list(cores)
                );
                problems.add(core.span(), reason);
            }
            core.into_inner()
        }
        // One that no shard uses, if there is one.
        None => cores
            .iter()
            .copied()
            .find(|core| shards.iter().all(|shard| shard.core != *core))
            .or(cores.first().copied())
            .unwrap_or(0),
    };
    let admin = admin::address(raw.admin, raw.insecure, problems);
    let catalogue_dir = admin::catalogue_dir(raw.catalogue_dir, problems);
    Node { id: raw.id.into_inner(), name, run_dir: raw.run_dir, control_core, admin, catalogue_dir }
}

fn shards(
    raw: &[Spanned<raw::Shard>],
    ports: &[Port],
    names: &HashMap<String, usize>,
    cores: &[usize],
    problems: &mut Collector<'_>,
) -> Vec<Shard> {
    if raw.is_empty() {
        problems.add(0..0, "`shard`: no shard is defined; a node needs at least one [[shard]]");
    }
    let mut shards: Vec<Shard> = Vec::with_capacity(raw.len());
    for (number, shard) in raw.iter().enumerate() {
        let shard = shard.get_ref();
        let core = *shard.core.get_ref();
        if !cores.contains(&core) {
            let reason =
                format!("`core`: there is no core {core}; this process may use {}", list(cores));
            problems.add(shard.core.span(), reason);
        }
        if let Some(other) = shards.iter().position(|other| other.core == core) {
            let reason = format!("`core`: shard {other} is on core {core} already");
            problems.add(shard.core.span(), reason);
        }
        let udp_port = *shard.udp_port.get_ref();
        if udp_port == 0 {
            problems.add(shard.udp_port.span(), "`udp_port`: 0 is not a port");
        }
        let mut indexes = Vec::new();
        for name in shard.ports.get_ref() {
            let at = name.span();
            let Some(index) = names.get(name.get_ref()).copied() else {
                let reason = format!("`ports`: there is no port `{}`", name.get_ref());
                problems.add(at, reason);
                continue;
            };
            if indexes.contains(&index) {
                let reason = format!("`ports`: `{}` is named twice", name.get_ref());
                problems.add(at, reason);
                continue;
            }
            refuse_sharing(&shards, ports, index, udp_port, shard, at, problems);
            indexes.push(index);
        }
        if shard.ports.get_ref().is_empty() {
            problems.add(shard.ports.span(), format!("`ports`: shard {number} has no port"));
        }
        let idle = match shard.idle {
            raw::Idle::Spin => Idle::Spin,
            raw::Idle::Yield => Idle::Yield,
            raw::Idle::Backoff => Idle::Backoff,
        };
        shards.push(Shard { core, ports: indexes, udp_port, idle });
    }
    for (index, port) in ports.iter().enumerate() {
        if !raw.is_empty() && shards.iter().all(|shard| !shard.ports.contains(&index)) {
            let at = raw[0].get_ref().ports.span();
            problems.add(at, format!("`ports`: port `{}` belongs to no shard", port.name));
        }
    }
    shards
}

/// A port other than a socket has one receive queue, so one shard; sockets bind one UDP port each.
fn refuse_sharing(
    shards: &[Shard],
    ports: &[Port],
    index: usize,
    udp_port: u16,
    shard: &raw::Shard,
    at: std::ops::Range<usize>,
    problems: &mut Collector<'_>,
) {
    let port = &ports[index];
    for (number, other) in shards.iter().enumerate() {
        let clash = other.ports.iter().copied().find(|other| {
            let other = &ports[*other];
            port.driver == Driver::Socket
                && other.driver == Driver::Socket
                && other.addresses().eq(port.addresses())
        });
        if clash.is_some() && other.udp_port == udp_port {
            let address = port.addresses().map(|ip| ip.to_string()).collect::<String>();
            let reason =
                format!("`udp_port`: shard {number} uses UDP port {udp_port} of {address} already");
            problems.add(shard.udp_port.span(), reason);
        }
        if port.driver != Driver::Socket && other.ports.contains(&index) {
            let reason = format!(
                "`ports`: port `{}` has one receive queue, and that is shard {number}'s",
                port.name
            );
            problems.add(at.clone(), reason);
        }
    }
}

fn wal(raw: &raw::Wal, limits: &Limits, problems: &mut Collector<'_>) -> Wal {
    let segment_bytes = raw.segment_bytes.get_ref().0;
    let max_bytes = raw.max_bytes.get_ref().0;
    if raw.dir.get_ref().as_os_str().is_empty() {
        problems.add(raw.dir.span(), "`dir`: the path is empty");
    }
    let ready_segments = raw.ready_segments.as_ref().map_or(2, |ready| *ready.get_ref());
    if ready_segments == 0
        && let Some(at) = raw.ready_segments.as_ref().map(Spanned::span)
    {
        problems.add(at, "`ready_segments`: at least 1 must be ready");
    }
    let mut segments = 0;
    if segment_bytes < LEAST_SEGMENT_BYTES || !segment_bytes.is_multiple_of(4096) {
        let reason = format!(
            "`segment_bytes`: {segment_bytes} is not a multiple of 4096 of at least \
             {LEAST_SEGMENT_BYTES}"
        );
        problems.add(raw.segment_bytes.span(), reason);
    } else {
        let least = u64::from(limits.log_tables().least_segments(segment_bytes, ready_segments));
        let found = max_bytes / segment_bytes;
        if !max_bytes.is_multiple_of(segment_bytes) {
            let reason = format!(
                "`max_bytes`: {max_bytes} is not a multiple of segment_bytes ({segment_bytes})"
            );
            problems.add(raw.max_bytes.span(), reason);
        } else if max_bytes > MAX_LOG_BYTES {
            let reason = format!("`max_bytes`: a log has at most {MAX_LOG_BYTES} bytes");
            problems.add(raw.max_bytes.span(), reason);
        } else if found < least {
            let reason = format!(
                "`max_bytes`: {found} segments; ready_segments = {ready_segments} and [limits] \
                 need at least {least} ({} bytes)",
                least * segment_bytes
            );
            problems.add(raw.max_bytes.span(), reason);
        }
        segments = u32::try_from(found).unwrap_or(u32::MAX);
    }
    let require = raw.require.as_ref().and_then(|name| {
        let level = Level::from_name(name.get_ref());
        if level.is_none() {
            let reason = format!(
                "`require`: unknown level `{}`, expected one of `process`, `pmem-emulated`, \
                 `media-sync`, `pmem`",
                name.get_ref()
            );
            problems.add(name.span(), reason);
        }
        level
    });
    let sync = sync(raw, segment_bytes, problems);
    Wal {
        dir: raw.dir.get_ref().clone(),
        segment_bytes,
        segments,
        require,
        trust_host_pmem: raw.trust_host_pmem,
        sync,
        ready_segments,
    }
}

/// How ordinary files are synced, unless that is not wanted.
fn sync(raw: &raw::Wal, segment_bytes: u64, problems: &mut Collector<'_>) -> Option<SyncConfig> {
    let window = number(&raw.sync_window_bytes);
    let default = default_window_bytes(segment_bytes);
    let mut within = Within { problems };
    let window_bytes =
        within.range("sync_window_bytes", &window, default, LEAST_SYNC_WINDOW..=1 << 30);
    let poll_us = within.range("sync_poll_us", &raw.sync_poll_us, 50, 1..=10_000);
    if let Some(at) = window.filter(|window| !window.get_ref().is_multiple_of(64)) {
        problems.add(at.span(), "`sync_window_bytes`: not a multiple of 64");
    }
    let sync = SyncConfig { poll: Duration::from_micros(poll_us), window_bytes };
    raw.sync.unwrap_or(true).then_some(sync)
}

fn cold(raw: &raw::Cold, problems: &mut Collector<'_>) -> Cold {
    if let Some(dir) = raw.dir.as_ref().filter(|dir| dir.get_ref().as_os_str().is_empty()) {
        problems.add(dir.span(), "`dir`: the path is empty");
    }
    let mut within = Within { problems };
    let bandwidth = number(&raw.bandwidth_bytes_per_second);
    let buffer = number(&raw.read_buffer_bytes);
    Cold {
        dir: raw.dir.as_ref().map(|dir| dir.get_ref().clone()),
        bandwidth_bytes_per_second: within.range(
            "bandwidth_bytes_per_second",
            &bandwidth,
            256 << 20,
            1 << 20..=1 << 40,
        ),
        read_buffers: within.range("read_buffers", &raw.read_buffers, 16, 1..=4096),
        read_buffer_bytes: within.range(
            "read_buffer_bytes",
            &buffer,
            256 << 10,
            16 << 10..=16 << 20,
        ) as usize,
    }
}

fn limits(
    raw: &raw::Limits,
    streams: usize,
    publishers: usize,
    problems: &mut Collector<'_>,
) -> Limits {
    let mut within = Within { problems };
    let most = 1 << 20;
    let pending_records = within.range("pending_records", &raw.pending_records, 4096, 64..=most);
    let pending_frames = within.range(
        "pending_frames",
        &raw.pending_frames,
        pending_records.min(1024),
        0..=pending_records,
    );
    let max_block_bytes = within.range(
        "max_block_bytes",
        &number(&raw.max_block_bytes),
        1280,
        64..=MAX_BLOCK_BYTES as u64,
    );
    Limits {
        sessions: within.range("sessions", &raw.sessions, 1024, 1..=most),
        publications: within.range("publications", &raw.publications, 1024, 1..=most),
        subscriptions: within.range("subscriptions", &raw.subscriptions, 1024, 1..=most),
        streams: within.range("streams", &raw.streams, streams.max(64), streams.max(1)..=most),
        publishers: within.range(
            "publishers",
            &raw.publishers,
            publishers.max(64),
            publishers..=most,
        ),
        pending_records,
        pending_frames,
        max_block_bytes: max_block_bytes as usize,
        session_window_bytes: within.range(
            "session_window_bytes",
            &number(&raw.session_window_bytes),
            256 << 10,
            max_block_bytes..=1 << 32,
        ),
        session_timeout_ms: within.range(
            "session_timeout_ms",
            &raw.session_timeout_ms,
            30_000,
            100..=86_400_000,
        ),
    }
}

/// A number of bytes as a plain number.
fn number(bytes: &Option<Spanned<Bytes>>) -> Option<Spanned<u64>> {
    bytes.as_ref().map(|bytes| Spanned::new(bytes.span(), bytes.get_ref().0))
}

struct Within<'a, 'b> {
    problems: &'a mut Collector<'b>,
}

impl Within<'_, '_> {
    /// The value of a limit, or its default.
    fn range<T: Copy + PartialOrd + Display>(
        &mut self,
        key: &str,
        value: &Option<Spanned<T>>,
        default: T,
        allowed: RangeInclusive<T>,
    ) -> T {
        let Some(value) = value else { return default };
        if !allowed.contains(value.get_ref()) {
            let (least, most) = (allowed.start(), allowed.end());
            let reason = format!("`{key}`: {} is not in {least} to {most}", value.get_ref());
            self.problems.add(value.span(), reason);
        }
        *value.get_ref()
    }
}

fn dpdk(raw: Option<Spanned<raw::Dpdk>>, ports: &[Port], problems: &mut Collector<'_>) -> Dpdk {
    let needed = ports.iter().any(|port| matches!(port.driver, Driver::Dpdk(_)));
    if let (Some(raw), false) = (&raw, needed) {
        problems.add(raw.span(), "[dpdk] is set, but no port has driver = \"dpdk\"");
    }
    let forbidden =
        raw.as_ref().is_some_and(|raw| raw.get_ref().huge_pages == Some(Switch(Some(false))));
    let is_pci = |port: &Port| matches!(port.driver, Driver::Dpdk(Device::Pci { .. }));
    if let (Some(raw), true, true) = (&raw, forbidden, ports.iter().any(is_pci)) {
        problems.add(raw.span(), "`huge_pages`: a port with device = \"pci\" needs them");
    }
    let raw = raw.map(Spanned::into_inner).unwrap_or_default();
    let memory_mib = match raw.memory_mib {
        Some(memory) => {
            if !(16..=1 << 20).contains(memory.get_ref()) {
                let reason = format!("`memory_mib`: {} is not in 16 to 1048576", memory.get_ref());
                problems.add(memory.span(), reason);
            }
            memory.into_inner()
        }
        // What the pools take, and DPDK's own tables.
        None => {
            let in_pools =
                |port: &Port| matches!(port.driver, Driver::Dpdk(_)) as usize * port.frames;
            let frames: usize = ports.iter().map(in_pools).sum();
            64 + (frames as u64 * DPDK_FRAME_BYTES).div_ceil(1 << 20) as u32
        }
    };
    Dpdk { huge_pages: raw.huge_pages.and_then(|switch| switch.0), memory_mib }
}

/// Says that an id or name occurs twice.
pub(super) struct Unique<T> {
    seen: HashSet<T>,
}

impl<T: std::hash::Hash + Eq + Clone + Display> Unique<T> {
    pub(super) fn new() -> Unique<T> {
        Unique { seen: HashSet::new() }
    }

    pub(super) fn take(
        &mut self,
        key: &str,
        what: &str,
        value: &Spanned<T>,
        problems: &mut Collector<'_>,
    ) {
        if !self.seen.insert(value.get_ref().clone()) {
            let reason = format!("`{key}`: a second {what} `{}`", value.get_ref());
            problems.add(value.span(), reason);
        }
    }
}
