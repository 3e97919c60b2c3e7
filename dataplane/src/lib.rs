//! The data plane: one shard per core, as a state machine without I/O, and the loop that polls it.

mod outbox;
mod poll;
mod shard;
mod status;

pub use outbox::Outbox;
pub use poll::{Clock, Command, Idle, PollLoop, TscClock};
pub use shard::{
    Counters, Limits, Now, PortAddress, PublisherEntry, Refusal, Shard, ShardConfig, StreamEntry,
};
pub use status::Status;
