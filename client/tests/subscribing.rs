//! What a subscriber is told, over a simulated network.

mod common;

use common::{MS, PUBLISHER, Seen, User, World, publisher, subscriber};
use mstream_client::{From, Identity, Lost, SessionConfig, Stop};
use mstream_dataplane::Limits;
use mstream_nic::Port;
use mstream_nic::sim::{Faults, SimPort};

const NAMED: Identity = Identity::Publisher(PUBLISHER);

fn offsets(from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(|offset| offset.to_le_bytes().to_vec()).collect()
}

/// A world whose stream holds `messages` messages, each its own offset.
fn filled(messages: u64) -> World {
    let mut world = World::new();
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    for offset in 0..messages {
        user.send(publication, &offset.to_le_bytes());
        world.run(10_000, &mut [&mut user]);
    }
    world.run_until(&mut user, |user| user.acknowledged() == messages);
    world
}

#[test]
fn gaps_are_asked_for_and_filled() {
    let mut world = World::new();
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    let (mut reader, _) = subscriber(&mut world, 2, From::Earliest, 32);
    let faults = Faults {
        loss_ppm: 200_000,
        duplicate_ppm: 200_000,
        reorder_ppm: 200_000,
        reorder_ns: 5 * MS,
        delay_ns: 10_000..=300_000,
        ..Faults::NONE
    };
    world.net.set_path_faults(world.shard_end, reader.end, faults.clone());
    world.net.set_path_faults(reader.end, world.shard_end, faults);
    for offset in 0..500u64 {
        user.send(publication, &offset.to_le_bytes());
        world.run(200_000, &mut [&mut user, &mut reader]);
    }
    world.run_until(&mut reader, |user| user.messages().len() == 500);
    assert_eq!(reader.messages(), offsets(0, 500));
}

#[test]
fn credit_is_due_when_the_answer_to_a_question_comes_after_what_it_asked_for() {
    // On a long way a question is repeated before it is answered, and a reader that polls rarely takes
    // all answers at once. That to the repeat counts credit from where the question stood, and comes
    // behind deliveries that used all of it: unless more is given then, nothing comes any more.
    for window in [2, 3, 8, 20] {
        let mut world = World::new();
        let (mut user, publication) = publisher(&mut world, 1, NAMED);
        let (mut reader, _) = subscriber(&mut world, 2, From::Earliest, window);
        world.net.cut(world.shard_end, reader.end, true);
        for offset in 0..10 * window {
            user.send(publication, &offset.to_le_bytes());
        }
        world.run(MS, &mut [&mut user, &mut reader]);
        world.net.cut(world.shard_end, reader.end, false);
        let far = Faults { delay_ns: 10 * MS..=10 * MS, ..Faults::NONE };
        world.net.set_path_faults(world.shard_end, reader.end, far);
        for turn in 0..400 {
            world.run(if turn % 2 == 0 { 20 * MS } else { 2 * MS }, &mut [&mut user]);
            reader.poll(world.now_ns());
        }
        assert_eq!(reader.messages(), offsets(0, 10 * window));
    }
}

#[test]
fn a_seek_is_not_answered_by_what_was_asked_before() {
    let mut world = filled(60);
    let (mut reader, subscription) = subscriber(&mut world, 2, From::Offset(50), 4);
    world.run_until(&mut reader, |user| user.messages().len() == 10);
    for (from, first) in [(From::Offset(20), 20), (From::Earliest, 0), (From::Offset(59), 59)] {
        // What is said about the old place arrives after the new one was asked for.
        let slow = Faults { delay_ns: 3 * MS..=3 * MS, duplicate_ppm: 1_000_000, ..Faults::NONE };
        world.net.set_path_faults(world.shard_end, reader.end, slow);
        reader.client.seek(subscription, From::Offset(50));
        world.run(MS, &mut [&mut reader]);
        reader.seen.clear();
        reader.client.seek(subscription, from);
        world.run(50 * MS, &mut [&mut reader]);
        world.no_faults();
        world.run_until(&mut reader, |user| user.messages().len() as u64 == 60 - first);
        assert_eq!(reader.messages(), offsets(first, 60));
    }
    world.run(500 * MS, &mut [&mut reader]);
    assert_eq!(world.shard().handles().1, 1, "the shard holds subscriptions that nobody means");
}

