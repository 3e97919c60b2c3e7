//! Start and end of the node. Order of start: log lock, logs, DPDK, ports, shards; the end is the reverse.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;

use crossbeam_queue::ArrayQueue;
use mstream_controlplane::admin::Errors;
use mstream_controlplane::catalogue::Keeper;
use mstream_controlplane::{Config, Footers, Housekeeper, SealedReader};
use mstream_dataplane::{Clock, ColdLink, ColdQueues, Limits, ShardConfig, Status, TscClock};
use mstream_nic::memif::Listener;
use mstream_nic_dpdk::Eal;
use mstream_pmem::prepare::{DirLock, Preparer};
use mstream_pmem::staged::Syncs;
use nix::sys::mman::{MlockAllFlags, mlockall};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::admin::{self, Server};
use crate::cold::{self, Cells, Worker};
use crate::control::{Outcome, Signals, until_asked, until_polling};
use crate::lack::Lack;
use crate::link::{Link, QUEUE};
use crate::placement::Finding;
use crate::ports::{PortSeed, start_dpdk};
use crate::probe::PortProbe;
use crate::shard::{Event, Job, Plan, ShardJob, idle};
use crate::starting::Starting;
use crate::supply::{LENT, Lends, Shortage, Supplied};
use crate::{Failure, catalogue, log, report, thread};

/// A shard as the control thread sees it.
pub(crate) struct Watched {
    /// What it publishes.
    pub(crate) status: Arc<Status>,
    /// Names of its ports.
    pub(crate) ports: Vec<String>,
    /// The way to it.
    pub(crate) link: Arc<Link>,
    /// What its log lacks.
    pub(crate) lack: Lack,
    /// How long the syncs of its log take, if there are any.
    pub(crate) syncs: Option<Syncs>,
    /// Its cold segments.
    pub(crate) cold: Arc<Cells>,
    /// Why no segment can be made for it.
    pub(crate) shortage: Arc<Shortage>,
}

/// The threads of the node, and how to end them.
struct Threads {
    /// Ends the shards.
    stop_shards: Arc<AtomicBool>,
    shards: Vec<JoinHandle<()>>,
    /// Ends the helpers, after the shards.
    stop_helpers: Arc<AtomicBool>,
    helpers: Vec<JoinHandle<()>>,
    events: UnboundedSender<Event>,
    /// Each shard's ports.
    probes: Vec<Arc<Vec<PortProbe>>>,
}

