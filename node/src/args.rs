//! The command line.

use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{Parser, ValueEnum};

/// The MemoryStreamer appliance: takes in, persists and delivers messages.
#[derive(Debug, Parser)]
#[command(
    name = "mstreamd",
    version,
    after_help = "Exit codes: 0 ended as it should, 1 failed (the reason is on standard error), 2 wrong \
                  usage.\nOnce all shards poll, \"mstreamd: ready\" is written to standard output.\n\
                  SIGTERM and SIGINT end it; SIGUSR1 writes positions and counters to standard error."
)]
pub(crate) struct Args {
    /// Configuration file (TOML).
    #[arg(
        long,
        value_name = "FILE",
        required = false,
        required_unless_present = "reference",
        default_value_if("reference", ArgPredicate::IsPresent, "none")
    )]
    pub(crate) config: PathBuf,
    /// Check the configuration, say what it means and how much memory it takes, and end.
    #[arg(long)]
    pub(crate) check: bool,
    /// Instead of running shards send every received frame back: the floor under the same ports' latency.
    /// Frames of memif and ring ports go back unchanged, of socket and tap ports with addresses swapped; no log
    /// is opened.
    #[arg(long)]
    pub(crate) echo: bool,
    /// What to log: off, error, warn, info, debug or trace; otherwise RUST_LOG says it, or `[log] level` in the
    /// configuration.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// Print a page of reference (Markdown) and end.
    #[arg(long, value_name = "TOPIC", exclusive = true)]
    pub(crate) reference: Option<Reference>,
}

/// A page that the program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reference {
    /// Every key of the configuration.
    Config,
    /// Every metric.
    Metrics,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
