//! What happens to a world besides faults of the network that are there all the time: crashes, cuts, stalls, shortages.

use mstream_dataplane::Clock;
use mstream_nic::sim::{Endpoint, Faults};
use mstream_pmem::region::Level;
use mstream_pmem::sim::SimRegion;

use crate::cold::End;
use crate::faults::Kind;
use crate::invariants::Check;
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
            Kind::Kill => self.crash(*kind),
            // Power that is lost is a boot, and a log of level `process` loses by it.
            Kind::PowerCut if !self.is_process() => self.crash(*kind),
            Kind::Reboot if self.is_process() => self.crash(*kind),
            Kind::TornPoll if !self.is_process() => {
                self.torn_at = Some(self.chaos.within(0..=30) as u32);
            }
            Kind::Cut | Kind::Clog => self.block_path(*kind),
            Kind::FullLog => self.hang(),
            Kind::NoSegments => self.server.makes_from = self.later(5_000_000_000),
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

    fn is_process(&self) -> bool {
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

    pub(crate) fn crash(&mut self, kind: Kind) {
        if self.server.shard().is_none() {
            return;
        }
        self.injected.note(kind, 1);
        let (down_ns, now) = (self.down_ns(), self.clock.clone().now());
        let (chaos, catalogue) = (&mut self.chaos, &self.catalogue);
        self.trace.line(format_args!("shard ends: {}", kind.name()));
        if kind == Kind::Kill || kind == Kind::SetUpKill {
            self.server.stop(End::Killed, catalogue, now, SimRegion::killed);
        } else {
            let cut = |region: &SimRegion| region.after_random_power_cut(|| chaos.next());
            self.server.stop(End::Unpowered, catalogue, now, cut);
        }
        self.starts_ns = self.clock.ns() + down_ns;
    }

    fn down_ns(&mut self) -> u64 {
        match self.chaos.below(3) {
            0 => 0,
            1 => self.chaos.within(0..=20_000_000),
            _ => self.chaos.within(0..=3_000_000_000),
        }
    }

    /// A poll in the midst of which power is lost: none of its frames leaves.
    pub(crate) fn tear(&mut self, operations: u32) -> Check {
        let (Some(region), Some(shard)) = (self.server.region(), self.server.endpoint()) else {
            return Ok(());
        };
        region.cut_in(operations);
        for client in self.endpoints() {
            self.net.cut(shard, client, true);
        }
        let before = self.net.counts().cut;
        self.server.poll();
        self.torn_frames += self.net.counts().cut - before;
        let Some(cut) = self.server.region().and_then(SimRegion::take_cut) else {
            // The poll did less than that: it ends as if all its frames were lost, and a later one is torn.
            self.torn_at = Some(operations / 2);
            self.restore_paths(shard);
            self.hear_replies();
            let (Some(shard), Some(region)) = (self.server.shard(), self.server.region()) else {
                return Ok(());
            };
            return self.history.look(shard.wal(), shard.committed(), region);
        };
        self.injected.note(Kind::TornPoll, 1);
        let (down_ns, now) = (self.down_ns(), self.clock.clone().now());
        let (chaos, catalogue) = (&mut self.chaos, &self.catalogue);
        self.trace.line(format_args!("shard ends: torn-poll before operation {operations}"));
        let left = |_: &SimRegion| cut.after_random_power_cut(|| chaos.next());
        self.server.stop(End::Torn, catalogue, now, left);
        self.starts_ns = self.clock.ns() + down_ns;
        Ok(())
    }

    /// Joins the shard's paths again, but for those that are cut for longer.
    fn restore_paths(&mut self, shard: Endpoint) {
        for client in self.endpoints() {
            let cut = self.cuts.iter().any(|(from, to, _)| (*from, *to) == (shard, client));
            self.net.cut(shard, client, cut);
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
        self.clock.jump(ns);
        self.injected.note(Kind::ClockJump, 1);
        self.trace.line(format_args!("the wall clock jumps by {ns}"));
    }
}
