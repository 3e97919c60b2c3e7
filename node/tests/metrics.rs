//! The table of metrics knows every number that a shard publishes, and no other.

use mstream_controlplane::metrics::{METRICS, Origin, REASONS};
use mstream_dataplane::Status;

/// What the table reads from among `read`'s names, sorted.
fn known(read: impl Fn(Origin) -> Option<&'static str>) -> Vec<&'static str> {
    let mut names: Vec<_> = METRICS.iter().filter_map(|metric| read(metric.origin)).collect();
    names.sort_unstable();
    names
}

fn sorted(names: impl Iterator<Item = (&'static str, u64)>) -> Vec<&'static str> {
    let mut names: Vec<_> = names.map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_position_of_a_shard_is_a_metric() {
    let known = known(|origin| match origin {
        Origin::Position(name) => Some(name),
        _ => None,
    });
    let table = "controlplane/src/metrics/table.rs: METRICS";
    assert_eq!(sorted(Status::new(0).positions()), known, "shard's positions, {table}");
}

#[test]
fn every_counter_of_a_shard_is_a_metric_or_a_reason() {
    let mut known = known(|origin| match origin {
        Origin::Counter(name) => Some(name),
        _ => None,
    });
    known.extend(REASONS.iter().map(|(reason, _)| *reason));
    known.sort_unstable();
    let table = "controlplane/src/metrics/table.rs: METRICS and REASONS";
    assert_eq!(sorted(Status::new(0).counters()), known, "shard's counters, {table}");
}
