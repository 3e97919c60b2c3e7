//! What the control plane tells a shard and asks it, and the answers: plain values that travel over two
//! bounded queues.
//!
//! The shard neither allocates nor frees: boxes and vectors come in with commands and go back with replies.

use std::net::IpAddr;

use mstream_nic::Peer;
use mstream_pmem::cold::ColdRange;
use mstream_pmem::region::Level;
use mstream_pmem::sealed::Sealed;
use mstream_pmem::wal::TableFull;

use crate::shard::{PublisherEntry, StreamEntry};

/// The most rows that one report fills; the asker goes on from where it ended.
pub const REPORT_ROWS: usize = 64;

/// What the control plane may tell or ask a shard. `request` comes back with the reply.
#[derive(Debug)]
pub enum Command {
    /// A segment slot was prepared and may be used. Not answered.
    SlotReady(u32),
    /// What cold segments hold of a stream has changed. Not answered.
    ColdRange {
        /// Id of the stream.
        stream: u64,
        /// What they hold now.
        range: ColdRange,
    },
    /// A sealed segment was read and may be recycled. Not answered.
    SegmentRead(Sealed),
    /// Takes a stream on. The catalogue holds it durably before this is sent.
    CreateStream {
        /// Comes back with the reply.
        request: u64,
        /// The stream.
        entry: StreamEntry,
    },
    /// Gives a stream up, with all its messages. The catalogue has deleted it durably before this is sent.
    DeleteStream {
        /// Comes back with the reply.
        request: u64,
        /// Id of the stream.
        id: u64,
    },
    /// Lets a publisher claim lives.
    AddPublisher {
        /// Comes back with the reply.
        request: u64,
        /// The publisher.
        entry: PublisherEntry,
    },
    /// Asks for the positions of streams.
    Streams {
        /// Comes back with the reply.
        request: u64,
        /// Ids of the streams; the first [`REPORT_ROWS`] are looked at.
        ids: Vec<u64>,
        /// Room for the answer: it is never made larger.
        rows: Vec<StreamRow>,
    },
    /// Asks for sessions.
    Sessions {
        /// Comes back with the reply.
        request: u64,
        /// Session slot to begin with.
        from: u32,
        /// Room for the answer: it is never made larger.
        rows: Vec<SessionRow>,
    },
    /// Asks for subscriptions.
    Subscriptions {
        /// Comes back with the reply.
        request: u64,
        /// Place in the shard's table to begin with.
        from: u32,
        /// Room for the answer: it is never made larger.
        rows: Vec<SubscriptionRow>,
    },
}

impl Command {
    /// True if answering it is more than a look-up.
    pub(crate) fn is_report(&self) -> bool {
        matches!(
            self,
            Command::Streams { .. } | Command::Sessions { .. } | Command::Subscriptions { .. }
        )
    }
}

/// A shard's answer to a [`Command`].
#[derive(Debug)]
pub enum Reply {
    /// Clients can use the stream, or why not.
    StreamCreated {
        /// As in the command.
        request: u64,
        /// What became of it.
        result: Result<(), CreateError>,
        /// The entry's name, when the shard does not keep it.
        spare: Option<Box<str>>,
    },
    /// Clients cannot use the stream any more; its name.
    StreamDeleted {
        /// As in the command.
        request: u64,
        /// What became of it.
        result: Result<Option<Box<str>>, DeleteError>,
    },
    /// The publisher may claim lives, or why not.
    PublisherAdded {
        /// As in the command.
        request: u64,
        /// What became of it.
        result: Result<(), CreateError>,
        /// The entry's name, which the shard does not keep.
        spare: Option<Box<str>>,
    },
    /// Positions of streams: a row for each id that the shard has.
    Streams {
        /// As in the command.
        request: u64,
        /// As in the command.
        ids: Vec<u64>,
        /// The answer.
        rows: Vec<StreamRow>,
    },
    /// Sessions in the order of their slots.
    Sessions {
        /// As in the command.
        request: u64,
        /// The answer; it may be empty though more follows.
        rows: Vec<SessionRow>,
        /// Where to go on, if there may be more.
        next: Option<u32>,
    },
    /// Subscriptions in the order of the shard's table.
    Subscriptions {
        /// As in the command.
        request: u64,
        /// The answer; it may be empty though more follows.
        rows: Vec<SubscriptionRow>,
        /// Where to go on, if there may be more.
        next: Option<u32>,
    },
}

/// Why a shard does not take a stream or publisher on. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// A table has no free entry. A deleted stream counts until it is given up, which takes the longer the more
    /// records it has.
    #[error(transparent)]
    Full(#[from] TableFull),
    /// The id is used already, with another name, or cannot be one.
    #[error("the id is taken")]
    IdTaken,
    /// Another stream has the name.
    #[error("the name is taken by stream {id}")]
    NameTaken {
        /// Id of that stream.
        id: u64,
    },
    /// The shard's region promises less than the stream demands.
    #[error("the stream demands level {wants}, the shard's log has level {has}")]
    Level {
        /// The stream's minimum level.
        wants: Level,
        /// The region's level.
        has: Level,
    },
}

/// Why a stream was not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// The shard has no such stream.
    #[error("the shard has no such stream")]
    Unknown,
}

/// Positions of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRow {
    /// Stream id.
    pub id: u64,
    /// First offset that is still held, in the log or in cold segments; `next_offset` when none is.
    pub earliest_offset: u64,
    /// What cold segments hold; nothing where both ends are the same.
    pub cold: ColdRange,
    /// Offset of the next message to be stored.
    pub next_offset: u64,
    /// Offset behind the last visible message.
    pub visible_end: u64,
    /// Publications that are open.
    pub publications: u32,
    /// Subscriptions, those that stopped included.
    pub subscriptions: u32,
}

/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its slot.
    pub slot: u32,
    /// Index of the shard's port that it came by.
    pub port: usize,
    /// The other end of that port.
    pub peer: Peer,
    /// The client's address.
    pub ip: IpAddr,
    /// The client's UDP port.
    pub udp_port: u16,
    /// Publisher id; the top bit is set on anonymous ones.
    pub publisher: u64,
    /// Life of the publisher.
    pub incarnation: u64,
    /// Since its last datagram, in nanoseconds.
    pub silent_ns: u64,
    /// Publications that are open.
    pub publications: u32,
    /// Subscriptions, those that stopped included.
    pub subscriptions: u32,
    /// Bytes of blocks that it stored.
    pub published_bytes: u64,
    /// Bytes of blocks that it may have stored in all.
    pub credit_bytes: u64,
}

/// How a reader gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReaderState {
    /// Was sent everything that is visible.
    Live,
    /// Is sent from the log what it missed.
    CatchingUp,
    /// Gave no credit for more.
    NoCredit,
    /// Was told that it cannot go on and has not asked again.
    Stopped,
}

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionRow {
    /// Slot of its session.
    pub slot: u32,
    /// Index of the shard's port that it came by.
    pub port: usize,
    /// The client's address.
    pub ip: IpAddr,
    /// The client's UDP port.
    pub udp_port: u16,
    /// Stream id.
    pub stream: u64,
    /// Next offset that it will be sent.
    pub next_offset: u64,
    /// It may be sent offsets below this one.
    pub limit: u64,
    /// Offset behind the stream's last visible message.
    pub visible_end: u64,
    /// How it gets on.
    pub state: ReaderState,
}
