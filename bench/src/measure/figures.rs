//! Figures of runs, as they are written down.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Scenario;
use super::aeron::PeerRecord;
use super::driver::Load;
use super::host::Host;
use super::run::Measured;
use crate::tally::Faults;

/// More steal than this says that the machine was busy elsewhere, in percent.
const STEAL_LIMIT: f64 = 1.0;
/// The part of a wanted rate that must be reached.
const RATE_REACHED: f64 = 0.99;

/// Latency percentiles in ns.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) p99_99: u64,
    pub(crate) max: u64,
}

/// How many times another latency one is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
}

/// Another system under the same load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What it did, in words.
    pub(crate) shape: &'static str,
    pub(crate) latency_ns: Percentiles,
    pub(crate) throughput_msgs_per_s: f64,
    /// How many times the appliance's latency its own is.
    pub(crate) ratio: Ratio,
}

/// One run, or medians over several.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) scenario: &'static str,
    pub(crate) port: String,
    pub(crate) rate: Option<u64>,
    /// Datagrams under way at most; `None` on a schedule.
    pub(crate) in_flight: Option<usize>,
    pub(crate) size: u16,
    pub(crate) batch: u16,
    pub(crate) seed: u64,
    /// Recorded.
    pub(crate) seconds: f64,
    /// All, also those that were not timed.
    pub(crate) messages: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) out_of_order: u64,
    pub(crate) mismatched: u64,
    pub(crate) durability: &'static str,
    pub(crate) throughput_msgs_per_s: f64,
    /// Of payload.
    pub(crate) throughput_bytes_per_s: f64,
    pub(crate) latency_ns: Percentiles,
    pub(crate) floor_ns: Option<Percentiles>,
    /// Messages per second that the echo sent back under the same load.
    pub(crate) floor_msgs_per_s: Option<f64>,
    pub(crate) ratio: Option<Ratio>,
    /// Other systems, in turns of the same run.
    pub(crate) peers: Vec<Peer>,
    pub(crate) steal_percent: f64,
    /// False when client and appliance shared a core.
    pub(crate) meaningful: bool,
    /// What a reader must know, in words.
    pub(crate) remarks: Vec<String>,
    /// One of the remarks is a failure.
    pub(crate) failed: bool,
}

/// A scenario's medians and runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) figures: Figures,
    pub(crate) host: Host,
    pub(crate) runs: Vec<Figures>,
}

impl Percentiles {
    pub(crate) fn of(latency: &Histogram<u64>) -> Percentiles {
        let at = |quantile| latency.value_at_quantile(quantile);
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: latency.max(),
        }
    }

    /// Each the median of its kind.
    fn median(of: &[Percentiles]) -> Percentiles {
        let each = |get: fn(&Percentiles) -> u64| median(of.iter().map(get).collect());
        Percentiles {
            p50: each(|p| p.p50),
            p90: each(|p| p.p90),
            p99: each(|p| p.p99),
            p99_9: each(|p| p.p99_9),
            p99_99: each(|p| p.p99_99),
            max: each(|p| p.max),
        }
    }
}

impl Ratio {
    fn of(latency: &Percentiles, floor: &Percentiles) -> Ratio {
        let part = |a: u64, b: u64| round2(a as f64 / b.max(1) as f64);
        Ratio {
            p50: part(latency.p50, floor.p50),
            p99: part(latency.p99, floor.p99),
            p99_9: part(latency.p99_9, floor.p99_9),
        }
    }
}

impl Peer {
    fn of(record: &PeerRecord, appliance: &Percentiles) -> Peer {
        Peer {
            name: record.name,
            shape: record.shape,
            latency_ns: record.latency_ns,
            throughput_msgs_per_s: (record.messages as f64 * 1e9 / record.ns.max(1) as f64).round(),
            ratio: Ratio::of(&record.latency_ns, appliance),
        }
    }

