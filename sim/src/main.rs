//! `mstream-sim`: plays worlds from seeds until a promise is broken.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use mstream_sim::{
    Campaign, Failure, Honest, Kind, Mix, Outcome, Run, Seeds, Totals, play_seeds, playing, run,
    shrink,
};

/// Plays seeded worlds with the shard, its log, its poll loop and clients, and looks at what they promise after every
/// step. The same seed gives the same world. Says at the end what it did and which faults it injected.
#[derive(Debug, Parser)]
#[command(
    name = "mstream-sim",
    version,
    after_help = "Exit codes: 0 all promises were kept, 1 one was not (or no fault was injected), 2 wrong usage.\n\
                  docs/simulation.md tells how to add a fault, an invariant and a planted bug."
)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, on all cores.
    #[arg(long, conflicts_with = "minutes", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Plays seeds for so many minutes, on all cores.
    #[arg(long, value_parser = minutes)]
    minutes: Option<f64>,
    /// Steps with faults in each world.
    #[arg(long, default_value_t = 1_500)]
    steps: u64,
    /// Kinds of faults that may happen, with commas between them; all, none.
    #[arg(long, default_value = "all")]
    faults: Mix,
    /// Publishers in each world, at most.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3))]
    publishers: u64,
    /// Subscribers in each world, at most.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3))]
    subscribers: u64,
    /// There are so many publishers and subscribers in each world, not fewer.
    #[arg(long)]
    exactly: bool,
    /// Threads; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Prints what happens in each world, or in the one that fails.
    #[arg(long)]
    trace: bool,
    /// After a failure looks for a shorter run that fails alike.
    #[arg(long)]
    shrink: bool,
    /// Plays with a bug planted in the code: its name, or all (debug builds with the feature planted; up to 2,000 seeds
    /// each unless --seeds says otherwise).
    #[arg(long, value_name = "NAME", conflicts_with = "minutes")]
    planted: Option<String>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    let some = minutes > 0.0 && minutes <= 1e6;
    some.then_some(minutes).ok_or_else(|| "more than 0, at most 1000000".to_string())
}

/// Writes to standard output. When nobody reads there any more that is the end.
fn out(text: std::fmt::Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_fmt(text).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(1);
    }
}

impl Args {
    fn first(&self) -> Run {
        Run {
            seed: self.seed,
            steps: self.steps,
            mix: self.faults,
            publishers: self.publishers,
            subscribers: self.subscribers,
            exactly: self.exactly,
            trace: self.trace,
        }
    }

    fn seeds(&self) -> Seeds {
        match self.minutes {
            Some(minutes) => Seeds::For(Duration::from_secs_f64(minutes * 60.0)),
            None => Seeds::Count(self.seeds.unwrap_or(1)),
        }
    }

    fn jobs(&self) -> usize {
        match self.jobs {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            jobs => jobs,
        }
    }
}

/// From this many seeds on, each kind of fault must have happened.
const ENOUGH_SEEDS: u64 = 200;

fn main() -> ExitCode {
    let args = Args::parse();
    // Where a panic ends the process nothing else tells the seed.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        if let Some(run) = playing() {
            eprintln!("repeat: {run} --trace");
        }
    }));
    match &args.planted {
        Some(name) => planted(name, &args),
        None => play(&args),
    }
}

fn play(args: &Args) -> ExitCode {
    let (began, alone) = (Instant::now(), args.seeds.is_none() && args.minutes.is_none());
    let campaign = Campaign { first: args.first(), seeds: args.seeds(), jobs: args.jobs() };
    let each = |seed: u64, outcome: &Outcome| {
        out(format_args!("{}", outcome.trace));
        if alone {
            out(format_args!("seed {seed}: ok, {}\n", outcome.injected));
        }
    };
    let (totals, failure) = play_seeds(campaign, each);
    out(format_args!("{}\n", summary(args, &totals, began.elapsed().as_secs_f64())));
    match failure {
        Some(failure) => report(failure, args.shrink, |wanted| run(wanted, Honest).err()),
        None => check_injected(args, &totals),
    }
}

