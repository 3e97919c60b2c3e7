//! Bugs planted in the product's own code, each of which the invariants must catch. Debug builds with the feature `planted`
//! alone.

use mstream_client::planted as client;
use mstream_dataplane::planted as dataplane;
use mstream_pmem::planted as pmem;

use crate::parts::Honest;
use crate::world::{Failure, Run, run};

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// In the shard.
    Shard(dataplane::Bug),
    /// In the client.
    Client(client::Bug),
    /// In the log.
    Log(pmem::Bug),
}

/// Bugs of the log that need no more than what a world does; its other ones are for the persistence model's own tests.
const LOG: [pmem::Bug; 24] = [
    pmem::Bug::AckBeforeFence,
    pmem::Bug::NoFence,
    pmem::Bug::BarrierOffByOne,
    pmem::Bug::HeaderBeforeRoll,
    pmem::Bug::HeaderCopiesTogether,
    pmem::Bug::RecordsBeforeHeader,
    pmem::Bug::HeaderNotFlushed,
    pmem::Bug::HeaderNotSynced,
    pmem::Bug::GenerationReused,
    pmem::Bug::NotSettled,
    pmem::Bug::HalfHeaderLeft,
    pmem::Bug::EpochNotIncreased,
    pmem::Bug::WipeBeforeFence,
    pmem::Bug::WipeNotFlushed,
    pmem::Bug::RecycledTooEarly,
    pmem::Bug::StartForgetsFirst,
    pmem::Bug::StreamNotRestated,
    pmem::Bug::SequenceNotRestated,
    pmem::Bug::LifeNotRestated,
    pmem::Bug::RebootUnnoticed,
    pmem::Bug::ColdNotSettled,
    pmem::Bug::ColdContradicted,
    pmem::Bug::FooterWithoutLast,
    pmem::Bug::FootersNotSearched,
];

impl Bug {
    /// All of them.
    pub fn all() -> Vec<Bug> {
        let shard = dataplane::Bug::ALL.iter().map(|bug| Bug::Shard(*bug));
        let client = client::Bug::ALL.iter().map(|bug| Bug::Client(*bug));
        shard.chain(client).chain(LOG.map(Bug::Log)).collect()
    }

    /// The bug with this name, whatever its case.
    pub fn named(name: &str) -> Option<Bug> {
        Bug::all().into_iter().find(|bug| bug.to_string().eq_ignore_ascii_case(name))
    }

    /// Plants it in all that this thread does from now on, and no other.
    pub fn plant(bug: Option<Bug>) {
        let (mut shard, mut of_client, mut log) = (None, None, None);
        match bug {
            Some(Bug::Shard(bug)) => shard = Some(bug),
            Some(Bug::Client(bug)) => of_client = Some(bug),
            Some(Bug::Log(bug)) => log = Some(bug),
            None => {}
        }
        dataplane::plant(shard);
        client::plant(of_client);
        pmem::plant(log);
    }
}

impl std::fmt::Display for Bug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bug::Shard(bug) => write!(f, "shard-{bug:?}"),
            Bug::Client(bug) => write!(f, "client-{bug:?}"),
            Bug::Log(bug) => write!(f, "log-{bug:?}"),
        }
    }
}

/// Plays up to `seeds` seeds from `first` on with a bug planted, until one fails.
pub fn hunt(bug: Bug, first: Run, seeds: u64) -> Option<Box<Failure>> {
    Bug::plant(Some(bug));
    let found =
        (first.seed..first.seed + seeds).find_map(|seed| run(Run { seed, ..first }, Honest).err());
    Bug::plant(None);
    found
}
