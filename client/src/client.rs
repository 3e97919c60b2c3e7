//! The client: a port, its sessions, and one poll that drives them all.

use mstream_nic::{Frame, Port, PortStats};
use mstream_wire::{Code, Datagram, Frame as Wire, NO_HANDLE, NO_SLOT, Unsubscribe};

use crate::event::{Ended, Event, Lost, PublicationId, PublishError, SessionId, SubscriptionId};
use crate::link::{Addresses, Link, LinkCounters};
use crate::publication::{Publication, PublicationConfig};
use crate::session::{Change, Session, SessionConfig};
use crate::stream::StreamRef;
use crate::subscription::{From, Position, Subscription};

/// While nothing is heard the port looks after itself this often.
const MAINTAIN_NS: u64 = 10_000_000;

/// While nothing comes and nothing waits, timers are looked at this often.
const DRIVE_NS: u64 = 5_000;

/// Sessions with one shard over one port.
///
/// There is no thread behind it: [`Client::poll`] does everything, at the time that it is given. Once
/// sessions, publications and subscriptions are made, nothing here allocates.
pub struct Client<P: Port> {
    link: Link<P>,
    sessions: Vec<Session>,
    publications: Vec<Publication>,
    subscriptions: Vec<Subscription>,
    /// Numbers of subscribe requests that were given out.
    requests: u32,
    key: [u8; 16],
    now_ns: u64,
    driven_ns: u64,
    /// Something waits for room in the port, or for credit.
    unsent: bool,
    heard_ns: u64,
    maintained_ns: u64,
}

impl<P: Port> Client<P> {
    /// A client at one end of `port`. `key` is 16 secret random bytes, never used for another client.
    pub fn new(port: P, addresses: Addresses, key: [u8; 16]) -> Client<P> {
        Client {
            link: Link::new(port, addresses),
            sessions: Vec::new(),
            publications: Vec::new(),
            subscriptions: Vec::new(),
            requests: 0,
            key,
            now_ns: 0,
            driven_ns: 0,
            unsent: false,
            heard_ns: 0,
            maintained_ns: 0,
        }
    }

    /// Adds a session; it is set up by polling.
    pub fn open_session(&mut self, config: SessionConfig) -> SessionId {
        self.unsent = true;
        let mut key = self.key;
        // Each session draws its own numbers from the client's secret.
        for (byte, place) in key.iter_mut().zip((self.sessions.len() as u64 + 1).to_le_bytes()) {
            *byte ^= place;
        }
        self.sessions.push(Session::new(config, key));
        SessionId(self.sessions.len() - 1)
    }

    /// Opens a stream for publishing in a session.
    ///
    /// # Panics
    /// If the session is another client's.
    pub fn open_publication(
        &mut self,
        session: SessionId,
        stream: impl Into<StreamRef>,
        config: &PublicationConfig,
    ) -> PublicationId {
        assert!(session.0 < self.sessions.len(), "a session of this client");
        self.unsent = true;
        let id = PublicationId(self.publications.len());
        self.publications.push(Publication::new(id, session.0, stream.into(), config));
        id
    }

    /// Subscribes to a stream in a session; the shard may send `window` messages beyond what was
    /// taken.
    ///
    /// # Panics
    /// If the session is another client's.
    pub fn subscribe(
        &mut self,
        session: SessionId,
        stream: impl Into<StreamRef>,
        from: From,
        window: u64,
    ) -> SubscriptionId {
        assert!(session.0 < self.sessions.len(), "a session of this client");
        self.unsent = true;
        let id = SubscriptionId(self.subscriptions.len());
        self.requests = self.requests.wrapping_add(1);
        let (request, stream) = (self.requests, stream.into());
        let subscription = Subscription::new(id, session.0, request, stream, from, window);
        self.subscriptions.push(subscription);
        id
    }

    /// Moves a subscription, also one that stopped.
    pub fn seek(&mut self, subscription: SubscriptionId, from: From) {
        self.requests = self.requests.wrapping_add(1);
        self.subscriptions[subscription.0].seek(self.requests, from);
        self.unsent = true;
    }

    /// Where a subscription stands, once that is known.
    pub fn position(&self, subscription: SubscriptionId) -> Option<Position> {
        self.subscriptions[subscription.0].position()
    }