/// Runs the node until it is told to stop.
pub(crate) fn run(config: &Config, findings: &[Finding], echo: bool) -> Result<(), Failure> {
    thread::pin(config.node.control_core)?;
    let run_dir = &config.node.run_dir;
    fs::create_dir_all(run_dir).map_err(|error| {
        format!("{}: cannot make the run directory: {error}", run_dir.display())
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the control thread: {error}"))?;
    runtime.block_on(lead(config, findings, echo))
}

async fn lead(config: &Config, findings: &[Finding], echo: bool) -> Result<(), Failure> {
    let mut signals = Signals::take()?;
    let mut clock = TscClock::new(Arc::new(AtomicI64::new(0)));
    // Before anything that takes long: a port that is taken is told at once.
    let bound = if echo { None } else { admin::bind(config).await? };
    let starting = Starting::new(bound.as_ref().map(admin::Bound::listener).transpose()?)?;
    if let Some(bound) = &bound {
        say(&format!("mstreamd: admin {}", bound.address));
    }
    let errors = Arc::new(Errors::default());
    let Opened { jobs, supplies, lenders, workers, watched, held } = match echo {
        true => Opened::echo(config),
        false => Opened::shards(config, &mut clock, &starting)?,
    };
    starting.stage("opening the ports");
    let eal = start_dpdk(config)?.map(Arc::new);
    let (mut threads, mut events) = Threads::new();
    let helpers = Helpers { supplies, lenders, workers, clock: clock.clone() };
    let started = threads.start(config, jobs, helpers, eal.as_ref());
    starting.stage("making the shards' tables");
    let ran = match started {
        Ok(()) => match until_polling(config.shards.len(), &mut signals, &mut events).await {
            Ok(Outcome::Polling) => {
                starting.end();
                let server = held.as_ref().map(|held| {
                    let (keeper, errors) = (Arc::clone(&held.keeper), Arc::clone(&errors));
                    Server::start(
                        bound,
                        config,
                        findings,
                        &watched,
                        &threads.probes,
                        keeper,
                        errors,
                    )
                });
                match server.transpose() {
                    Ok(server) => {
                        ready(config, echo);
                        let (signals, events) = (&mut signals, &mut events);
                        let probes = &threads.probes;
                        let ran =
                            until_asked(signals, events, &mut clock, &watched, &errors, probes)
                                .await;
                        if let Some(server) = server {
                            server.stop().await;
                        }
                        ran
                    }
                    Err(failure) => Err(failure),
                }
            }
            Ok(Outcome::Asked) => Ok(()),
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(failure),
    };
    tracing::info!("stopping");
    let ended = threads.end(&mut events);
    let dpdk = match eal.map(Arc::try_unwrap) {
        Some(Ok(eal)) => eal.close().map_err(|error| error.to_string()),
        // Threads that hold it have ended; one that panicked is told of by then.
        Some(Err(_)) | None => Ok(()),
    };
    drop(held);
    ran.and(ended).and(dpdk)
}

type Supplies = Vec<(Preparer, Supplied)>;

/// What the threads beside the shards look after.
struct Helpers {
    supplies: Supplies,
    lenders: Vec<Lends>,
    workers: Vec<Worker>,
    clock: TscClock,
}

/// What is opened before the threads start.
struct Opened {
    jobs: Vec<Job>,
    supplies: Supplies,
    lenders: Vec<Lends>,
    workers: Vec<Worker>,
    watched: Vec<Watched>,
    /// `None` for an echo, which has no log.
    held: Option<Held>,
}

/// What is held until the end.
struct Held {
    keeper: Arc<Keeper>,
    _catalogue_lock: Option<DirLock>,
    _lock: DirLock,
}

impl Opened {
    fn echo(config: &Config) -> Opened {
        let jobs = config.shards.iter().map(|_| Job::Echo).collect();
        Opened {
            jobs,
            supplies: Vec::new(),
            lenders: Vec::new(),
            workers: Vec::new(),
            watched: Vec::new(),
            held: None,
        }
    }

    /// Opens all logs and the catalogue, and makes what the shards' threads need.
    fn shards(
        config: &Config,
        clock: &mut TscClock,
        starting: &Starting,
    ) -> Result<Opened, Failure> {
        let lock = DirLock::take(&config.wal.dir).map_err(|error| error.to_string())?;
        starting.stage("reading the logs");
        let time_ns = clock.now().wall_ns;
        let numbers = 0..config.shards.len();
        let logs = numbers.map(|number| log::open(config, number, time_ns));
        let logs = logs.collect::<Result<Vec<_>, _>>()?;
        let (logs, missing): (Vec<_>, Vec<_>) =
            logs.into_iter().map(|log| ((log.wal, log.preparer), log.missing)).unzip();
        starting.stage("reading the catalogue");
        let levels = logs.iter().map(|(wal, _)| wal.level()).collect();
        let known: Vec<u64> = logs.iter().flat_map(|(wal, _)| wal.stream_ids()).collect();
        let catalogue::Opened { keeper, lock: catalogue_lock } =
            catalogue::open(config, levels, &known, time_ns)?;
        let keeper = Arc::new(keeper);
        starting.stage("reading the cold segments");
        let (mut jobs, mut supplies, mut watched) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lenders, mut workers) = (Vec::new(), Vec::new());
        for (number, (shard, (mut wal, preparer))) in config.shards.iter().zip(logs).enumerate() {
            let status = Arc::new(Status::new(shard.ports.len()));
            let commands = Arc::new(ArrayQueue::new(QUEUE));
            let replies = Arc::new(ArrayQueue::new(QUEUE));
            let ports = shard.ports.iter().map(|port| config.ports[*port].name.clone());
            let ports: Vec<_> = ports.collect();
            let (to, from) = (Arc::clone(&commands), Arc::clone(&replies));
            let link = Arc::new(Link::new(number as u32, ports.clone(), to, from));
            let lack = Lack::new(wal.fault(), &missing[number], &keeper);
            let syncs = wal.region().syncs();
            let sealed = Arc::new(ArrayQueue::new(LENT));
            let read = Arc::new(ArrayQueue::new(LENT));
            lenders.push(Lends::new(Arc::clone(&sealed), Arc::clone(&read)));
            let queues = ColdQueues {
                link: ColdLink::new(config.cold.read_buffers),
                sealed: read,
                commands: Arc::clone(&commands),
            };
            let cold = cold::Start { config, number, streams: &keeper, now: clock.now() };
            let cold::Opened { worker, cells, cold } = cold.open(&mut wal, queues)?;
            workers.push(worker);
            let shortage = Arc::<Shortage>::default();
            let (told, to) = (Arc::clone(&shortage), Arc::clone(&commands));
            supplies.push((preparer, Supplied::new(Arc::clone(&status), to, told)));
            let status_of = Arc::clone(&status);
            watched.push(Watched {
                status: status_of,
                ports,
                link,
                lack,
                syncs,
                cold: cells,
                shortage,
            });
            let config = shard_config(config, number, &keeper)?;
            let clock = clock.clone();
            let job = ShardJob { config, wal, clock, commands, replies, status, cold, sealed };
            jobs.push(Job::Shard(Box::new(job)));
        }
        let held = Some(Held { keeper, _catalogue_lock: catalogue_lock, _lock: lock });
        Ok(Opened { jobs, supplies, lenders, workers, watched, held })
    }
}

fn shard_config(config: &Config, number: usize, keeper: &Keeper) -> Result<ShardConfig, Failure> {
    let (streams, publishers) = catalogue::entries(keeper, number as u32);
    let limits = &config.limits;
    Ok(ShardConfig {
        // Known once they are open.
        ports: Vec::new(),
        udp_port: config.shards[number].udp_port,
        limits: Limits {
            sessions: limits.sessions,
            publications: limits.publications,
            subscriptions: limits.subscriptions,
            pending_records: limits.pending_records,
            pending_frames: limits.pending_frames,
            max_block_bytes: limits.max_block_bytes,
            session_window_bytes: limits.session_window_bytes,
            session_timeout_ms: limits.session_timeout_ms,
        },
        streams,
        publishers,
        secret: log::random()?,
    })
}

/// Says that everything runs: to people on standard error, to scripts on standard output.
fn ready(config: &Config, echo: bool) {
    // Best effort: the limit on locked memory may be low. What the shards use was touched before.
    if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT) {
        tracing::info!("memory is not locked: {error}");
    }
    for (number, shard) in config.shards.iter().enumerate() {
        let what = if echo { "echo" } else { "shard" };
        let ports = shard.ports.iter().map(|port| &config.ports[*port]);
        for port in ports {
            let port = report::describe(port, shard.udp_port);
            tracing::info!(shard = number, core = shard.core, "ready: {what}: {port}");
        }
    }
    say("mstreamd: ready");
}

/// A line for scripts.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // One that does not wait for it may have closed it.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

impl Threads {
    fn new() -> (Threads, UnboundedReceiver<Event>) {
        let (events, received) = unbounded_channel();
        let threads = Threads {
            stop_shards: Arc::default(),
            shards: Vec::new(),
            stop_helpers: Arc::default(),
            helpers: Vec::new(),
            events,
            probes: Vec::new(),
        };
        (threads, received)
    }

    /// Makes the ports and starts all threads. What was started stays when something fails; `end` ends it.
    fn start(
        &mut self,
        config: &Config,
        jobs: Vec<Job>,
        helpers: Helpers,
        eal: Option<&Arc<Eal>>,
    ) -> Result<(), Failure> {
        let control_core = config.node.control_core;
        let mut plans = Vec::with_capacity(jobs.len());
        for (number, (shard, job)) in config.shards.iter().zip(jobs).enumerate() {
            let mut seeds = Vec::with_capacity(shard.ports.len());
            let mut probes = Vec::with_capacity(shard.ports.len());
            for port in shard.ports.iter().map(|port| &config.ports[*port]) {
                let name = &config.node.name;
                let eal = eal.map(Arc::as_ref);
                let (seed, probe, listener) = PortSeed::prepare(port, name, shard.udp_port, eal)?;
                seeds.push(seed);
                probes.push(probe);
                if let Some(listener) = listener {
                    self.listen(listener, &port.name, control_core)?;
                }
            }
            self.probes.push(Arc::new(probes));
            plans.push(Plan {
                number,
                core: shard.core,
                idle: idle(shard.idle),
                seeds,
                eal: eal.cloned(),
                job,
                stop: Arc::clone(&self.stop_shards),
                events: self.events.clone(),
            });
        }
        for plan in plans {
            let name = format!("shard-{}", plan.number);
            self.shards.push(spawn(name, move || plan.run())?);
        }
        let stop = Arc::clone(&self.stop_helpers);
        let Helpers { supplies, lenders, workers, clock } = helpers;
        let footers = supplies.iter().map(|(preparer, _)| preparer.footer_files());
        let footers = Footers::new(footers.collect());
        let mut keeper = Housekeeper::new(supplies);
        self.helpers.push(spawn("segments".to_string(), move || {
            // Where the control thread is, a helper may be: its core was pinned to before.
            if thread::pin(control_core).is_ok() && thread::block_signals().is_ok() {
                keeper.run(&stop);
            }
        })?);
        let stop = Arc::clone(&self.stop_helpers);
        let mut reader = SealedReader::new(lenders, vec![Box::new(footers)]);
        self.helpers.push(spawn("sealed".to_string(), move || {
            if thread::pin(control_core).is_ok() && thread::block_signals().is_ok() {
                reader.run(&stop);
            }
        })?);
        for (number, mut worker) in workers.into_iter().enumerate() {
            let (stop, mut clock) = (Arc::clone(&self.stop_helpers), clock.clone());
            self.helpers.push(spawn(format!("cold-{number}"), move || {
                if thread::pin(control_core).is_ok() && thread::block_signals().is_ok() {
                    worker.run(&stop, &mut clock);
                }
            })?);
        }
        Ok(())
    }

    /// Serves a memif socket on a thread of its own.
    fn listen(&mut self, mut listener: Listener, port: &str, core: usize) -> Result<(), Failure> {
        let stop = Arc::clone(&self.stop_helpers);
        let events = self.events.clone();
        let port = port.to_string();
        self.helpers.push(spawn("memif".to_string(), move || {
            let ran = thread::pin(core)
                .and_then(|()| thread::block_signals())
                .and_then(|()| listener.run(&stop).map_err(|error| error.to_string()));
            if let Err(reason) = ran {
                let _ = events.send(Event::Ended(Err(format!("port {port}: {reason}"))));
            }
        })?);
        Ok(())
    }

    /// Ends the shards, then their helpers. The first failure that a thread left behind.
    fn end(self, events: &mut UnboundedReceiver<Event>) -> Result<(), Failure> {
        let mut ended = Ok(());
        for (stop, threads) in [(self.stop_shards, self.shards), (self.stop_helpers, self.helpers)]
        {
            // Relaxed: joining orders everything else.
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                let name = thread.thread().name().unwrap_or("?").to_string();
                if thread.join().is_err() {
                    ended = ended.and(Err(format!("thread {name} panicked")));
                }
            }
        }
        while let Ok(event) = events.try_recv() {
            if let Event::Ended(one) = event {
                ended = ended.and(one);
            }
        }
        ended
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    let failed = format!("cannot start thread {name}");
    std::thread::Builder::new().name(name).spawn(body).map_err(|error| format!("{failed}: {error}"))
}
