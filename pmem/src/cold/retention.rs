//! What streams keep no longer: by their bytes, and by age.

use super::file::ColdFile;
use super::format::{Chunk, Extent};
use super::read::extents_of;
use super::store::{ColdStore, StreamState};
use super::{ColdDisk, ColdError, Keep};

/// Streams that one step looks at.
const STREAMS_PER_STEP: usize = 4096;

impl<D: ColdDisk> ColdStore<D> {
    /// Looks at the next streams; true when all were looked at.
    pub(crate) fn retain_streams(
        &mut self,
        now_ns: u64,
        keep: &dyn Fn(u64) -> Option<Keep>,
    ) -> Result<bool, ColdError> {
        let next: Vec<u64> = self
            .streams
            .range(self.cursor..)
            .filter(|(_, state)| state.bytes > 0)
            .take(STREAMS_PER_STEP)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in &next {
            match keep(*stream) {
                None => self.forget(*stream),
                Some(keep) => match self.retain(*stream, &keep, now_ns) {
                    // The others' retention does not wait for a file that somebody must mend.
                    Err(error @ ColdError::Damaged { .. }) => self.mark_damaged(&error),
                    outcome => outcome?,
                },
            }
        }
        let all = next.len() < STREAMS_PER_STEP;
        self.cursor = next.last().filter(|_| !all).map_or(0, |last| last + 1);
        Ok(all)
    }

    /// Gives up what a stream's retention does not keep.
    fn retain(&mut self, stream: u64, keep: &Keep, now_ns: u64) -> Result<(), ColdError> {
        let Some(state) = self.streams.get(&stream).copied() else { return Ok(()) };
        let mut floor = state.floor;
        if keep.retention_bytes > 0 && state.bytes > keep.retention_bytes {
            floor = floor.max(self.floor_by_bytes(stream, &state, keep.retention_bytes)?);
        }
        let age = keep.retention_ms.saturating_mul(1_000_000);
        let cutoff = now_ns.saturating_sub(age);
        let mut oldest = state.oldest;
        if keep.retention_ms > 0 && state.oldest < cutoff {
            let by_age;
            (by_age, oldest) = self.floor_by_age(stream, &state, cutoff)?;
            floor = floor.max(by_age);
        }
        if floor > state.floor {
            self.give_up(stream, floor);
        }
        if let Some(state) = self.streams.get_mut(&stream) {
            state.oldest = state.oldest.max(oldest);
        }
        Ok(())
    }

    /// The floor with which a stream keeps at least `limit` bytes, and less than a chunk more.
    fn floor_by_bytes(
        &mut self,
        stream: u64,
        state: &StreamState,
        limit: u64,
    ) -> Result<u64, ColdError> {
        let mut excess = state.bytes.saturating_sub(limit);
        for (file, extent) in extents_of(&self.files, stream) {
            let dead = state.dead(extent);
            let live = extent.bytes.get() - dead;
            if live <= excess {
                excess -= live;
                continue;
            }
            let base = file.chunk(&mut self.disk, extent, 0)?.place + dead;
            let goes = |chunk: &Chunk| chunk.place + u64::from(chunk.bytes) <= base + excess;
            return match file.find(&mut self.disk, extent, goes)? {
                0 => Ok(extent.from.get()),
                number => Ok(file.chunk(&mut self.disk, extent, number)?.first),
            };
        }
        Ok(state.floor)
    }

    /// The floor below which all records are older than `cutoff`, and a time that no chunk is older than.
    fn floor_by_age(
        &mut self,
        stream: u64,
        state: &StreamState,
        cutoff: u64,
    ) -> Result<(u64, u64), ColdError> {
        for (file, extent) in extents_of(&self.files, stream) {
            if extent.end.get() <= state.floor || extent.last_time.get() < cutoff {
                continue;
            }
            let goes = |chunk: &Chunk| chunk.end <= state.floor || chunk.last_time < cutoff;
            let number = file.find(&mut self.disk, extent, goes)?;
            let chunk = file.chunk(&mut self.disk, extent, number)?;
            let floor = if number == 0 { extent.from.get() } else { chunk.first };
            return Ok((floor, chunk.last_time));
        }
        Ok((state.end, u64::MAX))
    }

    /// Raises a stream's floor.
    fn give_up(&mut self, stream: u64, floor: u64) {
        let before = self.streams.get(&stream).copied().unwrap_or_default();
        let raised = StreamState { floor, ..before };
        let after = state_above(&mut self.disk, &self.files, stream, &raised);
        for file in &mut self.files {
            for extent in &file.extents[file.of_stream(stream)] {
                let (after, before) = (after.dead(extent), before.dead(extent));
                file.dead = (file.dead + after).saturating_sub(before);
            }
        }
        self.set(stream, after);
    }
}

/// What is held of a stream from its floor on.
pub(crate) fn state_above(
    disk: &mut impl ColdDisk,
    files: &[ColdFile],
    stream: u64,
    before: &StreamState,
) -> StreamState {
    let (floor, end) = (before.floor, before.end);
    let mut state = StreamState { floor, end, earliest: end, ..StreamState::default() };
    for (file, extent) in extents_of(files, stream) {
        if extent.end.get() <= floor {
            continue;
        }
        if extent.from.get() < floor {
            // What cannot be read counts as held: a reader is told of it.
            state.partial = bytes_below(disk, file, extent, floor).unwrap_or(0);
        }
        if state.bytes == 0 {
            state.earliest = extent.from.get().max(floor);
            state.oldest = extent.first_time.get();
        }
        state.bytes += extent.bytes.get() - state.dead(extent);
    }
    state
}

/// Bytes of an extent's chunks that lie below `floor`.
fn bytes_below(
    disk: &mut impl ColdDisk,
    file: &ColdFile,
    extent: &Extent,
    floor: u64,
) -> Result<u64, ColdError> {
    let number = file.find(disk, extent, |chunk| chunk.end <= floor)?;
    if number == extent.chunks.get() {
        return Ok(extent.bytes.get());
    }
    let start = file.chunk(disk, extent, 0)?.place;
    Ok(file.chunk(disk, extent, number)?.place.saturating_sub(start).min(extent.bytes.get()))
}
