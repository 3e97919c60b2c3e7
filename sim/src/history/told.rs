//! What clients are told is compared with the history.

use std::collections::BTreeMap;

use super::{Entry, History};
use crate::content::Content;
use crate::invariants::gaps::Since;
use crate::invariants::{Check, bytes, compacted, diverged, durable, gaps, kept, told, watermark};

impl History {
    /// A subscriber was handed a message.
    pub(crate) fn delivered(&mut self, stream: u32, offset: u64, entry: Entry) -> Check {
        let known = self.stream(stream);
        if known.at(offset) != Some(&entry) && known.lost.contains(&(offset, entry)) {
            return Ok(());
        }
        bytes::delivered(stream, offset, &entry, known.at(offset))?;
        watermark::delivered(stream, offset, known.visible)?;
        known.promised = known.promised.max(offset + 1);
        Ok(())
    }

    /// Times of records of a stream, oldest first.
    pub(crate) fn times(&self, stream: u32) -> impl ExactSizeIterator<Item = u64> {
        self.streams[stream as usize - 1].times.iter().map(|(_, time)| *time)
    }

    /// A place of a stream by a time, as it is now.
    pub(crate) fn since(&self, stream: u32, time_ns: u64) -> Since {
        let known = &self.streams[stream as usize - 1];
        let first = known.times.partition_point(|(_, time)| *time < time_ns);
        let first = known.times.get(first).map_or(known.log.len() as u64, |(first, _)| *first);
        let (_, _, earliest) = self.bounds(stream);
        let end = known.log.len() as u64;
        let kept = (first..end).find(|offset| !known.may_be_gone(*offset)).unwrap_or(end);
        Since { first, latest: kept.max(earliest), visible: known.visible }
    }

    /// How often a reboot took something of a stream.
    pub(crate) fn losses(&self, stream: u32) -> u32 {
        self.streams[stream as usize - 1].losses
    }

    /// A reader that has seen this was told that the stream is still the same below `common`.
    pub(crate) fn in_common(
        &self,
        stream: u32,
        seen: &BTreeMap<u64, Content>,
        common: u64,
    ) -> Check {
        let known = &self.streams[stream as usize - 1];
        for (offset, seen) in seen.range(..common) {
            let now = known.log.get(*offset as usize);
            diverged::common(*offset, *seen, now.map(|now| now.map(|now| now.content)))?;
        }
        Ok(())
    }

    /// A subscriber was told that these offsets are lost; `now` says that nothing was lost since that was said.
    pub(crate) fn lost(&self, stream: u32, from: u64, to: u64, now: bool) -> Check {
        let known = &self.streams[stream as usize - 1];
        // Of a stream whose first messages alone were lost nothing says so.
        gaps::lost(from, to, self.losses > 0 && (!now || known.is_passed_over(from, to)))
    }

    /// A subscriber was told that an offset is gone, and `first` is held; `now` says that the log was not opened since it asked.
    pub(crate) fn gone(&self, stream: u32, next: u64, first: u64, now: bool) -> Check {
        let known = &self.streams[stream as usize - 1];
        let (_, _, earliest) = self.bounds(stream);
        match now {
            true => gaps::gone(next, first, earliest),
            // Where something was lost what is held may have begun anywhere.
            false if self.losses > 0 => Ok(()),
            false if known.keep.is_some() => gaps::gone(next, first, 0),
            false => gaps::gone(next, first, known.highest_earliest),
        }
    }

    /// A subscriber was told that these offsets were compacted away.
    pub(crate) fn compacted(&self, stream: u32, from: u64, to: u64) -> Check {
        if self.losses > 0 {
            return Ok(());
        }
        let known = &self.streams[stream as usize - 1];
        let newest = known.keep.is_some_and(|keep| keep.newest_per_key);
        compacted::told(stream, (from, to), newest, known.visible)?;
        let end = to.min(known.log.len() as u64);
        for offset in from..end {
            if let Some(entry) = known.at(offset) {
                let displaced = known.newest.displaces(offset, &entry.content);
                compacted::displaced(stream, offset, displaced)?;
            }
        }
        Ok(())
    }

    /// A publisher was told that a message, and those before it, are durable.
    pub(crate) fn acknowledged(&mut self, stream: u32, content: Content, end: u64) -> Check {
        let any_life = self.losses > 0;
        let known = self.stream(stream);
        // A message of an earlier life may be acknowledged in a later one.
        let is = |stored: &Entry| {
            stored.content == Content { life: stored.content.life, ..content }
                && (stored.content.life <= content.life || any_life)
        };
        let last = end.wrapping_sub(1);
        let stored = known.at(last);
        let was = || known.lost.iter().any(|(offset, lost)| *offset == last && is(lost));
        // What a publisher had stored may be left without its messages.
        if stored.is_none() && any_life && last < known.log.len() as u64 {
            return Ok(());
        }
        if !stored.is_some_and(is) {
            return told::acknowledged(was(), &content, end, &stored);
        }
        // What a reboot took was acknowledged before it, also where a newer life has stored it there again since.
        if stored.is_some_and(|stored| stored.content.life > content.life) && was() {
            return Ok(());
        }
        durable::acknowledged(format_args!("{content}"), end, known.visible)?;
        known.promised = known.promised.max(end);
        // A client that stood still may hear after a reboot what was said before it, of what was recycled meanwhile.
        if any_life && last < known.earliest {
            return Ok(());
        }
        if let Some(known) = self.publishers.get_mut(&content.actor) {
            let acknowledged = known.acknowledged.entry(stream).or_default();
            *acknowledged = content.serial.max(*acknowledged);
        }
        Ok(())
    }

    /// A publisher was given an id.
    pub(crate) fn opened(&mut self, actor: u16, id: u64) -> Check {
        let owner = *self.ids.entry(id).or_insert(actor);
        told::id(id, owner, actor)
    }

    /// A publisher's life begins; it may fence older ones.
    pub(crate) fn begins(&mut self, actor: u16, named: bool, life: u32) {
        let known = self.publishers.entry(actor).or_default();
        known.named = named;
        known.life = known.life.max(life);
    }

    /// A named publisher was told what the log holds of it.
    pub(crate) fn stored(&self, actor: u16, stream: u32, sequence: u64) -> Check {
        let known = self.publishers.get(&actor);
        let known = known.and_then(|known| known.acknowledged.get(&stream)).copied().unwrap_or(0);
        kept::sequence(format_args!("publisher {actor}"), sequence, known)
    }

    /// The newest life that was begun.
    pub(crate) fn life(&self, actor: u16) -> u32 {
        self.publishers.get(&actor).map_or(0, |known| known.life)
    }
}
