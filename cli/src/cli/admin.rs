//! Commands of the admin API.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use mstream_admin::v1::{Level, Rules, Watermark};

use super::values;

/// Names on the command line, in a file, or both.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct NamesArgs {
    /// Names
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Names from FILE, one a line; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// One stream, by name or id.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// The stream's name, or its id with --id
    #[arg(value_name = "STREAM")]
    pub(crate) stream: String,
    /// STREAM is an id
    #[arg(long)]
    pub(crate) id: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WatermarkArg {
    /// Durable on this node
    Persisted,
    /// Durable on the required copies
    Committed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelArg {
    Process,
    PmemEmulated,
    MediaSync,
    Pmem,
}

/// Rules of new streams. What is left out has no limit of its own.
#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// When messages become visible and acknowledged [default: committed]
    #[arg(long, value_enum)]
    watermark: Option<WatermarkArg>,
    /// The least durability level; a shard that gives less refuses the stream
    #[arg(long, value_enum, value_name = "LEVEL")]
    min_level: Option<LevelArg>,
    /// Bytes of records that are kept at most, such as "1 GiB"
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    retention_bytes: Option<u64>,
    /// Age that records reach at most, such as 7d
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration)]
    retention_age: Option<Duration>,
    /// Largest block of messages that may be published
    #[arg(long, value_name = "BYTES", value_parser = values::block_bytes)]
    max_block_bytes: Option<u32>,
    /// Publications that may be open at a time
    #[arg(long, value_name = "N")]
    max_publications: Option<u32>,
    /// Subscriptions that may be open at a time
    #[arg(long, value_name = "N")]
    max_subscriptions: Option<u32>,
    /// Keep in cold segments what the log recycles, for as long as the retention says; without one, for ever
    #[arg(long)]
    cold: bool,
    /// Keep in cold segments only the newest message of each key; such a stream is cold
    #[arg(long)]
    newest_per_key: bool,
}

impl RulesArgs {
    /// The rules as the admin API takes them.
    pub(crate) fn rules(&self) -> Rules {
        let watermark = match self.watermark {
            None => Watermark::Unspecified,
            Some(WatermarkArg::Persisted) => Watermark::Persisted,
            Some(WatermarkArg::Committed) => Watermark::Committed,
        };
        let level = match self.min_level {
            None => Level::Unspecified,
            Some(LevelArg::Process) => Level::Process,
            Some(LevelArg::PmemEmulated) => Level::PmemEmulated,
            Some(LevelArg::MediaSync) => Level::MediaSync,
            Some(LevelArg::Pmem) => Level::Pmem,
        };
        Rules {
            watermark: watermark.into(),
            minimum_level: level.into(),
            retention_bytes: self.retention_bytes.unwrap_or(0),
            retention_ms: self.retention_age.map_or(0, |age| age.as_millis() as u64),
            max_block_bytes: self.max_block_bytes.unwrap_or(0),
            max_publications: self.max_publications.unwrap_or(0),
            max_subscriptions: self.max_subscriptions.unwrap_or(0),
            cold: self.cold || self.newest_per_key,
            newest_per_key: self.newest_per_key,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// Create streams
    Create {
        #[command(flatten)]
        names: NamesArgs,
        /// Their shard [default: the one with the fewest streams, for each]
        #[arg(long, value_name = "N")]
        shard: Option<u32>,
        #[command(flatten)]
        rules: RulesArgs,
    },
    /// List streams in the order of their names
    List {
        /// Only names that begin so
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        prefix: String,
    },
    /// One stream: rules, positions, users
    Describe {
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Delete streams and their messages, for good
    Delete {
        #[command(flatten)]
        names: NamesArgs,
        /// NAMEs are ids
        #[arg(long)]
        id: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PublisherCommand {
    /// Give names their ids; a name that has one keeps it
    Register {
        #[command(flatten)]
        names: NamesArgs,
    },
    /// List publishers in the order of their names
    List {
        /// Only names that begin so
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        prefix: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BacklogArgs {
    /// Only this stream: its name, or its id with --id [default: all]
    #[arg(value_name = "STREAM")]
    pub(crate) stream: Option<String>,
    /// STREAM is an id
    #[arg(long, requires = "stream")]
    pub(crate) id: bool,
    /// Also who is up to date
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with a configuration file
    Check {
        /// The file
        file: PathBuf,
        /// Check for a host with the cores 0 to N-1 [default: this host]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        cores: Option<u16>,
    },
    /// Show the configuration that the node runs with
    Show,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::positive_duration)]
    pub(crate) interval: Duration,
    /// Print one plain frame and end; so it is when standard output is no terminal
    #[arg(long)]
    pub(crate) once: bool,
}
