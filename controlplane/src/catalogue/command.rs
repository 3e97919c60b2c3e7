//! Commands, what they bring about, and the values they are made of.

use std::fmt;
use std::sync::Arc;

use mstream_pmem::region::Level;

/// When a message becomes visible and acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watermark {
    /// A barrier of the region's level covers it on this node.
    Persisted,
    /// Persisted on the required copies.
    #[default]
    Committed,
}

/// The rules of a stream. 0 always means: no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// When a message becomes visible and acknowledged.
    pub watermark: Watermark,
    /// The least level its shard's region must give.
    pub minimum_level: Option<Level>,
    /// Bytes of records that the stream keeps at most.
    pub retention_bytes: u64,
    /// Age in milliseconds that records reach at most.
    pub retention_ms: u64,
    /// Largest block in bytes.
    pub max_block_bytes: u32,
    /// Publications that may be open at a time.
    pub max_publications: u32,
    /// Subscriptions that may be open at a time.
    pub max_subscriptions: u32,
    /// Cold segments keep what the hot log recycles.
    pub cold: bool,
    /// Cold segments keep of each key the newest message only. Such a stream is cold.
    pub newest_per_key: bool,
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Id: from 1, never used again, below [`super::ANONYMOUS`].
    pub id: u64,
    /// Name.
    pub name: Box<str>,
    /// Number of its shard.
    pub shard: u32,
    /// Its rules.
    pub rules: Rules,
    /// When it was created, in nanoseconds since 1970.
    pub created_ns: u64,
}

/// A publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// Id: from 1, never used again, below [`super::ANONYMOUS`].
    pub id: u64,
    /// Name.
    pub name: Box<str>,
    /// When it was registered, in nanoseconds since 1970.
    pub created_ns: u64,
}

/// What commands are checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Level of each shard's region.
    pub shards: Vec<Level>,
    /// Streams that a shard may have.
    pub streams_per_shard: u64,
    /// Publishers that there may be: each of them may use every shard.
    pub publishers: u64,
}

/// A stream by id or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamKey {
    /// By id.
    Id(u64),
    /// By name.
    Name(Box<str>),
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamKey::Id(id) => write!(f, "id {id}"),
            StreamKey::Name(name) => write!(f, "`{name}`"),
        }
    }
}

/// A change of the catalogue. Whatever is not the same everywhere, such as the time, is part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets what later commands are checked against.
    Configure(Configured),
    /// Creates a stream.
    CreateStream {
        /// Now, in nanoseconds since 1970.
        time_ns: u64,
        /// Its id; `None`: the next one.
        id: Option<u64>,
        /// Its name.
        name: Box<str>,
        /// Its shard; `None`: the one with the fewest streams, of those the lowest.
        shard: Option<u32>,
        /// Its rules.
        rules: Rules,
    },
    /// Deletes a stream.
    DeleteStream(StreamKey),
    /// Gives a name its id. A name that has one keeps it.
    RegisterPublisher {
        /// Now, in nanoseconds since 1970.
        time_ns: u64,
        /// Its id; `None`: the next one.
        id: Option<u64>,
        /// Its name.
        name: Box<str>,
    },
    /// Counts all ids of streams up to this one as used: logs know them.
    ReserveStreamIds(u64),
}

/// What a command brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Later commands are checked against other shards and limits.
    Configured,
    /// There is a new stream.
    StreamCreated(Arc<Stream>),
    /// This stream is no more.
    StreamDeleted(Arc<Stream>),
    /// There is a new publisher.
    PublisherRegistered(Arc<Publisher>),
    /// The name had an id already.
    PublisherKnown(Arc<Publisher>),
    /// Ids up to this one are used.
    StreamIdsReserved(u64),
}
