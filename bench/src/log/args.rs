//! Flags of the scenarios that measure the log alone.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::Failure;
use crate::measure::Cores;

/// What all of them take.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogArgs {
    /// Directory that the log is made in, and removed from again [default: the hugetlbfs mount that
    /// MSTREAM_HUGETLBFS names, else /dev/shm]
    #[arg(long, value_name = "DIR")]
    pub(crate) wal: Option<PathBuf>,
    /// Turns of each side; figures are medians over them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) runs: u16,
    /// Core to run on [default: the last one]
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Write the figures to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl LogArgs {
    pub(super) fn core(&self) -> Result<usize, Failure> {
        Cores::choose(self.core, None).map(|cores| cores.server)
    }
}

/// Other logs that are measured in turns with ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogPeer {
    /// PMDK's libpmemlog with PMEM_IS_PMEM_FORCE=1, if it is installed (Debian's libpmemlog1).
    Pmemlog,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WalArgs {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// Bytes of a record's payload [default: several, 32 to 65440]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=65440))]
    pub(crate) size: Option<u32>,
    /// Records behind one fence [default: 1 and 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) burst: Option<u64>,
    /// Measure other logs in turns with ours
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) peers: Vec<LogPeer>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RecoveryArgs {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// MiB of records that are read again
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) mib: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ColdArgs {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// Directory that the cold segments are made in, and removed from again: on the medium that is to be measured
    /// [default: the one for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// MiB of records in cold segments
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) mib: u64,
    /// Seed of what is looked up
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct IndexArgs {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// Records in the index; a hundred million take about a GiB
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1_000_000, 100_000_000],
          value_parser = clap::value_parser!(u64).range(1..=4_000_000_000))]
    pub(crate) records: Vec<u64>,
    /// Streams that they are spread over
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) streams: u64,
    /// Records of a log whose index has room for a part of them, so that others are looked up in footers; 0: that is
    /// left out
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    pub(crate) footer_records: u64,
    /// Streams of that log
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) footer_streams: u64,
    /// Seed of what is looked up
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}
