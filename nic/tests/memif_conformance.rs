//! The conformance suite over memif: a server and its client in one process.

mod common;

use std::time::Duration;

use common::{HEADERS, HEADERS_V6, MemifPair};
use mstream_nic::conformance::{Expect, run};
use mstream_nic::memif::ClientConfig;

#[test]
fn a_server_and_its_client_conform() {
    for headers in [HEADERS, HEADERS_V6] {
        let mut pair = MemifPair::new(|_| {});
        pair.headers = headers;
        let report = run(&mut pair, Expect::default());
        assert!(report.gave_back >= 6, "the rings ran full each way: {report:?}");
        assert_eq!((report.lost, report.foreign), (0, 0));
    }
}

#[test]
fn the_smallest_rings_conform() {
    for log2 in [0, 1] {
        let mut pair = MemifPair::new(|config: &mut ClientConfig| config.ring_log2 = log2);
        let report = run(&mut pair, Expect::default());
        assert_eq!((report.lost, report.foreign), (0, 0));
    }
}

#[test]
fn rings_larger_than_the_pools_conform() {
    let mut pair = MemifPair::new(|config: &mut ClientConfig| {
        config.ring_log2 = 14;
        config.frames = 64;
    });
    let expect = Expect { patience: Duration::from_secs(20), ..Expect::default() };
    let report = run(&mut pair, expect);
    assert!(report.gave_back >= 6, "the rings ran full each way: {report:?}");
}
