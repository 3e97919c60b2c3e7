//! Clients and streams that come and go.

use mstream_client::From;
use mstream_dataplane::{Command, Reply};

use crate::catalogue::MOST_STREAMS;
use crate::cold::End;
use crate::faults::Kind;
use crate::invariants::Check;
use crate::parts::Parts;
use crate::publisher::{Over, Role};
use crate::subscriber::Subscriber;
use crate::world::{World, draw_keep};

/// Publishers of a world, zombies included.
const MOST_PUBLISHERS: usize = 8;

impl<X: Parts> World<X> {
    pub(crate) fn restart_client(&mut self) {
        if self.chaos.one_in(2) {
            self.replace_publisher(false);
            return;
        }
        let at = self.chaos.below(self.subscribers.len() as u64) as usize;
        let forgets = self.chaos.one_in(3);
        self.injected.note(Kind::ClientRestart, 1);
        self.restart_subscriber(at, forgets);
    }

    fn restart_subscriber(&mut self, at: usize, forgets: bool) {
        let old = self.subscribers.remove(at);
        let (number, stream, host) = (old.number, old.stream, self.host(old.host));
        let mut resume = old.resume();
        drop(old);
        if let Some(resume) = &mut resume
            && forgets
        {
            resume.position = None;
        }
        let place = resume.as_ref().map(|resume| (resume.next, resume.position));
        self.trace.line(format_args!("subscriber {number} restarts at {place:?}"));
        let attached = self.attach(host);
        let (history, random) = (&self.history, &mut self.random);
        let new = Subscriber::new(number, stream, resume, attached, history, random);
        self.subscribers.insert(at, new);
    }

    /// Where a client begins anew: on the machine that it was on, half the time.
    fn host(&mut self, had: u16) -> Option<u16> {
        self.chaos.one_in(2).then_some(had)
    }

    /// A publisher's next life begins; the old one dies, or goes on if it is to be a zombie.
    pub(crate) fn replace_publisher(&mut self, zombie: bool) {
        let at = self.chaos.below(self.publishers.len() as u64) as usize;
        let old = &self.publishers[at];
        let (named, life, opened) = (old.role.named, old.life, old.opened);
        let newest = !named || self.history.life(old.role.actor) == life;
        let full = self.publishers.len() > MOST_PUBLISHERS;
        if !newest || old.over.is_some() || (zombie && !(named && opened)) || full {
            return;
        }
        self.injected.note(if zombie { Kind::Zombie } else { Kind::ClientRestart }, 1);
        self.next_life(at, zombie);
    }

    fn next_life(&mut self, at: usize, zombie: bool) {
        let old = &self.publishers[at];
        let (life, serial) = (old.life + 1, old.serial());
        let mut role = old.role;
        if self.history.is_deleted(role.stream) {
            role = Role { stream: self.catalogue.any(&mut self.random), ..role };
        }
        let Role { actor, stream, .. } = role;
        self.trace.line(format_args!("publisher {actor} begins life {life} in stream {stream}"));
        if zombie {
            let new = self.publisher(role, life, serial, None);
            self.publishers.push(new);
            return;
        }
        let old = self.publishers.remove(at);
        let host = self.host(old.host);
        drop(old);
        let new = self.publisher(role, life, serial, host);
        self.publishers.insert(at, new);
    }

    /// Whoever learnt that its stream was deleted, or that the log lost what it had been told, begins anew.
    pub(crate) fn replace_ended(&mut self) {
        for at in 0..self.publishers.len() {
            let ended = &self.publishers[at];
            let newest = self.history.life(ended.role.actor) == ended.life;
            if matches!(ended.over, Some(Over::Deleted | Over::Diverged)) && newest {
                self.next_life(at, false);
            }
        }
        for at in 0..self.subscribers.len() {
            if self.subscribers[at].over {
                let number = self.subscribers[at].number;
                let stream = self.catalogue.any(&mut self.random);
                self.trace.line(format_args!("subscriber {number} goes to stream {stream}"));
                let attached = self.attach(None);
                let (history, random) = (&self.history, &mut self.random);
                self.subscribers[at] =
                    Subscriber::new(number, stream, None, attached, history, random);
            }
        }
    }

    pub(crate) fn stall_client(&mut self) {
        let at = self.chaos.below(self.publishers.len() as u64) as usize;
        let until = self.later(4_000_000_000);
        self.injected.note(Kind::ClientStall, 1);
        let publisher = &mut self.publishers[at];
        publisher.pace.paused_until = until;
        let actor = publisher.role.actor;
        self.trace.line(format_args!("publisher {actor} stalls until {until}"));
    }

