//! Sequences of commands against a model, and through a file.

use std::collections::{BTreeMap, HashSet};

use mstream_pmem::region::Level;
use proptest::prelude::*;

use super::*;

const SHARDS: u32 = 3;
const STREAMS_PER_SHARD: u64 = 4;
const PUBLISHERS: u64 = 4;

/// What the catalogue says, said in the plainest way.
#[derive(Default)]
struct Model {
    streams: BTreeMap<String, (u64, u32)>,
    publishers: BTreeMap<String, u64>,
    stream_ids: HashSet<u64>,
    publisher_ids: HashSet<u64>,
}

fn next(ids: &HashSet<u64>) -> u64 {
    ids.iter().max().map_or(1, |id| id + 1)
}

impl Model {
    fn on(&self, shard: u32) -> u64 {
        self.streams.values().filter(|(_, other)| *other == shard).count() as u64
    }

    /// True if the command is to succeed; it is then applied.
    fn apply(&mut self, command: &Command) -> bool {
        match command {
            Command::CreateStream { id, name, shard, .. } => {
                let id = id.unwrap_or_else(|| next(&self.stream_ids));
                let shard = shard.unwrap_or_else(|| {
                    (0..SHARDS).min_by_key(|shard| self.on(*shard)).expect("some")
                });
                let fine = !name.is_empty()
                    && !self.streams.contains_key(&**name)
                    && !self.stream_ids.contains(&id)
                    && shard < SHARDS
                    && self.on(shard) < STREAMS_PER_SHARD;
                if fine {
                    self.stream_ids.insert(id);
                    self.streams.insert(name.to_string(), (id, shard));
                }
                fine
            }
            Command::DeleteStream(StreamKey::Name(name)) => self.streams.remove(&**name).is_some(),
            Command::DeleteStream(StreamKey::Id(id)) => {
                let before = self.streams.len();
                self.streams.retain(|_, (other, _)| other != id);
                self.streams.len() < before
            }
            Command::RegisterPublisher { id, name, .. } => {
                if let Some(known) = self.publishers.get(&**name) {
                    return id.is_none_or(|id| id == *known);
                }
                let id = id.unwrap_or_else(|| next(&self.publisher_ids));
                let fine = !name.is_empty()
                    && !self.publisher_ids.contains(&id)
                    && (self.publishers.len() as u64) < PUBLISHERS;
                if fine {
                    self.publisher_ids.insert(id);
                    self.publishers.insert(name.to_string(), id);
                }
                fine
            }
            Command::ReserveStreamIds(up_to) => {
                self.stream_ids.extend(1..=*up_to);
                true
            }
            Command::Configure(_) => true,
        }
    }
}

fn names() -> impl Strategy<Value = Box<str>> {
    "[a-e]{0,2}".prop_map(String::into_boxed_str)
}

fn commands() -> impl Strategy<Value = Command> {
    let id = || proptest::option::weighted(0.3, 1_u64..20);
    prop_oneof![
        6 => (names(), id(), proptest::option::of(0..SHARDS + 1), 0_u64..9).prop_map(
            |(name, id, shard, time_ns)| {
                Command::CreateStream { time_ns, id, name, shard, rules: Rules::default() }
            }
        ),
        3 => names().prop_map(|name| Command::DeleteStream(StreamKey::Name(name))),
        1 => (1_u64..20).prop_map(|id| Command::DeleteStream(StreamKey::Id(id))),
        3 => (names(), id(), 0_u64..9)
            .prop_map(|(name, id, time_ns)| Command::RegisterPublisher { time_ns, id, name }),
        1 => (1_u64..12).prop_map(Command::ReserveStreamIds),
    ]
}

fn compare(catalogue: &Catalogue, model: &Model) {
    let (page, more) = catalogue.stream_page("", "", usize::MAX);
    let streams: Vec<_> =
        page.iter().map(|stream| (stream.name.to_string(), (stream.id, stream.shard))).collect();
    assert!(!more);
    assert_eq!(streams, model.streams.clone().into_iter().collect::<Vec<_>>());
    let (page, _) = catalogue.publisher_page("", "", usize::MAX);
    let publishers: Vec<_> =
        page.iter().map(|publisher| (publisher.name.to_string(), publisher.id)).collect();
    assert_eq!(publishers, model.publishers.clone().into_iter().collect::<Vec<_>>());
    for id in 0..32 {
        assert_eq!(catalogue.stream_id_used(id), model.stream_ids.contains(&id), "{id}");
    }
    for shard in 0..SHARDS {
        assert_eq!(catalogue.streams_on(shard), model.on(shard));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_commands_does_what_the_model_says(
        batches in proptest::collection::vec(proptest::collection::vec(commands(), 1..6), 1..16),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || FileJournal::open(Directory::new(dir.path())).expect("sound");
        let (journal, catalogue, _) = open();
        let keeper = Keeper::new(catalogue, journal);
        let shards = vec![Level::Process; SHARDS as usize];
        keeper
            .change(&[Command::Configure(Configured {
                shards,
                streams_per_shard: STREAMS_PER_SHARD,
                publishers: PUBLISHERS,
            })])
            .expect("durable");
        let mut model = Model::default();
        for batch in &batches {
            let outcomes = keeper.change(batch).expect("durable");
            for (command, outcome) in batch.iter().zip(&outcomes) {
                prop_assert_eq!(outcome.is_ok(), model.apply(command), "{:?}: {:?}", command, outcome);
            }
            keeper.read(|catalogue| compare(catalogue, &model));
        }
        // What is read again is the same, and so is what a snapshot gives.
        let (_, again, _) = open();
        keeper.read(|catalogue| assert_eq!(format!("{again:?}"), format!("{catalogue:?}")));
        let mut restored = Catalogue::default();
        for facts in record::snapshot(&again) {
            facts.restore(&mut restored).expect("sound");
        }
        compare(&restored, &model);
        prop_assert_eq!(restored.snapshot_bytes(), again.snapshot_bytes());
    }
}
