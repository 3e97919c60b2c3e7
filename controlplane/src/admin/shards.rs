//! What the admin API asks of shards.

use mstream_admin::v1;
use tokio::sync::oneshot;

use crate::catalogue::{Publisher, Stream};

/// A shard's answer, when it comes. It never comes when the node stops first.
pub type Answer<T> = oneshot::Receiver<T>;

/// Rows of a report, and where it goes on if there may be more.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows; there may be none though more follow.
    pub rows: Vec<T>,
    /// Where to go on.
    pub next: Option<u32>,
}

/// The shards of the node. Each call has queued its question when it returns, whether or not anybody waits for
/// the answer; a shard sees the changes of its streams in the order of the calls.
pub trait Shards: Send + Sync + 'static {
    /// How many there are.
    fn count(&self) -> u32;

    /// Changes that shard `shard` has not answered yet.
    fn unanswered(&self, shard: u32) -> usize;

    /// Lets clients of its shard use `stream`. A repeat is a success.
    fn create_stream(&self, stream: &Stream) -> Answer<Result<(), v1::Failure>>;

    /// Ends all use of the stream. One that the shard does not have is a success.
    fn delete_stream(&self, shard: u32, id: u64) -> Answer<Result<(), v1::Failure>>;

    /// Lets `publisher` claim lives on shard `shard`. A repeat is a success.
    fn add_publisher(&self, shard: u32, publisher: &Publisher) -> Answer<Result<(), v1::Failure>>;

    /// Positions of a stream; `None` when the shard does not have it.
    fn positions(&self, shard: u32, id: u64) -> Answer<Option<v1::StreamPositions>>;

    /// Sessions of shard `shard` from slot `from` on, without the names of their publishers; as many as one report
    /// has, at most `most`.
    fn sessions(&self, shard: u32, from: u32, most: usize) -> Answer<Page<v1::Session>>;

    /// Subscriptions of shard `shard`, without the names of their streams, in the same way.
    fn subscriptions(&self, shard: u32, from: u32, most: usize) -> Answer<Page<v1::Backlog>>;

    /// The node and its shards as they publish themselves, without the catalogue's counts.
    fn status(&self) -> v1::Status;

    /// For each shard a number that grows as long as it polls.
    fn pulses(&self) -> Vec<u64>;
}
