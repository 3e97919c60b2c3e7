//! A log that gets no further segment, and for how long its publishers wait.

mod common;

use common::{Client, SEGMENT, World, limits, start};
use mstream_dataplane::{Limits, Now, Refusal};
use mstream_pmem::sim::SimRegion;

/// Slots that the log begins with: its reserve, and one to write to.
const SLOTS: u32 = 4;

/// A publisher, and a log of whose slots most were not made yet.
fn world() -> (World, Client) {
    let now = Now { mono_ns: 1_000_000_000, wall_ns: 1_700_000_000_000_000_000 };
    let limits = Limits { session_timeout_ms: 60_000, ..limits() };
    let mut world = start(SimRegion::new(8, SEGMENT, 0), SLOTS, limits, now);
    let mut publisher = Client::claiming(1001, 1);
    world.open(&mut publisher);
    let open = publisher.open_stream(1, b"trades");
    world.exchange(&mut publisher, &open);
    (world, publisher)
}

/// Publishes messages from `sequence` on until one is refused for want of a segment: its sequence.
fn publish_until_full(world: &mut World, publisher: &mut Client, most: u64) -> u64 {
    let handle = publisher.streams[0].handle.get();
    for sequence in 1..most {
        let datagram = publisher.publish(handle, sequence, 1, &[&[7; 1_000]]);
        world.exchange(publisher, &datagram);
        if world.shard.counters().refused(Refusal::LogFull) > 0 {
            return sequence;
        }
    }
    most
}

#[test]
fn a_shard_that_stood_still_does_not_count_that_as_waiting_for_a_segment() {
    let (mut world, mut publisher) = world();
    let full = publish_until_full(&mut world, &mut publisher, 1_000);
    assert!(full > 10 && full < 1_000, "{full}");

    let (mut world, mut publisher) = self::world();
    assert_eq!(publish_until_full(&mut world, &mut publisher, full), full, "not refused yet");
    let mut next_life = Client::claiming(1002, 2);
    let hello = next_life.hello();
    world.exchange(&mut next_life, &hello);
    world.pass(10_500_000_000);
    // A publisher's next life needs room as well.
    let open = next_life.open();
    world.exchange(&mut next_life, &open);
    let handle = publisher.streams[0].handle.get();
    for again in 1..=3 {
        let datagram = publisher.publish(handle, full, 1, &[&[7; 1_000]]);
        world.exchange(&mut publisher, &datagram);
        assert_eq!(world.shard.counters().refused(Refusal::LogFull), again);
        assert_eq!(world.shard.wal().exhausted_ns(), None);
        world.pass(10_000_000);
    }
}
