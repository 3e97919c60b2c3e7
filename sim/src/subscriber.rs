//! A subscriber: takes what it is given and compares it with the log.

use mstream_client::{
    Addresses, Client, Event, From, Identity, Position, SessionConfig, Stop, SubscriptionId,
};
use mstream_nic::Port;
use mstream_nic::sim::Endpoint;

use crate::content::Content;
use crate::oracle::{Entry, Oracle, ensure};
use crate::random::Random;
use crate::server::stream_name;
use crate::trace::Trace;

pub(crate) struct Subscriber<P: Port> {
    pub(crate) number: u32,
    pub(crate) stream: u32,
    pub(crate) endpoint: Endpoint,
    client: Client<P>,
    subscription: SubscriptionId,
    /// The next offset, once known.
    next: Option<u64>,
    /// Where it must start when it asked for another place than an offset: at or behind this.
    least: u64,
    /// Does not poll before this time.
    pub(crate) paused_until: u64,
    /// Polls once in this many turns.
    pub(crate) slowness: u64,
}

enum Note {
    Subscribed { start: u64 },
    Message { offset: u64, entry: Option<Entry> },
    OffsetGone(u64),
    Quiet,
    Wrong(String),
}

fn note(event: Event<'_>) -> Note {
    match event {
        Event::Subscribed { start, .. } => Note::Subscribed { start },
        Event::Message { offset, publisher, message, .. } => {
            let entry = Content::read(&message).map(|content| Entry { content, publisher });
            Note::Message { offset, entry }
        }
        Event::SubscriptionStopped { why: Stop::OffsetGone { earliest }, .. } => {
            Note::OffsetGone(earliest)
        }
        Event::SessionOpened { .. } | Event::SessionLost { .. } | Event::Delayed { .. } => {
            Note::Quiet
        }
        other => Note::Wrong(format!("{other:?}")),
    }
}

/// Where a subscriber goes on after its client died.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resume {
    pub(crate) next: u64,
    pub(crate) position: Option<Position>,
}

impl<P: Port> Subscriber<P> {
    pub(crate) fn new(
        number: u32,
        stream: u32,
        resume: Option<Resume>,
        (endpoint, port, addresses): (Endpoint, P, Addresses),
        oracle: &Oracle,
        random: &mut Random,
    ) -> Subscriber<P> {
        let mut client = Client::new(port, addresses, random.key());
        let max_beat_ms = random.within(20..=2_000) as u32;
        let session =
            client.open_session(SessionConfig { identity: Identity::Anonymous, max_beat_ms });
        let from = match resume {
            Some(Resume { position: Some(position), .. }) => From::Position(position),
            Some(Resume { next, .. }) => From::Offset(next),
            None if random.one_in(4) => From::Latest,
            None => From::Earliest,
        };
        let window = random.within(2..=256);
        let name = stream_name(stream);
        let subscription = client.subscribe(session, name.as_str(), from, window);
        let (_, promised, earliest) = oracle.bounds(stream);
        Subscriber {
            number,
            stream,
            endpoint,
            client,
            subscription,
            next: resume.map(|resume| resume.next),
            least: if from == From::Latest { promised } else { earliest },
            paused_until: 0,
            slowness: 1,
        }
    }

    /// Where another client would go on.
    pub(crate) fn resume(&self) -> Option<Resume> {
        self.next.map(|next| Resume { next, position: self.client.position(self.subscription) })
    }

    /// Moves to another place.
    pub(crate) fn seek(&mut self, from: From, oracle: &Oracle, trace: &mut Trace) {
        trace.line(format_args!("subscriber {} seeks {from:?}", self.number));
        let (_, promised, earliest) = oracle.bounds(self.stream);
        self.least = if from == From::Latest { promised } else { earliest };
        self.next = match from {
            From::Offset(offset) => Some(offset),
            _ => None,
        };
        self.client.seek(self.subscription, from);
    }

    /// Polls the client and checks what it says. True when a message came.
    pub(crate) fn poll(&mut self, oracle: &mut Oracle, trace: &mut Trace) -> Result<bool, String> {
        let mut notes = Vec::new();
        self.client.poll(trace.now_ns, |event| notes.push(note(event)));
        let mut came = false;
        for note in notes {
            came |= matches!(note, Note::Message { .. });
            self.told(note, oracle, trace)
                .map_err(|error| format!("subscriber {}: {error}", self.number))?;
        }
        Ok(came)
    }

    fn told(&mut self, note: Note, oracle: &mut Oracle, trace: &mut Trace) -> Result<(), String> {
        let (number, stream) = (self.number, self.stream);
        match note {
            Note::Subscribed { start } => {
                trace.line(format_args!("subscriber {number} starts at {start}"));
                let (end, ..) = oracle.bounds(stream);
                let next = *self.next.get_or_insert(start);
                ensure!(start == next, "starts at {start}, {next} is next");
                ensure!(
                    start >= self.least && start <= end,
                    "starts at {start}, not within {}..={end}",
                    self.least
                );
                Ok(())
            }
            Note::Message { offset, entry } => {
                let Some(entry) = entry else {
                    return Err(format!("offset {offset} holds what nobody published"));
                };
                trace.line(format_args!("subscriber {number} got {offset}: {}", entry.content));
                ensure!(self.next == Some(offset), "offset {offset} came, {:?} is next", self.next);
                self.next = Some(offset + 1);
                oracle.delivered(stream, offset, entry)
            }
            Note::OffsetGone(first) => {
                trace.line(format_args!("subscriber {number}: offset gone, {first} is the first"));
                let (_, _, earliest) = oracle.bounds(stream);
                let next = self.next.unwrap_or(0);
                ensure!(
                    next < first && first <= earliest,
                    "told that offset {next} is gone and {first} the first; it is {earliest}"
                );
                self.seek(From::Earliest, oracle, trace);
                Ok(())
            }
            Note::Quiet => Ok(()),
            Note::Wrong(event) => Err(event),
        }
    }

    /// Everything in the log was read.
    pub(crate) fn is_settled(&self, oracle: &Oracle) -> bool {
        self.next == Some(oracle.bounds(self.stream).0)
    }

    pub(crate) fn close(&mut self) {
        self.client.close();
    }

    /// Buffers of the port that are not free.
    pub(crate) fn frames_out(&self) -> usize {
        self.client.port().frames_out()
    }
}

impl<P: Port> std::fmt::Display for Subscriber<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let position = self.client.position(self.subscription);
        write!(f, "subscriber {} next {:?} position {position:?}", self.number, self.next)
    }
}
