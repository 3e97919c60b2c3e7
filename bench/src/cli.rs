//! The command line.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mstream_client::{From, StreamRef};

use crate::log::{ColdArgs, IndexArgs, RecoveryArgs, WalArgs};

/// Measures MemoryStreamer: latency and throughput beside the raw port's floor; plain clients; market data
/// to publish.
#[derive(Debug, Parser)]
#[command(
    name = "mstream-bench",
    version,
    after_help = "Exit codes: 0 done, 1 failed (the reason is on standard error), 2 wrong usage.\n\
                  A measurement fails when a message was lost, repeated, reordered or altered, or when the \
                  wanted rate was missed."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The raw port: datagrams of the same size, sent back by `mstreamd --echo`.
    Floor(MeasureArgs),
    /// Publish to delivery, persisted in between, in turns with the floor. One in flight unless --rate or
    /// --in-flight says otherwise.
    Latency(MeasureArgs),
    /// As many messages as go through, every byte of each checked.
    Throughput(MeasureArgs),
    /// Floor, latency, throughput in full datagrams and with one message in each.
    All(MeasureArgs),
    /// Appending to the log, beside a bare streaming copy and a fence in the same run.
    Wal(WalArgs),
    /// Reading a log again at start.
    Recovery(RecoveryArgs),
    /// Finding a record by stream and offset.
    Index(IndexArgs),
    /// Reading cold segments: all records in order, a page at a time, and single look-ups; with the files in the page
    /// cache and, on a disk, without.
    Cold(ColdArgs),
    /// Publishes messages to a running appliance until all are acknowledged.
    Publish(PublishArgs),
    /// Reads a stream of a running appliance and checks its offsets.
    Subscribe(SubscribeArgs),
    /// The raw kernel UDP echo that a run over AF_XDP starts beside the appliance.
    #[command(hide = true)]
    UdpEcho(UdpEchoArgs),
    /// Market-data sessions: NASDAQ TotalView-ITCH 5.0 in BinaryFILE framing.
    #[command(subcommand)]
    Itch(ItchCommand),
}

/// How frames get from the client to the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PortKind {
    /// Shared memory.
    Memif,
    /// Shared memory, DPDK's net_memif on the appliance's side.
    DpdkMemif,
    /// An interface of the kernel that DPDK's net_tap makes, in a network namespace of this run (root only);
    /// the client uses a kernel UDP socket.
    DpdkTap,
    /// A veth pair between two network namespaces of this run (root only): the appliance's end through DPDK's
    /// net_af_xdp, the client's through a kernel UDP socket. The floor is a raw kernel UDP echo over a second
    /// pair.
    #[value(alias = "af_xdp")]
    AfXdp,
    /// Kernel UDP sockets over loopback.
    Socket,
}

/// What the floor under `--port af-xdp` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Floor {
    /// A kernel UDP socket that sends datagrams back.
    Kernel,
    /// The same AF_XDP port that sends frames back: nothing behind such a port can be faster.
    Port,
}

/// Other systems that are measured in turns with the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeerKind {
    /// An Aeron echo over the kernel echo's veth pair, and Aeron publishing to itself; scripts/build-aeron
    /// builds it.
    Aeron,
}

/// What a client does when a poll found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Idle {
    /// Polls again at once.
    Spin,
    /// Lets other threads of its core run.
    Yield,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct MeasureArgs {
    /// Messages per second, sent on a schedule and timed from when each was due. Without it: as fast as
    /// what is in flight allows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// Datagrams that are under way at a time [default: latency 1, throughput 128]
    #[arg(long, value_name = "N", conflicts_with = "rate",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) in_flight: Option<u16>,
    /// Messages in a datagram [default: latency 1, throughput as many as fit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=80))]
    pub(crate) batch: Option<u16>,
    /// Bytes of a message's payload
    #[arg(long, value_name = "BYTES", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(8..=1272))]
    pub(crate) size: u16,
    /// Seconds that are measured of each scenario and of each floor, in each run
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Runs, each with a new appliance; figures are medians over them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) runs: u16,
    /// Directory that the appliance's log is made in, and removed from again [default: the hugetlbfs mount
    /// that MSTREAM_HUGETLBFS names, else /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub(crate) wal: Option<PathBuf>,
    /// Port between client and appliance
    #[arg(long, value_enum, default_value = "memif")]
    pub(crate) port: PortKind,
    /// With --port af-xdp: what sends back what the floor is measured with
    #[arg(long, value_enum, default_value = "kernel")]
    pub(crate) floor: Floor,
    /// Measure other systems in turns with the appliance; needs --port af-xdp
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) peers: Vec<PeerKind>,
    /// Seed of the messages' content
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the figures to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report with a plot of latency by percentile to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Core of the appliance [default: the last one]
    #[arg(long, value_name = "N")]
    pub(crate) server_core: Option<usize>,
    /// Core of the client [default: the one before the last]
    #[arg(long, value_name = "N")]
    pub(crate) client_core: Option<usize>,
    /// Measure the running appliance whose shard is at ADDR (ip:port) instead of starting one; there is no
    /// floor then
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["wal", "port", "server_core"])]
    pub(crate) target: Option<SocketAddrV4>,
    /// Control socket of the target's memif port; without it the target is reached by UDP
    #[arg(long, value_name = "SOCKET", requires = "target")]
    pub(crate) memif: Option<PathBuf>,
    /// Stream of the target, by name or id
    #[arg(long, value_name = "NAME|ID", default_value = "bench", requires = "target", value_parser = stream)]
    pub(crate) stream: StreamRef,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UdpEchoArgs {
    /// Address of its socket
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) bind: SocketAddrV4,
    /// Core that it spins on
    #[arg(long, value_name = "N")]
    pub(crate) core: usize,
}

