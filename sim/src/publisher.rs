//! A publisher: publishes what it may, and what it is told is looked at.

use std::collections::VecDeque;

use mstream_client::{
    Client, Ended, Event, Identity, Lost, PublicationConfig, PublicationId, PublishError,
    SessionConfig, SessionId,
};
use mstream_nic::Port;
use mstream_nic::sim::Endpoint;
use mstream_wire::Code;

use crate::catalogue::stream_name;
use crate::clients::{Attached, Pace};
use crate::content::{Content, Draft};
use crate::history::History;
use crate::invariants::{Broken, Check, diverged, ensure, order, told};
use crate::random::Random;
use crate::trace::Trace;

/// What does not change over a publisher's lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    pub(crate) actor: u16,
    /// Publishes under the id that is its number; otherwise anonymously.
    pub(crate) named: bool,
    pub(crate) stream: u32,
}

/// How a publisher's client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// A newer life of it exists.
    Fenced,
    /// Its stream was deleted.
    Deleted,
    /// The log lost what was acknowledged.
    Diverged,
}

pub(crate) struct Publisher<P: Port> {
    pub(crate) role: Role,
    pub(crate) life: u32,
    /// Its place in the network.
    pub(crate) host: u16,
    pub(crate) endpoint: Endpoint,
    pub(crate) pace: Pace,
    client: Client<P>,
    publication: PublicationId,
    /// Last serial of an anonymous publisher.
    serial: u64,
    /// Sequence and serial of an anonymous publisher's messages that are not acknowledged.
    waiting: VecDeque<(u64, u64)>,
    pub(crate) over: Option<Over>,
    pub(crate) opened: bool,
    largest_burst: u64,
    /// Is still to publish one message, as soon as it is taken.
    one_more: bool,
    notes: Vec<Note>,
    draft: Box<Draft>,
}

/// What a client said, without borrowing from it.
enum Note {
    Opened { publisher: u64, level: u8 },
    Stored(u64),
    Acknowledged { sequence: u64, offset: u64, level: u8 },
    Unknown(u64),
    Fenced,
    Deleted,
    Diverged { acknowledged: u64, stored: u64 },
    Lost(Lost),
    Delayed,
    Wrong(String),
}

fn note(event: Event<'_>) -> Note {
    match event {
        Event::SessionOpened { publisher, level, .. } => Note::Opened { publisher, level },
        Event::PublicationOpened { sequence, .. } => Note::Stored(sequence),
        Event::Acknowledged { sequence, offset, level, .. } => {
            Note::Acknowledged { sequence, offset, level }
        }
        Event::OutcomeUnknown { last, .. } => Note::Unknown(last),
        Event::SessionLost { why, .. } => Note::Lost(why),
        Event::Delayed { .. } => Note::Delayed,
        Event::SessionFailed { code: Code::Fenced, .. }
        | Event::PublicationEnded { why: Ended::Session(Code::Fenced), .. } => Note::Fenced,
        Event::PublicationEnded { why: Ended::Refused(Code::UnknownStream), .. } => Note::Deleted,
        Event::PublicationEnded { why: Ended::Diverged { acknowledged, stored }, .. } => {
            Note::Diverged { acknowledged, stored }
        }
        other => Note::Wrong(format!("{other:?}")),
    }
}

