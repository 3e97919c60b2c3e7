//! Streams that come and go while a shard runs, and their rules.
#![expect(clippy::print_stdout, reason = "a test says what a stream takes")]

mod common;

use common::{Client, STREAM, World, limits, start};
use mstream_dataplane::{
    Command, CreateError, DeleteError, Now, ReaderState, Reply, StreamEntry, StreamRow, StreamRules,
};
use mstream_pmem::sim::SimRegion;
use mstream_wire::{Code, LAST_ROUND, NO_HANDLE, Unsubscribe};

const NOW: Now = Now { mono_ns: 1_000_000_000, wall_ns: 1_700_000_000_000_000_000 };
const NEW: u64 = 8;

fn create(world: &mut World, id: u64, name: &str, rules: StreamRules) -> Result<(), CreateError> {
    let entry = StreamEntry { id, name: name.into(), rules };
    let reply = world.shard.command(world.now, Command::CreateStream { request: 5, entry });
    match reply {
        Some(Reply::StreamCreated { request: 5, result, spare }) => {
            assert!(result.is_ok() || spare.as_deref() == Some(name), "the name comes back");
            result
        }
        other => panic!("{other:?}"),
    }
}

fn delete(world: &mut World, id: u64) -> Result<Option<Box<str>>, DeleteError> {
    match world.shard.command(world.now, Command::DeleteStream { request: 6, id }) {
        Some(Reply::StreamDeleted { request: 6, result }) => result,
        other => panic!("{other:?}"),
    }
}

fn positions(world: &mut World, id: u64) -> Option<StreamRow> {
    let (ids, rows) = (vec![id], Vec::with_capacity(1));
    match world.shard.command(world.now, Command::Streams { request: 7, ids, rows }) {
        Some(Reply::Streams { request: 7, rows, .. }) => rows.first().copied(),
        other => panic!("{other:?}"),
    }
}

/// A session with a publication of the named stream; its handle.
fn publisher(world: &mut World, client: &mut Client, name: &str) -> u32 {
    world.open(client);
    let open = client.open_stream(1, name.as_bytes());
    world.exchange(client, &open);
    client.streams.last().expect("an answer").handle.get()
}

fn subscribe(world: &mut World, client: &mut Client, stream: u64, request: u32) {
    let frame = client.subscribe_to(stream, request, 0, 0, 1000);
    world.exchange(client, &frame);
}

#[test]
fn a_stream_that_is_created_can_be_used_at_once_and_over_a_restart() {
    let mut world = World::new();
    assert_eq!(create(&mut world, NEW, "orders", StreamRules::NONE), Ok(()));
    assert_eq!(create(&mut world, NEW, "orders", StreamRules::NONE), Ok(()), "a repeat");
    assert_eq!(create(&mut world, NEW, "other", StreamRules::NONE), Err(CreateError::IdTaken));
    let taken = Err(CreateError::NameTaken { id: NEW });
    assert_eq!(create(&mut world, 99, "orders", StreamRules::NONE), taken);
    assert_eq!(create(&mut world, 0, "zero", StreamRules::NONE), Err(CreateError::IdTaken));
    for id in 9..11 {
        assert_eq!(create(&mut world, id, &format!("s{id}"), StreamRules::NONE), Ok(()));
    }
    let full = create(&mut world, 11, "s11", StreamRules::NONE);
    assert!(matches!(full, Err(CreateError::Full(full)) if full.limit == 4), "{full:?}");

    let (mut out, mut reader) = (Client::claiming(1001, 1), Client::new(1002));
    let handle = publisher(&mut world, &mut out, "orders");
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, NEW, 1);
    let batch = out.publish(handle, 1, 1, &[b"a", b"b"]);
    world.exchange(&mut out, &batch);
    world.deliver(&mut reader);
    assert_eq!(out.ack().committed.get(), 2);
    assert_eq!(reader.delivered.len(), 1);
    let row = positions(&mut world, NEW).expect("known");
    assert_eq!((row.earliest_offset, row.next_offset, row.visible_end), (0, 2, 2));
    assert_eq!((row.publications, row.subscriptions), (1, 1));
    assert_eq!(positions(&mut world, 12), None);

    // The catalogue of the next start names it.
    let region = world.shard.into_wal().into_region().after_kill();
    let entries = vec![common::entry(NEW, "orders")];
    let mut world = common::start_entries(region, 8, limits(), world.now, entries);
    assert_eq!(positions(&mut world, NEW).map(|row| row.next_offset), Some(2));
}

