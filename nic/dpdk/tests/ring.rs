//! net_ring ports, and the life of DPDK and of pools, which these ports show best.

mod common;

use std::thread;

use common::{Two, eal, filled};
use mstream_nic::conformance::{self, Expect};
use mstream_nic::port::BURST;
use mstream_nic::{Frame, FrameQueue, Port};
use mstream_nic_dpdk::{
    DpdkError, DpdkPort, DpdkPortConfig, DpdkPortSeed, Eal, EalConfig, Kind, PoolLeak,
    ThreadRegistration,
};

#[test]
fn ports_over_rings() {
    let eal = eal();
    assert!(matches!(Eal::init(&EalConfig::new(0)), Err(DpdkError::AlreadyStarted)));

    let registration = eal.register_thread().expect("a free id");
    conformance_of_a_pair(&eal, &registration);
    a_registered_thread_has_a_cache(&eal, &registration);
    a_held_frame_is_a_leak_and_stays_usable(&eal, &registration);
    what_is_in_the_ring_at_the_end_comes_back(&eal, &registration);
    frames_of_other_ports_and_lengths_are_dropped(&eal, &registration);
    a_seed_moves_to_another_thread(&eal);
    wrong_settings_and_names_in_use_are_refused(&eal);
    drop(registration);

    let port = DpdkPortSeed::prepare(&eal, &ring("left", 512)).expect("a port");
    drop(port);
    eal.close().expect("nothing uses DPDK any more");
    assert!(matches!(Eal::init(&EalConfig::new(0)), Err(DpdkError::AlreadyStarted)));
}

fn ring(name: &str, frames: u32) -> DpdkPortConfig {
    DpdkPortConfig { frames, ..DpdkPortConfig::new(name, Kind::Ring) }
}

/// A port that receives what it sends.
fn looped(eal: &Eal, registration: &ThreadRegistration, frames: u32) -> DpdkPort {
    DpdkPortSeed::prepare(eal, &ring("loop", frames)).expect("a port").open(registration)
}

fn conformance_of_a_pair(eal: &Eal, registration: &ThreadRegistration) {
    let (a, b) = (ring("a", 1024), ring("b", 1024));
    let (a, b) = DpdkPortSeed::prepare_pair(eal, &a, &b).expect("two ports");
    let mut pair = Two { a: a.open(registration), b: b.open(registration) };
    let report = conformance::run(&mut pair, Expect::default());
    assert!(report.gave_back > 0, "the ring was full at times: {report:?}");
    assert_eq!(pair.a.stats().rx_refused + pair.b.stats().rx_refused, 0);
    pair.a.close().expect("not said yet");
    pair.b.close().expect("the pool is whole");
}

fn a_registered_thread_has_a_cache(eal: &Eal, registration: &ThreadRegistration) {
    let mut port = looped(eal, registration, 1024);
    assert_eq!(port.cached_buffers(), 0, "nothing was taken yet");
    let frame = port.frame();
    assert!(port.cached_buffers() > 0, "taking one fetched more at once");
    drop(frame);
    let held: Vec<_> = std::iter::from_fn(|| port.frame()).collect();
    assert_eq!(held.len(), 1024, "the cache keeps nothing back");
    drop(held);
    port.close().expect("the pool is whole");
}

fn a_held_frame_is_a_leak_and_stays_usable(eal: &Eal, registration: &ThreadRegistration) {
    let mut port = looped(eal, registration, 128);
    let mut frame = filled(&mut port, 100, 5);
    assert_eq!(port.frames_out(), 1);
    let leak = port.close().expect_err("a frame is out");
    assert_eq!(leak, PoolLeak { missing: 1, total: 128, held: 1 });
    frame.set_len(200);
    assert_eq!(frame.bytes()[..3], [5, 6, 7]);
}

fn what_is_in_the_ring_at_the_end_comes_back(eal: &Eal, registration: &ThreadRegistration) {
    let mut port = looped(eal, registration, 256);
    for _ in 0..2 * BURST {
        let frame = filled(&mut port, 64, 1);
        assert!(port.send(frame).is_ok());
    }
    assert_eq!(port.frames_out(), BURST, "a full burst left by itself");
    port.flush();
    assert_eq!(port.frames_out(), 0, "all are on the wire");
    let waiting = filled(&mut port, 64, 1);
    assert!(port.send(waiting).is_ok());
    port.close().expect("also what waited and what was on the wire");
}

fn frames_of_other_ports_and_lengths_are_dropped(eal: &Eal, registration: &ThreadRegistration) {
    let mut port = looped(eal, registration, 128);
    let other = DpdkPortSeed::prepare(eal, &ring("other", 128)).expect("a port");
    let mut other = other.open(registration);
    let max_frame = port.capabilities().max_frame;
    let frames =
        [filled(&mut other, 100, 0), filled(&mut port, 13, 0), filled(&mut port, max_frame + 1, 0)];
    for (at, frame) in frames.into_iter().enumerate() {
        assert!(port.send(frame).is_ok());
        assert_eq!(port.stats().tx_dropped, at as u64 + 1);
    }
    port.flush();
    let mut got = FrameQueue::new();
    assert_eq!(port.receive(&mut got, BURST), 0);
    port.close().expect("the pool is whole");
    other.close().expect("the other pool is whole");
}

fn a_seed_moves_to_another_thread(eal: &Eal) {
    let seed = DpdkPortSeed::prepare(eal, &ring("moved", 512)).expect("a port");
    thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let registration = eal.register_thread().expect("a free id");
            let mut port = seed.open(&registration);
            let mut got = FrameQueue::new();
            for first in 0..100 {
                let frame = filled(&mut port, 60 + usize::from(first), first);
                assert!(port.send(frame).is_ok());
                port.flush();
                assert_eq!(port.receive(&mut got, BURST), 1);
                let frame = got.pop_front().expect("one");
                assert_eq!(
                    (frame.bytes().len(), frame.bytes()[0]),
                    (60 + usize::from(first), first)
                );
            }
            port.close().expect("the pool is whole");
        });
        poller.join().expect("no panic");
    });
}

fn wrong_settings_and_names_in_use_are_refused(eal: &Eal) {
    let first = DpdkPortSeed::prepare(eal, &ring("twice", 128)).expect("a port");
    let second = DpdkPortSeed::prepare(eal, &ring("twice", 128));
    assert!(matches!(second, Err(DpdkError::Port { .. })), "{second:?}");
    drop(first);
    let again = DpdkPortSeed::prepare(eal, &ring("twice", 128));
    assert!(again.is_ok(), "the name is free again: {again:?}");
    let many = DpdkPortSeed::prepare(eal, &ring("many", 4_000_000));
    let Err(error @ DpdkError::Port { .. }) = many else { panic!("no such memory: {many:?}") };
    assert!(error.to_string().contains("give DPDK more memory"), "{error}");
}
