//! The scenarios that measure the log alone, small. Nothing is said about speed.

mod common;

use std::process::Output;

use common::{bench, complaint, json};
use serde_json::Value;

fn measured(args: &[&str]) -> (Output, Value) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("figures.json");
    let output = bench()
        .args(args)
        .args(["--runs", "1", "--json"])
        .arg(&file)
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", complaint(&output));
    let report = json(&file);
    assert_eq!(report["scenario"], args[0]);
    for key in ["cpu", "cores", "kernel", "huge_pages"] {
        assert!(report["host"].get(key).is_some(), "{key}: {report}");
    }
    (output, report)
}

fn positive(case: &Value, keys: &[&str]) {
    for key in keys {
        assert!(case[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {case}");
    }
}

#[test]
fn appends_are_measured_beside_copies() {
    let (output, report) = measured(&["wal", "--size", "1024", "--burst", "32"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("append"));
    let cases = report["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 1);
    positive(
        &cases[0],
        &["append_ns", "append_fence_ns", "copy_ns", "copy_fence_ns", "bytes_per_s"],
    );
    assert_eq!((&cases[0]["size"], &cases[0]["burst"]), (&1024.into(), &32.into()));
    // 48 MiB go into segments of 32.
    assert!(cases[0]["rolls"].as_u64().is_some_and(|rolls| rolls > 0), "{report}");
}

#[test]
fn a_recovery_finds_all_that_was_written() {
    let (_, report) = measured(&["recovery", "--mib", "3"]);
    let cases = report["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        positive(case, &["seconds", "map_seconds", "bytes_per_s", "records_per_s", "records"]);
        assert!(case["bytes"].as_u64().is_some_and(|bytes| bytes >= 3 << 20), "{case}");
    }
    assert_eq!(cases[0]["messages"], cases[0]["records"].as_u64().expect("records") * 17);
}

#[test]
fn the_index_is_measured_and_says_what_a_record_takes() {
    let (_, report) = measured(&["index", "--records", "100000", "--streams", "1000"]);
    let case = &report["cases"][0];
    positive(case, &["single_ns", "batch_ns", "read_ns"]);
    assert_eq!((&case["records"], &case["streams"]), (&100_000.into(), &1000.into()));
    let bytes = case["bytes_per_record"].as_f64().expect("bytes");
    assert!((8.0..=12.0).contains(&bytes), "{bytes} bytes a record");
}

#[test]
fn cold_segments_are_read_whole_and_at_random() {
    // On a disk and in memory: only the one has files that are not cached.
    for (dir, on_disk) in [(env!("CARGO_TARGET_TMPDIR"), true), ("/dev/shm", false)] {
        let (output, report) = measured(&["cold", "--mib", "3", "--dir", dir]);
        let cases = report["cases"].as_array().expect("cases");
        assert_eq!(cases.len(), 2);
        for case in cases {
            assert!(case["bytes"].as_u64().is_some_and(|bytes| bytes >= 3 << 20), "{case}");
            let figures = ["seconds", "bytes_per_s", "records_per_s", "messages_per_s"];
            positive(&case["cached"], &figures);
            assert!(case["cached"]["lookup_ns"]["p50"].as_u64() > Some(0), "{case}");
            let disk = case["level"] == "media-sync";
            assert!(disk == case["uncached"].is_object() && (on_disk || !disk), "{case}");
        }
        assert_eq!(cases[0]["messages"], cases[0]["records"].as_u64().expect("records") * 17);
        assert!(String::from_utf8_lossy(&output.stdout).contains("records/s"));
    }
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    for scenario in ["wal", "recovery"] {
        let output = bench().args([scenario, "--wal", "/nowhere"]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains("--wal /nowhere"), "{}", complaint(&output));
    }
}