#[test]
fn who_uses_a_deleted_stream_is_told_and_nobody_else() {
    let mut world = World::new();
    create(&mut world, NEW, "orders", StreamRules::NONE).expect("room");
    let (mut out, mut reader) = (Client::claiming(1001, 1), Client::new(1002));
    let handle = publisher(&mut world, &mut out, "orders");
    let open = out.open_stream(2, b"trades");
    world.exchange(&mut out, &open);
    let kept = out.streams.last().expect("an answer").handle.get();
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, NEW, 1);
    subscribe(&mut world, &mut reader, STREAM, 2);
    let batch = out.publish(handle, 1, 1, &[b"a"]);
    world.exchange(&mut out, &batch);
    world.deliver(&mut reader);
    let gone = reader.subscribed[0].handle;
    (reader.delivered, reader.subscribed) = Default::default();

    assert_eq!(delete(&mut world, NEW), Ok(Some("orders".into())));
    assert_eq!(delete(&mut world, NEW), Err(DeleteError::Unknown));
    // What is published in the same burst is not taken.
    let late = out.publish(handle, 2, 1, &[b"b"]);
    world.exchange(&mut out, &late);
    world.deliver(&mut reader);
    let ack = *out.ack();
    assert_eq!((ack.handle.get(), ack.round.get()), (handle, LAST_ROUND));
    assert_eq!((ack.code.get(), ack.committed.get()), (Code::UnknownStream as u16, 0));
    let told = reader.subscribed.pop().expect("the reader is told");
    assert_eq!((told.code.get(), told.handle, told.stream.get()), (7, gone, NEW));
    assert_eq!((told.start.get(), told.earliest.get(), told.end.get()), (0, 0, 0));
    assert!(reader.delivered.is_empty());
    // Said again whenever it is tried, and at beat times.
    out.acks.clear();
    let again = out.publish(handle, 2, 1, &[b"b"]);
    world.exchange(&mut out, &again);
    assert_eq!(out.ack().round.get(), LAST_ROUND);
    for _ in 0..12 {
        world.pass(10_000_000);
        world.finish();
    }
    world.deliver(&mut reader);
    assert!(reader.subscribed.iter().any(|said| said.handle == gone && said.code.get() == 7));
    // The other stream goes on.
    let batch = out.publish(kept, 1, 1, &[b"c"]);
    world.exchange(&mut out, &batch);
    world.deliver(&mut reader);
    assert_eq!((out.ack().handle.get(), out.ack().committed.get()), (kept, 1));
    assert_eq!(reader.delivered.len(), 1);
    // Nobody finds it, by id or by name.
    let open = out.open_stream(3, b"orders");
    world.exchange(&mut out, &open);
    assert_eq!(out.streams.last().expect("an answer").code.get(), Code::UnknownStream as u16);
    subscribe(&mut world, &mut reader, NEW, 1);
    let refused = reader.subscribed.last().expect("an answer");
    assert_eq!((refused.code.get(), refused.handle), (7, gone));
    assert_eq!(world.shard.handles(), (1, 2), "it is told until it gives the subscription up");
    let give_up = reader.datagram(|writer| {
        writer.unsubscribe(&Unsubscribe { head: Unsubscribe::HEAD, handle: gone });
    });
    world.exchange(&mut reader, &give_up);
    subscribe(&mut world, &mut reader, NEW, 1);
    let refused = reader.subscribed.last().expect("an answer");
    assert_eq!((refused.code.get(), refused.handle.get()), (7, NO_HANDLE));
    assert_eq!(world.shard.handles(), (1, 1), "nothing is kept for it");
    assert_eq!(world.shard.streams(), (1, 0));
    // A new stream of that name is another one.
    create(&mut world, 9, "orders", StreamRules::NONE).expect("room");
    let open = out.open_stream(3, b"orders");
    world.exchange(&mut out, &open);
    let opened = out.streams.last().expect("an answer");
    assert_eq!((opened.code.get(), opened.stream.get(), opened.sequence.get()), (0, 9, 0));
    let batch = out.publish(opened.handle.get(), 1, 1, &[b"d"]);
    world.exchange(&mut out, &batch);
    assert_eq!(positions(&mut world, 9).map(|row| row.next_offset), Some(1));
}

