//! What is known of a world so far, from the log itself and from what clients were told. Each thing learnt is looked at
//! by the invariants that are about it.

mod cold;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mstream_dataplane::StreamRules;
use mstream_pmem::cold::Keep;
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{Record, StreamSlot, Wal};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::content::Content;
use crate::invariants::{Check, bytes, durable, kept, once, order};
use crate::newest::Newest;
use crate::records::{Copies, Found};
use crate::sizes::{Room, Sizes};

/// A message in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) content: Content,
    pub(crate) publisher: u64,
}

/// A record that the shard does not count as committed yet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    lsn: u64,
    /// Offset behind its last message.
    end: u64,
    at: u64,
    bytes: usize,
}

impl Waiting {
    fn of(found: &Found<'_>) -> Waiting {
        let Record { header, block } = found.record;
        Waiting {
            lsn: header.lsn.get(),
            end: found.record.end_offset(),
            at: found.at.address(),
            bytes: size_of_val(header) + block.len(),
        }
    }
}

/// One stream as it was seen so far.
#[derive(Debug, Default)]
struct Stream {
    /// Every message that the log held, by offset; `None` where a reboot left no more than the number.
    log: Vec<Option<Entry>>,
    /// Of the same.
    newest: Newest,
    /// Of its records, as far as they are in `log`.
    copies: Copies,
    /// Messages that a reboot took: whoever has not noticed yet may still be given them, or told of them, and another
    /// reboot may bring them back.
    lost: BTreeSet<(u64, Entry)>,
    waiting: VecDeque<Waiting>,
    /// Offsets below this one were committed at some time.
    visible: u64,
    /// Offsets below this one were delivered or acknowledged: the log must hold them, or have held
    /// them, for good.
    promised: u64,
    /// First offset held, and the highest that this was in any life of the log.
    earliest: u64,
    highest_earliest: u64,
    hint: u64,
    deleted: bool,
    /// How often a reboot took something of it, or the whole log.
    losses: u32,
    /// Where the log began with it after the last of them: what was below that may have been lost before it was copied.
    began: u64,
    /// What it keeps in cold segments, if it is cold.
    keep: Option<Keep>,
    /// What it keeps in the log.
    sizes: Sizes,
    /// Offset and time of its records, unless a reboot took something.
    times: Vec<(u64, u64)>,
}

impl Stream {
    fn at(&self, offset: u64) -> Option<&Entry> {
        self.log.get(offset as usize)?.as_ref()
    }

    /// What is below this is not held any more. Where it began before.
    fn begins_at(&mut self, earliest: u64) -> u64 {
        self.highest_earliest = self.highest_earliest.max(earliest);
        std::mem::replace(&mut self.earliest, earliest)
    }

    /// True if nothing between these offsets has to be held, but what may have been lost before it was copied.
    fn is_passed_over(&self, from: u64, to: u64) -> bool {
        (from.max(self.began)..to).all(|gone| self.may_be_gone(gone))
    }

    /// True unless cold segments are to have what stands there.
    fn may_be_gone(&self, offset: u64) -> bool {
        let newest = self.keep.is_some_and(|keep| keep.newest_per_key);
        let displaced = |entry: &Entry| newest && self.newest.displaces(offset, &entry.content);
        self.at(offset).is_none_or(displaced)
    }

    /// After a reboot: whatever is held was once stored there.
    fn learn_again<R: Region>(&mut self, wal: &Wal<R>, slot: StreamSlot) -> Check {
        let state = wal.stream(slot);
        let mut log = self.log.clone();
        log.resize(state.earliest_offset as usize, None);
        let (mut offset, mut hint) = (state.earliest_offset, 0);
        while offset < state.next_offset {
            if let Some(to) = Found::passed_over(wal, slot, offset, hint) {
                log.resize(to as usize, None);
                offset = to;
                continue;
            }
            let found = Found::find(wal, slot, offset, hint)?;
            found.messages(offset, |offset, entry| {
                log.push(Some(entry));
                if self.lost.contains(&(offset, entry)) {
                    return Ok(());
                }
                kept::same(state.id as u32, offset, &entry, self.at(offset))
            })?;
            (offset, hint) = (found.record.end_offset(), found.hint);
        }
        self.copies = Copies::default();
        let old = std::mem::replace(&mut self.log, log);
        let mut lost = old.len() > self.log.len();
        for (offset, old) in (0..).zip(old) {
            if let Some(old) = old
                && self.at(offset) != Some(&old)
            {
                self.lost.insert((offset, old));
                lost = true;
            }
        }
        self.losses += u32::from(lost);
        self.promised = self.promised.min(state.next_offset);
        self.visible = state.next_offset;
        Ok(())
    }
}

