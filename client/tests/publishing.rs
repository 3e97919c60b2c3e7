//! What a publisher is told, over a simulated network.

mod common;

use common::{MS, PUBLISHER, STREAM, Seen, User, World, publisher, subscriber};
use mstream_client::{Ended, From, Identity, PublicationConfig, PublishError};
use mstream_dataplane::Limits;
use mstream_nic::headers::{classify, emit_udp_headers};
use mstream_nic::sim::{Faults, SimPort};
use mstream_nic::{Capabilities, Frame, FrameQueue, Port, PortStats};
use mstream_pmem::sim::SimRegion;
use mstream_wire::{Code, DataHeader, Datagram, DatagramWriter, Frame as Wire, crc32c};

const NAMED: Identity = Identity::Publisher(PUBLISHER);

#[test]
fn a_full_window_pushes_back_until_it_is_acknowledged() {
    let mut world = World::new();
    let mut user = world.user(1, NAMED);
    let config = PublicationConfig { window_batches: 4, max_batch: 1, ..Default::default() };
    let publication = user.publication(&config);
    let early = user.client.publish(publication, b"", b"", b"m");
    assert_eq!(early, Err(PublishError::NotConnected));
    world.run_until(&mut user, |user| user.client.is_open(publication));
    for sequence in 1..=4 {
        assert_eq!(user.client.publish(publication, b"", b"", b"m"), Ok(sequence));
    }
    let full = user.client.publish(publication, b"", b"", b"m");
    assert_eq!(full, Err(PublishError::BackPressured));
    world.run_until(&mut user, |user| user.acknowledged() == 4);
    assert_eq!(user.client.publish(publication, b"", b"", b"m"), Ok(5));
}

#[test]
fn a_message_over_the_block_is_too_large_and_changes_nothing() {
    let mut world = World::new();
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    let large = [0; 1281];
    let refused = user.client.publish(publication, b"", b"", &large);
    assert_eq!(refused, Err(PublishError::TooLarge { bytes: 1296, limit: 1280 }));
    assert_eq!(user.send(publication, &[7; 1272]), 1);
    world.run_until(&mut user, |user| user.acknowledged() == 1);
}

#[test]
fn a_second_life_fences_the_first() {
    let mut world = World::new();
    let (mut old, old_stream) = publisher(&mut world, 1, NAMED);
    old.send(old_stream, b"old");
    world.run_until(&mut old, |user| user.acknowledged() == 1);
    let (mut new, new_stream) = publisher(&mut world, 2, NAMED);
    assert!(new.has(&Seen::PublicationOpened(1)));
    world.run_until(&mut old, |user| user.has(&Seen::SessionFailed(Code::Fenced)));
    assert!(old.has(&Seen::PublicationEnded(Ended::Session(Code::Fenced))));
    let dead = old.client.publish(old_stream, b"", b"", b"m");
    assert_eq!(dead, Err(PublishError::Fenced));
    assert_eq!(new.send(new_stream, b"new"), 2);
    world.run_until(&mut new, |user| user.acknowledged() == 2);
    let (mut reader, _) = subscriber(&mut world, 3, From::Earliest, 10);
    world.run_until(&mut reader, |user| user.messages().len() == 2);
    assert_eq!(reader.messages(), [b"old", b"new"]);
}

#[test]
fn a_restart_loses_and_repeats_nothing() {
    let mut world = World::new();
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    let (mut reader, _) = subscriber(&mut world, 2, From::Earliest, 50);
    let mut sent = 0u32;
    for round in 0..5u64 {
        for _ in 0..40 {
            user.send(publication, &sent.to_le_bytes());
            sent += 1;
            world.run(20_000, &mut [&mut user, &mut reader]);
        }
        // Taken and not answered when the shard dies.
        user.send(publication, &sent.to_le_bytes());
        sent += 1;
        world.advance(50_000);
        let region = world.kill();
        world.run(round * 700 * MS, &mut [&mut user, &mut reader]);
        world.start(region);
        world.run(3_000 * MS, &mut [&mut user, &mut reader]);
        assert!(user.client.is_open(publication));
    }
    assert_eq!(user.acknowledged(), u64::from(sent));
    let numbers: Vec<Vec<u8>> = (0..sent).map(|number| number.to_le_bytes().to_vec()).collect();
    assert_eq!(reader.messages(), numbers);
}

