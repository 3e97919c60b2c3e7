//! The admin API: gRPC and plain HTTP on one port.
//!
//! The catalogue is the truth: what it committed is handed to the shards until they answer. Shards are reached
//! through [`Shards`], which the binary implements over their queues.

mod catalogue_service;
mod changes;
mod connections;
mod convert;
mod errors;
mod http;
mod node_service;
mod pages;
mod server;
mod shards;
mod starting;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mstream_admin::v1;
use tokio::sync::watch;

use crate::catalogue::{Catalogue, Keeper, StreamKey};
use crate::config::Source;

pub use convert::level as convert_level;
pub use errors::Errors;
pub use server::serve;
pub use shards::{Answer, Page, Shards};
pub use starting::{Stage, serve_start};

/// How long an answer of a shard is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Items of one call, and of one page, at most.
const MOST_ITEMS: usize = 10_000;
/// Items of a page whose size is not said.
const PAGE_ITEMS: usize = 1_000;
/// Bytes of one request at most.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// What the admin API answers from.
#[derive(Clone)]
pub struct Admin {
    /// Streams and publishers.
    pub keeper: Arc<Keeper>,
    /// The shards.
    pub shards: Arc<dyn Shards>,
    /// What went wrong since the start.
    pub errors: Arc<Errors>,
    /// The configuration's file.
    pub source: Arc<Source>,
    /// True from when the node was told to stop.
    pub stopping: watch::Receiver<bool>,
}

impl Admin {
    /// One moment of the node.
    pub fn status(&self) -> v1::Status {
        let (streams, publishers) =
            self.keeper.read(|state| (state.streams() as u64, state.publishers() as u64));
        let catalogue_condition = self.keeper.closed().unwrap_or_default();
        let time_ns = now_ns();
        let mut status = self.shards.status();
        self.keeper.read(|state| {
            for unreadable in status.shards.iter_mut().filter_map(|shard| shard.unreadable.as_mut())
            {
                for place in [&mut unreadable.first, &mut unreadable.last].into_iter().flatten() {
                    place.stream = stream_name(state, place.stream_id);
                }
            }
        });
        v1::Status { streams, publishers, catalogue_condition, time_ns, ..status }
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// A stream's name; empty if there is none of this id.
fn stream_name(state: &Catalogue, id: u64) -> String {
    state.stream(&StreamKey::Id(id)).map(|found| found.name.to_string()).unwrap_or_default()
}

/// Nanoseconds since 1970.
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
