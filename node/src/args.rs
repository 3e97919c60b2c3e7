//! The command line.

use std::path::PathBuf;

use clap::Parser;

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
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Check the configuration, say what it means and how much memory it takes, and end.
    #[arg(long)]
    pub(crate) check: bool,
    /// Instead of running shards send every received frame back: the floor under the same ports' latency.
    /// Frames of memif and ring ports go back unchanged, of socket and tap ports with addresses swapped; no log
    /// is opened.
    #[arg(long)]
    pub(crate) echo: bool,
    /// What to write to standard error: error, warn, info, debug or trace; otherwise RUST_LOG says it.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
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
