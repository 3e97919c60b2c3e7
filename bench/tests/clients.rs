//! The plain clients against the real appliance.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Appliance, PATIENCE, Running, complaint, json, mstreamd, output};

fn spawn(mut command: std::process::Command) -> Running {
    Running(command.spawn().expect("it starts"))
}

/// Makes a session's file; its SHA-256 as `publish` and `subscribe` say it is checked against.
fn session(appliance: &Appliance, messages: &str) -> Vec<u8> {
    let file = appliance.path("session.bin");
    let path = file.to_str().expect("plain letters");
    let made =
        output(&["itch", "generate", "--seed", "7", "--messages", messages, "--output", path]);
    assert_eq!(made.status.code(), Some(0), "{}", complaint(&made));
    fs::read(file).expect("the session is there")
}

#[test]
fn a_session_is_read_back_byte_for_byte() {
    let Some(program) = mstreamd("a_session_is_read_back_byte_for_byte") else { return };
    for memif in [true, false] {
        let appliance = Appliance::new(program.clone());
        let _running = appliance.start();
        let bytes = session(&appliance, "20000");
        let (sent, got) = (appliance.path("sent.json"), appliance.path("got.json"));
        let input = appliance.path("session.bin");
        let mut publish = appliance.client("publish", memif, &["--publisher", "1"]);
        publish.arg("--input").arg(&input).arg("--json").arg(&sent);
        let mut subscribe = appliance.client("subscribe", !memif, &["--count", "20000"]);
        subscribe.arg("--output").arg(appliance.path("copy.bin")).arg("--json").arg(&got);
        let (mut publish, mut subscribe) = (spawn(publish), spawn(subscribe));
        assert_eq!((publish.code(), subscribe.code()), (Some(0), Some(0)));
        let (sent, got) = (json(&sent), json(&got));
        assert_eq!((&sent["messages"], &got["messages"]), (&20000.into(), &20000.into()));
        assert_eq!(sent["sha256"], got["sha256"]);
        assert_eq!(sent["bytes"], bytes.len());
        assert_eq!(got["first_offset"], 0);
        for fault in ["lost", "duplicated", "out_of_order"] {
            assert_eq!(got[fault], 0);
        }
        assert_eq!(fs::read(appliance.path("copy.bin")).expect("the copy is there"), bytes);
    }
}

#[test]
fn named_publishers_and_readers_go_on_over_a_kill() {
    let Some(program) = mstreamd("named_publishers_and_readers_go_on_over_a_kill") else { return };
    let appliance = Appliance::new(program);
    let mut node = appliance.start();
    let (sent, got) = (appliance.path("sent.json"), appliance.path("got.json"));
    let status = appliance.path("status.json");
    let more = ["--publisher", "1", "--itch-seed", "7", "--messages", "6000", "--rate", "4000"];
    let mut publish = appliance.client("publish", true, &more);
    publish.arg("--json").arg(&sent).arg("--status-file").arg(&status);
    let mut subscribe = appliance.client("subscribe", false, &["--count", "6000"]);
    subscribe.arg("--json").arg(&got);
    let (mut publish, mut subscribe) = (spawn(publish), spawn(subscribe));
    let deadline = Instant::now() + PATIENCE;
    while !status.is_file() || json(&status)["acknowledged"].as_u64() < Some(2000) {
        assert!(Instant::now() < deadline, "nothing is acknowledged");
        std::thread::sleep(Duration::from_millis(5));
    }
    node.0.kill().expect("it runs");
    node.0.wait().expect("a child of ours");
    let _again = appliance.start();
    assert_eq!((publish.code(), subscribe.code()), (Some(0), Some(0)));
    let (sent, got) = (json(&sent), json(&got));
    assert_eq!(sent["sha256"], got["sha256"]);
    assert_eq!(sent["messages"], 6000);
    assert!(sent["reconnects"].as_u64() > Some(0) && got["reconnects"].as_u64() > Some(0));
    let end = json(&status);
    assert_eq!((&end["acknowledged"], &end["sent"]), (&6000.into(), &6000.into()));
}

#[test]
fn what_the_appliance_does_not_have_is_one_clear_line() {
    let Some(program) = mstreamd("what_the_appliance_does_not_have_is_one_clear_line") else {
        return;
    };
    let appliance = Appliance::new(program);
    let _running = appliance.start();
    let target = appliance.address.to_string();
    let to = ["--target", &target];
    for (args, reason) in [
        (&["publish", "--count", "1", "--stream", "other"][..], "unknown stream"),
        (&["publish", "--count", "1", "--stream", "s", "--publisher", "9"], "unknown publisher"),
        (&["subscribe", "--stream", "other"], "unknown stream"),
        (&["subscribe", "--stream", "s", "--from", "5"], "diverged"),
    ] {
        let output = output(&[args, &to].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let complaint = complaint(&output).to_lowercase();
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.contains(reason), "{args:?}: {complaint}");
    }
}
