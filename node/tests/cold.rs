//! Cold streams: what the log recycles is read from cold segments, whole and in order, also after a kill.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use common::admin::{Admin, by_name, get};
use common::disk::Disk;
use common::traffic::{PUBLISHER, Traffic, holds_exactly, udp};
use common::{Node, PATIENCE, Setting, mstreamd};
use mstream_admin::v1;
use mstream_client::{Event, From, Identity, Stop, connect};
use mstream_pmem::cold::{Owner, of_others, set_aside};

/// A setting with a cold stream `s`, one that keeps the newest message of each key, `n`, and one that is not cold, `h`, on
/// a log of 4 MiB.
fn setting() -> Setting {
    let mut setting = Setting::socket();
    setting.text = setting
        .text
        .replace("segment_bytes = \"1 MiB\"", "segment_bytes = \"256 KiB\"")
        .replace("max_bytes = \"8 MiB\"", "max_bytes = \"4 MiB\"")
        .replace(
            "name = \"s\"\n",
            "name = \"s\"\ncold = true\n[[stream]]\nid = 2\nname = \"n\"\nnewest_per_key = true\n[[stream]]\nid = 3\n\
             name = \"h\"\n",
        );
    setting
}

fn cold_number(node: &Node, name: &str) -> u64 {
    let status = Admin::at(node.admin()).status();
    let cold = status.shards[0].cold.clone().expect("there");
    let all = cold.positions.iter().chain(&cold.counters);
    all.filter(|number| number.name == name).map(|number| number.value).sum()
}

/// Publishes `count` messages of 100 keys to `n`; what is the newest of each key then.
fn publish_keys(setting: &Setting, round: u64, count: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut traffic = udp(setting, Identity::Publisher(PUBLISHER)).publishing("n");
    let publication = traffic.publication();
    let mut newest = BTreeMap::new();
    let (mut number, mut acknowledged, mut opened) = (0, 0, None);
    let deadline = Instant::now() + PATIENCE;
    while acknowledged < count {
        assert!(Instant::now() < deadline, "{acknowledged} of {count} acknowledged");
        while number < count {
            let key = format!("key {}", number * 7 % 100).into_bytes();
            let payload = format!("{round} {number} {}", "x".repeat(150)).into_bytes();
            if traffic.client.publish(publication, &key, b"", &payload).is_err() {
                break;
            }
            newest.insert(key, payload);
            number += 1;
        }
        traffic.client.flush();
        traffic.poll_with(|event| match event {
            Event::PublicationOpened { sequence, .. } => opened = opened.or(Some(*sequence)),
            Event::Acknowledged { sequence, .. } => {
                acknowledged = *sequence - opened.expect("it was opened");
            }
            _ => {}
        });
    }
    newest
}

/// What `n` holds: the newest message of each key that is delivered, how many there were, how many were skipped.
fn read_keys(setting: &Setting, end: u64) -> (BTreeMap<Vec<u8>, Vec<u8>>, u64, u64) {
    let mut reader = udp(setting, Identity::Anonymous).reading("n", From::Earliest, 4096);
    let (mut newest, mut read, mut skipped, mut next) = (BTreeMap::new(), 0, 0, None);
    let deadline = Instant::now() + PATIENCE;
    while next != Some(end) {
        assert!(Instant::now() < deadline, "{next:?} of {end}: {read} read, {skipped} skipped");
        reader.poll_with(|event| match event {
            Event::Subscribed { start, .. } if next.is_none() => next = Some(*start),
            Event::Message { offset, message, .. } => {
                assert_eq!(Some(*offset), next, "in order, without holes");
                newest.insert(message.key.to_vec(), message.payload.to_vec());
                (next, read) = (Some(offset + 1), read + 1);
            }
            Event::Skipped { from, to, .. } => {
                assert_eq!(Some(*from), next, "in order, without holes");
                (next, skipped) = (Some(*to), skipped + to - from);
            }
            Event::SubscriptionStopped { why, .. } => panic!("{why:?}"),
            _ => {}
        });
    }
    (newest, read, skipped)
}

