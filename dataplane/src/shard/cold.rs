//! Subscriptions that read from cold segments: what the log has recycled and a cold stream still keeps.
//!
//! A subscription that needs such a place waits for one of the shard's pages, which goes out with the request, comes
//! back filled, and is given back when it was used up, or when the subscription moves, parks or ends.

use std::collections::VecDeque;

use mstream_nic::Frame;
use mstream_pmem::cold::{ColdFrom, ColdPage, ColdRange};
use mstream_pmem::region::Region;
use mstream_pmem::wal::{StreamSlot, Wal};
use mstream_wire::{Code, DatagramWriter, Skip};

use super::deliver::{deliver_header, skip};
use super::streams::Streams;
use super::subscription::Pace;
use super::{Handle, NONE, Shard};
use crate::cold::{ColdAnswer, ColdAsker, ColdFound, ColdRequest};

/// No cold segment holds anything of a stream.
pub(crate) const NO_COLD: ColdRange = ColdRange { earliest: 0, end: 0 };

/// Pages for cold segments, and who waits for one.
pub(crate) struct Cold {
    /// `None`: on its way with a request.
    pages: Vec<Option<ColdPage>>,
    /// Places of pages that nobody uses.
    free: Vec<u32>,
    /// Subscriptions that wait for a page, in turn. One may have given up waiting since.
    waiting: VecDeque<u32>,
    /// Requests that were not taken yet.
    requests: VecDeque<ColdRequest>,
    /// Number of the last request.
    number: u64,
}

impl Cold {
    /// With `pages`, for at most `subscriptions` subscriptions.
    pub(crate) fn new(pages: Vec<ColdPage>, subscriptions: usize) -> Cold {
        let places = pages.len();
        Cold {
            pages: pages.into_iter().map(Some).collect(),
            free: (0..places as u32).rev().collect(),
            waiting: VecDeque::with_capacity(if places == 0 { 0 } else { subscriptions }),
            requests: VecDeque::with_capacity(places),
            number: 0,
        }
    }

    /// The page at `place`, if it speaks for `offset`.
    pub(crate) fn page(&self, place: u32, offset: u64) -> Option<&ColdPage> {
        let page = self.pages.get(place as usize)?.as_ref()?;
        (page.from() <= offset && offset < page.end()).then_some(page)
    }

    /// Takes subscription `index`, which is no more, off the list of those that wait.
    pub(crate) fn forget(&mut self, index: u32) {
        self.waiting.retain(|waiting| *waiting != index);
    }
}

/// First offset that a stream holds, in its log or in cold segments.
pub(crate) fn earliest_offset<R: Region>(wal: &Wal<R>, streams: &Streams, stream: u32) -> u64 {
    let hot = wal.stream(StreamSlot(stream)).earliest_offset;
    let cold = streams[stream].cold;
    if cold.earliest < cold.end { hot.min(cold.earliest) } else { hot }
}

impl<R: Region, F: Frame> Shard<R, F> {
    /// Gives the shard its pages for cold segments, and what these hold at the start.
    pub fn with_cold(
        mut self,
        pages: Vec<ColdPage>,
        ranges: impl IntoIterator<Item = (u64, ColdRange)>,
    ) -> Self {
        self.cold = Cold::new(pages, self.limits.subscriptions);
        for (id, range) in ranges {
            self.set_cold_range(id, range);
        }
        self
    }

    /// What cold segments hold of a stream has changed.
    pub(super) fn set_cold_range(&mut self, id: u64, range: ColdRange) {
        if let Some(index) = self.find_stream(id, b"").filter(|_| id != 0)
            && self.streams[index].rules.cold
        {
            self.streams[index].cold = range;
        }
    }

    /// A read that cold segments are to be asked for, oldest first.
    #[inline]
    pub fn next_cold_request(&mut self) -> Option<ColdRequest> {
        self.cold.requests.pop_front()
    }

    /// Subscriptions that wait for a page, and pages that are in use.
    pub fn cold_readers(&self) -> (usize, usize) {
        (self.cold.waiting.len(), self.cold.pages.len() - self.cold.free.len())
    }