    /// Takes a message; returns its sequence. It is sent when its batch is full or with
    /// [`Client::flush`].
    ///
    /// # Errors
    /// Why it was not taken; nothing was changed then.
    #[inline]
    pub fn publish(
        &mut self,
        publication: PublicationId,
        key: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> Result<u64, PublishError> {
        let fill = |room: &mut [u8]| room.copy_from_slice(payload);
        self.publish_with(publication, key, headers, payload.len(), fill)
    }

    /// As [`Client::publish`] with a payload of `payload` bytes that `fill` writes in place.
    ///
    /// # Errors
    /// Why it was not taken; nothing was changed then.
    #[inline]
    pub fn publish_with(
        &mut self,
        publication: PublicationId,
        key: &[u8],
        headers: &[u8],
        payload: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<u64, PublishError> {
        let publication = &mut self.publications[publication.0];
        let session = &self.sessions[publication.session];
        publication.publish_with(session.max_block, key, headers, payload, fill).map_err(|error| {
            match session.failure() {
                Some(Code::Fenced) => PublishError::Fenced,
                Some(code) => PublishError::Refused(code),
                None => error,
            }
        })
    }

    /// Sends what was published, as far as credit and port allow; polls send the rest.
    #[inline]
    pub fn flush(&mut self) {
        for publication in &mut self.publications {
            publication.flush();
            let session = &mut self.sessions[publication.session];
            publication.send(self.now_ns, session, &mut self.link);
        }
        self.link.port.flush();
    }

    /// The last sequence of a publication that is durable, and the one that its next message gets.
    pub fn sequences(&self, publication: PublicationId) -> (u64, u64) {
        let publication = &self.publications[publication.0];
        (publication.acknowledged(), publication.next_sequence())
    }

    /// True while a publication takes messages.
    pub fn is_open(&self, publication: PublicationId) -> bool {
        self.publications[publication.0].is_open()
    }

    /// Counts of what was not used.
    pub fn counters(&self) -> LinkCounters {
        self.link.counters
    }

    /// Counts of the port.
    pub fn port_stats(&self) -> PortStats {
        self.link.port.stats()
    }

    /// The port.
    pub fn port(&self) -> &P {
        &self.link.port
    }

    /// Takes a burst of frames, does what is due at `now_ns` (a clock in ns that never goes back) and
    /// sends what may be sent. `on` is told what happened. Returns how many frames came.
    #[inline]
    pub fn poll(&mut self, now_ns: u64, mut on: impl FnMut(Event<'_>)) -> usize {
        self.now_ns = now_ns;
        let came = self.link.receive();
        while let Some((frame, payload)) = self.link.next() {
            self.heard_ns = now_ns;
            let payload = frame.bytes().get(payload).unwrap_or_default();
            self.datagram(payload, &mut on);
        }
        if came > 0 || self.unsent || now_ns >= self.driven_ns + DRIVE_NS {
            self.drive(&mut on);
            self.link.port.flush();
        }
        if now_ns >= self.heard_ns + MAINTAIN_NS && now_ns >= self.maintained_ns + MAINTAIN_NS {
            self.maintained_ns = now_ns;
            self.link.port.maintain();
        }
        came
    }

    /// Tells the shard that all sessions end. What was not acknowledged may or may not be stored.
    pub fn close(&mut self) {
        for session in &mut self.sessions {
            session.close(&mut self.link);
        }
        self.link.port.flush();
    }

    fn drive(&mut self, on: &mut impl FnMut(Event<'_>)) {
        let now_ns = self.now_ns;
        self.driven_ns = now_ns;
        self.unsent = false;
        for index in 0..self.sessions.len() {
            let subscriptions = &self.subscriptions;
            let change = self.sessions[index].drive(now_ns, &mut self.link, |writer| {
                for subscription in subscriptions.iter().filter(|s| s.session == index) {
                    subscription.add_credit(writer);
                }
            });
            self.changed(index, &change, on);
        }
        for subscription in &mut self.subscriptions {
            let session = &mut self.sessions[subscription.session];
            subscription.drive(now_ns, session, &mut self.link);
        }
        for publication in &mut self.publications {
            let session = &mut self.sessions[publication.session];
            publication.drive(now_ns, session, &mut self.link);
            self.unsent |= publication.has_unsent();
        }
    }

    /// What a change of a session means for what hangs on it.
    fn changed(&mut self, index: usize, change: &Change, on: &mut impl FnMut(Event<'_>)) {
        let session = &self.sessions[index];
        match *change {
            Change::None => {}
            Change::Opened => on(Event::SessionOpened {
                session: SessionId(index),
                publisher: session.publisher,
                incarnation: session.incarnation,
                level: session.level,
            }),
            Change::Lost(why) => {
                on(Event::SessionLost { session: SessionId(index), why });
                let anonymous = session.is_anonymous();
                for publication in self.publications.iter_mut().filter(|p| p.session == index) {
                    publication.on_lost(anonymous, on);
                }
                for subscription in self.subscriptions.iter_mut().filter(|s| s.session == index) {
                    subscription.on_lost();
                }
            }
            Change::Delayed(code) => {
                on(Event::Delayed { session: SessionId(index), code });
            }
            Change::Failed(code, value) => {
                on(Event::SessionFailed { session: SessionId(index), code, value });
                for publication in self.publications.iter_mut().filter(|p| p.session == index) {
                    publication.end(Ended::Session(code), on);
                }
            }
        }
    }

    #[inline]
    fn datagram(&mut self, payload: &[u8], on: &mut impl FnMut(Event<'_>)) {
        let Ok(datagram) = Datagram::parse(payload) else {
            self.link.counters.malformed += 1;
            return;
        };
        let (slot, token) = (datagram.header.slot.get(), datagram.header.token.get());
        let known = self.sessions.iter().position(|session| session.owns(slot, token));
        let Some(index) = known.filter(|_| slot != NO_SLOT) else {
            self.outside(&datagram, on);
            return;
        };
        let epoch = datagram.header.epoch.get();
        let now_ns = self.now_ns;
        for frame in datagram.frames() {
            let mut stray = None;
            // An error that names the session is the one thing that does not show that it lives.
            if let Wire::Error(error, _) = frame {
                let change = self.sessions[index].on_error(error.code.get(), error.value.get());
                self.changed(index, &change, on);
                return;
            }
            let session = &mut self.sessions[index];
            session.heard(epoch);
            let mut publications = self.publications.iter_mut().filter(|p| p.session == index);
            let mut subscriptions = self.subscriptions.iter_mut().filter(|s| s.session == index);
            match frame {
                Wire::Deliver(data) => {
                    let handle = data.header.handle.get();
                    if let Some(subscription) = subscriptions.find(|s| s.has_handle(handle)) {
                        if !subscription.on_deliver(epoch, &data, on) {
                            self.link.counters.malformed += 1;
                        }
                        session.busy(now_ns);
                    }
                }
                Wire::Ack(ack) => {
                    let handle = ack.handle.get();
                    if let Some(publication) = publications.find(|p| p.has_handle(handle)) {
                        publication.on_ack(now_ns, session, ack, on);
                    }
                }
                Wire::Credit(credit) if credit.handle.get() == NO_HANDLE => {
                    session.credit = session.credit.max(credit.limit.get());
                }
                Wire::Beat(beat) => {
                    let handle = beat.handle.get();
                    if let Some(subscription) = subscriptions.find(|s| s.has_handle(handle)) {
                        subscription.on_beat(beat);
                    } else if handle != NO_HANDLE && !self.is_asking(index) {
                        stray = Some(handle);
                    }
                }
                Wire::StreamOpened(opened) => {
                    let request = opened.request.get();
                    if let Some(publication) = publications.find(|p| p.request == request) {
                        publication.on_opened(session, opened, on);
                    }
                }
                Wire::Subscribed(answer) => {
                    let request = answer.request.get();
                    let known = subscriptions.find(|s| s.request == request);
                    let deleted = answer.code.get() == Code::UnknownStream as u16;
                    let handle = answer.handle.get();
                    if session.gave_up(handle) {
                        stray = Some(handle);
                    } else if let Some(subscription) = known {
                        subscription.on_subscribed(session, answer, on);
                        if deleted && handle != NO_HANDLE {
                            stray = Some(handle);
                        }
                    } else if handle != NO_HANDLE {
                        stray = Some(handle);
                    }
                }
                Wire::Skip(skip) => {
                    let handle = skip.handle.get();
                    if let Some(subscription) = subscriptions.find(|s| s.has_handle(handle)) {
                        subscription.on_skip(epoch, skip, on);
                    }
                }
                Wire::Close(_) => {
                    let change = session.lose(Lost::Closed);
                    self.changed(index, &change, on);
                    return;
                }
                _ => {}
            }
            if let Some(handle) = stray {
                self.give_up(index, handle);
            }
        }
    }

    /// True while it is not known which handles the shard gave to a session's subscriptions.
    fn is_asking(&self, session: usize) -> bool {
        self.subscriptions.iter().any(|s| s.session == session && s.is_asking())
    }

    /// Ends what the shard holds and no subscription means any more: one that moved elsewhere while the answer was under
    /// way, or was asked for again by a datagram that came late.
    #[cold]
    fn give_up(&mut self, index: usize, handle: u32) {
        self.sessions[index].give_up(handle);
        let header = self.sessions[index].next_header();
        self.link.send(&header, |writer| {
            writer.unsubscribe(&Unsubscribe { head: Unsubscribe::HEAD, handle: handle.into() });
        });
    }

    /// A datagram of no open session: an answer in set-up.
    #[cold]
    fn outside(&mut self, datagram: &Datagram<'_>, on: &mut impl FnMut(Event<'_>)) {
        let Some(frame) = datagram.frames().next() else { return };
        let nonce = match frame {
            Wire::Cookie(cookie) => cookie.nonce.get(),
            Wire::Opened(opened) => opened.nonce.get(),
            Wire::Error(error, _) => error.nonce.get(),
            _ => 0,
        };
        let Some(index) = self.sessions.iter().position(|session| session.has_nonce(nonce)) else {
            self.link.counters.unknown_session += 1;
            return;
        };
        let session = &mut self.sessions[index];
        let change = match frame {
            Wire::Cookie(cookie) => {
                session.on_cookie(cookie);
                Change::None
            }
            Wire::Opened(opened) => session.on_opened(self.now_ns, datagram.header, opened),
            Wire::Error(error, _) => session.on_error(error.code.get(), error.value.get()),
            _ => Change::None,
        };
        self.changed(index, &change, on);
    }
}

impl<P: Port> std::fmt::Debug for Client<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("sessions", &self.sessions.len())
            .field("publications", &self.publications.len())
            .field("subscriptions", &self.subscriptions.len())
            .finish_non_exhaustive()
    }
}
