//! A subscriber that stops reading while others go on.

mod common;

use std::time::{Duration, Instant};

use common::traffic::{self, PUBLISHER, Traffic};
use common::{Node, Setting};
use mstream_client::{From, Identity, Stop};
use mstream_nic::Port;

/// Enough messages for several turns of a log of 8 MiB.
const TURNS: u64 = 120_000;

/// Publishes `count` messages of up to 200 bytes while `reader` reads them.
fn publish<P: Port>(publisher: &mut Traffic<P>, reader: &mut Traffic<P>, count: u64) {
    let end = publisher.seen.published + count;
    let deadline = Instant::now() + common::PATIENCE;
    while reader.seen.next < end {
        assert!(Instant::now() < deadline, "{:?} {:?}", publisher.seen, reader.seen);
        // Never so far ahead that the log leaves the reader behind.
        if publisher.seen.published < end && publisher.seen.published < reader.seen.next + 8192 {
            publisher.publish((end - publisher.seen.published).min(64));
        }
        publisher.poll();
        reader.poll();
    }
    publisher.settle();
}

fn stops_reading<P: Port>(node: &Node, connect: impl Fn(Identity) -> Traffic<P>) {
    let mut publisher = connect(Identity::Publisher(PUBLISHER)).publishing("s");
    let mut reader = connect(Identity::Anonymous).reading("s", From::Earliest, 1024);
    let mut idler = connect(Identity::Anonymous).reading("s", From::Earliest, 1024);
    publish(&mut publisher, &mut reader, 500);
    idler.until("read so far", |seen| seen.next == 500);
    // More than its window and its ring, less than the log: it goes on where it stopped.
    let before = node.memory();
    publish(&mut publisher, &mut reader, 10_000);
    idler.until("read what was held for it", |seen| seen.next == 10_500);
    assert_eq!((idler.seen.read, &idler.seen.stopped), (10_500, &None));
    // More than the log holds: it is told what is gone.
    publish(&mut publisher, &mut reader, TURNS);
    idler.until("told", |seen| seen.stopped.is_some());
    let Some(Stop::OffsetGone { earliest }) = idler.seen.stopped else {
        panic!("{:?}", idler.seen);
    };
    assert!(earliest > idler.seen.next && earliest < 10_500 + TURNS, "{:?}", idler.seen);
    // It decides to go on from there, again if the log gives up what it was about to read: the
    // reserve is filled behind the last message too.
    let subscription = idler.subscription();
    let end = publisher.seen.published;
    while idler.seen.stopped.take().is_some() {
        (idler.seen.read, idler.seen.next) = (0, 0);
        idler.client.seek(subscription, From::Earliest);
        idler.until("read what is left", |seen| seen.next == end || seen.stopped.is_some());
    }
    assert!(idler.seen.read > 10_000, "{:?}", idler.seen);
    let after = node.memory();
    eprintln!("memory {} KiB, then {} KiB; {:?}", before >> 10, after >> 10, idler.seen);
    assert!(after < before + (1 << 20), "{before} bytes became {after}");
    assert!(reader.seen.lost.is_empty() && publisher.seen.lost.is_empty());
}

#[test]
fn a_memif_subscriber_that_stops_reading_is_told_what_it_missed() {
    let setting = Setting::memif();
    let node = setting.start();
    stops_reading(&node, |identity| traffic::memif(&setting, identity));
    node.stop();
}

#[test]
fn a_udp_subscriber_that_stops_reading_is_told_what_it_missed() {
    let setting = Setting::socket();
    let node = setting.start();
    stops_reading(&node, |identity| traffic::udp(&setting, identity));
    node.stop();
}

#[test]
fn one_that_is_silent_for_longer_than_a_session_lasts_is_told_too() {
    let mut setting = Setting::memif();
    setting.add("[limits]\nsession_timeout_ms = 1000");
    let node = setting.start();
    let connect = |identity| traffic::memif(&setting, identity);
    let mut publisher = connect(Identity::Publisher(PUBLISHER)).publishing("s");
    let mut reader = connect(Identity::Anonymous).reading("s", From::Earliest, 1024);
    let mut idler = connect(Identity::Anonymous).reading("s", From::Earliest, 1024);
    publish(&mut publisher, &mut reader, 100);
    idler.until("read so far", |seen| seen.next == 100);
    let silent = Instant::now();
    publish(&mut publisher, &mut reader, TURNS);
    while silent.elapsed() < Duration::from_millis(2500) {
        publish(&mut publisher, &mut reader, 10);
    }
    idler.until("told", |seen| seen.stopped.is_some());
    assert!(matches!(idler.seen.stopped, Some(Stop::OffsetGone { .. })), "{:?}", idler.seen);
    assert_eq!(idler.seen.opened, 2, "{:?}", idler.seen);
    assert!(reader.seen.lost.is_empty() && publisher.seen.lost.is_empty());
    node.wait_count("sessions_expired", 1);
    node.stop();
}
