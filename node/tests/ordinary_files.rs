//! A log on ordinary files: what it promises, and what happens when the medium fails.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::admin::get;
use common::disk::Disk;
use common::traffic::{PUBLISHER, Traffic, holds_exactly, udp};
use common::{Node, PATIENCE, Setting};
use mstream_client::{Event, From, Identity, connect};
use mstream_wire::Code;

/// A setting with its log on an ordinary file system, and the directory that it is in.
fn on_files() -> (Setting, tempfile::TempDir) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    (Setting::socket().log_in(&dir.path().join("log")), dir)
}

fn metrics(node: &Node) -> String {
    let (code, text) = get(node.admin(), "/metrics");
    assert_eq!(code, 200, "{text}");
    text
}

#[test]
fn the_level_is_media_sync_unless_that_is_not_wanted() {
    let (mut setting, _dir) = on_files();
    setting.text = setting.text.replace("[[stream]]", "require = \"media-sync\"\n[[stream]]");
    let node = setting.start();
    assert!(metrics(&node).contains("mstream_shard_level{shard=\"0\"} 3\n"));
    udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").publish_all(2_000);
    let text = metrics(&node);
    let syncs = "mstream_shard_sync_seconds_count{shard=\"0\"} ";
    let counted = text.lines().find_map(|line| line.strip_prefix(syncs)?.parse::<u64>().ok());
    assert!(counted.is_some_and(|syncs| syncs > 2), "{text}");
    node.stop();
    let node = setting.start();
    holds_exactly(connect::udp(setting.shard()).expect("a client"), 2_000);
    node.stop();
    setting.text = setting.text.replace("require", "sync = false\nrequire");
    let text = setting.refused();
    let expected = "gives level process (an ordinary file, and [wal] sync is false), but [wal] require is media-sync";
    assert!(text.contains(expected), "{text}");
    setting.text = setting.text.replace("\"media-sync\"", "\"process\"");
    let node = setting.start();
    assert!(metrics(&node).contains("mstream_shard_level{shard=\"0\"} 1\n"));
    holds_exactly(connect::udp(setting.shard()).expect("a client"), 2_000);
    node.stop();
}

#[test]
fn a_full_disk_holds_publishers_back_and_loses_nothing() {
    let test = "a_full_disk_holds_publishers_back_and_loses_nothing";
    let Some(disk) = Disk::new(test, 16 << 20) else { return };
    let ballast = disk.path().join("ballast");
    // Room for fewer segments than the eight that the log may have.
    fs::write(&ballast, vec![1; 8 << 20]).expect("room for it");
    let setting = Setting::socket().log_in(&disk.path().join("log"));
    let node = setting.start();
    let mut traffic = udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").reading(
        "s",
        From::Earliest,
        4096,
    );
    // More than the disk has room for.
    traffic.publish_all(100_000);
    let line = node.wait_line("cannot make a segment");
    assert!(line.contains("No space left on device"), "{line}");
    // All of it was taken and read: from a log that makes do with what it has.
    traffic.publish_all(1_000);
    fs::remove_file(&ballast).expect("there");
    node.wait_line("segments can be made again");
    traffic.publish_all(1_000);
    node.stop();
}

/// Starts mstreamd so that a write beyond a limit on files fails, where it would else end the process.
fn start_failing_softly(setting: &Setting) -> Node {
    let config = setting.file();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" --config \"$1\"", env!("CARGO_BIN_EXE_mstreamd")]);
    let mut node = Node::spawn(shell.arg(config));
    node.wait_ready();
    node
}

/// Every further write to a file fails.
fn fail_writes(node: &Node) {
    let pid = node.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=0"]).status();
    assert!(limited.expect("prlimit runs").success());
}

#[test]
fn a_medium_that_fails_poisons_the_log_and_says_so_everywhere() {
    const SOUND: u64 = 1_000;
    let (setting, _dir) = on_files();
    let node = start_failing_softly(&setting);
    let mut traffic = udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s");
    traffic.publish_all(SOUND);
    fail_writes(&node);
    let mut refused = 0;
    let deadline = Instant::now() + PATIENCE;
    while refused < 3 {
        assert!(Instant::now() < deadline, "not refused");
        if refused == 0 {
            traffic.publish(1);
        } else {
            let publication = traffic.publication();
            // As many as it takes; what the client has no room for comes later.
            let _ = traffic.client.publish(publication, b"", b"", b"refused as well");
            traffic.client.flush();
        }
        traffic.poll_with(|event| match event {
            Event::Refused { code, .. } => {
                assert_eq!(*code, Code::LogPoisoned);
                refused += 1;
            }
            Event::Acknowledged { sequence, .. } => assert!(*sequence <= SOUND, "{event:?}"),
            _ => {}
        });
    }
    let line = node.wait_line("the log is poisoned: ");
    assert!(line.contains("writing segment 00000000.seg failed: File too large"), "{line}");
    let (code, text) = get(node.admin(), "/readyz");
    assert!(
        code == 503 && text.contains("poisoned: writing segment 00000000.seg"),
        "{code} {text}"
    );
    let faulty = "mstream_shard_log_faulty{shard=\"0\",condition=\"poisoned: writing segment";
    assert!(metrics(&node).contains(faulty));
    assert!(!metrics(&node).contains("reason=\"log_poisoned\"} 0\n"));
    // What is durable is served, and nothing else.
    holds_exactly(connect::udp(setting.shard()).expect("a client"), SOUND);
    let mut other = Traffic::new(
        connect::udp(setting.shard()).expect("a client"),
        Identity::Publisher(PUBLISHER),
    );
    let mut failed = None;
    while failed.is_none() {
        assert!(Instant::now() < deadline, "not refused");
        other.poll_with(|event| {
            if let Event::SessionFailed { code, .. } = event {
                failed = Some(*code);
            }
        });
    }
    assert_eq!(failed, Some(Code::LogPoisoned));
    node.stop();
    has_at_least(&setting, SOUND);
}

/// Another start finds what was acknowledged, and takes more.
fn has_at_least(setting: &Setting, messages: u64) {
    let node = setting.start();
    let client = connect::udp(setting.shard()).expect("a client");
    let mut reader = Traffic::new(client, Identity::Anonymous).reading("s", From::Offset(0), 4096);
    reader.until("what was acknowledged", |seen| seen.next >= messages);
    assert_eq!(get(node.admin(), "/readyz").0, 200);
    assert!(Path::new(&setting.log).join("shard-0/00000000.seg").exists());
    node.stop();
}