/// Where the appliance is.
#[derive(Clone, Debug, Args)]
pub(crate) struct TargetArgs {
    /// The shard's address (ip:port)
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) target: SocketAddrV4,
    /// Control socket of its memif port
    #[arg(long, value_name = "SOCKET", conflicts_with = "udp")]
    pub(crate) memif: Option<PathBuf>,
    /// Go by a kernel UDP socket; so it is without --memif
    #[arg(long)]
    pub(crate) udp: bool,
    /// The stream, by name or id
    #[arg(long, value_name = "NAME|ID", value_parser = stream)]
    pub(crate) stream: StreamRef,
    /// What to do when a poll found nothing
    #[arg(long, value_enum, default_value = "yield")]
    pub(crate) idle: Idle,
    /// Fail when nothing was heard of the appliance for this long; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) patience: u64,
    /// Write the outcome to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Keep FILE up to date with how far it is, as JSON, replaced as a whole every 50 ms
    #[arg(long, value_name = "FILE")]
    pub(crate) status_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    pub(crate) at: TargetArgs,
    /// Publish as this publisher, which may go on over restarts of the appliance [default: anonymously]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) publisher: Option<u64>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Messages of the session, with --itch-seed
    #[arg(long, value_name = "N", requires = "itch_seed", value_parser = clap::value_parser!(u64).range(8..))]
    pub(crate) messages: Option<u64>,
    /// Bytes of each message, with --count
    #[arg(long, value_name = "BYTES", default_value_t = 64, conflicts_with_all = ["itch_seed", "input"],
          value_parser = clap::value_parser!(u16).range(8..=1272))]
    pub(crate) size: u16,
    /// Seed of the messages' content, with --count
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["itch_seed", "input"])]
    pub(crate) seed: u64,
    /// Messages per second [default: as fast as they are taken]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rate: Option<u64>,
    /// Messages in a datagram at most [default: what waits and fits]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: Option<u16>,
}

/// Where messages come from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SourceArgs {
    /// The market-data session of SEED (see `itch generate`)
    #[arg(long, value_name = "SEED", requires = "messages")]
    pub(crate) itch_seed: Option<u64>,
    /// The messages of a file in BinaryFILE framing (2-byte big-endian length, message), plain or gzip
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// N numbered messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct SubscribeArgs {
    #[command(flatten)]
    pub(crate) at: TargetArgs,
    /// Where to begin: earliest, latest, or an offset
    #[arg(long, value_name = "earliest|latest|N", default_value = "earliest", value_parser = start)]
    pub(crate) from: From,
    /// End after N messages [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Write the messages to FILE in BinaryFILE framing, packed if it ends in .gz
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ItchCommand {
    /// Writes the session of a seed: the same bytes for the same seed and count.
    Generate {
        /// Seed of the session
        #[arg(long, value_name = "N")]
        seed: u64,
        /// Messages, all counted
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(8..))]
        messages: u64,
        /// Where to write it; packed if it ends in .gz
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Proves that a session keeps the rules of the specification.
    Check {
        /// The session, plain or gzip
        file: PathBuf,
        /// Count broken rules instead of failing at the first, for excerpts and artificial samples
        #[arg(long)]
        lenient: bool,
    },
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.05 to 86400 are possible".into()),
    }
}

fn stream(text: &str) -> Result<StreamRef, String> {
    match text.parse() {
        Ok(0) => Err("ids start at 1".into()),
        Ok(id) => Ok(StreamRef::Id(id)),
        Err(_) if text.is_empty() => Err("a name has letters".into()),
        Err(_) => Ok(StreamRef::Name(text.into())),
    }
}

fn start(text: &str) -> Result<From, String> {
    match text {
        "earliest" => Ok(From::Earliest),
        "latest" => Ok(From::Latest),
        offset => match offset.parse() {
            Ok(offset) => Ok(From::Offset(offset)),
            Err(_) => Err("earliest, latest or an offset".into()),
        },
    }
}
