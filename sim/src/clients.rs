//! What publishers and subscribers have in common: a place in the network and a pace of their own.

use std::net::{Ipv4Addr, Ipv6Addr};

use mstream_client::{Addresses, IpPair};
use mstream_nic::sim::{Endpoint, SimNet, SimPort};

use crate::random::Random;
use crate::server::{SHARD_IP, SHARD_IP6, SHARD_UDP_PORT};

/// Buffers of a client's port.
const CLIENT_FRAMES: usize = 128;

/// How fast a client's clock runs, and when it is polled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// By how much its clock is too fast, in parts per million.
    pub(crate) drift_ppm: i64,
    /// It is not polled before this time.
    pub(crate) paused_until: u64,
    /// It is polled once in this many turns; 0 is as 1.
    pub(crate) slowness: u64,
}

impl Pace {
    /// What its clock shows at a time.
    pub(crate) fn time(&self, now_ns: u64) -> u64 {
        drifted(now_ns, self.drift_ppm)
    }
}

/// A time as a clock shows it that is `ppm` parts in a million too fast.
pub(crate) fn drifted(now_ns: u64, ppm: i64) -> u64 {
    now_ns.wrapping_add_signed(now_ns as i64 / 1_000_000 * ppm)
}

/// A client's place in the network.
pub(crate) struct Attached<P> {
    /// Which one it is: says its addresses.
    pub(crate) number: u16,
    pub(crate) endpoint: Endpoint,
    pub(crate) port: P,
    pub(crate) addresses: Addresses,
    pub(crate) pace: Pace,
}

/// The place of the `number`th client.
pub(crate) fn attach(
    net: &SimNet,
    number: u16,
    vlan: Option<u16>,
    drift_ppm: i64,
    random: &mut Random,
) -> Attached<SimPort> {
    let [high, low] = number.to_be_bytes();
    let mac = [2, 0, 0, 1, high, low];
    let ips = if random.one_in(2) {
        let src = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, number);
        IpPair::V6 { src, dst: SHARD_IP6 }
    } else {
        IpPair::V4 { src: Ipv4Addr::new(10, 1, high, low), dst: SHARD_IP }
    };
    let port = net.attach(mac, CLIENT_FRAMES);
    let addresses = Addresses { mac, vlan, ips, udp_port: 40_000, shard_udp_port: SHARD_UDP_PORT };
    let pace = Pace { drift_ppm, ..Pace::default() };
    Attached { number, endpoint: port.endpoint(), port, addresses, pace }
}
