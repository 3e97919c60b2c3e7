//! The shard's rules, one by one, by hand-made datagrams.

mod common;

use common::{Client, SEGMENT, STREAM, World, block, limits, pair, start};
use mstream_dataplane::{Limits, Now, Refusal};
use mstream_pmem::sim::SimRegion;
use mstream_wire::{Code, WireError, crc32c};

fn publish(world: &mut World, publisher: &mut Client, sequence: u64, payloads: &[&[u8]]) {
    let stream = publisher.streams[0];
    let datagram = publisher.publish(stream.handle.get(), sequence, stream.round.get(), payloads);
    world.exchange(publisher, &datagram);
}

#[test]
fn a_message_is_acknowledged_and_delivered_in_place() {
    let (mut world, mut publisher, mut subscriber) = pair();
    publish(&mut world, &mut publisher, 1, &[b"one", b"two"]);
    world.deliver(&mut subscriber);
    let ack = publisher.ack();
    assert_eq!((ack.received.get(), ack.persisted.get(), ack.committed.get()), (2, 2, 2));
    assert_eq!(ack.offset.get(), 2);
    assert_eq!(subscriber.delivered.len(), 1);
    assert_eq!(subscriber.delivered[0].offset, 0);
    assert_eq!(subscriber.delivered[0].payloads, [b"one", b"two"]);
    assert_eq!(world.shard.counters().delivered_in_place, 1);
    assert_eq!(world.shard.counters().delivered_by_copy, 0);
}

#[test]
fn every_subscription_gets_the_batch_and_only_one_the_buffer() {
    let (mut world, mut publisher, mut first) = pair();
    let mut second = Client::new(1003);
    world.open(&mut second);
    let subscribe = second.subscribe(1, 0, 1000, [0; 16], 0);
    world.exchange(&mut second, &subscribe);
    publish(&mut world, &mut publisher, 1, &[b"x"]);
    world.deliver(&mut first);
    world.deliver(&mut second);
    assert_eq!(first.delivered.len(), 1);
    assert_eq!(second.delivered.len(), 1);
    assert_eq!(world.shard.counters().delivered_in_place, 1);
    assert_eq!(world.shard.counters().delivered_by_copy, 1);
}

#[test]
fn nothing_is_acknowledged_or_delivered_before_the_barrier_completes() {
    for delay in [1, 2, 7] {
        let region = SimRegion::new(8, SEGMENT, delay);
        let now = Now { mono_ns: 1_000_000_000, wall_ns: 1 };
        let mut world = start(region, 8, limits(), now);
        let mut publisher = Client::new(1001);
        let mut subscriber = Client::new(1002);
        world.open(&mut publisher);
        world.open(&mut subscriber);
        let open = publisher.open_stream(1, b"trades");
        world.exchange(&mut publisher, &open);
        let subscribe = subscriber.subscribe(0, 0, 1000, [0; 16], 0);
        world.exchange(&mut subscriber, &subscribe);
        for _ in 0..2 * delay {
            world.finish();
        }
        publish(&mut world, &mut publisher, 1, &[b"later"]);
        for poll in 0..delay {
            world.deliver(&mut subscriber);
            assert!(subscriber.delivered.is_empty(), "delivered after {poll} of {delay} polls");
            let ack = publisher.ack();
            assert_eq!((ack.received.get(), ack.persisted.get(), ack.committed.get()), (1, 0, 0));
            assert_eq!(world.shard.frames_held(), 1);
            world.finish();
            world.deliver(&mut publisher);
        }
        world.deliver(&mut subscriber);
        assert_eq!(subscriber.delivered.len(), 1);
        assert_eq!(publisher.ack().committed.get(), 1);
        assert_eq!(world.shard.frames_held(), 0);
        assert_eq!(world.shard.counters().delivered_in_place, 1);
    }
}

#[test]
fn a_late_barrier_delays_a_claim() {
    let region = SimRegion::new(8, SEGMENT, 3);
    let mut world = start(region, 8, limits(), Now { mono_ns: 1_000_000_000, wall_ns: 1 });
    let mut publisher = Client::claiming(1001, 1);
    world.open(&mut publisher);
    assert!(publisher.opened.is_none(), "opened before its life was durable");
    for _ in 0..4 {
        world.finish();
    }
    world.deliver(&mut publisher);
    assert!(publisher.opened.is_some());
}

