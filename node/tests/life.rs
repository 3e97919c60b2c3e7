//! Start, status, end and start again; what stands in the way of a start.

mod common;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use common::admin::{Admin, get};
use common::traffic::udp;
use common::{Node, PATIENCE, Setting, mstreamd, refusal};
use mstream_admin::v1;
use mstream_client::{Event, Identity};
use mstream_wire::Code;
use nix::sys::signal::Signal;

#[test]
fn sigterm_ends_it_with_0_and_removes_its_socket() {
    let setting = Setting::memif();
    let node = setting.start();
    let socket = fs::metadata(setting.control_socket()).expect("the socket is there");
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    node.stop();
    assert!(!setting.control_socket().exists());
}

#[test]
fn sigint_ends_it_too() {
    let setting = Setting::socket();
    let mut node = setting.start();
    node.signal(Signal::SIGINT);
    let (status, text) = node.wait_end();
    assert_eq!(status.code(), Some(0), "{text}");
}

#[test]
fn killed_it_starts_again_over_its_stale_socket_and_log() {
    let setting = Setting::memif();
    setting.start().kill();
    assert!(setting.control_socket().exists(), "stale");
    for epoch in 2..12 {
        let node = setting.start();
        let line = node.wait_line("recovered");
        assert!(line.contains(&format!("epoch={epoch} ")), "{line}");
        node.kill();
    }
    setting.start().stop();
}

#[test]
fn a_second_one_on_the_same_log_is_refused_with_the_pid() {
    let setting = Setting::memif();
    let node = setting.start();
    let text = setting.refused();
    assert_eq!(text.lines().count(), 1, "{text}");
    let expected = format!("in use by another mstreamd (pid {})", node.pid());
    assert!(text.starts_with("mstreamd: ") && text.contains(&expected), "{text}");
    node.stop();
}

