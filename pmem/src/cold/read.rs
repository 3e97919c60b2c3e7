//! Reading cold segments into pages.

use super::file::{ColdFile, records};
use super::format::{Chunk, Extent};
use super::page::packed_bytes;
use super::store::ColdStore;
use super::{ColdDisk, ColdError, ColdFrom, ColdPage};
use crate::wal::Record;

/// Less room than this in a page is not worth another chunk.
const WORTH: usize = 1024;

impl ColdFrom {
    /// True if an extent, a chunk or a record that ends like this lies before what is looked for.
    fn is_beyond(self, end: u64, last_time: u64, last_epoch: u32) -> bool {
        match self {
            ColdFrom::Offset(offset) => end <= offset,
            ColdFrom::Time(time) => last_time < time,
            ColdFrom::BehindEpoch(epoch) => last_epoch <= epoch,
        }
    }

    fn is_beyond_record(self, record: &Record<'_>) -> bool {
        let header = record.header;
        self.is_beyond(record.end_offset(), header.time.get(), header.epoch.get())
    }
}

impl<D: ColdDisk> ColdStore<D> {
    /// Fills `page` with records of `stream`, from `from` on, as far as they follow each other without a loss and fit.
    /// False, and the page is empty, when nothing is held there or beyond.
    ///
    /// # Errors
    /// When a file is damaged: offsets that the error names as lost cannot be read, those behind can. Or when the system
    /// refuses something, or the page is too small for one record.
    pub fn read(
        &mut self,
        stream: u64,
        from: ColdFrom,
        page: &mut ColdPage,
    ) -> Result<bool, ColdError> {
        page.begin(stream, 0);
        let read = match from {
            ColdFrom::BehindEpoch(epoch) => self.behind(stream, epoch).map(|behind| {
                page.begin(stream, behind.unwrap_or(0));
                behind.is_some()
            }),
            ColdFrom::Offset(_) | ColdFrom::Time(_) => self.fill(stream, from, page),
        };
        if let Err(error) = &read {
            page.begin(stream, 0);
            self.mark_damaged(error);
        }
        read
    }

    /// Lets a file that was found damaged alone from now on.
    pub(crate) fn mark_damaged(&mut self, error: &ColdError) {
        if let ColdError::Damaged { file, .. } = error {
            let named = self.files.iter_mut().find(|held| held.name == *file);
            if let Some(held) = named {
                held.damaged = true;
            }
        }
    }

    /// Offset behind the last held record of `epoch` or one before it, 0 if there is none; `None` if nothing is held.
    fn behind(&mut self, stream: u64, epoch: u32) -> Result<Option<u64>, ColdError> {
        let state = self.streams.get(&stream).copied().unwrap_or_default();
        if state.bytes == 0 {
            return Ok(None);
        }
        // The chunk that the record is the last of.
        let mut before = None;
        let mut behind = None;
        for (file, extent) in extents_of(&self.files, stream) {
            let chunks = extent.chunks.get();
            if extent.last_epoch.get() <= epoch {
                before = chunks.checked_sub(1).map(|last| (file, extent, last)).or(before);
                continue;
            }
            let is_before = |chunk: &Chunk| chunk.last_epoch <= epoch;
            let number = file.find(&mut self.disk, extent, is_before)?;
            before = number.checked_sub(1).map(|last| (file, extent, last)).or(before);
            if number < chunks {
                let chunk = file.chunk(&mut self.disk, extent, number)?;
                file.load(&mut self.disk, stream, &chunk, &mut self.scratch)?;
                let held = records(&self.scratch).filter_map(|(_, record)| record);
                let last = held.take_while(|record| record.header.epoch.get() <= epoch).last();
                behind = last.map(|record| record.end_offset());
            }
            break;
        }
        if let (None, Some((file, extent, last))) = (behind, before) {
            behind = Some(file.chunk(&mut self.disk, extent, last)?.end);
        }
        Ok(Some(behind.filter(|end| *end > state.floor).unwrap_or(0)))
    }

    fn fill(
        &mut self,
        stream: u64,
        from: ColdFrom,
        page: &mut ColdPage,
    ) -> Result<bool, ColdError> {
        let state = self.streams.get(&stream).copied().unwrap_or_default();
        let floor = state.floor;
        if state.bytes == 0 {
            return Ok(false);
        }
        let mut started = false;
        for (file, extent) in extents_of(&self.files, stream) {
            let (end, time, epoch) =
                (extent.end.get(), extent.last_time.get(), extent.last_epoch.get());
            if end <= floor || (!started && from.is_beyond(end, time, epoch)) {
                continue;
            }
            if started && extent.from.get() != page.end() {
                break;
            }
            let number = match started {
                true => 0,
                false => {
                    let before = |chunk: &Chunk| {
                        chunk.end <= floor
                            || from.is_beyond(chunk.end, chunk.last_time, chunk.last_epoch)
                    };
                    file.find(&mut self.disk, extent, before)?
                }
            };
            for number in number..extent.chunks.get() {
                if started && page.left() < WORTH {
                    return Ok(true);
                }
                let loaded = file
                    .chunk(&mut self.disk, extent, number)
                    .and_then(|chunk| file.load(&mut self.disk, stream, &chunk, &mut self.scratch));
                match loaded {
                    // What the page holds is sound; what it lacks is the next read's error.
                    Err(_) if started => return Ok(true),
                    loaded => loaded?,
                }
                for (_, record) in records(&self.scratch) {
                    let Some(record) = record else { continue };
                    let offset = record.header.offset.get();
                    if !started {
                        if record.end_offset() <= floor || from.is_beyond_record(&record) {
                            continue;
                        }
                        started = true;
                        let speaks = match from {
                            ColdFrom::Offset(asked) => asked.max(extent.from.get()).max(floor),
                            ColdFrom::Time(_) | ColdFrom::BehindEpoch(_) => offset,
                        };
                        page.begin(stream, speaks);
                    }
                    if page.push(record.header, record.block) {
                        continue;
                    }
                    if page.records().next().is_some() {
                        page.speak_to(offset);
                        return Ok(true);
                    }
                    let (record, page) = (packed_bytes(record.block.len()), page.room());
                    return Err(ColdError::PageTooSmall { record, page });
                }
            }
            // An extent may speak for more than its records: offsets behind the last that were compacted away.
            if !started {
                started = true;
                let asked = match from {
                    ColdFrom::Offset(asked) => asked,
                    ColdFrom::Time(_) | ColdFrom::BehindEpoch(_) => extent.end.get(),
                };
                page.begin(stream, asked.max(extent.from.get()).max(floor));
            }
            page.speak_to(extent.end.get());
        }
        Ok(started)
    }
}

/// The extents of a stream and their files, in order.
pub(crate) fn extents_of(
    files: &[ColdFile],
    stream: u64,
) -> impl Iterator<Item = (&ColdFile, &Extent)> {
    files.iter().flat_map(move |file| {
        file.extents[file.of_stream(stream)].iter().map(move |extent| (file, extent))
    })
}
