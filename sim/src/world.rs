//! One world: what it is made of, and how it is made from a seed.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mstream_nic::sim::{Endpoint, Faults, SimNet};
use mstream_pmem::cold::Keep;

use crate::catalogue::Catalogue;
use crate::clients::{Attached, attach};
use crate::clock::VirtualClock;
use crate::cold::{Cold, End};
use crate::config::ServerConfig;
use crate::faults::{Injected, Kind, Mix};
use crate::forge::forge;
use crate::history::History;
use crate::invariants::Broken;
use crate::parts::Parts;
use crate::publisher::{Publisher, Role};
use crate::random::Random;
use crate::server::Server;
use crate::subscriber::Subscriber;
use crate::tempo::Tempo;
use crate::trace::Trace;

/// When a world begins.
pub(crate) const BEGIN_NS: u64 = 1_000_000_000;

/// What to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Everything follows from it.
    pub seed: u64,
    /// Steps with faults; as many as needed follow without.
    pub steps: u64,
    /// Faults that may happen.
    pub mix: Mix,
    /// Publishers, at most: 1 and up.
    pub publishers: u64,
    /// Subscribers, at most: 1 and up.
    pub subscribers: u64,
    /// There are so many in each world, not fewer.
    pub exactly: bool,
    /// Keeps a text of what happened.
    pub trace: bool,
}

impl Run {
    /// The run of a seed with all that there is by default.
    pub fn new(seed: u64) -> Run {
        let (mix, exactly, trace) = (Mix::ALL, false, false);
        Run { seed, steps: 1_500, mix, publishers: 3, subscribers: 3, exactly, trace }
    }
}

impl fmt::Display for Run {
    /// The command that plays it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { seed, steps, mix, publishers, subscribers, exactly, .. } = *self;
        let usual = Run::new(seed);
        write!(f, "mstream-sim --seed {seed} --steps {steps}")?;
        if mix != usual.mix {
            write!(f, " --faults {mix}")?;
        }
        if publishers != usual.publishers {
            write!(f, " --publishers {publishers}")?;
        }
        if subscribers != usual.subscribers {
            write!(f, " --subscribers {subscribers}")?;
        }
        if exactly { f.write_str(" --exactly") } else { Ok(()) }
    }
}

/// What came of a world in which no promise was broken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Faults that happened.
    pub injected: Injected,
    /// Steps, those without faults included.
    pub steps: u64,
    /// Polls of the shard that had something to do.
    pub polls: u64,
    /// Frames that came in or went out in these.
    pub frames: u64,
    /// Virtual time that passed, in nanoseconds.
    pub passed_ns: u64,
    /// Messages that were stored.
    pub messages: u64,
    /// Batches that were stored.
    pub batches: u64,
    /// It ended early: reboots took so many wipes of a log at level `process` that no segment was free to start in.
    pub no_room: bool,
    /// What happened, if it was to be kept.
    pub trace: String,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was played.
    pub run: Run,
    /// The kinds of faults that the seed picked from the run's.
    pub picked: Mix,
    /// The step it was noticed in.
    pub step: u64,
    /// What was not so.
    pub broken: Broken,
    /// What happened up to there, if it was to be kept.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { run, step, broken, .. } = self;
        write!(f, "seed {} step {step}: {broken}\nrepeat: {run} --trace", run.seed)
    }
}

impl std::error::Error for Failure {}

/// The name under which a panic is reported.
pub const PANIC: &str = "no-panic";

thread_local! {
    static PLAYING: Cell<Option<Run>> = const { Cell::new(None) };
}

/// What this thread plays now, or played last.
pub fn playing() -> Option<Run> {
    PLAYING.get()
}

