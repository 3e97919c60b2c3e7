//! A publisher: publishes what it may, and tells the oracle what it was told.

use std::collections::VecDeque;

use mstream_client::{
    Addresses, Client, Ended, Event, Identity, PublicationConfig, PublicationId, PublishError,
    SessionConfig, SessionId,
};
use mstream_nic::Port;
use mstream_nic::sim::Endpoint;
use mstream_wire::Code;

use crate::content::Content;
use crate::oracle::{Oracle, ensure};
use crate::random::Random;
use crate::server::stream_name;
use crate::trace::Trace;

/// What does not change over a publisher's lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    pub(crate) actor: u32,
    /// Publishes under the id that is its number; otherwise anonymously.
    pub(crate) named: bool,
    pub(crate) stream: u32,
}

pub(crate) struct Publisher<P: Port> {
    pub(crate) role: Role,
    pub(crate) life: u32,
    pub(crate) endpoint: Endpoint,
    client: Client<P>,
    publication: PublicationId,
    /// Last serial of an anonymous publisher.
    serial: u64,
    /// Sequence and serial of an anonymous publisher's messages that are not acknowledged.
    waiting: VecDeque<(u64, u64)>,
    pub(crate) fenced: bool,
    pub(crate) opened: bool,
    largest_burst: u64,
}

/// What a client said, without borrowing from it.
enum Note {
    Opened { publisher: u64 },
    Stored(u64),
    Acknowledged { sequence: u64, offset: u64 },
    Unknown(u64),
    Fenced,
    Lost(mstream_client::Lost),
    Delayed,
    Wrong(String),
}

fn note(event: Event<'_>) -> Note {
    match event {
        Event::SessionOpened { publisher, .. } => Note::Opened { publisher },
        Event::PublicationOpened { sequence, .. } => Note::Stored(sequence),
        Event::Acknowledged { sequence, offset, .. } => Note::Acknowledged { sequence, offset },
        Event::OutcomeUnknown { last, .. } => Note::Unknown(last),
        Event::SessionLost { why, .. } => Note::Lost(why),
        Event::Delayed { .. } => Note::Delayed,
        Event::SessionFailed { code: Code::Fenced, .. }
        | Event::PublicationEnded { why: Ended::Session(Code::Fenced), .. } => Note::Fenced,
        other => Note::Wrong(format!("{other:?}")),
    }
}

