//! Subscriptions to cold streams: what the log has recycled comes from cold segments, here kept in memory and read by
//! hand, so that answers come when and as the test wants.

mod common;

use common::{Client, STREAM, World, limits, start_entries};
use mstream_dataplane::{
    ColdAnswer, ColdFound, ColdRequest, Command, Now, Reply, StreamEntry, StreamRow, StreamRules,
};
use mstream_pmem::cold::{ColdFrom, ColdPage, ColdRange};
use mstream_pmem::format::RecordHeader;
use mstream_pmem::sim::SimRegion;
use mstream_wire::{Close, Code, Skip, Unsubscribe};

const NOW: Now = Now { mono_ns: 1_000_000_000, wall_ns: 1_700_000_000_000_000_000 };
const SLOTS: u32 = 6;
const PAGE: usize = 8 * 1024;
const COLD: StreamRules = StreamRules { cold: true, ..StreamRules::NONE };
/// Bytes of the payloads that fill the log.
const PAYLOAD: usize = 1000;

/// Cold segments in memory.
struct Cold {
    records: Vec<(RecordHeader, Vec<u8>)>,
    range: ColdRange,
}

impl Cold {
    fn new() -> Cold {
        Cold { records: Vec::new(), range: ColdRange { earliest: 0, end: 0 } }
    }

    /// Copies all that the log has and this has not, and tells the shard.
    fn copy(&mut self, world: &mut World) {
        let wal = world.shard.wal();
        let slot = wal.stream_slot(STREAM).expect("the stream");
        let state = wal.stream(slot);
        assert!(state.earliest_offset <= self.range.end, "recycled before it was copied");
        while self.range.end < state.next_offset {
            let (_, at) = wal.lookup(slot, self.range.end, 0).expect("held");
            let record = wal.record(at).expect("sound");
            self.records.push((*record.header, record.block.to_vec()));
            self.range.end = record.end_offset();
        }
        self.tell(world);
    }

    fn tell(&self, world: &mut World) {
        let command = Command::ColdRange { stream: STREAM, range: self.range };
        assert!(world.shard.command(world.now, command).is_none());
    }

    /// What a store would answer.
    fn read(&self, mut request: ColdRequest) -> ColdAnswer {
        assert_eq!(request.stream, STREAM);
        let fits = |header: &RecordHeader| match request.from {
            ColdFrom::Offset(offset) => {
                header.offset.get() + u64::from(header.count.get()) > offset
            }
            ColdFrom::Time(time) => header.time.get() >= time,
            ColdFrom::BehindEpoch(_) => false,
        };
        if let ColdFrom::BehindEpoch(epoch) = request.from {
            let before = self.records.iter().rfind(|(header, _)| header.epoch.get() <= epoch);
            let end = |(header, _): &(RecordHeader, _)| {
                header.offset.get() + u64::from(header.count.get())
            };
            request.page.begin(STREAM, before.map_or(0, end));
            return request.answer(ColdFound::Page);
        }
        let Some(first) = self.records.iter().position(|(header, _)| fits(header)) else {
            return request.answer(ColdFound::Nothing);
        };
        let begins = match request.from {
            ColdFrom::Offset(offset) => offset.max(self.range.earliest),
            _ => self.records[first].0.offset.get(),
        };
        request.page.begin(STREAM, begins);
        for (at, (header, block)) in self.records.iter().enumerate().skip(first) {
            if !request.page.push(header, block) {
                break;
            }
            let next = self.records.get(at + 1).map(|(header, _)| header.offset.get());
            request.page.speak_to(next.unwrap_or(self.range.end));
        }
        request.answer(ColdFound::Page)
    }

    /// Answers all that the shard asks; how much that was.
    fn serve(&self, world: &mut World) -> usize {
        let mut answered = 0;
        while let Some(request) = world.shard.next_cold_request() {
            let answer = self.read(request);
            world.shard.cold_answer(answer);
            answered += 1;
        }
        answered
    }
}

