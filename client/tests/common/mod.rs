//! Clients and a shard in a simulated network, with time by hand.
#![allow(dead_code, reason = "each test file uses a part")]

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use mstream_client::{
    Addresses, Client, Ended, Event, From, Identity, IpPair, Lost, PublicationConfig,
    PublicationId, SessionConfig, SessionId, Stop, SubscriptionId,
};
use mstream_dataplane::{
    Clock, Command, Limits, Now, PollLoop, PortAddress, PublisherEntry, Shard, ShardConfig, Status,
    StreamEntry, StreamRules,
};
use mstream_nic::Port;
use mstream_nic::sim::{Endpoint, Faults, SimNet, SimPort};
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{TableLimits, Wal, WalConfig};
use mstream_wire::Code;

pub const SHARD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const SHARD_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const SHARD_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub const PUBLISHER: u64 = 42;
pub const STREAM: &str = "trades";
const SEGMENT: u64 = 64 * 1024;
const SLOTS: u32 = 8;
pub const MS: u64 = 1_000_000;

#[derive(Clone, Default)]
pub struct Time(Rc<Cell<u64>>);

impl Clock for Time {
    fn now(&mut self) -> Now {
        let mono_ns = self.0.get();
        Now { mono_ns, wall_ns: 1_700_000_000_000_000_000 + mono_ns }
    }
}

type Server = PollLoop<SimPort, SimRegion, Time>;

pub struct World {
    pub net: SimNet,
    pub limits: Limits,
    /// VLAN of the shard's port and of all users.
    vlan: Option<u16>,
    /// The next users come over IPv6.
    pub v6: bool,
    time: Time,
    server: Option<Server>,
    commands: Arc<ArrayQueue<Command>>,
    pub shard_end: Endpoint,
    starts: u8,
}

impl World {
    pub fn new() -> World {
        World::with(Limits { sessions: 8, publications: 8, subscriptions: 8, ..Limits::default() })
    }

    pub fn with(limits: Limits) -> World {
        World::on(SimRegion::new(SLOTS, SEGMENT, 0), limits)
    }

    pub fn on(region: SimRegion, limits: Limits) -> World {
        World::on_network(region, limits, None)
    }

    /// A world in which everything is on VLAN `vlan`.
    pub fn on_vlan(vlan: u16) -> World {
        World::on_network(SimRegion::new(SLOTS, SEGMENT, 0), Limits::default(), Some(vlan))
    }

    fn on_network(region: SimRegion, limits: Limits, vlan: Option<u16>) -> World {
        let net = SimNet::new(1);
        let time = Time::default();
        time.0.set(1_000 * MS);
        let shard_end = net.attach([2, 0, 0, 0, 9, 9], 1).endpoint();
        let mut world = World {
            net,
            limits,
            vlan,
            v6: false,
            time,
            server: None,
            commands: Arc::new(ArrayQueue::new(8)),
            shard_end,
            starts: 0,
        };
        world.start(region);
        world
    }

    /// Starts a shard on what `region` holds.
    pub fn start(&mut self, region: SimRegion) {
        self.starts += 1;
        let now = self.time.now();
        let config = WalConfig {
            shard: 0,
            new_log_id: [9; 16],
            new_secret: [8; 16],
            boot_id: [1; 16],
            tables: TableLimits { streams: 4, publications: 64, publishers: 4 },
            ready_segments: 1,
            time_ns: now.wall_ns,
        };
        let slots: Vec<u32> = (0..SLOTS).collect();
        let (wal, _) = Wal::open(region, &slots, config).expect("the log opens");
        let port = self.net.attach(SHARD_MAC, 256);
        self.shard_end = port.endpoint();
        let address = PortAddress {
            mac: SHARD_MAC,
            ip: Some(SHARD_IP),
            ip6: Some(SHARD_IP6),
            vlan: self.vlan,
            capabilities: port.capabilities(),
        };
        let config = ShardConfig {
            ports: vec![address],
            udp_port: 7500,
            limits: self.limits,
            streams: vec![StreamEntry {
                id: 7,
                name: STREAM.into(),
                rules: StreamRules::default(),
            }],
            publishers: vec![PublisherEntry { id: PUBLISHER, name: "feed".into() }],
            secret: [self.starts; 16],
        };
        let shard = Shard::new(config, wal, now).expect("the tables hold the configuration");
        let (commands, replies) = (Arc::clone(&self.commands), Arc::new(ArrayQueue::new(8)));
        let status = Arc::new(Status::new(1));
        self.server =
            Some(PollLoop::new(vec![port], shard, self.time.clone(), commands, replies, status));
    }

