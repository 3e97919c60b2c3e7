//! What stands inside a record of the journal, and its translation (docs/catalogue-format.md).

use mstream_pmem::region::Level;

use super::state::Catalogue;
use super::{ANONYMOUS, Command, Configured, Rules, StreamKey, Watermark, check_name};

/// Streams or publishers in one part of a snapshot.
const FACTS_ENTRIES: usize = 10_000;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    #[prost(oneof = "one_of::Content", tags = "1, 2")]
    pub(super) content: Option<one_of::Content>,
}

pub(super) mod one_of {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(in super::super) enum Content {
        #[prost(message, tag = "1")]
        Batch(super::Batch),
        #[prost(message, tag = "2")]
        Facts(super::Facts),
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(in super::super) enum Command {
        #[prost(message, tag = "1")]
        Configure(super::Configure),
        #[prost(message, tag = "2")]
        CreateStream(super::CreateStream),
        #[prost(message, tag = "3")]
        DeleteStream(super::DeleteStream),
        #[prost(message, tag = "4")]
        RegisterPublisher(super::RegisterPublisher),
        #[prost(message, tag = "5")]
        ReserveStreamIds(super::ReserveStreamIds),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Batch {
    #[prost(message, repeated, tag = "1")]
    pub(super) commands: Vec<CommandRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CommandRecord {
    #[prost(oneof = "one_of::Command", tags = "1, 2, 3, 4, 5")]
    pub(super) command: Option<one_of::Command>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Configure {
    #[prost(uint32, repeated, tag = "1")]
    shard_levels: Vec<u32>,
    #[prost(uint64, tag = "2")]
    streams_per_shard: u64,
    #[prost(uint64, tag = "3")]
    publishers: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CreateStream {
    #[prost(uint64, tag = "1")]
    time_ns: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, optional, tag = "3")]
    shard: Option<u32>,
    #[prost(message, optional, tag = "4")]
    rules: Option<RulesRecord>,
    #[prost(uint64, tag = "5")]
    id: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct RulesRecord {
    #[prost(uint32, tag = "1")]
    watermark: u32,
    #[prost(uint32, tag = "2")]
    minimum_level: u32,
    #[prost(uint64, tag = "3")]
    retention_bytes: u64,
    #[prost(uint64, tag = "4")]
    retention_ms: u64,
    #[prost(uint32, tag = "5")]
    max_block_bytes: u32,
    #[prost(uint32, tag = "6")]
    max_publications: u32,
    #[prost(uint32, tag = "7")]
    max_subscriptions: u32,
    #[prost(bool, tag = "8")]
    cold: bool,
    #[prost(bool, tag = "9")]
    newest_per_key: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DeleteStream {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RegisterPublisher {
    #[prost(uint64, tag = "1")]
    time_ns: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    id: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct ReserveStreamIds {
    #[prost(uint64, tag = "1")]
    up_to: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Facts {
    #[prost(message, optional, tag = "1")]
    configured: Option<Configure>,
    #[prost(message, repeated, tag = "2")]
    used_streams: Vec<Ids>,
    #[prost(message, repeated, tag = "3")]
    used_publishers: Vec<Ids>,
    #[prost(message, repeated, tag = "4")]
    streams: Vec<StreamRecord>,
    #[prost(message, repeated, tag = "5")]
    publishers: Vec<PublisherRecord>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Ids {
    #[prost(uint64, tag = "1")]
    first: u64,
    #[prost(uint64, tag = "2")]
    last: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StreamRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    shard: u32,
    #[prost(message, optional, tag = "4")]
    rules: Option<RulesRecord>,
    #[prost(uint64, tag = "5")]
    created_ns: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PublisherRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    created_ns: u64,
}

/// The level with this number.
fn level(number: u32) -> Result<Level, String> {
    [Level::Process, Level::PmemEmulated, Level::MediaSync, Level::Pmem]
        .into_iter()
        .find(|level| *level as u32 == number)
        .ok_or_else(|| format!("unknown level {number}"))
}

impl From<&Configured> for Configure {
    fn from(configured: &Configured) -> Configure {
        Configure {
            shard_levels: configured.shards.iter().map(|level| *level as u32).collect(),
            streams_per_shard: configured.streams_per_shard,
            publishers: configured.publishers,
        }
    }
}

impl Configure {
    fn decode(self) -> Result<Configured, String> {
        Ok(Configured {
            shards: self.shard_levels.into_iter().map(level).collect::<Result<_, _>>()?,
            streams_per_shard: self.streams_per_shard,
            publishers: self.publishers,
        })
    }
}

impl From<&Rules> for RulesRecord {
    fn from(rules: &Rules) -> RulesRecord {
        RulesRecord {
            watermark: match rules.watermark {
                Watermark::Persisted => 1,
                Watermark::Committed => 2,
            },
            minimum_level: rules.minimum_level.map_or(0, |level| level as u32),
            retention_bytes: rules.retention_bytes,
            retention_ms: rules.retention_ms,
            max_block_bytes: rules.max_block_bytes,
            max_publications: rules.max_publications,
            max_subscriptions: rules.max_subscriptions,
            cold: rules.cold,
            newest_per_key: rules.newest_per_key,
        }
    }
}

impl RulesRecord {
    fn decode(self) -> Result<Rules, String> {
        Ok(Rules {
            watermark: match self.watermark {
                1 => Watermark::Persisted,
                2 => Watermark::Committed,
                other => return Err(format!("unknown watermark {other}")),
            },
            minimum_level: match self.minimum_level {
                0 => None,
                number => Some(level(number)?),
            },
            retention_bytes: self.retention_bytes,
            retention_ms: self.retention_ms,
            max_block_bytes: self.max_block_bytes,
            max_publications: self.max_publications,
            max_subscriptions: self.max_subscriptions,
            cold: self.cold || self.newest_per_key,
            newest_per_key: self.newest_per_key,
        })
    }
}

fn rules(record: Option<RulesRecord>) -> Result<Rules, String> {
    record.ok_or("a stream without rules")?.decode()
}

impl From<&Command> for CommandRecord {
    fn from(command: &Command) -> CommandRecord {
        let command = match command {
            Command::Configure(configured) => one_of::Command::Configure(configured.into()),
            Command::CreateStream { time_ns, id, name, shard, rules } => {
                one_of::Command::CreateStream(CreateStream {
                    time_ns: *time_ns,
                    name: name.to_string(),
                    shard: *shard,
                    rules: Some(rules.into()),
                    id: id.unwrap_or(0),
                })
            }
            Command::DeleteStream(key) => one_of::Command::DeleteStream(match key {
                StreamKey::Id(id) => DeleteStream { id: *id, name: String::new() },
                StreamKey::Name(name) => DeleteStream { id: 0, name: name.to_string() },
            }),
            Command::RegisterPublisher { time_ns, id, name } => {
                one_of::Command::RegisterPublisher(RegisterPublisher {
                    time_ns: *time_ns,
                    name: name.to_string(),
                    id: id.unwrap_or(0),
                })
            }
            Command::ReserveStreamIds(up_to) => {
                one_of::Command::ReserveStreamIds(ReserveStreamIds { up_to: *up_to })
            }
        };
        CommandRecord { command: Some(command) }
    }
}

impl CommandRecord {
    /// The command.
    pub(super) fn decode(self) -> Result<Command, String> {
        Ok(match self.command.ok_or("a command that this version does not know")? {
            one_of::Command::Configure(configure) => Command::Configure(configure.decode()?),
            one_of::Command::CreateStream(create) => Command::CreateStream {
                time_ns: create.time_ns,
                id: (create.id != 0).then_some(create.id),
                name: create.name.into(),
                shard: create.shard,
                rules: rules(create.rules)?,
            },
            one_of::Command::DeleteStream(delete) => Command::DeleteStream(match delete.id {
                0 => StreamKey::Name(delete.name.into()),
                id => StreamKey::Id(id),
            }),
            one_of::Command::RegisterPublisher(register) => Command::RegisterPublisher {
                time_ns: register.time_ns,
                id: (register.id != 0).then_some(register.id),
                name: register.name.into(),
            },
            one_of::Command::ReserveStreamIds(reserve) => Command::ReserveStreamIds(reserve.up_to),
        })
    }
}

/// The parts of a snapshot of `catalogue`.
pub(super) fn snapshot(catalogue: &Catalogue) -> impl Iterator<Item = Facts> + '_ {
    let ids = |ranges: &mut dyn Iterator<Item = (u64, u64)>| {
        ranges.map(|(first, last)| Ids { first, last }).collect()
    };
    let head = Facts {
        configured: Some((&catalogue.configured).into()),
        used_streams: ids(&mut catalogue.streams.used.ranges()),
        used_publishers: ids(&mut catalogue.publishers.used.ranges()),
        ..Facts::default()
    };
    let mut streams = catalogue.streams.all().map(|stream| StreamRecord {
        id: stream.id,
        name: stream.name.to_string(),
        shard: stream.shard,
        rules: Some((&stream.rules).into()),
        created_ns: stream.created_ns,
    });
    let mut publishers = catalogue.publishers.all().map(|publisher| PublisherRecord {
        id: publisher.id,
        name: publisher.name.to_string(),
        created_ns: publisher.created_ns,
    });
    let rest = std::iter::from_fn(move || {
        let streams: Vec<_> = streams.by_ref().take(FACTS_ENTRIES).collect();
        let publishers: Vec<_> = publishers.by_ref().take(FACTS_ENTRIES).collect();
        let empty = streams.is_empty() && publishers.is_empty();
        (!empty).then_some(Facts { streams, publishers, ..Facts::default() })
    });
    std::iter::once(head).chain(rest)
}

impl Facts {
    /// Adds a part of a snapshot to `catalogue`. What contradicts itself is damage.
    pub(super) fn restore(self, catalogue: &mut Catalogue) -> Result<(), String> {
        if let Some(configured) = self.configured {
            catalogue.configured = configured.decode()?;
        }
        for (ids, used) in [
            (self.used_streams, &mut catalogue.streams.used),
            (self.used_publishers, &mut catalogue.publishers.used),
        ] {
            for Ids { first, last } in ids {
                if first == 0 || first > last || last >= ANONYMOUS {
                    return Err(format!("ids {first} to {last}"));
                }
                used.add(first, last);
            }
        }
        let check = |id: u64, name: &str, taken: bool| {
            check_name(name).map_err(|error| format!("id {id}: name: {error}"))?;
            match id == 0 || id >= ANONYMOUS || taken {
                true => Err(format!("id {id} (`{name}`) occurs twice or cannot be")),
                false => Ok(()),
            }
        };
        for stream in self.streams {
            let StreamRecord { id, name, shard, rules: stream_rules, created_ns } = stream;
            let table = &catalogue.streams;
            check(id, &name, table.by_id(id).is_some() || table.by_name(&name).is_some())?;
            if shard as usize >= catalogue.configured.shards.len() {
                return Err(format!("stream {id} on shard {shard}"));
            }
            let (name, rules) = (name.into(), rules(stream_rules)?);
            catalogue.take_stream(super::Stream { id, name, shard, rules, created_ns });
        }
        for PublisherRecord { id, name, created_ns } in self.publishers {
            let table = &catalogue.publishers;
            check(id, &name, table.by_id(id).is_some() || table.by_name(&name).is_some())?;
            let name = name.into();
            catalogue.publishers.insert(super::Publisher { id, name, created_ns });
        }
        Ok(())
    }
}
