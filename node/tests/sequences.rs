//! Sequences, batches and messages that are not as they should be.

mod common;

use common::Setting;
use common::raw::{self, Raw};
use common::traffic::{self, PUBLISHER, holds_exactly};
use mstream_client::{From, Identity, connect};
use mstream_wire::{Ack, Code, crc32c};

/// A stream that is spoken to by hand.
const OTHER: u64 = 2;

fn setting() -> Setting {
    let mut setting = Setting::socket();
    setting.add(&format!("[[stream]]\nid = {OTHER}\nname = \"other\""));
    setting
}

/// The numbers of an ack that a publisher acts on.
fn told(ack: &Ack) -> (u64, u64, u64, u64, u16) {
    let Ack { received, committed, round, refused, code, .. } = ack;
    (received.get(), committed.get(), round.get(), refused.get(), code.get())
}

#[test]
fn repeated_skipped_and_overlapping_sequences_store_each_message_once() {
    let setting = setting();
    let node = setting.start();
    let mut raw = Raw::open(setting.shard(), 1, OTHER);
    let first = raw.publish(1, &[b"1", b"2"]);
    assert_eq!(told(&raw.ack_after(&first)), (2, 2, 1, 0, 0));
    // The same again, as it is and in another datagram; and a part of it.
    assert_eq!(told(&raw.ack_after(&first)), (2, 2, 1, 0, 0));
    let repeat = raw.publish(1, &[b"1"]);
    assert_eq!(told(&raw.ack_after(&repeat)), (2, 2, 1, 0, 0));
    // One is missing in between.
    let skipped = raw.publish(4, &[b"4"]);
    assert_eq!(told(&raw.ack_after(&skipped)), (2, 2, 1, 0, 0));
    let far = raw.publish(u64::MAX, &[b"far"]);
    assert_eq!(told(&raw.ack_after(&far)), (2, 2, 1, 0, 0));
    // Half of it is stored: refused, and with it everything of its round.
    let overlap = raw.publish(2, &[b"2", b"3"]);
    assert_eq!(told(&raw.ack_after(&overlap)), (2, 2, 2, 3, Code::Overlap as u16));
    let old_round = raw.publish(3, &[b"old"]);
    assert_eq!(told(&raw.ack_after(&old_round)), (2, 2, 2, 3, Code::Overlap as u16));
    raw.round = 2;
    let third = raw.publish(3, &[b"3"]);
    assert_eq!(told(&raw.ack_after(&third)), (3, 3, 2, 3, Code::Overlap as u16));
    // Numbers that no sequence has.
    for (first, count, code) in [
        (0, 1, Code::MalformedBlock),
        (u64::MAX, 2, Code::MalformedBlock),
        (4, 0, Code::MalformedBlock),
        (4, 2, Code::MalformedBlock),
    ] {
        let block = raw::block(&[b"x"]);
        let bytes = raw.publish_as(first, count, crc32c(&block), &block);
        let round = raw.round + 1;
        let ack = raw.ack_after(&bytes);
        assert_eq!((ack.received.get(), ack.code.get()), (3, code as u16), "{first} {count}");
        assert_eq!(ack.round.get(), round, "{first} {count}");
        raw.round = round;
    }
    let fourth = raw.publish(4, &[b"4"]);
    assert_eq!(raw.ack_after(&fourth).committed.get(), 4);
    let reasons =
        [("repeat", 2), ("gap", 2), ("overlap", 1), ("wrong_round", 1), ("block_shape", 4)];
    for (reason, least) in reasons {
        node.wait_count(reason, least);
    }
    node.wait_count("batches", 3);
    assert_eq!((node.count("messages"), node.count("batches")), (4, 3));
    node.stop();
}

#[test]
fn batches_that_are_refused_leave_the_stream_as_it_was() {
    let setting = setting();
    let node = setting.start();
    let mut raw = Raw::open(setting.shard(), 1, OTHER);
    let sound = raw::block(&[b"some bytes"]);
    let flagged = |flags: u8| {
        let mut block = sound.clone();
        block[4] = flags;
        block
    };
    let mut longer = sound.clone();
    longer[0] = 200;
    let mut key_too_long = sound.clone();
    key_too_long[5] = 200;
    let mut dirty = sound.clone();
    *dirty.last_mut().expect("padding") = 1;
    let too_large = raw::block(&[&[7; 1280]]);
    assert_eq!(too_large.len(), 1288);
    let refused = [
        (Code::TooLarge, "too_large", too_large),
        (Code::Unsupported, "part", flagged(1)),
        (Code::Unsupported, "part", flagged(2)),
        (Code::Unsupported, "part", flagged(7)),
        (Code::MalformedBlock, "block_shape", longer),
        (Code::MalformedBlock, "block_shape", key_too_long),
        (Code::MalformedBlock, "block_shape", dirty),
    ];
    let mut next = 1;
    for (code, reason, block) in refused {
        let before = node.count(reason);
        let bytes = raw.publish_as(next, 1, crc32c(&block), &block);
        let ack = raw.ack_after(&bytes);
        let expected = (next - 1, next - 1, raw.round + 1, next, code as u16);
        assert_eq!(told(&ack), expected, "{reason}");
        node.wait_count(reason, before + 1);
        raw.round += 1;
        // Its sequence goes to the next one.
        let bytes = raw.publish(next, &[b"sound"]);
        assert_eq!(raw.ack_after(&bytes).committed.get(), next);
        next += 1;
    }
    // Damaged on the way: dropped without a word, and sound when it comes again.
    let bytes = raw.publish_as(next, 1, crc32c(&sound) ^ 1, &sound);
    assert_eq!(raw.ack_after(&bytes).received.get(), next - 1);
    node.wait_count("block_crc", 1);
    let bytes = raw.publish_as(next, 1, crc32c(&sound), &sound);
    assert_eq!(raw.ack_after(&bytes).committed.get(), next);
    // Somebody else's handle.
    let mut thief = Raw::open(setting.shard(), 2, OTHER);
    thief.handle = raw.handle;
    let bytes = thief.publish(next + 1, &[b"stolen"]);
    thief.socket.send(&bytes).expect("sent");
    node.wait_count("unknown_handle", 1);
    assert_eq!(raw.ack().received.get(), next);
    node.stop();
}

#[test]
fn a_message_over_the_limit_is_refused_by_the_client_and_the_stream_goes_on() {
    let mut setting = Setting::socket();
    setting.add("[limits]\nmax_block_bytes = 240");
    let node = setting.start();
    let mut good = traffic::udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").reading(
        "s",
        From::Earliest,
        64,
    );
    good.publish_all(50);
    let publication = good.publication();
    for payload in [233, 240, 1280, 70_000] {
        let refused = good.client.publish(publication, b"", b"", &vec![1; payload]);
        let refused = refused.expect_err("too large").to_string();
        assert!(refused.contains("the most is 240"), "{refused}");
    }
    let refused = good.client.publish(publication, &[1; 256], b"", b"");
    assert!(refused.is_err(), "{refused:?}");
    good.publish_all(50);
    holds_exactly(connect::udp(setting.shard()).expect("a client"), 100);
    node.stop();
}
