//! What is known of a shard's cold segments, for whoever asks: its worker writes, others read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mstream_admin::v1;
use mstream_controlplane::admin::convert_level;
use mstream_dataplane::ColdWork;
use mstream_pmem::cold::ColdStats;
use mstream_pmem::region::Level;

/// What a worker does that may fail, in the order of their numbers.
const WORKS: [ColdWork; 3] = [ColdWork::Copying, ColdWork::Merging, ColdWork::Reading];

/// What it does, in a word.
pub(super) fn name(work: ColdWork) -> &'static str {
    match work {
        ColdWork::Copying => "copying",
        ColdWork::Merging => "merging",
        ColdWork::Reading => "reading",
    }
}

/// Numbers that rise and fall, and counts, in the order of [`Cells`]' arrays.
const POSITIONS: [&str; 7] = [
    "files",
    "file_bytes",
    "live_bytes",
    "streams",
    "copied_segment",
    "waiting_segments",
    "lag_ms",
];
const COUNTERS: [&str; 5] = ["copied_segments", "copied_bytes", "moved_bytes", "reads", "errors"];

/// A count of [`COUNTERS`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    CopiedSegments,
    CopiedBytes,
    MovedBytes,
    Reads,
    Errors,
}

/// The state of one shard's cold segments. Each number is right by itself.
#[derive(Debug)]
pub(crate) struct Cells {
    dir: PathBuf,
    level: Level,
    positions: [AtomicU64; POSITIONS.len()],
    counters: [AtomicU64; COUNTERS.len()],
    /// What stands in the way of each work.
    troubles: Mutex<[Option<String>; WORKS.len()]>,
}

impl Cells {
    pub(crate) fn new(dir: PathBuf, level: Level) -> Cells {
        Cells {
            dir,
            level,
            positions: Default::default(),
            counters: Default::default(),
            troubles: Mutex::default(),
        }
    }

    pub(super) fn count(&self, what: Count, more: u64) {
        self.counters[what as usize].fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn set_store(&self, stats: &ColdStats, copied: u64) {
        let values = [stats.files, stats.file_bytes, stats.live_bytes, stats.streams, copied];
        for (cell, value) in self.positions.iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn set_waiting(&self, segments: u64, lag_ms: u64) {
        self.positions[5].store(segments, Ordering::Relaxed);
        self.positions[6].store(lag_ms, Ordering::Relaxed);
    }

    /// Notes what stands in the way, or that nothing does any more. True if that is news.
    pub(super) fn trouble(&self, work: ColdWork, trouble: Option<String>) -> bool {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut troubles[work as usize];
        let news = *known != trouble;
        *known = trouble;
        news
    }

    /// All that stands in the way, in words; empty if nothing does.
    pub(crate) fn condition(&self) -> String {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let each = WORKS.into_iter().zip(troubles.iter());
        let each = each.filter_map(|(work, trouble)| {
            trouble.as_ref().map(|trouble| format!("{}: {trouble}", name(work)))
        });
        each.collect::<Vec<_>>().join("; ")
    }

    /// How often something failed.
    pub(crate) fn errors(&self) -> u64 {
        self.counters[Count::Errors as usize].load(Ordering::Relaxed)
    }

    /// As the admin API tells it.
    pub(crate) fn told(&self) -> v1::Cold {
        let numbers = |names: &[&str], cells: &[AtomicU64]| {
            let number = |(name, cell): (&&str, &AtomicU64)| v1::Number {
                name: name.to_string(),
                value: cell.load(Ordering::Relaxed),
            };
            names.iter().zip(cells).map(number).collect()
        };
        v1::Cold {
            dir: self.dir.display().to_string(),
            level: convert_level(self.level).into(),
            condition: self.condition(),
            positions: numbers(&POSITIONS, &self.positions),
            counters: numbers(&COUNTERS, &self.counters),
        }
    }
}