fn pages(count: usize) -> Vec<ColdPage> {
    (0..count).map(|_| ColdPage::new(PAGE)).collect()
}

fn with_cold(world: World, pages: Vec<ColdPage>, range: ColdRange) -> World {
    let World { shard, out, now } = world;
    World { shard: shard.with_cold(pages, [(STREAM, range)]), out, now }
}

fn entries() -> Vec<StreamEntry> {
    vec![StreamEntry { id: STREAM, name: "trades".into(), rules: COLD }]
}

/// A shard with a cold stream and this many pages.
fn world(count: usize) -> World {
    world_with(pages(count))
}

fn world_with(pages: Vec<ColdPage>) -> World {
    let region = SimRegion::new(SLOTS, common::SEGMENT, 0);
    let world = start_entries(region, SLOTS, limits(), NOW, entries());
    with_cold(world, pages, ColdRange { earliest: 0, end: 0 })
}

/// Publishes messages by number.
struct Publisher {
    client: Client,
    handle: u32,
    next: u64,
}

fn payload(number: u64) -> Vec<u8> {
    let mut bytes = vec![number as u8; PAYLOAD];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

impl Publisher {
    fn open(world: &mut World, port: u16, life: u8) -> Publisher {
        let mut client = Client::claiming(port, life);
        world.open(&mut client);
        let open = client.open_stream(1, b"trades");
        world.exchange(&mut client, &open);
        let opened = client.streams.last().expect("an answer");
        let (handle, next) = (opened.handle.get(), opened.sequence.get() + 1);
        Publisher { client, handle, next }
    }

    fn publish(&mut self, world: &mut World, messages: u64) {
        for _ in 0..messages {
            world.pass(1_000_000);
            // Sequences begin at 1, offsets at 0.
            let bytes = payload(self.next - 1);
            let batch = self.client.publish(self.handle, self.next, 1, &[&bytes]);
            for _ in 0..20 {
                world.exchange(&mut self.client, &batch);
                if self.client.ack().received.get() >= self.next {
                    break;
                }
            }
            assert_eq!(self.client.ack().received.get(), self.next, "taken");
            self.client.acks.drain(..self.client.acks.len() - 1);
            self.next += 1;
        }
    }

    /// Publishes more than the log holds, copied as it goes.
    fn fill(&mut self, world: &mut World, cold: &mut Cold) {
        for _ in 0..40 {
            self.publish(world, 20);
            cold.copy(world);
        }
        let wal = world.shard.wal();
        let earliest = wal.stream(wal.stream_slot(STREAM).expect("it")).earliest_offset;
        assert!(earliest > 100, "the log was recycled: {earliest}");
    }
}

fn subscribe(world: &mut World, client: &mut Client, request: u32, (kind, from): (u8, u64)) {
    let frame = client.subscribe_to(STREAM, request, kind, from, u64::MAX / 2);
    world.exchange(client, &frame);
}

/// Lets the world run until nothing comes any more; clients read.
fn run(world: &mut World, cold: &Cold, clients: &mut [&mut Client]) {
    let mut quiet = 0;
    while quiet < 3 {
        world.finish();
        let mut moved = cold.serve(world) > 0 || !world.out.sent.is_empty();
        for client in clients.iter_mut() {
            world.deliver(client);
        }
        moved |= !world.out.sent.is_empty();
        world.out.sent.clear();
        quiet = if moved { 0 } else { quiet + 1 };
    }
}

/// All offsets that a client was told of, in order and once each: what it got, and what was skipped.
fn offsets(client: &Client) -> Vec<(u64, u64, u16)> {
    let got = client.delivered.iter().map(|batch| {
        let end = batch.offset + batch.payloads.len() as u64;
        (batch.offset, end, 0)
    });
    let skipped =
        client.skips.iter().map(|skip| (skip.from.get(), skip.to.get(), skip.reason.get()));
    let mut all: Vec<_> = got.chain(skipped).collect();
    assert!(client.delivered.is_sorted_by_key(|batch| batch.offset), "in order");
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0].1 == pair[1].0), "no gap, no repeat: {all:?}");
    all
}