#[test]
fn repeats_gaps_and_overlaps() {
    let (mut world, mut publisher, mut subscriber) = pair();
    publish(&mut world, &mut publisher, 1, &[b"1", b"2"]);
    publish(&mut world, &mut publisher, 1, &[b"1", b"2"]);
    assert_eq!(world.shard.counters().refused(Refusal::Repeat), 1);
    assert_eq!(publisher.ack().committed.get(), 2, "a repeat is acknowledged again");
    publish(&mut world, &mut publisher, 4, &[b"4"]);
    assert_eq!(world.shard.counters().refused(Refusal::Gap), 1);
    assert_eq!(publisher.ack().received.get(), 2);
    publish(&mut world, &mut publisher, 2, &[b"2", b"3"]);
    let ack = publisher.ack();
    assert_eq!((ack.refused.get(), ack.code.get()), (3, Code::Overlap as u16));
    assert_eq!(ack.round.get(), 2);
    // The old round is dead, the refused number is free.
    publish(&mut world, &mut publisher, 3, &[b"old round"]);
    assert_eq!(world.shard.counters().refused(Refusal::WrongRound), 1);
    let handle = publisher.streams[0].handle.get();
    let datagram = publisher.publish(handle, 3, 2, &[b"3"]);
    world.exchange(&mut publisher, &datagram);
    assert_eq!(publisher.ack().committed.get(), 3);
    world.deliver(&mut subscriber);
    let payloads: Vec<Vec<u8>> =
        subscriber.delivered.iter().flat_map(|d| d.payloads.clone()).collect();
    assert_eq!(payloads, [b"1", b"2", b"3"]);
}

#[test]
fn bad_blocks() {
    let (mut world, mut publisher, _) = pair();
    let handle = publisher.streams[0].handle.get();
    let good = block(&[b"payload"]);
    // Damaged on the way: dropped, the round stays.
    let datagram = publisher.publish_block(handle, 1, 1, 1, &good, crc32c(&good) ^ 1);
    world.exchange(&mut publisher, &datagram);
    assert_eq!(world.shard.counters().malformed(WireError::BlockCrc), 1);
    // Wrong count under a fitting crc: refused.
    let datagram = publisher.publish_block(handle, 1, 1, 2, &good, crc32c(&good));
    world.exchange(&mut publisher, &datagram);
    assert_eq!(publisher.ack().code.get(), Code::MalformedBlock as u16);
    // Over the limit.
    let large = block(&[&[0; 1273]]);
    assert!(large.len() > 1280);
    let datagram = publisher.publish_block(handle, 1, 2, 1, &large, crc32c(&large));
    world.exchange(&mut publisher, &datagram);
    assert_eq!(publisher.ack().code.get(), Code::TooLarge as u16);
    assert_eq!(publisher.ack().round.get(), 3);
    // A part of a larger message.
    let mut part = good.clone();
    part[4] = 1;
    let datagram = publisher.publish_block(handle, 1, 3, 1, &part, crc32c(&part));
    world.exchange(&mut publisher, &datagram);
    assert_eq!(publisher.ack().code.get(), Code::Unsupported as u16);
    let datagram = publisher.publish_block(handle, 1, 4, 1, &good, crc32c(&good));
    world.exchange(&mut publisher, &datagram);
    assert_eq!(publisher.ack().committed.get(), 1);
    assert_eq!(world.shard.counters().batches, 1);
}

