//! A shard under test: frames in, frames out, time by hand.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod client;
pub mod content;
pub mod port;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use client::Client;
pub use content::{block, datagram};
use mstream_dataplane::{
    Limits, Now, PortAddress, PublisherEntry, Shard, ShardConfig, StreamEntry, StreamRules,
};

use mstream_nic::Capabilities;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{TableLimits, Wal, WalConfig};

use port::{Out, TestFrame};

pub const SHARD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const SHARD_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const SHARD_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
pub const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const CLIENT_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
pub const SHARD_PORT: u16 = 7500;
pub const STREAM: u64 = 7;
pub const PUBLISHER: u64 = 42;
pub const SEGMENT: u64 = 64 * 1024;

pub struct World {
    pub shard: Shard<SimRegion, TestFrame>,
    pub out: Out,
    pub now: Now,
}

pub fn limits() -> Limits {
    Limits { sessions: 16, publications: 16, subscriptions: 16, ..Limits::default() }
}

pub fn wal_config(time_ns: u64) -> WalConfig {
    WalConfig {
        shard: 0,
        new_log_id: [9; 16],
        new_secret: [0x5e; 16],
        boot_id: [1; 16],
        tables: TableLimits { streams: 4, publications: 64, publishers: 4 },
        ready_segments: 1,
        time_ns,
    }
}

/// An Ethernet port of the shard with addresses of both families.
pub fn port_address() -> PortAddress {
    let capabilities = Capabilities { ethernet: true, max_frame: 2000, ..Capabilities::default() };
    PortAddress {
        mac: SHARD_MAC,
        ip: Some(SHARD_IP),
        ip6: Some(SHARD_IP6),
        vlan: None,
        capabilities,
    }
}

/// A stream of the catalogue without rules.
pub fn entry(id: u64, name: &str) -> StreamEntry {
    StreamEntry { id, name: name.into(), rules: StreamRules::NONE }
}

/// Recovers `region` and puts a shard with one stream on it.
pub fn start(region: SimRegion, slots: u32, limits: Limits, now: Now) -> World {
    start_entries(region, slots, limits, now, vec![entry(STREAM, "trades")])
}

/// As [`start`] with these entries of the catalogue.
pub fn start_entries(
    region: SimRegion,
    slots: u32,
    limits: Limits,
    now: Now,
    streams: Vec<StreamEntry>,
) -> World {
    start_on(port_address(), region, slots, limits, now, streams)
}

fn start_on(
    port: PortAddress,
    region: SimRegion,
    slots: u32,
    limits: Limits,
    now: Now,
    streams: Vec<StreamEntry>,
) -> World {
    let config = wal_config(now.wall_ns);
    let slots: Vec<u32> = (0..slots).collect();
    let (wal, _) = Wal::open(region, &slots, config).expect("the log opens");
    on_log(port, wal, limits, now, streams)
}

/// Puts a shard on a log that was opened.
pub fn on_log(
    port: PortAddress,
    wal: Wal<SimRegion>,
    limits: Limits,
    now: Now,
    streams: Vec<StreamEntry>,
) -> World {
    let config = ShardConfig {
        ports: vec![port],
        udp_port: SHARD_PORT,
        limits,
        streams,
        publishers: vec![PublisherEntry { id: PUBLISHER, name: "feed".into() }],
        secret: [3; 16],
    };
    let shard = Shard::new(config, wal, now).expect("tables hold the configuration");
    World { shard, out: Out::default(), now }
}

impl World {
    pub fn new() -> World {
        World::on(port_address())
    }

    /// A world whose shard has this port.
    pub fn on(port: PortAddress) -> World {
        let now = Now { mono_ns: 1_000_000_000, wall_ns: 1_700_000_000_000_000_000 };
        let streams = vec![entry(STREAM, "trades")];
        start_on(port, SimRegion::new(8, SEGMENT, 0), 8, limits(), now, streams)
    }

    /// Ends this shard and starts another on what its log holds.
    pub fn restart(self) -> World {
        self.restart_on(port_address())
    }

    /// As [`World::restart`]; the other one has this port.
    pub fn restart_on(self, port: PortAddress) -> World {
        let region = self.shard.into_wal().into_region().after_kill();
        start_on(port, region, 8, limits(), self.now, vec![entry(STREAM, "trades")])
    }

    pub fn pass(&mut self, ns: u64) {
        self.now.mono_ns += ns;
        self.now.wall_ns += ns;
    }

    /// Gives the shard one raw frame, without ending the burst.
    pub fn frame(&mut self, bytes: Vec<u8>) {
        self.shard.receive(self.now, 0, TestFrame::new(bytes), &mut self.out);
    }

    pub fn finish(&mut self) {
        self.shard.finish(self.now, &mut self.out);
    }

    /// Gives the shard one datagram from `client`, ends the burst, and lets the client read the answers.
    pub fn exchange(&mut self, client: &mut Client, datagram: &[u8]) {
        self.frame(client.wrap(datagram));
        self.finish();
        self.deliver(client);
    }

    /// Lets `client` read what the shard sent to it.
    pub fn deliver(&mut self, client: &mut Client) {
        let frames: Vec<TestFrame> = self.out.sent.drain(..).collect();
        for frame in frames {
            if !client.take(&frame) {
                self.out.sent.push_back(frame);
            }
        }
    }

    /// Sets up a session.
    pub fn open(&mut self, client: &mut Client) {
        let hello = client.hello();
        self.exchange(client, &hello);
        let open = client.open();
        self.exchange(client, &open);
    }
}

/// A world with a publisher whose stream is open and a subscriber from the beginning.
pub fn pair() -> (World, Client, Client) {
    pair_in(World::new(), Client::claiming(1001, 1), Client::new(1002))
}

/// As [`pair`], in this world and with these clients.
pub fn pair_in(
    mut world: World,
    mut publisher: Client,
    mut subscriber: Client,
) -> (World, Client, Client) {
    world.open(&mut publisher);
    world.open(&mut subscriber);
    let open = publisher.open_stream(1, b"trades");
    world.exchange(&mut publisher, &open);
    let subscribe = subscriber.subscribe(0, 0, 1000, [0; 16], 0);
    world.exchange(&mut subscriber, &subscribe);
    (world, publisher, subscriber)
}