fn check_content(client: &Client) {
    for batch in &client.delivered {
        assert_eq!(batch.payloads, [payload(batch.offset)], "offset {}", batch.offset);
    }
}

fn positions(world: &mut World) -> StreamRow {
    let (ids, rows) = (vec![STREAM], Vec::with_capacity(1));
    match world.shard.command(world.now, Command::Streams { request: 7, ids, rows }) {
        Some(Reply::Streams { rows, .. }) => rows[0],
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_is_read_over_the_joint_though_the_log_is_recycled_meanwhile() {
    let (mut world, mut cold) = (world(2), Cold::new());
    let mut publisher = Publisher::open(&mut world, 1001, 1);
    publisher.fill(&mut world, &mut cold);
    let row = positions(&mut world);
    assert_eq!((row.earliest_offset, row.next_offset, row.cold.end), (0, 800, 800));
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, 1, (0, 0));
    let said = reader.subscribed.pop().expect("an answer");
    assert_eq!((said.code.get(), said.start.get(), said.earliest.get()), (0, 0, 0));
    // One answer at a time, and the log moves on between them.
    for _ in 0..60 {
        if let Some(request) = world.shard.next_cold_request() {
            let answer = cold.read(request);
            publisher.publish(&mut world, 20);
            cold.copy(&mut world);
            world.shard.cold_answer(answer);
        }
        world.finish();
        world.deliver(&mut reader);
    }
    run(&mut world, &cold, &mut [&mut reader]);
    let all = offsets(&reader);
    assert_eq!((all[0].0, all.last().expect("some").1), (0, publisher.next - 1));
    assert!(reader.skips.is_empty());
    check_content(&reader);
    assert_eq!(world.shard.cold_readers(), (0, 0), "all pages are back");
    assert!(world.shard.counters().delivered_from_cold > 0);
    // And what comes now is live again.
    publisher.publish(&mut world, 1);
    world.deliver(&mut reader);
    assert_eq!(reader.delivered.last().map(|batch| batch.offset), Some(publisher.next - 2));
}

#[test]
fn what_was_compacted_is_announced() {
    let (mut world, mut cold) = (world(2), Cold::new());
    let mut publisher = Publisher::open(&mut world, 1001, 1);
    publisher.fill(&mut world, &mut cold);
    cold.records.retain(|(header, _)| header.offset.get() % 7 == 3 || header.offset.get() > 700);
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, 1, (0, 0));
    run(&mut world, &cold, &mut [&mut reader]);
    let all = offsets(&reader);
    assert_eq!((all[0], all[1]), ((0, 3, Skip::COMPACTED), (3, 4, 0)));
    assert_eq!(all.last().map(|last| last.1), Some(800));
    assert!(all.iter().all(|(_, _, reason)| [0, Skip::COMPACTED].contains(reason)));
    check_content(&reader);
    // From an offset that was compacted away.
    let mut other = Client::new(1003);
    world.open(&mut other);
    subscribe(&mut world, &mut other, 1, (2, 12));
    run(&mut world, &cold, &mut [&mut other]);
    let all = offsets(&other);
    assert_eq!((all[0], all[1]), ((12, 17, Skip::COMPACTED), (17, 18, 0)));
}

