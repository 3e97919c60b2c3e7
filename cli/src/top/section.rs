//! A frame as tables with titles, for terminals and for plain text.

use super::sample::{Percentiles, Sample, ShardSample};
use crate::output::{bytes, count, table};

/// A table with a title.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) headings: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
    /// What to say when there are no rows.
    pub(super) none: &'static str,
}

impl Section {
    /// As plain text.
    pub(super) fn text(&self) -> String {
        if self.rows.is_empty() {
            return format!("{}: {}", self.title, self.none);
        }
        let mut rows = table(&self.headings);
        rows.add_rows(&self.rows);
        format!("{}\n{}", self.title, rows.trim_fmt())
    }
}

/// All sections of a frame.
pub(super) fn sections(sample: &Sample) -> [Section; 4] {
    let rates = |shard: &ShardSample| {
        let [p50, p99, p99_9, max] = poll(shard.poll_ns);
        vec![
            shard.number.to_string(),
            count(shard.messages_per_s as u64),
            per_s(shard.bytes_per_s),
            count(shard.delivered_batches_per_s as u64),
            count(shard.frames_in_per_s as u64),
            count(shard.frames_out_per_s as u64),
            p50,
            p99,
            p99_9,
            max,
        ]
    };
    let positions = |shard: &ShardSample| {
        vec![
            shard.number.to_string(),
            shard.level.to_owned(),
            count(shard.appended_lsn),
            count(shard.committed_lsn),
            count(shard.appended_lsn.saturating_sub(shard.committed_lsn)),
            count(shard.ready_segments),
            count(shard.sessions),
            count(shard.publications),
            count(shard.subscriptions),
        ]
    };
    [
        Section {
            title: "Rates per second, poll time",
            headings: vec![
                "SHARD",
                "MESSAGES",
                "BYTES",
                "BATCHES OUT",
                "FRAMES IN",
                "FRAMES OUT",
                "P50",
                "P99",
                "P99.9",
                "MAX EVER",
            ],
            rows: sample.shards.iter().map(rates).collect(),
            none: "no shards",
        },
        Section {
            title: "Positions",
            headings: vec![
                "SHARD",
                "LEVEL",
                "APPENDED",
                "COMMITTED",
                "BETWEEN",
                "READY SEGMENTS",
                "SESSIONS",
                "PUBLICATIONS",
                "SUBSCRIPTIONS",
            ],
            rows: sample.shards.iter().map(positions).collect(),
            none: "no shards",
        },
        Section {
            title: "Slow subscribers",
            headings: vec!["BEHIND", "CLIENT", "STREAM", "WHY"],
            rows: sample
                .slow_subscribers
                .iter()
                .map(|slow| {
                    let (client, stream) = (slow.client.clone(), slow.stream.clone());
                    vec![count(slow.behind), client, stream, slow.reason.to_owned()]
                })
                .collect(),
            none: "none",
        },
        Section {
            title: "Refusals",
            headings: vec!["SHARD", "PER SECOND", "TOTAL", "REASON"],
            rows: sample
                .refusals
                .iter()
                .map(|refused| {
                    let now = count(refused.per_s.round() as u64);
                    vec![
                        refused.shard.to_string(),
                        now,
                        count(refused.total),
                        refused.reason.clone(),
                    ]
                })
                .collect(),
            none: "none",
        },
    ]
}

fn per_s(number: f64) -> String {
    match number {
        0.0..1e6 => bytes(number as u64),
        1e6..1e9 => format!("{:.1} MB", number / 1e6),
        _ => format!("{:.2} GB", number / 1e9),
    }
}

fn poll(percentiles: Option<Percentiles>) -> [String; 4] {
    match percentiles {
        None => ["-", "-", "-", "-"].map(str::to_owned),
        Some(Percentiles { p50, p99, p99_9, max }) => [p50, p99, p99_9, max].map(time),
    }
}

fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        _ => format!("{:.1} ms", ns as f64 / 1e6),
    }
}
