//! The shard's streams: a table at the places of the log's own, names, and the end of those that were deleted.

use std::collections::VecDeque;

use mstream_nic::Frame;
use mstream_pmem::cold::ColdRange;
use mstream_pmem::places::{Places, hash_of};
use mstream_pmem::region::Region;
use mstream_pmem::wal::StreamSlot;

use super::cold::NO_COLD;
use super::config::StreamRules;
use super::subscription::{Pace, owes as subscription_owes};
use super::{NONE, Now, Shard, StreamEntry};
use crate::planted::{Bug, planted};

/// Small steps that one poll takes in giving up deleted streams.
const GIVE_UP_STEPS: usize = 16;
/// Records that one poll lets go of one stream because its rules say so, and streams that it looks at for that.
const EXPIRED_RECORDS: usize = 8;
const EXPIRING_STREAMS: usize = 64;

/// A stream of this shard.
pub(crate) struct Stream {
    /// 0: the entry is free.
    pub(crate) id: u64,
    /// `None` once it was deleted: it is being given up, and nobody can use it any more.
    name: Option<Box<str>>,
    /// Offset behind the last committed message: subscriptions see no further.
    pub(crate) visible_end: u64,
    /// What cold segments hold of it.
    pub(crate) cold: ColdRange,
    pub(crate) rules: StreamRules,
    /// First of the subscriptions and of the publications of this stream, and how many there are.
    pub(crate) subscriptions: u32,
    pub(crate) publications: u32,
    pub(crate) subscription_count: u32,
    pub(crate) publication_count: u32,
    /// Its records that wait for the watermark.
    pub(crate) pending: u32,
}

impl Stream {
    const FREE: Stream = Stream {
        id: 0,
        name: None,
        visible_end: 0,
        cold: NO_COLD,
        rules: StreamRules::NONE,
        subscriptions: NONE,
        publications: NONE,
        subscription_count: 0,
        publication_count: 0,
        pending: 0,
    };

    /// True until it is deleted.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.name.is_some()
    }
}

/// Every stream at the index that the log's tables have it at.
pub(crate) struct Streams {
    entries: Vec<Stream>,
    by_name: Places,
    /// Streams that are being given up.
    dying: VecDeque<u32>,
    /// Live streams that let records go by their rules, the next place to look for one, and whether that one has
    /// more to let go.
    expiring: usize,
    cursor: usize,
    unfinished: bool,
}

impl Streams {
    /// A table of `slots` entries.
    pub(crate) fn new(slots: usize) -> Streams {
        Streams {
            entries: Vec::with_capacity(slots),
            by_name: Places::new(slots),
            dying: VecDeque::with_capacity(slots),
            expiring: 0,
            cursor: 0,
            unfinished: false,
        }
    }

    /// Entries, free ones included.
    pub(crate) fn entries(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Live streams, and deleted ones that are not given up yet.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.by_name.len(), self.dying.len())
    }

    /// The live stream with this name.
    pub(crate) fn by_name(&self, name: &[u8]) -> Option<u32> {
        let is = |index: u32| {
            let known = self.entries[index as usize].name.as_deref();
            known.is_some_and(|known| known.as_bytes() == name)
        };
        self.by_name.find(hash_of(name), is)
    }

    /// Puts a stream at the place that the log gave it. Its id and name are not there yet.
    pub(crate) fn insert(&mut self, slot: StreamSlot, entry: StreamEntry, visible_end: u64) {
        let index = slot.0 as usize;
        while self.entries.len() <= index {
            self.entries.push(Stream::FREE);
        }
        self.by_name.insert(hash_of(entry.name.as_bytes()), slot.0);
        self.expiring += usize::from(entry.rules.expires());
        self.entries[index] = Stream {
            id: entry.id,
            name: Some(entry.name),
            visible_end,
            rules: entry.rules,
            ..Stream::FREE
        };
    }

    /// Begins the end of a live stream; its name.
    pub(crate) fn delete(&mut self, index: u32) -> Option<Box<str>> {
        let Streams { entries, by_name, .. } = self;
        let hash = |index: u32| {
            let name = entries[index as usize].name.as_deref();
            hash_of(name.unwrap_or_default().as_bytes())
        };
        by_name.remove(hash(index), index, hash);
        let stream = &mut self.entries[index as usize];
        self.expiring -= usize::from(stream.rules.expires());
        self.dying.push_back(index);
        stream.name.take()
    }
}

impl std::ops::Index<u32> for Streams {
    type Output = Stream;

    #[inline]
    fn index(&self, index: u32) -> &Stream {
        &self.entries[index as usize]
    }
}