#[test]
fn few_pages_serve_many_readers_in_turn() {
    let (mut world, mut cold) = (world(1), Cold::new());
    let mut publisher = Publisher::open(&mut world, 1001, 1);
    publisher.fill(&mut world, &mut cold);
    let mut readers: Vec<Client> = (0..4).map(|number| Client::new(1010 + number)).collect();
    for reader in &mut readers {
        world.open(reader);
        subscribe(&mut world, reader, 1, (0, 0));
    }
    // One gives little credit: it must not keep the page.
    let mut slow = Client::new(1020);
    world.open(&mut slow);
    let frame = slow.subscribe_to(STREAM, 1, 0, 0, 3);
    world.exchange(&mut slow, &frame);
    let mut all: Vec<&mut Client> = readers.iter_mut().chain([&mut slow]).collect();
    run(&mut world, &cold, &mut all);
    for reader in &readers {
        assert_eq!(offsets(reader).len(), 800);
    }
    assert_eq!(offsets(&slow).len(), 3);
    assert_eq!(world.shard.cold_readers(), (0, 0));
    let more = slow.credit(slow.subscribed[0].handle.get(), 500);
    world.exchange(&mut slow, &more);
    run(&mut world, &cold, &mut [&mut slow]);
    assert_eq!(offsets(&slow).len(), 500);
}

/// Found by the simulator (seed 948): a page that reached up to the newest message was kept for as long as its reader was
/// live, and others waited for it for ever.
#[test]
fn a_reader_that_catches_up_within_a_page_gives_it_back() {
    let (mut world, mut cold) = (world_with(vec![ColdPage::new(1 << 20)]), Cold::new());
    let mut publisher = Publisher::open(&mut world, 1001, 1);
    publisher.fill(&mut world, &mut cold);
    for port in [1002, 1003] {
        let mut reader = Client::new(port);
        world.open(&mut reader);
        subscribe(&mut world, &mut reader, 1, (0, 0));
        run(&mut world, &cold, &mut [&mut reader]);
        assert_eq!(offsets(&reader).len(), 800, "reader at port {port}");
        assert_eq!(world.shard.cold_readers(), (0, 0), "its page is back");
    }
}

#[test]
fn an_answer_that_nobody_waits_for_is_dropped_and_its_page_comes_back() {
    let (mut world, mut cold) = (world(2), Cold::new());
    let mut publisher = Publisher::open(&mut world, 1001, 1);
    publisher.fill(&mut world, &mut cold);
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, 1, (0, 0));
    let old = world.shard.next_cold_request().expect("asked");
    // It moves meanwhile, to where it is asked for as well.
    subscribe(&mut world, &mut reader, 1, (2, 50));
    let new = world.shard.next_cold_request().expect("asked again");
    world.shard.cold_answer(cold.read(old));
    world.finish();
    world.deliver(&mut reader);
    assert!(reader.delivered.is_empty(), "what was asked for before is not delivered");
    world.shard.cold_answer(cold.read(new));
    run(&mut world, &cold, &mut [&mut reader]);
    assert_eq!(offsets(&reader)[0].0, 50);
    // Sessions and streams that end while their questions are under way.
    for which in 0..3 {
        let mut reader = Client::new(1100 + which);
        world.open(&mut reader);
        subscribe(&mut world, &mut reader, 1, (0, 0));
        let request = world.shard.next_cold_request().expect("asked");
        let close = match which {
            0 => {
                let handle = reader.subscribed[0].handle;
                reader.datagram(|writer| {
                    writer.unsubscribe(&Unsubscribe { head: Unsubscribe::HEAD, handle });
                })
            }
            _ => reader.datagram(|writer| {
                writer.close(&Close {
                    head: Close::HEAD,
                    code: 0.into(),
                    reserved: 0.into(),
                    reserved2: 0.into(),
                });
            }),
        };
        match which {
            2 => {
                world.shard.command(world.now, Command::DeleteStream { request: 6, id: STREAM });
                world.finish();
            }
            _ => world.exchange(&mut reader, &close),
        }
        let answer = cold.read(request);
        world.shard.cold_answer(answer);
        world.finish();
        assert_eq!(world.shard.cold_readers(), (0, 0), "{which}");
    }
}