#[test]
fn a_log_that_lost_its_tail_ends_the_publication() {
    let mut world = World::new();
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    user.send(publication, b"kept");
    world.run_until(&mut user, |user| user.acknowledged() == 1);
    let before = world.region();
    user.send(publication, b"lost");
    world.run_until(&mut user, |user| user.acknowledged() == 2);
    world.kill();
    world.start(before);
    let why = Ended::Diverged { acknowledged: 2, stored: 1 };
    world.run_until(&mut user, |user| user.has(&Seen::PublicationEnded(why)));
    let refused = user.client.publish(publication, b"", b"", b"m");
    assert_eq!(refused, Err(PublishError::Diverged { acknowledged: 2, stored: 1 }));
}

#[test]
fn an_anonymous_publisher_is_told_what_has_an_unknown_outcome() {
    let mut world = World::new();
    let (mut user, publication) = publisher(&mut world, 1, Identity::Anonymous);
    user.send(publication, b"1");
    world.run_until(&mut user, |user| user.acknowledged() == 1);
    world.cut(&user, true);
    user.send(publication, b"2");
    user.send(publication, b"3");
    world.run(1_500 * MS, &mut [&mut user]);
    assert!(user.has(&Seen::OutcomeUnknown(2, 3)));
    assert_eq!(user.client.sequences(publication), (0, 1));
    world.cut(&user, false);
    world.run_until(&mut user, |user| user.client.is_open(publication));
    assert_eq!(user.send(publication, b"again"), 1);
    world.run_until(&mut user, |user| {
        user.seen.iter().filter(|seen| **seen == Seen::Acknowledged(1)).count() == 2
    });
    let (mut reader, _) = subscriber(&mut world, 2, From::Earliest, 10);
    world.run_until(&mut reader, |user| user.messages().len() == 2);
    assert_eq!(reader.messages(), [&b"1"[..], b"again"]);
}

#[test]
fn what_a_publisher_is_told_is_said_again_when_it_is_lost() {
    let mut world = World::new();
    world.limits.session_window_bytes = 2_000;
    let region = world.kill();
    world.start(region);
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    // Most acks and credits are lost, and messages too.
    let faults = Faults { loss_ppm: 600_000, ..Faults::NONE };
    world.net.set_path_faults(world.shard_end, user.end, faults.clone());
    world.net.set_path_faults(user.end, world.shard_end, faults);
    for number in 0..60u32 {
        let payload = [number as u8; 400];
        user.client.publish(publication, b"", b"", &payload).expect("the window has room");
        user.client.flush();
        world.run(MS, &mut [&mut user]);
    }
    world.run_until(&mut user, |user| user.acknowledged() == 60);
    let (mut reader, _) = subscriber(&mut world, 2, From::Earliest, 100);
    world.run_until(&mut reader, |user| user.messages().len() == 60);
    let numbers: Vec<u8> = reader.messages().iter().map(|payload| payload[0]).collect();
    assert_eq!(numbers, (0..60).collect::<Vec<u8>>());
}

/// A client's port that turns messages which begin with `x` into parts, which shards refuse.
struct Refusing(SimPort);

impl Refusing {
    fn spoil(frame: &mut <SimPort as Port>::Frame) {
        let Ok(mstream_nic::headers::Inbound::Udp(udp)) = classify(frame.bytes(), true) else {
            return;
        };
        let headers = *udp.headers();
        let datagram = udp.payload().to_vec();
        let Ok(parsed) = Datagram::parse(&datagram) else { return };
        let Some(Wire::Publish(data)) = parsed.frames().next() else { return };
        if data.block[8] != b'x' {
            return;
        }
        let mut block = data.block.to_vec();
        // Without the end flag.
        block[4] &= !2;
        let header = DataHeader { block_crc: crc32c(&block).into(), ..*data.header };
        let bytes = frame.bytes_mut();
        let room = &mut bytes[headers.bytes()..];
        let mut writer = DatagramWriter::new(room, parsed.header).expect("it was one");
        assert!(writer.data(&header, &block));
        let len = writer.finish();
        emit_udp_headers(bytes, &headers, len);
    }
}

