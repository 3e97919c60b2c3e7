//! The values of metrics, read from a snapshot.

use std::collections::HashSet;

use mstream_admin::v1;

use super::table::{METRICS, Metric, Origin, REASONS};

/// One value with the values of its metric's labels, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub(super) labels: Vec<String>,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Count(u64),
    Seconds(f64),
    Histogram(Histogram),
}

/// A histogram of seconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    /// Upper bounds, and how many values fell between each and the one before. The last bound is infinite.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) sum: f64,
    pub(super) count: u64,
}

const NANOS: f64 = 1e9;

fn one(labels: Vec<String>, value: u64) -> Sample {
    Sample { labels, value: Value::Count(value) }
}

/// The values of each metric of [`METRICS`], in its order.
pub(super) fn read(status: &v1::Status) -> Vec<Vec<Sample>> {
    METRICS.iter().map(|metric| of_metric(metric, status)).collect()
}

fn of_metric(metric: &Metric, status: &v1::Status) -> Vec<Sample> {
    match metric.origin {
        Origin::Status(read) => read(status),
        Origin::Position(name) => by_shard(status, |shard| find(&shard.positions, name)),
        Origin::Counter(name) => by_shard(status, |shard| find(&shard.counters, name)),
        Origin::Cold(name) => by_shard(status, |shard| {
            let cold = shard.cold.as_ref()?;
            find(&cold.positions, name).or_else(|| find(&cold.counters, name))
        }),
        Origin::Refusals => refusals(status),
        Origin::PortCounter(name) => by_port(status, |port| find(&port.counters, name)),
        Origin::DeviceLevel(name) => by_port(status, |port| find(&port.device_counters, name)),
        Origin::DeviceCounters => device_counters(status),
        Origin::Histogram(read) => histograms(status, read),
    }
}

fn find(numbers: &[v1::Number], name: &str) -> Option<u64> {
    numbers.iter().find(|number| number.name == name).map(|number| number.value)
}

fn by_shard(status: &v1::Status, read: impl Fn(&v1::Shard) -> Option<u64>) -> Vec<Sample> {
    let sample = |shard: &v1::Shard| Some(one(vec![shard.number.to_string()], read(shard)?));
    status.shards.iter().filter_map(sample).collect()
}

fn ports(status: &v1::Status) -> impl Iterator<Item = (Vec<String>, &v1::Port)> {
    status.shards.iter().flat_map(|shard| {
        let labels = |port: &v1::Port| vec![shard.number.to_string(), port.name.clone()];
        shard.ports.iter().map(move |port| (labels(port), port))
    })
}

fn by_port(status: &v1::Status, read: impl Fn(&v1::Port) -> Option<u64>) -> Vec<Sample> {
    ports(status).filter_map(|(labels, port)| Some(one(labels, read(port)?))).collect()
}

fn refusals(status: &v1::Status) -> Vec<Sample> {
    let reasons: HashSet<_> = REASONS.iter().map(|(reason, _)| *reason).collect();
    let mut samples = Vec::new();
    for shard in &status.shards {
        for counter in shard.counters.iter().filter(|c| reasons.contains(c.name.as_str())) {
            samples.push(one(vec![shard.number.to_string(), counter.name.clone()], counter.value));
        }
    }
    samples
}

/// Numbers of devices that rise and fall: each is a metric of its own.
fn device_levels() -> impl Iterator<Item = &'static str> {
    METRICS.iter().filter_map(|metric| match metric.origin {
        Origin::DeviceLevel(name) => Some(name),
        _ => None,
    })
}

fn device_counters(status: &v1::Status) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (labels, port) in ports(status) {
        // A device is free to use a name twice; a metric is not.
        let mut seen: HashSet<&str> = device_levels().collect();
        for counter in port.device_counters.iter().filter(|c| seen.insert(c.name.as_str())) {
            let mut labels = labels.clone();
            labels.push(counter.name.clone());
            samples.push(one(labels, counter.value));
        }
    }
    samples
}

fn histograms(status: &v1::Status, read: fn(&v1::Shard) -> Option<&v1::Histogram>) -> Vec<Sample> {
    let sample = |shard: &v1::Shard| {
        let times = read(shard)?;
        let mut buckets: Vec<_> = times
            .bounds
            .iter()
            .zip(&times.counts)
            .map(|(bound, count)| (*bound as f64 / NANOS, *count))
            .collect();
        buckets.last_mut()?.0 = f64::INFINITY;
        let count = buckets.iter().map(|(_, count)| count).sum();
        let histogram = Histogram { buckets, sum: times.sum as f64 / NANOS, count };
        let value = Value::Histogram(histogram);
        Some(Sample { labels: vec![shard.number.to_string()], value })
    };
    status.shards.iter().filter_map(sample).collect()
}

pub(super) fn build(status: &v1::Status) -> Vec<Sample> {
    vec![one(vec![status.version.clone()], 1)]
}

pub(super) fn node(status: &v1::Status) -> Vec<Sample> {
    vec![one(vec![status.node_id.to_string(), status.node_name.clone()], 1)]
}

fn seconds(ns: u64) -> Vec<Sample> {
    vec![Sample { labels: Vec::new(), value: Value::Seconds(ns as f64 / NANOS) }]
}

pub(super) fn start_time(status: &v1::Status) -> Vec<Sample> {
    seconds(status.started_ns)
}

pub(super) fn uptime(status: &v1::Status) -> Vec<Sample> {
    seconds(status.time_ns.saturating_sub(status.started_ns))
}

pub(super) fn ready(status: &v1::Status) -> Vec<Sample> {
    vec![one(Vec::new(), status.ready.into())]
}

