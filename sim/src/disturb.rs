//! What happens to a world besides faults of the network that are there all the time: crashes, cuts, stalls, shortages.

use mstream_dataplane::Clock;
use mstream_nic::sim::{Endpoint, Faults};
use mstream_pmem::region::Level;
use mstream_pmem::sim::SimRegion;

use crate::cold::End;
use crate::faults::Kind;
use crate::parts::Parts;
use crate::world::World;

impl<X: Parts> World<X> {
    /// One disturbance of a kind that this seed picked.
    pub(crate) fn disturb(&mut self) {
        let events = || Kind::ALL.iter().filter(|kind| kind.is_event() && self.mix.has(**kind));
        let (drawn, count) = (self.chaos.next(), events().count());
        let Some(kind) = (drawn as usize).checked_rem(count).and_then(|at| events().nth(at)) else {
            return;
        };
        match *kind {
            Kind::Kill => self.crash(*kind, End::Killed),
            // Power that is lost is a boot, and a log of level `process` loses by it.
            Kind::PowerCut | Kind::Reboot if self.is_process() => {
                self.crash(Kind::Reboot, End::Unpowered);
            }
            Kind::PowerCut => self.crash(*kind, End::Unpowered),
            Kind::TornPoll | Kind::TornKill => self.cut_within(*kind),
            Kind::TornStart => self.tear_start(),
            Kind::Cut | Kind::Clog => self.block_path(*kind),
            Kind::HungBarriers => self.hang(),
            Kind::FullLog => self.unread_until = self.later(10_000_000_000),
            Kind::NoSegments => self.starve(),
            Kind::NoBuffers => self.withhold(),
            Kind::ShardStall => self.stall(),
            Kind::ClientStall => self.stall_client(),
            Kind::SetUpKill => self.doom(),
            Kind::ClockJump => self.jump_clock(),
            Kind::Streams => self.change_streams(),
            Kind::ClientRestart => self.restart_client(),
            Kind::Zombie => self.replace_publisher(true),
            Kind::SlowReader => self.slow_down(),
            Kind::Seek => self.seek(),
            // The others happen to frames, barriers and clocks all the time.
            _ => {}
        }
    }

    pub(crate) fn is_process(&self) -> bool {
        self.server.config().level == Level::Process
    }

    /// A time from now on, at most so far away.
    pub(crate) fn later(&mut self, most_ns: u64) -> u64 {
        self.clock.ns() + self.chaos.within(1_000_000..=most_ns)
    }

    /// Lets go of what was held only for a while.
    pub(crate) fn let_go(&mut self) {
        let (now_ns, net, faults) = (self.clock.ns(), &self.net, &self.faults);
        self.cuts.retain(|(from, to, until)| {
            if *until <= now_ns {
                net.cut(*from, *to, false);
            }
            *until > now_ns
        });
        self.clogs.retain(|(from, to, until)| {
            if *until <= now_ns {
                net.set_path_faults(*from, *to, faults.clone());
            }
            *until > now_ns
        });
        if self.hung_until <= now_ns
            && let Some(region) = self.server.region()
        {
            region.hang(false);
        }
        if self.withheld_until <= now_ns
            && let Some(endpoint) = self.server.endpoint()
        {
            self.net.withhold(endpoint, 0);
        }
    }

    pub(crate) fn crash(&mut self, kind: Kind, end: End) {
        if self.server.shard().is_none() {
            return;
        }
        self.injected.note(kind, 1);
        self.trace.line(format_args!("shard ends: {}", kind.name()));
        self.stop(end);
    }

    /// Ends the process or its start, which begins again after a while.
    pub(crate) fn stop(&mut self, end: End) {
        let (mut down_ns, now) = (self.down_ns(), self.clock.clone().now());
        if self.is_process() && end != End::Killed {
            // As the wall clock tells its epochs apart, a reboot takes longer than all starts before it were ahead of that.
            let ahead = u64::from(self.epoch + 2).saturating_sub(now.wall_ns / 1_000_000_000);
            down_ns = down_ns.max(ahead * 1_000_000_000);
        }
        let (chaos, catalogue) = (&mut self.chaos, &self.catalogue);
        let leaves = |region: &SimRegion| end.leaves(region, || chaos.next());
        self.server.stop(end, catalogue, now, leaves);
        self.starts_ns = self.clock.ns() + down_ns;
    }

