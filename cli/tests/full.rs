//! A node whose device has no room for the segments that it needs, as its operator and its publishers see it.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Appliance, assert_fails, json, mstreamd, stdout, wait_until};

/// A small tmpfs that is unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl Mounted<'_> {
    /// `None`, with a word, where mounting is not permitted.
    fn new<'a>(test: &str, dir: &'a Path, size: &str) -> Option<Mounted<'a>> {
        fs::create_dir(dir).expect("a directory");
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(dir).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Mounted(dir));
        }
        eprintln!("SKIP {test}: mounting a tmpfs is not permitted");
        None
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_device_is_told_and_publishers_hear_log_full() {
    let test = "a_full_device_is_told_and_publishers_hear_log_full";
    let Some(program) = mstreamd(test) else { return };
    let appliance = Appliance::new(program);
    let log = appliance.path("log");
    // Room for two segments of 4 MiB: fewer than the reserve and one more.
    let Some(_mounted) = Mounted::new(test, &log, "9m") else { return };
    let _node = appliance.start();
    let status = || json(&stdout(appliance.manage(&["status", "--json"]))).remove(0);
    wait_until(|| !status()["shards"][0]["shortage"].is_null());
    let shortage = status()["shards"][0]["shortage"].clone();
    assert!(shortage["reason"].to_string().contains("No space left on device"), "{shortage}");
    assert!(shortage["since_ns"].as_u64() > Some(0), "{shortage}");

    assert_fails(&appliance.publish(b"one\ntwo\n", &[]), "refused: log full");
    // One with a name does not even get a life.
    let named = appliance.publish(b"one\n", &["--publisher-id", "1", "--timeout", "1s"]);
    assert_fails(&named, "log full");
    let text = String::from_utf8(stdout(appliance.manage(&["status"]))).expect("text");
    assert!(text.contains("\n  LOG: full: no segment can be made or recycled"), "{text}");
    assert!(text.contains("\n  SEGMENTS: none can be made since "), "{text}");
    assert_eq!(
        status()["shards"][0]["log_condition"].as_str(),
        text.lines().find_map(|line| line.strip_prefix("  LOG: "))
    );
}
