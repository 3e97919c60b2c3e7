//! A segment file cut short under a running node, with real SIGBUS: that costs the range, not the process.

mod common;

use std::fs;
use std::time::Instant;

use common::admin::get;
use common::traffic::{PUBLISHER, udp};
use common::{PATIENCE, Setting};
use mstream_client::{Event, From, Identity};
use mstream_wire::{Code, Skip};

/// More than one segment takes: the first one is known to have been full.
const MESSAGES: u64 = 16_000;

/// Reads the stream from its beginning to its end: how many messages came, and the ranges that were skipped.
fn read(setting: &Setting) -> (u64, Vec<(u64, u64, u16)>) {
    let mut reader = udp(setting, Identity::Anonymous).reading("s", From::Earliest, 4096);
    let deadline = Instant::now() + PATIENCE;
    let (mut read, mut next, mut skipped) = (0, 0, Vec::new());
    while next < MESSAGES {
        assert!(Instant::now() < deadline, "it stops at {next}, after {read}: {skipped:?}");
        reader.poll_with(|event| match event {
            Event::Message { offset, .. } => {
                assert_eq!(*offset, next);
                (read, next) = (read + 1, offset + 1);
            }
            Event::Skipped { from, to, reason, .. } => {
                assert_eq!(*from, next);
                skipped.push((*from, *to, *reason));
                next = *to;
            }
            _ => {}
        });
    }
    (read, skipped)
}

#[test]
fn a_file_cut_short_costs_the_range_not_the_node() {
    let setting = Setting::socket();
    let node = setting.start();
    udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").publish_all(MESSAGES);
    let first = setting.log.join("shard-0/00000000.seg");
    let whole = fs::metadata(&first).expect("there").len();
    fs::File::options()
        .write(true)
        .open(&first)
        .and_then(|file| file.set_len(whole / 4))
        .expect("cut");

    // Readers get what is left, and hear what is not.
    let (messages, skipped) = read(&setting);
    let missing: u64 = skipped.iter().map(|(from, to, _)| to - from).sum();
    assert!(missing > 0 && messages > 0, "{messages} read, {missing} missing");
    assert_eq!(messages + missing, MESSAGES);
    assert!(skipped.iter().all(|(_, _, reason)| *reason == Skip::DAMAGED), "{skipped:?}");
    assert_eq!(read(&setting), (messages, skipped), "the same again");

    // It says so, and takes nothing any more.
    let (code, text) = get(node.admin(), "/readyz");
    assert_eq!(code, 503);
    assert!(text.contains("poisoned: a part of segment 00000000.seg is gone"), "{text}");
    let mut publisher = udp(&setting, Identity::Publisher(PUBLISHER));
    let deadline = Instant::now() + PATIENCE;
    let mut failed = None;
    while failed.is_none() {
        assert!(Instant::now() < deadline, "not refused");
        publisher.poll_with(|event| {
            if let Event::SessionFailed { code, .. } = event {
                failed = Some(*code);
            }
        });
    }
    assert_eq!(failed, Some(Code::LogPoisoned));
    // Ended as ever; the next start says what is wrong with the file.
    node.stop();
    let text = setting.refused();
    assert!(
        text.contains("00000000.seg: ") && text.contains("bytes, but [wal] segment_bytes is"),
        "{text}"
    );
    // With its size given back, the lost part is damage: a fault, not an end.
    fs::File::options()
        .write(true)
        .open(&first)
        .and_then(|file| file.set_len(whole))
        .expect("room");
    let node = setting.start();
    let (code, text) = get(node.admin(), "/readyz");
    assert!(code == 503 && text.contains("FAULT: read-only"), "{text}");
    node.stop();
}