#[test]
fn what_a_lost_answer_leaves_in_a_full_table_is_given_up() {
    let limits = Limits { sessions: 8, publications: 8, subscriptions: 1, ..Limits::default() };
    let mut world = World::with(limits);
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    for offset in 0..60u64 {
        user.send(publication, &offset.to_le_bytes());
        world.run(10_000, &mut [&mut user]);
    }
    world.run_until(&mut user, |user| user.acknowledged() == 60);
    let (mut reader, subscription) = subscriber(&mut world, 2, From::Offset(50), 4);
    world.run_until(&mut reader, |user| user.messages().len() == 10);
    // The shard holds what is asked for, and the reader moves on from each before it hears that.
    world.net.cut(world.shard_end, reader.end, true);
    for from in [10, 20, 30] {
        reader.client.seek(subscription, From::Offset(from));
        world.run(60 * MS, &mut [&mut reader]);
    }
    world.net.cut(world.shard_end, reader.end, false);
    reader.seen.clear();
    reader.client.seek(subscription, From::Offset(40));
    world.run_until(&mut reader, |user| user.messages().len() == 20);
    assert_eq!(reader.messages(), offsets(40, 60));
    assert_eq!(world.shard().handles().1, 1);
}

#[test]
fn a_slow_reader_is_told_that_its_offset_is_gone() {
    let mut world = World::new();
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    let (mut reader, subscription) = subscriber(&mut world, 2, From::Earliest, 10);
    for _ in 0..800 {
        user.send(publication, &[0; 1200]);
        world.run(100_000, &mut [&mut user]);
    }
    world.run_until(&mut user, |user| user.acknowledged() == 800);
    let earliest = world.shard().wal().stream_by_id(7).expect("it is known").earliest_offset;
    assert!(earliest > 100);
    world.run_until(&mut reader, |user| user.has(&Seen::Stopped(Stop::OffsetGone { earliest })));
    let before = reader.messages().len() as u64;
    reader.client.seek(subscription, From::Earliest);
    reader.seen.clear();
    world.run_until(&mut reader, |user| user.messages().len() as u64 == 800 - earliest);
    assert!(before < earliest);
    assert!(reader.has(&Seen::Subscribed(earliest)));
}

#[test]
fn a_log_that_lost_its_tail_stops_the_subscription() {
    let mut world = World::new();
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    let (mut reader, subscription) = subscriber(&mut world, 2, From::Earliest, 10);
    user.send(publication, b"kept");
    world.run(5 * MS, &mut [&mut user, &mut reader]);
    let before = world.region();
    user.send(publication, b"lost");
    world.run(5 * MS, &mut [&mut user, &mut reader]);
    assert_eq!(reader.messages(), [b"kept", b"lost"]);
    world.kill();
    world.start(before);
    drop(user);
    let (mut user, publication) = publisher(&mut world, 3, NAMED);
    user.send(publication, b"other");
    user.send(publication, b"more");
    world.run(5 * MS, &mut [&mut user]);
    let why = Stop::Diverged { next: 2, common: 1 };
    world.run_until(&mut reader, |user| user.has(&Seen::Stopped(why)));
    assert_eq!(reader.messages().len(), 2, "other content came under an old offset");
    reader.seen.clear();
    reader.client.seek(subscription, From::Offset(1));
    world.run_until(&mut reader, |user| user.messages().len() == 2);
    assert_eq!(reader.messages(), [&b"other"[..], b"more"]);
}

#[test]
fn a_position_is_enough_to_go_on_with_another_client() {
    let mut world = filled(30);
    let (mut reader, subscription) = subscriber(&mut world, 2, From::Earliest, 5);
    world.run_until(&mut reader, |user| user.messages().len() == 30);
    let position = reader.client.position(subscription).expect("it read");
    drop(reader);
    let region = world.kill();
    world.start(region);
    let (mut user, publication) = publisher(&mut world, 3, NAMED);
    user.send(publication, &30u64.to_le_bytes());
    world.run(5 * MS, &mut [&mut user]);
    let (mut reader, _) = subscriber(&mut world, 4, From::Position(position), 5);
    world.run_until(&mut reader, |user| !user.messages().is_empty());
    assert_eq!(reader.messages(), offsets(30, 31));
}