impl<P: Port> Publisher<P> {
    pub(crate) fn new(
        role: Role,
        life: u32,
        serial: u64,
        (endpoint, port, addresses): (Endpoint, P, Addresses),
        random: &mut Random,
    ) -> Publisher<P> {
        let mut client = Client::new(port, addresses, random.key());
        let identity =
            if role.named { Identity::Publisher(role.actor.into()) } else { Identity::Anonymous };
        let config = SessionConfig { identity, max_beat_ms: random.within(20..=2_000) as u32 };
        let session: SessionId = client.open_session(config);
        let config = PublicationConfig {
            window_bytes: random.within(3..=64) as usize * 1280,
            window_batches: random.within(2..=64) as usize,
            max_batch: random.within(1..=40) as u16,
        };
        let publication =
            client.open_publication(session, stream_name(role.stream).as_str(), &config);
        Publisher {
            role,
            life,
            endpoint,
            client,
            publication,
            serial,
            waiting: VecDeque::new(),
            fenced: false,
            opened: false,
            largest_burst: random.within(1..=30),
        }
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    fn content(&self, serial: u64) -> Content {
        Content { actor: self.role.actor, life: self.life, serial }
    }

    /// Publishes a random number of messages, as far as the client takes them.
    pub(crate) fn publish(&mut self, random: &mut Random, trace: &mut Trace) -> Result<(), String> {
        let wanted = random.within(1..=self.largest_burst);
        let mut taken = 0;
        for _ in 0..wanted {
            let next = self.client.sequences(self.publication).1;
            let serial = if self.role.named { next } else { self.serial + 1 };
            let content = self.content(serial);
            let (key, headers, payload) = content.parts();
            match self.client.publish(self.publication, &key, &headers, &payload) {
                Ok(sequence) => {
                    ensure!(sequence == next, "{content} got sequence {sequence}, not {next}");
                    taken += 1;
                    if !self.role.named {
                        self.serial = serial;
                        self.waiting.push_back((sequence, serial));
                    }
                }
                Err(PublishError::BackPressured | PublishError::NotConnected) => break,
                Err(PublishError::Fenced) if self.fenced => break,
                Err(error) => return Err(format!("{content} was not taken: {error}")),
            }
        }
        if taken > 0 {
            trace.line(format_args!("publisher {} took {taken}", self.role.actor));
        }
        if !random.one_in(3) {
            self.client.flush();
        }
        Ok(())
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        self.client.flush();
    }

    /// Polls the client and checks what it says. True when a message became acknowledged.
    pub(crate) fn poll(&mut self, oracle: &mut Oracle, trace: &mut Trace) -> Result<bool, String> {
        let mut notes = Vec::new();
        self.client.poll(trace.now_ns, |event| notes.push(note(event)));
        let mut acknowledged = false;
        for note in notes {
            self.told(note, oracle, trace, &mut acknowledged)?;
        }
        Ok(acknowledged)
    }

    fn told(
        &mut self,
        note: Note,
        oracle: &mut Oracle,
        trace: &mut Trace,
        acknowledged: &mut bool,
    ) -> Result<(), String> {
        let Role { actor, named, stream } = self.role;
        match note {
            Note::Opened { publisher } => {
                trace.line(format_args!("publisher {actor}/{} open as {publisher:#x}", self.life));
                self.opened = true;
                oracle.opened(actor, publisher)
            }
            Note::Stored(sequence) => {
                trace.line(format_args!("publisher {actor}/{} has {sequence} stored", self.life));
                if named { oracle.stored(actor, sequence) } else { Ok(()) }
            }
            Note::Acknowledged { sequence, offset } => {
                *acknowledged = true;
                trace.line(format_args!(
                    "publisher {actor}/{} acknowledged {sequence} below {offset}",
                    self.life
                ));
                let mut serial = sequence;
                if !named {
                    let mut last = None;
                    while self.waiting.front().is_some_and(|(waits, _)| *waits <= sequence) {
                        last = self.waiting.pop_front();
                    }
                    let Some((_, waited)) = last.filter(|(waits, _)| *waits == sequence) else {
                        return Err(format!("{actor}: sequence {sequence} was acknowledged twice"));
                    };
                    serial = waited;
                }
                oracle.acknowledged(stream, self.content(serial), offset)
            }
            Note::Unknown(last) => {
                trace.line(format_args!("publisher {actor}: outcome up to {last} unknown"));
                ensure!(!named, "publisher {actor} has a name and an unknown outcome");
                ensure!(
                    self.waiting.back().is_some_and(|(sequence, _)| *sequence == last),
                    "publisher {actor} was told of other unknown outcomes than it has"
                );
                self.waiting.clear();
                Ok(())
            }
            Note::Lost(why) => {
                trace.line(format_args!(
                    "publisher {actor}/{} lost its session: {why:?}",
                    self.life
                ));
                Ok(())
            }
            Note::Fenced => {
                trace.line(format_args!("publisher {actor}/{} fenced", self.life));
                self.fenced = true;
                ensure!(
                    oracle.life(actor) > self.life,
                    "publisher {actor}/{} was fenced and is the newest life",
                    self.life
                );
                Ok(())
            }
            Note::Delayed => Ok(()),
            Note::Wrong(event) => Err(format!("publisher {actor}/{}: {event}", self.life)),
        }
    }

    /// Everything that was taken is acknowledged.
    pub(crate) fn is_settled(&self) -> bool {
        let (acknowledged, next) = self.client.sequences(self.publication);
        self.fenced || (self.client.is_open(self.publication) && acknowledged + 1 == next)
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
