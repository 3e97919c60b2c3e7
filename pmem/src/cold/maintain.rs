//! Retention, removal, merging, and the start behind a loss.

use std::collections::BTreeSet;

use super::error::failed;
use super::file::ColdFile;
use super::format::{Chunk, Extent, HEADER_BYTES};
use super::merge::Merge;
use super::policy::{Candidate, choose};
use super::read::extents_of;
use super::store::{ColdStore, StreamState};
use super::writer::{Writer, not_synced};
use super::{ColdDisk, ColdError, Done, Keep};
use crate::planted::{Bug, planted};
use crate::region::Level;

/// Streams that one step looks at.
const STREAMS_PER_STEP: usize = 4096;

impl<D: ColdDisk> ColdStore<D> {
    /// A bounded step: gives up what streams want kept no longer, removes files of which nothing is left, and goes on with
    /// a merge until about `budget_bytes` were read and written. `keep` as for [`ColdStore::copy`]; what it says `None`
    /// of is given up. `now_ns`: ns since 1970. To be called again at once while more is due, else once in a while.
    ///
    /// # Errors
    /// When the system refuses something, or a file is damaged, which is let alone from then on. What had been done is
    /// not undone, but a merge begins anew. Trying again helps where [`ColdError::is_full`].
    pub fn maintain(
        &mut self,
        now_ns: u64,
        keep: &dyn Fn(u64) -> Option<Keep>,
        budget_bytes: u64,
    ) -> Result<Done, ColdError> {
        self.check_writable()?;
        let step = self.maintain_step(now_ns, keep, budget_bytes);
        step.inspect_err(|error| {
            self.mark_damaged(error);
            self.poison_by(error);
            if let Some(merge) = self.merge.take() {
                self.abandon(&merge.writer.new_name(), error);
            }
        })
    }

    fn maintain_step(
        &mut self,
        now_ns: u64,
        keep: &dyn Fn(u64) -> Option<Keep>,
        budget_bytes: u64,
    ) -> Result<Done, ColdError> {
        let passed = self.retain_streams(now_ns, keep)?;
        self.remove_dead()?;
        let mut done = Done { bytes: 0, more: !passed };
        if self.merge.is_none()
            && let Some(range) = choose(&self.candidates())
        {
            self.begin_merge(range.start, range.len())?;
        }
        while self.merge.is_some() && done.bytes < budget_bytes {
            match self.step(keep)? {
                Some(bytes) => done.bytes += bytes,
                None => done.bytes += self.finish_merge()?,
            }
        }
        done.more |= self.merge.is_some() || choose(&self.candidates()).is_some();
        Ok(done)
    }

    /// A deleted stream: nothing of it is served from now on, and its bytes come back as files are written again. What it
    /// had may be listed again after a start, until [`ColdStore::maintain`] learns that nothing is kept of it.
    pub fn forget(&mut self, stream: u64) {
        let Some(state) = self.streams.get(&stream).copied() else { return };
        for file in &mut self.files {
            for extent in &file.extents[file.of_stream(stream)] {
                file.dead += extent.bytes.get() - state.dead(extent);
            }
        }
        self.set(stream, StreamState { floor: u64::MAX, end: state.end, ..StreamState::default() });
    }

    /// To be called at each start, before anything is copied. The hot log's newest segment was `newest` (0: none) and it
    /// goes on with `next_lsn`: records from there on belong to a future that it lost (`docs/cold-format.md` section 3).
    /// True if there were any; they are gone.
    ///
    /// # Errors
    /// As [`ColdStore::maintain`]; the store must not be used then.
    pub fn settle(&mut self, newest: u64, next_lsn: u64) -> Result<bool, ColdError> {
        let beyond = |file: &ColdFile| file.range.1 > newest || file.last_lsn >= next_lsn;
        if planted(Bug::ColdNotSettled) {
            return Ok(false);
        }
        let mut settled = false;
        while let Some(number) = self.files.iter().position(&beyond) {
            settled = true;
            let old = self.files[number].clone();
            let range = (old.range.0, old.range.1.min(newest));
            let level = old.level.min(self.disk.level());
            let replacement = match range.0 <= range.1 {
                false => None,
                true => self.rewrite(number, range, level, next_lsn)?,
            };
            if replacement.as_ref().is_none_or(|file| file.name != old.name) {
                self.disk.remove(&old.name).map_err(failed(&old.name, "removing it"))?;
                self.disk.sync_directory().map_err(not_synced("."))?;
            }
            self.files.splice(number..=number, replacement);
        }
        self.copied = self.copied.min(newest);
        if settled {
            self.count_streams()?;
        }
        Ok(settled)
    }

