//! A log of its own in a directory, and one stream in it.

use std::path::Path;

use mstream_pmem::prepare::{DirConfig, boot_id, open_dir};
use mstream_pmem::recovery::RecoveryReport;
use mstream_pmem::region::Region;
use mstream_pmem::wal::{AppendData, PublicationSlot, StreamSlot, TableLimits, Wal, WalConfig};
use mstream_pmem::{AnyRegion, MappedRegion};

use crate::Failure;

/// How large a log is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) segment_bytes: u64,
    pub(super) segments: u32,
}

/// A log and where its records go.
pub(super) struct Rig {
    pub(super) wal: Wal<MappedRegion>,
    pub(super) stream: StreamSlot,
    pub(super) publication: PublicationSlot,
}

/// Maps the directory's files and makes those that are missing.
pub(super) fn region(dir: &Path, shape: Shape) -> Result<(MappedRegion, Vec<u32>), Failure> {
    let config = DirConfig {
        dir: dir.to_path_buf(),
        segment_bytes: shape.segment_bytes,
        segments: shape.segments,
        require: None,
        trust_host_pmem: false,
        // The log alone is measured, not a disk.
        sync: None,
    };
    let (region, mut slots, mut preparer) = open_dir(config).map_err(|error| error.to_string())?;
    while preparer.has_next() {
        slots.push(preparer.prepare_next().map_err(|error| error.to_string())?);
    }
    match region {
        AnyRegion::Mapped(region) => Ok((region, slots)),
        AnyRegion::Staged(_) => Err(format!("{}: is not mapped", dir.display())),
    }
}

/// Opens the log in `region`.
pub(super) fn open(
    region: MappedRegion,
    slots: &[u32],
) -> Result<(Wal<MappedRegion>, RecoveryReport), Failure> {
    Wal::open(region, slots, config()?).map_err(|error| error.to_string())
}

/// What a log is opened with.
pub(super) fn config() -> Result<WalConfig, Failure> {
    Ok(WalConfig {
        shard: 0,
        new_log_id: [1; 16],
        new_secret: [0x5e; 16],
        boot_id: boot_id().map_err(|error| format!("the boot id: {error}"))?,
        tables: TableLimits { streams: 4, publications: 4, publishers: 4 },
        ready_segments: 2,
        time_ns: 0,
    })
}

/// Opens streams 1 to `streams`, and an anonymous publication.
pub(super) fn open_streams<R: Region>(
    wal: &mut Wal<R>,
    streams: u64,
) -> Result<(Vec<StreamSlot>, PublicationSlot), Failure> {
    let slots: Result<Vec<_>, _> = (1..=streams).map(|id| wal.open_stream(id)).collect();
    let slots = slots.map_err(|full| full.to_string())?;
    let publication = wal.open_publication(1 << 63 | 1, slots[0]);
    Ok((slots, publication.map_err(|full| full.to_string())?))
}

impl Rig {
    /// A new log in `dir`.
    pub(super) fn new(dir: &Path, shape: Shape) -> Result<Rig, Failure> {
        let (region, slots) = region(dir, shape)?;
        let (mut wal, _) = open(region, &slots)?;
        let stream = wal.open_stream(1).map_err(|full| full.to_string())?;
        let publication = wal.open_publication(1, stream).map_err(|full| full.to_string())?;
        Ok(Rig { wal, stream, publication })
    }

    /// A batch of `count` messages for the log's one stream.
    pub(super) fn batch<'a>(&self, block: &'a [u8], block_crc: u32, count: u16) -> AppendData<'a> {
        AppendData {
            stream: self.stream,
            publication: self.publication,
            incarnation: 1,
            count,
            block_crc,
            time_ns: 0,
            block,
        }
    }
}
