//! What is served against what should be.

use std::collections::BTreeSet;

use mstream_pmem::cold::{ColdError, ColdFrom, ColdStore, SimDisk};

use super::{Batch, Outcome, World, said};

impl World {
    /// What a store over damaged files serves is what was copied, and what is missing is named as lost.
    pub fn check_damaged(&mut self, mut store: ColdStore<SimDisk>) -> Outcome {
        for (id, stream) in &self.streams {
            let mut lost: Vec<(u64, u64)> = Vec::new();
            let (mut at, mut found) = (0, BTreeSet::new());
            loop {
                let (from, to) = match store.read(*id, ColdFrom::Offset(at), &mut self.page) {
                    Ok(false) => break,
                    Ok(true) => (self.page.from(), self.page.end()),
                    Err(ColdError::Damaged { lost: Some(range), .. }) => {
                        lost.push(range);
                        at = range.1;
                        continue;
                    }
                    Err(error) => return Err(format!("stream {id}: {error}")),
                };
                if from < at || to <= from {
                    return Err(format!("stream {id}: from {at} a page of {from}..{to}"));
                }
                for record in self.page.records() {
                    let offset = record.header.offset.get();
                    let held = stream.copied.iter().find(|one| one.offset() == offset);
                    let same =
                        |held: &Batch| held.header == *record.header && held.block == record.block;
                    if !held.is_some_and(same) || !found.insert(offset) {
                        return Err(format!("stream {id}: never stored: {:?}", record.header));
                    }
                }
                at = to;
            }
            let named = |offset: u64| lost.iter().any(|(from, to)| (*from..*to).contains(&offset));
            let missing = |one: &&Batch| {
                !one.may_miss && !found.contains(&one.offset()) && !named(one.offset())
            };
            if let Some(missing) = stream.copied.iter().find(missing) {
                return Err(format!("stream {id}: {} is missing, not named", missing.offset()));
            }
        }
        Ok(())
    }

    /// Reads everything and compares.
    pub fn check(&mut self) -> Outcome {
        let ids: Vec<u64> = self.streams.keys().copied().collect();
        let mut live = 0;
        for id in ids {
            live += self.check_stream(id).map_err(|what| format!("stream {id}: {what}"))?;
        }
        let stats = self.store().stats();
        if stats.live_bytes < live || stats.file_bytes < stats.live_bytes {
            return Err(format!("{stats:?}, but {live} bytes can be read"));
        }
        let streams = self.store().ranges().count() as u64;
        if stats.streams != streams {
            return Err(format!("{stats:?}, but {streams} streams can be read"));
        }
        Ok(())
    }

    pub(super) fn check_stream(&mut self, id: u64) -> Result<u64, String> {
        let range = self.store().range(id);
        let stream = self.streams[&id].clone();
        let store = self.store.as_mut().expect("there between steps");
        let page = &mut self.page;
        let mut found: Vec<Batch> = Vec::new();
        let mut spoken: Vec<(u64, u64)> = Vec::new();
        let mut at = 0;
        while store.read(id, ColdFrom::Offset(at), page).map_err(said("reading"))? {
            if page.stream() != id || page.from() < at || page.end() <= page.from() {
                return Err(format!("from {at} a page of {}..{}", page.from(), page.end()));
            }
            for record in page.records() {
                let held =
                    stream.copied.iter().find(|one| one.offset() == record.header.offset.get());
                match held {
                    Some(held) if held.header == *record.header && held.block == record.block => {
                        found.push(held.clone());
                    }
                    _ => return Err(format!("a record that never was: {:?}", record.header)),
                }
            }
            spoken.push((page.from(), page.end()));
            at = page.end();
        }
        if found.windows(2).any(|pair| pair[1].offset() < pair[0].end()) {
            return Err("records come twice or out of order".into());
        }
        for batch in stream.copied.iter().filter(|batch| !batch.may_miss) {
            if !found.iter().any(|one| one.offset() == batch.offset()) {
                return Err(format!("offset {} is not there", batch.offset()));
            }
        }
        for (from, to) in &stream.lost {
            let inside = |(first, end): &(u64, u64)| first < to && from < end;
            if *to <= at && spoken.iter().any(inside) {
                return Err(format!("{from}..{to} were lost, not compacted away: {spoken:?}"));
            }
        }
        let expected = range.map_or((0, 0), |range| (range.earliest, range.end));
        let first = spoken.first().map_or(0, |(from, _)| *from);
        if expected != (first, at) {
            return Err(format!("{range:?}, but {first}..{at} can be read"));
        }
        self.check_questions(id, &found)?;
        Ok(found.iter().map(Batch::packed).sum())
    }

    /// The answers to other questions than for offsets agree with what is there.
    fn check_questions(&mut self, id: u64, found: &[Batch]) -> Outcome {
        for _ in 0..4 {
            let number = self.random.below(found.len() as u64 + 1) as usize;
            let time = found.get(number).map_or(self.now + 1, |one| one.header.time.get())
                - self.random.below(2);
            let epoch = self.random.below(u64::from(self.epoch) + 1) as u32;
            let offset = found.get(number).map_or(0, |one| one.end() - self.random.below(2));
            let behind = found.iter().rfind(|one| one.header.epoch.get() <= epoch);
            let store = self.store.as_mut().expect("there between steps");
            let answered = store.read(id, ColdFrom::BehindEpoch(epoch), &mut self.page);
            let answered = answered.map_err(said("reading"))?.then_some(self.page.from());
            let expected = (!found.is_empty()).then_some(behind.map_or(0, Batch::end));
            if answered != expected {
                return Err(format!("behind epoch {epoch} is {answered:?}, not {expected:?}"));
            }
            let questions: [(ColdFrom, Option<&Batch>); 2] = [
                (ColdFrom::Time(time), found.iter().find(|one| one.header.time.get() >= time)),
                (ColdFrom::Offset(offset), found.iter().find(|one| one.end() > offset)),
            ];
            for (from, expected) in questions {
                let store = self.store.as_mut().expect("there between steps");
                store.read(id, from, &mut self.page).map_err(said("reading"))?;
                let first = self.page.records().next().map(|record| record.header.offset.get());
                // A page may speak for nothing but what was compacted away in front of a loss.
                let speaks = self.page.end();
                let empty = matches!(from, ColdFrom::Offset(asked) if asked < speaks);
                let expected = expected.map(Batch::offset);
                let expected = expected.filter(|expected| !empty || *expected < speaks);
                if first != expected {
                    return Err(format!("{from:?} gives {first:?}, not {expected:?}"));
                }
            }
        }
        Ok(())
    }
}