    /// Tells the shard to give its stream up.
    pub fn delete_stream(&self) {
        let command = Command::DeleteStream { request: 1, id: 7 };
        self.commands.push(command).expect("room for commands");
    }

    /// Tells the shard to take a new stream of the name.
    pub fn create_stream(&self, id: u64) {
        let entry = StreamEntry { id, name: STREAM.into(), rules: StreamRules::default() };
        let command = Command::CreateStream { request: id, entry };
        self.commands.push(command).expect("room for commands");
    }

    /// Ends the process in good order, as SIGTERM does; its memory.
    pub fn shut_down(&mut self) -> SimRegion {
        let server = self.server.as_mut().expect("it runs");
        server.poll();
        server.say_goodbye();
        self.kill()
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub fn shard(&self) -> &Shard<SimRegion, <SimPort as Port>::Frame> {
        self.server().shard()
    }

    /// What the log's memory holds now.
    pub fn region(&self) -> SimRegion {
        self.shard().wal().region().clone()
    }

    /// Ends the process, as a kill does; its memory.
    pub fn kill(&mut self) -> SimRegion {
        let region = self.region().after_kill();
        self.server = None;
        region
    }

    pub fn now_ns(&self) -> u64 {
        self.time.0.get()
    }

    pub fn advance(&mut self, ns: u64) {
        self.time.0.set(self.now_ns() + ns);
        self.net.advance(self.now_ns());
    }

    pub fn poll_server(&mut self) {
        if let Some(server) = &mut self.server {
            server.poll();
        }
    }

    /// Lets `ns` pass in small steps, with everyone polling.
    pub fn run<P: Port>(&mut self, ns: u64, users: &mut [&mut User<P>]) {
        let until = self.now_ns() + ns;
        while self.now_ns() < until {
            self.advance(50_000);
            self.poll_server();
            for user in &mut *users {
                user.poll(self.now_ns());
            }
        }
    }

    /// Runs until `done`, for at most 20 s.
    pub fn run_until<P: Port>(&mut self, user: &mut User<P>, done: impl Fn(&User<P>) -> bool) {
        let until = self.now_ns() + 20_000 * MS;
        while !done(user) {
            assert!(self.now_ns() < until, "it never happens; seen: {:?}", user.seen);
            self.run(100_000, &mut [user]);
        }
    }

    /// A port in the network with the addresses of its user.
    pub fn attach(&self, number: u8) -> (SimPort, Addresses) {
        let mac = [2, 0, 0, 0, 1, number];
        let ips = if self.v6 {
            let src = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, number.into());
            IpPair::V6 { src, dst: SHARD_IP6 }
        } else {
            IpPair::V4 { src: Ipv4Addr::new(10, 0, 1, number), dst: SHARD_IP }
        };
        let addresses =
            Addresses { mac, vlan: self.vlan, ips, udp_port: 40_000, shard_udp_port: 7500 };
        (self.net.attach(mac, 64), addresses)
    }

    pub fn user(&self, number: u8, identity: Identity) -> User<SimPort> {
        let (port, addresses) = self.attach(number);
        let end = port.endpoint();
        User::new(end, port, addresses, number, identity)
    }

    /// Cuts both ways between the shard and a user, or joins them.
    pub fn cut<P: Port>(&self, user: &User<P>, cut: bool) {
        self.net.cut(self.shard_end, user.end, cut);
        self.net.cut(user.end, self.shard_end, cut);
    }

    pub fn no_faults(&self) {
        self.net.set_faults(Faults::NONE);
    }
}

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Message(u64, Vec<u8>),
    Acknowledged(u64),
    Refused { sequence: u64, count: u16, code: Code },
    SessionOpened { publisher: u64, incarnation: u64 },
    SessionLost(Lost),
    SessionFailed(Code),
    Delayed(Code),
    PublicationOpened(u64),
    PublicationEnded(Ended),
    OutcomeUnknown(u64, u64),
    Subscribed(u64),
    Skipped(u64, u64),
    Stopped(Stop),
}

