//! Measurements: an appliance and the floor under it, in turns of one run.

mod aeron;
mod app_lane;
mod clock;
mod cores;
mod driver;
mod echo_lane;
mod figures;
mod host;
mod lane;
mod node;
mod plot;
mod run;
mod setting;
mod table;
mod tap;
mod udp_echo;
mod veth;

use std::collections::BTreeMap;

use clap::error::ErrorKind;
use clap::{CommandFactory, ValueEnum};

pub(crate) use self::clock::Clock;
pub(crate) use self::cores::{Cores, Pinned};
use self::driver::Load;
pub(crate) use self::figures::Percentiles;
use self::figures::{Figures, Given, Report};
pub(crate) use self::host::Host;
use self::plot::Curve;
use self::run::{Plan, message_bytes};
pub(crate) use self::setting::log_parent;
pub(crate) use self::udp_echo::run as udp_echo;
use self::veth::Veth;
use crate::cli::{Cli, Floor, MeasureArgs, PortKind};
use crate::interrupt::Interrupt;
use crate::{Failure, replace_file, say};

/// Bytes of a block (`docs/protocol.md` section 4.3): what an appliance takes unless it says otherwise.
const BLOCK_BYTES: usize = 1280;
/// Datagrams under way when throughput is measured.
const THROUGHPUT_IN_FLIGHT: u16 = 128;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Only the echo.
    Floor,
    /// Few messages under way.
    Latency,
    /// Many, in full datagrams.
    Throughput,
    /// Many, each in a datagram of its own.
    ThroughputSingle,
}

impl Scenario {
    /// All of them.
    pub(crate) const ALL: [Scenario; 4] =
        [Scenario::Floor, Scenario::Latency, Scenario::Throughput, Scenario::ThroughputSingle];

    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Floor => "floor",
            Scenario::Latency => "latency",
            Scenario::Throughput => "throughput",
            Scenario::ThroughputSingle => "throughput_single",
        }
    }

    fn load(self, args: &MeasureArgs) -> Load {
        let fits = (BLOCK_BYTES / message_bytes(args.size)) as u16;
        let (batch, in_flight) = match self {
            Scenario::Floor | Scenario::Latency => (1, 1),
            Scenario::Throughput => (fits, THROUGHPUT_IN_FLIGHT),
            Scenario::ThroughputSingle => (1, THROUGHPUT_IN_FLIGHT),
        };
        let batch = match self {
            Scenario::ThroughputSingle => batch,
            _ => args.batch.unwrap_or(batch),
        };
        match args.rate {
            Some(rate) => Load::paced(batch, rate),
            None => Load::closed(batch, args.in_flight.unwrap_or(in_flight)),
        }
    }
}

