//! `mstream-sim`: plays worlds from seeds until a promise is broken.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use mstream_sim::{Honest, Injected, Mix, Run, run};

/// Plays seeded worlds with the shard, its poll loop and clients, and checks what they promise.
#[derive(Debug, Parser)]
#[command(name = "mstream-sim", version)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Steps with faults in each world.
    #[arg(long, default_value_t = 1_500)]
    steps: u64,
    /// Kinds of faults that may happen, with commas between them.
    #[arg(long, default_value = "all")]
    faults: Mix,
    /// Prints what happens.
    #[arg(long)]
    trace: bool,
}

/// From this many seeds on, each kind of fault must have happened.
const ENOUGH_SEEDS: u64 = 100;

#[expect(clippy::print_stdout, reason = "a program's output")]
fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let (mut injected, mut steps, mut messages) = (Injected::default(), 0, 0);
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let wanted = Run { seed, steps: args.steps, mix: args.faults, trace: args.trace };
        match run(wanted, Honest) {
            Ok(outcome) => {
                print!("{}", outcome.trace);
                println!(
                    "seed {seed}: ok, {} steps, {} messages, {}",
                    outcome.steps, outcome.messages, outcome.injected
                );
                injected.add(&outcome.injected);
                steps += outcome.steps;
                messages += outcome.messages;
            }
            Err(failure) => {
                print!("{}", failure.trace);
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} seeds, {steps} steps, {messages} messages, {:.0} steps/s, {injected}",
        args.seeds,
        steps as f64 / seconds
    );
    let missing: Vec<&str> =
        injected.missing().filter(|kind| args.faults.has(*kind)).map(|kind| kind.name()).collect();
    if args.seeds >= ENOUGH_SEEDS && !missing.is_empty() {
        eprintln!("never injected: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
