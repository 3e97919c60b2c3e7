//! The state machine.

use std::sync::Arc;

use mstream_pmem::region::Level;

use super::table::Table;
use super::{
    ANONYMOUS, Command, Configured, Event, Kind, Publisher, Refusal, Rules, Stream, StreamKey,
    check_name,
};
use crate::config::MAX_BLOCK_BYTES;

/// The least that a stream may limit its blocks to: a message of a few bytes fits.
const LEAST_BLOCK_BYTES: u32 = 64;
/// What an entry takes in a journal beside its name.
const ENTRY_BYTES: u64 = 40;

/// All streams and publishers. Commands change it, and nothing else does: whoever applies the same commands has
/// the same catalogue.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    pub(super) configured: Configured,
    pub(super) streams: Table<Stream>,
    pub(super) publishers: Table<Publisher>,
    /// Streams of each shard that has any, and the cold ones among them.
    on_shard: Vec<u64>,
    cold_on_shard: Vec<u64>,
}

/// A command that was checked: what is left to be done.
enum Planned {
    Configure(Configured),
    Create(Stream),
    Delete(u64),
    Register(Publisher),
    Known(Arc<Publisher>),
    Reserve(u64),
}

impl Catalogue {
    /// Applies one command.
    ///
    /// # Errors
    /// Why it was refused; nothing is changed then.
    pub fn apply(&mut self, command: &Command) -> Result<Event, Refusal> {
        Ok(match self.plan(command)? {
            Planned::Configure(configured) => {
                self.configured = configured;
                Event::Configured
            }
            Planned::Create(stream) => Event::StreamCreated(self.take_stream(stream)),
            Planned::Delete(id) => {
                let Some(stream) = self.streams.remove(id) else {
                    return Err(Refusal::NoStream(StreamKey::Id(id)));
                };
                self.on_shard[stream.shard as usize] -= 1;
                self.cold_on_shard[stream.shard as usize] -= u64::from(stream.rules.cold);
                Event::StreamDeleted(stream)
            }
            Planned::Register(publisher) => {
                Event::PublisherRegistered(self.publishers.insert(publisher))
            }
            Planned::Known(publisher) => Event::PublisherKnown(publisher),
            Planned::Reserve(up_to) => {
                self.streams.used.add(1, up_to);
                Event::StreamIdsReserved(up_to)
            }
        })
    }

    /// The outcome of a command that would change nothing; `None` for one that would.
    pub fn foresee(&self, command: &Command) -> Option<Result<Event, Refusal>> {
        match self.plan(command) {
            Err(refusal) => Some(Err(refusal)),
            Ok(Planned::Known(publisher)) => Some(Ok(Event::PublisherKnown(publisher))),
            Ok(Planned::Configure(configured)) if configured == self.configured => {
                Some(Ok(Event::Configured))
            }
            Ok(_) => None,
        }
    }

    fn plan(&self, command: &Command) -> Result<Planned, Refusal> {
        match command {
            Command::Configure(configured) => {
                self.check_configured(configured)?;
                Ok(Planned::Configure(configured.clone()))
            }
            Command::CreateStream { time_ns, id, name, shard, rules } => {
                check_name(name)?;
                check_rules(rules)?;
                let id = free(&self.streams, Kind::Stream, *id, name)?;
                let shard = self.shard_for(*shard, rules)?;
                let (name, rules, created_ns) = (name.clone(), *rules, *time_ns);
                Ok(Planned::Create(Stream { id, name, shard, rules, created_ns }))
            }
            Command::DeleteStream(key) => {
                if let StreamKey::Name(name) = key {
                    // What cannot be a name is not repeated in the answer, however long it is.
                    check_name(name)?;
                }
                match self.stream(key) {
                    Some(stream) => Ok(Planned::Delete(stream.id)),
                    None => Err(Refusal::NoStream(key.clone())),
                }
            }
            Command::RegisterPublisher { time_ns, id, name } => {
                check_name(name)?;
                if let Some(known) = self.publishers.by_name(name)
                    && id.is_none_or(|id| id == known.id)
                {
                    return Ok(Planned::Known(Arc::clone(known)));
                }
                let id = free(&self.publishers, Kind::Publisher, *id, name)?;
                let limit = self.configured.publishers;
                if self.publishers.len() as u64 >= limit {
                    return Err(Refusal::PublishersFull { limit });
                }
                Ok(Planned::Register(Publisher { id, name: name.clone(), created_ns: *time_ns }))
            }
            Command::ReserveStreamIds(up_to) => {
                check_id(Some(*up_to))?;
                Ok(Planned::Reserve(*up_to))
            }
        }
    }

    fn check_configured(&self, configured: &Configured) -> Result<(), Refusal> {
        for (shard, streams) in (0..).zip(self.on_shard.iter().copied()) {
            if streams > 0 && shard as usize >= configured.shards.len() {
                let first = self.streams.all().find(|stream| stream.shard == shard);
                let name = first.map(|stream| stream.name.clone()).unwrap_or_default();
                let shards = configured.shards.len();
                return Err(Refusal::ShardGone { shard, streams, name, shards });
            }
            if streams > configured.streams_per_shard {
                let what = format!("[limits] streams, on shard {shard}");
                let limit = configured.streams_per_shard;
                return Err(Refusal::LimitTooLow { what, found: streams, limit });
            }
        }
        let found = self.publishers.len() as u64;
        if found > configured.publishers {
            let what = "[limits] publishers".to_string();
            return Err(Refusal::LimitTooLow { what, found, limit: configured.publishers });
        }
        if configured.shards != self.configured.shards {
            for stream in self.streams.all() {
                let given = configured.shards[stream.shard as usize];
                if let Some(wanted) = stream.rules.minimum_level.filter(|wanted| *wanted > given) {
                    let (name, id, shard) = (stream.name.clone(), stream.id, stream.shard);
                    return Err(Refusal::LevelGone { name, id, shard, given, wanted });
                }
            }
        }
        Ok(())
    }

