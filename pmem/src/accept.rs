//! Accepting a loss: holes are recorded in a fresh segment, and the log goes on behind its last sound record
//! (`docs/wal-format.md` section 6.1).

use zerocopy::IntoBytes;

use crate::damage::{Damage, DamageKind};
use crate::format::{ACCEPTED, Kind, SEGMENT_DATA_AT, SEGMENT_HEADER_AT, SEGMENT_HEADER_BYTES};
use crate::holes::{HOLES_PER_RECORD, Hole};
use crate::index::ArenaSize;
use crate::recovery::RecoveryError;
use crate::region::Region;
use crate::slots::Extent;
use crate::survey::{Expected, Survey};
use crate::wal::{AppendError, LogNames, Segment, Wal, WalConfig};

/// Why a loss was not accepted, or not all of it: the log is still a fault then, and it can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The log cannot be read, or has nothing that is sound.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A file is not whole, and the machine was booted since the log was written at level `process`: what is not valid any
    /// more is no damage then.
    #[error(
        "slot {slot}: the file is short or missing, and the machine was booted since the log was written at level process: \
         give it the size of the others (truncate -s); the next start keeps what is valid then"
    )]
    Rebooted {
        /// Slot of the file.
        slot: u32,
    },
    /// There are more places than one segment can record.
    #[error("{0} places are damaged: more than one segment can record")]
    TooMany(usize),
}

/// Records everything that is damaged in a log as lost, in a fresh segment, durably. Returns what that was: nothing, if
/// the log is sound, which is not changed then; and the region. The caller holds the log's lock. Files that are short or
/// missing are left to [`crate::prepare::Preparer::restore`], which is to come then: until that is done the log is a fault.
///
/// # Errors
/// Why not; what was accepted by then stays so, and the rest is still a fault.
pub fn accept_loss<R: Region>(
    region: R,
    slots: &[u32],
    config: WalConfig,
) -> Result<(Vec<Damage>, R), AcceptError> {
    let expected = Expected {
        shard: Some(config.shard),
        level: Some(region.level()),
        boot_id: config.boot_id,
        thorough: true,
    };
    let survey = Survey::take(&region, slots, expected, &mut |_| {})?;
    let Some(first) = survey.damages.first() else { return Ok((Vec::new(), region)) };
    let (Some(newest), Some(names)) = (survey.found.last(), survey.names) else {
        return Err(first.clone().into_error().into());
    };
    if survey.possible_loss {
        return Err(AcceptError::Rebooted { slot: first.slot });
    }
    let whole = |slot: &&u32| region.extent(**slot) == Extent::Whole;
    let whole: Vec<u32> = slots.iter().filter(whole).copied().collect();
    let mut wal = bare(region, slots, config, names);
    let tail = survey.found.iter().rfind(|found| !found.void).unwrap_or(newest).scan.tail;
    let time = survey.found.iter().map(|found| found.scan.tail.time).max();
    wal.resume(tail.lsn, tail.chain, time.unwrap_or(0).max(config.time_ns));
    let epochs =
        survey.found.iter().map(|found| found.scan.tail.epoch.max(found.header.base_epoch.get()));
    wal.epoch = 1 + epochs.max().unwrap_or(0);
    wal.ready.extend(&survey.blank);
    if wal.ready.is_empty() {
        return Err(RecoveryError::NoFreeSegment { slots: slots.len() as u32 }.into());
    }
    let newest_sequence = newest.header.sequence.get();
    // A segment behind the newest that lost its header keeps its number, so that its records stay another's.
    let skipped = survey
        .damages
        .iter()
        .any(|damage| damage.kind == DamageKind::Header && damage.sequence == newest_sequence + 1);
    let sequence = newest_sequence + u64::from(skipped);
    wal.segments.push_back(Segment {
        slot: newest.slot,
        sequence,
        generation: newest.header.generation(),
        end: 0,
        first_lsn: wal.lsn,
        next_lsn: wal.lsn,
        lent: false,
        holdings: 0,
        is_noted: false,
    });
    let mut holes: Vec<Hole> = survey.damages.iter().filter_map(hole).collect();
    if skipped {
        let joint = (sequence + 1, 0, SEGMENT_DATA_AT, tail.lsn, tail.lsn);
        holes.push(hole_of(joint));
    }
    wal.settle(&whole).and_then(|()| wal.begin_epoch(ACCEPTED)).map_err(RecoveryError::Sync)?;
    wal.append_holes(&holes)?;
    wal.wipe_headers(&survey.headless).map_err(RecoveryError::Sync)?;
    Ok((survey.damages, wal.into_region()))
}

/// A log that only its own segment is written to.
fn bare<R: Region>(region: R, slots: &[u32], config: WalConfig, names: LogNames) -> Wal<R> {
    let mut wal = Wal::with_index(region, config, names, ArenaSize::new(1, 1, 1));
    wal.slots_made = slots.len() as u32;
    wal
}

fn hole_of((segment, from, to, lsn, next_lsn): (u64, u64, u64, u64, u64)) -> Hole {
    Hole {
        segment: segment.into(),
        from: from.into(),
        to: to.into(),
        lsn: lsn.into(),
        next_lsn: next_lsn.into(),
    }
}

/// What is recorded of a damage; of a lost header or file nothing but the gaps and joints that they leave.
fn hole(damage: &Damage) -> Option<Hole> {
    let Damage { sequence, lsn, next_lsn, .. } = *damage;
    match damage.kind {
        DamageKind::Records => Some(hole_of((sequence, damage.at, damage.to, lsn, next_lsn))),
        DamageKind::Joint { .. } => Some(hole_of((sequence, 0, SEGMENT_DATA_AT, lsn, next_lsn))),
        DamageKind::Header | DamageKind::File => None,
    }
}

impl<R: Region> Wal<R> {
    /// Appends hole records to the segment that was opened for them and makes all of it durable.
    fn append_holes(&mut self, holes: &[Hole]) -> Result<(), AcceptError> {
        // All in this segment, of this version.
        self.ready.clear();
        for some in holes.chunks(HOLES_PER_RECORD) {
            let block = some.as_bytes();
            loop {
                let fields = self.plain(Kind::Hole, true, block);
                match self.append(fields, block) {
                    Ok(_) => break,
                    Err(AppendError::Window) => self.barrier(),
                    Err(_) => return Err(AcceptError::TooMany(holes.len())),
                }
                self.persisted();
            }
        }
        self.barrier();
        let Some(own) = self.segments.back().copied() else { return Ok(()) };
        let (at, bytes) = (self.base(own.slot), self.region.slot_bytes());
        self.region.sync(at, bytes as usize).map_err(RecoveryError::Sync)?;
        Ok(())
    }

    /// Zeroes what is left of headers whose segments were accepted as lost.
    fn wipe_headers(&mut self, slots: &[u32]) -> std::io::Result<()> {
        for slot in slots {
            let at = self.base(*slot);
            for copy in SEGMENT_HEADER_AT {
                self.region.store(at + copy, &[0; SEGMENT_HEADER_BYTES]);
                self.region.flush(at + copy, SEGMENT_HEADER_BYTES);
            }
            self.region.barrier();
            self.region.sync(at, SEGMENT_DATA_AT as usize)?;
        }
        Ok(())
    }
}