fn summary(args: &Args, totals: &Totals, seconds: f64) -> String {
    let passed = totals.passed_ns as f64 / 1e9;
    let rate = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    format!(
        "seeds from {}: {} played in {seconds:.1} s; simulated {passed:.0} s, {:.0} times real time; {} steps, {} \
         polls with work, {:.0} of them a second, of {:.1} frames; {} messages, {:.0} batches a simulated second; {} ended early, reboots having left no free segment\nfaults: {}",
        args.seed,
        totals.seeds,
        rate(passed),
        totals.steps,
        totals.polls,
        rate(totals.polls as f64),
        totals.frames as f64 / totals.polls.max(1) as f64,
        totals.messages,
        if passed > 0.0 { totals.batches as f64 / passed } else { 0.0 },
        totals.no_room,
        totals.injected
    )
}

/// A run that injected nothing tested nothing.
fn check_injected(args: &Args, totals: &Totals) -> ExitCode {
    let missing: Vec<&str> = totals
        .injected
        .missing()
        .filter(|kind| args.faults.has(*kind))
        .map(|kind| kind.name())
        .collect();
    let none = totals.injected.missing().count() == Kind::ALL.len();
    if args.faults != Mix::NONE && none {
        eprintln!("mstream-sim: no fault was injected in {} seeds", totals.seeds);
        return ExitCode::FAILURE;
    }
    if totals.seeds >= ENOUGH_SEEDS && !missing.is_empty() {
        eprintln!("mstream-sim: never injected: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn report(
    failure: Box<Failure>,
    shrinks: bool,
    play: impl FnMut(Run) -> Option<Box<Failure>>,
) -> ExitCode {
    out(format_args!("{}", failure.trace));
    eprintln!("{failure}");
    if shrinks {
        let less = shrink(failure, play);
        eprintln!("shorter: {less}");
    }
    ExitCode::FAILURE
}

#[cfg(all(feature = "planted", debug_assertions))]
fn planted(name: &str, args: &Args) -> ExitCode {
    use mstream_sim::invariants;
    use mstream_sim::planted::{Bug, hunt};

    let all = name == "all";
    let bugs = match name {
        "all" => Bug::all(),
        name => match Bug::named(name) {
            Some(bug) => vec![bug],
            None => {
                let names: Vec<String> = Bug::all().iter().map(Bug::to_string).collect();
                eprintln!(
                    "mstream-sim: no bug is named {name}; there are all, {}",
                    names.join(", ")
                );
                return ExitCode::from(2);
            }
        },
    };
    let (mut missed, mut broken, seeds) = (0, Vec::new(), args.seeds.unwrap_or(2_000));
    std::panic::set_hook(Box::new(|_| {}));
    for bug in bugs {
        match hunt(bug, args.first(), seeds) {
            Some(failure) => {
                broken.push(failure.broken.invariant);
                let count = failure.run.seed - args.seed + 1;
                if args.trace {
                    out(format_args!("{}", failure.trace));
                }
                out(format_args!("{bug}: caught after {count} seeds: {}\n", failure.broken));
                if args.shrink {
                    Bug::plant(Some(bug));
                    let less = shrink(failure, |wanted| run(wanted, Honest).err());
                    Bug::plant(None);
                    out(format_args!("{bug}: shorter: {less} --planted {bug}\n"));
                }
            }
            None => {
                missed += 1;
                out(format_args!("{bug}: NOT caught in {seeds} seeds\n"));
            }
        }
    }
    // One that no bug breaks may be one that nothing can break.
    let unbroken = invariants::ALL.iter().filter(|name| all && !broken.contains(name));
    for name in unbroken {
        missed += 1;
        out(format_args!("{name}: broken by no planted bug\n"));
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(all(feature = "planted", debug_assertions)))]
fn planted(_: &str, _: &Args) -> ExitCode {
    eprintln!(
        "mstream-sim: this build can plant nothing; run: cargo run -p mstream-sim --features planted -- --planted all"
    );
    ExitCode::from(2)
}
