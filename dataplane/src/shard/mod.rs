//! The shard: one core's streams, sessions and log, as a state machine.
//!
//! Frames and the time go in, frames come out through an [`Outbox`]; there is no I/O, clock or
//! randomness inside, so production, simulator and tests drive the same code. All tables have a fixed
//! size from the start.

mod cold;
mod commands;
mod config;
mod cookie;
mod counters;
mod deliver;
mod emit;
mod ingress;
mod neighbour;
mod pending;
mod publish;
mod session;
mod setup;
mod streams;
mod subscription;
mod table;
mod timers;
mod upkeep;

use std::collections::{HashSet, VecDeque};

use mstream_nic::Frame;
use mstream_pmem::region::Region;
use mstream_pmem::wal::{RecordAt, Wal};

use crate::Outbox;
use crate::planted::{Bug, planted};
use cold::Cold;
pub use config::{
    Limits, PortAddress, PublisherEntry, ShardConfig, StartError, StreamEntry, StreamRules,
    Watermark,
};
use cookie::Secret;
pub use counters::{Counters, Refusal, Unreadable};
use pending::Pending;
use publish::Publication;
use session::Sessions;
use streams::Streams;
use subscription::Subscription;
use table::{Handle, Table};
use timers::TimerWheel;

/// The end of a list inside a table.
const NONE: u32 = u32::MAX;
/// Beat interval while something is outstanding.
const BEAT_MIN_NS: u64 = 10_000_000;
/// Beat interval of an idle session.
const BEAT_MAX_NS: u64 = 10_000_000_000;
/// Frames that one poll may send to subscriptions that lag.
const CATCH_UP_FRAMES: usize = 64;
/// Sessions whose timers one poll may handle.
const TIMERS_PER_POLL: usize = 64;
/// Records that one poll looks at for recycling: twice as many as it appended, within these bounds. Each
/// costs a cache miss, and a message that comes meanwhile waits for all of them.
const HOUSEKEEPING_RECORDS: std::ops::RangeInclusive<u64> = 2..=64;

/// The time, as handed to the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of a clock that never goes back.
    pub mono_ns: u64,
    /// Nanoseconds since 1970.
    pub wall_ns: u64,
}

/// A publisher that the catalogue names.
struct Publisher {
    id: u64,
    /// The session that owns the publisher's newest life, if one does.
    owner: u32,
    /// When its newest life was claimed, if it was since the start: a cookie of an earlier start fits nothing.
    claimed_ns: Option<u64>,
}

impl Publisher {
    fn new(id: u64) -> Publisher {
        Publisher { id, owner: NONE, claimed_ns: None }
    }
}

/// One shard over a region, exchanging frames of type `F`.
pub struct Shard<R: Region, F: Frame> {
    ports: Vec<PortAddress>,
    udp_port: u16,
    limits: Limits,
    secret: Secret,
    wal: Wal<R>,
    streams: Streams,
    publishers: Vec<Publisher>,
    sessions: Sessions,
    publications: Table<Publication>,
    subscriptions: Table<Subscription>,
    pending: Pending<F>,
    /// Sessions that are owed a frame.
    owed: Vec<u32>,
    /// Subscriptions that lag behind what is visible and have credit.
    behind: VecDeque<u32>,
    cold: Cold,
    timers: TimerWheel,
    fired: Vec<u32>,
    sessions_made: u64,
    lives_made: u32,
    anonymous_made: u32,
    persisted: u64,
    committed: u64,
    /// Lsn of the next record when segments were last looked after.
    upkept: u64,
    counters: Counters,
}

