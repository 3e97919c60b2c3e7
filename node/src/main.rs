//! `mstreamd`: the appliance. The one place that names both planes: it reads the configuration, opens
//! logs and ports, starts a thread for each shard, and keeps the control plane running until it is told
//! to stop.

mod admin;
mod any_port;
mod args;
mod catalogue;
mod cold;
mod control;
mod devices;
mod echo;
mod lack;
mod link;
mod log;
mod logging;
mod node;
mod placement;
mod ports;
mod probe;
mod report;
mod shard;
mod snapshot;
mod starting;
mod supply;
mod thread;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use mstream_controlplane::config::Wal;
use mstream_controlplane::{Available, Budget, Config};

use crate::args::Args;

/// What went wrong, as one or more lines for people.
type Failure = String;

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut out = std::io::stderr().lock();
            for line in failure.lines() {
                // Nobody is left to be told when standard error is gone.
                let _ = writeln!(out, "mstreamd: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    if let Some(topic) = args.reference {
        return report::reference(topic);
    }
    let cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let config = Config::load(&args.config, &cores).map_err(|error| error.to_string())?;
    logging::start(args.log.as_deref(), &config.log)?;
    mstream_pmem::sigbus::install()
        .map_err(|error| format!("the handler of lost memory (SIGBUS): {error}"))?;
    for remark in config.remarks() {
        tracing::warn!("{remark}");
    }
    let budget = match args.echo {
        true => None,
        false => Some(Budget::of(&config)),
    };
    let mut placement = placement::survey(&config);
    if args.check {
        // A start says it by failing.
        let lacks = devices::findings(&config).into_iter().chain(cold::findings(&config));
        placement.findings.splice(0..0, lacks);
        report::plan(args, &config, budget.as_ref(), &placement)?;
    }
    if let Some(budget) = &budget {
        let available = Available::now().map_err(|error| format!("free memory: {error}"))?;
        if let Some(shortage) = budget.shortage(&available) {
            return Err(format!("{}: {shortage}", args.config.display()));
        }
    }
    match args.check {
        true => Ok(()),
        false => {
            for finding in &placement.findings {
                tracing::info!("{finding}");
            }
            node::run(&config, &placement.findings, args.echo)
        }
    }
}

/// Where the log of a shard is, for messages.
fn log_name(wal: &Wal, shard: usize) -> String {
    format!("log {}", wal.shard_dir(shard).display())
}