#[test]
fn all_of_a_cold_stream_is_read_though_the_log_was_recycled_many_times_and_killed() {
    let setting = setting();
    let node = setting.start();
    let mut traffic = udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").reading(
        "s",
        From::Earliest,
        4096,
    );
    traffic.publish_all(60_000);
    // While it copies.
    node.kill();
    let node = setting.start();
    traffic.publish_all(60_000);
    drop(traffic);
    let before = publish_keys(&setting, 1, 30_000);
    assert_eq!(before.len(), 100);
    node.kill();
    let node = setting.start();
    let newest = publish_keys(&setting, 2, 30_000);
    udp(&setting, Identity::Publisher(PUBLISHER)).publishing("h").publish_all(60_000);
    // Until all of the first two is recycled but their last records.
    assert!(cold_number(&node, "files") > 0);
    holds_exactly(connect::udp(setting.shard()).expect("a client"), 120_000);
    let (found, read, skipped) = read_keys(&setting, 60_000);
    assert!(found == newest, "the newest of each key is there");
    assert_eq!(read + skipped, 60_000);
    assert!(skipped > 10_000, "{skipped} were compacted away");
    // What is not cold is gone.
    let mut reader = udp(&setting, Identity::Anonymous).reading("h", From::Offset(0), 4096);
    reader.until("it is told", |seen| seen.stopped.is_some());
    let stopped = reader.seen.stopped;
    assert!(matches!(stopped, Some(Stop::OffsetGone { earliest: 1.. })), "{stopped:?}");
    let admin = Admin::at(node.admin());
    let positions = admin.describe(by_name("s")).expect("there").positions.expect("told");
    assert_eq!((positions.earliest_offset, positions.cold_earliest_offset), (0, 0));
    assert!(positions.cold_end > 100_000, "{positions:?}");
    let (code, text) = get(node.admin(), "/metrics");
    assert_eq!(code, 200);
    assert!(text.contains("mstream_shard_cold_faulty{shard=\"0\",condition=\"\"} 0\n"), "{text}");
    node.stop();
    // And over an orderly end.
    let node = setting.start();
    holds_exactly(connect::udp(setting.shard()).expect("a client"), 120_000);
    assert!(read_keys(&setting, 60_000).0 == newest);
    // A deleted stream takes its cold segments with it.
    let admin = Admin::at(node.admin());
    admin.delete(vec![by_name("s"), by_name("n")]);
    let deadline = Instant::now() + PATIENCE;
    while cold_number(&node, "streams") > 0 {
        assert!(Instant::now() < deadline, "they stay");
        std::thread::yield_now();
    }
    node.stop();
}

/// Names the directory of cold segments.
fn cold_in(setting: &mut Setting, dir: &Path) {
    setting.add(&format!("[cold]\ndir = \"{}\"", dir.display()));
}

#[test]
fn a_full_disk_of_cold_segments_holds_publishers_back_and_loses_nothing() {
    let test = "a_full_disk_of_cold_segments_holds_publishers_back_and_loses_nothing";
    let Some(disk) = Disk::new(test, 32 << 20) else { return };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 26 << 20]).expect("room for it");
    let mut setting = setting();
    cold_in(&mut setting, &disk.path().join("cold"));
    let node = setting.start();
    let mut traffic = udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s");
    let deadline = Instant::now() + PATIENCE;
    let full = |node: &Node| get(node.admin(), "/metrics").1.contains("No space left on device");
    while !full(&node) {
        assert!(Instant::now() < deadline, "it never gets full");
        for _ in 0..200 {
            traffic.publish(64);
            traffic.poll();
        }
    }
    // It goes on until the log is full, and then waits.
    let line = node.wait_line("copying cold segments: ");
    assert!(line.contains("No space left on device"), "{line}");
    let condition =
        Admin::at(node.admin()).status().shards[0].cold.clone().expect("there").condition;
    assert!(condition.contains("No space left on device"), "{condition}");
    let mut before = u64::MAX;
    while before != traffic.seen.acknowledged {
        assert!(Instant::now() < deadline, "it never waits");
        before = traffic.seen.acknowledged;
        let end = Instant::now() + std::time::Duration::from_millis(500);
        while Instant::now() < end {
            traffic.publish(64);
            traffic.poll();
        }
    }
    holds_exactly_up_to(&setting, before);
    fs::remove_file(&ballast).expect("there");
    traffic.settle();
    traffic.publish_all(1_000);
    holds_exactly(connect::udp(setting.shard()).expect("a client"), traffic.seen.published);
    node.stop();
}

/// What was acknowledged can be read while nothing more is taken.
fn holds_exactly_up_to(setting: &Setting, count: u64) {
    let client = connect::udp(setting.shard()).expect("a client");
    let mut reader = Traffic::new(client, Identity::Anonymous).reading("s", From::Offset(0), 4096);
    reader.until("what was acknowledged", |seen| seen.next >= count);
}

