//! The worker beside a shard: copies what the log seals, gives it back, merges, and reads what the shard asks for. No
//! thread, clock or log of its own: whoever drives it calls [`ColdWorker::turn`], and is told what went wrong.
//!
//! Whatever changes is told to the shard before a segment is given back: so the log recycles nothing of which the shard
//! does not know that cold segments have it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use mstream_pmem::cold::{
    Bandwidth, ColdDisk, ColdError, ColdFrom, ColdPage, ColdRange, ColdStore, Keep,
};
use mstream_pmem::sealed::Sealed;

use super::{ColdFound, ColdLink};
use crate::control::Command;
use crate::planted::{Bug, planted};
use crate::shard::Now;

/// Commands that may wait for the shard when one about a range is added: the rest of the queue is for others.
const MOST_COMMANDS: usize = 128;
/// What is moved at a time between two looks at the requests.
const STEP_BYTES: u64 = 4 << 20;
/// The least that is worth a step.
const LEAST_STEP_BYTES: u64 = 256 << 10;
/// How long maintenance rests when nothing was due.
const REST_NS: u64 = 1_000_000_000;
/// How long what failed waits until it is tried again.
const RETRY_NS: u64 = 2_000_000_000;

/// The ways between a worker and its shard.
#[derive(Clone, Debug)]
pub struct ColdQueues {
    /// Reads that the shard asks for.
    pub link: ColdLink,
    /// Sealed segments, in order.
    pub sealed: Arc<ArrayQueue<Sealed>>,
    /// To the shard. Segments come back by it.
    pub commands: Arc<ArrayQueue<Command>>,
}

/// What streams want kept.
pub trait ColdStreams {
    /// True if a stream of the shard is cold.
    fn any(&self) -> bool;

    /// What a stream wants kept; `None`: it is no cold stream of the shard, or there is none of this id.
    fn keep(&self, stream: u64) -> Option<Keep>;
}

/// What a worker does that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdWork {
    /// Copying a sealed segment. It is not given back before that is done.
    Copying,
    /// Merging, and giving up what is not kept any more.
    Merging,
    /// Reading a page.
    Reading,
}

/// Who hears of what a worker did.
pub trait ColdWatch {
    /// A sealed segment of so many bytes was copied.
    fn copied(&mut self, bytes: u64);

    /// Merging moved so many bytes.
    fn moved(&mut self, bytes: u64);

    /// A page was read, or tried to be.
    fn read(&mut self);

    /// Something failed. Copying and merging are tried again after a while, but for after a failed sync.
    fn failed(&mut self, work: ColdWork, error: &ColdError);

    /// It succeeds.
    fn succeeded(&mut self, work: ColdWork);
}

/// Looks after the cold segments of one shard.
#[derive(Debug)]
pub struct ColdWorker<D: ColdDisk> {
    store: ColdStore<D>,
    queues: ColdQueues,
    bandwidth: Bandwidth,
    /// What the shard knows, or will when it has taken what waits.
    told: BTreeMap<u64, ColdRange>,
    /// What it is to be told.
    untold: VecDeque<(u64, ColdRange)>,
    /// A segment to be copied, and since when.
    waits: Option<(Sealed, u64)>,
    /// One that was copied, and is not given back yet.
    copied: Option<Sealed>,
    /// When copying and maintenance are to be tried next.
    copy_ns: u64,
    maintain_ns: u64,
    /// A sync failed: nothing is written any more.
    poisoned: bool,
    /// A place was damaged when it was read: it stays so.
    damaged: bool,
}

impl<D: ColdDisk> ColdWorker<D> {
    /// A worker of a shard that knows of the ranges that `store` has now. Copying and merging move `bytes_per_second` at
    /// most.
    pub fn new(
        store: ColdStore<D>,
        queues: ColdQueues,
        bytes_per_second: u64,
        now: Now,
    ) -> ColdWorker<D> {
        let burst = (bytes_per_second / 8).max(2 * LEAST_STEP_BYTES);
        ColdWorker {
            told: store.ranges().collect(),
            store,
            queues,
            bandwidth: Bandwidth::new(bytes_per_second, burst, now.mono_ns),
            untold: VecDeque::new(),
            waits: None,
            copied: None,
            copy_ns: 0,
            maintain_ns: 0,
            poisoned: false,
            damaged: false,
        }
    }

    /// The cold segments.
    pub fn store(&self) -> &ColdStore<D> {
        &self.store
    }

    /// Ends the worker: its cold segments.
    pub fn into_store(self) -> ColdStore<D> {
        self.store
    }

    /// Segments that wait to be copied, and for how long the oldest has been waiting, in nanoseconds.
    pub fn waiting(&self, now: Now) -> (usize, u64) {
        let since = self.waits.as_ref().map_or(now.mono_ns, |(_, since)| *since);
        let segments = self.queues.sealed.len() + usize::from(self.waits.is_some());
        (segments, now.mono_ns.saturating_sub(since))
    }

    /// Does what is to be done now, of each kind one step. True if anything was.
    pub fn turn(
        &mut self,
        now: Now,
        streams: &impl ColdStreams,
        watch: &mut impl ColdWatch,
    ) -> bool {
        let mut worked = self.tell();
        worked |= self.answer(watch);
        worked |= self.copy(now, streams, watch);
        worked |= self.answer(watch);
        worked | self.maintain(now, streams, watch)
    }