    /// The shard of a new stream: the one asked for, or the one with the fewest.
    fn shard_for(&self, asked: Option<u32>, rules: &Rules) -> Result<u32, Refusal> {
        let shard = asked.unwrap_or_else(|| self.least_used(rules.minimum_level));
        let Some(given) = self.configured.shards.get(shard as usize).copied() else {
            return Err(Refusal::NoShard { shard, shards: self.configured.shards.len() });
        };
        if let Some(wanted) = rules.minimum_level.filter(|wanted| *wanted > given) {
            return Err(Refusal::Level { shard, given, wanted });
        }
        let limit = self.configured.streams_per_shard;
        match self.streams_on(shard) < limit {
            true => Ok(shard),
            false => Err(Refusal::ShardFull { shard, limit }),
        }
    }

    /// Takes in a stream that was checked.
    pub(super) fn take_stream(&mut self, stream: Stream) -> Arc<Stream> {
        let shard = stream.shard as usize;
        if self.on_shard.len() <= shard {
            self.on_shard.resize(shard + 1, 0);
            self.cold_on_shard.resize(shard + 1, 0);
        }
        self.on_shard[shard] += 1;
        self.cold_on_shard[shard] += u64::from(stream.rules.cold);
        self.streams.insert(stream)
    }

    /// The shard with the fewest streams that gives `level`; the first where none does.
    fn least_used(&self, level: Option<Level>) -> u32 {
        (0..)
            .zip(&self.configured.shards)
            .filter(|(_, given)| level.is_none_or(|wanted| wanted <= **given))
            .map(|(shard, _)| shard)
            .min_by_key(|shard| (self.streams_on(*shard), *shard))
            .unwrap_or(0)
    }

    /// What commands are checked against.
    pub fn configured(&self) -> &Configured {
        &self.configured
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// How many streams shard `shard` has.
    pub fn streams_on(&self, shard: u32) -> u64 {
        self.on_shard.get(shard as usize).copied().unwrap_or(0)
    }

    /// How many cold streams shard `shard` has.
    pub fn cold_streams_on(&self, shard: u32) -> u64 {
        self.cold_on_shard.get(shard as usize).copied().unwrap_or(0)
    }

    /// How many publishers there are.
    pub fn publishers(&self) -> usize {
        self.publishers.len()
    }

    /// The stream with this id or name.
    pub fn stream(&self, key: &StreamKey) -> Option<&Arc<Stream>> {
        match key {
            StreamKey::Id(id) => self.streams.by_id(*id),
            StreamKey::Name(name) => self.streams.by_name(name),
        }
    }

    /// The publisher with this id.
    pub fn publisher(&self, id: u64) -> Option<&Arc<Publisher>> {
        self.publishers.by_id(id)
    }

    /// True if a stream ever had this id.
    pub fn stream_id_used(&self, id: u64) -> bool {
        self.streams.used.contains(id)
    }

    /// All streams in the order of their ids.
    pub fn all_streams(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.streams.all()
    }

    /// All publishers in the order of their ids.
    pub fn all_publishers(&self) -> impl Iterator<Item = &Arc<Publisher>> {
        self.publishers.all()
    }

    /// At most `most` streams whose names begin with `prefix` and come after `after`, in the order of names, and
    /// whether there are more.
    pub fn stream_page(&self, prefix: &str, after: &str, most: usize) -> (Vec<Arc<Stream>>, bool) {
        self.streams.page(prefix, after, most)
    }

    /// As [`Catalogue::stream_page`], of publishers.
    pub fn publisher_page(
        &self,
        prefix: &str,
        after: &str,
        most: usize,
    ) -> (Vec<Arc<Publisher>>, bool) {
        self.publishers.page(prefix, after, most)
    }

    /// About how many bytes a snapshot of it takes.
    pub fn snapshot_bytes(&self) -> u64 {
        let entries = (self.streams.len() + self.publishers.len()) as u64;
        entries * ENTRY_BYTES + self.streams.name_bytes() + self.publishers.name_bytes()
    }
}

fn check_id(id: Option<u64>) -> Result<(), Refusal> {
    match id {
        Some(id) if id == 0 || id >= ANONYMOUS => Err(Refusal::IdOutOfRange(id)),
        _ => Ok(()),
    }
}

/// The id of a new entry, if name and id are free.
fn free<T: super::table::Entry>(
    table: &Table<T>,
    kind: Kind,
    id: Option<u64>,
    name: &str,
) -> Result<u64, Refusal> {
    check_id(id)?;
    if let Some(taken) = table.by_name(name) {
        return Err(Refusal::NameTaken { kind, name: name.into(), id: taken.id() });
    }
    let Some(id) = id else {
        return table.used.next().ok_or(Refusal::NoIdsLeft(kind));
    };
    if let Some(taken) = table.by_id(id) {
        return Err(Refusal::IdTaken { kind, id, name: taken.name().into() });
    }
    match table.used.contains(id) {
        true => Err(Refusal::IdUsed { kind, id }),
        false => Ok(id),
    }
}

fn check_rules(rules: &Rules) -> Result<(), Refusal> {
    let most = MAX_BLOCK_BYTES as u32;
    match rules.max_block_bytes {
        0 => Ok(()),
        found if (LEAST_BLOCK_BYTES..=most).contains(&found) => Ok(()),
        found => Err(Refusal::BlockBytes { found, least: LEAST_BLOCK_BYTES, most }),
    }
}