    /// Writes a file again without the records from `next_lsn` on.
    fn rewrite(
        &mut self,
        number: usize,
        range: (u64, u64),
        level: Level,
        next_lsn: u64,
    ) -> Result<Option<ColdFile>, ColdError> {
        let writer = Writer::create(&mut self.disk, self.log_id, self.shard, range, level)?;
        let new = writer.new_name();
        let first = self.files[number].range;
        self.merge = Some(Merge::new(first, 1, writer, next_lsn));
        while self.step(&|_| Some(Keep::default()))?.is_some() {}
        match self.merge.take() {
            Some(merge) if !merge.writer.is_empty() => {
                merge.writer.finish(&mut self.disk).map(Some)
            }
            _ => {
                self.disk.remove(&new).map_err(failed(&new, "removing it"))?;
                Ok(None)
            }
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |file: &ColdFile| Candidate {
            bytes: file.bytes,
            dead: file.dead,
            damaged: file.damaged,
        };
        self.files.iter().map(candidate).collect()
    }

    fn begin_merge(&mut self, start: usize, count: usize) -> Result<(), ColdError> {
        let inputs = &self.files[start..start + count];
        let first = inputs[0].range;
        let range = (first.0, inputs[count - 1].range.1);
        let lowest = inputs.iter().map(|file| file.level).min();
        let own = self.disk.level();
        let level = lowest.unwrap_or(own).min(own);
        let writer = Writer::create(&mut self.disk, self.log_id, self.shard, range, level)?;
        self.merge = Some(Merge::new(first, count, writer, u64::MAX));
        Ok(())
    }

    /// Where the inputs of the merge stand among the files.
    fn inputs(&self) -> std::ops::Range<usize> {
        let Some(merge) = &self.merge else { return 0..0 };
        let start = self.files.partition_point(|file| file.range.0 < merge.first.0);
        start..start + merge.count
    }

    fn step(&mut self, keep: &dyn Fn(u64) -> Option<Keep>) -> Result<Option<u64>, ColdError> {
        let inputs = self.inputs();
        let Some(merge) = &mut self.merge else { return Ok(None) };
        let streams = &self.streams;
        let plan = |stream: u64| {
            let floor = streams.get(&stream).map_or(0, |state| state.floor);
            keep(stream).filter(|_| floor < u64::MAX).map(|keep| (keep, floor))
        };
        merge.step(&mut self.disk, &self.files[inputs], &plan, &mut self.scratch)
    }

    /// Puts the output in the place of the inputs; the bytes that this took.
    fn finish_merge(&mut self) -> Result<u64, ColdError> {
        let inputs = self.inputs();
        let Some(merge) = self.merge.take() else { return Ok(0) };
        let before = merge.writer.bytes();
        let new = merge.writer.new_name();
        let output = match merge.writer.is_empty() {
            true => {
                self.disk.remove(&new).map_err(failed(&new, "removing it"))?;
                None
            }
            false => {
                let finished = merge.writer.finish(&mut self.disk);
                Some(finished.inspect_err(|error| self.abandon(&new, error))?)
            }
        };
        let bytes = output.as_ref().map_or(0, |file| file.bytes - before);
        let kept = output.as_ref().map(|file| file.name.clone());
        let place = inputs.start;
        let replaced: Vec<ColdFile> = self.files.splice(inputs, output).collect();
        let streams: BTreeSet<u64> = replaced
            .iter()
            .flat_map(|file| file.extents.iter().map(|extent| extent.stream.get()))
            .collect();
        for stream in streams {
            let floor = self.streams.get(&stream).map_or(0, |state| state.floor);
            let state = self.state_above(stream, floor);
            self.set(stream, state);
            self.let_go(stream);
        }
        if kept.is_some() {
            let file = &mut self.files[place];
            let of = |extent: &Extent| {
                self.streams.get(&extent.stream.get()).map_or(0, |state| state.dead(extent))
            };
            file.dead = file.extents.iter().map(of).sum();
        }
        for file in replaced.iter().filter(|file| Some(&file.name) != kept.as_ref()) {
            self.disk.remove(&file.name).map_err(failed(&file.name, "removing it"))?;
        }
        self.disk.sync_directory().map_err(not_synced("."))?;
        Ok(bytes)
    }

    /// Removes files of which nothing is left, but the inputs of a merge.
    fn remove_dead(&mut self) -> Result<(), ColdError> {
        let inputs = self.inputs();
        let is_dead = |number: usize, file: &ColdFile| {
            !inputs.contains(&number) && file.dead == file.table_at - HEADER_BYTES as u64
        };
        let dead: Vec<ColdFile> = (self.files.iter().enumerate())
            .filter(|(number, file)| is_dead(*number, file))
            .map(|(_, file)| file.clone())
            .collect();
        for gone in &dead {
            let name = &gone.name;
            self.disk.remove(name).map_err(failed(name, "removing it"))?;
            self.files.retain(|file| file.name != *name);
            gone.extents.iter().for_each(|extent| self.let_go(extent.stream.get()));
        }
        if !dead.is_empty() {
            self.disk.sync_directory().map_err(not_synced("."))?;
        }
        Ok(())
    }

    /// Looks at the next streams; true when all were looked at.
    fn retain_streams(
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
        let after = self.state_above(stream, floor);
        for file in &mut self.files {
            for extent in &file.extents[file.of_stream(stream)] {
                let (after, before) = (after.dead(extent), before.dead(extent));
                file.dead = (file.dead + after).saturating_sub(before);
            }
        }
        self.set(stream, after);
    }

    /// What is held of a stream from `floor` on.
    fn state_above(&mut self, stream: u64, floor: u64) -> StreamState {
        let end = self.streams.get(&stream).map_or(0, |state| state.end);
        let mut state = StreamState { floor, end, earliest: end, ..StreamState::default() };
        for (file, extent) in extents_of(&self.files, stream) {
            if extent.end.get() <= floor {
                continue;
            }
            if extent.from.get() < floor {
                // What cannot be read counts as held: a reader is told of it.
                state.partial = bytes_below(&mut self.disk, file, extent, floor).unwrap_or(0);
            }
            if state.bytes == 0 {
                state.earliest = extent.from.get().max(floor);
                state.oldest = extent.first_time.get();
            }
            state.bytes += extent.bytes.get() - state.dead(extent);
        }
        state
    }

    /// Forgets that a stream was deleted when no file has anything of it.
    fn let_go(&mut self, stream: u64) {
        let deleted = self.streams.get(&stream).is_some_and(|state| state.floor == u64::MAX);
        if deleted && extents_of(&self.files, stream).next().is_none() {
            self.streams.remove(&stream);
        }
    }
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