/// Measures `scenarios` one after the other, prints, and writes what was asked for.
pub(crate) fn run(scenarios: &[Scenario], args: &MeasureArgs) -> Result<(), Failure> {
    refuse_what_cannot_be(scenarios, args);
    let interrupt = Interrupt::take()?;
    let cores = Cores::choose(args.server_core, args.client_core)?;
    let host = Host::now();
    let veth = match args.port {
        _ if args.target.is_some() => None,
        PortKind::DpdkTap => tap::enter_namespace("--port dpdk-tap").map(|()| None)?,
        PortKind::AfXdp => Some(Veth::make(args.floor)?),
        PortKind::Memif | PortKind::DpdkMemif | PortKind::Socket => None,
    };
    // A target has no echo beside it.
    let possible = |scenario: &&Scenario| args.target.is_none() || **scenario != Scenario::Floor;
    let measured = scenarios
        .iter()
        .filter(possible)
        .map(|scenario| measure(*scenario, args, cores, veth.as_ref(), &host, &interrupt))
        .collect::<Result<Vec<_>, _>>()?;
    let reports: Vec<_> = measured.iter().map(|(report, _)| report).collect();
    let text = table::of(&reports, &host);
    say(&text);
    if let Some(path) = &args.json {
        replace_file(path, &in_json(&reports)?)?;
    }
    if let Some(path) = &args.html {
        let curves = measured.iter().flat_map(|(_, curves)| curves);
        replace_file(path, &plot::page(curves, &text))?;
    }
    let failures: Vec<_> = reports
        .iter()
        .filter(|report| report.figures.failed)
        .map(|report| format!("{}: {}", report.figures.scenario, report.figures.remarks.join("; ")))
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// Ends with wrong usage where single options are right and do not go together.
fn refuse_what_cannot_be(scenarios: &[Scenario], args: &MeasureArgs) {
    let block = usize::from(args.batch.unwrap_or(1)) * message_bytes(args.size);
    let reason = if block > BLOCK_BYTES {
        format!(
            "--batch: {} messages of {} bytes do not fit a block of {BLOCK_BYTES} bytes",
            args.batch.unwrap_or(1),
            args.size
        )
    } else if args.floor == Floor::Port && args.port != PortKind::AfXdp {
        "--floor: on other ports than af-xdp it is the port's own echo".to_string()
    } else if args.floor == Floor::Port && !args.peers.is_empty() {
        "--floor port: peers need the kernel's end of the pair".to_string()
    } else if !args.peers.is_empty() && args.port != PortKind::AfXdp {
        "--peers: they are measured over the veth pairs of --port af-xdp".to_string()
    } else if args.target.is_some() && scenarios == [Scenario::Floor] {
        "--target: the floor is measured with an echo of this program's own".to_string()
    } else {
        return;
    };
    Cli::command().error(ErrorKind::ValueValidation, reason).exit();
}

/// All runs of a scenario: its figures, and the curves for the plot.
fn measure(
    scenario: Scenario,
    args: &MeasureArgs,
    cores: Cores,
    veth: Option<&Veth>,
    host: &Host,
    interrupt: &Interrupt,
) -> Result<(Report, Vec<Curve>), Failure> {
    let plan = Plan {
        args,
        load: scenario.load(args),
        veth,
        floor_only: scenario == Scenario::Floor,
        interrupt: interrupt.clone(),
    };
    let given = Given {
        scenario,
        port: port_name(args),
        load: plan.load,
        size: args.size,
        seed: args.seed,
        meaningful: !cores.shared(),
    };
    let mut figures = Vec::new();
    let mut curves =
        [Curve::new(scenario.name()), Curve::new(&format!("{}: floor", scenario.name()))];
    for _ in 0..args.runs {
        let measured = run::run(&plan, cores)?;
        figures.push(Figures::of(&given, &measured));
        let records = [measured.app.map(|app| app.record), measured.floor];
        for (curve, record) in curves.iter_mut().zip(records) {
            if let Some(record) = record {
                curve.add(&record.latency);
            }
        }
    }
    let report = Report::of(figures, host.clone()).ok_or("there was no run")?;
    Ok((report, curves.into_iter().filter(|curve| !curve.is_empty()).collect()))
}

fn port_name(args: &MeasureArgs) -> String {
    match (args.target, &args.memif) {
        (Some(target), Some(_)) => format!("memif to {target}"),
        (Some(target), None) => format!("udp to {target}"),
        (None, _) => args
            .port
            .to_possible_value()
            .map(|value| value.get_name().to_string())
            .unwrap_or_default(),
    }
}

/// One report as an object; several as an object of them by scenario.
fn in_json(reports: &[&Report]) -> Result<String, Failure> {
    let text = match reports {
        [report] => serde_json::to_string_pretty(report),
        reports => {
            let all: BTreeMap<_, _> =
                reports.iter().map(|report| (report.figures.scenario, report)).collect();
            serde_json::to_string_pretty(&all)
        }
    };
    text.map(|text| text + "\n").map_err(|error| format!("--json: {error}"))
}