impl<R: Region, F: Frame> Shard<R, F> {
    /// A shard over an opened log. Every stream that the configuration names is registered in the
    /// log's tables; what else the log holds was deleted.
    ///
    /// # Errors
    /// When the log's tables have no room for the streams, or its region promises less than one demands.
    pub fn new(config: ShardConfig, mut wal: Wal<R>, now: Now) -> Result<Self, StartError> {
        let limits = config.limits;
        let tables = wal.table_limits();
        let catalogued: HashSet<u64> = config.streams.iter().map(|entry| entry.id).collect();
        wal.keep_streams(|id| catalogued.contains(&id))?;
        let mut streams = Streams::new(wal.stream_slots());
        for entry in config.streams {
            if let Some(wants) = entry.rules.minimum_level.filter(|wants| *wants > wal.level()) {
                return Err(StartError::Level { name: entry.name, wants, has: wal.level() });
            }
            let slot = wal.open_stream(entry.id)?;
            streams.insert(slot, entry, wal.stream(slot).next_offset);
        }
        let mut publishers = Vec::with_capacity(tables.publishers.max(config.publishers.len()));
        publishers.extend(config.publishers.iter().map(|entry| Publisher::new(entry.id)));
        publishers.sort_unstable_by_key(|publisher: &Publisher| publisher.id);
        let more = usize::from(planted(Bug::TablesTooLarge));
        let mut shard = Shard {
            ports: config.ports,
            udp_port: config.udp_port,
            secret: Secret::new(config.secret),
            persisted: wal.appended(),
            committed: wal.appended(),
            upkept: wal.appended(),
            wal,
            streams,
            publishers,
            sessions: Sessions::new(limits.sessions + more, config.secret),
            publications: Table::new(limits.publications + more),
            subscriptions: Table::new(limits.subscriptions + more),
            pending: Pending::new(limits.pending_records, limits.pending_frames),
            owed: Vec::with_capacity(limits.sessions),
            behind: VecDeque::with_capacity(limits.subscriptions),
            cold: Cold::new(Vec::new(), 0),
            timers: TimerWheel::new(limits.sessions + more, now.mono_ns),
            fired: Vec::with_capacity(TIMERS_PER_POLL),
            limits,
            sessions_made: 0,
            lives_made: 0,
            anonymous_made: 0,
            counters: Counters::default(),
        };
        // Before a session opens: a restart brings back what rules had let go.
        for index in 0..shard.streams.entries() {
            shard.expire_records(now, index, usize::MAX);
        }
        Ok(shard)
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The log.
    pub fn wal(&self) -> &Wal<R> {
        &self.wal
    }

    /// The log, for announcing slots.
    pub fn wal_mut(&mut self) -> &mut Wal<R> {
        &mut self.wal
    }

    /// Ends the shard and gives its log back.
    pub fn into_wal(self) -> Wal<R> {
        self.wal
    }

    /// Sessions that are open or opening.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Publications and subscriptions that are open.
    pub fn handles(&self) -> (usize, usize) {
        (self.publications.len(), self.subscriptions.len())
    }

    /// Subscriptions that are served from the log because they did not keep up.
    pub fn subscriptions_behind(&self) -> usize {
        self.behind.len()
    }

    /// Live streams, and deleted ones that are not given up yet.
    pub fn streams(&self) -> (usize, usize) {
        self.streams.counts()
    }

    /// Every record with an lsn below this one is on the required copies.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// True while a barrier that was issued may still complete.
    pub fn waits(&self) -> bool {
        self.persisted < self.wal.appended() && self.wal.poison().is_none()
    }

    /// Records that wait to become durable.
    pub fn records_pending(&self) -> usize {
        self.pending.len()
    }

    /// Received frames that wait for the watermark.
    pub fn frames_held(&self) -> usize {
        self.pending.frames()
    }

    /// Ends a burst: one barrier over what was appended, then the live deliveries that the watermarks
    /// allow. Returns how many frames were sent. What else is due comes with [`Shard::finish`]: a
    /// port may be flushed between the two, so that no delivery waits for an ack to be written.
    #[inline]
    pub fn complete<O: Outbox<F> + ?Sized>(&mut self, now: Now, out: &mut O) -> u64 {
        let before = self.counters.frames_out;
        self.wal.barrier();
        self.move_watermarks(now, out);
        self.counters.frames_out - before
    }

    /// Ends a burst, if [`Shard::complete`] did not do so already, and sends everything that is due:
    /// acks, deliveries to readers that lag, beats. Called once per poll, also when nothing was
    /// received. Returns how many frames were sent.
    #[inline]
    pub fn finish<O: Outbox<F> + ?Sized>(&mut self, now: Now, out: &mut O) -> u64 {
        let before = self.counters.frames_out;
        self.complete(now, out);
        // Answers first: a client cannot use what is delivered under a handle that it does not know.
        self.emit_owed(out);
        self.catch_up(now, out);
        self.ask_cold();
        self.upkeep(now);
        self.emit_owed(out);
        self.counters.frames_out - before
    }

    /// Every record with an lsn below this one has what the rule asks for.
    #[inline]
    fn watermark(&self, rule: Watermark) -> u64 {
        match rule {
            Watermark::Persisted => self.persisted,
            Watermark::Committed => self.committed,
        }
    }

    /// Records whose barrier completed become visible and acknowledged, in lsn order.
    #[inline]
    fn move_watermarks<O: Outbox<F> + ?Sized>(&mut self, now: Now, out: &mut O) {
        self.persisted = self.wal.persisted();
        if planted(Bug::AckOfAppended) {
            self.persisted = self.wal.appended();
        }
        // One node holds the one required copy: what is persisted is committed.
        self.committed = self.persisted;
        while let Some(front) = self.pending.front() {
            // In lsn order: what waits for more holds up what waits for less behind it.
            let rule = match front.what {
                pending::What::Data(data) => self.streams[data.stream].rules.watermark,
                pending::What::Life { .. } | pending::What::Opened(_) => Watermark::Committed,
            };
            let further = u64::from(planted(Bug::WatermarkOneFurther));
            if front.lsn >= self.watermark(rule) + further {
                break;
            }
            let Some(record) = self.pending.pop() else { break };
            match record.what {
                pending::What::Data(data) => {
                    self.completed(now, data, record.frame, out);
                    // One comes: up to two go, so that what is kept does not grow.
                    if self.streams[data.stream].rules.expires() {
                        self.expire_records(now, data.stream, 2);
                    }
                }
                pending::What::Life { session, token } => self.life_is_durable(session, token),
                pending::What::Opened(publication) => self.publication_is_durable(publication),
            }
        }
    }
}

impl<R: Region, F: Frame> std::fmt::Debug for Shard<R, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("udp_port", &self.udp_port)
            .field("sessions", &self.sessions.len())
            .field("streams", &self.streams.counts())
            .finish_non_exhaustive()
    }
}

/// A batch in the log, as much of it as delivery needs.
///
/// Aligned so that it is moved in whole, disjoint pieces: moves in overlapping ones wait for each other.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
struct Stored {
    publication: Handle,
    stream: u32,
    offset: u64,
    count: u16,
    publisher: u64,
    last_sequence: u64,
    at: RecordAt,
    /// Port the batch came in on, bytes of headers in front of its datagram, and the datagram's length: what
    /// delivery in place needs.
    port: usize,
    header_bytes: u8,
    datagram_bytes: u16,
}
