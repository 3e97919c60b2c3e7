//! An Aeron echo, and the client that measures it: one message in flight or many or so many a second, out and back. Driver and client
//! share a thread in each process (invoker mode), which spins; nothing is persisted.
//!
//! `echo` runs until it is killed. `client` obeys lines on its standard input, which `mstream-bench` writes:
//! `slice NS` measures for so long and answers `done`; `end` answers with what was measured, as JSON.
//! With --listen the same as --to it publishes to itself: one crossing.

mod end;
mod measure;

use std::io::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::end::End;
use crate::measure::Measurement;

/// What went wrong, for people.
type Failure = Box<dyn std::error::Error>;

/// An Aeron echo and its client, for mstream-bench.
#[derive(Debug, Parser)]
#[command(name = "mstream-bench-aeron", version)]
enum Cli {
    /// Sends every message back.
    Echo(EndArgs),
    /// Sends messages and times what comes back, slice by slice.
    Client(ClientArgs),
}

#[derive(Debug, Args)]
struct EndArgs {
    /// Address that messages come to
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddrV4,
    /// Address that messages go to
    #[arg(long, value_name = "IP:PORT")]
    to: SocketAddrV4,
    /// Core of its thread
    #[arg(long, value_name = "N")]
    core: usize,
    /// Directory of the driver's files, made anew
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct ClientArgs {
    #[command(flatten)]
    end: EndArgs,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(8..=1280))]
    size: u16,
    /// Messages under way at most
    #[arg(long, value_name = "N")]
    in_flight: u64,
    /// Messages per second, sent on a schedule and timed from when each was due; without it as fast as what is under
    /// way allows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Nanoseconds at the beginning of a slice that are not recorded
    #[arg(long, value_name = "NS")]
    discard: u64,
}

fn main() -> ExitCode {
    let done = match Cli::parse() {
        Cli::Echo(args) => echo(&args),
        Cli::Client(args) => client(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "mstream-bench-aeron: {error}");
            ExitCode::FAILURE
        }
    }
}

fn echo(args: &EndArgs) -> Result<(), Failure> {
    let end = End::open(args)?;
    end.until_connected(|| say("ready"))?;
    loop {
        end.answer()?;
    }
}

fn client(args: &ClientArgs) -> Result<(), Failure> {
    let end = End::open(&args.end)?;
    end.until_connected(|| Ok(()))?;
    let mut measurement = Measurement::new(args.size, args.in_flight, args.rate, args.discard)?;
    say("ready")?;
    for line in std::io::stdin().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("slice", ns)) => {
                measurement.slice(&end, ns.parse()?)?;
                say("done")?;
            }
            _ if line == "end" => return say(&measurement.json()),
            _ => return Err(format!("unknown order: {line}").into()),
        }
    }
    Ok(())
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