#[test]
fn starts_that_the_log_cannot_name_are_asked_for_before_they_are_said() {
    let (mut world, mut cold) = (world(2), Cold::new());
    let mut publisher = Publisher::open(&mut world, 1001, 1);
    publisher.fill(&mut world, &mut cold);
    let time = cold.records[30].0.time.get();
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, 1, (3, time));
    assert!(reader.subscribed.is_empty(), "not known yet");
    // Asked again by the client, it is asked once.
    subscribe(&mut world, &mut reader, 1, (3, time));
    assert_eq!(cold.serve(&mut world), 1);
    run(&mut world, &cold, &mut [&mut reader]);
    assert_eq!(reader.subscribed.len(), 1);
    let said = reader.subscribed[0];
    assert_eq!((said.code.get(), said.start.get()), (0, 30));
    assert_eq!((offsets(&reader)[0].0, offsets(&reader).len()), (30, 770));
    // A time within what the log holds asks nobody.
    let mut other = Client::new(1003);
    world.open(&mut other);
    subscribe(&mut world, &mut other, 1, (3, cold.records[780].0.time.get()));
    assert_eq!(other.subscribed[0].start.get(), 780);
    assert!(world.shard.next_cold_request().is_none());
}

/// A world whose log lost what its first epoch stored from offset 50 on, and was filled with other messages since: its
/// cold segments, and that epoch.
fn diverged() -> (World, Cold, u32) {
    let (mut world, mut cold) = (world(2), Cold::new());
    let mut publisher = Publisher::open(&mut world, 1001, 1);
    publisher.publish(&mut world, 50);
    cold.copy(&mut world);
    let first_epoch = publisher.client.epoch;
    let (now, region) = (world.now, world.shard.into_wal().into_region().after_kill());
    let world = start_entries(region, SLOTS, limits(), now, entries());
    let mut world = with_cold(world, pages(2), cold.range);
    let mut publisher = Publisher::open(&mut world, 1001, 2);
    publisher.fill(&mut world, &mut cold);
    (world, cold, first_epoch)
}

/// What a new reader that was at an offset in an epoch is answered.
fn resumed(world: &mut World, cold: &Cold, (offset, epoch): (u64, u32)) -> (u16, u64) {
    let mut reader = Client::new(1200 + offset as u16);
    world.open(&mut reader);
    let frame = reader.subscribe(2, offset, 10, world.shard.wal().log_id(), epoch);
    world.exchange(&mut reader, &frame);
    run(world, cold, &mut [&mut reader]);
    let close = reader.datagram(|writer| {
        let (head, reserved2) = (Close::HEAD, 0.into());
        writer.close(&Close { head, code: 0.into(), reserved: 0.into(), reserved2 });
    });
    world.exchange(&mut reader, &close);
    let said = reader.subscribed.last().expect("an answer");
    (said.code.get(), said.start.get())
}

#[test]
fn divergence_is_found_in_cold_segments_too() {
    let (mut world, mut cold, first_epoch) = diverged();
    for (offset, epoch, (code, start)) in [
        (50, first_epoch, (Code::Ok, 50)),
        (51, first_epoch, (Code::Diverged, 50)),
        (400, first_epoch, (Code::Diverged, 50)),
        (400, first_epoch + 1, (Code::Ok, 400)),
        (400, 0, (Code::Ok, 400)),
        (9_999, first_epoch + 1, (Code::Diverged, 850)),
    ] {
        let said = resumed(&mut world, &cold, (offset, epoch));
        assert_eq!(said, (code as u16, start), "{offset} {epoch}");
    }
    // Once all that is held was written since, nobody knows what was before it.
    cold.records.drain(..60);
    cold.range.earliest = 60;
    cold.tell(&mut world);
    let said = resumed(&mut world, &cold, (400, first_epoch));
    assert_eq!(said, (Code::Diverged as u16, 0));
}

#[test]
fn an_answer_that_waits_is_not_mixed_with_a_question_that_is_asked_again() {
    let (mut world, cold, first_epoch) = diverged();
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    let ask = reader.subscribe(2, 400, 10, world.shard.wal().log_id(), first_epoch);
    world.frame(reader.wrap(&ask));
    world.finish();
    assert_eq!(cold.serve(&mut world), 1, "it is not in the log");
    // Before the answer leaves.
    world.frame(reader.wrap(&ask));
    run(&mut world, &cold, &mut [&mut reader]);
    assert!(!reader.subscribed.is_empty());
    for said in &reader.subscribed {
        assert_eq!((said.code.get(), said.start.get()), (Code::Diverged as u16, 50));
    }
}

