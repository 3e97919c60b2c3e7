//! Cold segments of the node's shards: opened at start, then copied to, merged and read by a thread beside each shard.

mod status;
mod worker;

use std::sync::Arc;

use mstream_controlplane::Config;
use mstream_controlplane::catalogue::{Keeper, StreamKey};
use mstream_dataplane::{ColdQueues, ColdWorker, Now};
use mstream_pmem::AnyRegion;
use mstream_pmem::cold::{ColdDisk, ColdError, ColdPage, ColdStore, DirDisk, Keep, cold_level};
use mstream_pmem::region::Level;
use mstream_pmem::wal::Wal;

pub(crate) use status::Cells;
pub(crate) use worker::Worker;

use crate::Failure;
use crate::placement::Finding;
use crate::shard::Cold;

/// What is known when the cold segments of a shard are opened.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Config,
    /// Number of the shard.
    pub(crate) number: usize,
    pub(crate) streams: &'a Arc<Keeper>,
    pub(crate) now: Now,
}

/// Opened cold segments of a shard.
pub(crate) struct Opened {
    pub(crate) worker: Worker,
    pub(crate) cells: Arc<Cells>,
    /// What the shard needs.
    pub(crate) cold: Cold,
}

impl Start<'_> {
    /// Opens the cold segments of the shard whose log is `wal`, and copies what a log that has too few free segments
    /// is to recycle before it takes anything.
    pub(crate) fn open(
        &self,
        wal: &mut Wal<AnyRegion>,
        queues: ColdQueues,
    ) -> Result<Opened, Failure> {
        let settings = &self.config.cold;
        let dir = self.config.cold_dir(self.number);
        let failed = |reason: String| format!("cold segments in {}: {reason}", dir.display());
        let disk = DirDisk::open(&dir, self.config.wal.trust_host_pmem)
            .map_err(|error| failed(error.to_string()))?;
        let level = disk.level();
        too_weak(level, wal.level()).map_or(Ok(()), |reason| Err(failed(reason)))?;
        let refused = |error: ColdError| match error {
            ColdError::OtherLog { .. } => failed(format!(
                "{error}; nothing was changed. If that log is no more, `{}` sets its files aside, where `mstream wal` \
                 reads them; else put it back, or name another directory with [cold] dir",
                self.mends()
            )),
            _ => failed(error.to_string()),
        };
        let shard = self.number as u32;
        let mut store = ColdStore::open(disk, wal.log_id(), shard).map_err(refused)?;
        // A log that takes nothing goes on with nothing that could contradict what is held.
        if wal.fault().is_none() {
            wal.accepted_holes().for_each(|hole| store.accept(hole));
            let (newest, next_lsn) = wal.starts_behind();
            if store.settle(newest, next_lsn).map_err(refused)? {
                let dir = dir.display();
                tracing::warn!(shard, "cold segments in {dir}: what the log lost of them is gone");
            }
        }
        self.make_room(wal, &mut store, &queues);
        if wal.fault().is_none() {
            self.go_on_behind(wal, &store).map_err(failed)?;
        }
        let cold = Cold {
            link: queues.link.clone(),
            pages: (0..settings.read_buffers)
                .map(|_| ColdPage::new(settings.read_buffer_bytes))
                .collect(),
            ranges: store.ranges().collect(),
        };
        let cells = Arc::new(Cells::new(dir, level));
        let rate = settings.bandwidth_bytes_per_second;
        let worker = Worker {
            worker: ColdWorker::new(store, queues, rate, self.now),
            streams: worker::Streams { keeper: Arc::clone(self.streams), shard },
            watch: worker::Watch { cells: Arc::clone(&cells), shard, served: false },
        };
        Ok(Opened { worker, cells, cold })
    }

    /// The command that sets the files of another log aside.
    fn mends(&self) -> String {
        let (dir, shard) = (self.config.wal.dir.display(), self.number);
        let mut command = format!("mstream wal set-cold-aside {dir} --shard {shard}");
        let cold = self.config.cold_dir(self.number);
        if cold != self.config.wal.shard_dir(self.number).join("cold") {
            command.push_str(&format!(" --cold {}", cold.display()));
        }
        command
    }

    /// A log that lost what it said of a stream goes on behind what is held of it, never below.
    fn go_on_behind(
        &self,
        wal: &mut Wal<AnyRegion>,
        store: &ColdStore<DirDisk>,
    ) -> Result<(), String> {
        let shard = self.number as u32;
        for (stream, held) in store.ranges() {
            if kept(self.streams, shard, stream).is_none() {
                continue;
            }
            let refused = |error| format!("stream {stream}: writing that it goes on: {error}");
            if wal.go_on_behind(stream, held.end).map_err(refused)? {
                let from = held.end;
                tracing::warn!(shard, stream, from, "the log lost what it said of a stream");
            }
        }
        Ok(())
    }

    fn make_room(
        &self,
        wal: &mut Wal<AnyRegion>,
        store: &mut ColdStore<DirDisk>,
        queues: &ColdQueues,
    ) {
        let shard = self.number as u32;
        let keep = |stream| kept(self.streams, shard, stream);
        while wal.is_short_of_segments()
            && let Some(sealed) = wal.next_sealed()
        {
            let (sequence, end) = (sealed.sequence(), sealed.end());
            if let Err(error) = store.copy(sequence, sealed.bytes(), end, &keep) {
                tracing::error!(shard, "copying to cold segments: {error}");
                // The worker goes on trying: its queue is empty, and takes this.
                let _ = queues.sealed.push(sealed);
                return;
            }
            wal.give_back(sealed);
            wal.refill_reserve();
        }
    }
}

/// Why cold segments of level `found` are not enough beside a log of level `log`.
fn too_weak(found: Level, log: Level) -> Option<String> {
    (found < log).then(|| {
        format!(
            "their directory gives level {found}, the log has level {log}: what it recycles would be worth less. Name a \
             directory on such a medium with [cold] dir"
        )
    })
}

/// What is wrong with the directories of cold segments as things are now, as far as that can be told without the logs.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let of = |number: usize| {
        let (dir, log) = (config.cold_dir(number), config.wal.shard_dir(number));
        let there = dir.ancestors().find(|dir| dir.exists())?;
        let finding = |text: String| {
            let text = format!("shard {number}: cold segments in {}: {text}", dir.display());
            let remedy = "another directory in [cold] dir".to_string();
            Some(Finding { check: "cold", text, remedy })
        };
        let found = match cold_level(there, config.wal.trust_host_pmem) {
            Ok(found) => found,
            Err(error) => return finding(error.to_string()),
        };
        let log = log.ancestors().find(|dir| dir.exists())?;
        // Of hugetlbfs, and of ordinary files that are not synced, no more is promised than the process keeps.
        let log = match cold_level(log, config.wal.trust_host_pmem) {
            Ok(Level::MediaSync) if config.wal.sync.is_none() => Level::Process,
            Ok(level) => level,
            Err(_) => Level::Process,
        };
        finding(too_weak(found, log)?)
    };
    (0..config.shards.len()).filter_map(of).collect()
}

/// What stream `id` of shard `shard` wants kept in cold segments.
fn kept(streams: &Keeper, shard: u32, id: u64) -> Option<Keep> {
    streams.read(|state| {
        let stream = state.stream(&StreamKey::Id(id))?;
        (stream.rules.cold && stream.shard == shard).then_some(Keep {
            newest_per_key: stream.rules.newest_per_key,
            retention_bytes: stream.rules.retention_bytes,
            retention_ms: stream.rules.retention_ms,
        })
    })
}
