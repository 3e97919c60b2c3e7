//! `mstream wal`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::pubsub::OutFraming;

/// Which logs.
#[derive(Debug, Args)]
pub(crate) struct WalDirArgs {
    /// The node's `[wal] dir`, or the directory of one shard's log in it
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Only the log of shard N [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u32>,
}

/// Which logs, and where their cold segments are.
#[derive(Debug, Args)]
pub(crate) struct WalColdArgs {
    #[command(flatten)]
    pub(crate) logs: WalDirArgs,
    /// The node's `[cold] dir`, or the directory of one shard's cold segments [default: `cold` beside each log's segments]
    #[arg(long, value_name = "DIR")]
    pub(crate) cold: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// What the logs hold: segments, streams, cold segments, and whether they are sound
    ///
    /// Of cold segments what stands at both ends of each file. DIR may also be a directory that holds cold segments
    /// alone. Nothing is changed or locked. A node may run on the logs meanwhile.
    Inspect {
        #[command(flatten)]
        logs: WalColdArgs,
        /// Also what each segment holds of each stream
        #[arg(long)]
        extents: bool,
    },
    /// Check all that a start checks; exit code 1 if anything is wrong
    ///
    /// Says for each damage the file and byte, what is wrong there, what is missing, and where sound records go on. Cold
    /// segments are read whole. Nothing is changed or locked. A node may run on the logs meanwhile.
    Verify {
        #[command(flatten)]
        logs: WalColdArgs,
    },
    /// Write the records of logs, or the messages of one stream
    ///
    /// Of a damaged log, what is sound; then the exit code is 1. What cold segments alone hold comes first. Nothing is
    /// changed or locked. A node may run on the logs meanwhile.
    Dump(WalDumpArgs),
    /// Accept what damaged logs have lost, so that their node takes messages again
    ///
    /// The node is stopped. The loss is recorded in the log; readers are told which offsets are lost. Shows what is
    /// lost and asks first.
    AcceptLoss {
        #[command(flatten)]
        logs: WalDirArgs,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Set cold segments of a log that is no more aside, so that the node of the log in its place starts
    ///
    /// The node is stopped. They go into a directory `log-ID-shard-N` where they are, which `mstream wal` reads like any
    /// other. No file is removed, changed or written over.
    SetColdAside {
        #[command(flatten)]
        logs: WalColdArgs,
    },
}

/// What to dump, and how.
#[derive(Debug, Args)]
pub(crate) struct WalDumpArgs {
    #[command(flatten)]
    pub(crate) logs: WalColdArgs,
    /// Only this stream's messages: its name, or its id with --id
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<String>,
    /// STREAM is an id
    #[arg(long, requires = "stream")]
    pub(crate) id: bool,
    /// Directory of the catalogue, for names of streams [default: DIR]
    #[arg(long, value_name = "DIR")]
    pub(crate) catalogue: Option<PathBuf>,
    /// Only messages from this offset on
    #[arg(long, value_name = "OFFSET", requires = "stream")]
    pub(crate) from: Option<u64>,
    /// Only messages below this offset
    #[arg(long, value_name = "OFFSET", requires = "stream")]
    pub(crate) to: Option<u64>,
    /// Write the messages' payloads alone, following each other like this, as `mstream sub` does
    #[arg(long, value_enum, requires = "stream", conflicts_with = "json")]
    pub(crate) framing: Option<OutFraming>,
    /// Write the records as they stand in the log, one behind the other
    #[arg(long, conflicts_with_all = ["json", "framing"])]
    pub(crate) raw: bool,
}
