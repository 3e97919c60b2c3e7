//! Reading from cold segments: what a shard asks their reader, and what comes back. Plain values that travel over two
//! bounded queues; the pages come from the shard and go back to it.

mod worker;

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use mstream_nic::Frame;
use mstream_pmem::cold::{ColdFrom, ColdPage};
use mstream_pmem::region::Region;

pub use worker::{ColdQueues, ColdStreams, ColdWatch, ColdWork, ColdWorker};

use crate::control::Command;
use crate::shard::Shard;

/// What a shard wants read.
#[derive(Debug)]
pub struct ColdRequest {
    /// Who asks: comes back with the answer.
    pub asker: ColdAsker,
    /// Id of the stream.
    pub stream: u64,
    /// Where to begin.
    pub from: ColdFrom,
    /// Where to put it.
    pub page: ColdPage,
}

/// Who asked, by which an answer finds back. An answer that nobody waits for any more is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdAsker {
    /// Handle of the subscription.
    pub(crate) subscription: u32,
    /// Number of the request.
    pub(crate) number: u64,
    /// Place of the page among the shard's.
    pub(crate) place: u32,
}

/// What came of a [`ColdRequest`].
#[derive(Debug)]
pub struct ColdAnswer {
    /// As in the request.
    pub asker: ColdAsker,
    /// What was found.
    pub found: ColdFound,
    /// The page of the request, whatever was found.
    pub page: ColdPage,
}

/// What a reader of cold segments found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdFound {
    /// It stands in the page.
    Page,
    /// There is nothing: the stream's cold segments end before that.
    Nothing,
    /// Damage: offsets from where the read was to begin up to `to` cannot be read.
    Damaged {
        /// Offset behind them.
        to: u64,
    },
    /// It could not be read, for a reason that has nothing to do with the place.
    Failed,
}

impl ColdRequest {
    /// The request's answer.
    pub fn answer(self, found: ColdFound) -> ColdAnswer {
        ColdAnswer { asker: self.asker, found, page: self.page }
    }
}

/// The way between a shard and the reader of its cold segments. Each queue has a place for every page that the shard
/// has, so neither is ever full.
#[derive(Clone, Debug)]
pub struct ColdLink {
    /// What the shard asks.
    pub requests: Arc<ArrayQueue<ColdRequest>>,
    /// What the reader answers.
    pub answers: Arc<ArrayQueue<ColdAnswer>>,
}

impl ColdLink {
    /// Queues for a shard with `pages` pages.
    pub fn new(pages: usize) -> ColdLink {
        let places = pages.max(1);
        ColdLink {
            requests: Arc::new(ArrayQueue::new(places)),
            answers: Arc::new(ArrayQueue::new(places)),
        }
    }

    /// Moves what waits both ways.
    #[inline]
    pub(crate) fn exchange<R: Region, F: Frame>(
        &self,
        shard: &mut Shard<R, F>,
        commands: &ArrayQueue<Command>,
    ) {
        // As with commands, looking is cheaper than popping. What ranges changed before an answer was made is taken
        // into account first.
        if !self.answers.is_empty() && commands.is_empty() {
            while let Some(answer) = self.answers.pop() {
                shard.cold_answer(answer);
            }
        }
        while let Some(request) = shard.next_cold_request() {
            let pushed = self.requests.push(request);
            debug_assert!(pushed.is_ok(), "there are as many places as pages");
        }
    }
}
