//! Times memif; for comparing two builds on one machine, and never a reason to fail.
//!
//! `cargo test --release -p mstream-nic --test memif_speed -- --ignored --nocapture`

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{MemifPair, Served};
use mstream_nic::memif::{ClientConfig, ClientPort};
use mstream_nic::port::BURST;
use mstream_nic::{Frame, FrameQueue, Peer, Port};

const FRAME_BYTES: [usize; 3] = [64, 106, 1400];
const REPEATS: usize = 5;

/// Sends a burst from one port to the other and back, on one thread; returns ns per frame and way.
fn bursts(pair: &mut MemifPair, frame_bytes: usize) -> f64 {
    const ROUNDS: usize = 50_000;
    let (server, client) = (&mut pair.server, &mut pair.client);
    let mut got = FrameQueue::with_capacity(BURST);
    let started = Instant::now();
    for _ in 0..ROUNDS {
        for _ in 0..BURST {
            let mut frame = client.frame().expect("an empty frame");
            frame.set_len(frame_bytes);
            assert!(client.send(frame).is_ok());
        }
        client.flush();
        assert_eq!(server.receive(&mut got, BURST), BURST);
        got.drain(..).for_each(|frame| assert!(server.send(frame).is_ok()));
        server.flush();
        assert_eq!(client.receive(&mut got, BURST), BURST);
        got.clear();
    }
    started.elapsed().as_nanos() as f64 / (2 * ROUNDS * BURST) as f64
}

/// Round trips of one frame between two threads; returns p50 and p99 in ns.
fn round_trips(served: &mut Served, frame_bytes: usize) -> (u64, u64) {
    const COUNT: usize = 300_000;
    let done = AtomicBool::new(false);
    let path = served.path().to_owned();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let config = ClientConfig::new(&path);
            let mut client = ClientPort::connect(&config, Duration::from_secs(10)).expect("there");
            let mut got = FrameQueue::with_capacity(BURST);
            let mut times = Vec::with_capacity(COUNT);
            for _ in 0..COUNT {
                let started = Instant::now();
                let mut frame = client.frame().expect("an empty frame");
                frame.set_len(frame_bytes);
                frame.set_peer(Peer::WIRE);
                assert!(client.send(frame).is_ok());
                client.flush();
                while client.receive(&mut got, BURST) == 0 {
                    std::hint::spin_loop();
                }
                got.clear();
                times.push(started.elapsed().as_nanos() as u64);
            }
            done.store(true, Ordering::Release);
            times.sort_unstable();
            (times[COUNT / 2], times[COUNT / 100 * 99])
        });
        let mut got = FrameQueue::with_capacity(BURST);
        while !done.load(Ordering::Acquire) {
            served.server.receive(&mut got, BURST);
            got.drain(..).for_each(|frame| drop(served.server.send(frame)));
            served.server.flush();
        }
        client.join().expect("the client")
    })
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut pair = MemifPair::new(|_| {});
    let mut served = Served::new(|_| {});
    for frame_bytes in FRAME_BYTES {
        let best = (0..REPEATS).map(|_| bursts(&mut pair, frame_bytes)).fold(f64::MAX, f64::min);
        let trips = (0..REPEATS).map(|_| round_trips(&mut served, frame_bytes)).min();
        let (p50, p99) = trips.expect("some repeats");
        eprintln!(
            "{frame_bytes} B: burst {best:.1} ns a frame and way; round trip p50 {p50}, p99 {p99} ns"
        );
    }
}
