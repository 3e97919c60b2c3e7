//! The appliance of a world: one shard in its poll loop, which can be killed or lose its power.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use mstream_dataplane::{
    Clock, Limits, Now, PollLoop, PortAddress, PublisherEntry, Shard, ShardConfig, Status,
    StreamEntry, StreamRules,
};
use mstream_nic::Port;
use mstream_nic::sim::{Endpoint, SimNet};
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{TableLimits, Wal, WalConfig};

use crate::parts::Parts;
use crate::random::Random;

/// The shard's MAC address.
pub const SHARD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const SHARD_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const SHARD_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const SHARD_UDP_PORT: u16 = 7500;

/// Bytes of a segment.
const SEGMENT: u64 = 64 * 1024;
/// Sessions that are not heard end after this long, in milliseconds.
pub(crate) const SESSION_TIMEOUT_MS: u32 = 3_000;

/// A clock that stands still until it is set.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Rc<Cell<u64>>);

impl VirtualClock {
    /// The time, in nanoseconds from the world's beginning.
    pub fn ns(&self) -> u64 {
        self.0.get()
    }

    /// Sets the time.
    pub fn set(&self, ns: u64) {
        self.0.set(ns);
    }
}

impl Clock for VirtualClock {
    fn now(&mut self) -> Now {
        let mono_ns = self.ns();
        Now { mono_ns, wall_ns: 1_700_000_000_000_000_000 + mono_ns }
    }
}

type Loop<X> = PollLoop<<X as Parts>::ShardPort, <X as Parts>::Region, VirtualClock>;
pub(crate) type TheShard<X> = Shard<<X as Parts>::Region, <<X as Parts>::ShardPort as Port>::Frame>;

/// How the appliance is made; the same for all its lives.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    pub(crate) streams: u32,
    pub(crate) publishers: u32,
    pub(crate) limits: Limits,
    /// VLAN of the whole network.
    pub(crate) vlan: Option<u16>,
    slots: u32,
    frames: usize,
}

impl ServerConfig {
    pub(crate) fn draw(streams: u32, publishers: u32, random: &mut Random) -> ServerConfig {
        let limits = Limits {
            sessions: 64,
            publications: 64,
            subscriptions: 64,
            pending_records: random.within(4..=256) as usize,
            pending_frames: random.below(33) as usize,
            session_window_bytes: random.within(4..=128) * 1024,
            session_timeout_ms: SESSION_TIMEOUT_MS,
            ..Limits::default()
        };
        ServerConfig {
            streams,
            publishers,
            limits,
            slots: random.within(6..=12) as u32,
            frames: random.within(128..=512) as usize,
            vlan: random.one_in(4).then(|| random.within(1..=4094) as u16),
        }
    }

    /// A region without a log, whose barriers complete `delay` polls later.
    pub(crate) fn region(&self, delay: u64, random: &mut Random) -> SimRegion {
        let window = random.within(4..=64) * 1024;
        SimRegion::new(self.slots, SEGMENT, delay).with_window(window)
    }

    /// Opens the log in a region.
    pub(crate) fn open<R: mstream_pmem::region::Region>(
        &self,
        region: R,
        now: Now,
    ) -> Result<Wal<R>, String> {
        let config = WalConfig {
            shard: 0,
            new_log_id: [9; 16],
            new_secret: [0x5e; 16],
            boot_id: [1; 16],
            tables: TableLimits { streams: 4, publications: 128, publishers: 8 },
            ready_segments: 1,
            time_ns: now.wall_ns,
        };
        let slots: Vec<u32> = (0..self.slots).collect();
        let opened = Wal::open(region, &slots, config).map_err(|error| error.to_string())?;
        Ok(opened.0)
    }
}

/// Stream ids are 1 and up; publisher ids too.
pub(crate) fn stream_name(stream: u32) -> String {
    format!("stream-{stream}")
}

pub(crate) struct Server<X: Parts> {
    config: ServerConfig,
    running: Option<Loop<X>>,
    endpoint: Option<Endpoint>,
    /// What the medium holds while nothing runs.
    medium: Option<SimRegion>,
}

impl<X: Parts> Server<X> {
    pub(crate) fn new(config: ServerConfig, region: SimRegion) -> Server<X> {
        Server { config, running: None, endpoint: None, medium: Some(region) }
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.config
    }

    pub(crate) fn shard(&self) -> Option<&TheShard<X>> {
        self.running.as_ref().map(PollLoop::shard)
    }

    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
    }

    /// Starts the process on what the medium holds.
    pub(crate) fn start(
        &mut self,
        parts: &mut X,
        net: &SimNet,
        clock: &VirtualClock,
        random: &mut Random,
    ) -> Result<(), String> {
        let Some(region) = self.medium.take() else { return Ok(()) };
        let mut clock = clock.clone();
        let now = clock.now();
        let wal = self.config.open(parts.region(region), now)?;
        let port = net.attach(SHARD_MAC, self.config.frames);
        self.endpoint = Some(port.endpoint());
        let port = parts.shard_port(port);
        let entry =
            |id: u32| PublisherEntry { id: id.into(), name: format!("publisher-{id}").into() };
        let config = ShardConfig {
            ports: vec![PortAddress {
                mac: SHARD_MAC,
                ip: Some(SHARD_IP),
                ip6: Some(SHARD_IP6),
                vlan: self.config.vlan,
                capabilities: port.capabilities(),
            }],
            udp_port: SHARD_UDP_PORT,
            limits: self.config.limits,
            streams: (1..=self.config.streams)
                .map(|id| StreamEntry {
                    id: id.into(),
                    name: stream_name(id).into(),
                    rules: StreamRules::default(),
                })
                .collect(),
            publishers: (1..=self.config.publishers).map(entry).collect(),
            secret: random.key(),
        };
        let shard = Shard::new(config, wal, now).map_err(|error| error.to_string())?;
        let (commands, replies) = (Arc::new(ArrayQueue::new(1)), Arc::new(ArrayQueue::new(1)));
        let status = Arc::new(Status::new(1));
        self.running = Some(PollLoop::new(vec![port], shard, clock, commands, replies, status));
        Ok(())
    }

    pub(crate) fn poll(&mut self) -> u64 {
        self.running.as_mut().map_or(0, PollLoop::poll)
    }

    /// Ends the process; `medium` says what its region leaves behind.
    pub(crate) fn stop(&mut self, medium: impl FnOnce(&SimRegion) -> SimRegion) {
        let Some(running) = self.running.take() else { return };
        self.endpoint = None;
        self.medium = Some(medium(X::inner(running.shard().wal().region())));
    }

    /// Ends the process for good; buffers that did not come back.
    pub(crate) fn shut_down(&mut self) -> usize {
        let Some(running) = self.running.take() else { return 0 };
        let (ports, shard) = running.into_parts();
        drop(shard);
        ports.iter().map(Port::frames_out).sum()
    }
}
