//! The lane through an appliance: a publisher's session and a subscriber's, in one client.

use std::time::{Duration, Instant};

use mstream_client::{
    Client, Event, From, Identity, PublicationConfig, PublicationId, PublishError, SessionConfig,
    SessionId, StreamRef,
};
use mstream_nic::Port;

use super::clock::Clock;
use super::lane::Lane;
use crate::Failure;
use crate::interrupt::Interrupt;
use crate::pattern::Pattern;
use crate::tally::{Faults, Tally};

/// Messages that the appliance may deliver beyond what was taken: more than are ever under way.
const SUBSCRIPTION_WINDOW: u64 = 1 << 20;
/// How long setting up may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a warm-up message.
const WARM_UP_BYTES: usize = 1272;

/// What the events of set-up told.
#[derive(Debug, Default)]
struct Told {
    publisher: u64,
    level: u8,
    subscribed: bool,
    /// Messages of other publishers.
    foreign: u64,
    trouble: Option<Failure>,
}

/// The lane.
pub(crate) struct AppLane<P: Port> {
    client: Client<P>,
    clock: Clock,
    session: SessionId,
    publication: PublicationId,
    pattern: Pattern,
    tally: Tally,
    told: Told,
    /// The client's clock stood still for so long, while the appliance was stopped.
    paused_ns: u64,
}

impl<P: Port> AppLane<P> {
    /// Opens `stream` for publishing in datagrams of `batch` and subscribes to it behind its end.
    pub(crate) fn open(
        mut client: Client<P>,
        stream: &StreamRef,
        batch: u16,
        pattern: Pattern,
        clock: Clock,
        interrupt: &Interrupt,
    ) -> Result<AppLane<P>, Failure> {
        let session = client.open_session(SessionConfig::new(Identity::Anonymous));
        let reading = client.open_session(SessionConfig::new(Identity::Anonymous));
        let config = PublicationConfig { max_batch: batch, ..PublicationConfig::default() };
        let publication = client.open_publication(session, stream.clone(), &config);
        client.subscribe(reading, stream.clone(), From::Latest, SUBSCRIPTION_WINDOW);
        let (tally, told) = (Tally::new(0), Told::default());
        let mut lane =
            AppLane { client, clock, session, publication, pattern, tally, told, paused_ns: 0 };
        lane.wait(interrupt, "the appliance does not answer", |lane| {
            lane.told.subscribed && lane.client.is_open(publication)
        })?;
        Ok(lane)
    }

    /// Polls until something is so.
    fn wait(
        &mut self,
        interrupt: &Interrupt,
        otherwise: &str,
        mut done: impl FnMut(&mut AppLane<P>) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            if self.poll(self.clock.now_ns(), |_| {}) == 0 {
                // The appliance's control threads may need this core.
                std::thread::sleep(Duration::from_micros(20));
            }
            interrupt.check()?;
            if let Some(trouble) = &self.told.trouble {
                return Err(trouble.clone());
            }
            if Instant::now() > deadline {
                return Err(otherwise.to_string());
            }
        }
        Ok(())
    }

    /// Publishes `bytes` to a stream that nobody reads: every segment of a log of that size was used then,
    /// and none is made while something is measured.
    pub(crate) fn warm_up(
        &mut self,
        stream: &StreamRef,
        bytes: u64,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let config = PublicationConfig::default();
        let publication = self.client.open_publication(self.session, stream.clone(), &config);
        let end = bytes.div_ceil(WARM_UP_BYTES as u64);
        self.wait(interrupt, "the log's first turn does not end", |lane| {
            let (acknowledged, mut next) = lane.client.sequences(publication);
            while next <= end
                && lane.client.publish(publication, b"", b"", &[0; WARM_UP_BYTES]).is_ok()
            {
                next += 1;
            }
            lane.client.flush();
            acknowledged >= end
        })
    }

    /// The client's clock stood still for `ns`.
    pub(crate) fn paused(&mut self, ns: u64) {
        self.paused_ns += ns;
    }

    /// Number of the durability level (`docs/protocol.md` section 4.3).
    pub(crate) fn level(&self) -> u8 {
        self.told.level
    }

    /// What was wrong with the messages, of which `sent` were sent.
    pub(crate) fn faults(&self, sent: u64) -> Faults {
        self.tally.faults(sent)
    }

    /// Messages that came.
    pub(crate) fn messages(&self) -> u64 {
        self.tally.messages()
    }

    /// Messages of other publishers that came.
    pub(crate) fn foreign(&self) -> u64 {
        self.told.foreign
    }

    /// Tells the appliance that it was all.
    pub(crate) fn close(mut self) {
        self.client.close();
    }
}

impl<P: Port> Lane for AppLane<P> {
    const GIVES_UP_NS: Option<u64> = None;

    #[inline]
    fn send(&mut self, first: u64, count: u16) -> u16 {
        let AppLane { client, publication, pattern, told, .. } = self;
        for sent in 0..count {
            let number = first + u64::from(sent);
            let fill = |room: &mut [u8]| pattern.fill(number, room);
            match client.publish_with(*publication, b"", b"", pattern.size(), fill) {
                Ok(_) => {}
                Err(PublishError::BackPressured) => return sent,
                Err(error) => {
                    told.trouble.get_or_insert_with(|| error.to_string());
                    return sent;
                }
            }
        }
        count
    }

    #[inline]
    fn flush(&mut self) {
        self.client.flush();
    }

    #[inline]
    fn poll(&mut self, now_ns: u64, mut on: impl FnMut(u64)) -> usize {
        let AppLane { client, publication, session, pattern, tally, told, paused_ns, .. } = self;
        client.poll(now_ns - *paused_ns, |event| match event {
            Event::Message { publisher, message, .. } => {
                if publisher != told.publisher {
                    told.foreign += 1;
                    return;
                }
                let number = match pattern.number_in(message.payload) {
                    Some(number) => number,
                    None => tally.mismatched(),
                };
                tally.came(number);
                on(number);
            }
            Event::Acknowledged { .. } => {}
            event => told.event(&event, *session, *publication),
        })
    }

    fn trouble(&self) -> Option<&str> {
        self.told.trouble.as_deref()
    }
}

impl Told {
    #[cold]
    fn event(&mut self, event: &Event<'_>, session: SessionId, publication: PublicationId) {
        let trouble = match *event {
            Event::SessionOpened { session: opened, publisher, level, .. } => {
                if opened == session {
                    (self.publisher, self.level) = (publisher, level);
                }
                return;
            }
            Event::Subscribed { .. } => {
                self.subscribed = true;
                return;
            }
            Event::SessionLost { why, .. } => {
                format!("the appliance was lost while it was measured: {why:?}")
            }
            Event::SessionFailed { code, .. } => format!("session refused: {code}"),
            Event::Refused { code, sequence, .. } => format!("message {sequence} refused: {code}"),
            Event::PublicationEnded { publication: ended, why } => {
                let which = if ended == publication { "" } else { "warm-up " };
                format!("{which}publication ended: {why:?}")
            }
            Event::Skipped { from, to, .. } => format!("offsets {from} to {to} have no content"),
            Event::SubscriptionStopped { why, .. } => format!("subscription stopped: {why:?}"),
            Event::OutcomeUnknown { .. }
            | Event::Delayed { .. }
            | Event::PublicationOpened { .. }
            | Event::Message { .. }
            | Event::Acknowledged { .. } => return,
        };
        self.trouble.get_or_insert(trouble);
    }
}
