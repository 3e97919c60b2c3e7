//! What commands do, and what is refused.

use std::sync::Arc;

use mstream_pmem::region::Level;

use super::*;

/// Two shards, four streams on each, three publishers.
pub(super) fn configured() -> Configured {
    let shards = vec![Level::Process, Level::Pmem];
    Configured { shards, streams_per_shard: 4, publishers: 3 }
}

pub(super) fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.apply(&Command::Configure(configured())).expect("nothing is in the way");
    catalogue
}

pub(super) fn create(name: &str) -> Command {
    let (name, rules) = (name.into(), Rules::default());
    Command::CreateStream { time_ns: 5, id: None, name, shard: None, rules }
}

fn create_as(id: u64, name: &str) -> Command {
    let (name, rules) = (name.into(), Rules::default());
    Command::CreateStream { time_ns: 5, id: Some(id), name, shard: Some(0), rules }
}

pub(super) fn register(id: Option<u64>, name: &str) -> Command {
    Command::RegisterPublisher { time_ns: 6, id, name: name.into() }
}

fn delete(name: &str) -> Command {
    Command::DeleteStream(StreamKey::Name(name.into()))
}

fn created(catalogue: &mut Catalogue, command: &Command) -> Arc<Stream> {
    match catalogue.apply(command) {
        Ok(Event::StreamCreated(stream)) => stream,
        other => panic!("{command:?}: {other:?}"),
    }
}

fn refused(catalogue: &mut Catalogue, command: &Command) -> String {
    let before = format!("{catalogue:?}");
    let refusal = catalogue.apply(command).expect_err("refused").to_string();
    assert_eq!(
        catalogue.foresee(command).expect("foreseen").expect_err("too").to_string(),
        refusal
    );
    assert_eq!(format!("{catalogue:?}"), before, "nothing is changed");
    refusal
}

#[test]
fn ids_are_never_used_again_and_shards_are_filled_evenly() {
    let mut catalogue = catalogue();
    let shards: Vec<_> = ["c", "a", "b"]
        .iter()
        .map(|name| created(&mut catalogue, &create(name)))
        .map(|stream| (stream.id, stream.shard))
        .collect();
    assert_eq!(shards, [(1, 0), (2, 1), (3, 0)]);
    let Ok(Event::StreamDeleted(gone)) = catalogue.apply(&delete("b")) else { panic!("deleted") };
    assert_eq!((gone.id, &*gone.name), (3, "b"));
    assert_eq!(created(&mut catalogue, &create("b")).id, 4, "the same name, another stream");
    assert!(catalogue.stream_id_used(3) && catalogue.stream(&StreamKey::Id(3)).is_none());
}

#[test]
fn a_name_and_an_id_belong_to_one_stream() {
    let mut catalogue = catalogue();
    created(&mut catalogue, &create_as(7, "market"));
    let text = refused(&mut catalogue, &create("market"));
    assert_eq!(text, "stream `market` exists already, with id 7");
    assert_eq!(refused(&mut catalogue, &create_as(7, "other")), "id 7 is stream `market`");
    catalogue.apply(&delete("market")).expect("there");
    let text = refused(&mut catalogue, &create_as(7, "market"));
    assert_eq!(text, "id 7 was that of a deleted stream, and ids are never used again");
    assert_eq!(refused(&mut catalogue, &delete("market")), "there is no stream `market`");
    // What was skipped was never used.
    assert_eq!(created(&mut catalogue, &create_as(3, "low")).id, 3);
    assert_eq!(created(&mut catalogue, &create("next")).id, 8);
}

#[test]
fn ids_end_where_anonymous_ones_begin() {
    let mut catalogue = catalogue();
    for id in [0, ANONYMOUS, u64::MAX] {
        let text = refused(&mut catalogue, &create_as(id, "s"));
        assert_eq!(text, format!("id {id} is not in 1 to 9223372036854775807"));
        refused(&mut catalogue, &register(Some(id), "w"));
    }
    refused(&mut catalogue, &Command::ReserveStreamIds(ANONYMOUS));
    created(&mut catalogue, &create_as(ANONYMOUS - 1, "last"));
    assert!(refused(&mut catalogue, &create("more")).starts_with("no stream ids are left"));
}

#[test]
fn names_are_checked() {
    let mut catalogue = catalogue();
    for (name, reason) in [
        ("", "name: 0 bytes; a name has 1 to 255"),
        (&"x".repeat(256), "name: 256 bytes; a name has 1 to 255"),
        (&"x".repeat(64 << 10), "name: 65536 bytes; a name has 1 to 255"),
        ("a\nb", "name: a control character (U+000A) at byte 1"),
        ("a\u{7f}", "name: a control character (U+007F) at byte 1"),
        ("ä\u{85}", "name: a control character (U+0085) at byte 2"),
        (" a", "name: a name neither begins nor ends with a space"),
        ("a\u{a0}", "name: a name neither begins nor ends with a space"),
    ] {
        assert_eq!(refused(&mut catalogue, &create(name)), reason, "{name:?}");
        assert_eq!(refused(&mut catalogue, &register(None, name)), reason, "{name:?}");
    }
    created(&mut catalogue, &create(&"ü".repeat(127)));
    created(&mut catalogue, &create("a b"));
}