#[test]
fn records_that_wait_for_their_barrier_complete_without_harm() {
    // Barriers complete ten polls later.
    let mut world = start(SimRegion::new(8, common::SEGMENT, 10), 8, limits(), NOW);
    create(&mut world, NEW, "orders", StreamRules::NONE).expect("room");
    let (mut out, mut reader) = (Client::new(1001), Client::new(1002));
    let handle = publisher(&mut world, &mut out, "orders");
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, NEW, 1);
    for sequence in 1..=3 {
        let batch = out.publish(handle, sequence, 1, &[b"waits"]);
        world.exchange(&mut out, &batch);
    }
    assert_eq!(out.ack().committed.get(), 0);
    assert_eq!(delete(&mut world, NEW), Ok(Some("orders".into())));
    world.finish();
    assert_eq!(world.shard.streams(), (1, 1), "its records still wait");
    assert!(world.shard.frames_held() > 0);
    // Its place is not another stream's before that.
    for id in 20..22 {
        create(&mut world, id, &format!("s{id}"), StreamRules::NONE).expect("room");
    }
    let full = create(&mut world, 22, "s22", StreamRules::NONE);
    assert!(matches!(full, Err(CreateError::Full(_))), "{full:?}");
    for _ in 0..30 {
        world.finish();
    }
    world.deliver(&mut out);
    world.deliver(&mut reader);
    assert_eq!(world.shard.streams(), (3, 0));
    assert_eq!(world.shard.frames_held(), 0);
    assert!(reader.delivered.is_empty(), "a deleted stream delivers nothing");
    assert!(out.acks.iter().all(|ack| ack.committed.get() == 0));
    create(&mut world, 22, "s22", StreamRules::NONE).expect("room");
    assert_eq!(
        positions(&mut world, 22).map(|row| (row.next_offset, row.visible_end)),
        Some((0, 0))
    );
}

/// A reader that misses something asks again, the stream is deleted meanwhile, and the answer is lost.
#[test]
fn a_reader_that_asks_again_is_told_of_a_deleted_stream_until_it_gives_up() {
    let mut world = World::new();
    create(&mut world, NEW, "orders", StreamRules::NONE).expect("room");
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, NEW, 1);
    let gone = reader.subscribed[0].handle;
    delete(&mut world, NEW).expect("known");
    world.finish();
    world.finish();
    subscribe(&mut world, &mut reader, NEW, 1);
    world.out.sent.clear();
    reader.subscribed.clear();
    for _ in 0..12 {
        world.pass(1_000_000_000);
        world.finish();
    }
    world.deliver(&mut reader);
    assert!(reader.subscribed.iter().any(|said| said.handle == gone && said.code.get() == 7));
}

#[test]
fn a_deleted_stream_stays_deleted_over_kills_at_any_moment() {
    for finishes in 0..4 {
        let mut world = World::new();
        create(&mut world, NEW, "orders", StreamRules::NONE).expect("room");
        let mut out = Client::claiming(1001, 1);
        let handle = publisher(&mut world, &mut out, "orders");
        for sequence in 1..=40 {
            let batch = out.publish(handle, sequence, 1, &[b"message"]);
            world.exchange(&mut out, &batch);
        }
        delete(&mut world, NEW).expect("known");
        for _ in 0..finishes {
            world.finish();
        }
        // The tables hold four; the log holds records of more streams than that.
        for id in 20..23 {
            let _ = create(&mut world, id, &format!("s{id}"), StreamRules::NONE);
        }
        let mut world = world.restart();
        assert_eq!(world.shard.streams(), (1, 0));
        assert_eq!(positions(&mut world, NEW), None);
        let mut again = Client::claiming(1003, 2);
        world.open(&mut again);
        let open = again.open_stream(1, b"orders");
        world.exchange(&mut again, &open);
        assert_eq!(again.streams[0].code.get(), Code::UnknownStream as u16);
    }
}