#[test]
fn sigusr1_tells_positions_counters_and_ports() {
    let setting = Setting::socket();
    let node = setting.start();
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.send_to(b"no datagram of ours", setting.address).expect("sent");
    // It comes to be counted; nobody knows when.
    loop {
        node.signal(Signal::SIGUSR1);
        let positions = node.wait_line("committed_lsn=");
        assert!(positions.contains("slots_ready="), "{positions}");
        let counters = node.wait_line("shard 0: ");
        let port = node.wait_line("port p: ");
        if port.contains("rx_frames=1 ") {
            assert!(counters.contains("frames_in=1"), "{counters}");
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    node.stop();
}

#[test]
fn a_bound_udp_port_is_named() {
    let setting = Setting::socket();
    let _holder = UdpSocket::bind(setting.address).expect("free a moment ago");
    let text = setting.refused();
    assert!(text.contains("port p: "), "{text}");
    assert!(text.contains(&setting.address.1.to_string()), "{text}");
}

#[test]
fn a_socket_path_that_is_something_else_is_left_alone() {
    let setting = Setting::memif();
    fs::create_dir_all(setting.dir.path().join("run")).expect("made");
    fs::write(setting.control_socket(), "precious").expect("written");
    let text = setting.refused();
    assert!(text.contains("not a socket"), "{text}");
    assert_eq!(fs::read(setting.control_socket()).expect("still there"), b"precious");
}

#[test]
fn a_demanded_level_that_the_medium_lacks_is_refused() {
    let mut setting = Setting::socket();
    setting.text = setting.text.replace("[wal]", "[wal]\nrequire = \"pmem\"");
    let text = setting.refused();
    let expected = "gives level process (a file system in memory), but [wal] require is pmem";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_segment_of_another_size_is_refused() {
    let mut setting = Setting::socket();
    setting.start().stop();
    setting.text = setting.text.replace("segment_bytes = \"1 MiB\"", "segment_bytes = \"512 KiB\"");
    let text = setting.refused();
    assert!(text.contains("00000000.seg"), "{text}");
    assert!(text.contains("segment_bytes is 524288"), "{text}");
}

#[test]
fn a_log_directory_that_is_a_file_is_refused() {
    let setting = Setting::socket();
    fs::write(&setting.log, "").expect("written");
    let text = setting.refused();
    assert!(text.contains(setting.log.to_str().expect("plain")), "{text}");
}

#[test]
fn a_log_directory_that_vanishes_does_not_end_it() {
    let setting = Setting::socket();
    let node = setting.start();
    fs::remove_dir_all(&setting.log).expect("removed");
    node.signal(Signal::SIGUSR1);
    node.wait_line("committed_lsn=");
    node.stop();
}

/// A file system in memory, mounted for one test.
struct Mount(tempfile::TempDir);

impl Mount {
    /// None, and a word about it, where mounting is not allowed.
    fn new(test: &str, options: &str) -> Option<Mount> {
        let dir = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Mount(dir)),
            _ => {
                eprintln!("SKIP {test}: mounting a tmpfs is not permitted");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_log_directory_is_refused() {
    let Some(mount) = Mount::new("a_full_log_directory_is_refused", "size=512k") else { return };
    let mut setting = Setting::socket();
    setting.text = setting
        .text
        .replace(setting.log.to_str().expect("plain"), mount.0.path().to_str().expect("plain"));
    let text = setting.refused();
    assert!(text.contains("No space left"), "{text}");
}

#[test]
fn a_directory_that_fills_up_while_segments_are_made_is_told_and_tried_again() {
    let name = "a_directory_that_fills_up_while_segments_are_made_is_told_and_tried_again";
    let Some(mount) = Mount::new(name, "size=2500k") else { return };
    let mut setting = Setting::socket();
    setting.text = setting
        .text
        .replace(setting.log.to_str().expect("plain"), mount.0.path().to_str().expect("plain"));
    let node = setting.start();
    node.wait_line("cannot make a segment");
    let admin = Admin::at(node.admin());
    let shard = admin.status().shards.remove(0);
    let shortage = shard.shortage.expect("told");
    assert!(shortage.reason.contains("No space left on device"), "{}", shortage.reason);
    assert!(shortage.since_ns > 1_700_000_000_000_000_000);
    assert_eq!(shard.log_condition, "", "nobody was refused yet");
    let faulty = "mstream_shard_segments_faulty{shard=\"0\",condition=\"/";
    assert!(get(node.admin(), "/metrics").1.contains(faulty));
    let deadline = Instant::now() + PATIENCE;
    let noted = |error: &v1::Error| error.text.starts_with("cannot make a segment: ");
    while !admin.errors().iter().any(noted) {
        assert!(Instant::now() < deadline, "not noted");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Less than it takes to recycle anything: a publisher is told, and does not wait for ever.
    let mut traffic = udp(&setting, Identity::Anonymous).publishing("s");
    let mut refused = None;
    while refused.is_none() {
        assert!(Instant::now() < deadline, "not refused");
        if traffic.seen.published == 0 {
            traffic.publish(1);
        }
        traffic.poll_with(|event| match event {
            Event::Refused { code, .. } => refused = Some(*code),
            Event::SessionLost { .. } => panic!("lost"),
            _ => {}
        });
    }
    assert_eq!(refused, Some(Code::LogFull));
    // Its status follows within a millisecond or so.
    while !get(node.admin(), "/readyz").1.contains("shard 0: full: ") {
        assert!(Instant::now() < deadline, "it stays ready");
    }
    let grown = Command::new("mount")
        .args(["-o", "remount,size=64m"])
        .arg(mount.0.path())
        .status()
        .expect("mount runs");
    assert!(grown.success());
    node.wait_line("segments can be made again");
    assert_eq!(admin.status().shards[0].shortage, None);
    udp(&setting, Identity::Anonymous).publishing("s").publish_all(1_000);
    assert_eq!(get(node.admin(), "/readyz").0, 200);
    node.stop();
}

#[test]
fn a_read_only_log_directory_is_refused() {
    let Some(mount) = Mount::new("a_read_only_log_directory_is_refused", "ro") else { return };
    let mut setting = Setting::socket();
    setting.text = setting
        .text
        .replace(setting.log.to_str().expect("plain"), mount.0.path().to_str().expect("plain"));
    let text = setting.refused();
    assert!(text.contains("Read-only file system"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn the_echo_sends_datagrams_back_and_leaves_the_log_alone() {
    let setting = Setting::socket();
    let node = setting.start_with(&["--echo"]);
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    client.connect(setting.address).expect("connected");
    client.send(b"there and back").expect("sent");
    let mut buffer = [0; 64];
    let length = client.recv(&mut buffer).expect("it comes back");
    assert_eq!(&buffer[..length], b"there and back");
    node.stop();
    assert!(!setting.log.exists());
}

#[test]
fn a_run_directory_that_cannot_be_made_is_refused() {
    let mut setting = Setting::socket();
    let run = setting.dir.path().join("run");
    setting.text = setting.text.replace(run.to_str().expect("plain"), "/proc/nowhere");
    let text = refusal(&setting.file());
    assert!(text.contains("/proc/nowhere: cannot make the run directory"), "{text}");
}

#[test]
fn two_drivers_in_one_shard_start_and_stop() {
    let mut setting = Setting::memif();
    setting.text = setting
        .text
        .replace("ports = [\"p\"]", "ports = [\"p\", \"u\"]")
        .replace("[wal]", "[[port]]\nname = \"u\"\ndriver = \"socket\"\nip = \"127.0.0.1\"\n[wal]");
    let node = setting.start();
    node.wait_line("u = kernel socket");
    let text = node.stop();
    assert!(!text.contains("ERROR"), "{text}");
}

#[test]
fn two_shards_share_a_socket_port_on_two_cores() {
    if std::thread::available_parallelism().map_or(1, |cores| cores.get()) < 2 {
        eprintln!("SKIP two_shards_share_a_socket_port_on_two_cores: one core");
        return;
    }
    let mut setting = Setting::socket();
    let second = setting.address.1 ^ 1;
    setting.text = setting.text.replace("name = \"s\"", "name = \"s\"\nshard = 1").replace(
        "[wal]",
        &format!(
            "[[shard]]\ncore = 1\nports = [\"p\"]\nudp_port = {second}\nidle = \"backoff\"\n[wal]"
        ),
    );
    let node = setting.start();
    node.wait_line("shard=0 core=0");
    node.wait_line("shard=1 core=1");
    assert!(setting.log.join("shard-1/00000000.seg").exists());
    node.stop();
}

#[test]
fn a_start_can_be_interrupted() {
    let setting = Setting::memif();
    let mut node = Node::spawn(mstreamd().arg("--config").arg(setting.file()));
    node.signal(Signal::SIGTERM);
    // Before its signals are taken over the signal ends it, after that it ends by itself.
    let (status, text) = node.wait_end();
    assert!(status.code().is_none_or(|code| code == 0), "{text}");
    setting.start().stop();
}

#[test]
fn a_starting_node_says_so_to_whoever_asks() {
    let mut setting = Setting::socket();
    // Tables that take a while to be made, and a log that has room for them.
    setting.add("[limits]\nstreams = 262144");
    setting.text = setting.text.replace("max_bytes = \"8 MiB\"", "max_bytes = \"128 MiB\"");
    let mut node = setting.spawn();
    let address = node.wait_admin();
    assert_eq!(get(address, "/healthz"), (200, "ok\n".to_string()));
    for path in ["/readyz", "/metrics"] {
        let (code, said) = get(address, path);
        assert!(code == 503 && said.starts_with("it is starting: "), "{path}: {code} {said}");
    }
    let admin = Admin::at(address);
    let spec = v1::StreamSpec { name: "t".to_string(), ..Default::default() };
    let refused = admin.create_specs(vec![spec]).expect_err("it starts");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert!(refused.message().starts_with("it is starting: "), "{refused:?}");
    node.wait_ready();
    assert_eq!(get(address, "/readyz"), (200, "ready\n".to_string()));
    // Nothing came of what was refused. The start's connections ended with it.
    let admin = Admin::at(address);
    assert_eq!(admin.streams(), [(1, "s".to_string())]);
    assert!(admin.create(&["t"])[0].is_ok());
    node.stop();
}
