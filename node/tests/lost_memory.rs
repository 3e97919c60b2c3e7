//! Segment files cut short, changed and exchanged under a running node, with real SIGBUS where memory is gone: that costs
//! the range, not the process, and no reader gets one message for another.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::admin::{Admin, get};
use common::traffic::{PUBLISHER, payload, udp};
use common::{PATIENCE, Setting};
use mstream_admin::v1;
use mstream_client::{Event, From, Identity};
use mstream_wire::{Code, Skip};

/// More than one segment takes: the first one is known to have been full.
const MESSAGES: u64 = 12_000;
/// One in the first segment.
const CHANGED: u64 = 700;

/// Reads the stream from its beginning to its end: how many messages came, and the ranges that were skipped.
fn read(setting: &Setting) -> (u64, Vec<(u64, u64, u16)>) {
    let mut reader = udp(setting, Identity::Anonymous).reading("s", From::Earliest, 4096);
    let deadline = Instant::now() + PATIENCE;
    let (mut read, mut next, mut skipped) = (0, 0, Vec::new());
    while next < MESSAGES {
        assert!(Instant::now() < deadline, "it stops at {next}, after {read}: {skipped:?}");
        reader.poll_with(|event| match event {
            Event::Message { offset, message, .. } => {
                assert_eq!(*offset, next);
                assert!(message.payload == payload(next), "message {next}");
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
    assert_eq!(read(&setting), (messages, skipped.clone()), "the same again");

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
    // Ended as ever. The next start serves the same, as a fault, and leaves the file as it is.
    node.stop();
    let node = setting.start();
    let (code, text) = get(node.admin(), "/readyz");
    assert!(code == 503 && text.contains("FAULT: read-only"), "{text}");
    let range = (skipped[0].0, skipped[0].0 + missing, Skip::DAMAGED);
    assert_eq!(read(&setting), (messages, vec![range]), "as before");
    node.stop();
    assert_eq!(fs::metadata(&first).expect("there").len(), whole / 4);
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::File::options().write(true).open(path).expect("there");
    file.write_all_at(bytes, at).expect("inside");
}

#[test]
fn a_changed_byte_costs_its_record() {
    let setting = Setting::socket();
    let node = setting.start();
    let mut traffic = udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s");
    traffic.publish_all(MESSAGES);
    assert_eq!(read(&setting), (MESSAGES, vec![]));
    let first = setting.log.join("shard-0/00000000.seg");
    let (bytes, text) = (fs::read(&first).expect("there"), payload(CHANGED));
    let at = bytes.windows(text.len()).position(|part| part == text).expect("stored");
    overwrite(&first, at as u64 + 9, &[!bytes[at + 9]]);
    // Its reader drops it, asks again, and hears that it is not what was stored.
    let (messages, skipped) = read(&setting);
    let [(from, to, reason)] = skipped[..] else { panic!("{skipped:?}") };
    assert!((from..to).contains(&CHANGED) && reason == Skip::DAMAGED, "{skipped:?}");
    assert_eq!(messages + (to - from), MESSAGES);
    assert_eq!(read(&setting), (messages, skipped), "the same again");

    // Its operator hears of it too, and so does whoever watches for them. Publishers go on.
    let line = node.wait_line("the log is damaged: stored messages cannot be read");
    let place = format!("the first one met is offset {from} of stream 1");
    assert!(line.contains(&place), "{line}");
    let admin = Admin::at(node.admin());
    let shard = admin.status().shards.remove(0);
    assert!(shard.log_condition.contains(&place), "{}", shard.log_condition);
    let unreadable = shard.unreadable.expect("told");
    // Twice; more often where an answer was lost and asked for again.
    assert!(unreadable.messages >= 2 * (to - from), "{unreadable:?}");
    let place = |offset| v1::Place { stream: "s".into(), stream_id: 1, offset };
    assert_eq!((&unreadable.first, &unreadable.last), (&Some(place(from)), &Some(place(to - 1))));
    let deadline = Instant::now() + PATIENCE;
    let noted = |error: &v1::Error| {
        error.text.starts_with("log damaged: ") && error.count == unreadable.messages
    };
    while !admin.errors().iter().any(noted) {
        assert!(Instant::now() < deadline, "{:?}", admin.errors());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (_, text) = get(node.admin(), "/metrics");
    let counted = "mstream_shard_unreadable_messages_total{shard=\"0\"} ";
    assert!(text.contains(&format!("{counted}{}\n", unreadable.messages)), "{text}");
    let (code, text) = get(node.admin(), "/readyz");
    assert!(code == 503 && text.contains("shard 0: damaged"), "{code} {text}");
    traffic.publish_all(1);
    node.stop();
}

#[test]
fn exchanged_files_are_never_read_for_each_other() {
    let setting = Setting::socket();
    let node = setting.start();
    udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").publish_all(MESSAGES);
    let path = |slot: u32| setting.log.join(format!("shard-0/{slot:08}.seg"));
    let (one, other) = (fs::read(path(0)).expect("there"), fs::read(path(1)).expect("there"));
    overwrite(&path(0), 0, &other);
    overwrite(&path(1), 0, &one);
    let (messages, skipped) = read(&setting);
    let missing: u64 = skipped.iter().map(|(from, to, _)| to - from).sum();
    assert!(missing > 0, "{skipped:?}");
    assert_eq!(messages + missing, MESSAGES);
    overwrite(&path(0), 0, &one);
    overwrite(&path(1), 0, &other);
    assert_eq!(read(&setting), (MESSAGES, vec![]), "all of it is back");
    node.stop();
    // To a start the order of the files means nothing.
    overwrite(&path(0), 0, &other);
    overwrite(&path(1), 0, &one);
    let node = setting.start();
    assert_eq!(read(&setting), (MESSAGES, vec![]));
    node.stop();
}