impl std::ops::IndexMut<u32> for Streams {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Stream {
        &mut self.entries[index as usize]
    }
}

impl<R: Region, F: Frame> Shard<R, F> {
    /// Index of the stream that a client means by id or, with id 0, by name.
    pub(super) fn find_stream(&self, id: u64, name: &[u8]) -> Option<u32> {
        match id {
            0 => self.streams.by_name(name),
            id => self.wal.stream_slot(id).map(|slot| slot.0).filter(|slot| self.has(*slot)),
        }
    }

    fn has(&self, index: u32) -> bool {
        self.streams.entries.get(index as usize).is_some_and(Stream::is_live)
    }

    /// Looks after streams, within a bound: gives up deleted ones and, whenever the timers `ticked`, goes on letting
    /// records go that rules do not keep. Streams that are published to see to that themselves.
    #[inline]
    pub(super) fn tend_streams(&mut self, now: Now, ticked: bool) {
        if !self.streams.dying.is_empty() {
            self.give_up_streams(GIVE_UP_STEPS);
        }
        if self.streams.expiring > 0 && (ticked || self.streams.unfinished) {
            self.expire_streams(now);
        }
    }

    #[cold]
    fn expire_streams(&mut self, now: Now) {
        for _ in 0..EXPIRING_STREAMS.min(self.streams.entries.len()) {
            let index = self.streams.cursor;
            self.streams.unfinished = !self.expire_records(now, index as u32, EXPIRED_RECORDS);
            if self.streams.unfinished {
                return;
            }
            self.streams.cursor = (index + 1) % self.streams.entries.len();
        }
    }

    /// Goes on giving up deleted streams: their users are told, and when nothing of theirs waits for the watermark
    /// any more, what the log says of them goes.
    #[cold]
    pub(super) fn give_up_streams(&mut self, mut steps: usize) {
        while steps > 0
            && let Some(index) = self.streams.dying.front().copied()
        {
            steps -= 1;
            let stream = &self.streams[index];
            if stream.publications != NONE {
                self.end_publication(stream.publications);
            } else if stream.subscriptions != NONE {
                self.end_subscription(stream.subscriptions);
            } else if stream.pending > 0 || !self.wal.give_up_stream(StreamSlot(index), steps) {
                return;
            } else {
                self.streams[index] = Stream::FREE;
                self.streams.dying.pop_front();
            }
        }
    }

    /// Tells a subscription that its stream was deleted. It stays until the client gives it up.
    fn end_subscription(&mut self, index: u32) {
        self.leave_cold(index);
        let Some(subscription) = self.subscriptions.at(index) else { return };
        let stream = &mut self.streams[subscription.stream];
        stream.subscriptions = subscription.next_in_stream;
        stream.subscription_count -= 1;
        subscription.stream = NONE;
        subscription.pace = Pace::Stopped;
        subscription.code = mstream_wire::Code::UnknownStream as u16;
        subscription.start = 0;
        self.owe_subscription(index, subscription_owes::SUBSCRIBED);
    }

    /// Lets at most `most` records of a stream go, the oldest first, that its rules do not keep, but none that is not
    /// visible yet. True when there are no more of them.
    pub(super) fn expire_records(&mut self, now: Now, index: u32, most: usize) -> bool {
        let stream = &self.streams[index];
        if !stream.is_live() || !stream.rules.expires() {
            return true;
        }
        let (slot, rules) = (StreamSlot(index), stream.rules);
        let age_ms = rules.retention_ms / if planted(Bug::AgeTooShort) { 2 } else { 1 };
        let oldest_ns = now.wall_ns.saturating_sub(age_ms.saturating_mul(1_000_000));
        let tighter = if planted(Bug::RetentionTooTight) { 1024 } else { 0 };
        for _ in 0..most {
            let Some((offset, record)) = self.wal.oldest(slot) else { return true };
            let end = offset + u64::from(record.header.count.get());
            let state = self.wal.stream(slot);
            // The newest record stays, however large it is.
            let too_much = rules.retention_bytes != 0
                && state.held_bytes() + tighter > rules.retention_bytes
                && end < state.next_offset;
            let too_old = rules.retention_ms != 0 && record.header.time.get() < oldest_ns;
            if !(too_much || too_old) || end > stream.visible_end {
                return true;
            }
            self.wal.drop_oldest(slot);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_records_is_affordable() {
        // With what the log keeps of it (at most 120), its name in the index of names and its place among the dying.
        assert!(size_of::<Stream>() + 9 + 4 + 120 < 240, "{}", size_of::<Stream>());
    }
}
