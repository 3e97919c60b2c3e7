//! The poll loop: ports in, shard, ports out. The same loop runs in production, in the simulator and
//! in benchmarks; only port, region and clock differ.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crossbeam_queue::ArrayQueue;
use mstream_nic::port::BURST;
use mstream_nic::{FrameQueue, Port};
use mstream_pmem::region::Region;
use mstream_pmem::sealed::Sealed;

use crate::cold::ColdLink;
use crate::control::{Command, Reply};
use crate::planted::{Bug, planted};
use crate::poll_times::PollTimes;
use crate::shard::{Now, Shard};
use crate::status::Status;
use crate::write_rate::WriteRate;

/// Commands that one poll takes at most.
const COMMANDS_PER_POLL: usize = 64;

/// What a shard does when a poll found nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Poll again at once: the core belongs to the shard.
    #[default]
    Spin,
    /// Let another thread of this core run.
    Yield,
    /// Yield at first, then sleep for up to a millisecond.
    Backoff,
}

impl Idle {
    /// Waits after `empty` polls in a row that found nothing. Spinning makes no system call.
    #[inline]
    pub fn wait(self, empty: u32) {
        match self {
            Idle::Spin => std::hint::spin_loop(),
            Idle::Yield => std::thread::yield_now(),
            Idle::Backoff if empty < 64 => std::thread::yield_now(),
            Idle::Backoff => {
                let doublings = (empty / 64).min(7);
                std::thread::sleep(std::time::Duration::from_micros(8 << doublings));
            }
        }
    }
}

/// Where the time comes from.
pub trait Clock {
    /// The time now. Makes no system call.
    fn now(&mut self) -> Now;
}

/// The processor's time-stamp counter, calibrated at start, with the wall clock as an offset that the
/// control plane may mend. Clones show the same time.
#[derive(Clone, Debug)]
pub struct TscClock {
    clock: quanta::Clock,
    origin: u64,
    wall_offset_ns: Arc<AtomicI64>,
}

impl TscClock {
    /// A clock whose wall time is its monotonic time plus `wall_offset_ns`, read at each call.
    pub fn new(wall_offset_ns: Arc<AtomicI64>) -> TscClock {
        let clock = quanta::Clock::new();
        let origin = clock.raw();
        let mut this = TscClock { clock, origin, wall_offset_ns };
        this.set_wall(std::time::SystemTime::now());
        this
    }

    /// Sets the offset so that the clock's wall time is `wall` now.
    pub fn set_wall(&mut self, wall: std::time::SystemTime) {
        let wall_ns = wall.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64);
        let offset = wall_ns - self.mono_ns() as i64;
        self.wall_offset_ns.store(offset, Ordering::Relaxed);
    }

    #[inline]
    fn mono_ns(&self) -> u64 {
        self.clock.delta_as_nanos(self.origin, self.clock.raw())
    }
}

impl Clock for TscClock {
    #[inline]
    fn now(&mut self) -> Now {
        let mono_ns = self.mono_ns();
        let wall_ns = mono_ns.wrapping_add_signed(self.wall_offset_ns.load(Ordering::Relaxed));
        Now { mono_ns, wall_ns }
    }
}

/// One shard, its ports and its clock.
pub struct PollLoop<P: Port, R: Region, C: Clock> {
    ports: Vec<P>,
    shard: Shard<R, P::Frame>,
    clock: C,
    received: FrameQueue<P::Frame>,
    commands: Arc<ArrayQueue<Command>>,
    replies: Arc<ArrayQueue<Reply>>,
    cold: Option<ColdLink>,
    status: Arc<Status>,
    /// Where sealed segments are lent to, if anywhere.
    sealed: Option<Arc<ArrayQueue<Sealed>>>,
    published_ns: u64,
    times: PollTimes,
    rate: WriteRate,
    /// When the last poll began, if it carried messages.
    carried_ns: Option<u64>,
}

/// How often the shard's counters and positions are published.
const PUBLISH_NS: u64 = 1_000_000;

impl<P: Port, R: Region, C: Clock> PollLoop<P, R, C> {
    /// Puts a loop together. `ports` stand in the order of the shard's configuration. A command is taken
    /// only while `replies` has room for its answer; nobody else puts anything there.
    pub fn new(
        ports: Vec<P>,
        shard: Shard<R, P::Frame>,
        clock: C,
        commands: Arc<ArrayQueue<Command>>,
        replies: Arc<ArrayQueue<Reply>>,
        status: Arc<Status>,
    ) -> Self {
        let received = VecDeque::with_capacity(BURST);
        let mut this = PollLoop {
            ports,
            shard,
            clock,
            received,
            commands,
            replies,
            cold: None,
            status,
            sealed: None,
            published_ns: 0,
            times: PollTimes::default(),
            rate: WriteRate::default(),
            carried_ns: None,
        };
        let now = this.clock.now();
        this.publish(now);
        this
    }

