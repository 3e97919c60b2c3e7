//! One world: actors, faults and the oracle, step by step.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use mstream_client::{Addresses, IpPair};
use mstream_nic::sim::{Endpoint, Faults, SimNet};

use crate::faults::{Injected, Kind, Mix};
use crate::oracle::{Oracle, ensure};
use crate::parts::Parts;
use crate::publisher::{Publisher, Role};
use crate::random::Random;
use crate::server::{
    SESSION_TIMEOUT_MS, SHARD_IP, SHARD_IP6, SHARD_UDP_PORT, Server, ServerConfig, VirtualClock,
};
use crate::subscriber::Subscriber;
use crate::trace::Trace;

/// Without faults everything must come to rest within this time.
const REST_NS: u64 = 60_000_000_000;
/// Buffers of a client's port.
const CLIENT_FRAMES: usize = 128;

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Everything follows from it.
    pub seed: u64,
    /// Steps with faults; as many as needed follow without.
    pub steps: u64,
    /// Faults that may happen.
    pub mix: Mix,
    /// Keeps a text of what happened.
    pub trace: bool,
}

/// What came of a world in which no promise was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Faults that happened.
    pub injected: Injected,
    /// Steps, those without faults included.
    pub steps: u64,
    /// Virtual time that passed, in nanoseconds.
    pub now_ns: u64,
    /// Messages in the log's streams.
    pub messages: u64,
    /// What happened, if it was to be kept.
    pub trace: String,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was played.
    pub run: Run,
    /// The step it was noticed in.
    pub step: u64,
    /// What was not so.
    pub what: String,
    /// What happened up to there, if it was to be kept.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { seed, steps, mix, .. } = self.run;
        write!(
            f,
            "seed {seed} step {}: {}\nrepeat: mstream-sim --seed {seed} --steps {steps}",
            self.step, self.what
        )?;
        if mix != Mix::ALL {
            write!(f, " --faults {mix}")?;
        }
        write!(f, " --trace")
    }
}

impl std::error::Error for Failure {}

/// Plays one seed.
///
/// # Errors
/// The first promise that was broken.
pub fn run<X: Parts>(run: Run, parts: X) -> Result<Outcome, Box<Failure>> {
    let mut world = World::new(run, parts);
    let result = world.play();
    let World { trace, oracle, net, mut injected, delays, streams, .. } = world;
    injected.note_network(&net.counts(), delays);
    let (step, now_ns) = (trace.step, trace.now_ns);
    match result {
        Ok(()) => Ok(Outcome {
            injected,
            steps: step,
            now_ns,
            messages: (1..=streams).map(|stream| oracle.bounds(stream).0).sum(),
            trace: trace.into_text(),
        }),
        Err(what) => Err(Box::new(Failure { run, step, what, trace: trace.into_text() })),
    }
}

pub(crate) struct World<X: Parts> {
    run: Run,
    parts: X,
    /// The kinds of faults that this seed picked.
    pub(crate) mix: Mix,
    pub(crate) random: Random,
    pub(crate) net: SimNet,
    pub(crate) clock: VirtualClock,
    pub(crate) server: Server<X>,
    /// When a process that is down is started again.
    pub(crate) starts_ns: u64,
    pub(crate) publishers: Vec<Publisher<X::ClientPort>>,
    pub(crate) subscribers: Vec<Subscriber<X::ClientPort>>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    pub(crate) injected: Injected,
    streams: u32,
    /// Frames take time.
    delays: bool,
    /// Paths that are cut, and until when.
    pub(crate) cuts: Vec<(Endpoint, Endpoint, u64)>,
    clients: u16,
    /// The next world event happens once in this many steps.
    calm: u64,
}