#[test]
fn rules_limit_blocks_publications_and_subscriptions() {
    let mut world = World::new();
    let rules = StreamRules {
        max_block_bytes: 64,
        max_publications: 1,
        max_subscriptions: 1,
        ..StreamRules::NONE
    };
    create(&mut world, NEW, "orders", rules).expect("room");
    let (mut one, mut two) = (Client::new(1001), Client::new(1002));
    let handle = publisher(&mut world, &mut one, "orders");
    publisher(&mut world, &mut two, "orders");
    assert_eq!(two.streams[0].code.get(), Code::LimitReached as u16);
    subscribe(&mut world, &mut one, NEW, 1);
    subscribe(&mut world, &mut two, NEW, 1);
    assert_eq!(one.subscribed[0].code.get(), 0);
    assert_eq!(two.subscribed[0].code.get(), Code::LimitReached as u16);
    let large = one.publish(handle, 1, 1, &[&[7; 60]]);
    world.exchange(&mut one, &large);
    assert_eq!((one.ack().code.get(), one.ack().refused.get()), (Code::TooLarge as u16, 1));
    let fits = one.publish(handle, 1, 2, &[&[7; 56]]);
    world.exchange(&mut one, &fits);
    assert_eq!(one.ack().committed.get(), 1);
    // Room again when the first one goes.
    let close = one.datagram(|writer| {
        writer.close(&mstream_wire::Close {
            head: mstream_wire::Close::HEAD,
            code: 0.into(),
            reserved: 0.into(),
            reserved2: 0.into(),
        });
    });
    world.exchange(&mut one, &close);
    let open = two.open_stream(1, b"orders");
    world.exchange(&mut two, &open);
    assert_eq!(two.streams.last().expect("an answer").code.get(), 0);
}

#[test]
fn retention_moves_the_earliest_offset_and_readers_are_told() {
    let rules =
        StreamRules { retention_bytes: 10 * 128, retention_ms: 60_000, ..StreamRules::NONE };
    let mut world = World::new();
    create(&mut world, NEW, "orders", rules).expect("room");
    let (mut out, mut reader) = (Client::new(1001), Client::new(1002));
    let handle = publisher(&mut world, &mut out, "orders");
    world.open(&mut reader);
    let parked = reader.subscribe_to(NEW, 1, 0, 0, 1);
    world.exchange(&mut reader, &parked);
    for sequence in 1..=30 {
        // Each record takes 128 bytes.
        let batch = out.publish(handle, sequence, 1, &[b"message"]);
        world.exchange(&mut out, &batch);
        world.pass(1_000_000_000);
    }
    for _ in 0..20 {
        world.finish();
    }
    world.deliver(&mut reader);
    assert_eq!(reader.delivered.len(), 1);
    assert_eq!(positions(&mut world, NEW).map(|row| row.earliest_offset), Some(20));
    let more = reader.credit(reader.subscribed[0].handle.get(), 1000);
    world.exchange(&mut reader, &more);
    let told = *reader.subscribed.last().expect("an answer");
    assert_eq!((told.code.get(), told.start.get()), (Code::OffsetGone as u16, 20));
    // By age: the newest was stored a second ago.
    world.pass(55_000_000_000);
    for _ in 0..20 {
        world.finish();
    }
    assert_eq!(positions(&mut world, NEW).map(|row| row.earliest_offset), Some(25));
    world.pass(60_000_000_000);
    for _ in 0..20 {
        world.finish();
    }
    let row = positions(&mut world, NEW).expect("known");
    assert_eq!((row.earliest_offset, row.next_offset), (30, 30));
}

#[test]
fn retention_holds_from_the_first_moment_of_a_restart() {
    let rules = StreamRules { retention_bytes: 10 * 128, ..StreamRules::NONE };
    let mut world = World::new();
    create(&mut world, NEW, "orders", StreamRules::NONE).expect("room");
    let mut out = Client::new(1001);
    let handle = publisher(&mut world, &mut out, "orders");
    for sequence in 1..=30 {
        let batch = out.publish(handle, sequence, 1, &[b"message"]);
        world.exchange(&mut out, &batch);
    }
    assert_eq!(positions(&mut world, NEW).map(|row| row.earliest_offset), Some(0));
    let region = world.shard.into_wal().into_region().after_kill();
    let entry = StreamEntry { id: NEW, name: "orders".into(), rules };
    let mut world = common::start_entries(region, 8, limits(), world.now, vec![entry]);
    assert_eq!(positions(&mut world, NEW).map(|row| row.earliest_offset), Some(20));
}