#[test]
fn what_retention_took_is_gone_and_what_cannot_be_read_is_said() {
    let (mut world, mut cold) = (world(1), Cold::new());
    let mut publisher = Publisher::open(&mut world, 1001, 1);
    publisher.fill(&mut world, &mut cold);
    cold.records.drain(..100);
    cold.range.earliest = 100;
    cold.tell(&mut world);
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, 1, (2, 99));
    let said = reader.subscribed.pop().expect("an answer");
    assert_eq!((said.code.get(), said.start.get()), (Code::OffsetGone as u16, 100));
    // It goes while a reader asks for it.
    subscribe(&mut world, &mut reader, 2, (2, 120));
    let request = world.shard.next_cold_request().expect("asked");
    cold.records.drain(..50);
    cold.range.earliest = 150;
    cold.tell(&mut world);
    world.shard.cold_answer(cold.read(request));
    run(&mut world, &cold, &mut [&mut reader]);
    let said = reader.subscribed.pop().expect("an answer");
    assert_eq!((said.code.get(), said.start.get()), (Code::OffsetGone as u16, 150));
    // A damaged place costs what it held.
    let mut other = Client::new(1003);
    world.open(&mut other);
    subscribe(&mut world, &mut other, 1, (2, 200));
    let request = world.shard.next_cold_request().expect("asked");
    world.shard.cold_answer(request.answer(ColdFound::Damaged { to: 230 }));
    run(&mut world, &cold, &mut [&mut other]);
    let all = offsets(&other);
    assert_eq!((all[0], all[1].0), ((200, 230, Skip::DAMAGED), 230));
    assert_eq!(all.last().map(|last| last.1), Some(800));
    // What was lost before it was copied is said as such.
    cold.records.retain(|(header, _)| !(300..310).contains(&header.offset.get()));
    let mut reader = Client::new(1005);
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, 1, (2, 300));
    let mut request = world.shard.next_cold_request().expect("asked");
    request.page.begin(STREAM, 310);
    request.page.speak_to(310);
    world.shard.cold_answer(request.answer(ColdFound::Page));
    run(&mut world, &cold, &mut [&mut reader]);
    assert_eq!(offsets(&reader)[0], (300, 310, Skip::LOST));
    assert_eq!(offsets(&reader).last().map(|last| last.1), Some(800));
    // A medium that cannot be read at all stops the reader.
    let mut third = Client::new(1004);
    world.open(&mut third);
    subscribe(&mut world, &mut third, 1, (2, 200));
    let request = world.shard.next_cold_request().expect("asked");
    world.shard.cold_answer(request.answer(ColdFound::Failed));
    run(&mut world, &cold, &mut [&mut third]);
    let said = third.subscribed.last().expect("told");
    assert_eq!((said.code.get(), said.start.get()), (Code::LogDamaged as u16, 200));
    assert_eq!(world.shard.cold_readers(), (0, 0));
}

#[test]
fn a_loss_between_cold_segments_and_the_log_is_passed_over() {
    let (mut world, mut cold) = (world(1), Cold::new());
    let mut publisher = Publisher::open(&mut world, 1001, 1);
    publisher.fill(&mut world, &mut cold);
    cold.records.truncate(50);
    cold.range.end = 50;
    cold.tell(&mut world);
    let mut reader = Client::new(1002);
    world.open(&mut reader);
    subscribe(&mut world, &mut reader, 1, (0, 0));
    run(&mut world, &cold, &mut [&mut reader]);
    let all = offsets(&reader);
    let (from, to, reason) = all[50];
    assert_eq!((from, reason), (50, Skip::LOST));
    assert_eq!((all[51].0, all.last().map(|last| last.1)), (to, Some(800)));
}