#[test]
fn a_new_life_fences_the_old_one_and_resuming_it_is_refused() {
    let (mut world, mut old, _) = pair();
    publish(&mut world, &mut old, 1, &[b"1"]);
    let mut new = Client::claiming(1005, 2);
    world.open(&mut new);
    world.deliver(&mut old);
    assert_eq!(old.errors, [Code::Fenced as u16]);
    publish(&mut world, &mut old, 2, &[b"from the dead"]);
    assert_eq!(world.shard.counters().batches, 1);
    assert_eq!(old.errors.last(), Some(&(Code::UnknownSession as u16)));
    let (before, after) = (old.opened.unwrap().incarnation, new.opened.unwrap().incarnation);
    assert!(before.get() < after.get());
    old.identity = 2;
    old.life[..8].copy_from_slice(&before.get().to_le_bytes());
    old.life[8..].fill(0);
    old.nonce += 1;
    old.opened = None;
    world.open(&mut old);
    assert!(old.opened.is_none());
    assert_eq!(old.errors.last(), Some(&(Code::Fenced as u16)));
    // The new life goes on where the publisher was.
    let open = new.open_stream(1, b"trades");
    world.exchange(&mut new, &open);
    assert_eq!(new.streams[0].sequence.get(), 1);
}

#[test]
fn the_same_life_nonce_claims_the_same_life() {
    let (mut world, first, _) = pair();
    let mut again = Client::claiming(1006, 1);
    world.open(&mut again);
    assert_eq!(first.opened.unwrap().incarnation, again.opened.unwrap().incarnation);
}

#[test]
fn a_repeated_open_gets_the_same_session() {
    let mut world = World::new();
    let mut client = Client::new(1001);
    world.open(&mut client);
    let (slot, token) = (client.slot, client.token);
    let open = client.open();
    world.exchange(&mut client, &open);
    assert_eq!((client.slot, client.token), (slot, token));
    assert_eq!(world.shard.sessions(), 1);
}

#[test]
fn a_restart_keeps_what_was_acknowledged_and_knows_the_publisher() {
    let (mut world, mut publisher, _) = pair();
    for sequence in 1..=20 {
        publish(&mut world, &mut publisher, sequence, &[format!("m{sequence}").as_bytes()]);
    }
    let incarnation = publisher.opened.unwrap().incarnation;
    let epoch = publisher.epoch;
    let mut world = world.restart();
    publish(&mut world, &mut publisher, 21, &[b"unknown session"]);
    assert_eq!(publisher.errors, [Code::UnknownSession as u16]);
    let mut resumed = Client::new(1001);
    (resumed.identity, resumed.publisher, resumed.nonce) = (2, common::PUBLISHER, 77);
    resumed.life[..8].copy_from_slice(&incarnation.get().to_le_bytes());
    world.open(&mut resumed);
    assert_eq!(resumed.epoch, epoch + 1);
    let open = resumed.open_stream(1, b"trades");
    world.exchange(&mut resumed, &open);
    assert_eq!(resumed.streams[0].sequence.get(), 20);
    publish(&mut world, &mut resumed, 21, &[b"m21"]);
    let mut reader = Client::new(1009);
    world.open(&mut reader);
    let subscribe = reader.subscribe(2, 0, 1000, [9; 16], epoch);
    world.exchange(&mut reader, &subscribe);
    world.finish();
    world.deliver(&mut reader);
    let payloads: Vec<String> = reader
        .delivered
        .iter()
        .flat_map(|d| d.payloads.iter().map(|p| String::from_utf8_lossy(p).into_owned()))
        .collect();
    assert_eq!(payloads, (1..=21).map(|n| format!("m{n}")).collect::<Vec<_>>());
    assert!(
        reader.delivered.len() == 21 && world.shard.counters().frames_out < 20,
        "packed from the log"
    );
}

