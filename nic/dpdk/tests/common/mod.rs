//! What the tests of ports over DPDK share. DPDK starts once in a process, so each file has one test.

use mstream_nic::conformance::Pair;
use mstream_nic::headers::{IpPair, Link, UdpHeaders};
use mstream_nic::{Frame, Port};
use mstream_nic_dpdk::{Eal, EalConfig, LogLevel};

/// DPDK on ordinary pages. `DPDK_LOG=1` shows what it says.
pub fn eal() -> Eal {
    let mut config = EalConfig::new(0);
    if std::env::var_os("DPDK_LOG").is_some() {
        config.log = LogLevel::Debug;
    }
    Eal::init(&config).expect("DPDK starts on ordinary pages")
}

/// Two ports that are connected to each other.
#[allow(dead_code, reason = "not all test files need it")]
pub struct Two<A, B> {
    pub a: A,
    pub b: B,
}

impl<A: Port, B: Port> Pair for Two<A, B> {
    type A = A;
    type B = B;

    fn ports(&mut self) -> (&mut A, &mut B) {
        (&mut self.a, &mut self.b)
    }

    fn headers(&self) -> UdpHeaders {
        UdpHeaders {
            link: Link { src_mac: [2, 0, 0, 0, 0, 1], dst_mac: [2, 0, 0, 0, 0, 2], vlan: None },
            ips: IpPair::V4 { src: [10, 77, 0, 1].into(), dst: [10, 77, 0, 2].into() },
            src_port: 7001,
            dst_port: 7002,
        }
    }
}

/// A frame of `len` bytes that starts with `first` and goes on with its position.
#[allow(dead_code, reason = "not all test files need it")]
pub fn filled<P: Port>(port: &mut P, len: usize, first: u8) -> P::Frame {
    let mut frame = port.frame().expect("an empty frame");
    frame.set_len(len);
    for (at, byte) in frame.bytes_mut().iter_mut().enumerate() {
        *byte = first.wrapping_add(at as u8);
    }
    frame
}
