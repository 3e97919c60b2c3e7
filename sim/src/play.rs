//! A world step by step: a phase with faults, then none, and everything must come to rest.

use mstream_dataplane::{Clock, Refusal};
use mstream_nic::sim::Faults;
use mstream_pmem::sim::SimRegion;

use crate::config::SESSION_TIMEOUT_MS;
use crate::faults::Kind;
use crate::invariants::{Broken, Check, accounts, bounded, buffers, liveness, of_shard};
use crate::parts::Parts;
use crate::publisher::Publisher;
use crate::server::Started;
use crate::subscriber::Subscriber;
use crate::world::World;

/// Without faults everything must come to rest within this time.
const REST_NS: u64 = 60_000_000_000;
/// A promise is tried against a whole power cut once in this many times; that nothing of it is pending is looked at
/// each time.
const TRIED_ONCE_IN: u64 = 200;

impl<X: Parts> World<X> {
    pub(crate) fn play(&mut self) -> Check {
        self.trace.line(format_args!("seed {} {}", self.run.seed, self.mix));
        while self.trace.step < self.run.steps && !self.no_room {
            let jump = self.tempo.next(&mut self.random);
            self.advance(jump);
            self.let_go();
            if self.chaos.one_in(self.calm) {
                self.disturb();
            }
            self.kill_doomed()?;
            self.turn(true)?;
        }
        if self.no_room {
            self.trace.line(format_args!("no free segment is left to start in"));
            return Ok(());
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
    }

    /// Each client has a turn, from a random one on, and some miss theirs. Between them the shard polls, unless it can
    /// have nothing to do: time stands still here. What it does in a poll may leave something for the next. Whoever looks
    /// after cold segments comes last.
    fn turn(&mut self, publishing: bool) -> Check {
        if self.server.shard().is_none() && self.clock.ns() >= self.starts_ns {
            self.start()?;
        }
        // Also while the shard stalls.
        if self.server.make_slots(self.trace.now_ns) {
            self.injected.note(Kind::NoSegments, 1);
        }
        let (publishers, clients) =
            (self.publishers.len(), self.publishers.len() + self.subscribers.len());
        let first = self.random.below(clients as u64) as usize;
        let mut busy = true;
        for at in 0..clients {
            let client = (first + at) % clients;
            if !(publishing && self.random.one_in(8)) {
                if client < publishers {
                    self.poll_publisher(client, publishing)?;
                } else {
                    self.poll_subscriber(client - publishers)?;
                }
            }
            busy = self.poll_while(busy, publishing)?;
        }
        if !publishing || !self.random.one_in(8) {
            let now = self.clock.clone().now();
            self.server.turn_cold(&self.catalogue, !publishing, now)?;
        }
        self.replace_ended();
        Ok(())
    }

    /// The shard polls while it has something to do, or for less long if it `may_stop`. True if it may still have some.
    fn poll_while(&mut self, mut busy: bool, may_stop: bool) -> Result<bool, Broken> {
        busy |= self.server.endpoint().is_some_and(|shard| self.net.has_arrived(shard));
        let mut polls = 0;
        while busy && !(may_stop && self.random.one_in(4)) {
            busy = self.poll_server()?;
            polls += 1;
            liveness::runs_out(polls)?;
        }
        Ok(busy)
    }

    fn poll_publisher(&mut self, at: usize, publishing: bool) -> Check {
        let publisher = &mut self.publishers[at];
        let publishes = publishing && self.random.one_in(2);
        if self.trace.now_ns < publisher.pace.paused_until {
            return Ok(());
        }
        if publishes {
            publisher.publish(&mut self.random, &mut self.trace)?;
        }
        let acknowledged = publisher.poll(&mut self.history, &mut self.trace)?;
        buffers::all_back("a publisher's port", publisher.frames_out())?;
        if acknowledged { self.try_power_cut() } else { Ok(()) }
    }

    fn poll_subscriber(&mut self, at: usize) -> Check {
        let subscriber = &mut self.subscribers[at];
        let slow = !self.random.one_in(subscriber.pace.slowness.max(1));
        if slow || self.trace.now_ns < subscriber.pace.paused_until {
            return Ok(());
        }
        let keeps = self.mix.has(Kind::Reboot);
        let came = subscriber.poll(&mut self.history, &mut self.trace, keeps)?;
        buffers::all_back("a subscriber's port", subscriber.frames_out())?;
        if came { self.try_power_cut() } else { Ok(()) }
    }

    fn start(&mut self) -> Check {
        let torn = self.torn_start.take();
        let (parts, random) = (&mut self.parts, &mut self.random);
        let (net, clock, dies_in) =
            (&self.net, &self.clock, torn.map(|(operations, _)| operations));
        let started = self.server.start(parts, net, clock, &self.catalogue, random, dies_in)?;
        let loss = match (started, torn) {
            (Started::Runs { loss }, _) => loss,
            (Started::Dies, Some((operations, end))) => {
                self.injected.note(Kind::TornStart, 1);
                self.trace.line(format_args!("a start ends before operation {operations}"));
                self.stop(end);
                return Ok(());
            }
            _ => {
                self.no_room = true;
                return Ok(());
            }
        };
        self.catalogue.is_ready(None);
        if let (Some(shard), Some(region)) = (self.server.shard(), self.server.region()) {
            let epoch = shard.wal().epoch();
            self.epoch = epoch;
            let lost = if loss { ", something may be lost" } else { "" };
            self.trace.line(format_args!("shard starts epoch {epoch}{lost}"));
            self.history.wall_ns = self.clock.clone().now().wall_ns;
            self.history.restarted(shard.wal(), loss)?;
            self.history.look(shard.wal(), shard.committed(), region)?;
        }
        self.look_at_cold()?;
        Ok(())
    }

    /// True when it had something to do.
    fn poll_server(&mut self) -> Result<bool, Broken> {
        if self.trace.now_ns < self.stalled_until {
            return Ok(false);
        }
        let now_ns = self.trace.now_ns;
        if now_ns >= self.unread_until {
            self.server.read_sealed(now_ns);
        }
        let (waits, full) = self.back_pressure();
        let work = self.server.poll();
        (self.polls, self.frames) = (self.polls + u64::from(work > 0), self.frames + work);
        let torn = self.server.region().is_some_and(SimRegion::is_cut);
        if !torn {
            self.hear_replies();
        }
        let (Some(shard), Some(region)) = (self.server.shard(), self.server.region()) else {
            return Ok(false);
        };
        if work > 0 {
            self.trace.line(format_args!("shard polls: {work} frames"));
        }
        let (waits, full) = (self.back_pressure().0 - waits, self.back_pressure().1 - full);
        self.injected.note(Kind::HungBarriers, if now_ns < self.hung_until { waits } else { 0 });
        self.injected.note(Kind::FullLog, if now_ns < self.unread_until { full } else { 0 });
        self.history.wall_ns = self.clock.clone().now().wall_ns;
        self.history.look(shard.wal(), shard.committed(), region)?;
        of_shard(shard, &self.server.config().limits)?;
        accounts::of_port(self.server.frames_received(), shard.counters())?;
        buffers::of_shard(self.server.frames_out(), shard.frames_held())?;
        if torn {
            self.tear();
        }
        Ok(work > 0)
    }

    /// Frames refused so far because too much waits for barriers, and because the log is full.
    fn back_pressure(&self) -> (u64, u64) {
        let Some(shard) = self.server.shard() else { return (0, 0) };
        let refused = |reason| shard.counters().refused(reason);
        let waits = refused(Refusal::SyncWindow) + refused(Refusal::PendingFull);
        (waits, refused(Refusal::LogFull))
    }

    /// Now and then after something was promised: it would survive a power cut at this moment.
    fn try_power_cut(&mut self) -> Check {
        if !self.chaos.one_in(TRIED_ONCE_IN) {
            return Ok(());
        }
        let (now, whole) = (self.clock.clone().now(), self.chaos.one_in(2));
        let process = self.server.config().level == mstream_pmem::region::Level::Process;
        let chaos = &mut self.chaos;
        let opened = self.server.as_if_cut(now, |region| match () {
            // A kill is all that is survived at this level.
            () if process => region.killed(),
            () if whole => region.after_power_cut(),
            () => region.after_random_power_cut(|| chaos.next()),
        });
        let if_cut = |broken: Broken| Broken {
            what: format!("if power were lost now: {}", broken.what),
            ..broken
        };
        let Some(wal) = opened.map_err(if_cut)? else { return Ok(()) };
        self.history.holds(&wal, false).map_err(if_cut)
    }

    /// Ends all faults, and starts the process if it is down.
    fn calm_down(&mut self) -> Check {
        self.trace.line(format_args!("faults end"));
        self.net.set_faults(Faults::NONE);
        for (from, to, _) in self.cuts.drain(..) {
            self.net.cut(from, to, false);
        }
        self.clogs.clear();
        (self.stalled_until, self.hung_until, self.withheld_until) = (0, 0, 0);
        self.unread_until = 0;
        self.server.make_none_before(0);
        (self.torn_start, self.doomed) = (None, None);
        if let Some(region) = self.server.region() {
            region.take_cut();
        }
        self.let_go();
        for subscriber in &mut self.subscribers {
            (subscriber.pace.paused_until, subscriber.pace.slowness) = (0, 1);
        }
        for publisher in &mut self.publishers {
            publisher.pace.paused_until = 0;
            publisher.flush();
        }
        if self.is_process() && self.server.shard().is_none() {
            self.advance(self.starts_ns.saturating_sub(self.clock.ns()));
        }
        self.starts_ns = 0;
        if self.server.shard().is_none() { self.start() } else { Ok(()) }
    }

    /// Everything comes to rest; and again when each publisher has published one message more: who has nothing left to do
    /// can still do something.
    fn come_to_rest(&mut self) -> Check {
        self.settle()?;
        self.trace.line(format_args!("at rest"));
        self.publishers.iter_mut().for_each(Publisher::publish_one_more);
        self.settle()?;
        self.trace.line(format_args!("at rest again"));
        match self.server.shard() {
            Some(shard) => self.history.holds(shard.wal(), false)?,
            None => return Ok(()),
        }
        self.look_at_cold()
    }

    fn settle(&mut self) -> Check {
        let until = self.clock.ns() + REST_NS;
        while !self.no_room {
            let history = &self.history;
            let settled = self.publishers.iter().all(Publisher::is_settled)
                && self.subscribers.iter().all(|subscriber| subscriber.is_settled(history));
            if settled {
                break;
            }
            if self.clock.ns() >= until {
                return Err(self.unsettled());
            }
            let next = self.net.next_arrival_ns().unwrap_or(u64::MAX);
            let jump = next.saturating_sub(self.clock.ns()).clamp(2_000, 4_000_000);
            self.advance(jump);
            self.turn(false)?;
        }
        Ok(())
    }

    /// What the log does not hold any more of cold streams, cold segments do.
    fn look_at_cold(&self) -> Check {
        let (Some(shard), Some(store)) = (self.server.shard(), self.server.cold()) else {
            return Ok(());
        };
        self.history.holds_cold(shard.wal(), &mut store?)
    }

    /// Who did not come to rest.
    fn unsettled(&self) -> Broken {
        let mut text = String::new();
        for publisher in self.publishers.iter().filter(|publisher| !publisher.is_settled()) {
            text += &format!(" [{publisher}]");
        }
        for subscriber in self.subscribers.iter().filter(|s| !s.is_settled(&self.history)) {
            let (end, ..) = self.history.bounds(subscriber.stream);
            text += &format!(" [{subscriber}, the log ends at {end}]");
        }
        if let Some(shard) = self.server.shard() {
            text += &format!(" [{:?}, slots wanted {}]", shard.wal(), shard.wal().slots_wanted());
            for reason in
                Refusal::ALL.iter().filter(|reason| shard.counters().refused(**reason) > 0)
            {
                text += &format!(" {} {}", reason.name(), shard.counters().refused(*reason));
            }
        }
        liveness::unsettled(REST_NS / 1_000_000_000, &text)
    }

    /// Clients close, dead sessions expire, and every buffer comes back.
    fn end(&mut self) -> Check {
        self.publishers.iter_mut().for_each(Publisher::close);
        self.subscribers.iter_mut().for_each(Subscriber::close);
        // Polls are as rare as timers: nothing else happens, once the last frame that was held back has come.
        let mut quiet = 0;
        while quiet < 2 * SESSION_TIMEOUT_MS / 50 {
            self.advance(50_000_000);
            self.poll_while(true, false)?;
            quiet = if self.net.next_arrival_ns().is_some() { 0 } else { quiet + 1 };
        }
        if let Some(shard) = self.server.shard() {
            accounts::check(shard.counters())?;
            bounded::nothing_left(shard)?;
        }
        buffers::all_back("the shard's port", self.server.shut_down())?;
        let publishers = self.publishers.iter().map(Publisher::frames_out);
        let out = publishers.chain(self.subscribers.iter().map(Subscriber::frames_out)).sum();
        buffers::all_back("clients' ports", out)
    }
}