    /// The peer at `at` of each run.
    fn median(runs: &[Figures], at: usize) -> Option<Peer> {
        let peers: Vec<_> = runs.iter().filter_map(|run| run.peers.get(at)).collect();
        let middle =
            |get: fn(&Peer) -> f64| median_f64(peers.iter().map(|peer| get(peer)).collect());
        let latency: Vec<_> = peers.iter().map(|peer| peer.latency_ns).collect();
        Some(Peer {
            latency_ns: Percentiles::median(&latency),
            throughput_msgs_per_s: middle(|peer| peer.throughput_msgs_per_s),
            ratio: Ratio {
                p50: middle(|peer| peer.ratio.p50),
                p99: middle(|peer| peer.ratio.p99),
                p99_9: middle(|peer| peer.ratio.p99_9),
            },
            ..(*peers.first()?).clone()
        })
    }
}

fn round2(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The middle one; of two, the lower one.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

fn median_f64(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// What is the same in all runs of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) scenario: Scenario,
    pub(crate) port: String,
    pub(crate) load: Load,
    pub(crate) size: u16,
    pub(crate) seed: u64,
    pub(crate) meaningful: bool,
}

/// Name of a durability level (`docs/protocol.md` section 4.3).
fn level_name(level: u8) -> &'static str {
    match level {
        1 => "process",
        2 => "pmem-emulated",
        3 => "media-sync",
        4 => "pmem",
        _ => "unknown",
    }
}

impl Figures {
    /// The figures of one run.
    pub(crate) fn of(given: &Given, measured: &Measured) -> Figures {
        let Given { scenario, load, size, .. } = given;
        let floor = measured.floor.as_ref();
        let (record, durability) = match (&measured.app, floor) {
            (Some(app), _) => (Some(&app.record), level_name(app.level)),
            (None, floor) => (floor, "none"),
        };
        let seconds = record.map_or(0.0, |record| record.ns as f64 / 1e9);
        let per_second =
            |messages: u64, ns: u64| (messages as f64 * 1e9 / ns.max(1) as f64).round();
        let rate = record.map_or(0.0, |record| per_second(record.messages, record.ns));
        let latency_ns = record.map(|record| Percentiles::of(&record.latency)).unwrap_or_default();
        let floor_ns = floor.map(|floor| Percentiles::of(&floor.latency));
        let faults = match &measured.app {
            Some(app) => app.faults,
            None => {
                Faults { lost: record.map_or(0, |record| record.given_up), ..Faults::default() }
            }
        };
        let messages = match (&measured.app, record) {
            (Some(app), _) => app.messages,
            (None, record) => record.map_or(0, |record| record.latency.len()),
        };
        let mut figures = Figures {
            scenario: scenario.name(),
            port: given.port.clone(),
            rate: load.rate,
            in_flight: load.rate.is_none().then_some(load.in_flight),
            size: *size,
            batch: load.batch,
            seed: given.seed,
            seconds: (seconds * 1000.0).round() / 1000.0,
            messages,
            lost: faults.lost,
            duplicated: faults.duplicated,
            out_of_order: faults.out_of_order,
            mismatched: faults.mismatched,
            durability,
            throughput_msgs_per_s: rate,
            throughput_bytes_per_s: rate * f64::from(*size),
            latency_ns,
            floor_ns,
            floor_msgs_per_s: floor.map(|floor| per_second(floor.messages, floor.ns)),
            ratio: floor_ns.map(|floor_ns| Ratio::of(&latency_ns, &floor_ns)),
            peers: measured.peers.iter().map(|peer| Peer::of(peer, &latency_ns)).collect(),
            steal_percent: round2(measured.steal_percent),
            meaningful: given.meaningful,
            remarks: Vec::new(),
            failed: false,
        };
        figures.judge(&faults, measured);
        figures
    }

