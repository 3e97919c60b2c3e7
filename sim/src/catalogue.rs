//! The streams of a world, as the control plane would know them: whatever it says is durable before the shard hears of it.

use mstream_dataplane::{ColdStreams, StreamEntry, StreamRules};
use mstream_pmem::cold::Keep;

use crate::random::Random;

/// Streams that there may be at a time, beside those that are being given up.
pub(crate) const MOST_STREAMS: usize = 3;

/// Stream ids are 1 and up; publisher ids too.
pub(crate) fn stream_name(stream: u32) -> String {
    format!("stream-{stream}")
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: u32,
    rules: StreamRules,
    /// What it keeps in cold segments.
    keep: Option<Keep>,
    /// The shard has it.
    ready: bool,
}

/// The live streams.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    live: Vec<Known>,
}

impl Catalogue {
    /// A new stream; `keep` says that it is cold, and what it keeps then.
    pub(crate) fn create(
        &mut self,
        id: u32,
        keep: Option<Keep>,
        random: &mut Random,
    ) -> StreamEntry {
        // More than one burst stores: what is dropped was looked at before.
        let bytes = random.within(64..=160) * 1024;
        let retention_bytes = if random.one_in(4) { bytes } else { 0 };
        // From what lies between two polls to more than a world lasts, unless the wall clock jumps.
        let age = random.size(16..=65_536);
        let retention_ms = if random.one_in(4) { age } else { 0 };
        let rules = match keep {
            Some(_) => StreamRules { cold: true, ..StreamRules::default() },
            None => StreamRules { retention_bytes, retention_ms, ..StreamRules::default() },
        };
        self.live.push(Known { id, rules, keep, ready: false });
        self.entry(self.live.len() - 1)
    }

    pub(crate) fn delete(&mut self, id: u32) {
        self.live.retain(|live| live.id != id);
    }

    /// The shard has it, or all that there are.
    pub(crate) fn is_ready(&mut self, id: Option<u32>) {
        for live in self.live.iter_mut().filter(|live| id.is_none_or(|id| id == live.id)) {
            live.ready = true;
        }
    }

    fn ready(&self) -> impl Iterator<Item = u32> {
        self.live.iter().filter(|live| live.ready).map(|live| live.id)
    }

    /// Streams that clients may use.
    pub(crate) fn usable(&self) -> usize {
        self.ready().count()
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// One of the streams that clients may use.
    pub(crate) fn any(&self, random: &mut Random) -> u32 {
        let at = random.below(self.usable() as u64) as usize;
        self.ready().nth(at).unwrap_or_default()
    }

    fn entry(&self, at: usize) -> StreamEntry {
        let Known { id, rules, .. } = self.live[at];
        StreamEntry { id: id.into(), name: stream_name(id).into(), rules }
    }

    pub(crate) fn entries(&self) -> Vec<StreamEntry> {
        (0..self.live.len()).map(|at| self.entry(at)).collect()
    }
}

impl ColdStreams for Catalogue {
    fn any(&self) -> bool {
        self.live.iter().any(|live| live.keep.is_some())
    }

    fn keep(&self, stream: u64) -> Option<Keep> {
        self.live.iter().find(|live| u64::from(live.id) == stream)?.keep
    }
}
