//! What the shard does for those whose address is not proved, or who are not who they say.

mod common;

use common::{Client, SEGMENT, World, limits, pair, start};
use mstream_dataplane::{Now, Refusal};
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::Wal;
use mstream_wire::{Code, WireError};

#[test]
fn set_up_is_bounded() {
    let mut world = World::new();
    let mut answered = 0;
    for n in 0..100_000u64 {
        let mut client = Client::new((n % 60_000) as u16 + 1);
        client.nonce = n;
        let hello = client.hello();
        world.frame(client.wrap(&hello));
        if n % 32 == 0 {
            world.finish();
            answered += world.out.sent.len();
            world.out.sent.clear();
        }
    }
    assert!(answered > 90_000);
    assert_eq!(world.shard.sessions(), 0, "a hello leaves nothing behind");
    // Opens that are finished fill the table and no more.
    let mut full = 0;
    for n in 0..40 {
        let mut client = Client::new(5000 + n);
        world.open(&mut client);
        full += client.errors.iter().filter(|code| **code == Code::SessionsFull as u16).count();
    }
    assert_eq!(world.shard.sessions(), 16);
    assert_eq!(full, 24);
}

#[test]
fn a_credential_has_at_most_1024_bytes() {
    for (bytes, code) in [(1024, None), (1025, Some(Code::TooLarge as u16))] {
        let mut world = World::new();
        let mut client = Client::new(1001);
        let hello = client.hello();
        world.exchange(&mut client, &hello);
        let open = client.open_with(&vec![7; bytes]);
        world.exchange(&mut client, &open);
        assert_eq!(client.errors.first().copied(), code, "{bytes} bytes");
        assert_eq!(client.opened.is_some(), code.is_none());
        assert_eq!(world.shard.sessions(), usize::from(code.is_none()));
    }
}

#[test]
fn a_claim_beyond_the_publishers_that_the_log_remembers_reaches_a_limit() {
    // The log remembers four publishers that the configuration has dropped since.
    let slots: Vec<u32> = (0..8).collect();
    let now = Now { mono_ns: 1_000_000_000, wall_ns: 1 };
    let region = SimRegion::new(8, SEGMENT, 0);
    let (mut wal, _) = Wal::open(region, &slots, common::wal_config(1)).expect("a new log");
    for id in 900..904 {
        wal.append_life(id, 1, &[1; 16], 1).expect("room");
    }
    wal.barrier();
    let mut world = start(wal.into_region().after_kill(), 8, limits(), now);
    let mut client = Client::claiming(1001, 1);
    world.open(&mut client);
    assert!(client.opened.is_none());
    assert_eq!(client.errors, [Code::LimitReached as u16]);
}

#[test]
fn an_answer_before_the_address_is_proved_is_never_larger_than_the_question() {
    let mut world = World::new();
    let client = Client::new(1001);
    let mut stranger = Client::new(1002);
    (stranger.slot, stranger.token) = (3, 99);
    let datagrams = [
        client.hello(),
        client.open(),
        stranger.subscribe(0, 0, 1, [0; 16], 0),
        stranger.publish(1, 1, 1, &[b""]),
        stranger.credit(1, 1),
    ];
    for datagram in datagrams {
        world.frame(client.wrap(&datagram));
        world.finish();
        for frame in world.out.sent.drain(..) {
            use mstream_nic::Frame;
            assert!(frame.bytes().len() <= datagram.len() + 42, "{} bytes", datagram.len());
        }
    }
}

#[test]
fn strangers_and_wrong_sources_are_refused_and_counted() {
    let (mut world, mut publisher, _) = pair();
    let handle = publisher.streams[0].handle.get();
    let datagram = publisher.publish(handle, 1, 1, &[b"x"]);
    let thief = Client::new(4444);
    world.frame(thief.wrap(&datagram));
    assert_eq!(world.shard.counters().refused(Refusal::WrongSource), 1);
    let mut guess = Client::new(1001);
    (guess.slot, guess.token) = (publisher.slot, publisher.token ^ 1);
    let datagram = guess.publish(handle, 1, 1, &[b"x"]);
    world.exchange(&mut guess, &datagram);
    assert_eq!(guess.errors, [Code::UnknownSession as u16]);
    let mut other = Client::new(1020);
    world.open(&mut other);
    let datagram = other.publish(handle, 1, 1, &[b"x"]);
    world.exchange(&mut other, &datagram);
    assert_eq!(world.shard.counters().refused(Refusal::UnknownHandle), 1);
    let mut damaged = publisher.publish(handle, 1, 1, &[b"x"]);
    damaged[40] ^= 1;
    world.exchange(&mut publisher, &damaged);
    assert_eq!(world.shard.counters().malformed(WireError::FrameCheck), 1);
    assert_eq!(world.shard.counters().batches, 0);
}
