//! `mstream-bench`: figures of an appliance beside the floor under them, plain clients, market data.

mod cli;
mod clients;
mod interrupt;
mod itch_command;
mod log;
mod measure;
mod pattern;
mod tally;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::measure::Scenario;

/// What went wrong, as one or more lines for people.
type Failure = String;

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    let command = Cli::parse().command;
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut out = std::io::stderr().lock();
            for line in failure.lines() {
                // Nobody is left to be told when standard error is gone.
                let _ = writeln!(out, "mstream-bench: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Floor(args) => measure::run(&[Scenario::Floor], &args),
        Command::Latency(args) => measure::run(&[Scenario::Latency], &args),
        Command::Throughput(args) => measure::run(&[Scenario::Throughput], &args),
        Command::All(args) => measure::run(&Scenario::ALL, &args),
        Command::Wal(args) => log::wal(&args),
        Command::Recovery(args) => log::recovery(&args),
        Command::Cold(args) => log::cold(&args),
        Command::Index(args) => log::index(&args),
        Command::UdpEcho(args) => measure::udp_echo(&args),
        Command::Publish(args) => clients::publish(&args),
        Command::Subscribe(args) => clients::subscribe(&args),
        Command::Itch(command) => itch_command::run(&command),
    }
}

/// Writes to standard output; that nobody reads it is no failure.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a file as a whole: readers see the old one or the new one.
fn replace_file(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}
