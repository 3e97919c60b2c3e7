//! The worker beside a shard: copies what the log seals, gives it back, merges, and reads what the shard asks for.
//!
//! Whatever changes is told to the shard before a segment is given back: so the log recycles nothing of which the shard
//! does not know that cold segments have it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use mstream_controlplane::catalogue::Keeper;
use mstream_dataplane::{Clock, ColdFound, ColdLink, Command, Now, TscClock};
use mstream_pmem::cold::{
    Bandwidth, ColdDisk, ColdError, ColdFrom, ColdPage, ColdRange, ColdStore,
};
use mstream_pmem::sealed::Sealed;

use super::kept;
use super::status::{Cells, Count, Work};

/// The pause between two looks when there was something to do a moment ago, and otherwise.
const SHORT_TURN: Duration = Duration::from_micros(200);
const TURN: Duration = Duration::from_millis(5);
/// Turns without work after which the longer pause is made.
const IDLE_TURNS: u32 = 500;
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
#[derive(Debug)]
pub(crate) struct Queues {
    /// Reads that the shard asks for.
    pub(crate) link: ColdLink,
    /// Sealed segments that others have read already.
    pub(crate) sealed: Arc<ArrayQueue<Sealed>>,
    /// To the shard.
    pub(crate) commands: Arc<ArrayQueue<Command>>,
}

/// Looks after the cold segments of one shard.
pub(crate) struct Worker<D: ColdDisk> {
    shard: u32,
    store: ColdStore<D>,
    streams: Arc<Keeper>,
    queues: Queues,
    bandwidth: Bandwidth,
    cells: Arc<Cells>,
    /// What the shard knows, or will when it has taken what waits.
    told: HashMap<u64, ColdRange>,
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

impl<D: ColdDisk> Worker<D> {
    /// A worker of shard `shard`, which knows of the ranges that `store` has now. Copying and merging move
    /// `bytes_per_second` at most.
    pub(crate) fn new(
        shard: u32,
        store: ColdStore<D>,
        streams: Arc<Keeper>,
        queues: Queues,
        bytes_per_second: u64,
        cells: Arc<Cells>,
        now: Now,
    ) -> Worker<D> {
        let burst = (bytes_per_second / 8).max(2 * LEAST_STEP_BYTES);
        let told = store.ranges().collect();
        let worker = Worker {
            shard,
            store,
            streams,
            queues,
            bandwidth: Bandwidth::new(bytes_per_second, burst, now.mono_ns),
            cells,
            told,
            untold: VecDeque::new(),
            waits: None,
            copied: None,
            copy_ns: 0,
            maintain_ns: 0,
            poisoned: false,
            damaged: false,
        };
        worker.publish(now);
        worker
    }

    /// Serves until `stop` is set.
    pub(crate) fn run(&mut self, stop: &AtomicBool, clock: &mut TscClock) {
        let mut idle = 0_u32;
        // Relaxed: whoever sets it waits for this thread's end.
        while !stop.load(Ordering::Relaxed) {
            if self.turn(clock.now()) {
                idle = 0;
            } else {
                idle = idle.saturating_add(1);
                std::thread::sleep(if idle < IDLE_TURNS { SHORT_TURN } else { TURN });
            }
        }
    }

    /// Does what is to be done now, of each kind one step. True if anything was.
    pub(crate) fn turn(&mut self, now: Now) -> bool {
        let told = self.tell();
        let mut worked = told | self.answer() | self.copy(now);
        worked |= self.answer() | self.maintain(now);
        if worked || self.waits.is_some() {
            self.publish(now);
        }
        worked
    }

    fn publish(&self, now: Now) {
        self.cells.set_store(&self.store.stats(), self.store.copied());
        let since = self.waits.as_ref().map_or(now.mono_ns, |(_, since)| *since);
        let waiting = self.queues.sealed.len() + usize::from(self.waits.is_some());
        self.cells.set_waiting(waiting as u64, now.mono_ns.saturating_sub(since) / 1_000_000);
    }

    /// Reads what the shard asks for. It is to know of all ranges first: what is not in the answer any more may have been
    /// given up.
    fn answer(&mut self) -> bool {
        let mut worked = false;
        while self.untold.is_empty() {
            let Some(mut request) = self.queues.link.requests.pop() else { break };
            let found = self.read(request.stream, request.from, &mut request.page);
            // There are as many places as pages.
            let _ = self.queues.link.answers.push(request.answer(found));
            worked = true;
        }
        worked
    }