#[test]
fn subscribe_positions() {
    let (mut world, mut publisher, _) = pair();
    publish(&mut world, &mut publisher, 1, &[b"0", b"1", b"2"]);
    publish(&mut world, &mut publisher, 4, &[b"3"]);
    let mut ask = |kind, from, log, epoch| {
        let mut client = Client::new(2000);
        world.open(&mut client);
        let subscribe = client.subscribe(kind, from, 100, log, epoch);
        world.exchange(&mut client, &subscribe);
        world.finish();
        world.deliver(&mut client);
        let answer = client.subscribed[0];
        let close = client.datagram(|writer| {
            writer.close(&mstream_wire::Close {
                head: mstream_wire::Close::HEAD,
                code: 0.into(),
                reserved: 0.into(),
                reserved2: 0.into(),
            });
        });
        world.exchange(&mut client, &close);
        (answer.code.get(), answer.start.get(), client.delivered.first().map(|d| d.offset))
    };
    let ok = Code::Ok as u16;
    assert_eq!(ask(0, 0, [0; 16], 0), (ok, 0, Some(0)));
    assert_eq!(ask(1, 0, [0; 16], 0), (ok, 4, None));
    assert_eq!(ask(2, 1, [9; 16], 1), (ok, 1, Some(0)), "a position inside a batch gets the batch");
    assert_eq!(ask(2, 3, [9; 16], 1), (ok, 3, Some(3)));
    assert_eq!(ask(2, 4, [9; 16], 1), (ok, 4, None));
    assert_eq!(ask(2, 5, [9; 16], 1), (Code::Diverged as u16, 4, None));
    assert_eq!(ask(2, 1, [8; 16], 1), (Code::Diverged as u16, 0, None));
    assert_eq!(ask(3, u64::MAX, [0; 16], 0), (ok, 4, None));
    assert_eq!(ask(3, 1, [0; 16], 0), (ok, 0, Some(0)));
    assert_eq!(world.shard.sessions(), 2, "closed sessions are gone");
    assert_eq!(world.shard.handles(), (1, 1));
}

#[test]
fn a_log_that_lost_its_tail_says_diverged() {
    let (mut world, mut publisher, subscriber) = pair();
    publish(&mut world, &mut publisher, 1, &[b"kept"]);
    let end = world.shard.wal().region().clone();
    publish(&mut world, &mut publisher, 2, &[b"lost"]);
    let (epoch, log) = (publisher.epoch, publisher.opened.unwrap().log_id);
    drop(subscriber);
    let mut world = start(end, 8, limits(), world.now);
    let mut other = Client::claiming(1001, 9);
    world.open(&mut other);
    let open = other.open_stream(1, b"trades");
    world.exchange(&mut other, &open);
    assert_eq!(other.streams[0].sequence.get(), 1, "lower than what was acknowledged");
    publish(&mut world, &mut other, 2, &[b"other content"]);
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    let subscribe = reader.subscribe(2, 2, 100, log, epoch);
    world.exchange(&mut reader, &subscribe);
    let answer = reader.subscribed[0];
    assert_eq!((answer.code.get(), answer.start.get()), (Code::Diverged as u16, 1));
    assert!(reader.delivered.is_empty());
}