    /// With a reader of cold segments, for a shard that has pages for them.
    pub fn with_cold(mut self, link: ColdLink) -> Self {
        self.cold = Some(link);
        self
    }

    /// The same loop, which puts the log's sealed segments into `sealed` as far as there is room, one a poll. They come
    /// back with [`Command::SegmentRead`]. Nobody else puts anything there.
    pub fn lending_to(self, sealed: Arc<ArrayQueue<Sealed>>) -> Self {
        PollLoop { sealed: Some(sealed), ..self }
    }

    /// The shard.
    pub fn shard(&self) -> &Shard<R, P::Frame> {
        &self.shard
    }

    /// The ports.
    pub fn ports(&self) -> &[P] {
        &self.ports
    }

    /// Tells every open session that the shard ends, so that clients need not wait for silence: one frame each, as
    /// far as ports have room. The loop is not polled any more.
    pub fn say_goodbye(&mut self) {
        let mut from = 0;
        while let Some(next) = self.shard.say_goodbye(from, BURST, self.ports.as_mut_slice()) {
            for port in &mut self.ports {
                port.flush();
            }
            from = next;
        }
    }

    /// Ends the loop: its ports and its shard, which still holds frames of theirs.
    pub fn into_parts(self) -> (Vec<P>, Shard<R, P::Frame>) {
        (self.ports, self.shard)
    }

    /// One poll: commands, one burst of each port, one barrier, what the watermarks allow. Returns how many
    /// frames came in or went out; 0 means there was nothing to do.
    #[inline]
    pub fn poll(&mut self) -> u64 {
        let now = self.clock.now();
        if let Some(began_ns) = self.carried_ns {
            self.times.record(now.mono_ns - began_ns);
        }
        let carried = self.shard.counters().carried();
        // Looking is two loads; popping an empty queue is a fence as well.
        if !self.commands.is_empty() {
            self.take_commands(now);
        }
        if let Some(link) = &self.cold {
            link.exchange(&mut self.shard, &self.commands);
        }
        let mut work = 0;
        for port in 0..self.ports.len() {
            work += self.ports[port].receive(&mut self.received, BURST) as u64;
            while let Some(frame) = self.received.pop_front() {
                if planted(Bug::FrameDropped) && self.received.is_empty() && work > 4 {
                    continue;
                }
                self.shard.receive(now, port, frame, self.ports.as_mut_slice());
            }
        }
        let delivered = self.shard.complete(now, self.ports.as_mut_slice());
        if delivered > 0 {
            // What readers wait for leaves before acks are written, where that costs no system call.
            for port in self.ports.iter_mut().filter(|port| !port.capabilities().syscalls) {
                port.flush();
            }
        }
        work += delivered + self.shard.finish(now, self.ports.as_mut_slice());
        for port in &mut self.ports {
            port.flush();
        }
        if self.shard.wal().has_sealed() {
            self.lend();
        }
        if now.mono_ns >= self.published_ns + PUBLISH_NS {
            self.publish(now);
        }
        let carries = self.shard.counters().carried() != carried;
        self.carried_ns = carries.then_some(now.mono_ns);
        work
    }

    #[cold]
    fn take_commands(&mut self, now: Now) {
        for _ in 0..COMMANDS_PER_POLL {
            if self.replies.is_full() {
                return;
            }
            let Some(command) = self.commands.pop() else { return };
            // A report is work enough for one poll.
            let last = command.is_report();
            if let Some(reply) = self.shard.command(now, command) {
                let pushed = self.replies.push(reply);
                debug_assert!(pushed.is_ok(), "only the shard puts replies into the queue");
            }
            if last {
                return;
            }
        }
    }

    #[cold]
    fn lend(&mut self) {
        let Some(queue) = self.sealed.as_ref().filter(|queue| !queue.is_full()) else { return };
        if let Some(sealed) = self.shard.wal_mut().next_sealed() {
            let pushed = queue.push(sealed);
            debug_assert!(pushed.is_ok(), "only the shard puts segments into the queue");
        }
    }

    /// Writes counters and positions where others read them.
    fn publish(&mut self, now: Now) {
        self.published_ns = now.mono_ns;
        self.rate.sample(now.mono_ns, self.shard.wal().written_bytes());
        self.status.publish(&self.shard, &self.ports, &self.times, &self.rate);
    }
}

impl<P: Port, R: Region, C: Clock> std::fmt::Debug for PollLoop<P, R, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollLoop").field("shard", &self.shard).finish_non_exhaustive()
    }
}
