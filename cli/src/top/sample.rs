//! What happened between two moments of a node.

use mstream_admin::v1::{Backlog, Histogram, Shard, Status};
use serde::Serialize;

use crate::admin::backlog::{behind, reason};
use crate::admin::status::{number, refusals};
use crate::admin::words;

/// Slow subscribers and refusals that are shown at most.
const SHOWN: usize = 20;

/// One frame, as JSON has it too.
#[derive(Debug, Serialize)]
pub(super) struct Sample {
    pub(super) time_ns: u64,
    /// Between the two moments.
    pub(super) seconds: f64,
    pub(super) shards: Vec<ShardSample>,
    pub(super) slow_subscribers: Vec<Slow>,
    pub(super) refusals: Vec<Refused>,
}

#[derive(Debug, Serialize)]
pub(super) struct ShardSample {
    pub(super) number: u32,
    pub(super) level: &'static str,
    pub(super) sessions: u64,
    pub(super) publications: u64,
    pub(super) subscriptions: u64,
    pub(super) messages_per_s: f64,
    pub(super) bytes_per_s: f64,
    pub(super) delivered_batches_per_s: f64,
    pub(super) frames_in_per_s: f64,
    pub(super) frames_out_per_s: f64,
    /// Time of polls that carried messages; `None` when there were none.
    pub(super) poll_ns: Option<Percentiles>,
    pub(super) appended_lsn: u64,
    pub(super) committed_lsn: u64,
    pub(super) ready_segments: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) p99_9: u64,
    /// The longest since the node's start.
    pub(super) max: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Slow {
    pub(super) client: String,
    pub(super) stream: String,
    pub(super) behind: u64,
    pub(super) reason: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub(super) shard: u32,
    pub(super) reason: String,
    pub(super) total: u64,
    pub(super) per_s: f64,
}

impl Sample {
    /// Compares two moments; `backlog` is who is behind at the later one.
    pub(super) fn between(before: &Status, now: &Status, backlog: &[Backlog]) -> Sample {
        let seconds = now.time_ns.saturating_sub(before.time_ns) as f64 / 1e9;
        let none = Shard::default();
        let mut shards = Vec::new();
        let mut refused = Vec::new();
        for shard in &now.shards {
            let earlier = before.shards.iter().find(|s| s.number == shard.number).unwrap_or(&none);
            // A node that restarted counts from 0 again.
            let earlier = if before.started_ns == now.started_ns { earlier } else { &none };
            shards.push(ShardSample::between(earlier, shard, seconds));
            refused.extend(refusals(shard).map(|refusal| Refused {
                shard: shard.number,
                reason: refusal.name.clone(),
                total: refusal.value,
                per_s: rate(&earlier.counters, &shard.counters, &[&refusal.name], seconds),
            }));
        }
        refused.sort_by(|a, b| b.per_s.total_cmp(&a.per_s).then(b.total.cmp(&a.total)));
        refused.truncate(SHOWN);
        let mut slow: Vec<_> = backlog.iter().filter(|backlog| behind(backlog) > 0).collect();
        slow.sort_by_key(|backlog| std::cmp::Reverse(behind(backlog)));
        slow.truncate(SHOWN);
        let slow = slow.into_iter().map(|backlog| Slow {
            client: backlog.client.clone(),
            stream: backlog.stream.clone(),
            behind: behind(backlog),
            reason: reason(backlog),
        });
        Sample {
            time_ns: now.time_ns,
            seconds,
            shards,
            slow_subscribers: slow.collect(),
            refusals: refused,
        }
    }
}

impl ShardSample {
    fn between(before: &Shard, now: &Shard, seconds: f64) -> ShardSample {
        let per_s = |names: &[&str]| rate(&before.counters, &now.counters, names, seconds);
        let position = |name| number(&now.positions, name);
        ShardSample {
            number: now.number,
            level: words::level(now.level()),
            sessions: position("sessions"),
            publications: position("publications"),
            subscriptions: position("subscriptions"),
            messages_per_s: per_s(&["messages"]),
            bytes_per_s: per_s(&["bytes"]),
            delivered_batches_per_s: per_s(&["delivered_in_place", "delivered_by_copy"]),
            frames_in_per_s: per_s(&["frames_in"]),
            frames_out_per_s: per_s(&["frames_out"]),
            poll_ns: percentiles(before.poll_ns.as_ref(), now.poll_ns.as_ref()),
            appended_lsn: position("appended_lsn"),
            committed_lsn: position("committed_lsn"),
            ready_segments: position("slots_ready"),
        }
    }
}

type Numbers = [mstream_admin::v1::Number];

/// How much counters grew together in a second.
fn rate(before: &Numbers, now: &Numbers, names: &[&str], seconds: f64) -> f64 {
    let sum = |numbers| names.iter().map(|name| number(numbers, name)).sum::<u64>();
    match seconds > 0.0 {
        true => sum(now).saturating_sub(sum(before)) as f64 / seconds,
        false => 0.0,
    }
}

/// Percentiles of what came in between: upper bounds of the buckets that they fall into.
fn percentiles(before: Option<&Histogram>, now: Option<&Histogram>) -> Option<Percentiles> {
    let now = now?;
    let before = before.map_or(&[][..], |before| &before.counts);
    let counts: Vec<u64> = now
        .counts
        .iter()
        .enumerate()
        .map(|(at, count)| count.saturating_sub(before.get(at).copied().unwrap_or(0)))
        .collect();
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let at = |share: f64| {
        let wanted = ((total as f64 * share).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (count, bound) in counts.iter().zip(&now.bounds) {
            seen += count;
            if seen >= wanted {
                return (*bound).min(now.max);
            }
        }
        now.max
    };
    Some(Percentiles { p50: at(0.5), p99: at(0.99), p99_9: at(0.999), max: now.max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mstream_admin::v1::Number;

    #[test]
    fn percentiles_are_those_of_the_time_between() {
        let histogram = |counts: [u64; 3], max| Histogram {
            bounds: vec![100, 200, 400],
            counts: counts.into(),
            max,
            ..Histogram::default()
        };
        let (before, now) = (histogram([1000, 0, 0], 90), histogram([1090, 9, 1], 900));
        let found = percentiles(Some(&before), Some(&now));
        assert_eq!(found, Some(Percentiles { p50: 100, p99: 200, p99_9: 400, max: 900 }));
        assert_eq!(percentiles(Some(&now), Some(&now)), None);
        assert_eq!(percentiles(None, None), None);
        let small = percentiles(None, Some(&before)).expect("there are some");
        assert_eq!(small.p99, 90, "no percentile is above the longest");
    }

    #[test]
    fn rates_are_by_the_second_and_begin_anew_with_a_restart() {
        let status = |time_ns, started_ns, messages| {
            let counters = vec![Number { name: "messages".into(), value: messages }];
            let shards = vec![Shard { counters, ..Shard::default() }];
            Status { time_ns, started_ns, shards, ..Status::default() }
        };
        let messages = |before: &Status, now: &Status| {
            Sample::between(before, now, &[]).shards[0].messages_per_s
        };
        let before = status(1_000_000_000, 7, 500);
        assert_eq!(messages(&before, &status(3_000_000_000, 7, 2500)), 1000.0);
        assert_eq!(messages(&before, &status(3_000_000_000, 8, 100)), 50.0);
        assert_eq!(messages(&before, &before), 0.0);
    }
}
