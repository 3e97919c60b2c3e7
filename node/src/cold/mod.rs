//! Cold segments of the node's shards: opened at start, then copied to, merged and read by a thread beside each shard.

mod status;
mod worker;

use std::sync::Arc;

use mstream_controlplane::Config;
use mstream_controlplane::catalogue::{Keeper, StreamKey};
use mstream_pmem::AnyRegion;
use mstream_pmem::cold::{ColdDisk, ColdError, ColdStore, DirDisk, Keep, cold_level};
use mstream_pmem::region::Level;
use mstream_pmem::wal::Wal;

pub(crate) use status::Cells;
pub(crate) use worker::{Queues, Worker};

use crate::Failure;
use crate::placement::Finding;

/// Opens the cold segments of shard `number`, whose log is `wal`: what they hold beyond a log that lost its end goes.
pub(crate) fn open(
    config: &Config,
    number: usize,
    wal: &Wal<AnyRegion>,
) -> Result<ColdStore<DirDisk>, Failure> {
    let dir = config.cold_dir(number);
    let failed = |reason: String| format!("cold segments in {}: {reason}", dir.display());
    let disk = DirDisk::open(&dir, config.wal.trust_host_pmem)
        .map_err(|error| failed(error.to_string()))?;
    too_weak(disk.level(), wal.level()).map_or(Ok(()), |reason| Err(failed(reason)))?;
    let shard = number as u32;
    let refused = |error: ColdError| match error {
        ColdError::OtherLog { .. } => failed(format!(
            "{error}; move them away, or name another directory with [cold] dir"
        )),
        _ => failed(error.to_string()),
    };
    let mut store = ColdStore::open(disk, wal.log_id(), shard).map_err(refused)?;
    if wal.fault().is_some() {
        // Nothing goes on: nothing can contradict what is held.
        return Ok(store);
    }
    for hole in wal.accepted_holes() {
        store.accept(*hole);
    }
    if store.settle(wal.newest_sequence(), wal.first_lsn_of_start()).map_err(refused)? {
        tracing::warn!(
            shard = number,
            "cold segments in {}: what they held of a part of the log that was lost is given up",
            dir.display()
        );
    }
    Ok(store)
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

/// Copies sealed segments of a log that has too few free ones to start with, so that these can be recycled.
pub(crate) fn make_room(
    number: usize,
    wal: &mut Wal<AnyRegion>,
    store: &mut ColdStore<DirDisk>,
    streams: &Keeper,
) {
    while wal.needs_room() {
        let Some(sealed) = wal.next_sealed() else { return };
        let copied = store.copy(sealed.sequence(), sealed.bytes(), sealed.end(), &|stream| {
            kept(streams, number as u32, stream)
        });
        match copied {
            Ok(()) => wal.give_back(sealed),
            Err(error) => {
                // The worker goes on trying.
                tracing::error!(shard = number, "copying to cold segments: {error}");
                wal.keep_for_later(sealed);
                return;
            }
        }
        wal.refill_reserve();
    }
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
