//! Why a command changes nothing.

use mstream_pmem::region::Level;

use super::{ANONYMOUS, NameError, StreamKey};

/// Stream or publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stream.
    Stream,
    /// A publisher.
    Publisher,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Stream => "stream",
            Kind::Publisher => "publisher",
        })
    }
}

/// Why a command was refused. The state is what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name cannot be one.
    #[error("name: {0}")]
    Name(#[from] NameError),
    /// Another one has the name.
    #[error("{kind} `{name}` exists already, with id {id}")]
    NameTaken {
        /// Of what.
        kind: Kind,
        /// The name.
        name: Box<str>,
        /// The id that it has.
        id: u64,
    },
    /// Another one has the id.
    #[error("id {id} is {kind} `{name}`")]
    IdTaken {
        /// Of what.
        kind: Kind,
        /// The id.
        id: u64,
        /// The name that has it.
        name: Box<str>,
    },
    /// The id was used once; ids are never used again.
    #[error("id {id} was that of a deleted {kind}, and ids are never used again")]
    IdUsed {
        /// Of what.
        kind: Kind,
        /// The id.
        id: u64,
    },
    /// No id can be this one.
    #[error("id {0} is not in 1 to {max}", max = ANONYMOUS - 1)]
    IdOutOfRange(u64),
    /// The counter reached its end.
    #[error("no {0} ids are left: one near their end was used")]
    NoIdsLeft(Kind),
    /// There is no such shard.
    #[error("there is no shard {shard}; the node has {shards}, from 0")]
    NoShard {
        /// The one asked for.
        shard: u32,
        /// How many there are.
        shards: usize,
    },
    /// The shard's region gives less than the stream demands.
    #[error("minimum_level: {wanted} is demanded, and the log of shard {shard} gives {given}")]
    Level {
        /// The shard.
        shard: u32,
        /// What it gives.
        given: Level,
        /// What is demanded.
        wanted: Level,
    },
    /// A rule cannot be.
    #[error("max_block_bytes: {found} is not 0 or in {least} to {most}")]
    BlockBytes {
        /// What was asked for.
        found: u32,
        /// The least that is of use.
        least: u32,
        /// The most that a datagram has room for.
        most: u32,
    },
    /// The shard has as many streams as it may.
    #[error("shard {shard} has {limit} streams, which is [limits] streams")]
    ShardFull {
        /// The shard.
        shard: u32,
        /// The limit.
        limit: u64,
    },
    /// There are as many publishers as there may be.
    #[error("there are {limit} publishers, which is [limits] publishers")]
    PublishersFull {
        /// The limit.
        limit: u64,
    },
    /// There is no such stream.
    #[error("there is no stream {0}")]
    NoStream(StreamKey),
    /// A node without this shard cannot serve its streams.
    #[error(
        "{streams} streams are on shard {shard}, such as `{name}`, but the node has {shards} shards"
    )]
    ShardGone {
        /// The shard.
        shard: u32,
        /// How many streams it has.
        streams: u64,
        /// One of them.
        name: Box<str>,
        /// How many shards there are to be.
        shards: usize,
    },
    /// A limit below what there is.
    #[error("{what}: there are {found} already, and the limit is {limit}")]
    LimitTooLow {
        /// Which limit, of what.
        what: String,
        /// How many there are.
        found: u64,
        /// The limit that was to be.
        limit: u64,
    },
    /// A stream demands more than its shard's region gives now.
    #[error(
        "stream `{name}` (id {id}) demands level {wanted}, and the log of shard {shard} gives {given}"
    )]
    LevelGone {
        /// The stream.
        name: Box<str>,
        /// Its id.
        id: u64,
        /// Its shard.
        shard: u32,
        /// What the shard's region gives.
        given: Level,
        /// What the stream demands.
        wanted: Level,
    },
}
