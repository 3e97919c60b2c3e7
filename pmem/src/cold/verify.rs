//! A cold segment read whole.

use super::disk::ColdDisk;
use super::error::ColdError;
use super::file::{ColdFile, records};
use super::format::{ENTRY_BYTES, EXTENT_BYTES, Extent};
use super::page::packed_bytes;
use crate::format::{RECORD_HEADER_BYTES, crc32c};

/// A place of a cold segment that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdDamage {
    /// Byte in the file where it begins.
    pub at: u64,
    /// What is wrong there.
    pub what: String,
    /// The stream whose records cannot be read because of it, and their offsets: the first, and the one behind the last.
    pub lost: Option<(u64, u64, u64)>,
}

impl ColdDamage {
    /// What an error says of a file of which nothing is known yet.
    pub(crate) fn of(error: &ColdError) -> ColdDamage {
        match error {
            ColdError::Damaged { at, what, .. } => {
                ColdDamage { at: *at, what: (*what).to_string(), lost: None }
            }
            ColdError::Io { action, source, .. } => {
                ColdDamage { at: 0, what: format!("{action}: {source}"), lost: None }
            }
            other => ColdDamage { at: 0, what: other.to_string(), lost: None },
        }
    }
}

impl ColdFile {
    /// Reads every chunk of the file and checks all that there is to check; what is damaged.
    pub(crate) fn verify(&self, disk: &mut impl ColdDisk) -> Vec<ColdDamage> {
        let mut damages = Vec::new();
        let mut bytes = Vec::new();
        for (number, extent) in self.extents.iter().enumerate() {
            let before = damages.len();
            let counted = self.verify_extent(disk, extent, &mut bytes, &mut damages);
            let sound = damages.len() == before;
            if sound && counted != Counted::expected(extent) {
                let at = self.extents_at() + (number * EXTENT_BYTES) as u64;
                let what = "the extent does not say what its chunks hold".to_string();
                damages.push(ColdDamage { at, what, lost: None });
            }
        }
        damages
    }

    /// Where the extents begin.
    fn extents_at(&self) -> u64 {
        let chunks: u64 = self.extents.iter().map(|extent| u64::from(extent.chunks.get())).sum();
        self.table_at + chunks * ENTRY_BYTES as u64
    }

    fn verify_extent(
        &self,
        disk: &mut impl ColdDisk,
        extent: &Extent,
        bytes: &mut Vec<u8>,
        damages: &mut Vec<ColdDamage>,
    ) -> Counted {
        let stream = extent.stream.get();
        let mut counted = Counted::default();
        for number in 0..extent.chunks.get() {
            bytes.clear();
            let loaded = self.chunk(disk, extent, number).and_then(|chunk| {
                self.load(disk, stream, &chunk, bytes)?;
                Ok(chunk)
            });
            match loaded {
                Ok(chunk) => match misfit(bytes) {
                    None => counted.take(bytes),
                    // A crc over what was damaged before it was written.
                    Some(at) => damages.push(ColdDamage {
                        at: chunk.place + at as u64,
                        what: "the record's block does not fit its crc".to_string(),
                        lost: Some((stream, chunk.first, chunk.end)),
                    }),
                },
                Err(ColdError::Damaged { at, what, lost, .. }) => {
                    let chunk = self.chunk(disk, extent, number);
                    let inside = chunk.is_ok_and(|chunk| chunk.place == at);
                    // The chunk is what `load` read, as far as it could be.
                    let place = if inside { misfit(bytes).unwrap_or(0) } else { 0 };
                    damages.push(ColdDamage {
                        at: at + place as u64,
                        what: what.to_string(),
                        lost: lost.map(|(from, to)| (stream, from, to)),
                    });
                }
                Err(error) => damages.push(ColdDamage::of(&error)),
            }
        }
        counted
    }
}

/// The first byte of a chunk that cannot be what was written: a record's, where its header does not fit, a block's, or
/// of what fills a record up. `None` if all records fit.
fn misfit(bytes: &[u8]) -> Option<usize> {
    records(bytes).find_map(|(at, record)| {
        let Some(record) = record else { return Some(at) };
        let block = at + RECORD_HEADER_BYTES;
        if crc32c(record.block) != record.header.block_crc.get() {
            return Some(block);
        }
        let fill = block + record.block.len()..at + packed_bytes(record.block.len());
        bytes[fill.clone()].iter().any(|byte| *byte != 0).then_some(fill.start)
    })
}

/// What the chunks of an extent hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    records: u32,
    bytes: u64,
    first: Option<(u64, u64, u32)>,
    last: Option<(u64, u32)>,
}

impl Counted {
    fn expected(extent: &Extent) -> Counted {
        let first = (extent.first.get(), extent.first_time.get(), extent.first_epoch.get());
        Counted {
            records: extent.records.get(),
            bytes: extent.bytes.get(),
            first: Some(first),
            last: Some((extent.last_time.get(), extent.last_epoch.get())),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for (_, record) in records(bytes) {
            let Some(record) = record else { continue };
            let header = record.header;
            let (time, epoch) = (header.time.get(), header.epoch.get());
            self.records = self.records.saturating_add(1);
            self.first.get_or_insert((header.offset.get(), time, epoch));
            self.last = Some((time, epoch));
        }
    }
}
