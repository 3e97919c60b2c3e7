//! mstreamd killed and ended under load: what it acknowledged is there again, once and in order.

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::random::Random;
use common::traffic::{self, PUBLISHER, Traffic, holds_exactly};
use common::{Node, Setting};
use mstream_client::{Client, From, Identity, connect};
use mstream_nic::Port;
use nix::sys::signal::Signal;

/// Messages that are published in a millisecond: a load that segments and the whole log outlive.
const RATE: u64 = 200;

/// A log of many small segments, none of which is used again before the end.
fn rolling(mut setting: Setting) -> Setting {
    setting.text = setting
        .text
        .replace("segment_bytes = \"1 MiB\"", "segment_bytes = \"256 KiB\"")
        .replace("max_bytes = \"8 MiB\"", "max_bytes = \"128 MiB\"");
    setting
}

/// Publishes at the rate and polls until `end`.
fn load<P: Port>(traffic: &mut Traffic<P>, end: Instant) {
    let (start, before) = (Instant::now(), traffic.seen.published);
    while Instant::now() < end {
        let due = start.elapsed().as_micros() as u64 * RATE / 1000;
        let sent = traffic.seen.published - before;
        traffic.publish(due.saturating_sub(sent));
        traffic.poll();
    }
}

/// Polls until `node` is ready.
fn await_ready<P: Port>(traffic: &mut Traffic<P>, node: &mut Node) {
    let deadline = Instant::now() + common::PATIENCE;
    while !node.is_ready() {
        assert!(Instant::now() < deadline, "not ready");
        traffic.poll();
    }
}

/// Kills mstreamd `kills` times at random moments while one named publisher publishes and reads the
/// stream; then reads all of it again from offset 0.
fn killed_at_random_moments<P: Port>(
    setting: &Setting,
    kills: usize,
    seed: u64,
    connect: impl Fn() -> Client<P>,
) {
    let mut random = Random(seed);
    let mut node = setting.start();
    let mut traffic = Traffic::new(connect(), Identity::Publisher(PUBLISHER))
        .publishing("s")
        .reading("s", From::Earliest, 4096);
    let mut under_load = 0;
    for kill in 0..kills {
        if kill % 5 == 4 {
            // While it starts, or right after.
            let moment = Instant::now() + Duration::from_micros(random.next() % 30_000);
            load(&mut traffic, moment);
        } else {
            let goal = traffic.seen.acknowledged + 1;
            let deadline = Instant::now() + common::PATIENCE;
            while traffic.seen.acknowledged < goal {
                assert!(
                    Instant::now() < deadline,
                    "kill {kill}: nothing goes on; {:?}",
                    traffic.seen
                );
                load(&mut traffic, Instant::now() + Duration::from_micros(100));
            }
            let moment = Instant::now() + Duration::from_micros(random.next() % 20_000);
            load(&mut traffic, moment);
        }
        under_load += usize::from(traffic.seen.acknowledged < traffic.seen.published);
        node.kill();
        node = setting.spawn();
        if kill % 5 != 3 {
            await_ready(&mut traffic, &mut node);
        }
    }
    traffic.publish_all(1000);
    let seen = &traffic.seen;
    assert_eq!((seen.read, &seen.stopped), (seen.published, &None));
    assert!(seen.opened > kills as u64 / 2, "{seen:?}");
    assert!(under_load > 0, "something was under way at a kill");
    holds_exactly(connect(), seen.published);
    let segments = std::fs::read_dir(setting.log.join("shard-0")).expect("the log").count();
    eprintln!(
        "{kills} kills, {under_load} with messages under way, {} messages in {segments} files",
        seen.published
    );
    // It may have been spawned and never waited for.
    node.kill();
    let node = setting.start();
    holds_exactly(connect(), seen.published);
    node.stop();
}

fn memif(setting: &Setting) -> impl Fn() -> Client<mstream_nic::memif::ClientPort> {
    let (socket, shard): (PathBuf, _) = (setting.control_socket(), setting.shard_at([10, 0, 0, 1]));
    move || connect::memif(&socket, shard, common::PATIENCE).expect("a client")
}

#[test]
fn killed_50_times_with_a_memif_client() {
    let setting = rolling(Setting::memif());
    killed_at_random_moments(&setting, 50, 1, memif(&setting));
}

#[test]
fn killed_10_times_with_a_client_over_a_kernel_socket() {
    let setting = rolling(Setting::socket());
    let shard = setting.shard();
    killed_at_random_moments(&setting, 10, 2, || connect::udp(shard).expect("a client"));
}

/// `cargo test -p mstream-node --test kill_node -- --ignored`: takes some minutes.
#[test]
#[ignore = "takes some minutes"]
fn killed_500_times_with_a_memif_client() {
    let mut setting = rolling(Setting::memif());
    setting.text = setting.text.replace("\"128 MiB\"", "\"1 GiB\"");
    killed_at_random_moments(&setting, 500, 3, memif(&setting));
}

#[test]
fn ended_under_load_it_leaves_with_0_and_keeps_what_it_acknowledged() {
    let setting = rolling(Setting::memif());
    let mut node = setting.start();
    let mut traffic = traffic::memif(&setting, Identity::Publisher(PUBLISHER))
        .publishing("s")
        .reading("s", From::Earliest, 4096);
    for _ in 0..5 {
        let goal = traffic.seen.acknowledged + 100;
        let deadline = Instant::now() + common::PATIENCE;
        while traffic.seen.acknowledged < goal {
            assert!(Instant::now() < deadline, "nothing goes on; {:?}", traffic.seen);
            load(&mut traffic, Instant::now() + Duration::from_millis(1));
        }
        node.signal(Signal::SIGTERM);
        // Until it is gone it is published to.
        load(&mut traffic, Instant::now() + Duration::from_millis(20));
        let (status, text) = node.wait_end();
        assert_eq!(status.code(), Some(0), "{text}");
        assert!(!text.contains("ERROR"), "{text}");
        let acknowledged = traffic.seen.acknowledged;
        node = setting.spawn();
        await_ready(&mut traffic, &mut node);
        traffic.until("acknowledged again", |seen| seen.acknowledged > acknowledged);
    }
    traffic.publish_all(100);
    holds_exactly(memif(&setting)(), traffic.seen.published);
    node.stop();
}

#[test]
fn a_log_on_ordinary_files_outlives_kills() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut setting = Setting::memif().log_in(dir.path());
    setting.text = setting.text.replace("max_bytes = \"8 MiB\"", "max_bytes = \"64 MiB\"");
    killed_at_random_moments(&setting, 10, 5, memif(&setting));
}

#[test]
fn a_log_on_huge_pages_outlives_kills() {
    let name = "a_log_on_huge_pages_outlives_kills";
    let Some(mount) = std::env::var_os("MSTREAM_HUGETLBFS") else {
        eprintln!("SKIP {name}: MSTREAM_HUGETLBFS names no directory of a hugetlbfs");
        return;
    };
    let dir = tempfile::tempdir_in(mount).expect("a directory on it");
    let mut setting = Setting::memif().log_in(dir.path());
    setting.text = setting
        .text
        .replace("segment_bytes = \"1 MiB\"", "segment_bytes = \"2 MiB\"")
        .replace("max_bytes = \"8 MiB\"", "max_bytes = \"64 MiB\"");
    killed_at_random_moments(&setting, 10, 4, memif(&setting));
}