    /// The shard's region is cut within one of its next polls: see [`World::tear`].
    fn cut_within(&mut self, kind: Kind) {
        let operations = self.chaos.size(1..=512) - 1;
        if let Some(region) = self.server.region() {
            region.cut_in(operations as u32);
            self.torn = kind;
        }
    }

    /// The region was cut in the poll that was done: the process ended then. What its port sent before has left, nothing
    /// since.
    pub(crate) fn tear(&mut self) {
        let end = if self.torn == Kind::TornKill { End::Killed } else { End::Torn };
        self.crash(self.torn, end);
    }

    /// The process ends, and so does the start that follows, in its midst. Not the one behind that: starts that take a segment
    /// and go no further use up the log.
    fn tear_start(&mut self) {
        let operations = self.chaos.size(1..=64) - 1;
        let (first, second) = (self.chaos.one_in(2), self.chaos.one_in(2));
        if self.server.shard().is_none() {
            return;
        }
        self.trace.line(format_args!("shard ends: {}", Kind::TornStart.name()));
        self.stop(if first { End::Killed } else { End::Unpowered });
        let end = if second { End::Killed } else { End::Torn };
        self.torn_start = Some((operations as u32, end));
    }

    fn down_ns(&mut self) -> u64 {
        match self.chaos.below(3) {
            0 => 0,
            1 => self.chaos.within(0..=20_000_000),
            _ => self.chaos.within(0..=3_000_000_000),
        }
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let publishers = self.publishers.iter().map(|publisher| publisher.endpoint);
        publishers.chain(self.subscribers.iter().map(|subscriber| subscriber.endpoint)).collect()
    }

    fn block_path(&mut self, kind: Kind) {
        let clients = self.endpoints();
        let client = clients[self.chaos.below(clients.len() as u64) as usize];
        let (out, until) = (self.chaos.one_in(2), self.later(3_000_000_000));
        let least = self.chaos.within(50_000_000..=2_000_000_000);
        let Some(shard) = self.server.endpoint() else { return };
        let (from, to) = if out { (client, shard) } else { (shard, client) };
        self.trace.line(format_args!("{from:?} to {to:?}: {} until {until}", kind.name()));
        if kind == Kind::Cut {
            self.net.cut(from, to, true);
            self.cuts.push((from, to, until));
        } else {
            self.injected.note(kind, 1);
            let faults = Faults { delay_ns: least..=least, ..self.faults.clone() };
            self.net.set_path_faults(from, to, faults);
            self.clogs.push((from, to, until));
        }
    }

    fn hang(&mut self) {
        let until = self.later(3_000_000_000);
        let Some(region) = self.server.region() else { return };
        region.hang(true);
        self.hung_until = until;
        self.trace.line(format_args!("barriers hang until {until}"));
    }

    /// Not for as long as publishers are kept waiting.
    fn starve(&mut self) {
        let until = self.later(5_000_000_000);
        self.server.make_none_before(until);
    }

    fn withhold(&mut self) {
        let (left, until) = (self.chaos.below(8) as usize, self.later(2_000_000_000));
        let Some(endpoint) = self.server.endpoint() else { return };
        let frames = self.server.config().frames;
        self.net.withhold(endpoint, frames - left);
        self.withheld_until = until;
        self.injected.note(Kind::NoBuffers, 1);
        self.trace.line(format_args!("the shard's port has {left} buffers until {until}"));
    }

    fn stall(&mut self) {
        self.stalled_until = self.later(4_000_000_000);
        self.injected.note(Kind::ShardStall, 1);
        self.trace.line(format_args!("the shard stalls until {}", self.stalled_until));
    }

    fn jump_clock(&mut self) {
        let hour = 3_600_000_000_000_u64;
        let ns = self.chaos.within(0..=2 * hour) as i64 - hour as i64;
        // A log of which a reboot may take anything tells its epochs apart by the wall clock, which is not set back then.
        let ns = if self.is_process() { ns.abs() } else { ns };
        self.clock.jump(ns);
        self.injected.note(Kind::ClockJump, 1);
        self.trace.line(format_args!("the wall clock jumps by {ns}"));
    }
}