/// What is known of a publisher.
#[derive(Debug, Default)]
struct Publisher {
    named: bool,
    /// The newest life that was begun.
    life: u32,
    /// The last serial that was acknowledged, by stream.
    acknowledged: BTreeMap<u32, u64>,
    /// Streams and serials in the log, of an anonymous one.
    stored: FxHashSet<(u16, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Stream `id` stands at `id - 1`.
    streams: Vec<Stream>,
    publishers: BTreeMap<u16, Publisher>,
    /// Which publisher an id was given to.
    ids: FxHashMap<u64, u16>,
    /// The last message in the log of each publisher id in each stream.
    last: FxHashMap<(u64, u16), Content>,
    /// Messages that were stored, all lives of the log together.
    pub(crate) messages: u64,
    /// Batches, likewise.
    pub(crate) batches: u64,
    /// How often a reboot took something that may have been promised.
    pub(crate) losses: u32,
    /// How often the log was opened.
    pub(crate) starts: u32,
    log_id: [u8; 16],
    /// Number of the level that the region promises.
    pub(crate) level: u8,
    /// The log's segments.
    pub(crate) room: Room,
    /// What the shard's wall clock says.
    pub(crate) wall_ns: u64,
}

impl History {
    /// A new stream, with the next id; cold if it keeps something.
    pub(crate) fn create(&mut self, keep: Option<Keep>) -> u32 {
        self.streams.push(Stream { keep, ..Stream::default() });
        self.streams.len() as u32
    }

    /// What a stream keeps in the log.
    pub(crate) fn limit(&mut self, id: u32, rules: StreamRules) {
        self.stream(id).sizes = Sizes::new(rules);
    }

    /// A stream is deleted: nothing that was promised of it must be kept any more.
    pub(crate) fn delete(&mut self, id: u32) {
        self.stream(id).deleted = true;
    }

    pub(crate) fn is_deleted(&self, id: u32) -> bool {
        self.streams[id as usize - 1].deleted
    }

    fn stream(&mut self, id: u32) -> &mut Stream {
        &mut self.streams[id as usize - 1]
    }

    /// Offset behind the last message in the log, that behind the last one that was promised, and the
    /// first one held.
    pub(crate) fn bounds(&self, stream: u32) -> (u64, u64, u64) {
        let stream = &self.streams[stream as usize - 1];
        // A cold stream keeps all, unless something was lost.
        let all = stream.keep.is_some() && self.losses == 0;
        (stream.log.len() as u64, stream.promised, if all { 0 } else { stream.earliest })
    }

    /// Reads what was appended since the last look, and what was committed since: records with an lsn below `committed`
    /// are to be durable in `region`.
    pub(crate) fn look<R: Region>(
        &mut self,
        wal: &Wal<R>,
        committed: u64,
        region: &SimRegion,
    ) -> Check {
        for id in 1..=self.streams.len() as u32 {
            // A stream that was not created yet, or was given up.
            let Some(slot) = wal.stream_slot(id.into()) else { continue };
            let state = wal.stream(slot);
            let known = &mut self.streams[id as usize - 1];
            kept::earliest(id, state.earliest_offset, known.earliest)?;
            let before = known.begins_at(state.earliest_offset);
            let mut next = known.log.len() as u64;
            while next < state.next_offset {
                let hint = self.stream(id).hint;
                let found = Found::find(wal, slot, next, hint)?;
                found.messages(next, |offset, entry| self.appended(id, offset, entry))?;
                self.batches += 1;
                let known = self.stream(id);
                if found.first() == next {
                    known.copies.keep(&found.record);
                    known.sizes.stored(&found.record);
                    known.times.push((next, found.record.header.time.get()));
                }
                (next, known.hint) = (found.record.end_offset(), found.hint);
                known.waiting.push_back(Waiting::of(&found));
            }
            let known = &mut self.streams[id as usize - 1];
            if before < known.earliest && !known.sizes.let_go(known.earliest, self.wall_ns) {
                self.room.recycled(wal, id, (before, known.earliest))?;
            }
            known.copies.drop_before(known.earliest);
            while let Some(record) = known.waiting.front().filter(|record| record.lsn < committed) {
                durable::committed(region, record.lsn, record.at, record.bytes)?;
                known.visible = known.visible.max(record.end);
                known.waiting.pop_front();
            }
        }
        self.room.looked(wal);
        Ok(())
    }

    fn appended(&mut self, stream: u32, offset: u64, entry: Entry) -> Check {
        let Entry { content, publisher } = entry;
        let Some(known) = self.publishers.get_mut(&content.actor) else {
            return Err(bytes::nobody_published(format_args!("stream {stream} offset {offset}")));
        };
        let owner = *self.ids.entry(publisher).or_insert(content.actor);
        bytes::owned(stream, &entry, owner)?;
        let (serial, life) = match self.last.insert((publisher, content.stream), content) {
            Some(last) => (last.serial + 1, last.life),
            None if known.named && self.losses == 0 => (1, 0),
            // Each session of an anonymous publisher has an id of its own; and where a reboot took what there was, it is
            // not known how much is left.
            None => (content.serial, 0),
        };
        // Where the record of a newer life was lost an older one may go on.
        let life = if self.losses > 0 { 0 } else { life };
        // First: what is stored again stands in a wrong order as well.
        let is_new = match known.named {
            true => content.serial >= serial,
            false => known.stored.insert((content.stream, content.serial)),
        };
        once::stored(is_new, &content, offset)?;
        order::follows(&content, offset, serial, life)?;
        self.messages += 1;
        let known = self.stream(stream);
        known.log.push(Some(entry));
        known.newest.stored(offset, &content);
        Ok(())
    }

