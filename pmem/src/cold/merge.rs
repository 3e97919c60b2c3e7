//! Several cold segments that follow each other become one, a chunk at a time.

use super::disk::ColdDisk;
use super::file::{ColdFile, records};
use super::format::Extent;
use super::newest::{Decisions, Newest};
use super::writer::Writer;
use super::{ColdError, Keep};

/// A merge that goes on.
#[derive(Debug)]
pub(crate) struct Merge {
    /// What the first input covers, and how many follow each other from it on.
    pub(crate) first: (u64, u64),
    pub(crate) count: usize,
    pub(crate) writer: Writer,
    /// Records with this lsn and greater ones are left out.
    below_lsn: u64,
    /// The next extent of each input.
    next: Vec<usize>,
    stream: Option<Stream>,
}

/// A stream on its way through a merge.
#[derive(Debug)]
struct Stream {
    /// Its extents and the number of their input.
    parts: Vec<(usize, Extent)>,
    /// Offsets below were given up when it began.
    floor: u64,
    /// Present where only the newest records of each key are kept.
    newest: Option<Newest>,
    decisions: Option<Decisions>,
    /// The part and the chunk of it that come next, going back while `newest` is there, else going on.
    at: (usize, u32),
    /// First offset that the next record kept speaks for.
    from: u64,
    /// Offset behind the last that was spoken for.
    spoken: u64,
    /// True when a record was written since the last loss.
    wrote: bool,
}

impl Merge {
    pub(crate) fn new(first: (u64, u64), count: usize, writer: Writer, below_lsn: u64) -> Merge {
        Merge { first, count, writer, below_lsn, next: vec![0; count], stream: None }
    }

    /// Does the work of one chunk, of the merge's `inputs`. `plan` says what a stream wants kept, if anything, and
    /// below which offset nothing. Returns the bytes that were read and written; `None` when all is written.
    pub(crate) fn step(
        &mut self,
        disk: &mut impl ColdDisk,
        inputs: &[ColdFile],
        plan: &dyn Fn(u64) -> Option<(Keep, u64)>,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<u64>, ColdError> {
        let Some(mut stream) = self.stream.take().or_else(|| self.next_stream(inputs, plan)) else {
            return Ok(None);
        };
        let bytes = match &mut stream.newest {
            Some(_) => stream.go_back(disk, inputs, scratch)?,
            None => self.go_on(&mut stream, disk, inputs, scratch)?,
        };
        let done = stream.newest.is_none() && stream.at.0 == stream.parts.len();
        if !done {
            self.stream = Some(stream);
        }
        Ok(Some(bytes))
    }

    /// The next stream of which something is kept.
    fn next_stream(
        &mut self,
        inputs: &[ColdFile],
        plan: &dyn Fn(u64) -> Option<(Keep, u64)>,
    ) -> Option<Stream> {
        loop {
            let heads =
                inputs.iter().zip(&self.next).filter_map(|(file, at)| file.extents.get(*at));
            let id = heads.map(|extent| extent.stream.get()).min()?;
            let mut parts = Vec::new();
            for (number, (file, at)) in inputs.iter().zip(&mut self.next).enumerate() {
                let mine = file.extents[*at..].iter().take_while(|one| one.stream.get() == id);
                let before = parts.len();
                parts.extend(mine.map(|extent| (number, *extent)));
                *at += parts.len() - before;
            }
            let Some((keep, floor)) = plan(id) else { continue };
            parts.retain(|(_, extent)| extent.end.get() > floor);
            let Some((_, last)) = parts.last() else { continue };
            let back = (parts.len() - 1, last.chunks.get());
            let at = if keep.newest_per_key { back } else { (0, 0) };
            return Some(Stream {
                parts,
                floor,
                newest: keep.newest_per_key.then(Newest::default),
                decisions: keep.newest_per_key.then(Decisions::default),
                at,
                from: 0,
                spoken: 0,
                wrote: false,
            });
        }
    }

    /// Writes what is kept of the next chunk.
    fn go_on(
        &mut self,
        stream: &mut Stream,
        disk: &mut impl ColdDisk,
        inputs: &[ColdFile],
        scratch: &mut Vec<u8>,
    ) -> Result<u64, ColdError> {
        let (part, number) = stream.at;
        let (input, extent) = stream.parts[part];
        if number == 0 {
            let from = extent.from.get().max(stream.floor);
            if from != stream.spoken || part == 0 {
                self.speak_to_end(stream);
                (stream.from, stream.wrote) = (from, false);
            }
            stream.spoken = extent.end.get();
        }
        let before = self.writer.bytes();
        let chunk = inputs[input].chunk(disk, &extent, number)?;
        let mut read = 0;
        if chunk.end > stream.floor {
            inputs[input].load(disk, extent.stream.get(), &chunk, scratch)?;
            read = u64::from(chunk.bytes);
            let live = records(scratch)
                .filter_map(|(_, record)| record)
                .filter(|record| record.end_offset() > stream.floor);
            for record in live {
                let decided = stream.decisions.as_mut().and_then(Decisions::pop);
                if decided.unwrap_or(true) && record.header.lsn.get() < self.below_lsn {
                    self.writer.push(disk, stream.from, &record)?;
                    stream.from = record.end_offset();
                    stream.wrote = true;
                }
            }
        }
        stream.at = match number + 1 < extent.chunks.get() {
            true => (part, number + 1),
            false => (part + 1, 0),
        };
        if stream.at.0 == stream.parts.len() {
            self.speak_to_end(stream);
        }
        Ok(read + self.writer.bytes() - before)
    }

    /// Lets what was written of a stream since the last loss speak for what was compacted away behind it. What is left out
    /// for its lsn is void, not compacted: nothing speaks for it.
    fn speak_to_end(&mut self, stream: &Stream) {
        if stream.wrote && self.below_lsn == u64::MAX {
            self.writer.speak_to(stream.spoken);
        }
    }
}

impl Stream {
    /// Decides which records of the chunk before are kept. Behind the first chunk the other way begins.
    fn go_back(
        &mut self,
        disk: &mut impl ColdDisk,
        inputs: &[ColdFile],
        scratch: &mut Vec<u8>,
    ) -> Result<u64, ColdError> {
        if self.at.1 == 0 {
            match self.at.0.checked_sub(1) {
                Some(part) => self.at = (part, self.parts[part].1.chunks.get()),
                None => {
                    self.at = (0, 0);
                    self.newest = None;
                    return Ok(0);
                }
            }
        }
        self.at.1 -= 1;
        let (input, extent) = self.parts[self.at.0];
        let chunk = inputs[input].chunk(disk, &extent, self.at.1)?;
        if chunk.end <= self.floor {
            return Ok(0);
        }
        inputs[input].load(disk, extent.stream.get(), &chunk, scratch)?;
        let floor = self.floor;
        let live: Vec<_> = records(scratch)
            .filter_map(|(_, record)| record)
            .filter(|record| record.end_offset() > floor)
            .collect();
        if let (Some(newest), Some(decisions)) = (&mut self.newest, &mut self.decisions) {
            live.iter().rev().for_each(|record| decisions.push(newest.wants(record)));
        }
        Ok(u64::from(chunk.bytes))
    }
}