#[test]
fn beats_keep_a_session_and_silence_ends_it_on_both_sides() {
    let mut world = World::new();
    world.limits.session_timeout_ms = 1_000;
    let region = world.kill();
    world.start(region);
    let (mut reader, _) = subscriber(&mut world, 2, From::Earliest, 5);
    world.run(5_000 * MS, &mut [&mut reader]);
    assert_eq!(world.shard().sessions(), 1);
    assert_eq!(world.shard().counters().sessions_opened, 1);
    world.cut(&reader, true);
    world.run(2_500 * MS, &mut [&mut reader]);
    assert_eq!(world.shard().sessions(), 0);
    assert_eq!(world.shard().counters().sessions_expired, 1);
    assert!(reader.has(&Seen::SessionLost(Lost::Silence)));
    world.cut(&reader, false);
    world.run_until(&mut reader, |user| {
        user.seen.iter().filter(|seen| matches!(seen, Seen::Subscribed(0))).count() == 2
    });
}

/// A reader that has a second session, in which nothing goes on and beats are far apart.
fn idle_reader(world: &mut World) -> User<SimPort> {
    let (mut reader, _) = subscriber(world, 2, From::Earliest, 5);
    reader.client.open_session(SessionConfig::new(Identity::Anonymous));
    let opened = |seen: &&Seen| matches!(seen, Seen::SessionOpened { .. });
    world.run_until(&mut reader, |user| user.seen.iter().filter(opened).count() == 2);
    reader
}

#[test]
fn a_lost_beat_or_answer_is_not_taken_for_silence() {
    let mut world = World::new();
    let mut reader = idle_reader(&mut world);
    // Whatever is said in one half of the time is lost, both ways; in the other half it gets through.
    for _ in 0..200 {
        for cut in [true, false] {
            world.cut(&reader, cut);
            world.run(550 * MS, &mut [&mut reader]);
        }
    }
    assert!(!reader.has(&Seen::SessionLost(Lost::Silence)));
    assert_eq!(world.shard().counters().sessions_opened, 2);
}

#[test]
fn what_stood_still_together_is_not_taken_for_silence() {
    let mut world = World::new();
    let mut reader = idle_reader(&mut world);
    for _ in 0..40 {
        // Beats are due; before the shard sees them nobody runs for some seconds.
        world.advance(400 * MS);
        reader.poll(world.now_ns());
        world.advance(3_000 * MS);
        reader.poll(world.now_ns());
        world.run(50 * MS, &mut [&mut reader]);
    }
    assert!(!reader.has(&Seen::SessionLost(Lost::Silence)));
    assert_eq!(world.shard().counters().sessions_opened, 2);
}

#[test]
fn a_shard_that_moved_to_another_machine_is_found_again() {
    let mut world = filled(3);
    let (mut reader, _) = subscriber(&mut world, 2, From::Earliest, 5);
    world.run_until(&mut reader, |user| user.messages().len() == 3);
    // Somebody answers wrongly for the shard's address: what is sent there reaches nobody.
    let mut liar = world.net.attach([2, 0, 0, 0, 7, 7], 8);
    let mut frame = liar.frame().expect("one is free");
    let mut reply = vec![2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 7, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
    reply.extend_from_slice(&[2, 0, 0, 0, 7, 7, 10, 0, 0, 1, 2, 0, 0, 0, 1, 2, 10, 0, 1, 2]);
    frame.fill(&reply);
    liar.send(frame).expect("there is room");
    liar.flush();
    world.run_until(&mut reader, |user| user.has(&Seen::SessionLost(Lost::Silence)));
    drop(liar);
    reader.seen.clear();
    world.run_until(&mut reader, |user| user.has(&Seen::Subscribed(3)));
}
