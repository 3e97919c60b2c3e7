//! The node and its shards as values of the admin API, and the catalogue's values as the data plane's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mstream_admin::v1;
use mstream_controlplane::Config;
use mstream_controlplane::admin::{Answer, Page, Shards, convert_level, now_ns};
use mstream_controlplane::catalogue::{Publisher, Rules, Stream, Watermark};
use mstream_controlplane::config::Port;
use mstream_dataplane::{PollTimes, Status, StreamEntry, StreamRules};
use mstream_pmem::staged::{SyncTimes, Syncs};

use crate::cold::Cells;
use crate::link::Link;
use crate::node::Watched;
use crate::placement::Finding;
use crate::probe::{self, PortProbe};
use crate::report;
use crate::supply::Shortage;

/// The shards of the node as the admin API sees them.
pub(crate) struct Node {
    /// What never changes: the node, its findings, its shards and ports.
    fixed: v1::Status,
    shards: Vec<Seen>,
    /// All shards poll, and the node is not stopping.
    ready: Arc<AtomicBool>,
}

/// One shard.
struct Seen {
    /// What it publishes.
    status: Arc<Status>,
    /// The queues to it.
    link: Arc<Link>,
    /// Its ports.
    probes: Arc<Vec<PortProbe>>,
    /// Why its log takes nothing; empty if it does.
    fault: String,
    /// How long the syncs of its log take, if there are any.
    syncs: Option<Syncs>,
    /// Its cold segments.
    cold: Arc<Cells>,
    /// Why no segment can be made for it.
    shortage: Arc<Shortage>,
}

impl Node {
    pub(crate) fn new(
        config: &Config,
        findings: &[Finding],
        watched: &[Watched],
        probes: &[Arc<Vec<PortProbe>>],
        ready: Arc<AtomicBool>,
    ) -> Node {
        let lack = |number: u32| {
            let watched = watched.get(number as usize);
            watched.map(|shard| shard.lack.clone()).unwrap_or_default()
        };
        let required = config.wal.require.map_or(0, |level| convert_level(level).into());
        let shards = (0..).zip(&config.shards).map(|(number, shard)| v1::Shard {
            number,
            core: shard.core as u32,
            udp_port: shard.udp_port.into(),
            ports: shard.ports.iter().map(|port| fixed_port(&config.ports[*port])).collect(),
            required_level: required,
            missing: lack(number).ranges,
            missing_messages: lack(number).messages,
            ..v1::Shard::default()
        });
        let fixed = v1::Status {
            node_id: config.node.id,
            node_name: config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            started_ns: now_ns(),
            shards: shards.collect(),
            findings: findings
                .iter()
                .map(|finding| v1::Finding {
                    check: finding.check.to_string(),
                    text: finding.text.clone(),
                    remedy: finding.remedy.clone(),
                })
                .collect(),
            ..v1::Status::default()
        };
        let shards = watched
            .iter()
            .zip(probes)
            .map(|(shard, probes)| {
                let (status, link) = (Arc::clone(&shard.status), Arc::clone(&shard.link));
                let fault = shard.lack.condition.clone();
                let syncs = shard.syncs.clone();
                let cold = Arc::clone(&shard.cold);
                let shortage = Arc::clone(&shard.shortage);
                Seen { status, link, probes: Arc::clone(probes), fault, syncs, cold, shortage }
            })
            .collect();
        Node { fixed, shards, ready }
    }

    fn link(&self, shard: u32) -> &Link {
        &self.shards[shard as usize].link
    }
}

impl Shards for Node {
    fn count(&self) -> u32 {
        self.shards.len() as u32
    }

    fn unanswered(&self, shard: u32) -> usize {
        self.link(shard).unanswered()
    }

    fn create_stream(&self, stream: &Stream) -> Answer<Result<(), v1::Failure>> {
        self.link(stream.shard).create_stream(stream)
    }

    fn delete_stream(&self, shard: u32, id: u64) -> Answer<Result<(), v1::Failure>> {
        self.link(shard).delete_stream(id)
    }

    fn add_publisher(&self, shard: u32, publisher: &Publisher) -> Answer<Result<(), v1::Failure>> {
        self.link(shard).add_publisher(publisher)
    }

    fn positions(&self, shard: u32, id: u64) -> Answer<Option<v1::StreamPositions>> {
        self.link(shard).positions(id)
    }

    fn sessions(&self, shard: u32, from: u32, most: usize) -> Answer<Page<v1::Session>> {
        self.link(shard).sessions(from, most)
    }

    fn subscriptions(&self, shard: u32, from: u32, most: usize) -> Answer<Page<v1::Backlog>> {
        self.link(shard).subscriptions(from, most)
    }