impl<P: Port> Publisher<P> {
    pub(crate) fn new(
        role: Role,
        life: u32,
        serial: u64,
        attached: Attached<P>,
        random: &mut Random,
    ) -> Publisher<P> {
        let Attached { number: host, endpoint, port, addresses, pace } = attached;
        let mut client = Client::new(port, addresses, random.key());
        let identity =
            if role.named { Identity::Publisher(role.actor.into()) } else { Identity::Anonymous };
        let config = SessionConfig { identity, max_beat_ms: random.within(20..=2_000) as u32 };
        let session: SessionId = client.open_session(config);
        let config = PublicationConfig {
            window_bytes: random.size(3..=64) as usize * 1280,
            window_batches: random.size(2..=64) as usize,
            max_batch: random.size(1..=40) as u16,
        };
        let publication =
            client.open_publication(session, stream_name(role.stream).as_str(), &config);
        Publisher {
            role,
            life,
            host,
            endpoint,
            pace,
            client,
            publication,
            serial,
            waiting: VecDeque::new(),
            over: None,
            opened: false,
            largest_burst: random.size(1..=30),
            one_more: false,
            notes: Vec::new(),
            draft: Box::new(Draft::new()),
        }
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    fn content(&self, serial: u64) -> Content {
        let Role { actor, stream, .. } = self.role;
        Content { actor, stream: stream as u16, life: self.life, serial }
    }

    /// Publishes a random number of messages, as far as the client takes them.
    pub(crate) fn publish(&mut self, random: &mut Random, trace: &mut Trace) -> Check {
        let wanted = random.within(1..=self.largest_burst);
        let flushes = !random.one_in(3);
        self.take(wanted, trace)?;
        if flushes {
            self.client.flush();
        }
        Ok(())
    }

    /// Publishes one message more, as soon as the client takes it.
    pub(crate) fn publish_one_more(&mut self) {
        self.one_more = true;
    }

    /// Hands messages to the client, as far as it takes them; how many those are.
    fn take(&mut self, wanted: u64, trace: &mut Trace) -> Result<u64, Broken> {
        if self.over.is_some() {
            return Ok(0);
        }
        let mut taken = 0;
        for _ in 0..wanted {
            let next = self.client.sequences(self.publication).1;
            let serial = if self.role.named { next } else { self.serial + 1 };
            let content = self.content(serial);
            let (key, headers, payload) = content.write(&mut self.draft);
            match self.client.publish(self.publication, key, headers, payload) {
                Ok(sequence) => {
                    ensure!(
                        told::NAME,
                        sequence == next,
                        "{content} got sequence {sequence}, not {next}"
                    );
                    taken += 1;
                    if !self.role.named {
                        self.serial = serial;
                        self.waiting.push_back((sequence, serial));
                    }
                }
                Err(PublishError::BackPressured | PublishError::NotConnected) => break,
                Err(error) => {
                    return Err(told::wrong(format_args!("{content}"), error));
                }
            }
        }
        if taken > 0 {
            trace.line(format_args!("publisher {} took {taken}", self.role.actor));
        }
        Ok(taken)
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        self.client.flush();
    }

    /// Polls the client and looks at what it says. True when a message became acknowledged.
    pub(crate) fn poll(
        &mut self,
        history: &mut History,
        trace: &mut Trace,
    ) -> Result<bool, Broken> {
        if self.one_more && self.take(1, trace)? > 0 {
            self.one_more = false;
            self.client.flush();
        }
        let mut notes = std::mem::take(&mut self.notes);
        self.client.poll(self.pace.time(trace.now_ns), |event| notes.push(note(event)));
        let mut acknowledged = false;
        for note in notes.drain(..) {
            self.told(note, history, trace, &mut acknowledged)?;
        }
        self.notes = notes;
        Ok(acknowledged)
    }

    fn told(
        &mut self,
        note: Note,
        history: &mut History,
        trace: &mut Trace,
        acknowledged: &mut bool,
    ) -> Check {
        let (Role { actor, named, stream }, life) = (self.role, self.life);
        match note {
            Note::Opened { publisher, level } => {
                trace.line(format_args!("publisher {actor}/{life} open as {publisher:#x}"));
                self.opened = true;
                told::level(format_args!("publisher {actor}/{life}"), level, history.level)?;
                history.opened(actor, publisher)
            }
            Note::Stored(sequence) => {
                trace.line(format_args!("publisher {actor}/{life} has {sequence} stored"));
                // An older life may be told late what was so before the newer one published.
                let newest = history.life(actor) == life;
                if named && newest { history.stored(actor, stream, sequence) } else { Ok(()) }
            }
            Note::Acknowledged { sequence, offset, level } => {
                *acknowledged = true;
                trace.line(format_args!(
                    "publisher {actor}/{life} acknowledged {sequence} below {offset}"
                ));
                let who = format_args!("publisher {actor}/{life}");
                told::level(who, level, history.level)?;
                let serial = if named { sequence } else { self.serial_of(sequence)? };
                history.acknowledged(stream, self.content(serial), offset)
            }
            Note::Unknown(last) => {
                trace.line(format_args!("publisher {actor}: outcome up to {last} unknown"));
                let waits = self.waiting.back().is_some_and(|(sequence, _)| *sequence == last);
                ensure!(
                    told::NAME,
                    !named && waits,
                    "publisher {actor} was told of other unknown outcomes than it has"
                );
                self.waiting.clear();
                Ok(())
            }
            Note::Lost(why) => {
                trace.line(format_args!("publisher {actor}/{life} lost its session: {why:?}"));
                Ok(())
            }
            Note::Fenced => {
                trace.line(format_args!("publisher {actor}/{life} fenced"));
                self.over.get_or_insert(Over::Fenced);
                // Where the records of both lives were lost, the one that claims last is the newest.
                if history.losses > 0 {
                    return Ok(());
                }
                order::fenced(actor, life, history.life(actor))
            }
            Note::Deleted => {
                trace.line(format_args!("publisher {actor}/{life}: stream {stream} deleted"));
                self.over.get_or_insert(Over::Deleted);
                let who = format_args!("publisher {actor}/{life}");
                told::unknown(who, stream, history.is_deleted(stream))
            }
            Note::Diverged { acknowledged, stored } => {
                trace.line(format_args!(
                    "publisher {actor}/{life} diverged: {acknowledged} acknowledged, {stored} stored"
                ));
                self.over.get_or_insert(Over::Diverged);
                // What a publisher had stored is said apart from its messages, and can be lost alone.
                diverged::said(format_args!("publisher {actor}/{life}"), history.losses)
            }
            Note::Delayed => Ok(()),
            Note::Wrong(event) => Err(told::wrong(format_args!("publisher {actor}/{life}"), event)),
        }
    }

    /// The serial of an anonymous publisher's message that was acknowledged.
    fn serial_of(&mut self, sequence: u64) -> Result<u64, Broken> {
        let mut last = None;
        while self.waiting.front().is_some_and(|(waits, _)| *waits <= sequence) {
            last = self.waiting.pop_front();
        }
        match last.filter(|(waits, _)| *waits == sequence) {
            Some((_, serial)) => Ok(serial),
            None => {
                let who = format_args!("publisher {}", self.role.actor);
                Err(told::wrong(who, format_args!("sequence {sequence} was acknowledged twice")))
            }
        }
    }

    /// Everything that was to be published was taken and is acknowledged.
    pub(crate) fn is_settled(&self) -> bool {
        let (acknowledged, next) = self.client.sequences(self.publication);
        let open = self.client.is_open(self.publication);
        self.over.is_some() || (open && acknowledged + 1 == next && !self.one_more)
    }

    pub(crate) fn close(&mut self) {
        self.client.close();
    }

    /// Buffers of the port that are not free.
    pub(crate) fn frames_out(&self) -> usize {
        self.client.port().frames_out()
    }
}

impl<P: Port> std::fmt::Display for Publisher<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (acknowledged, next) = self.client.sequences(self.publication);
        write!(
            f,
            "publisher {}/{} open {} acknowledged {acknowledged} next {next}",
            self.role.actor,
            self.life,
            self.client.is_open(self.publication)
        )
    }
}
