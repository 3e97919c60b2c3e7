//! `mstream pub` and `mstream sub`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mstream_client::From;
use mstream_framing::Framing;

use super::values;

/// Which stream, and the way there.
#[derive(Debug, Args)]
pub(crate) struct ReachArgs {
    /// The stream's name, or its id with --id
    #[arg(value_name = "STREAM")]
    pub(crate) stream: String,
    /// STREAM is an id
    #[arg(long)]
    pub(crate) id: bool,
    /// Address of the node's shard 0 [default: the context's, else as the admin API tells it]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) addr: Option<SocketAddr>,
    /// Go by the memif port with this control socket, not by UDP; the address is then the shard's on that port
    #[arg(long, value_name = "SOCKET")]
    pub(crate) memif: Option<PathBuf>,
    /// VLAN of the memif port [default: none]
    #[arg(long, value_name = "N", conflicts_with = "udp", value_parser = clap::value_parser!(u16).range(1..=4094))]
    pub(crate) vlan: Option<u16>,
    /// Go by UDP though the context names a memif socket
    #[arg(long, conflicts_with = "memif")]
    pub(crate) udp: bool,
    /// The stream's shard [default: as the admin API tells it, where its address is given; else 0]
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<u32>,
    /// Poll without pause while nothing comes: lower latency, for a whole core
    #[arg(long)]
    pub(crate) spin: bool,
    /// How long to wait for a node that went away meanwhile, or "forever"
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = values::patience)]
    pub(crate) patience: Duration,
}

/// How messages follow each other in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InFraming {
    /// A message is a line
    Lines,
    /// Length in 2 bytes, big-endian, then the message
    U16be,
    /// Length in 4 bytes, big-endian, then the message
    U32be,
    /// The whole input is one message
    Whole,
}

impl InFraming {
    pub(crate) fn framing(self) -> Framing {
        match self {
            InFraming::Lines => Framing::Lines,
            InFraming::U16be => Framing::U16be,
            InFraming::U32be => Framing::U32be,
            InFraming::Whole => Framing::Whole,
        }
    }
}

/// How messages follow each other in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutFraming {
    /// A message is a line
    Lines,
    /// Length in 2 bytes, big-endian, then the message
    U16be,
    /// Length in 4 bytes, big-endian, then the message
    U32be,
    /// Messages with nothing between them
    Raw,
}

impl OutFraming {
    pub(crate) fn framing(self) -> Framing {
        match self {
            OutFraming::Lines => Framing::Lines,
            OutFraming::U16be => Framing::U16be,
            OutFraming::U32be => Framing::U32be,
            OutFraming::Raw => Framing::Whole,
        }
    }
}

/// Publishes messages until all are acknowledged.
///
/// Ctrl-C ends the input; what was sent is still waited for. A second one ends at once.
#[derive(Debug, Args)]
pub(crate) struct PubArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Where messages come from, plain or gzip [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How messages follow each other in the input
    #[arg(long, value_enum, default_value = "lines")]
    pub(crate) framing: InFraming,
    /// Messages per second at most, such as 1000 or 10k/s [default: as fast as they are taken]
    #[arg(long, value_name = "N/s", value_parser = values::rate)]
    pub(crate) rate: Option<u64>,
    /// Publish in this name: nothing is lost or repeated over reconnects. The name is registered at first use
    /// [default: anonymously]
    #[arg(long, value_name = "NAME", conflicts_with = "publisher_id")]
    pub(crate) publisher: Option<String>,
    /// As --publisher, by id: needs no admin API
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..1 << 63))]
    pub(crate) publisher_id: Option<u64>,
    /// Key of every message
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) key: String,
}

/// Reads a stream's messages to standard output or a file.
///
/// Missing messages are told on standard error, and the exit code is then 1.
#[derive(Debug, Args)]
pub(crate) struct SubArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Where to begin: earliest, latest, an offset, a time (2026-01-31T09:30:00Z), or how long ago (10m)
    /// [default: latest; earliest with --until-end]
    #[arg(long, value_name = "START", value_parser = values::start)]
    pub(crate) from: Option<From>,
    /// End after N messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End at the stream's end as it is when reading begins
    #[arg(long, visible_alias = "no-follow", conflicts_with = "follow")]
    pub(crate) until_end: bool,
    /// Wait for more messages until Ctrl-C; so it is without --until-end and --count
    #[arg(long)]
    pub(crate) follow: bool,
    /// Go on behind messages that are gone instead of ending; the exit code still tells
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Write to FILE, packed if it ends in .gz
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How messages follow each other in the output; --json writes one object a line instead
    #[arg(long, value_enum, default_value = "lines", conflicts_with = "json")]
    pub(crate) framing: OutFraming,
}
