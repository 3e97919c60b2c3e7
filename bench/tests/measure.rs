//! Short measurements against the real appliance. Nothing is said about speed.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Appliance, bench, complaint, json, mstreamd};
use serde_json::Value;

/// What no run may find.
const FAULTS: [&str; 4] = ["lost", "duplicated", "out_of_order", "mismatched"];
const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p99_9", "p99_99", "max"];

/// Measures, and checks all that must be so; the figures.
fn measured(args: &[&str]) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, html) = (dir.path().join("figures.json"), dir.path().join("report.html"));
    let output = bench()
        .args(args)
        .args(["--seconds", "0.3", "--json"])
        .arg(&file)
        .arg("--html")
        .arg(&html)
        .output()
        .expect("the program runs");
    // A machine that is busy elsewhere may miss any rate; that is said, and nothing else may be.
    let missed = args.contains(&"--rate") && complaint(&output).contains("missed its rate");
    assert_eq!(output.status.code(), Some(i32::from(missed)), "{args:?}: {}", complaint(&output));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains(args[0]) && table.contains("p99.9"), "{table}");
    let page = fs::read_to_string(&html).expect("the report is there");
    assert!(page.contains("<svg") && page.contains("<polyline") && !page.contains("http-equiv"));
    json(&file)
}

fn check(figures: &Value, scenario: &str, with_floor: bool) {
    assert_eq!(figures["scenario"], scenario);
    assert_eq!(figures["size"], 64);
    for fault in FAULTS {
        assert_eq!(figures[fault], 0, "{fault}: {figures}");
    }
    assert!(figures["messages"].as_u64().is_some_and(|messages| messages > 0), "{figures}");
    for key in ["seconds", "throughput_msgs_per_s", "throughput_bytes_per_s"] {
        assert!(figures[key].as_f64().is_some_and(|figure| figure > 0.0), "{key}: {figures}");
    }
    assert!(figures["batch"].is_u64() && figures["steal_percent"].is_number());
    assert!(figures.as_object().is_some_and(|all| all.contains_key("rate")));
    for key in PERCENTILES {
        assert!(figures["latency_ns"][key].is_u64(), "{key}: {figures}");
        assert_eq!(figures["floor_ns"][key].is_u64(), with_floor, "{key}: {figures}");
    }
    for key in ["p50", "p99", "p99_9"] {
        assert_eq!(figures["ratio"][key].is_number(), with_floor, "{key}: {figures}");
    }
    for key in ["cpu", "cores", "kernel", "dpdk", "huge_pages", "isolated"] {
        assert!(figures["host"].as_object().is_some_and(|host| host.contains_key(key)), "{key}");
    }
}

#[test]
fn every_scenario_over_memif_and_sockets() {
    if mstreamd("every_scenario_over_memif_and_sockets").is_none() {
        return;
    }
    for port in ["memif", "socket"] {
        let floor = measured(&["floor", "--port", port]);
        assert_eq!(floor["durability"], "none");
        let latency = measured(&["latency", "--port", port, "--runs", "2"]);
        check(&latency, "latency", true);
        assert_eq!(latency["durability"], "process");
        assert_eq!(latency["runs"].as_array().map(Vec::len), Some(2));
        let paced = measured(&["latency", "--port", port, "--rate", "200"]);
        check(&paced, "latency", true);
        assert_eq!(paced["rate"], 200);
        let throughput = measured(&["throughput", "--port", port]);
        check(&throughput, "throughput", true);
        assert_eq!(throughput["batch"], 17);
        check(&measured(&["throughput", "--port", port, "--batch", "1"]), "throughput", true);
    }
}

/// True if this process may make network namespaces and the tools for it are there.
fn may_make_namespaces() -> bool {
    let made = Command::new("unshare").args(["--net", "ip", "link"]).output();
    let ethtool = Command::new("ethtool").arg("--version").output();
    made.is_ok_and(|made| made.status.success()) && ethtool.is_ok()
}

#[test]
fn latency_over_af_xdp_beside_the_kernel_echo() {
    const NAME: &str = "latency_over_af_xdp_beside_the_kernel_echo";
    if mstreamd(NAME).is_none() {
        return;
    }
    if !may_make_namespaces() {
        eprintln!("SKIP {NAME}: network namespaces or ethtool are missing");
        return;
    }
    let latency = measured(&["latency", "--port", "af-xdp"]);
    check(&latency, "latency", true);
    assert_eq!(latency["durability"], "process");
    assert_eq!(latency["peers"].as_array().map(Vec::len), Some(0));
}

#[test]
fn peers_are_measured_over_af_xdp_only_and_must_be_built() {
    let output = bench().args(["latency", "--peers", "aeron"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{}", complaint(&output));
    assert!(complaint(&output).contains("--port af-xdp"), "{}", complaint(&output));
}

#[test]
fn a_missed_rate_is_a_failure() {
    if mstreamd("a_missed_rate_is_a_failure").is_none() {
        return;
    }
    let args = ["latency", "--rate", "1000000000", "--seconds", "0.1"];
    let output = bench().args(args).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("missed its rate"), "{}", complaint(&output));
}

#[test]
fn a_running_appliance_is_measured_without_a_floor() {
    let Some(program) = mstreamd("a_running_appliance_is_measured_without_a_floor") else { return };
    let appliance = Appliance::new(program);
    let _running = appliance.start();
    let (target, socket) = (appliance.address.to_string(), appliance.path("m.sock"));
    let socket = socket.to_str().expect("plain letters");
    for more in [&["--memif", socket][..], &[]] {
        for scenario in ["latency", "throughput"] {
            let args = [&[scenario, "--target", &target, "--stream", "s"], more].concat();
            check(&measured(&args), scenario, false);
        }
    }
}

/// Directories and processes that a run with this log directory left behind.
fn left_behind(wal: &Path) -> usize {
    fs::read_dir(wal).expect("a directory").count()
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    if mstreamd("an_interrupted_run_leaves_nothing_behind").is_none() {
        return;
    }
    let wal = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let mut command = bench();
    command.args(["latency", "--seconds", "600", "--wal"]).arg(wal.path());
    command.stdout(std::process::Stdio::null());
    let mut running = common::Running(command.spawn().expect("it starts"));
    let deadline = Instant::now() + common::PATIENCE;
    while left_behind(wal.path()) == 0 {
        assert!(Instant::now() < deadline, "it makes no log");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Not always at the same place: set-up, warm-up, slices.
    std::thread::sleep(Duration::from_millis(1500));
    let interrupt = Command::new("kill").args(["-INT", &running.0.id().to_string()]).status();
    assert!(interrupt.is_ok_and(|status| status.success()));
    assert_eq!(running.code(), Some(1));
    assert_eq!(left_behind(wal.path()), 0);
}
