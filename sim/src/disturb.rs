//! What happens to a world besides faults of the network: crashes, cuts, clients that come and go.

use mstream_client::From;
use mstream_pmem::sim::SimRegion;

use crate::faults::Kind;
use crate::parts::Parts;
use crate::subscriber::Subscriber;
use crate::world::World;

impl<X: Parts> World<X> {
    /// One disturbance of a kind that this seed picked.
    pub(crate) fn disturb(&mut self) {
        let kind = Kind::ALL[self.random.below(Kind::ALL.len() as u64) as usize];
        if !self.mix.has(kind) {
            return;
        }
        match kind {
            Kind::Kill | Kind::PowerCut => self.crash(kind),
            Kind::Cut => self.cut(),
            Kind::ClientRestart => self.restart_client(),
            Kind::Zombie => self.replace_publisher(true),
            Kind::SlowReader => self.slow_down(),
            Kind::Seek => self.seek(),
            // The others happen to frames and barriers all the time.
            _ => {}
        }
    }

    fn crash(&mut self, kind: Kind) {
        if self.server.shard().is_none() {
            return;
        }
        self.injected.note(kind, 1);
        self.trace.line(format_args!("shard ends: {}", kind.name()));
        let random = &mut self.random;
        if kind == Kind::Kill {
            self.server.stop(SimRegion::after_kill);
        } else {
            self.server.stop(|region| region.after_random_power_cut(|| random.next()));
        }
        let down_ns = match self.random.below(3) {
            0 => 0,
            1 => self.random.within(0..=20_000_000),
            _ => self.random.within(0..=3_000_000_000),
        };
        self.starts_ns = self.clock.ns() + down_ns;
    }

    fn cut(&mut self) {
        let clients = self.publishers.len() + self.subscribers.len();
        let at = self.random.below(clients as u64) as usize;
        let client = match self.publishers.get(at) {
            Some(publisher) => publisher.endpoint,
            None => self.subscribers[at - self.publishers.len()].endpoint,
        };
        let Some(shard) = self.server.endpoint() else { return };
        let (from, to) = if self.random.one_in(2) { (client, shard) } else { (shard, client) };
        let until = self.clock.ns() + self.random.within(1_000_000..=3_000_000_000);
        self.trace.line(format_args!("{from:?} to {to:?} is cut until {until}"));
        self.net.cut(from, to, true);
        self.cuts.push((from, to, until));
    }

    fn restart_client(&mut self) {
        if self.random.one_in(2) {
            self.replace_publisher(false);
            return;
        }
        let at = self.random.below(self.subscribers.len() as u64) as usize;
        let (number, stream) = (self.subscribers[at].number, self.subscribers[at].stream);
        let mut resume = self.subscribers[at].resume();
        if let Some(resume) = &mut resume
            && self.random.one_in(3)
        {
            resume.position = None;
        }
        self.injected.note(Kind::ClientRestart, 1);
        self.trace.line(format_args!("subscriber {number} restarts at {resume:?}"));
        let attached = self.attach();
        self.subscribers[at] =
            Subscriber::new(number, stream, resume, attached, &self.oracle, &mut self.random);
    }

    /// A publisher's next life begins; the old one dies, or goes on if it is to be a zombie.
    fn replace_publisher(&mut self, zombie: bool) {
        let at = self.random.below(self.publishers.len() as u64) as usize;
        let old = &self.publishers[at];
        let (role, life, serial) = (old.role, old.life, old.serial());
        let newest = !role.named || self.oracle.life(role.actor) == life;
        if !newest || (zombie && !(role.named && old.opened)) || self.publishers.len() > 8 {
            return;
        }
        self.injected.note(if zombie { Kind::Zombie } else { Kind::ClientRestart }, 1);
        self.trace.line(format_args!("publisher {} begins life {}", role.actor, life + 1));
        let new = self.publisher(role, life + 1, serial);
        if zombie {
            self.publishers.push(new);
        } else {
            self.publishers[at] = new;
        }
    }

    fn slow_down(&mut self) {
        let at = self.random.below(self.subscribers.len() as u64) as usize;
        self.injected.note(Kind::SlowReader, 1);
        let subscriber = &mut self.subscribers[at];
        if self.random.one_in(2) {
            subscriber.slowness = self.random.within(1..=40);
        } else {
            subscriber.paused_until =
                self.trace.now_ns + self.random.within(1_000_000..=4_000_000_000);
        }
        self.trace.line(format_args!("subscriber {} slows down", subscriber.number));
    }

    fn seek(&mut self) {
        let at = self.random.below(self.subscribers.len() as u64) as usize;
        let (_, promised, earliest) = self.oracle.bounds(self.subscribers[at].stream);
        let from = match self.random.below(3) {
            0 => From::Earliest,
            1 => From::Latest,
            _ => From::Offset(self.random.within(earliest.min(promised)..=promised)),
        };
        self.injected.note(Kind::Seek, 1);
        self.subscribers[at].seek(from, &self.oracle, &mut self.trace);
    }
}
