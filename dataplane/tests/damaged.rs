//! A shard on a damaged log: what is sound is served, what is missing is announced, nothing is taken; and the same once
//! the loss was accepted.

mod common;

use common::{Client, STREAM, World, entry, limits, on_log, pair, port_address, wal_config};
use mstream_dataplane::Now;
use mstream_pmem::accept::accept_loss;
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::Wal;
use mstream_wire::{Code, NO_HANDLE, Skip};

const MESSAGES: u64 = 800;
const LOST: u64 = 400;

/// A log with many messages of which one is damaged, and a moment.
fn damaged() -> (SimRegion, Now) {
    let (mut world, mut publisher, _) = pair();
    let handle = publisher.streams[0].handle.get();
    for sequence in 1..=MESSAGES {
        // The session's window opens as acknowledgements come.
        let text = format!("message {:4}", sequence - 1);
        let datagram = publisher.publish(handle, sequence, 1, &[text.as_bytes()]);
        world.exchange(&mut publisher, &datagram);
        assert_eq!(publisher.ack().committed.get(), sequence);
    }
    let now = world.now;
    let mut region = world.shard.into_wal().into_region().after_kill();
    let all = region.whole();
    let text = format!("message {LOST:4}");
    let at = all.windows(text.len()).position(|bytes| bytes == text.as_bytes()).expect("stored");
    region.damage(at as u64, b"M");
    (region, now)
}

fn world(region: SimRegion, now: Now) -> World {
    let slots: Vec<u32> = (0..region.slots()).collect();
    let (wal, _) =
        Wal::open_even_damaged(region, &slots, wal_config(now.wall_ns)).expect("readable");
    on_log(port_address(), wal, limits(), now, vec![entry(STREAM, "trades")])
}

/// Reads the stream from the beginning: what came must be all but the lost message, which a skip tells of.
fn read(world: &mut World, reason: u16) {
    let mut reader = Client::new(2000 + reason);
    world.open(&mut reader);
    let subscribe = reader.subscribe(0, 0, MESSAGES, [0; 16], 0);
    world.exchange(&mut reader, &subscribe);
    for _ in 0..MESSAGES {
        world.finish();
        world.deliver(&mut reader);
    }
    let offsets: Vec<u64> = reader.delivered.iter().map(|batch| batch.offset).collect();
    let expected: Vec<u64> = (0..MESSAGES).filter(|offset| *offset != LOST).collect();
    assert_eq!(offsets, expected);
    for batch in &reader.delivered {
        assert_eq!(batch.payloads, [format!("message {:4}", batch.offset).into_bytes()]);
    }
    let handle = reader.subscribed[0].handle.get();
    let skips: Vec<_> = reader
        .skips
        .iter()
        .map(|s| (s.handle.get(), s.from.get(), s.to.get(), s.reason.get()))
        .collect();
    assert_eq!(skips, [(handle, LOST, LOST + 1, reason)]);

    // One that asks for what is missing.
    let mut reader = Client::new(2100 + reason);
    world.open(&mut reader);
    let subscribe = reader.subscribe(2, LOST, 3, [0; 16], 0);
    world.exchange(&mut reader, &subscribe);
    world.finish();
    world.deliver(&mut reader);
    assert_eq!(reader.subscribed[0].code.get(), 0);
    assert_eq!((reader.skips.len(), reader.delivered[0].offset), (1, LOST + 1));
}

#[test]
fn what_is_sound_is_served_and_nothing_is_taken() {
    let (region, now) = damaged();
    let before = region.whole();
    let mut world = world(region, now);
    read(&mut world, Skip::DAMAGED);
    let found = world.shard.counters().unreadable;
    assert_eq!((found.messages, found.first, found.last), (2, (STREAM, LOST), (STREAM, LOST)));

    // Offsets beyond the known end may be among what is damaged; the end itself is waited for.
    let mut reader = Client::new(1);
    world.open(&mut reader);
    let subscribe = reader.subscribe(2, MESSAGES + 1, 10, [0; 16], 0);
    world.exchange(&mut reader, &subscribe);
    let answer = &reader.subscribed[0];
    assert_eq!((answer.code.get(), answer.start.get()), (Code::LogDamaged as u16, MESSAGES));
    let subscribe = reader.subscribe_to(STREAM, 2, 1, 0, 10);
    world.exchange(&mut reader, &subscribe);
    assert_eq!(reader.subscribed[1].code.get(), 0);

    // No life begins, no stream is opened for publishing.
    let mut publisher = Client::claiming(1001, 9);
    world.open(&mut publisher);
    assert_eq!((publisher.errors.as_slice(), publisher.slot), (&[Code::LogDamaged as u16][..], !0));
    let mut anonymous = Client::new(3);
    world.open(&mut anonymous);
    let open = anonymous.open_stream(1, b"trades");
    world.exchange(&mut anonymous, &open);
    let answer = &anonymous.streams[0];
    assert_eq!((answer.code.get(), answer.handle.get()), (Code::LogDamaged as u16, NO_HANDLE));
    world.pass(10_000_000_000);
    world.finish();
    let region = world.shard.into_wal().into_region();
    assert!(region.whole() == before, "nothing is stored");
}

#[test]
fn an_accepted_loss_is_announced_and_the_log_goes_on() {
    let (region, now) = damaged();
    let slots: Vec<u32> = (0..region.slots()).collect();
    let (losses, region) = accept_loss(region, &slots, wal_config(now.wall_ns)).expect("accepted");
    assert_eq!(losses.len(), 1);
    let mut world = world(region.after_power_cut(), now);
    read(&mut world, Skip::LOST);
    let mut publisher = Client::claiming(1001, 9);
    world.open(&mut publisher);
    let open = publisher.open_stream(1, b"trades");
    world.exchange(&mut publisher, &open);
    let opened = &publisher.streams[0];
    assert_eq!((opened.code.get(), opened.sequence.get()), (0, MESSAGES));
    let datagram = publisher.publish(opened.handle.get(), MESSAGES + 1, 1, &[b"more"]);
    world.exchange(&mut publisher, &datagram);
    assert_eq!(publisher.ack().committed.get(), MESSAGES + 1);
    assert_eq!(publisher.ack().offset.get(), MESSAGES + 1);
}
