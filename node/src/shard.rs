//! A shard's thread: pins itself, opens its ports, polls until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use mstream_controlplane::config;
use mstream_dataplane::{
    Clock, ColdLink, Command, Idle, PollLoop, Reply, Shard, ShardConfig, Status, TscClock,
};
use mstream_nic::Port;
use mstream_nic_dpdk::Eal;
use mstream_pmem::AnyRegion;
use mstream_pmem::cold::{ColdPage, ColdRange};
use mstream_pmem::sealed::Sealed;
use mstream_pmem::wal::Wal;
use tokio::sync::mpsc::UnboundedSender;

use crate::Failure;
use crate::echo::Echo;
use crate::ports::{Opened, PortSeed, PortUser, with_ports};
use crate::thread;

/// How long a shard that ends waits for its last barrier to complete.
const LAST_BARRIER: Duration = Duration::from_secs(1);

/// What a thread tells the control thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// A shard polls.
    Polling,
    /// A thread ended: as it was told to, or with a reason.
    Ended(Result<(), Failure>),
}

/// Everything that a shard's thread needs.
pub(crate) struct Plan {
    /// Number of the shard.
    pub(crate) number: usize,
    /// Core to poll on.
    pub(crate) core: usize,
    /// What to do when there is nothing to do.
    pub(crate) idle: Idle,
    /// Its ports.
    pub(crate) seeds: Vec<PortSeed>,
    /// DPDK, if it runs.
    pub(crate) eal: Option<Arc<Eal>>,
    /// What to do with the ports.
    pub(crate) job: Job,
    /// Ends the thread.
    pub(crate) stop: Arc<AtomicBool>,
    /// Where to tell what becomes of it.
    pub(crate) events: UnboundedSender<Event>,
}

/// What a thread does with its ports.
pub(crate) enum Job {
    /// Runs a shard.
    Shard(Box<ShardJob>),
    /// Sends frames back.
    Echo,
}

/// A shard that is about to be made.
pub(crate) struct ShardJob {
    /// Its configuration, its ports aside.
    pub(crate) config: ShardConfig,
    /// Its log.
    pub(crate) wal: Wal<AnyRegion>,
    /// The node's clock.
    pub(crate) clock: TscClock,
    /// Commands to it.
    pub(crate) commands: Arc<ArrayQueue<Command>>,
    /// Its answers.
    pub(crate) replies: Arc<ArrayQueue<Reply>>,
    /// Where it publishes counters and positions.
    pub(crate) status: Arc<Status>,
    /// Its way to its cold segments.
    pub(crate) cold: Cold,
    /// Where it lends sealed segments to.
    pub(crate) sealed: Arc<ArrayQueue<Sealed>>,
}

/// What a shard needs to read cold segments.
pub(crate) struct Cold {
    /// Its way to their reader.
    pub(crate) link: ColdLink,
    /// Pages to read them into.
    pub(crate) pages: Vec<ColdPage>,
    /// What they hold now.
    pub(crate) ranges: Vec<(u64, ColdRange)>,
}

/// The data plane's word for `idle`.
pub(crate) fn idle(idle: config::Idle) -> Idle {
    match idle {
        config::Idle::Spin => Idle::Spin,
        config::Idle::Yield => Idle::Yield,
        config::Idle::Backoff => Idle::Backoff,
    }
}

/// Polls until `stop` is set; `poll` returns how much it did.
pub(crate) fn poll_until(stop: &AtomicBool, idle: Idle, mut poll: impl FnMut() -> u64) {
    let mut empty = 0_u32;
    // Relaxed: nothing is handed over with it.
    while !stop.load(Ordering::Relaxed) {
        if poll() == 0 {
            empty = empty.saturating_add(1);
            idle.wait(empty);
        } else {
            empty = 0;
        }
    }
}

impl Plan {
    /// The thread's life.
    pub(crate) fn run(self) {
        let events = self.events.clone();
        let number = self.number;
        let ended = self.poll().map_err(|reason| format!("shard {number}: {reason}"));
        // The control thread is gone only when the process ends.
        let _ = events.send(Event::Ended(ended));
    }

    fn poll(self) -> Result<(), Failure> {
        thread::pin(self.core)?;
        thread::block_signals()?;
        thread::touch_stack();
        let Plan { idle, seeds, eal, job, stop, events, .. } = self;
        match job {
            Job::Shard(job) => {
                with_ports(seeds, eal.as_deref(), Polled { job: *job, idle, stop, events })
            }
            Job::Echo => with_ports(seeds, eal.as_deref(), Echo { idle, stop, events }),
        }
    }
}

/// A shard and the loop that polls it.
struct Polled {
    job: ShardJob,
    idle: Idle,
    stop: Arc<AtomicBool>,
    events: UnboundedSender<Event>,
}

impl PortUser for Polled {
    fn use_ports<P: Port>(self, ports: Vec<P>, opened: Vec<Opened>) -> Result<Vec<P>, Failure> {
        let Polled { job, idle, stop, events } = self;
        let ShardJob { config, wal, mut clock, commands, replies, status, cold, sealed } = job;
        let Cold { link, pages, ranges } = cold;
        let config =
            ShardConfig { ports: opened.into_iter().map(|port| port.address).collect(), ..config };
        let shard = Shard::new(config, wal, clock.now()).map_err(|full| full.to_string())?;
        let shard = shard.with_cold(pages, ranges);
        let mut polled = PollLoop::new(ports, shard, clock, commands, replies, status)
            .with_cold(link)
            .lending_to(sealed);
        let _ = events.send(Event::Polling);
        poll_until(&stop, idle, || polled.poll());
        // What was received stands behind a barrier after this; only then is it acknowledged.
        polled.poll();
        // On files that takes a while. What is not acknowledged by then the clients send to the next start.
        let end = Instant::now() + LAST_BARRIER;
        while polled.shard().waits() && Instant::now() < end {
            std::thread::yield_now();
            polled.poll();
        }
        polled.say_goodbye();
        let (ports, shard) = polled.into_parts();
        drop(shard);
        Ok(ports)
    }
}
