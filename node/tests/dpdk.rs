//! mstreamd on DPDK ports: taps and DPDK's memif, on ordinary pages.

mod common;

use std::path::Path;

use common::{Node, Setting};

const DPDK: &str = "[dpdk]\nhuge_pages = false\n[wal]";

fn setting(port: &str) -> Setting {
    let mut setting = Setting::new(&format!("driver = \"dpdk\"\nip = \"10.77.0.1\"\n{port}"));
    setting.text = setting.text.replace("[wal]", DPDK);
    setting
}

fn ends_cleanly(node: Node) {
    let text = node.stop();
    assert!(!text.contains("ERROR") && !text.contains("buffers"), "{text}");
}

#[test]
fn a_tap_comes_and_goes_with_the_node() {
    let name = format!("ms{}", std::process::id());
    if !tap_permitted() {
        eprintln!("SKIP a_tap_comes_and_goes_with_the_node: making a tap is not permitted");
        return;
    }
    let interface = Path::new("/sys/class/net").join(&name);
    let setting = setting(&format!("device = \"tap\"\ninterface = \"{name}\""));
    let node = setting.start();
    assert!(interface.exists());
    ends_cleanly(node);
    assert!(!interface.exists());
}

/// Making interfaces takes CAP_NET_ADMIN, bit 12 of the effective set.
fn tap_permitted() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits >> 12 & 1 == 1) && Path::new("/dev/net/tun").exists()
}

#[test]
fn dpdks_memif_listens_and_leaves_with_0_and_again_after_a_kill() {
    let setting = setting("device = \"memif\"\nsocket = \"p.sock\"");
    let node = setting.start();
    assert!(setting.control_socket().exists());
    node.kill();
    ends_cleanly(setting.start());
}

#[test]
fn a_ring_beside_a_memif_and_the_echo_on_it() {
    let mut setting = setting("device = \"ring\"");
    setting.text = setting.text.replace("ports = [\"p\"]", "ports = [\"p\", \"m\"]").replace(
        "[dpdk]",
        "[[port]]\nname = \"m\"\ndriver = \"memif\"\nip = \"10.77.1.1\"\nsocket = \"m.sock\"\n[dpdk]",
    );
    ends_cleanly(setting.start());
    ends_cleanly(setting.start_with(&["--echo"]));
}
