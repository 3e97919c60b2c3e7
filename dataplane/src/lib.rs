//! The data plane: one shard per core, as a state machine without I/O, and the loop that polls it.

mod cold;
mod control;
mod outbox;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
mod poll;
mod poll_times;
mod shard;
mod status;
mod write_rate;

pub use cold::{
    ColdAnswer, ColdAsker, ColdFound, ColdLink, ColdQueues, ColdRequest, ColdStreams, ColdWatch,
    ColdWork, ColdWorker,
};
pub use control::{
    Command, CreateError, DeleteError, REPORT_ROWS, ReaderState, Reply, SessionRow, StreamRow,
    SubscriptionRow,
};
pub use outbox::Outbox;
pub use poll::{Clock, Idle, PollLoop, TscClock};
pub use poll_times::PollTimes;
pub use shard::{
    Counters, Limits, Now, PortAddress, PublisherEntry, Refusal, Shard, ShardConfig, StartError,
    StreamEntry, StreamRules, Unreadable, Watermark,
};
pub use status::{LogStatus, Status};
