//! Clients of mstreamd's DPDK ports: our memif client on DPDK's memif, kernel sockets on a tap.

mod common;

use std::net::Ipv4Addr;
use std::process::Command;

use common::Setting;
use common::traffic::{self, PUBLISHER, Traffic, holds_exactly};
use mstream_client::{From, Identity, connect};

const IP: [u8; 4] = [10, 77, 0, 1];

fn setting(port: &str) -> Setting {
    let mut setting = Setting::new(&format!("driver = \"dpdk\"\nip = \"10.77.0.1\"\n{port}"));
    setting.add("[dpdk]\nhuge_pages = false");
    setting
}

#[test]
fn a_memif_client_publishes_and_reads_over_dpdks_memif() {
    let setting = setting("device = \"memif\"\nsocket = \"p.sock\"");
    let node = setting.start();
    let socket = setting.control_socket();
    let mut client = traffic::memif_at(&socket, &setting, IP, Identity::Publisher(PUBLISHER))
        .publishing("s")
        .reading("s", From::Earliest, 4096);
    client.publish_all(20_000);
    assert!(client.seen.lost.is_empty(), "{:?}", client.seen);
    // The device has one peer at a time: the next one comes after this one is gone.
    drop(client);
    let late = connect::memif(&socket, setting.shard_at(IP), common::PATIENCE);
    holds_exactly(late.expect("a client"), 20_000);
    let text = node.stop();
    assert!(!text.contains("ERROR"), "{text}");
}

/// A restart that the client over DPDK's memif gets through.
#[test]
fn a_client_of_dpdks_memif_outlives_a_kill_of_the_node() {
    let setting = setting("device = \"memif\"\nsocket = \"p.sock\"");
    let node = setting.start();
    let socket = setting.control_socket();
    let mut client = traffic::memif_at(&socket, &setting, IP, Identity::Publisher(PUBLISHER))
        .publishing("s")
        .reading("s", From::Earliest, 4096);
    client.publish_all(2000);
    client.publish(500);
    node.kill();
    client.publish(500);
    let node = setting.start();
    client.publish_all(2000);
    assert_eq!(client.seen.read, client.seen.published);
    assert_eq!(client.seen.opened, 2, "{:?}", client.seen);
    node.stop();
}

/// Runs this test again in a network of its own; true in there.
fn in_own_network(test: &str) -> bool {
    const INSIDE: &str = "MSTREAM_TEST_NETWORK";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let permitted = Command::new("unshare").args(["--net", "true"]).output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIP {test}: making a network namespace is not permitted");
        return false;
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("SKIP {test}: there is no /dev/net/tun");
        return false;
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("it runs");
    assert!(status.success(), "it failed in its own network");
    false
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("ip runs");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn kernel_sockets_and_ping_reach_the_appliance_over_a_tap() {
    let test = "kernel_sockets_and_ping_reach_the_appliance_over_a_tap";
    if !in_own_network(test) {
        return;
    }
    let setting = setting("device = \"tap\"\ninterface = \"mst0\"");
    let node = setting.start();
    ip(&["address", "add", "10.77.0.2/24", "dev", "mst0"]);
    ip(&["link", "set", "mst0", "up"]);
    let shard = setting.shard_at(IP);
    let mut client =
        Traffic::new(connect::udp(shard).expect("a client"), Identity::Publisher(PUBLISHER))
            .publishing("s")
            .reading("s", From::Earliest, 1024);
    client.publish_all(20_000);
    assert!(client.seen.lost.is_empty(), "{:?}", client.seen);
    holds_exactly(connect::udp(shard).expect("a client"), 20_000);
    assert!(node.count("arp_replies") > 0, "{:?}", node.status());
    ping(&node);
    let text = node.stop();
    assert!(!text.contains("ERROR"), "{text}");
}

/// The system's ping, if there is one.
fn ping(node: &common::Node) {
    let address = Ipv4Addr::from(IP).to_string();
    for count in 1..=3 {
        // One at a time: a ping of several gives up on the last ones too soon.
        match Command::new("ping").args(["-c", "1", "-W", "30", &address]).output() {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success() && text.contains(" 0% packet loss"), "{text}");
                node.wait_count("echo_replies", count);
            }
            Err(_) => return eprintln!("SKIP ping: there is no ping command"),
        }
    }
}