pub(super) fn streams(status: &v1::Status) -> Vec<Sample> {
    vec![one(Vec::new(), status.streams)]
}

pub(super) fn publishers(status: &v1::Status) -> Vec<Sample> {
    vec![one(Vec::new(), status.publishers)]
}

pub(super) fn catalogue_condition(status: &v1::Status) -> Vec<Sample> {
    let condition = &status.catalogue_condition;
    vec![one(vec![condition.clone()], (!condition.is_empty()).into())]
}

pub(super) fn findings(status: &v1::Status) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    for finding in &status.findings {
        match samples.iter_mut().find(|sample| sample.labels[0] == finding.check) {
            Some(Sample { value: Value::Count(count), .. }) => *count += 1,
            _ => samples.push(one(vec![finding.check.clone()], 1)),
        }
    }
    samples
}

pub(super) fn shard_info(status: &v1::Status) -> Vec<Sample> {
    let labels = |shard: &v1::Shard| {
        let log_id = shard.log_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers = [shard.number, shard.core, shard.udp_port].map(|number| number.to_string());
        [numbers.to_vec(), vec![log_id]].concat()
    };
    status.shards.iter().map(|shard| one(labels(shard), 1)).collect()
}

pub(super) fn epoch(status: &v1::Status) -> Vec<Sample> {
    by_shard(status, |shard| Some(shard.epoch.into()))
}

/// A level's name as the configuration writes it.
fn level_name(level: v1::Level) -> String {
    let name = level.as_str_name();
    name.strip_prefix("LEVEL_").unwrap_or(name).to_ascii_lowercase().replace('_', "-")
}

pub(super) fn level_info(status: &v1::Status) -> Vec<Sample> {
    let labels = |shard: &v1::Shard| vec![shard.number.to_string(), level_name(shard.level())];
    status.shards.iter().map(|shard| one(labels(shard), 1)).collect()
}

/// The weakest level is 1.
fn rank(level: v1::Level) -> u64 {
    match level {
        v1::Level::Unspecified => 0,
        v1::Level::Process => 1,
        v1::Level::PmemEmulated => 2,
        v1::Level::MediaSync => 3,
        v1::Level::Pmem => 4,
    }
}

pub(super) fn level(status: &v1::Status) -> Vec<Sample> {
    by_shard(status, |shard| Some(rank(shard.level())))
}

pub(super) fn required_level(status: &v1::Status) -> Vec<Sample> {
    by_shard(status, |shard| Some(rank(shard.required_level())))
}

pub(super) fn log_condition(status: &v1::Status) -> Vec<Sample> {
    let sample = |shard: &v1::Shard| {
        let labels = vec![shard.number.to_string(), shard.log_condition.clone()];
        one(labels, (!shard.log_condition.is_empty()).into())
    };
    status.shards.iter().map(sample).collect()
}

pub(super) fn cold_condition(status: &v1::Status) -> Vec<Sample> {
    let sample = |shard: &v1::Shard| {
        let condition = shard.cold.as_ref()?.condition.clone();
        let faulty = !condition.is_empty();
        Some(one(vec![shard.number.to_string(), condition], faulty.into()))
    };
    status.shards.iter().filter_map(sample).collect()
}

pub(super) fn shortage(status: &v1::Status) -> Vec<Sample> {
    let sample = |shard: &v1::Shard| {
        let reason = shard.shortage.as_ref().map(|shortage| shortage.reason.clone());
        let faulty = reason.is_some();
        one(vec![shard.number.to_string(), reason.unwrap_or_default()], faulty.into())
    };
    status.shards.iter().map(sample).collect()
}

pub(super) fn shortage_seconds(status: &v1::Status) -> Vec<Sample> {
    let sample = |shard: &v1::Shard| {
        let lasts = |shortage: &v1::Shortage| status.time_ns.saturating_sub(shortage.since_ns);
        let value = Value::Seconds(shard.shortage.as_ref().map_or(0, lasts) as f64 / NANOS);
        Sample { labels: vec![shard.number.to_string()], value }
    };
    status.shards.iter().map(sample).collect()
}

pub(super) fn ready_seconds(status: &v1::Status) -> Vec<Sample> {
    let sample = |shard: &v1::Shard| {
        let value = Value::Seconds(find(&shard.positions, "slots_ready_ms")? as f64 / 1e3);
        Some(Sample { labels: vec![shard.number.to_string()], value })
    };
    status.shards.iter().filter_map(sample).collect()
}

/// In seconds.
pub(super) fn cold_lag(status: &v1::Status) -> Vec<Sample> {
    let sample = |shard: &v1::Shard| {
        let lag_ms = find(&shard.cold.as_ref()?.positions, "lag_ms")?;
        let value = Value::Seconds(lag_ms as f64 / 1e3);
        Some(Sample { labels: vec![shard.number.to_string()], value })
    };
    status.shards.iter().filter_map(sample).collect()
}

pub(super) fn missing_messages(status: &v1::Status) -> Vec<Sample> {
    by_shard(status, |shard| Some(shard.missing_messages))
}

pub(super) fn port_info(status: &v1::Status) -> Vec<Sample> {
    let sample = |(mut labels, port): (Vec<String>, &v1::Port)| {
        labels.extend([port.driver.clone(), port.device.clone(), port.addresses.join(",")]);
        labels.extend([port.mac.clone(), port.vlan.to_string()]);
        one(labels, 1)
    };
    ports(status).map(sample).collect()
}

pub(super) fn link_up(status: &v1::Status) -> Vec<Sample> {
    by_port(status, |port| Some(port.link_up.into()))
}
