//! A shard whose log's medium failed: nothing is acknowledged or taken any more, and clients are told why; what is
//! durable can be read.

mod common;

use common::{Client, SEGMENT, World, limits, start};
use mstream_dataplane::{Now, Refusal};
use mstream_pmem::region::Barrier;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::{Failed, Poison};
use mstream_wire::Code;

const POISON: Poison = Poison { failed: Failed::Sync, slot: 0, errno: 5 };
const CODE: u16 = Code::LogPoisoned as u16;

/// A world whose medium fails with this barrier; the first is that of the log's start.
fn world(barrier: u64) -> World {
    let now = Now { mono_ns: 1_000_000_000, wall_ns: 1_700_000_000_000_000_000 };
    let region = SimRegion::new(8, SEGMENT, 0).failing(Barrier(barrier), POISON);
    start(region, 8, limits(), now)
}

fn publish(world: &mut World, publisher: &mut Client, round: u64, sequence: u64, text: &[u8]) {
    let handle = publisher.streams[0].handle.get();
    let datagram = publisher.publish(handle, sequence, round, &[text]);
    world.exchange(publisher, &datagram);
}

/// A publisher's claim and two messages, of which the second meets the failure; and a reader.
fn poisoned() -> (World, Client, Client) {
    let mut world = world(4);
    let mut publisher = Client::claiming(1001, 1);
    world.open(&mut publisher);
    let open = publisher.open_stream(1, b"trades");
    world.exchange(&mut publisher, &open);
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    let subscribe = reader.subscribe(0, 0, 100, [0; 16], 0);
    world.exchange(&mut reader, &subscribe);
    publish(&mut world, &mut publisher, 1, 1, b"durable");
    assert_eq!(world.shard.wal().poison(), None);
    publish(&mut world, &mut publisher, 1, 2, b"not durable");
    assert_eq!(world.shard.wal().poison(), Some(POISON));
    world.deliver(&mut reader);
    (world, publisher, reader)
}

fn texts(reader: &Client) -> Vec<String> {
    let payloads = reader.delivered.iter().flat_map(|delivered| &delivered.payloads);
    payloads.map(|payload| String::from_utf8_lossy(payload).into_owned()).collect()
}

#[test]
fn nothing_is_acknowledged_or_delivered_any_more() {
    let (mut world, mut publisher, mut reader) = poisoned();
    for _ in 0..50 {
        world.pass(10_000_000);
        publish(&mut world, &mut publisher, 1, 2, b"not durable");
        world.deliver(&mut reader);
    }
    let ack = publisher.acks.last().expect("repeats are answered");
    assert_eq!((ack.received.get(), ack.persisted.get(), ack.committed.get()), (2, 1, 1));
    assert_eq!(texts(&reader), ["durable"]);
    assert!(!world.shard.waits(), "nobody waits for what never comes");
}

#[test]
fn what_is_published_is_refused_with_the_reason() {
    let (mut world, mut publisher, _) = poisoned();
    publish(&mut world, &mut publisher, 1, 3, b"refused");
    let ack = publisher.acks.last().expect("an answer");
    assert_eq!((ack.code.get(), ack.refused.get(), ack.round.get()), (CODE, 3, 2));
    assert_eq!((ack.received.get(), ack.committed.get()), (2, 1));
    publish(&mut world, &mut publisher, 2, 3, b"refused again");
    let ack = publisher.acks.last().expect("an answer");
    assert_eq!((ack.code.get(), ack.refused.get(), ack.round.get()), (CODE, 3, 3));
    assert_eq!(world.shard.counters().refused(Refusal::LogPoisoned), 2);
    assert_eq!(world.shard.counters().batches, 2);
}

#[test]
fn new_publishers_are_refused_and_readers_are_served() {
    let (mut world, _, _) = poisoned();
    let mut claiming = Client::claiming(1003, 2);
    world.open(&mut claiming);
    assert_eq!((claiming.errors, claiming.opened.is_some()), (vec![CODE], false));
    let mut anonymous = Client::new(1004);
    world.open(&mut anonymous);
    let open = anonymous.open_stream(1, b"trades");
    world.exchange(&mut anonymous, &open);
    assert_eq!(anonymous.streams[0].code.get(), CODE);
    let subscribe = anonymous.subscribe(0, 0, 100, [0; 16], 0);
    world.exchange(&mut anonymous, &subscribe);
    world.finish();
    world.deliver(&mut anonymous);
    let answer = anonymous.subscribed[0];
    assert_eq!((answer.code.get(), answer.start.get(), answer.end.get()), (0, 0, 1));
    assert_eq!(texts(&anonymous), ["durable"]);
}

#[test]
fn a_claim_that_meets_the_failure_is_refused_when_it_is_repeated() {
    let mut world = world(2);
    let mut publisher = Client::claiming(1001, 1);
    world.open(&mut publisher);
    assert_eq!((publisher.errors.len(), publisher.opened.is_some()), (0, false), "it waits");
    for _ in 0..2 {
        let open = publisher.open();
        world.exchange(&mut publisher, &open);
    }
    assert_eq!(publisher.errors, [CODE, CODE]);
}