#[test]
fn reports_come_in_pieces_and_never_grow() {
    let mut world = World::new();
    let mut clients: Vec<Client> = (0..5).map(|n| Client::new(1001 + n)).collect();
    for client in &mut clients {
        world.open(client);
    }
    let handle = {
        let open = clients[0].open_stream(1, b"trades");
        world.exchange(&mut clients[0], &open);
        clients[0].streams[0].handle.get()
    };
    for credit in [1000, 1] {
        let client = &mut clients[credit as usize % 2 + 1];
        let frame = client.subscribe_to(STREAM, 1, 0, 0, credit);
        world.exchange(client, &frame);
    }
    for sequence in 1..=3 {
        let batch = clients[0].publish(handle, sequence, 1, &[b"message"]);
        world.exchange(&mut clients[0], &batch);
    }
    world.pass(7_000_000);
    let (mut from, mut seen) = (0, Vec::new());
    loop {
        let rows = Vec::with_capacity(2);
        let command = Command::Sessions { request: 1, from, rows };
        let Some(Reply::Sessions { rows, next, .. }) = world.shard.command(world.now, command)
        else {
            panic!("no report");
        };
        assert!(rows.len() <= 2 && rows.capacity() == 2);
        seen.extend(rows);
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|row| row.silent_ns == 7_000_000 && row.publisher >> 63 == 1));
    let publisher = seen.iter().find(|row| row.udp_port == 1001).expect("listed");
    // A message of 8 + 7 bytes, padded.
    assert_eq!((publisher.publications, publisher.published_bytes), (1, 3 * 16));
    assert!(publisher.credit_bytes >= publisher.published_bytes);
    let rows = Vec::with_capacity(100);
    let command = Command::Subscriptions { request: 1, from: 0, rows };
    let Some(Reply::Subscriptions { rows, next, .. }) = world.shard.command(world.now, command)
    else {
        panic!("no report");
    };
    assert_eq!((rows.len(), next), (2, None));
    let state = |port: u16| {
        let row = rows.iter().find(|row| row.udp_port == port).expect("listed");
        (row.state, row.next_offset, row.visible_end, row.stream)
    };
    assert_eq!(state(1002), (ReaderState::Live, 3, 3, STREAM));
    assert_eq!(state(1003), (ReaderState::NoCredit, 1, 3, STREAM));
}

#[test]
fn a_million_streams_come_are_found_and_go() {
    let million = 1_000_000;
    let mut config = common::wal_config(0);
    config.tables.streams = million as usize;
    let slots: Vec<u32> = (0..8).collect();
    let region = SimRegion::new(8, common::SEGMENT, 0);
    let (wal, _) = mstream_pmem::wal::Wal::open(region, &slots, config).expect("a new log");
    let mut world = common::on_log(common::port_address(), wal, limits(), NOW, Vec::new());
    let before = resident_bytes();
    let names = |id: u64| format!("stream number {id}");
    for id in 1..=million {
        create(&mut world, id, &names(id), StreamRules::NONE).expect("room");
    }
    let each = resident_bytes().saturating_sub(before) / million;
    println!("{each} bytes of memory became resident for each stream, its name among them");
    let full = create(&mut world, million + 1, "one more", StreamRules::NONE);
    assert!(matches!(full, Err(CreateError::Full(_))), "{full:?}");
    let mut client = Client::new(1001);
    world.open(&mut client);
    for id in [1, 500_000, million] {
        let open = client.open_stream(id as u32, names(id).as_bytes());
        world.exchange(&mut client, &open);
        let opened = client.streams.last().expect("an answer");
        assert_eq!((opened.code.get(), opened.stream.get()), (0, id));
    }
    for id in 1..=million {
        assert_eq!(delete(&mut world, id), Ok(Some(names(id).into())));
        if id.is_multiple_of(8) {
            world.finish();
        }
    }
    for _ in 0..1000 {
        world.finish();
    }
    assert_eq!(world.shard.streams(), (0, 0));
    assert_eq!(world.shard.handles(), (0, 0));
    create(&mut world, million + 1, "one more", StreamRules::NONE).expect("room again");
}

/// Memory of this process that is there (proc(5), statm).
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    pages * 4096
}