    /// Reads what the shard asks for. It is to know of all ranges first: what is not in the answer any more may have been
    /// given up.
    fn answer(&mut self, watch: &mut impl ColdWatch) -> bool {
        let mut worked = false;
        while self.untold.is_empty() {
            let Some(mut request) = self.queues.link.requests.pop() else { break };
            let found = self.read(request.stream, request.from, &mut request.page, watch);
            // There are as many places as pages.
            let _ = self.queues.link.answers.push(request.answer(found));
            worked = true;
        }
        worked
    }

    fn read(
        &mut self,
        stream: u64,
        from: ColdFrom,
        page: &mut ColdPage,
        watch: &mut impl ColdWatch,
    ) -> ColdFound {
        watch.read();
        match self.store.read(stream, from, page) {
            Ok(found) => {
                if !self.damaged {
                    watch.succeeded(ColdWork::Reading);
                }
                if found { ColdFound::Page } else { ColdFound::Nothing }
            }
            Err(error) => {
                watch.failed(ColdWork::Reading, &error);
                match error {
                    ColdError::Damaged { lost: Some((_, to)), .. } => {
                        self.damaged = true;
                        ColdFound::Damaged { to }
                    }
                    _ => ColdFound::Failed,
                }
            }
        }
    }

    /// Tells the shard of ranges, then gives back what was copied.
    fn tell(&mut self) -> bool {
        let mut worked = false;
        while let Some((stream, range)) = self.untold.front().copied() {
            let commands = &self.queues.commands;
            if commands.len() >= MOST_COMMANDS.min(commands.capacity() / 2)
                || commands.push(Command::ColdRange { stream, range }).is_err()
            {
                return worked;
            }
            self.untold.pop_front();
            worked = true;
        }
        if let Some(sealed) = self.copied.take() {
            match self.queues.commands.push(Command::SegmentRead(sealed)) {
                Err(Command::SegmentRead(sealed)) => self.copied = Some(sealed),
                _ => worked = true,
            }
        }
        worked
    }

    /// Notes what the shard has to be told now.
    fn note_ranges(&mut self) {
        if planted(Bug::ColdRangesUntold) {
            return;
        }
        let mut gone = std::mem::take(&mut self.told);
        for (stream, range) in self.store.ranges() {
            if gone.remove(&stream) != Some(range) {
                self.untold.push_back((stream, range));
            }
            self.told.insert(stream, range);
        }
        let nothing = |range: ColdRange| ColdRange { earliest: range.end, end: range.end };
        self.untold.extend(gone.into_iter().map(|(stream, range)| (stream, nothing(range))));
    }

    fn copy(&mut self, now: Now, streams: &impl ColdStreams, watch: &mut impl ColdWatch) -> bool {
        if self.copied.is_some() || !self.untold.is_empty() {
            return false;
        }
        if self.waits.is_none() {
            self.waits = self.queues.sealed.pop().map(|sealed| (sealed, now.mono_ns));
        }
        let Some((sealed, _)) = &self.waits else { return false };
        if streams.any() && !planted(Bug::GivenBackUncopied) {
            let (sequence, bytes) = (sealed.sequence(), sealed.end());
            if self.poisoned
                || now.mono_ns < self.copy_ns
                || self.bandwidth.wait_ns(now.mono_ns, bytes) > 0
            {
                return false;
            }
            let keep = |stream| streams.keep(stream);
            if let Err(error) = self.store.copy(sequence, sealed.bytes(), bytes, &keep) {
                self.copy_ns = now.mono_ns + RETRY_NS;
                self.poisoned |= matches!(error, ColdError::Poisoned { .. });
                watch.failed(ColdWork::Copying, &error);
                return false;
            }
            self.bandwidth.moved(now.mono_ns, bytes);
            watch.copied(bytes);
            watch.succeeded(ColdWork::Copying);
            self.note_ranges();
        }
        self.copied = self.waits.take().map(|(sealed, _)| sealed);
        self.tell();
        true
    }

    fn maintain(
        &mut self,
        now: Now,
        streams: &impl ColdStreams,
        watch: &mut impl ColdWatch,
    ) -> bool {
        if self.poisoned || now.mono_ns < self.maintain_ns || !self.untold.is_empty() {
            return false;
        }
        let allowed = self.bandwidth.allowed(now.mono_ns).min(STEP_BYTES);
        // What waits to be copied goes first: publishers may wait for it.
        if allowed < LEAST_STEP_BYTES || (self.waits.is_some() && now.mono_ns >= self.copy_ns) {
            return false;
        }
        let keep = |stream| streams.keep(stream);
        let more = match self.store.maintain(now.wall_ns, &keep, allowed) {
            Ok(done) => {
                self.bandwidth.moved(now.mono_ns, done.bytes);
                watch.moved(done.bytes);
                watch.succeeded(ColdWork::Merging);
                self.maintain_ns = if done.more { now.mono_ns } else { now.mono_ns + REST_NS };
                done.more
            }
            Err(error) => {
                self.maintain_ns = now.mono_ns + RETRY_NS;
                self.poisoned |= matches!(error, ColdError::Poisoned { .. });
                watch.failed(ColdWork::Merging, &error);
                false
            }
        };
        self.note_ranges();
        more
    }
}