impl Port for Refusing {
    type Frame = <SimPort as Port>::Frame;

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    fn receive(&mut self, into: &mut FrameQueue<Self::Frame>, max: usize) -> usize {
        self.0.receive(into, max)
    }
    fn send(&mut self, mut frame: Self::Frame) -> Result<(), Self::Frame> {
        Refusing::spoil(&mut frame);
        self.0.send(frame)
    }
    fn flush(&mut self) {
        self.0.flush();
    }
    fn frame(&mut self) -> Option<Self::Frame> {
        self.0.frame()
    }
    fn stats(&self) -> PortStats {
        self.0.stats()
    }
    fn frames_out(&self) -> usize {
        self.0.frames_out()
    }
}

#[test]
fn refused_batches_are_taken_out_and_what_follows_is_numbered_anew() {
    let mut world = World::new();
    let (port, addresses) = world.attach(1);
    let end = port.endpoint();
    let mut user = User::new(end, Refusing(port), addresses, 1, NAMED);
    let publication = user.publication(&PublicationConfig { max_batch: 2, ..Default::default() });
    world.run_until(&mut user, |user| user.client.is_open(publication));
    for payload in [b"1", b"2", b"x", b"x", b"3", b"4", b"x", b"x", b"5", b"6"] {
        user.client.publish(publication, b"", b"", payload).expect("there is room");
    }
    user.client.flush();
    world.run_until(&mut user, |user| user.acknowledged() == 6);
    let refused: Vec<&Seen> =
        user.seen.iter().filter(|seen| matches!(seen, Seen::Refused { .. })).collect();
    let refusal = |sequence| Seen::Refused { sequence, count: 2, code: Code::Unsupported };
    assert_eq!(refused, [&refusal(3), &refusal(5)]);
    assert_eq!(user.client.sequences(publication), (6, 7));
    let (mut reader, _) = subscriber(&mut world, 2, From::Earliest, 100);
    world.run_until(&mut reader, |user| user.messages().len() == 6);
    assert_eq!(reader.messages(), [b"1", b"2", b"3", b"4", b"5", b"6"]);
}

#[test]
fn a_port_without_room_only_delays() {
    let mut world = World::new();
    let mut user = world.user(1, NAMED);
    let config = PublicationConfig { max_batch: 1, ..Default::default() };
    let publication = user.publication(&config);
    world.run_until(&mut user, |user| user.client.is_open(publication));
    // More than the port's pool has buffers.
    for number in 0..500u32 {
        let payload = number.to_le_bytes();
        user.client.publish(publication, b"", b"", &payload).expect("the window has room");
    }
    user.client.flush();
    assert!(user.client.counters().port_full > 0);
    world.run_until(&mut user, |user| user.acknowledged() == 500);
    assert_eq!(user.client.port().frames_out(), 0);
}

#[test]
fn a_stream_that_does_not_exist_is_refused() {
    let mut world = World::new();
    let mut user = world.user(1, NAMED);
    let config = PublicationConfig::default();
    let publication = user.client.open_publication(user.session, "no such", &config);
    let why = Ended::Refused(Code::UnknownStream);
    world.run_until(&mut user, |user| user.has(&Seen::PublicationEnded(why)));
    let refused = user.client.publish(publication, b"", b"", b"m");
    assert_eq!(refused, Err(PublishError::Refused(Code::UnknownStream)));
    let known = user.client.open_publication(user.session, STREAM, &config);
    world.run_until(&mut user, |user| user.client.is_open(known));
}

#[test]
fn nothing_is_acknowledged_before_its_barrier_also_over_a_lost_session() {
    let limits = Limits { sessions: 8, ..Limits::default() };
    let mut world = World::on(SimRegion::new(8, 64 * 1024, 40), limits);
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    // The batch is late: it arrives when the client has given its session up.
    let late = Faults { delay_ns: 1_100 * MS..=1_100 * MS, ..Faults::NONE };
    world.net.set_path_faults(user.end, world.shard_end, late);
    user.send(publication, b"late");
    user.client.poll(world.now_ns(), |_| {});
    world.net.set_path_faults(user.end, world.shard_end, Faults::NONE);
    world.cut(&user, true);
    world.run(1_000 * MS, &mut [&mut user]);
    world.cut(&user, false);
    for _ in 0..4_000 {
        world.run(50_000, &mut [&mut user]);
        if user.acknowledged() == 0 {
            continue;
        }
        let shard = world.shard();
        assert_eq!(shard.committed(), shard.wal().appended(), "acknowledged before its barrier");
        return;
    }
    panic!("never acknowledged");
}