/// Plays one seed.
///
/// # Errors
/// The first promise that was broken. A panic counts as one, where panics unwind.
pub fn run<X: Parts>(run: Run, parts: X) -> Result<Outcome, Box<Failure>> {
    PLAYING.set(Some(run));
    let mut world = World::new(run, parts);
    let played = catch_unwind(AssertUnwindSafe(|| world.play()));
    let result = played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let what = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Broken { invariant: PANIC, what })
    });
    let World { trace, history, net, mut injected, delays, mix, polls, frames, no_room, .. } =
        world;
    injected.note_network(&net.counts(), delays);
    let (steps, passed_ns) = (trace.step, trace.now_ns.saturating_sub(BEGIN_NS));
    match result {
        Ok(()) => Ok(Outcome {
            injected,
            steps,
            polls,
            frames,
            passed_ns,
            messages: history.messages,
            batches: history.batches,
            no_room,
            trace: trace.into_text(),
        }),
        Err(broken) => Err(Box::new(Failure {
            run,
            picked: mix,
            step: steps,
            broken,
            trace: trace.into_text(),
        })),
    }
}

pub(crate) struct World<X: Parts> {
    pub(crate) run: Run,
    pub(crate) parts: X,
    /// The kinds of faults that this seed picked.
    pub(crate) mix: Mix,
    /// Behind what clients do, and behind what happens to them: apart, so that less of one leaves the other as it was.
    pub(crate) random: Random,
    pub(crate) chaos: Random,
    /// Behind which streams are cold, and when cold segments have a turn.
    pub(crate) cold: Random,
    pub(crate) tempo: Tempo,
    pub(crate) net: SimNet,
    pub(crate) faults: Faults,
    pub(crate) clock: VirtualClock,
    pub(crate) server: Server<X>,
    pub(crate) catalogue: Catalogue,
    /// When a process that is down is started again.
    pub(crate) starts_ns: u64,
    /// The epoch of the last start.
    pub(crate) epoch: u32,
    /// The shard is not polled before this time.
    pub(crate) stalled_until: u64,
    /// No barrier completes before this time.
    pub(crate) hung_until: u64,
    /// No sealed segment is read before this time.
    pub(crate) unread_until: u64,
    /// Buffers are withheld from the shard's port until this time.
    pub(crate) withheld_until: u64,
    /// How the process ends when its region is cut, in the midst of a poll.
    pub(crate) torn: Kind,
    /// In how many operations on its region the next start dies, and how.
    pub(crate) torn_start: Option<(u32, End)>,
    /// At this step a client that is still being set up dies, or else the shard.
    pub(crate) doomed: Option<(u64, bool)>,
    /// No free segment was left to start in: nothing more happens.
    pub(crate) no_room: bool,
    pub(crate) publishers: Vec<Publisher<X::ClientPort>>,
    pub(crate) subscribers: Vec<Subscriber<X::ClientPort>>,
    pub(crate) history: History,
    pub(crate) trace: Trace,
    pub(crate) injected: Injected,
    /// Frames take time.
    pub(crate) delays: bool,
    /// Paths that are cut, and until when; and those that are clogged.
    pub(crate) cuts: Vec<(Endpoint, Endpoint, u64)>,
    pub(crate) clogs: Vec<(Endpoint, Endpoint, u64)>,
    pub(crate) clients: u16,
    /// The next disturbance happens once in this many steps.
    pub(crate) calm: u64,
    pub(crate) polls: u64,
    pub(crate) frames: u64,
}

