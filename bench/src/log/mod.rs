//! The write-ahead log alone, without ports and sessions: appending, recovering, finding a record, reading cold segments.

mod append;
mod args;
mod cold;
mod footers;
mod index;
#[expect(unsafe_code, reason = "a C library of another project, and its functions")]
mod pmemlog;
mod recovery;
mod rig;

use hdrhistogram::Histogram;
use serde::Serialize;

use self::args::LogArgs;
use crate::measure::{Host, Percentiles, Pinned, log_parent};
use crate::{Failure, replace_file, say};

pub(crate) use append::run as wal;
pub(crate) use args::{ColdArgs, IndexArgs, RecoveryArgs, WalArgs};
pub(crate) use cold::run as cold;
pub(crate) use index::run as index;
pub(crate) use recovery::run as recovery;

/// Bytes of a message's header in a block (`docs/protocol.md` section 4.3).
const MESSAGE_HEADER: usize = 8;

/// What a scenario found.
#[derive(Debug, Serialize)]
struct Report<C> {
    scenario: &'static str,
    host: Host,
    runs: u16,
    cases: Vec<C>,
}

/// Where a scenario works: a directory that is gone afterwards, on one core.
struct Place {
    dir: tempfile::TempDir,
    host: Host,
    _pinned: Pinned,
}

impl Place {
    fn take(args: &LogArgs) -> Result<Place, Failure> {
        let parent = log_parent(args.wal.as_deref());
        let dir = tempfile::Builder::new()
            .prefix("mstream-bench-")
            .tempdir_in(&parent)
            .map_err(|error| format!("--wal {}: {error}", parent.display()))?;
        // Before the pinning, after which there is one core.
        let host = Host::now();
        Ok(Place { dir, host, _pinned: Pinned::to(args.core()?)? })
    }
}

/// Says a report's text and writes the report where it was asked for.
fn tell<C: Serialize>(
    scenario: &'static str,
    args: &LogArgs,
    place: &Place,
    cases: Vec<C>,
    text: &str,
) -> Result<(), Failure> {
    say(text);
    let Some(path) = &args.json else { return Ok(()) };
    let report = Report { scenario, host: place.host.clone(), runs: args.runs, cases };
    let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
    replace_file(path, &(json + "\n"))
}

/// The machine, as a report's first line.
fn machine(place: &Place) -> String {
    let Host { cpu, cores, kernel, huge_pages, .. } = &place.host;
    format!("{cpu}, {cores} cores, Linux {kernel}, {} MiB in huge pages\n", huge_pages >> 20)
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Times in ns, up to a second.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, 1_000_000_000, 3).map_err(|error| error.to_string())
}

fn percentiles(times: &Histogram<u64>) -> Percentiles {
    Percentiles::of(times)
}