    fn read(&mut self, stream: u64, from: ColdFrom, page: &mut ColdPage) -> ColdFound {
        self.cells.count(Count::Reads, 1);
        match self.store.read(stream, from, page) {
            Ok(found) => {
                if !self.damaged {
                    self.mended(Work::Reading);
                }
                if found { ColdFound::Page } else { ColdFound::Nothing }
            }
            Err(error) => {
                let found = match &error {
                    ColdError::Damaged { lost: Some((_, to)), .. } => {
                        self.damaged = true;
                        ColdFound::Damaged { to: *to }
                    }
                    _ => ColdFound::Failed,
                };
                self.failed(Work::Reading, &error);
                found
            }
        }
    }

    /// Tells the shard of ranges, then gives back what was copied.
    fn tell(&mut self) -> bool {
        let mut worked = false;
        while let Some((stream, range)) = self.untold.front().copied() {
            let commands = &self.queues.commands;
            if commands.len() >= MOST_COMMANDS
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

    fn copy(&mut self, now: Now) -> bool {
        if self.copied.is_some() || !self.untold.is_empty() {
            return false;
        }
        if self.waits.is_none() {
            self.waits = self.queues.sealed.pop().map(|sealed| (sealed, now.mono_ns));
        }
        let Some((sealed, _)) = &self.waits else { return false };
        let none = self.streams.read(|state| state.cold_streams_on(self.shard)) == 0;
        if !none {
            if self.poisoned
                || now.mono_ns < self.copy_ns
                || self.bandwidth.wait_ns(now.mono_ns, sealed.end()) > 0
            {
                return false;
            }
            let (streams, shard) = (&self.streams, self.shard);
            let keep = |stream| kept(streams, shard, stream);
            let copied =
                self.store.copy(sealed.sequence(), sealed.bytes(), sealed.end(), &keep);
            if let Err(error) = copied {
                self.copy_ns = now.mono_ns + RETRY_NS;
                self.failed(Work::Copying, &error);
                return false;
            }
            self.bandwidth.moved(now.mono_ns, sealed.end());
            self.cells.count(Count::CopiedSegments, 1);
            self.cells.count(Count::CopiedBytes, sealed.end());
            self.mended(Work::Copying);
            self.note_ranges();
        }
        self.copied = self.waits.take().map(|(sealed, _)| sealed);
        self.tell();
        true
    }

    fn maintain(&mut self, now: Now) -> bool {
        if self.poisoned || now.mono_ns < self.maintain_ns || !self.untold.is_empty() {
            return false;
        }
        let allowed = self.bandwidth.allowed(now.mono_ns).min(STEP_BYTES);
        // What waits to be copied goes first: publishers may wait for it.
        if allowed < LEAST_STEP_BYTES || (self.waits.is_some() && now.mono_ns >= self.copy_ns) {
            return false;
        }
        let (streams, shard) = (&self.streams, self.shard);
        let keep = |stream| kept(streams, shard, stream);
        match self.store.maintain(now.wall_ns, &keep, allowed) {
            Ok(done) => {
                self.bandwidth.moved(now.mono_ns, done.bytes);
                self.cells.count(Count::MovedBytes, done.bytes);
                self.mended(Work::Merging);
                self.maintain_ns = if done.more { now.mono_ns } else { now.mono_ns + REST_NS };
                self.note_ranges();
                done.more
            }
            Err(error) => {
                self.maintain_ns = now.mono_ns + RETRY_NS;
                self.failed(Work::Merging, &error);
                self.note_ranges();
                false
            }
        }
    }

    /// Says what failed, once for as long as it stays the same.
    fn failed(&mut self, work: Work, error: &ColdError) {
        self.poisoned |= matches!(error, ColdError::Poisoned { .. });
        self.cells.count(Count::Errors, 1);
        let said = error.to_string();
        if self.cells.trouble(work, Some(said.clone())) {
            let waits = match work {
                Work::Copying => ": the log recycles nothing until it can be copied",
                Work::Merging | Work::Reading => "",
            };
            tracing::error!(shard = self.shard, "{} cold segments: {said}{waits}", work.name());
        }
    }

    fn mended(&mut self, work: Work) {
        if self.cells.trouble(work, None) {
            tracing::info!(shard = self.shard, "{} cold segments goes on", work.name());
        }
    }
}