#[test]
fn a_directory_that_promises_less_than_the_log_is_refused() {
    let log = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let memory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let mut setting = setting().log_in(&log.path().join("log"));
    cold_in(&mut setting, memory.path());
    let text = setting.refused();
    let expected = "their directory gives level process, the log has level media-sync";
    assert!(text.contains(expected), "{text}");
    let check =
        mstreamd().args(["--check", "--config"]).arg(setting.file()).output().expect("runs");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains(expected), "{said}");
}

/// A log that is lost whole, and what is left of it in cold segments: refused, set aside, and never served for the log
/// that takes its place.
#[test]
fn cold_segments_of_another_log_are_refused_until_they_are_set_aside() {
    let mut setting = setting();
    let cold = tempfile::tempdir_in("/dev/shm").expect("a directory");
    cold_in(&mut setting, cold.path());
    let node = setting.start();
    udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").publish_all(30_000);
    let mut reader = udp(&setting, Identity::Anonymous).reading("s", From::Earliest, 4096);
    reader.until("all of it", |seen| seen.next == 30_000);
    assert!(cold_number(&node, "files") > 0);
    node.stop();
    fs::remove_dir_all(setting.log.join("shard-0")).expect("there");
    let dir = cold.path().join("shard-0");
    let count = |dir: &Path| fs::read_dir(dir).map_or(0, Iterator::count);
    let before = count(&dir);
    let text = setting.refused();
    let log = setting.log.display();
    let mends = format!("`mstream wal set-cold-aside {log} --shard 0 --cold {}`", dir.display());
    assert!(text.contains(&mends) && text.contains(".cold: of log "), "{text}");
    assert_eq!(setting.refused(), text, "it stays so");
    assert_eq!(count(&dir), before, "nothing is removed");

    // What the command does.
    let header = fs::read(setting.log.join("shard-0/00000000.seg")).expect("the new log");
    let log_id = *header[16..].first_chunk().expect("its id");
    let others = of_others(&dir, Owner { log_id, shard: 0 }).expect("read");
    set_aside(&dir, &others).expect("moved");
    assert_eq!((count(&dir), count(&others[0].dir)), (1, before));
    let node = setting.start();
    // Who had read the former log hears that, and the stream begins anew.
    reader.until("it is told", |seen| seen.stopped.is_some());
    let stopped = reader.seen.stopped;
    assert_eq!(stopped, Some(Stop::Diverged { next: 30_000, common: 0 }));
    let admin = Admin::at(node.admin());
    let positions = || admin.describe(by_name("s")).expect("there").positions.expect("told");
    assert_eq!((positions().earliest_offset, positions().cold_end), (0, 0));
    udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").publish_all(40_000);
    assert!(positions().cold_end > 0, "it copies");
    holds_exactly(connect::udp(setting.shard()).expect("a client"), 40_000);
    node.stop();
    assert_eq!(count(&others[0].dir), before);
}

#[test]
fn rules_of_a_stream_that_is_there_do_not_change() {
    let mut setting = Setting::socket();
    setting.start().stop();
    setting.text = setting.text.replace("name = \"s\"\n", "name = \"s\"\ncold = true\n");
    let text = setting.refused();
    assert!(text.contains("`cold`: stream `s` (id 1) was created without it"), "{text}");
}

#[test]
fn a_stream_that_is_created_while_the_node_runs_is_cold_at_once() {
    let node_setting = setting();
    let node = node_setting.start();
    let admin = Admin::at(node.admin());
    let rules = v1::Rules { newest_per_key: true, ..Default::default() };
    let spec = v1::StreamSpec { name: "new".to_string(), shard: None, rules: Some(rules) };
    let made = admin.create_specs(vec![spec]).expect("answered").remove(0).expect("created");
    let rules = made.rules.expect("told");
    assert!(rules.cold && rules.newest_per_key, "the one implies the other");
    udp(&node_setting, Identity::Publisher(PUBLISHER)).publishing("new").publish_all(60_000);
    let mut reader = udp(&node_setting, Identity::Anonymous).reading("new", From::Earliest, 4096);
    // Messages without a key all stay.
    reader.until("all of it", |seen| seen.next == 60_000);
    assert_eq!(reader.seen.read, 60_000);
    node.stop();
}