impl<X: Parts> World<X> {
    fn new(run: Run, parts: X) -> World<X> {
        let mut random = Random::new(run.seed);
        let mix = run.mix.pick(&mut random);
        let streams = random.within(1..=2) as u32;
        let roles: Vec<Role> = (1..=random.within(1..=3) as u32)
            .map(|actor| Role {
                actor,
                named: !random.one_in(3),
                stream: random.within(1..=u64::from(streams)) as u32,
            })
            .collect();
        let net = SimNet::new(random.next());
        let faults = mix.network(&mut random);
        let delays = *faults.delay_ns.end() > 0;
        net.set_faults(faults);
        let config = ServerConfig::draw(streams, roles.len() as u32, &mut random);
        let delay = if mix.has(Kind::LateBarrier) { random.within(1..=20) } else { 0 };
        let region = config.region(delay, &mut random);
        let mut world = World {
            run,
            parts,
            mix,
            net,
            clock: VirtualClock::default(),
            server: Server::new(config, region),
            starts_ns: 0,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            oracle: Oracle::new(streams),
            trace: Trace::new(run.trace),
            injected: Injected::default(),
            streams,
            delays,
            cuts: Vec::new(),
            clients: 0,
            calm: random.within(20..=300),
            random,
        };
        world.clock.set(1_000_000_000);
        world.injected.note(Kind::LateBarrier, u64::from(delay > 0));
        for role in roles {
            let publisher = world.publisher(role, 1, 0);
            world.publishers.push(publisher);
        }
        for number in 1..=world.random.within(1..=3) as u32 {
            let stream = world.random.within(1..=u64::from(streams)) as u32;
            let attached = world.attach();
            let (oracle, random) = (&world.oracle, &mut world.random);
            let subscriber = Subscriber::new(number, stream, None, attached, oracle, random);
            world.subscribers.push(subscriber);
        }
        world
    }

