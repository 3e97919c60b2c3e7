//! Client processes that are killed while they send and receive as fast as they can.
//!
//! The client is this test program itself, started again with an environment variable that makes
//! [`flooding_client`] more than an empty test.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Served, until};
use mstream_nic::memif::{ClientConfig, ClientPort, ServerPort};
use mstream_nic::{Frame, FrameQueue, PoolFrame, Port};

const SOCKET: &str = "MSTREAM_TEST_FLOOD_SOCKET";
/// Frames that a client sends at least before it is killed.
const FLOOD: usize = 200;

/// Not a test: the process that is killed.
#[test]
fn flooding_client() {
    let Ok(path) = std::env::var(SOCKET) else { return };
    let mut port = ClientPort::connect(&ClientConfig::new(path), Duration::from_secs(10))
        .expect("a connection");
    let mut got = FrameQueue::new();
    // It ends by itself too, in case that whoever was to kill it is gone.
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        for len in 0..32 {
            let Some(mut frame) = port.frame() else { break };
            frame.set_len(60 + 50 * len);
            if port.send(frame).is_err() {
                break;
            }
        }
        port.flush();
        port.receive(&mut got, 32);
        got.clear();
    }
}

/// A flooding client's process; killed at the latest when this is dropped.
struct Flood(Child);

impl Flood {
    fn start(path: &Path) -> Flood {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "flooding_client"])
            .env(SOCKET, path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Flood(child.expect("a process"))
    }

    /// SIGKILL; returns when the process has ended.
    fn kill(&mut self) {
        self.0.kill().expect("SIGKILL");
        self.0.wait().expect("the process ended");
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the other client says and hears: numbers there and back, none missing, all in order.
/// Returns how many.
fn count_up(path: &Path, stop: &AtomicBool) -> u64 {
    let mut port = ClientPort::connect(&ClientConfig::new(path), Duration::from_secs(10))
        .expect("a connection");
    let (mut sent, mut back) = (0u64, 0u64);
    let mut got = FrameQueue::new();
    let mut quiet_since = Instant::now();
    while !(stop.load(Ordering::Acquire) && sent == back) {
        if !stop.load(Ordering::Acquire) && sent - back < 256 {
            let mut frame = port.frame().expect("an empty frame");
            frame.fill(&sent.to_le_bytes());
            if port.send(frame).is_ok() {
                sent += 1;
            }
        }
        port.flush();
        if port.receive(&mut got, 32) == 0 {
            assert!(quiet_since.elapsed() < Duration::from_secs(20), "{back} of {sent} came back");
            std::thread::yield_now();
            continue;
        }
        quiet_since = Instant::now();
        for frame in got.drain(..) {
            assert_eq!(frame.bytes(), back.to_le_bytes(), "lost or out of order");
            back += 1;
        }
    }
    assert_eq!(port.frames_out(), 0);
    back
}

/// Polls once and sends everything back; returns how many frames came from the flooding client.
fn echo(server: &mut ServerPort, got: &mut FrameQueue<PoolFrame>) -> usize {
    let mut flood = 0;
    server.receive(got, 32);
    for frame in got.drain(..) {
        let of_flood = frame.bytes().len() > 8;
        flood += usize::from(of_flood);
        let taken = server.send(frame).is_ok();
        // The flooding client may not keep up with itself; the other one has room for all it sent.
        assert!(taken || of_flood, "no room for the client that behaves");
    }
    server.flush();
    flood
}

/// A poller that shares its core is pre-empted at any moment.
fn be_preempted(random: &mut u64) {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    match *random >> 54 {
        0..100 => std::thread::yield_now(),
        100 => std::thread::sleep(Duration::from_micros(200)),
        _ => {}
    }
}

fn kill_clients(rounds: u64) {
    let mut served = Served::new(|_| {});
    let path = served.path().to_owned();
    let stop = AtomicBool::new(false);
    let heard = std::thread::scope(|scope| {
        let counting = scope.spawn(|| count_up(&path, &stop));
        served.until_connected(1);
        let mut got = FrameQueue::new();
        let mut random = 1u64;
        for round in 0..rounds {
            let mut child = Flood::start(&path);
            let (mut flood, mut killed) = (0, false);
            let deadline = Instant::now() + Duration::from_secs(20);
            // Until the port has let go of the killed client.
            while !(killed && served.server.connections() == 1) {
                assert!(Instant::now() < deadline, "round {round}: {flood} frames");
                flood += echo(&mut served.server, &mut got);
                if flood >= FLOOD && !killed {
                    child.kill();
                    killed = true;
                }
                be_preempted(&mut random);
            }
            assert_eq!(served.server.frames_out(), 0, "round {round}");
        }
        stop.store(true, Ordering::Release);
        until("the last numbers came back", || {
            echo(&mut served.server, &mut got);
            counting.is_finished()
        });
        counting.join().expect("nothing lost, nothing out of order")
    });
    until("the listener has noticed the last one", || served.stats().closed == rounds + 1);
    let stats = served.stats();
    assert_eq!((stats.connected, stats.closed), (rounds + 1, rounds + 1));
    assert_eq!((stats.broken, stats.refused), (0, 0));
    assert!(heard > rounds);
}

#[test]
fn killed_clients_take_nothing_with_them() {
    kill_clients(50);
}

#[test]
#[ignore = "takes half a minute of both cores"]
fn a_thousand_killed_clients_take_nothing_with_them() {
    kill_clients(1000);
}