    /// Hands free pages to subscriptions that wait for one.
    #[inline]
    pub(super) fn ask_cold(&mut self) {
        while !self.cold.waiting.is_empty() && !self.cold.free.is_empty() {
            self.ask_for_next();
        }
    }

    fn ask_for_next(&mut self) {
        let Some(index) = self.cold.waiting.pop_front() else { return };
        let handle = self.subscriptions.handle(index);
        let Some(subscription) = self.subscriptions.at(index) else { return };
        subscription.cold_listed = false;
        let waits = matches!(subscription.pace, Pace::Asking | Pace::Cold);
        if !waits || subscription.cold_number != 0 {
            return;
        }
        let Some(place) = self.cold.free.pop() else { return };
        let Some(page) = self.cold.pages[place as usize].take() else { return };
        self.cold.number += 1;
        subscription.cold_number = self.cold.number;
        let asker = ColdAsker { subscription: handle.0, number: self.cold.number, place };
        let (stream, from) = (subscription.stream_id, subscription.cold_from);
        self.cold.requests.push_back(ColdRequest { asker, stream, from, page });
    }

    /// Makes a subscription wait for a place in cold segments.
    pub(super) fn want_cold(&mut self, index: u32, from: ColdFrom, pace: Pace) {
        self.leave_cold(index);
        let Some(subscription) = self.subscriptions.at(index) else { return };
        subscription.pace = pace;
        subscription.cold_from = from;
        if !subscription.cold_listed {
            subscription.cold_listed = true;
            self.cold.waiting.push_back(index);
        }
    }

    /// A subscription needs no cold page any more: gives back what it has, and does not wait for what it asked for.
    pub(super) fn leave_cold(&mut self, index: u32) {
        let Some(subscription) = self.subscriptions.at(index) else { return };
        subscription.cold_number = 0;
        let place = std::mem::replace(&mut subscription.page, NONE);
        if place != NONE {
            self.cold.free.push(place);
        }
    }

    /// Takes an answer of the reader of cold segments.
    pub fn cold_answer(&mut self, answer: ColdAnswer) {
        let ColdAnswer { asker, found, page } = answer;
        let place = asker.place;
        let Some(home) = self.cold.pages.get_mut(place as usize) else { return };
        let (from, end) = (page.from(), page.end());
        let first = page.records().next().map(|record| record.header.offset.get());
        *home = Some(page);
        let handle = Handle(asker.subscription);
        let asked = self.subscriptions.get_mut(handle);
        let Some(subscription) = asked.filter(|asked| asked.cold_number == asker.number) else {
            self.cold.free.push(place);
            return;
        };
        subscription.cold_number = 0;
        let (index, stream) = (handle.index(), subscription.stream);
        if stream == NONE {
            self.cold.free.push(place);
            return;
        }
        if subscription.pace == Pace::Asking {
            self.cold.free.push(place);
            self.answered_start(index, stream, found, (from, first));
            return;
        }
        let next = subscription.next;
        let cold = self.streams[stream].cold;
        match found {
            ColdFound::Page if from <= next && next < end => subscription.page = place,
            // Not retention took it: that would have been told before.
            ColdFound::Page if cold.earliest <= next && next < from => {
                subscription.hole = (from, Skip::LOST);
            }
            ColdFound::Page => return self.stop_cold(index, place, Code::OffsetGone, from),
            ColdFound::Damaged { to } if next < to => subscription.hole = (to, Skip::DAMAGED),
            // Behind what there is: the log has it, or nobody.
            ColdFound::Nothing | ColdFound::Damaged { .. } => {
                subscription.hole = (cold.end, Skip::DAMAGED);
            }
            ColdFound::Failed => return self.stop_cold(index, place, Code::LogDamaged, next),
        }
        if subscription.page == NONE {
            self.cold.free.push(place);
        }
        subscription.pace = Pace::Behind;
        self.list_behind(index);
    }

