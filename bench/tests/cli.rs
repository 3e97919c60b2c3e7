//! The command line: what it refuses, and how.

mod common;

use std::fs;
use std::process::Command;

use common::{complaint, output};

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &[][..],
        &["no-such-scenario"],
        &["latency", "--no-such-flag"],
        &["latency", "--size", "7"],
        &["latency", "--size", "1273"],
        &["latency", "--seconds", "0"],
        &["latency", "--rate", "0"],
        &["latency", "--rate", "5", "--in-flight", "2"],
        &["latency", "--batch", "18"],
        &["latency", "--port", "tin-can"],
        &["latency", "--target", "10.0.0.1"],
        &["latency", "--memif", "x.sock"],
        &["wal", "--burst", "0"],
        &["wal", "--size", "65441"],
        &["recovery", "--mib", "0"],
        &["index", "--records", "0"],
        &["floor", "--target", "10.0.0.1:7500"],
        &["publish", "--target", "10.0.0.1:7500", "--stream", "s"],
        &["publish", "--target", "10.0.0.1:7500", "--stream", "s", "--itch-seed", "1"],
        &["publish", "--target", "10.0.0.1:7500", "--stream", "s", "--count", "1", "--input", "f"],
        &["subscribe", "--target", "10.0.0.1:7500"],
        &["subscribe", "--target", "10.0.0.1:7500", "--stream", "s", "--from", "somewhere"],
        &["itch", "generate", "--seed", "1", "--messages", "7", "--output", "f"],
    ] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", complaint(&output));
        assert!(complaint(&output).starts_with("error: ") || args.is_empty(), "{args:?}");
    }
}

#[test]
fn help_names_every_option_of_the_contract() {
    let help = output(&["throughput", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for option in [
        "--rate",
        "--in-flight",
        "--batch",
        "--size",
        "--seconds",
        "--runs",
        "--wal",
        "--target",
        "--port",
        "--seed",
        "--json",
        "--html",
        "--server-core",
        "--client-core",
    ] {
        assert!(help.contains(option), "{option}");
    }
    for port in ["memif", "dpdk-memif", "dpdk-tap", "socket"] {
        assert!(help.contains(port), "{port}");
    }
}

#[test]
fn a_missing_appliance_program_is_one_clear_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let alone = dir.path().join("mstream-bench");
    fs::copy(env!("CARGO_BIN_EXE_mstream-bench"), &alone).expect("copied");
    let output = Command::new(&alone).arg("latency").output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let complaint = complaint(&output);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.contains("mstreamd") && complaint.contains("cargo build"), "{complaint}");
}

#[test]
fn failures_are_one_line_and_end_with_1() {
    for args in [
        &["latency", "--server-core", "100000"][..],
        &["latency", "--wal", "/no/such/directory"],
        &["itch", "check", "/no/such/file"],
        &["itch", "generate", "--seed", "1", "--messages", "8", "--output", "/no/such/dir/f"],
        &["subscribe", "--target", "127.0.0.1:9", "--stream", "s", "--patience", "1"],
        &["publish", "--target", "127.0.0.1:9", "--stream", "s", "--count", "1", "--patience", "1"],
    ] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let complaint = complaint(&output);
        let last = complaint.lines().last().unwrap_or_default();
        assert!(last.starts_with("mstream-bench: ") && last.len() > 20, "{args:?}: {complaint}");
    }
}

#[test]
fn a_generated_session_passes_the_check() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("session.gz");
    let file = file.to_str().expect("plain letters");
    let made = output(&["itch", "generate", "--seed", "3", "--messages", "5000", "--output", file]);
    assert_eq!(made.status.code(), Some(0), "{}", complaint(&made));
    let checked = output(&["itch", "check", file]);
    assert_eq!(checked.status.code(), Some(0), "{}", complaint(&checked));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("5000 messages"));
}
