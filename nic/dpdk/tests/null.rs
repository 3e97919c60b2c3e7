//! A net_null port: it always has something to receive and forgets what is sent, so only a part of
//! what ports must do can be tried.

mod common;

use std::time::Duration;

use common::{eal, filled};
use mstream_nic::port::BURST;
use mstream_nic::{Frame, FrameQueue, Peer, Port};
use mstream_nic_dpdk::{DpdkPortConfig, DpdkPortSeed, Kind};

#[test]
fn a_null_port() {
    let eal = eal();
    let registration = eal.register_thread().expect("a free id");
    let config = DpdkPortConfig {
        frames: 512,
        ..DpdkPortConfig::new("null", Kind::Null { frame_bytes: 300 })
    };
    let seed = DpdkPortSeed::prepare(&eal, &config).expect("a port");
    assert!(seed.wait_for_link(Duration::ZERO));
    let mut port = seed.open(&registration);
    assert!(!port.capabilities().syscalls);

    let mut got = FrameQueue::with_capacity(128);
    assert_eq!(port.receive(&mut got, 0), 0);
    for asked in [1, 3, BURST, 3 * BURST - 1] {
        assert_eq!(port.receive(&mut got, asked), asked);
        assert_eq!(got.len(), asked);
        assert!(got.iter().all(|frame| frame.bytes().len() == 300 && frame.peer() == Peer::WIRE));
        assert_eq!(port.frames_out(), asked);
        got.clear();
    }
    let received = port.stats().rx_frames;
    assert_eq!(port.stats().rx_bytes, received * 300);

    // The pool runs out, and is there again.
    while port.receive(&mut got, BURST) > 0 {}
    let held = got.len();
    assert!(held > 512 - BURST, "{held} buffers");
    got.clear();
    assert_eq!(port.frames_out(), 0);

    for first in 0..100 {
        let frame = filled(&mut port, 60, first);
        assert!(port.send(frame).is_ok());
    }
    port.flush();
    let stats = port.stats();
    assert_eq!((stats.tx_frames, stats.tx_bytes, stats.tx_dropped), (100, 6000, 0));
    assert_eq!(port.frames_out(), 0);
    let counters = port.probe().counters();
    let sent = counters.iter().find(|(name, _)| name == "tx_good_packets").map(|(_, value)| *value);
    assert_eq!(sent, Some(100), "{counters:?}");

    port.close().expect("the pool is whole");
    drop(registration);
    eal.close().expect("nothing uses DPDK any more");
}