    fn stop_cold(&mut self, index: u32, place: u32, code: Code, start: u64) {
        self.cold.free.push(place);
        self.stop(index, code, start);
    }

    /// The start of a subscription was asked for: it can be said now.
    /// `page` is where the answer's page begins, and its first record.
    fn answered_start(
        &mut self,
        index: u32,
        stream: u32,
        found: ColdFound,
        page: (u64, Option<u64>),
    ) {
        let Some(subscription) = self.subscriptions.at(index) else { return };
        let (from, offset) = (subscription.cold_from, subscription.start);
        let hot = self.hot_answer(stream, from);
        let (code, start) = match (from, found, page.1) {
            (ColdFrom::Time(_), ColdFound::Page, Some(first)) => (Code::Ok, first),
            (ColdFrom::Time(_), ColdFound::Damaged { to }, _) => (Code::Ok, to),
            (ColdFrom::BehindEpoch(_), ColdFound::Page, _) if self.cold_may_know(stream, hot) => {
                self.judge_offset(stream, offset, Some(page.0))
            }
            (ColdFrom::BehindEpoch(_), ColdFound::Page | ColdFound::Nothing, _) => {
                self.judge_offset(stream, offset, Some(hot))
            }
            (_, ColdFound::Failed | ColdFound::Damaged { .. }, _) => (Code::LogDamaged, offset),
            (_, ColdFound::Page | ColdFound::Nothing, _) => (Code::Ok, hot),
        };
        self.start_at(index, code, start);
    }

    /// What the log alone answers to a question: an offset, at most the end of what is visible.
    pub(super) fn hot_answer(&self, stream: u32, from: ColdFrom) -> u64 {
        let slot = StreamSlot(stream);
        let end = self.streams[stream].visible_end;
        let found = match from {
            ColdFrom::Offset(offset) => Some(offset),
            ColdFrom::Time(time) => self.wal.first_at_or_after(slot, time),
            // All of them are there: the one before it ends where it begins.
            ColdFrom::BehindEpoch(epoch) => self.wal.first_of_later_epoch(slot, epoch),
        };
        found.map_or(end, |found| found.min(end))
    }

    /// True if the log's answer may not be the right one: what it looks for may stand in cold segments, before
    /// anything that the log holds.
    pub(super) fn cold_may_know(&self, stream: u32, answer: u64) -> bool {
        let state = self.wal.stream(StreamSlot(stream));
        let begins = self.has_cold_before(stream, state.earliest_offset);
        begins && (answer <= state.earliest_offset || state.earliest_offset == state.next_offset)
    }

    fn has_cold_before(&self, stream: u32, offset: u64) -> bool {
        let cold = self.streams[stream].cold;
        cold.earliest < cold.end.min(offset)
    }

    /// A subscription is to be sent what the log does not hold (any more), though it is visible. False if cold
    /// segments have nothing to do with it.
    pub(super) fn turn_to_cold(&mut self, index: u32, stream: u32, next: u64) -> bool {
        let cold = self.streams[stream].cold;
        let held = (cold.earliest..cold.end).contains(&next) && !self.cold.pages.is_empty();
        if held {
            self.want_cold(index, ColdFrom::Offset(next), Pace::Cold);
        }
        held
    }
}

/// Puts what a page holds of the offsets `next..to` into a datagram, in order: batches, and skips where they were
/// compacted away. How far it came.
pub(super) fn fill_from_page(
    writer: &mut DatagramWriter<'_>,
    page: &ColdPage,
    handle: u32,
    mut next: u64,
    to: u64,
) -> u64 {
    let to = to.min(page.end());
    while next < to {
        let found = page.record_at_or_after(next);
        let Some(record) = found.filter(|record| record.header.offset.get() <= next) else {
            let end = found.map_or(page.end(), |record| record.header.offset.get());
            if !writer.skip(&skip(handle, next, end, Skip::COMPACTED)) {
                break;
            }
            next = end;
            continue;
        };
        if !writer.data(&deliver_header(handle, record.header), record.block) {
            break;
        }
        next = record.end_offset();
    }
    next
}
