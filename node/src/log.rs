//! The log of a shard at start: its directory, its recovery, its first segments.

use mstream_controlplane::Config;
use mstream_pmem::format::{SEGMENT_HEADER_AT, SEGMENT_HEADER_BYTES, SegmentHeader};
use mstream_pmem::prepare::{DirConfig, Preparer, boot_id, open_dir};
use mstream_pmem::recovery::RecoveryReport;
use mstream_pmem::region::{Level, Region};
use mstream_pmem::wal::{Wal, WalConfig};
use mstream_pmem::{AnyRegion, Extent, Missing};

use crate::{Failure, log_name};

/// Damages, and missing ranges, that are told one by one.
const TOLD: usize = 20;

/// The log of a shard.
pub(crate) struct Opened {
    pub(crate) wal: Wal<AnyRegion>,
    pub(crate) preparer: Preparer,
    /// Offsets that are missing in it.
    pub(crate) missing: Vec<Missing>,
}

/// Opens the log of shard `number`: maps what is there, recovers it, and makes the segments that are to be
/// ready. Says in words what was found. Blocks for as long as that takes.
pub(crate) fn open(config: &Config, number: usize, time_ns: u64) -> Result<Opened, Failure> {
    let settings = &config.wal;
    let failed = |reason: String| format!("{}: {reason}", log_name(settings, number));
    let (region, mut slots, mut preparer) = open_dir(DirConfig {
        dir: settings.shard_dir(number),
        segment_bytes: settings.segment_bytes,
        segments: settings.segments,
        require: settings.require,
        trust_host_pmem: settings.trust_host_pmem,
        sync: settings.sync,
    })
    .map_err(|error| error.to_string())?;
    // A start takes a segment that holds nothing; one on a log that is not whole takes none.
    let taken = |slot: &u32| region.extent(*slot) == Extent::Whole && in_use(&region, *slot);
    if slots.iter().all(taken) && preparer.has_next() {
        slots.push(preparer.prepare_next().map_err(|error| error.to_string())?);
    }
    let wal_config = WalConfig {
        shard: number as u32,
        new_log_id: random()?,
        new_secret: random()?,
        boot_id: boot_id().map_err(|error| failed(format!("the boot id: {error}")))?,
        tables: config.limits.log_tables(),
        ready_segments: settings.ready_segments,
        time_ns,
    };
    let (mut wal, report) = Wal::open_holding(region, &slots, wal_config, None)
        .map_err(|error| failed(error.to_string()))?;
    wal.use_footers();
    tell(config, number, &wal, &report);
    let why = preparer.why();
    match wal.level() {
        Level::PmemEmulated => {
            tracing::warn!(shard = number, "{}: not pmem: {why}", log_name(settings, number));
        }
        Level::Pmem if !why.is_empty() => {
            let name = log_name(settings, number);
            tracing::warn!(shard = number, "{name}: pmem by [wal] trust_host_pmem, although {why}");
        }
        Level::Process | Level::MediaSync | Level::Pmem => {}
    }
    while wal.slots_wanted() > 0 && preparer.has_next() {
        match preparer.prepare_next() {
            Ok(slot) => wal.add_ready(slot),
            Err(error) => {
                // What is there can be read; the housekeeper goes on trying.
                tracing::error!(shard = number, "{error}");
                break;
            }
        }
    }
    Ok(Opened { wal, preparer, missing: report.missing })
}

/// True if the slot holds a segment.
fn in_use(region: &AnyRegion, slot: u32) -> bool {
    let base = u64::from(slot) * region.slot_bytes();
    let header = |at| SegmentHeader::read(region.bytes(base + at, SEGMENT_HEADER_BYTES));
    SEGMENT_HEADER_AT.into_iter().any(|at| header(at).is_some())
}

/// 16 random bytes: an id or a secret.
pub(crate) fn random() -> Result<[u8; 16], Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes: {error}"))?;
    Ok(bytes)
}

fn tell(config: &Config, number: usize, wal: &Wal<AnyRegion>, report: &RecoveryReport) {
    let name = log_name(&config.wal, number);
    let (level, epoch) = (wal.level(), wal.epoch());
    if report.new_log {
        tracing::info!(shard = number, %level, epoch, "{name}: new");
        return;
    }
    tracing::info!(
        shard = number,
        %level,
        epoch,
        messages = report.messages,
        records = report.records,
        bytes = report.bytes,
        segments = report.segments,
        torn_tails = report.torn_tails,
        "{name}: recovered"
    );
    for damage in report.damages.iter().take(TOLD) {
        tracing::error!(shard = number, condition = "FAULT", "{name}: damaged: {damage}");
    }
    for missing in report.missing.iter().take(TOLD) {
        let Missing { stream, from, to } = missing;
        tracing::warn!(shard = number, stream, from, to, "{name}: offsets are missing");
    }
    if let Some(fault) = wal.fault() {
        tracing::error!(
            shard = number,
            condition = "FAULT",
            places = fault.damages.len(),
            records = fault.records(),
            "{name}: FAULT: read-only; what is sound is served, nothing is written until the damage is mended or \
             accepted (mstream wal accept-loss)"
        );
    }
    if report.possible_loss {
        tracing::warn!(
            shard = number,
            condition = "possible-loss",
            "{name}: possible-loss: the machine was started again since, and level {level} does not \
             outlive that"
        );
    }
}