impl<X: Parts> World<X> {
    fn new(run: Run, parts: X) -> World<X> {
        let mut random = Random::new(run.seed);
        let mix = run.mix.pick(&mut random);
        let net = SimNet::new(random.next());
        let faults = mix.network(&mut random);
        net.set_faults(faults.clone());
        net.set_forger(forge);
        let config = ServerConfig::draw(mix, &mut random);
        let mut cold = Random::new(crate::random::mix(run.seed ^ 0xc01d));
        let drift_ppm = drift(mix, &mut random);
        let mut world = World {
            run,
            parts,
            mix,
            chaos: Random::new(random.next()),
            tempo: Tempo::draw(&mut random),
            net,
            delays: *faults.delay_ns.end() > 0,
            faults,
            clock: VirtualClock::new(drift_ppm),
            server: Server::new(config, Cold::new(Random::new(cold.next()))),
            cold,
            catalogue: Catalogue::default(),
            starts_ns: 0,
            epoch: 0,
            stalled_until: 0,
            hung_until: 0,
            unread_until: 0,
            withheld_until: 0,
            torn: Kind::TornKill,
            torn_start: None,
            doomed: None,
            no_room: false,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            history: History::default(),
            trace: Trace::new(run.trace),
            injected: Injected::default(),
            cuts: Vec::new(),
            clogs: Vec::new(),
            clients: 0,
            calm: random.within(20..=300),
            polls: 0,
            frames: 0,
            random,
        };
        world.clock.set(BEGIN_NS);
        world.history.level = world.server.config().level as u8;
        world.history.room.recycles_below = world.server.config().recycles_below();
        let late = world.server.config().barrier_polls > 0;
        world.injected.note(Kind::LateBarrier, u64::from(late));
        world.injected.note(Kind::Drift, u64::from(drift_ppm != 0));
        world.populate();
        // Apart, as what is cold: other worlds stay what they are.
        let mut limits = Random::new(crate::random::mix(run.seed ^ 0x11_317));
        let clients = (world.publishers.len(), world.subscribers.len());
        world.server.draw_limits(clients, &mut limits);
        world
    }

    fn populate(&mut self) {
        for _ in 0..self.random.within(1..=2) {
            let keep = draw_keep(&mut self.cold);
            let id = self.history.create(keep);
            let entry = self.catalogue.create(id, keep, &mut self.random);
            self.history.limit(id, entry.rules);
        }
        self.catalogue.is_ready(None);
        let exactly = self.run.exactly;
        let many = |drawn: u64, most: u64| if exactly { most } else { drawn.min(most) };
        let publishers = many(self.random.within(1..=3), self.run.publishers);
        let subscribers = many(self.random.within(1..=3), self.run.subscribers);
        for actor in 1..=publishers as u16 {
            let named = !self.random.one_in(3);
            let stream = self.catalogue.any(&mut self.random);
            let publisher = self.publisher(Role { actor, named, stream }, 1, 0, None);
            self.publishers.push(publisher);
        }
        for number in 1..=subscribers as u32 {
            let stream = self.catalogue.any(&mut self.random);
            let attached = self.attach(None);
            let (history, random) = (&self.history, &mut self.random);
            let subscriber = Subscriber::new(number, stream, None, attached, history, random);
            self.subscribers.push(subscriber);
        }
    }

    /// A new client's place in the network: a new one, or that which one had that is gone.
    pub(crate) fn attach(&mut self, had: Option<u16>) -> Attached<X::ClientPort> {
        let number = had.unwrap_or(self.clients + 1);
        self.clients = self.clients.max(number);
        let (vlan, drift_ppm) = (self.server.config().vlan, drift(self.mix, &mut self.random));
        let place = attach(&self.net, number, vlan, drift_ppm, &mut self.random);
        let Attached { number, endpoint, port, addresses, pace } = place;
        Attached { number, endpoint, port: self.parts.client_port(port), addresses, pace }
    }

    pub(crate) fn publisher(
        &mut self,
        role: Role,
        life: u32,
        serial: u64,
        had: Option<u16>,
    ) -> Publisher<X::ClientPort> {
        self.history.begins(role.actor, role.named, life);
        let attached = self.attach(had);
        Publisher::new(role, life, serial, attached, &mut self.random)
    }
}

/// Whether a new stream is cold, and what it keeps then.
pub(crate) fn draw_keep(random: &mut Random) -> Option<Keep> {
    let newest_per_key = random.one_in(2);
    random.one_in(2).then_some(Keep { newest_per_key, ..Keep::default() })
}

/// By how much a clock of a world runs too fast, in parts per million.
fn drift(mix: Mix, random: &mut Random) -> i64 {
    let ppm = random.within(0..=1_000) as i64 - 500;
    if mix.has(Kind::Drift) { ppm } else { 0 }
}