    pub(crate) fn slow_down(&mut self) {
        let at = self.chaos.below(self.subscribers.len() as u64) as usize;
        let (slow, slowness) = (self.chaos.one_in(2), self.chaos.within(1..=40));
        let until = self.later(4_000_000_000);
        self.injected.note(Kind::SlowReader, 1);
        let subscriber = &mut self.subscribers[at];
        if slow {
            subscriber.pace.slowness = slowness;
        } else {
            subscriber.pace.paused_until = until;
        }
        self.trace.line(format_args!("subscriber {} slows down", subscriber.number));
    }

    pub(crate) fn seek(&mut self) {
        let at = self.chaos.below(self.subscribers.len() as u64) as usize;
        let stream = self.subscribers[at].stream;
        let (_, promised, earliest) = self.history.bounds(stream);
        let mut times = self.history.times(stream);
        let records = times.len() as u64;
        let from = match self.chaos.below(4) {
            0 => From::Earliest,
            1 => From::Latest,
            2 if records > 0 => {
                let time = times.nth(self.chaos.below(records) as usize).unwrap_or_default();
                From::Time(time - 1 + self.chaos.below(3))
            }
            _ => From::Offset(self.chaos.within(earliest.min(promised)..=promised)),
        };
        self.injected.note(Kind::Seek, 1);
        self.subscribers[at].seek(from, &self.history, &mut self.trace);
    }

    /// A client begins anew, and in a few steps it dies while it is set up, or else the shard.
    pub(crate) fn doom(&mut self) {
        let (steps, client) = (self.chaos.within(0..=6), self.chaos.one_in(2));
        if self.doomed.is_some() {
            return;
        }
        let at = self.chaos.below(self.subscribers.len() as u64) as usize;
        self.restart_subscriber(at, false);
        let at = self.chaos.below(self.publishers.len() as u64) as usize;
        if self.publishers[at].over.is_none()
            && self.history.life(self.publishers[at].role.actor) == self.publishers[at].life
        {
            self.next_life(at, false);
        }
        self.doomed = Some((self.trace.step + steps, client));
    }

    pub(crate) fn kill_doomed(&mut self) -> Check {
        let Some((step, client)) = self.doomed.filter(|(step, _)| *step <= self.trace.step) else {
            return Ok(());
        };
        self.doomed = None;
        self.trace.line(format_args!("step {step}: what is being set up is killed"));
        let history = &self.history;
        let opening = self.publishers.iter().position(|publisher| {
            let newest = history.life(publisher.role.actor) == publisher.life;
            !publisher.opened && publisher.over.is_none() && newest
        });
        let asking = self.subscribers.iter().position(|subscriber| !subscriber.started());
        match (opening, asking) {
            (None, None) => {}
            (Some(at), _) if client => {
                self.injected.note(Kind::SetUpKill, 1);
                self.next_life(at, false);
            }
            (_, Some(at)) if client => {
                self.injected.note(Kind::SetUpKill, 1);
                self.restart_subscriber(at, false);
            }
            _ => self.crash(Kind::SetUpKill, End::Killed),
        }
        Ok(())
    }

    pub(crate) fn change_streams(&mut self) {
        let deletes = self.catalogue.len() == MOST_STREAMS
            || (self.catalogue.usable() > 1 && self.chaos.one_in(2));
        if deletes && self.catalogue.usable() < 2 {
            return;
        }
        if deletes {
            let id = self.catalogue.any(&mut self.chaos);
            self.catalogue.delete(id);
            self.history.delete(id);
            self.trace.line(format_args!("stream {id} is deleted"));
            // A shard that does not run learns it when it starts.
            self.server.command(Command::DeleteStream { request: id.into(), id: id.into() });
        } else {
            let keep = draw_keep(&mut self.cold);
            let id = self.history.create(keep);
            let entry = self.catalogue.create(id, keep, &mut self.chaos);
            self.history.limit(id, entry.rules);
            self.trace.line(format_args!("stream {id} is created"));
            self.server.command(Command::CreateStream { request: id.into(), entry });
        }
        self.injected.note(Kind::Streams, 1);
    }

    /// A stream for which the shard has no room is deleted again, as the control plane does.
    pub(crate) fn hear_replies(&mut self) {
        while let Some(reply) = self.server.reply() {
            let Reply::StreamCreated { request, result, .. } = reply else { continue };
            let id = request as u32;
            match result {
                Ok(()) => self.catalogue.is_ready(Some(id)),
                Err(error) => {
                    self.trace.line(format_args!("stream {id} is not taken: {error}"));
                    self.catalogue.delete(id);
                    self.history.delete(id);
                }
            }
        }
    }
}
