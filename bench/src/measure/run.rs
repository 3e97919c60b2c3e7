//! One run: appliance and echo as processes, the client on its core, slices in turns.

use std::net::SocketAddrV4;
use std::time::Duration;

use mstream_client::{Client, StreamRef, connect};
use mstream_nic::Port;
use mstream_nic::memif::{ClientConfig, ClientPort};
use mstream_nic::socket::SocketPort;

use super::aeron::{Aeron, Around, PeerRecord, Shape};
use super::app_lane::AppLane;
use super::clock::Clock;
use super::cores::{Cores, Pinned};
use super::driver::{DISCARDED_NS, Driver, Load, Record};
use super::echo_lane::EchoLane;
use super::host::CpuTime;
use super::lane::Lane;
use super::node::{self, Node};
use super::setting::{LOG_BYTES, Place, Role, STREAM, Setting, WARM_UP_STREAM};
use super::tap;
use super::udp_echo;
use super::veth::Veth;
use crate::Failure;
use crate::cli::{Floor, MeasureArgs, PeerKind, PortKind};
use crate::interrupt::Interrupt;
use crate::pattern::Pattern;
use crate::tally::Faults;

/// The longest slice.
const SLICE_NS: u64 = 500_000_000;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(20);
/// Frames of the echo's client, as those of the library's clients.
const FRAMES: usize = 2048;

/// What a run is to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) args: &'a MeasureArgs,
    pub(crate) load: Load,
    /// Where kernel clients and servers meet, if they do.
    pub(crate) veth: Option<&'a Veth>,
    /// Only the echo.
    pub(crate) floor_only: bool,
    pub(crate) interrupt: Interrupt,
}

/// What a run measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) app: Option<App>,
    pub(crate) floor: Option<Record>,
    pub(crate) peers: Vec<PeerRecord>,
    pub(crate) steal_percent: f64,
}

/// What it measured of the appliance.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) record: Record,
    pub(crate) faults: Faults,
    pub(crate) messages: u64,
    pub(crate) foreign: u64,
    pub(crate) level: u8,
}

/// Does one run.
pub(crate) fn run(plan: &Plan<'_>, cores: Cores) -> Result<Measured, Failure> {
    let args = plan.args;
    let bench = Bench { plan, cores, clock: Clock::new() };
    if let Some(target) = args.target {
        return match &args.memif {
            Some(socket) => bench.target(connect::memif(socket, target, CONNECT).map_err(text)?),
            None => bench.target(connect::udp(target).map_err(text)?),
        };
    }
    match args.port {
        PortKind::Memif | PortKind::DpdkMemif => bench.own(
            |place| connect::memif(&place.socket, place.address, CONNECT).map_err(text),
            |place| {
                let config = ClientConfig::new(&place.socket);
                let port = ClientPort::connect(&config, CONNECT).map_err(text)?;
                Ok((port, SocketAddrV4::new(place.client, place.address.port())))
            },
        ),
        PortKind::Socket | PortKind::DpdkTap | PortKind::AfXdp => bench.own(
            |place| connect::udp(place.address).map_err(text),
            |place| {
                let ip = match args.port {
                    PortKind::Socket => *place.address.ip(),
                    _ => place.client,
                };
                let port = SocketPort::bind(SocketAddrV4::new(ip, 0), FRAMES).map_err(text)?;
                let local = SocketAddrV4::new(ip, port.local_address().port());
                Ok((port, local))
            },
        ),
    }
}

fn text(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}

/// What the steps of a run share.
struct Bench<'a> {
    plan: &'a Plan<'a>,
    cores: Cores,
    clock: Clock,
}

/// A server's end while it is measured.
struct End<L> {
    lane: L,
    driver: Driver,
    record: Record,
    /// The process, if it is ours.
    node: Option<Node>,
    /// Since when it is stopped.
    stopped_ns: u64,
}