#[test]
fn shards_levels_rules_and_limits_are_checked() {
    let mut catalogue = catalogue();
    let with = |shard: Option<u32>, rules: Rules| Command::CreateStream {
        time_ns: 5,
        id: None,
        name: "s".into(),
        shard,
        rules,
    };
    let text = refused(&mut catalogue, &with(Some(2), Rules::default()));
    assert_eq!(text, "there is no shard 2; the node has 2, from 0");
    let pmem = Rules { minimum_level: Some(Level::Pmem), ..Rules::default() };
    let text = refused(&mut catalogue, &with(Some(0), pmem));
    assert_eq!(text, "minimum_level: pmem is demanded, and the log of shard 0 gives process");
    assert_eq!(created(&mut catalogue, &with(None, pmem)).shard, 1, "the one that gives it");
    let block = Rules { max_block_bytes: 63, ..Rules::default() };
    let text = refused(&mut catalogue, &with(None, block));
    assert_eq!(text, "max_block_bytes: 63 is not 0 or in 64 to 1344");
    for name in ["0", "1", "2", "3"] {
        created(&mut catalogue, &create_as(name.parse::<u64>().expect("a number") + 10, name));
    }
    let text = refused(&mut catalogue, &create_as(99, "more"));
    assert_eq!(text, "shard 0 has 4 streams, which is [limits] streams");
    assert_eq!(created(&mut catalogue, &create("elsewhere")).shard, 1);
}

#[test]
fn a_publisher_keeps_its_id() {
    let mut catalogue = catalogue();
    let Ok(Event::PublisherRegistered(one)) = catalogue.apply(&register(None, "feed")) else {
        panic!("registered")
    };
    for id in [None, Some(1)] {
        let known = catalogue.apply(&register(id, "feed"));
        assert_eq!(known, Ok(Event::PublisherKnown(Arc::clone(&one))));
    }
    let text = refused(&mut catalogue, &register(Some(2), "feed"));
    assert_eq!(text, "publisher `feed` exists already, with id 1");
    assert_eq!(refused(&mut catalogue, &register(Some(1), "x")), "id 1 is publisher `feed`");
    for name in ["b", "c"] {
        catalogue.apply(&register(None, name)).expect("room");
    }
    let text = refused(&mut catalogue, &register(None, "d"));
    assert_eq!(text, "there are 3 publishers, which is [limits] publishers");
}

#[test]
fn what_is_there_stands_in_the_way_of_smaller_shards_and_limits() {
    let mut catalogue = catalogue();
    for name in ["a", "b", "c"] {
        created(&mut catalogue, &create(name));
        catalogue.apply(&register(None, name)).expect("room");
    }
    let strict = Rules { minimum_level: Some(Level::Pmem), ..Rules::default() };
    let name = "strict".into();
    created(
        &mut catalogue,
        &Command::CreateStream { time_ns: 0, id: None, name, shard: Some(1), rules: strict },
    );
    for (change, reason) in [
        (
            Configured { shards: vec![Level::Process], ..configured() },
            "2 streams are on shard 1, such as `b`, but the node has 1 shards",
        ),
        (
            Configured { streams_per_shard: 1, ..configured() },
            "[limits] streams, on shard 0: there are 2 already, and the limit is 1",
        ),
        (
            Configured { publishers: 2, ..configured() },
            "[limits] publishers: there are 3 already, and the limit is 2",
        ),
        (
            Configured { shards: vec![Level::Pmem, Level::MediaSync], ..configured() },
            "stream `strict` (id 4) demands level pmem, and the log of shard 1 gives media-sync",
        ),
    ] {
        assert_eq!(refused(&mut catalogue, &Command::Configure(change)), reason);
    }
    let wider = Configured { shards: vec![Level::Pmem; 3], ..configured() };
    catalogue.apply(&Command::Configure(wider)).expect("nothing is in the way");
    assert_eq!(created(&mut catalogue, &create("d")).shard, 2);
}

#[test]
fn pages_follow_the_order_of_names() {
    let mut catalogue = Catalogue::default();
    let wide = Configured { shards: vec![Level::Process], streams_per_shard: 99, publishers: 0 };
    catalogue.apply(&Command::Configure(wide)).expect("nothing is in the way");
    for name in ["b2", "a", "b1", "b", "c", "b3", "\u{10ffff}"] {
        created(&mut catalogue, &create(name));
    }
    let page = |prefix: &str, after: &str, most| {
        let (page, more) = catalogue.stream_page(prefix, after, most);
        (page.iter().map(|stream| stream.name.to_string()).collect::<Vec<_>>().join(" "), more)
    };
    assert_eq!(page("", "", 3), ("a b b1".to_string(), true));
    assert_eq!(page("", "b1", 3), ("b2 b3 c".to_string(), true));
    assert_eq!(page("", "c", 3), ("\u{10ffff}".to_string(), false));
    assert_eq!(page("b", "", 4), ("b b1 b2 b3".to_string(), false));
    assert_eq!(page("b", "", 2), ("b b1".to_string(), true));
    assert_eq!(page("b", "b2", 2), ("b3".to_string(), false));
    assert_eq!(page("b", "a", 1), ("b".to_string(), true));
    assert_eq!(page("b", "x", 1), (String::new(), false));
    assert_eq!(page("nothing", "", 1), (String::new(), false));
    assert_eq!(page("", "", 0), (String::new(), true));
}

#[test]
fn reserved_ids_are_skipped() {
    let mut catalogue = catalogue();
    catalogue.apply(&Command::ReserveStreamIds(40)).expect("sane");
    assert_eq!(created(&mut catalogue, &create("s")).id, 41);
    assert!(catalogue.stream_id_used(1));
}