fn seen(event: Event<'_>) -> Seen {
    match event {
        Event::Message { offset, message, .. } => Seen::Message(offset, message.payload.to_vec()),
        Event::Acknowledged { sequence, .. } => Seen::Acknowledged(sequence),
        Event::Refused { sequence, count, code, .. } => Seen::Refused { sequence, count, code },
        Event::SessionOpened { publisher, incarnation, .. } => {
            Seen::SessionOpened { publisher, incarnation }
        }
        Event::SessionLost { why, .. } => Seen::SessionLost(why),
        Event::SessionFailed { code, .. } => Seen::SessionFailed(code),
        Event::Delayed { code, .. } => Seen::Delayed(code),
        Event::PublicationOpened { sequence, .. } => Seen::PublicationOpened(sequence),
        Event::PublicationEnded { why, .. } => Seen::PublicationEnded(why),
        Event::OutcomeUnknown { first, last, .. } => Seen::OutcomeUnknown(first, last),
        Event::Subscribed { start, .. } => Seen::Subscribed(start),
        Event::Skipped { from, to, .. } => Seen::Skipped(from, to),
        Event::SubscriptionStopped { why, .. } => Seen::Stopped(why),
    }
}

/// A client with one session, and what it said.
pub struct User<P: Port> {
    pub client: Client<P>,
    pub session: SessionId,
    pub end: Endpoint,
    pub seen: Vec<Seen>,
}

impl<P: Port> User<P> {
    pub fn new(
        end: Endpoint,
        port: P,
        addresses: Addresses,
        number: u8,
        identity: Identity,
    ) -> User<P> {
        let mut client = Client::new(port, addresses, [number; 16]);
        let session = client.open_session(SessionConfig { identity, max_beat_ms: 200 });
        User { client, session, end, seen: Vec::new() }
    }

    pub fn poll(&mut self, now_ns: u64) {
        let told = &mut self.seen;
        self.client.poll(now_ns, |event| told.push(seen(event)));
    }

    pub fn publication(&mut self, config: &PublicationConfig) -> PublicationId {
        self.client.open_publication(self.session, STREAM, config)
    }

    pub fn subscribe(&mut self, from: From, window: u64) -> SubscriptionId {
        self.client.subscribe(self.session, STREAM, from, window)
    }

    pub fn has(&self, what: &Seen) -> bool {
        self.seen.contains(what)
    }

    /// Publishes one message in a batch of its own.
    pub fn send(&mut self, publication: PublicationId, payload: &[u8]) -> u64 {
        let sequence =
            self.client.publish(publication, b"", b"", payload).expect("the message is taken");
        self.client.flush();
        sequence
    }

    /// Payloads that came, in order; offsets are checked to be dense.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let mut next = None;
        let mut payloads = Vec::new();
        for seen in &self.seen {
            if let Seen::Message(offset, payload) = seen {
                assert!(next.is_none_or(|next| next == *offset), "{offset} is not {next:?}");
                next = Some(offset + 1);
                payloads.push(payload.clone());
            }
        }
        payloads
    }

    pub fn acknowledged(&self) -> u64 {
        let acknowledged = self.seen.iter().filter_map(|seen| match seen {
            Seen::Acknowledged(sequence) => Some(*sequence),
            _ => None,
        });
        acknowledged.max().unwrap_or(0)
    }
}

/// One publisher with an open stream.
pub fn publisher(
    world: &mut World,
    number: u8,
    identity: Identity,
) -> (User<SimPort>, PublicationId) {
    let mut user = world.user(number, identity);
    let publication = user.publication(&PublicationConfig::default());
    world.run_until(&mut user, |user| user.client.is_open(publication));
    (user, publication)
}

/// One subscriber that was answered.
pub fn subscriber(
    world: &mut World,
    number: u8,
    from: From,
    window: u64,
) -> (User<SimPort>, SubscriptionId) {
    let mut user = world.user(number, Identity::Anonymous);
    let subscription = user.subscribe(from, window);
    world.run_until(&mut user, |user| {
        user.seen.iter().any(|seen| matches!(seen, Seen::Subscribed(_)))
    });
    (user, subscription)
}
