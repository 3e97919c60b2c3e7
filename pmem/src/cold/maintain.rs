//! Steps of merging, removal, and the start behind a loss.

use super::error::failed;
use super::file::ColdFile;
use super::format::{Extent, HEADER_BYTES};
use super::merge::Merge;
use super::policy::{Candidate, choose};
use super::read::extents_of;
use super::retention::state_above;
use super::store::{ColdStore, StreamState};
use super::writer::{Writer, not_synced};
use super::{ColdDisk, ColdError, Done, Keep};
use crate::planted::{Bug, planted};
use crate::region::Level;

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
        self.count_merged(&replaced, kept.is_some().then_some(place));
        for file in replaced.iter().filter(|file| Some(&file.name) != kept.as_ref()) {
            self.disk.remove(&file.name).map_err(failed(&file.name, "removing it"))?;
        }
        self.disk.sync_directory().map_err(not_synced("."))?;
        Ok(bytes)
    }

    /// Takes what changed for the streams of files that were replaced, by the file with number `output` if there is one.
    fn count_merged(&mut self, replaced: &[ColdFile], output: Option<usize>) {
        let of = |file: &ColdFile| file.extents.iter().map(|extent| extent.stream.get()).collect();
        let mut streams: Vec<u64> =
            replaced.iter().flat_map(|file| -> Vec<u64> { of(file) }).collect();
        streams.sort_unstable();
        streams.dedup();
        let mut places = vec![0; replaced.len()];
        let (mut place, mut dead) = (0, 0);
        for stream in streams {
            let before = self.streams.get(&stream).copied().unwrap_or_default();
            let gone: Vec<Extent> = (replaced.iter().zip(&mut places))
                .flat_map(|(file, place)| take_of(stream, &file.extents, place))
                .copied()
                .collect();
            let extents = output.map_or(&[][..], |number| &self.files[number].extents);
            let new = take_of(stream, extents, &mut place);
            let after = match (gone.first(), new.first()) {
                // Nothing was given up: what the other files hold need not be looked at.
                (Some(old_first), Some(first)) if before.floor == 0 => {
                    let is_first = old_first.from.get() == before.earliest;
                    let earliest = if is_first { first.from.get() } else { before.earliest };
                    let bytes = before.bytes + bytes_of(new) - bytes_of(&gone);
                    StreamState { earliest, bytes, ..before }
                }
                _ => state_above(&mut self.disk, &self.files, stream, &before),
            };
            dead += new.iter().map(|extent| after.dead(extent)).sum::<u64>();
            self.set(stream, after);
            self.let_go(stream);
        }
        if let Some(number) = output {
            self.files[number].dead = dead;
        }
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

    /// Forgets that a stream was deleted when no file has anything of it.
    fn let_go(&mut self, stream: u64) {
        let deleted = self.streams.get(&stream).is_some_and(|state| state.floor == u64::MAX);
        if deleted && extents_of(&self.files, stream).next().is_none() {
            self.streams.remove(&stream);
        }
    }
}

fn bytes_of(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.bytes.get()).sum()
}

/// The stream's extents, if they begin at `place`, which is moved behind them.
fn take_of<'a>(stream: u64, extents: &'a [Extent], place: &mut usize) -> &'a [Extent] {
    let rest = &extents[*place..];
    let count = rest.iter().take_while(|extent| extent.stream.get() == stream).count();
    *place += count;
    &rest[..count]
}
