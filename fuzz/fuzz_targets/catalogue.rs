//! Any admin commands into the catalogue: it does what it foresees, a refusal changes nothing, ids are never used again,
//! limits hold, and whoever applies the same commands has the same catalogue.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use mstream_controlplane::catalogue::{Catalogue, Command, Configured, Event, Rules, StreamKey};
use mstream_pmem::region::Level;

const SHARDS: u32 = 2;

/// The next byte, 0 when there are no more.
fn next(bytes: &mut &[u8]) -> u8 {
    let Some((first, rest)) = bytes.split_first() else { return 0 };
    *bytes = rest;
    *first
}

/// Short names of few letters, so that they meet again; now and then one that cannot be a name.
fn name(bytes: &mut &[u8]) -> Box<str> {
    let byte = next(bytes);
    match byte {
        0xf0.. => "\u{7}".repeat(usize::from(byte)).into(),
        byte => format!("{}{}", char::from(b'a' + byte % 3), byte / 3 % 4).into(),
    }
}

fn rules(bytes: &mut &[u8]) -> Rules {
    let (block, level, kept) = (next(bytes), next(bytes), next(bytes));
    Rules {
        max_block_bytes: u32::from(block) * 16,
        minimum_level: Level::from_number(level % 6),
        retention_bytes: u64::from(kept >> 2 & 3) << 20,
        retention_ms: u64::from(kept >> 4 & 3) * 1000,
        // The one implies the other wherever rules come in.
        cold: kept & 3 != 0,
        newest_per_key: kept & 2 != 0,
        ..Rules::default()
    }
}

fn command(bytes: &mut &[u8]) -> Command {
    let how = next(bytes);
    let id = (how & 0x10 != 0).then(|| u64::from(next(bytes)).wrapping_sub(u64::from(how >> 7)));
    let time_ns = u64::from(how);
    match how & 7 {
        0..=2 => Command::CreateStream {
            time_ns,
            id,
            name: name(bytes),
            shard: (how & 0x20 != 0).then(|| u32::from(next(bytes)) % (SHARDS + 1)),
            rules: rules(bytes),
        },
        3 => Command::DeleteStream(StreamKey::Name(name(bytes))),
        4 => Command::DeleteStream(StreamKey::Id(next(bytes).into())),
        5 => Command::RegisterPublisher { time_ns, id, name: name(bytes) },
        6 => Command::ReserveStreamIds(next(bytes).into()),
        _ => Command::Configure(Configured {
            shards: vec![Level::Process; usize::from(next(bytes)) % 4],
            streams_per_shard: u64::from(next(bytes)) % 8,
            publishers: u64::from(next(bytes)) % 8,
        }),
    }
}

/// What there is, told in one text.
fn told(catalogue: &Catalogue) -> String {
    let (streams, _) = catalogue.stream_page("", "", usize::MAX);
    let (publishers, _) = catalogue.publisher_page("", "", usize::MAX);
    format!("{streams:?} {publishers:?} {:?}", catalogue.configured())
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes;
    let (mut catalogue, mut again) = (Catalogue::default(), Catalogue::default());
    let configured = Configured {
        shards: vec![Level::Process; SHARDS as usize],
        streams_per_shard: 4,
        publishers: 4,
    };
    let first = Command::Configure(configured);
    assert!(catalogue.apply(&first).is_ok() && again.apply(&first).is_ok());
    let mut used = HashSet::new();
    while !bytes.is_empty() {
        let command = command(&mut bytes);
        let foreseen = catalogue.foresee(&command);
        // Telling all is most of the work.
        let before = foreseen.is_some().then(|| told(&catalogue)).unwrap_or_default();
        let outcome = catalogue.apply(&command);
        match foreseen {
            Some(foreseen) => {
                assert_eq!(format!("{foreseen:?}"), format!("{outcome:?}"), "{command:?}");
                assert_eq!(before, told(&catalogue), "it was to change nothing: {command:?}");
            }
            None => assert!(outcome.is_ok(), "{command:?}: {outcome:?}"),
        }
        match outcome {
            Ok(event) => {
                if let Event::StreamCreated(stream) = &event {
                    assert!(used.insert(stream.id), "stream id {} was used before", stream.id);
                }
                assert!(again.apply(&command).is_ok());
            }
            Err(refusal) => assert!(refusal.to_string().len() < 1024, "{refusal}"),
        }
        for stream in catalogue.all_streams() {
            assert!(catalogue.stream_id_used(stream.id));
            let by_name = catalogue.stream(&StreamKey::Name(stream.name.clone()));
            assert_eq!(by_name.map(|found| found.id), Some(stream.id));
        }
        let on_shards: u64 = (0..4).map(|shard| catalogue.streams_on(shard)).sum();
        assert_eq!(on_shards, catalogue.streams() as u64);
        let limits = catalogue.configured();
        assert!(catalogue.publishers() as u64 <= limits.publishers);
        assert!((0..4).all(|shard| catalogue.streams_on(shard) <= limits.streams_per_shard));
    }
    assert_eq!(told(&catalogue), told(&again));
});
