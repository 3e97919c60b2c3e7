//! The command line.

mod admin;
mod pubsub;
mod values;
mod wal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use self::admin::{
    BacklogArgs, ConfigCommand, KeyArgs, NamesArgs, PublisherCommand, StreamCommand, TopArgs,
};
pub(crate) use self::pubsub::{PubArgs, ReachArgs, SubArgs};
pub(crate) use self::wal::{WalColdArgs, WalCommand, WalDirArgs, WalDumpArgs};

/// Publishes to and subscribes from MemoryStreamer nodes, and manages them.
///
/// Which node is meant: --admin, --addr and --memif say it; else the context that --context names; else
/// MSTREAM_ADMIN; else the context of MSTREAM_CONTEXT, or the current one (`mstream context`); else a node
/// on this host.
#[derive(Debug, Parser)]
#[command(
    name = "mstream",
    version,
    after_help = "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage.",
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Write JSON: one object, or one a line for lists and streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Use this context (`mstream context list`) [env: MSTREAM_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The node's admin address [env: MSTREAM_ADMIN]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) admin: Option<String>,
    /// How long to wait for an answer of the node
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = values::positive_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, list, describe and delete streams
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Register and list names of publishers
    #[command(subcommand)]
    Publisher(PublisherCommand),
    /// Publish messages from a file or standard input until all are acknowledged
    Pub(PubArgs),
    /// Read a stream's messages
    Sub(SubArgs),
    /// What the node is doing: shards, ports, positions, refusals
    Status,
    /// Who is connected
    Sessions,
    /// Who is behind, and by how much
    Backlog(BacklogArgs),
    /// Distinct errors since the node's start
    Errors,
    /// Check a configuration file, or show the running node's
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Watch the node live
    Top(TopArgs),
    /// Look into the logs on this host's disk, and accept what they have lost
    #[command(subcommand)]
    Wal(WalCommand),
    /// Names for nodes, kept in $XDG_CONFIG_HOME/mstream/contexts.toml
    #[command(subcommand)]
    Context(ContextCommand),
    /// Write a completion script for a shell to standard output
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Write manual pages
    Man {
        /// Directory that they are written into; made if it does not exist
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Add a node under a name, or change it; the first one becomes the current one
    Add {
        /// Its name
        #[arg(value_parser = values::name)]
        name: String,
        /// Its admin address
        #[arg(long, value_name = "HOST:PORT", value_parser = crate::settings::admin_address)]
        admin: Option<String>,
        /// Address of its shard 0
        #[arg(long, value_name = "IP:PORT")]
        addr: Option<SocketAddr>,
        /// Control socket of its memif port, on this host
        #[arg(long, value_name = "SOCKET")]
        memif: Option<PathBuf>,
    },
    /// Make a context the current one
    Use {
        /// Its name
        name: String,
    },
    /// List contexts
    List,
    /// Remove a context
    Remove {
        /// Its name
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
