//! The catalogue at start: its file, and what the configuration and the logs add to it.

use mstream_controlplane::Config;
use mstream_controlplane::catalogue::{
    Configured, Directory, FileJournal, Keeper, directory_for, take_configured,
};
use mstream_dataplane::{PublisherEntry, StreamEntry};
use mstream_pmem::prepare::DirLock;
use mstream_pmem::region::Level;

use crate::{Failure, snapshot};

/// An opened catalogue. Nobody else uses its directory while the lock lives.
pub(crate) struct Opened {
    pub(crate) keeper: Keeper,
    /// Of its directory, unless that is the log's.
    pub(crate) lock: Option<DirLock>,
}

/// Opens the catalogue of a node whose shards' logs have these levels and know these streams.
pub(crate) fn open(
    config: &Config,
    levels: Vec<Level>,
    known_streams: &[u64],
    time_ns: u64,
) -> Result<Opened, Failure> {
    let dir = directory_for(config);
    let lock = match dir == config.wal.dir {
        true => None,
        false => Some(DirLock::take(&dir).map_err(|error| format!("catalogue: {error}"))?),
    };
    let (journal, state, recovered) =
        FileJournal::open(Directory::new(&dir)).map_err(|error| format!("catalogue: {error}"))?;
    let dir = dir.display();
    if recovered.cut_bytes > 0 {
        let bytes = recovered.cut_bytes;
        tracing::warn!("catalogue in {dir}: {bytes} bytes of an interrupted write were cut off");
    }
    let keeper = Keeper::new(state, journal);
    let configured = Configured {
        shards: levels,
        streams_per_shard: config.limits.streams as u64,
        publishers: config.limits.publishers as u64,
    };
    let unknown = take_configured(&keeper, config, configured, known_streams, time_ns)?;
    if unknown > 0 {
        tracing::warn!(
            "catalogue in {dir}: the logs hold {unknown} streams that it never knew; they count as \
             deleted"
        );
    }
    let (streams, publishers) = keeper.read(|state| (state.streams(), state.publishers()));
    let what = if recovered.new { "new" } else { "read" };
    tracing::info!("catalogue in {dir}: {what}; {streams} streams, {publishers} publishers");
    Ok(Opened { keeper, lock })
}

/// Streams and publishers that shard `shard` begins with.
pub(crate) fn entries(keeper: &Keeper, shard: u32) -> (Vec<StreamEntry>, Vec<PublisherEntry>) {
    keeper.read(|state| {
        let streams = state.all_streams().filter(|stream| stream.shard == shard);
        let publishers = state.all_publishers();
        (
            streams.map(|stream| snapshot::stream_entry(stream)).collect(),
            publishers
                .map(|publisher| PublisherEntry { id: publisher.id, name: publisher.name.clone() })
                .collect(),
        )
    })
}