    /// A new client's place in the network.
    pub(crate) fn attach(&mut self) -> (Endpoint, X::ClientPort, Addresses) {
        self.clients += 1;
        let [high, low] = self.clients.to_be_bytes();
        let mac = [2, 0, 0, 1, high, low];
        let ips = if self.random.one_in(2) {
            let src = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, self.clients);
            IpPair::V6 { src, dst: SHARD_IP6 }
        } else {
            IpPair::V4 { src: Ipv4Addr::new(10, 1, high, low), dst: SHARD_IP }
        };
        let port = self.net.attach(mac, CLIENT_FRAMES);
        let addresses = Addresses {
            mac,
            vlan: self.server.config().vlan,
            ips,
            udp_port: 40_000,
            shard_udp_port: SHARD_UDP_PORT,
        };
        (port.endpoint(), self.parts.client_port(port), addresses)
    }

    pub(crate) fn publisher(
        &mut self,
        role: Role,
        life: u32,
        serial: u64,
    ) -> Publisher<X::ClientPort> {
        self.oracle.begins(role.actor, role.named, life);
        let attached = self.attach();
        Publisher::new(role, life, serial, attached, &mut self.random)
    }

    fn play(&mut self) -> Result<(), String> {
        self.trace.line(format_args!("seed {} {}", self.run.seed, self.mix));
        while self.trace.step < self.run.steps {
            let jump = match self.random.below(200) {
                0 => self.random.within(1_000_000..=1_500_000_000),
                1..=20 => self.random.within(100_000..=10_000_000),
                _ => self.random.within(500..=150_000),
            };
            self.advance(jump);
            if self.random.one_in(self.calm) {
                self.disturb();
            }
            self.turn(true)?;
        }
        self.calm_down()?;
        self.come_to_rest()?;
        self.end()
    }

    fn advance(&mut self, ns: u64) {
        let now_ns = self.clock.ns() + ns;
        self.clock.set(now_ns);
        self.net.advance(now_ns);
        (self.trace.now_ns, self.trace.step) = (now_ns, self.trace.step + 1);
        let net = &self.net;
        self.cuts.retain(|(from, to, until)| {
            if *until <= now_ns {
                net.cut(*from, *to, false);
            }
            *until > now_ns
        });
    }

    /// Everyone has a turn, in a random order; some miss theirs.
    fn turn(&mut self, publishing: bool) -> Result<(), String> {
        if self.server.shard().is_none() && self.clock.ns() >= self.starts_ns {
            self.start()?;
        }
        let actors = 1 + self.publishers.len() + self.subscribers.len();
        let first = self.random.below(actors as u64) as usize;
        for at in 0..actors {
            let actor = (first + at) % actors;
            if publishing && self.random.one_in(8) {
                continue;
            }
            if actor == 0 {
                self.poll_server()?;
            } else if let Some(publisher) = self.publishers.get_mut(actor - 1) {
                if publishing && self.random.one_in(2) {
                    publisher.publish(&mut self.random, &mut self.trace)?;
                }
                let acknowledged = publisher.poll(&mut self.oracle, &mut self.trace)?;
                if acknowledged {
                    self.check_durable()?;
                }
            } else {
                let subscriber = &mut self.subscribers[actor - 1 - self.publishers.len()];
                let reads = self.trace.now_ns >= subscriber.paused_until
                    && self.random.one_in(subscriber.slowness);
                if reads && subscriber.poll(&mut self.oracle, &mut self.trace)? {
                    self.check_durable()?;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        self.server.start(&mut self.parts, &self.net, &self.clock, &mut self.random)?;
        if let Some(shard) = self.server.shard() {
            self.trace.line(format_args!("shard starts epoch {}", shard.wal().epoch()));
            self.oracle.restarted(shard.wal())?;
        }
        Ok(())
    }

    fn poll_server(&mut self) -> Result<(), String> {
        let work = self.server.poll();
        let Some(shard) = self.server.shard() else { return Ok(()) };
        if work > 0 {
            self.trace.line(format_args!("shard polls: {work} frames"));
        }
        self.oracle.look(shard.wal())?;
        self.oracle.accounts(shard, self.server.config())
    }

    /// Now and then after something was promised: it would survive a power cut at this moment.
    fn check_durable(&mut self) -> Result<(), String> {
        if !self.random.one_in(16) {
            return Ok(());
        }
        let Some(shard) = self.server.shard() else { return Ok(()) };
        let region = X::inner(shard.wal().region());
        let mut now = self.clock.clone();
        let now = mstream_dataplane::Clock::now(&mut now);
        let region = if self.random.one_in(2) {
            region.after_power_cut()
        } else {
            region.after_random_power_cut(|| self.random.next())
        };
        let mut wal = self.server.config().open(region, now)?;
        for stream in 1..=self.streams {
            wal.open_stream(stream.into()).map_err(|error| error.to_string())?;
        }
        self.oracle.holds(&wal).map_err(|error| format!("if power were lost now: {error}"))
    }

    /// Ends all faults, and starts the process if it is down.
    fn calm_down(&mut self) -> Result<(), String> {
        self.trace.line(format_args!("faults end"));
        self.net.set_faults(Faults::NONE);
        for (from, to, _) in self.cuts.drain(..) {
            self.net.cut(from, to, false);
        }
        for subscriber in &mut self.subscribers {
            (subscriber.paused_until, subscriber.slowness) = (0, 1);
        }
        for publisher in &mut self.publishers {
            publisher.flush();
        }
        self.starts_ns = 0;
        if self.server.shard().is_none() { self.start() } else { Ok(()) }
    }

    fn come_to_rest(&mut self) -> Result<(), String> {
        let until = self.clock.ns() + REST_NS;
        loop {
            let settled = self.publishers.iter().all(Publisher::is_settled)
                && self.subscribers.iter().all(|subscriber| subscriber.is_settled(&self.oracle));
            if settled {
                break;
            }
            if self.clock.ns() >= until {
                return Err(self.unsettled());
            }
            let next = self.net.next_arrival_ns().unwrap_or(u64::MAX);
            let jump = next.saturating_sub(self.clock.ns()).clamp(2_000, 1_000_000);
            self.advance(jump);
            self.turn(false)?;
        }
        self.trace.line(format_args!("at rest"));
        let Some(shard) = self.server.shard() else { return Err("the shard is gone".into()) };
        self.oracle.holds(shard.wal())
    }

    /// Who did not come to rest.
    fn unsettled(&self) -> String {
        let mut text = format!("not at rest after {} s without faults:", REST_NS / 1_000_000_000);
        for publisher in self.publishers.iter().filter(|publisher| !publisher.is_settled()) {
            text += &format!(" [{publisher}]");
        }
        for subscriber in self.subscribers.iter().filter(|s| !s.is_settled(&self.oracle)) {
            let (end, ..) = self.oracle.bounds(subscriber.stream);
            text += &format!(" [{subscriber}, the log ends at {end}]");
        }
        text
    }

    /// Clients close, dead sessions expire, and every buffer comes back.
    fn end(&mut self) -> Result<(), String> {
        self.publishers.iter_mut().for_each(Publisher::close);
        self.subscribers.iter_mut().for_each(Subscriber::close);
        // Polls are as rare as timers: nothing else happens.
        for _ in 0..2 * SESSION_TIMEOUT_MS / 50 {
            self.advance(50_000_000);
            self.poll_server()?;
        }
        if let Some(shard) = self.server.shard() {
            let (sessions, handles) = (shard.sessions(), shard.handles());
            ensure!(
                sessions == 0 && handles == (0, 0),
                "{sessions} sessions and {handles:?} handles are left after all were closed or timed out"
            );
        }
        let out = self.server.shut_down();
        ensure!(out == 0, "{out} buffers of the shard's port did not come back");
        let publishers = self.publishers.iter().map(Publisher::frames_out);
        let out: usize =
            publishers.chain(self.subscribers.iter().map(Subscriber::frames_out)).sum();
        ensure!(out == 0, "{out} buffers of clients' ports did not come back");
        Ok(())
    }
}