#[test]
fn credit_bounds_what_is_sent_both_ways() {
    let mut world = World::new();
    let mut publisher = Client::new(1001);
    let mut subscriber = Client::new(1002);
    world.open(&mut publisher);
    world.open(&mut subscriber);
    let open = publisher.open_stream(1, b"trades");
    world.exchange(&mut publisher, &open);
    let subscribe = subscriber.subscribe(0, 0, 2, [0; 16], 0);
    world.exchange(&mut subscriber, &subscribe);
    for sequence in 1..=5 {
        publish(&mut world, &mut publisher, sequence, &[b"m"]);
    }
    world.finish();
    world.deliver(&mut subscriber);
    assert_eq!(subscriber.delivered.len(), 2);
    let handle = subscriber.subscribed[0].handle.get();
    let credit = subscriber.credit(handle, 4);
    world.exchange(&mut subscriber, &credit);
    world.finish();
    world.deliver(&mut subscriber);
    assert_eq!(subscriber.delivered.len(), 4);
    let credit = subscriber.credit(handle, 100);
    world.exchange(&mut subscriber, &credit);
    publish(&mut world, &mut publisher, 6, &[b"m"]);
    world.finish();
    world.deliver(&mut subscriber);
    let offsets: Vec<u64> = subscriber.delivered.iter().map(|d| d.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_publisher_beyond_its_credit_is_held_back() {
    let now = Now { mono_ns: 1_000_000_000, wall_ns: 1 };
    let limits = Limits { session_window_bytes: 64, ..limits() };
    let mut world = start(SimRegion::new(8, SEGMENT, 0), 8, limits, now);
    let mut publisher = Client::new(1001);
    world.open(&mut publisher);
    let open = publisher.open_stream(1, b"trades");
    world.exchange(&mut publisher, &open);
    publish(&mut world, &mut publisher, 1, &[&[1; 80]]);
    assert_eq!(world.shard.counters().refused(Refusal::OverCredit), 1);
    assert_eq!(world.shard.counters().batches, 0);
    publish(&mut world, &mut publisher, 1, &[&[1; 40]]);
    assert_eq!(world.shard.counters().batches, 1);
    assert_eq!(publisher.credits.last().map(|c| c.limit.get()), Some(48 + 64));
}

#[test]
fn a_full_port_makes_a_subscription_lag_and_loses_nothing() {
    let (mut world, mut publisher, mut subscriber) = pair();
    publish(&mut world, &mut publisher, 1, &[b"1"]);
    world.deliver(&mut subscriber);
    world.out.full = true;
    for sequence in 2..=50 {
        publish(&mut world, &mut publisher, sequence, &[b"m"]);
    }
    world.out.full = false;
    for _ in 0..4 {
        world.finish();
    }
    publish(&mut world, &mut publisher, 51, &[b"m"]);
    world.deliver(&mut subscriber);
    let offsets: Vec<u64> = subscriber.delivered.iter().map(|d| d.offset).collect();
    assert_eq!(offsets, (0..51).collect::<Vec<_>>());
    assert_eq!(publisher.ack().committed.get(), 51);
}

#[test]
fn the_log_recycles_and_a_slow_reader_is_told_that_its_offset_is_gone() {
    let (mut world, mut publisher, mut reader) = pair();
    let mut stuck = Client::new(1010);
    world.open(&mut stuck);
    let subscribe = stuck.subscribe(0, 0, 1, [0; 16], 0);
    world.exchange(&mut stuck, &subscribe);
    let payload = [7; 1000];
    let mut sequence = 1;
    let mut waits = 0;
    while sequence <= 3000 {
        let before = world.shard.counters().batches;
        publish(&mut world, &mut publisher, sequence, &[&payload]);
        world.deliver(&mut reader);
        world.deliver(&mut stuck);
        if let Some(last) = reader.delivered.last() {
            let handle = reader.subscribed[0].handle.get();
            let credit = reader.credit(handle, last.offset + 1000);
            world.exchange(&mut reader, &credit);
        }
        reader.delivered.clear();
        if world.shard.counters().batches > before {
            sequence += 1;
        } else {
            waits += 1;
            assert!(waits < 10_000, "the log never makes room");
        }
    }
    let stream = world.shard.wal().stream_by_id(STREAM).expect("known");
    assert_eq!(stream.next_offset, 3000);
    assert!(stream.earliest_offset > 2000, "the byte bound holds");
    let handle = stuck.subscribed[0].handle.get();
    let credit = stuck.credit(handle, 5000);
    world.exchange(&mut stuck, &credit);
    world.finish();
    world.deliver(&mut stuck);
    let told = stuck.subscribed.last().expect("told");
    assert_eq!(told.code.get(), Code::OffsetGone as u16);
    assert_eq!(told.start.get(), stream.earliest_offset);
    // The publisher's state outlived every record it was first written in.
    let world = world.restart();
    let state = world.shard.wal().stream_by_id(STREAM).expect("known");
    assert_eq!(state.next_offset, 3000);
}

#[test]
fn sessions_end_when_silent_and_beats_tell_the_position() {
    let (mut world, mut publisher, mut subscriber) = pair();
    publish(&mut world, &mut publisher, 1, &[b"1"]);
    world.deliver(&mut subscriber);
    subscriber.beats.clear();
    world.pass(13_000_000);
    world.finish();
    world.deliver(&mut subscriber);
    assert_eq!(subscriber.beats.len(), 1, "a beat follows 10 ms behind a delivery");
    assert_eq!((subscriber.beats[0].next.get(), subscriber.beats[0].end.get()), (1, 1));
    for _ in 0..100 {
        world.pass(500_000_000);
        world.finish();
    }
    assert_eq!(world.shard.sessions(), 0);
    assert_eq!(world.shard.handles(), (0, 0));
    assert_eq!(world.shard.counters().sessions_expired, 2);
}