    /// A start found this log: everything promised is in it, and nothing in it has changed; after a `loss` anything may be
    /// missing at the end. What was not committed before waits for the next [`History::look`], as the start may have relied on
    /// stores that it only saw.
    pub(crate) fn restarted<R: Region>(&mut self, wal: &Wal<R>, loss: bool) -> Check {
        self.losses += u32::from(loss);
        self.starts += 1;
        let another = std::mem::replace(&mut self.log_id, wal.log_id()) != wal.log_id();
        if !loss {
            self.holds(wal, true)?;
        }
        let mut shorter = loss;
        for id in 1..=self.streams.len() as u32 {
            let known = &mut self.streams[id as usize - 1];
            known.hint = 0;
            known.losses += u32::from(loss && another);
            let Some(slot) = wal.stream_slot(id.into()) else {
                shorter |= !known.log.is_empty();
                known.waiting.clear();
                continue;
            };
            let state = wal.stream(slot);
            let end = state.next_offset;
            if loss {
                known.began = state.earliest_offset;
                known.times.clear();
                known.waiting.clear();
                known.learn_again(wal, slot)?;
            } else {
                shorter |= end < known.log.len() as u64;
                known.waiting.retain(|record| record.end <= end);
                known.log.truncate(end as usize);
                known.copies.truncate(end);
                known.times.retain(|(first, _)| *first < end);
                // A shard that is made lets go of what its streams' rules say.
                if !known.sizes.let_go(state.earliest_offset, self.wall_ns) {
                    let gone = (known.earliest, state.earliest_offset);
                    self.room.recycled_by_start(wal, id, gone)?;
                }
            }
            known.sizes.found(wal, slot)?;
            // What was dropped by a stream's rules because of a tail that was lost is held again.
            known.begins_at(state.earliest_offset);
            // What was looked at after a poll may have been committed after the moment in it at which the process ended.
            known.visible = known.visible.min(end);
        }
        self.count_again(loss, shorter);
        Ok(())
    }

    /// Learns again from the log who stored what. Once a reboot took something, what the log does not hold any more says
    /// nothing about how far its publishers got; but that they got there is still so unless it became `shorter`.
    fn count_again(&mut self, loss: bool, shorter: bool) {
        // What was lost may have displaced what is held.
        if self.losses == 0 {
            for known in &mut self.streams {
                known.newest = Newest::of(&known.log);
            }
        }
        if self.losses == 0 || shorter {
            self.last.clear();
        }
        for known in self.publishers.values_mut() {
            known.stored.clear();
            if loss {
                known.acknowledged.clear();
            }
        }
        let entries = self.streams.iter().flat_map(|stream| stream.log.iter().flatten());
        for Entry { content, publisher } in entries {
            if self.losses == 0 {
                self.last.insert((*publisher, content.stream), *content);
            }
            let known = self.publishers.get_mut(&content.actor);
            if let Some(known) = known.filter(|known| !known.named) {
                known.stored.insert((content.stream, content.serial));
            }
        }
    }

    /// The log holds everything promised, as it was. With `more` it may hold what was not looked at yet: what a poll
    /// appended in the midst of which power was lost.
    pub(crate) fn holds<R: Region>(&self, wal: &Wal<R>, more: bool) -> Check {
        for (id, known) in (1..).zip(&self.streams).filter(|(_, known)| !known.deleted) {
            let Some(slot) = wal.stream_slot(id.into()) else {
                kept::end(id, 0, known.promised)?;
                continue;
            };
            let state = wal.stream(slot);
            kept::end(id, state.next_offset, known.promised)?;
            let (mut offset, mut hint) = (state.earliest_offset, 0);
            let known_end = known.log.len() as u64;
            let end = if more { state.next_offset.min(known_end) } else { state.next_offset };
            let mut copies = known.copies.compare();
            while offset < end {
                let lost = (self.losses > 0).then(|| Found::passed_over(wal, slot, offset, hint));
                if let Some(to) = lost.flatten() {
                    offset = to;
                    continue;
                }
                let found = Found::find(wal, slot, offset, hint)?;
                if !copies.has(&found.record) {
                    let same = |offset, entry| kept::same(id, offset, &entry, known.at(offset));
                    found.messages(offset, same)?;
                }
                (offset, hint) = (found.record.end_offset(), found.hint);
            }
        }
        Ok(())
    }
}
