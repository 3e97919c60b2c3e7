//! Tests in network namespaces of their own, which end with the test's process.

use std::path::Path;
use std::process::Command;

/// Set in the process that runs inside a namespace.
const INSIDE: &str = "MSTREAM_TEST_NETWORK";

/// Runs this test again in a network of its own, or says that it is skipped; true in there. `device` must
/// be there to be written to.
pub fn in_own_network(test: &str, device: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        // The kernel's own chatter would only be in the way.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").ok();
        return true;
    }
    let permitted = Command::new("unshare").args(["-n", "true"]).output();
    if !permitted.is_ok_and(|output| output.status.success()) || !Path::new(device).exists() {
        println!("SKIP {test}: no network namespace or no {device}");
        return false;
    }
    let this = std::env::current_exe().expect("the test's file");
    let ended = Command::new("unshare")
        .arg("-n")
        .arg(this)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare was just there");
    assert!(ended.success(), "inside the namespace: {ended}");
    false
}

/// Runs `ip` with words of `arguments`.
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}