impl Bench<'_> {
    /// Measures an appliance and an echo of our own in turns. Of the two only one runs at a time: each would
    /// keep the core busy that they share.
    fn own<P: Port>(
        &self,
        client: impl FnOnce(&Place) -> Result<Client<P>, Failure>,
        echo: impl FnOnce(&Place) -> Result<(P, SocketAddrV4), Failure>,
    ) -> Result<Measured, Failure> {
        let Plan { args, interrupt, veth, .. } = self.plan;
        let program = node::program()?;
        let setting = Setting::new(args.port, self.cores, args.wal.as_deref())?;
        let start = |role| {
            let place = setting.place(role)?;
            let is_echo = role == Role::Echo;
            let node = match (is_echo, veth) {
                (true, Some(_)) if args.floor == Floor::Kernel => {
                    udp_echo::start(&place, self.cores.server, *veth, interrupt)?
                }
                _ => Node::mstreamd(&program, &place.config, is_echo, *veth, interrupt)?,
            };
            if args.port == PortKind::DpdkTap {
                tap::set_up(place.interface, place.client)?;
            }
            Ok::<_, Failure>((place, node))
        };
        let mut app = None;
        if !self.plan.floor_only {
            let (place, mut node) = start(Role::Shard)?;
            let opened = client(&place)
                .and_then(|client| self.open(client, &STREAM.into()))
                .and_then(|mut lane| {
                    let bytes = LOG_BYTES + LOG_BYTES / 4;
                    lane.warm_up(&WARM_UP_STREAM.into(), bytes, interrupt).map(|()| lane)
                });
            let lane = opened.map_err(|failure| blame(failure, &mut node))?;
            node.pause()?;
            app = Some(self.end(lane, Some(node)));
        }
        let (place, mut node) = start(Role::Echo)?;
        let (port, local) = echo(&place)?;
        let block = usize::from(self.plan.load.batch) * message_bytes(args.size);
        let lane = EchoLane::new(port, local, place.address, block);
        node.pause()?;
        let peers = self.peers(&setting, &place)?;
        self.measure(app, Some(self.end(lane, Some(node))), peers)
    }

    /// Starts the other systems that are asked for, where the echo is.
    fn peers(&self, setting: &Setting, echo: &Place) -> Result<Vec<Aeron>, Failure> {
        let Plan { args, load, interrupt, veth, .. } = self.plan;
        let Some(veth) = veth.filter(|_| args.peers.contains(&PeerKind::Aeron)) else {
            return Ok(Vec::new());
        };
        let in_flight = load.in_flight * usize::from(load.batch);
        let around = Around {
            setting,
            place: echo,
            cores: self.cores,
            veth,
            size: args.size,
            in_flight,
            rate: load.rate,
            interrupt,
        };
        let start = |shape| Aeron::start(shape, &around);
        [Shape::TwoCrossings, Shape::ToItself].into_iter().map(start).collect()
    }

    /// Measures an appliance that runs already.
    fn target<P: Port>(&self, client: Client<P>) -> Result<Measured, Failure> {
        let lane = self.open(client, &self.plan.args.stream)?;
        self.measure(Some(self.end(lane, None)), None::<End<EchoLane<P>>>, Vec::new())
    }

    fn open<P: Port>(&self, client: Client<P>, stream: &StreamRef) -> Result<AppLane<P>, Failure> {
        let Plan { args, load, interrupt, .. } = self.plan;
        let pattern = Pattern::new(args.seed, args.size.into());
        AppLane::open(client, stream, load.batch, pattern, self.clock.clone(), interrupt)
    }

    fn end<L>(&self, lane: L, node: Option<Node>) -> End<L> {
        let Plan { load, interrupt, .. } = self.plan;
        let clock = self.clock.clone();
        let driver = Driver::new(clock, *load, self.cores.shared(), interrupt.clone());
        let stopped_ns = self.clock.now_ns();
        End { lane, driver, record: Record::new(), node, stopped_ns }
    }

    /// The slices. Both processes are stopped at the beginning, and at the end.
    fn measure<P: Port>(
        &self,
        mut app: Option<End<AppLane<P>>>,
        mut floor: Option<End<EchoLane<P>>>,
        mut peers: Vec<Aeron>,
    ) -> Result<Measured, Failure> {
        let pinned = Pinned::to(self.cores.client)?;
        let wanted_ns = (self.plan.args.seconds * 1e9) as u64;
        let turns = wanted_ns.div_ceil(SLICE_NS - DISCARDED_NS).max(1);
        let slice_ns = DISCARDED_NS + wanted_ns / turns;
        let before = CpuTime::now();
        for _ in 0..turns {
            if let Some(app) = &mut app {
                app.catch_up(self.clock.now_ns());
                app.slice(slice_ns)?;
                app.stopped_ns = self.clock.now_ns();
            }
            if let Some(floor) = &mut floor {
                floor.slice(slice_ns)?;
            }
            for peer in &mut peers {
                peer.slice(slice_ns)?;
            }
        }
        drop(pinned);
        let steal_percent = before.steal_percent_until(CpuTime::now());
        let app = app.map(|end| end.outcome(self.clock.now_ns())).transpose()?;
        let peers = peers.into_iter().map(Aeron::end).collect::<Result<_, _>>()?;
        Ok(Measured { app, floor: floor.map(|end| end.record), peers, steal_percent })
    }
}

/// Bytes of a message in a block, from those of its payload (`docs/protocol.md` section 4.2).
pub(crate) fn message_bytes(size: u16) -> usize {
    (8 + usize::from(size)).next_multiple_of(8)
}

/// A failure, or why the process that caused it ended.
fn blame(failure: Failure, node: &mut Node) -> Failure {
    node.check().err().unwrap_or(failure)
}

impl<L: Lane> End<L> {
    /// One slice, in which the process runs.
    fn slice(&mut self, slice_ns: u64) -> Result<(), Failure> {
        if let Some(node) = &self.node {
            node.resume()?;
        }
        let ran = self.driver.slice(&mut self.lane, slice_ns, &mut self.record);
        let Some(node) = &mut self.node else { return ran };
        // Also behind a failure: the other one may need the core for its end.
        let stopped = node.pause();
        ran.map_err(|failure| blame(failure, node)).and(stopped)
    }
}

impl<P: Port> End<AppLane<P>> {
    /// The client's clock stood still while the process did.
    fn catch_up(&mut self, now_ns: u64) {
        if self.node.is_some() {
            self.lane.paused(now_ns - self.stopped_ns);
        }
    }

    fn outcome(mut self, now_ns: u64) -> Result<App, Failure> {
        self.catch_up(now_ns);
        if let Some(node) = &self.node {
            node.resume()?;
        }
        let End { lane, driver, record, node: _running, .. } = self;
        let outcome = App {
            record,
            faults: lane.faults(driver.sent()),
            messages: lane.messages(),
            foreign: lane.foreign(),
            level: lane.level(),
        };
        lane.close();
        Ok(outcome)
    }
}