    fn status(&self) -> v1::Status {
        let mut status = self.fixed.clone();
        // Relaxed: nothing is handed over with it.
        status.ready = self.ready.load(Ordering::Relaxed);
        for (shard, seen) in status.shards.iter_mut().zip(&self.shards) {
            fill(shard, &seen.status, &seen.fault);
            shard.sync_ns = seen.syncs.as_ref().map(|syncs| {
                let times = syncs.times();
                v1::Histogram {
                    bounds: SyncTimes::bounds().to_vec(),
                    counts: times.counts.to_vec(),
                    max: times.max_ns,
                    sum: times.sum_ns,
                }
            });
            shard.cold = Some(seen.cold.told());
            shard.shortage = seen.shortage.told();
            for (port, probe) in shard.ports.iter_mut().zip(seen.probes.iter()) {
                probe.fill(port);
            }
        }
        status
    }

    fn pulses(&self) -> Vec<u64> {
        self.shards.iter().map(|seen| seen.status.updates()).collect()
    }
}

/// What of a port never changes.
fn fixed_port(port: &Port) -> v1::Port {
    let (driver, device) = probe::names(&port.driver);
    v1::Port {
        name: port.name.clone(),
        driver: driver.to_string(),
        device: device.to_string(),
        addresses: port.addresses().map(|ip| ip.to_string()).collect(),
        vlan: port.vlan.unwrap_or(0).into(),
        ..v1::Port::default()
    }
}

/// Fills in what a shard publishes.
fn fill(shard: &mut v1::Shard, published: &Status, fault: &str) {
    let log = published.log();
    shard.level = log.level.map_or(0, |level| convert_level(level).into());
    shard.epoch = log.epoch;
    shard.log_id = log.log_id.to_vec();
    let mut conditions = Vec::new();
    if log.fault {
        conditions.push(fault.to_string());
    }
    if log.possible_loss {
        conditions.push("possible-loss: the machine was booted again since it was written".into());
    }
    if let Some(at) = log.unreadable_at {
        conditions.push(format!("unreadable: a record at {at} of the region is damaged"));
    }
    // Of a fault it is known which offsets are missing.
    if !log.fault {
        conditions.extend(report::damage(&log.unreadable));
    }
    if log.exhausted {
        let text = "full: no segment can be made or recycled, nothing is taken";
        conditions.push(text.to_string());
    }
    if let Some(poison) = log.poison {
        conditions.push(format!("poisoned: {poison}"));
    }
    shard.log_condition = conditions.join("; ");
    let place = |(stream_id, offset)| Some(v1::Place { stream_id, offset, ..v1::Place::default() });
    shard.unreadable = (log.unreadable.messages > 0).then(|| v1::Unreadable {
        messages: log.unreadable.messages,
        first: place(log.unreadable.first),
        last: place(log.unreadable.last),
    });
    let number = |(name, value): (&str, u64)| v1::Number { name: name.to_string(), value };
    shard.positions = published.positions().map(number).collect();
    shard.counters = published.counters().map(number).collect();
    let times = published.poll_times();
    shard.poll_ns = Some(v1::Histogram {
        bounds: PollTimes::bounds().to_vec(),
        counts: times.counts.to_vec(),
        max: times.max_ns,
        sum: times.sum_ns,
    });
    for (index, port) in shard.ports.iter_mut().enumerate() {
        let Some(s) = published.port(index) else { continue };
        let counts = [
            ("rx_frames", s.rx_frames),
            ("rx_bytes", s.rx_bytes),
            ("rx_no_buffer", s.rx_no_buffer),
            ("rx_refused", s.rx_refused),
            ("tx_frames", s.tx_frames),
            ("tx_bytes", s.tx_bytes),
            ("tx_dropped", s.tx_dropped),
        ];
        port.counters = counts.into_iter().map(number).collect();
    }
}

/// A stream as its shard takes it.
pub(crate) fn stream_entry(stream: &Stream) -> StreamEntry {
    StreamEntry { id: stream.id, name: stream.name.clone(), rules: stream_rules(&stream.rules) }
}

fn stream_rules(rules: &Rules) -> StreamRules {
    StreamRules {
        watermark: match rules.watermark {
            Watermark::Persisted => mstream_dataplane::Watermark::Persisted,
            Watermark::Committed => mstream_dataplane::Watermark::Committed,
        },
        minimum_level: rules.minimum_level,
        retention_bytes: rules.retention_bytes,
        retention_ms: rules.retention_ms,
        max_block_bytes: rules.max_block_bytes,
        max_publications: rules.max_publications,
        max_subscriptions: rules.max_subscriptions,
        cold: rules.cold,
    }
}
