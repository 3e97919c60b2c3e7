//! What clients hear when a stream is deleted under them, and when the appliance ends in good order.

mod common;

use common::{MS, PUBLISHER, STREAM, Seen, World};
use mstream_client::{Ended, From, Identity, Lost, PublicationConfig, PublishError, Stop};
use mstream_wire::Code;

const GONE: Code = Code::UnknownStream;

#[test]
fn users_of_a_deleted_stream_are_told_once_also_when_it_is_lost() {
    for lost in [false, true] {
        let mut world = World::new();
        let mut publisher = world.user(1, Identity::Publisher(PUBLISHER));
        let out = publisher.publication(&PublicationConfig::default());
        let mut reader = world.user(2, Identity::Anonymous);
        let session = reader.session;
        reader.client.subscribe(session, STREAM, From::Earliest, 100);
        world.run_until(&mut publisher, |user| user.client.is_open(out));
        publisher.client.publish(out, b"", b"", b"before").expect("room");
        publisher.client.flush();
        world.run(20 * MS, &mut [&mut publisher, &mut reader]);
        assert_eq!(reader.messages().len(), 1);

        world.cut(&publisher, lost);
        world.cut(&reader, lost);
        world.delete_stream();
        world.run(5 * MS, &mut [&mut publisher, &mut reader]);
        world.cut(&publisher, false);
        world.cut(&reader, false);
        if lost {
            // Nothing reached the publisher: it learns when it publishes.
            assert!(publisher.client.is_open(out));
            publisher.client.publish(out, b"", b"", b"behind").expect("room");
            publisher.client.flush();
        }
        world.run(2_000 * MS, &mut [&mut publisher, &mut reader]);
        let ended = Seen::PublicationEnded(Ended::Refused(GONE));
        let stopped = Seen::Stopped(Stop::Refused(GONE));
        let times = |seen: &[Seen], what: &Seen| seen.iter().filter(|one| *one == what).count();
        assert_eq!(times(&publisher.seen, &ended), 1, "lost {lost}: {:?}", publisher.seen);
        assert_eq!(times(&reader.seen, &stopped), 1, "lost {lost}: {:?}", reader.seen);
        let refused = publisher.client.publish(out, b"", b"", b"after");
        assert_eq!(refused, Err(PublishError::Refused(GONE)));
        assert_eq!(world.shard().streams(), (0, 0), "the stream is given up");
        assert_eq!(world.shard().handles(), (0, 0), "and nothing is kept for its users");
        assert_eq!(world.shard().sessions(), 2, "whose sessions go on");
        assert_eq!(reader.messages().len(), 1);
    }
}

/// The log has all of it in order, so nothing is to be sent again; and of a deleted stream no ack comes.
#[test]
fn a_publisher_that_waits_for_a_barrier_is_told_that_its_stream_was_deleted_also_when_it_is_lost() {
    let mut world = World::new();
    let mut publisher = world.user(1, Identity::Publisher(PUBLISHER));
    let out = publisher.publication(&PublicationConfig::default());
    world.run_until(&mut publisher, |user| user.client.is_open(out));
    world.shard().wal().region().hang(true);
    publisher.client.publish(out, b"", b"", b"stored").expect("room");
    publisher.client.flush();
    world.run(20 * MS, &mut [&mut publisher]);
    assert_eq!(world.shard().wal().appended(), world.shard().committed() + 1, "it is not durable");
    world.cut(&publisher, true);
    world.delete_stream();
    world.run(5 * MS, &mut [&mut publisher]);
    world.cut(&publisher, false);
    let ended = Seen::PublicationEnded(Ended::Refused(GONE));
    world.run_until(&mut publisher, |user| user.has(&ended));
}

/// Also where clients learn of it only when they come back, or as another client with a position.
#[test]
fn a_name_that_is_used_again_is_another_stream() {
    for away_ms in [5, 5_000] {
        let mut world = World::new();
        let mut publisher = world.user(1, Identity::Publisher(PUBLISHER));
        let out = publisher.publication(&PublicationConfig::default());
        let mut reader = world.user(2, Identity::Anonymous);
        let read = reader.client.subscribe(reader.session, STREAM, From::Earliest, 100);
        world.run_until(&mut publisher, |user| user.client.is_open(out));
        publisher.client.publish(out, b"", b"", b"old").expect("room");
        publisher.client.flush();
        world.run(20 * MS, &mut [&mut publisher, &mut reader]);
        assert_eq!(reader.messages(), [b"old"]);
        let position = reader.client.position(read).expect("it was answered");
        assert_eq!((position.stream, position.offset), (7, 1));

        world.cut(&publisher, true);
        world.cut(&reader, true);
        world.delete_stream();
        world.create_stream(8);
        let mut other = world.user(3, Identity::Anonymous);
        world.run(20 * MS, &mut [&mut other]);
        let new = other.publication(&PublicationConfig::default());
        world.run_until(&mut other, |user| user.client.is_open(new));
        for text in [b"new 0", b"new 1"] {
            other.client.publish(new, b"", b"", text).expect("room");
            other.client.flush();
        }
        world.run(away_ms * MS, &mut [&mut publisher, &mut reader, &mut other]);
        world.cut(&publisher, false);
        world.cut(&reader, false);
        // What is missing is asked for again.
        if publisher.client.publish(out, b"", b"", b"behind").is_ok() {
            publisher.client.flush();
        }
        let mut resumed = world.user(4, Identity::Anonymous);
        let session = resumed.session;
        resumed.client.subscribe(session, STREAM, From::Position(position), 100);
        world.run(5_000 * MS, &mut [&mut publisher, &mut reader, &mut other, &mut resumed]);
        let ended = Seen::PublicationEnded(Ended::Refused(GONE));
        let stopped = Seen::Stopped(Stop::Refused(GONE));
        assert!(publisher.has(&ended), "away {away_ms} ms: {:?}", publisher.seen);
        for user in [&reader, &resumed] {
            assert!(user.has(&stopped), "away {away_ms} ms: {:?}", user.seen);
        }
        assert_eq!((reader.messages().len(), resumed.messages().len()), (1, 0));
        // Who asks by the name again means the new one.
        reader.seen.clear();
        reader.client.seek(read, From::Earliest);
        world.run(200 * MS, &mut [&mut reader, &mut other]);
        assert_eq!(reader.messages(), [b"new 0", b"new 1"]);
    }
}

#[test]
fn a_shard_that_ends_says_so_and_its_clients_come_back() {
    let mut world = World::new();
    let mut publisher = world.user(1, Identity::Publisher(PUBLISHER));
    let out = publisher.publication(&PublicationConfig::default());
    world.run_until(&mut publisher, |user| user.client.is_open(out));
    publisher.client.publish(out, b"", b"", b"message").expect("room");
    publisher.client.flush();
    let region = world.shut_down();
    // Long before silence would tell.
    world.run(5 * MS, &mut [&mut publisher]);
    assert!(publisher.has(&Seen::SessionLost(Lost::Closed)), "{:?}", publisher.seen);
    world.start(region);
    world.run_until(&mut publisher, |user| {
        user.seen.iter().filter(|seen| matches!(seen, Seen::PublicationOpened(_))).count() == 2
    });
    world.run_until(&mut publisher, |user| user.has(&Seen::Acknowledged(1)));
}
