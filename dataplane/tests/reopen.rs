//! Streams, lives and subscriptions that are opened again while older ones are still under way.

mod common;

use common::{Client, PUBLISHER, SEGMENT, World, limits, start};
use mstream_dataplane::{Limits, Now, Refusal};
use mstream_pmem::sim::SimRegion;
use mstream_wire::Code;

const NOW: Now = Now { mono_ns: 1_000_000_000, wall_ns: 1_700_000_000_000_000_000 };

/// A world whose barriers complete `delay` polls later.
fn late(delay: u64, limits: Limits) -> World {
    start(SimRegion::new(8, SEGMENT, delay), 8, limits, NOW)
}

/// Opens a session whose claim may take some polls.
fn open(world: &mut World, client: &mut Client) {
    world.open(client);
    for _ in 0..20 {
        world.finish();
    }
    world.deliver(client);
    assert!(client.opened.is_some());
}

/// Another session for the life of `client`.
fn resumed(client: &Client) -> Client {
    let mut again = Client::new(client.udp_port + 1);
    (again.identity, again.publisher, again.nonce) = (2, PUBLISHER, client.nonce + 1);
    let incarnation = client.opened.expect("it was open").incarnation;
    again.life[..8].copy_from_slice(&incarnation.get().to_le_bytes());
    again
}

#[test]
fn a_stream_that_is_opened_again_says_nothing_before_its_barrier() {
    let mut world = late(5, limits());
    let mut old = Client::claiming(1001, 1);
    open(&mut world, &mut old);
    let ask = old.open_stream(1, b"trades");
    world.exchange(&mut old, &ask);
    let handle = old.streams[0].handle.get();
    let publish = old.publish(handle, 1, 1, &[b"not durable yet"]);
    let mut new = resumed(&old);
    world.frame(old.wrap(&publish));
    world.open(&mut new);
    assert!(new.opened.is_some());
    let ask = new.open_stream(1, b"trades");
    world.exchange(&mut new, &ask);
    while world.shard.committed() < world.shard.wal().appended() {
        assert!(new.streams.is_empty(), "said to be stored before its barrier completed");
        assert!(new.acks.is_empty());
        // Asked for again: still nothing.
        world.exchange(&mut new, &ask);
    }
    world.deliver(&mut new);
    let opened = new.streams.last().expect("it is durable now");
    assert_eq!((opened.sequence.get(), opened.offset.get()), (1, 1));
}

#[test]
fn a_life_that_is_claimed_twice_opens_no_session_before_its_barrier() {
    let mut world = late(5, limits());
    let mut first = Client::claiming(1001, 1);
    world.open(&mut first);
    let mut again = Client::claiming(1002, 1);
    world.open(&mut again);
    while world.shard.committed() < world.shard.wal().appended() {
        assert!(again.opened.is_none(), "opened before its life was durable");
        world.finish();
        world.deliver(&mut again);
    }
    world.deliver(&mut again);
    assert!(again.opened.is_some());
}

#[test]
fn an_open_that_comes_late_does_not_fence_the_life_that_came_after() {
    // Once a repeat of an open that was answered, once an open that was never seen before.
    for repeated in [true, false] {
        let mut world = late(0, limits());
        let mut old = Client::claiming(1001, 1);
        let hello = old.hello();
        world.exchange(&mut old, &hello);
        let late = old.wrap(&old.open());
        if repeated {
            world.frame(late.clone());
            world.finish();
        }
        world.pass(1);
        let mut new = Client::claiming(1002, 2);
        open(&mut world, &mut new);
        world.pass(1_000_000_000);
        world.frame(late);
        world.finish();
        world.deliver(&mut new);
        assert!(new.errors.is_empty(), "fenced by an older life: {:?}", new.errors);
        let ask = new.open_stream(1, b"trades");
        world.exchange(&mut new, &ask);
        assert_eq!(new.streams.len(), 1);
        world.deliver(&mut old);
        assert_eq!(old.errors.last(), Some(&(Code::BadCookie as u16)));
        // Who still lives and means it says hello again, and is the newest life then.
        old.errors.clear();
        world.open(&mut old);
        world.deliver(&mut new);
        assert_eq!(new.errors, [Code::Fenced as u16]);
    }
}

#[test]
fn a_session_has_one_publication_of_a_stream() {
    let mut world = late(0, limits());
    let mut client = Client::new(1001);
    open(&mut world, &mut client);
    for request in 1..=2 {
        let ask = client.open_stream(request, b"trades");
        world.exchange(&mut client, &ask);
    }
    let codes: Vec<u16> = client.streams.iter().map(|opened| opened.code.get()).collect();
    assert_eq!(codes, [0, Code::Unsupported as u16]);
}

#[test]
fn why_a_subscription_stopped_is_said_again() {
    let mut world = late(0, limits());
    let mut client = Client::new(1001);
    open(&mut world, &mut client);
    let ask = client.subscribe(2, 50, 100, [8; 16], 0);
    // The answer finds no room.
    world.out.full = true;
    world.frame(client.wrap(&ask));
    world.finish();
    world.out.full = false;
    assert_eq!(world.shard.counters().refused(Refusal::PortFull), 1);
    for _ in 0..12 {
        world.pass(1_000_000_000);
        world.finish();
    }
    world.deliver(&mut client);
    let answer = client.subscribed.last().expect("it is said again");
    assert_eq!(answer.code.get(), Code::Diverged as u16);
}

#[test]
fn a_refused_publication_of_an_anonymous_publisher_leaves_nothing_behind() {
    let limits = Limits { publications: 1, sessions: 100, ..limits() };
    let mut world = late(0, limits);
    let mut first = Client::new(1001);
    open(&mut world, &mut first);
    let ask = first.open_stream(1, b"trades");
    world.exchange(&mut first, &ask);
    // More than the log's table of publications holds.
    for port in 0..80 {
        let mut other = Client::new(2000 + port);
        open(&mut world, &mut other);
        let ask = other.open_stream(1, b"trades");
        world.exchange(&mut other, &ask);
        assert_eq!(other.streams[0].code.get(), Code::LimitReached as u16);
    }
    let close = first.datagram(|writer| {
        writer.close(&mstream_wire::Close {
            head: mstream_wire::Close::HEAD,
            code: 0.into(),
            reserved: 0.into(),
            reserved2: 0.into(),
        });
    });
    world.exchange(&mut first, &close);
    let mut last = Client::new(3000);
    open(&mut world, &mut last);
    let ask = last.open_stream(1, b"trades");
    world.exchange(&mut last, &ask);
    assert_eq!(last.streams[0].code.get(), 0);
}