    /// Says what is wrong with them.
    fn judge(&mut self, faults: &Faults, measured: &Measured) {
        if !faults.none() {
            let Faults { lost, duplicated, out_of_order, mismatched } = faults;
            self.fail(format!(
                "{lost} messages lost, {duplicated} duplicated, {out_of_order} out of order, \
                 {mismatched} with other bytes"
            ));
        }
        let record = measured.app.as_ref().map(|app| &app.record).or(measured.floor.as_ref());
        if let (Some(rate), Some(record)) = (self.rate, record) {
            let wanted = rate as f64 * record.ns as f64 / 1e9;
            // A slice's end may come just before a datagram does.
            let came = record.messages + record.slices * u64::from(self.batch);
            if (came as f64) < RATE_REACHED * wanted {
                let reached = self.throughput_msgs_per_s;
                self.fail(format!("missed its rate: {reached:.0} of {rate} messages/s"));
            }
        }
        for peer in measured.peers.iter().filter(|peer| peer.wrong > 0) {
            let PeerRecord { name, shape, wrong, .. } = peer;
            self.remarks.push(format!("{name} ({shape}): {wrong} messages were not the next one"));
        }
        if let (Some(app), Some(floor)) = (&measured.app, &measured.floor) {
            if floor.given_up > 0 {
                self.remarks.push(format!("the echo lost {} messages", floor.given_up));
            }
            if app.foreign > 0 {
                self.remarks.push(format!("{} messages of others came too", app.foreign));
            }
        }
        if self.steal_percent > STEAL_LIMIT {
            let percent = self.steal_percent;
            self.remarks.push(format!("{percent} % of the processor time was stolen by others"));
        }
        if !self.meaningful {
            self.remarks.push("one core for client and appliance: figures mean nothing".into());
        }
    }

    fn fail(&mut self, remark: String) {
        self.remarks.push(remark);
        self.failed = true;
    }

    /// Medians of figures; sums of what went wrong.
    fn median(runs: &[Figures]) -> Option<Figures> {
        let first = runs.first()?;
        let sum = |get: fn(&Figures) -> u64| runs.iter().map(get).sum();
        let middle = |get: fn(&Figures) -> f64| median_f64(runs.iter().map(get).collect());
        let latency: Vec<_> = runs.iter().map(|run| run.latency_ns).collect();
        let floors: Vec<_> = runs.iter().filter_map(|run| run.floor_ns).collect();
        let ratios: Vec<_> = runs.iter().filter_map(|run| run.ratio).collect();
        let ratio = |get: fn(&Ratio) -> f64| median_f64(ratios.iter().map(get).collect());
        let mut remarks = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            let prefix =
                if runs.len() > 1 { format!("run {}: ", number + 1) } else { String::new() };
            remarks.extend(run.remarks.iter().map(|remark| format!("{prefix}{remark}")));
        }
        Some(Figures {
            messages: sum(|run| run.messages),
            lost: sum(|run| run.lost),
            duplicated: sum(|run| run.duplicated),
            out_of_order: sum(|run| run.out_of_order),
            mismatched: sum(|run| run.mismatched),
            throughput_msgs_per_s: middle(|run| run.throughput_msgs_per_s),
            throughput_bytes_per_s: middle(|run| run.throughput_bytes_per_s),
            latency_ns: Percentiles::median(&latency),
            floor_ns: first.floor_ns.map(|_| Percentiles::median(&floors)),
            floor_msgs_per_s: first
                .floor_msgs_per_s
                .map(|_| middle(|run| run.floor_msgs_per_s.unwrap_or(0.0))),
            ratio: first.ratio.map(|_| Ratio {
                p50: ratio(|ratio| ratio.p50),
                p99: ratio(|ratio| ratio.p99),
                p99_9: ratio(|ratio| ratio.p99_9),
            }),
            peers: (0..first.peers.len()).filter_map(|at| Peer::median(runs, at)).collect(),
            steal_percent: middle(|run| run.steal_percent),
            remarks,
            failed: runs.iter().any(|run| run.failed),
            ..first.clone()
        })
    }
}

impl Report {
    /// Medians over runs; `None` without any.
    pub(crate) fn of(runs: Vec<Figures>, host: Host) -> Option<Report> {
        Figures::median(&runs).map(|figures| Report { figures, host, runs })
    }
}
