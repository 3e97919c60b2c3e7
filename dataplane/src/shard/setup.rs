//! Set-up: hello, cookie, open, and the publisher's life.

use mstream_nic::Frame;
use mstream_pmem::region::Region;
use mstream_pmem::wal::AppendError;
use mstream_wire::{
    Close, Code, Cookie, DATAGRAM_HEADER_BYTES, Datagram, DatagramHeader, ErrorHeader,
    HELLO_DATAGRAM_BYTES, OpenHeader, OpenStreamHeader, StreamOpened, SubscribeHeader, Subscribed,
    VERSION,
};

use super::pending::What;
use super::session::{Address, State, owes};
use super::{BEAT_MAX_NS, NONE, Now, Refusal, Shard};
use crate::Outbox;
use crate::planted::{Bug, planted};

/// The bit that marks ids of anonymous publishers.
pub(super) const ANONYMOUS: u64 = 1 << 63;

/// Most bytes of a credential.
const MAX_CREDENTIAL_BYTES: usize = 1024;

/// Who a session is, once its open was looked at.
enum Identity {
    /// Opens at once.
    Settled { publisher: u64, incarnation: u64 },
    /// Opens when the claim's record is durable.
    Claimed { publisher: u64, incarnation: u64, lsn: u64 },
}

impl<R: Region, F: Frame> Shard<R, F> {
    /// Handles a datagram outside any session.
    pub(super) fn set_up<O: Outbox<F> + ?Sized>(
        &mut self,
        now: Now,
        from: &Address,
        bytes: usize,
        datagram: &Datagram<'_>,
        out: &mut O,
    ) -> Result<(), Refusal> {
        use mstream_wire::Frame as Wire;
        match datagram.frames().next() {
            Some(Wire::Hello(hello)) if bytes == HELLO_DATAGRAM_BYTES => {
                let header = DatagramHeader::outside(0);
                let nonce = hello.nonce.get();
                if hello.lowest_version > VERSION || hello.highest_version < VERSION {
                    self.answer_error(
                        from,
                        &header,
                        bytes,
                        out,
                        Code::WrongVersion,
                        nonce,
                        VERSION.into(),
                    );
                    return Err(Refusal::SetUp);
                }
                let cookie = Cookie {
                    head: Cookie::HEAD,
                    version: VERSION,
                    reserved: [0; 3],
                    nonce: hello.nonce,
                    cookie: self.secret.cookie(now.mono_ns, from, nonce),
                };
                self.answer(from, &header, bytes, out, |writer| {
                    writer.cookie(&cookie);
                });
                Ok(())
            }
            Some(Wire::Open(open, credential)) => {
                let nonce = open.nonce.get();
                let made_ns = self.secret.made_ns(now.mono_ns, from, nonce, &open.cookie);
                let Some(made_ns) = made_ns else {
                    self.refuse_open(from, bytes, nonce, Code::BadCookie, out);
                    return Err(Refusal::Cookie);
                };
                let opened = match credential.len() {
                    0..=MAX_CREDENTIAL_BYTES => self.open(now, from, open, made_ns, out),
                    _ => Err(Code::TooLarge),
                };
                opened.map_err(|code| {
                    self.refuse_open(from, bytes, nonce, code, out);
                    Refusal::Open
                })
            }
            _ => Err(Refusal::SetUp),
        }
    }

    fn refuse_open<O: Outbox<F> + ?Sized>(
        &mut self,
        to: &Address,
        bytes: usize,
        nonce: u64,
        code: Code,
        out: &mut O,
    ) {
        let header = DatagramHeader::outside(0);
        self.answer_error(to, &header, bytes, out, code, nonce, 0);
    }

    fn open<O: Outbox<F> + ?Sized>(
        &mut self,
        now: Now,
        from: &Address,
        open: &OpenHeader,
        made_ns: u64,
        out: &mut O,
    ) -> Result<(), Code> {
        let nonce = open.nonce.get();
        if let Some(slot) = self.sessions.find(from, nonce) {
            match self.sessions[slot].state {
                State::Open => self.owe(slot, owes::OPENED),
                // Its life never becomes durable.
                _ if self.wal.poison().is_some() => return Err(Code::LogPoisoned),
                _ => {}
            }
            return Ok(());
        }
        if self.sessions.len() == self.sessions.slots() {
            return Err(Code::SessionsFull);
        }
        let identity = self.identify(now, open, made_ns)?;
        let (publisher, incarnation) = match identity {
            Identity::Settled { publisher, incarnation }
            | Identity::Claimed { publisher, incarnation, .. } => (publisher, incarnation),
        };
        self.sessions_made += 1;
        let token = self.secret.token(self.sessions_made);
        let slot =
            self.sessions.open(*from, nonce, token, now.mono_ns).ok_or(Code::SessionsFull)?;
        let timeout_ns = u64::from(self.limits.session_timeout_ms) * 1_000_000;
        let session = &mut self.sessions[slot];
        session.publisher = publisher;
        session.incarnation = incarnation;
        session.credit = self.limits.session_window_bytes;
        if planted(Bug::CreditNotRestored) && self.wal.epoch() > 1 {
            session.credit = 0;
        }
        session.beat_interval_ns = BEAT_MAX_NS;
        session.beat_ns = now.mono_ns + BEAT_MAX_NS.min(timeout_ns);
        self.timers.arm(slot, self.sessions[slot].beat_ns);
        self.counters.sessions_opened += 1;
        if publisher & ANONYMOUS == 0 {
            self.take_over(publisher, slot, out);
        }
        match identity {
            Identity::Settled { .. } => self.life_is_durable(slot, token),
            Identity::Claimed { lsn, .. } => {
                self.pending.push(lsn, What::Life { session: slot, token })
            }
        }
        Ok(())
    }

    /// Who an open is for; `made_ns` is when its cookie was made.
    fn identify(&mut self, now: Now, open: &OpenHeader, made_ns: u64) -> Result<Identity, Code> {
        let id = open.publisher.get();
        match open.identity {
            0 => {
                self.anonymous_made += 1;
                let counter = u64::from(self.anonymous_made);
                let incarnation = u64::from(self.wal.epoch()) << 32 | counter;
                Ok(Identity::Settled { publisher: ANONYMOUS | incarnation, incarnation })
            }
            1 => {
                let at = self
                    .publishers
                    .binary_search_by_key(&id, |p| p.id)
                    .map_err(|_| Code::UnknownPublisher)?;
                if let Some(code) = self.log_refuses() {
                    return Err(code);
                }
                if let Some(life) = self.wal.life(id)
                    && life.nonce == open.life
                {
                    let (publisher, incarnation) = (id, life.incarnation);
                    // Its record, appended for an earlier open, may still wait for the barrier.
                    return Ok(match self.pending.newest() {
                        Some(lsn) if !self.pending.is_full() => {
                            Identity::Claimed { publisher, incarnation, lsn }
                        }
                        Some(_) => return Err(Code::LogFull),
                        None => Identity::Settled { publisher, incarnation },
                    });
                }
                // An open that was sent before the newest life was claimed comes late: it must not fence
                // that life. Who sent it, if it still lives, asks for a new cookie.
                if self.publishers[at].claimed_ns.is_some_and(|claimed_ns| made_ns < claimed_ns) {
                    return Err(Code::BadCookie);
                }
                if self.pending.is_full() {
                    return Err(Code::LogFull);
                }
                self.lives_made += 1;
                let incarnation = u64::from(self.wal.epoch()) << 32 | u64::from(self.lives_made);
                let appended = self
                    .wal
                    .append_life(id, incarnation, &open.life, now.wall_ns)
                    .map_err(|error| match error {
                        AppendError::TableFull(_) => Code::LimitReached,
                        AppendError::Fault => Code::LogDamaged,
                        AppendError::Poisoned(_) => Code::LogPoisoned,
                        _ => Code::LogFull,
                    })?;
                self.publishers[at].claimed_ns = Some(now.mono_ns);
                Ok(Identity::Claimed { publisher: id, incarnation, lsn: appended.lsn })
            }
            2 => {
                self.publishers
                    .binary_search_by_key(&id, |p| p.id)
                    .map_err(|_| Code::UnknownPublisher)?;
                let wanted =
                    open.life.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                let life = self.wal.life(id).ok_or(Code::UnknownIncarnation)?;
                match wanted.cmp(&life.incarnation) {
                    std::cmp::Ordering::Less if !planted(Bug::FencedLifeResumed) => {
                        Err(Code::Fenced)
                    }
                    std::cmp::Ordering::Less | std::cmp::Ordering::Equal => {
                        Ok(Identity::Settled { publisher: id, incarnation: wanted })
                    }
                    std::cmp::Ordering::Greater => Err(Code::UnknownIncarnation),
                }
            }
            _ => Err(Code::Unsupported),
        }
    }

    /// One session speaks for a publisher: an older one is told that it is fenced, and ends.
    fn take_over<O: Outbox<F> + ?Sized>(&mut self, publisher: u64, slot: u32, out: &mut O) {
        let Ok(at) = self.publishers.binary_search_by_key(&publisher, |p| p.id) else { return };
        let old = std::mem::replace(&mut self.publishers[at].owner, slot);
        if old == NONE
            || old == slot
            || self.sessions[old].publisher != publisher
            || planted(Bug::OldLifeGoesOn)
        {
            return;
        }
        if self.sessions[old].incarnation < self.sessions[slot].incarnation {
            let epoch = self.wal.epoch();
            let header = self.sessions[old].next_header(old, epoch);
            let address = self.sessions[old].address;
            self.answer_error(&address, &header, usize::MAX, out, Code::Fenced, 0, 0);
        }
        self.close_session(old);
    }

    /// The session's publisher is settled in the log: the client may be told.
    pub(super) fn life_is_durable(&mut self, slot: u32, token: u64) {
        let session = &mut self.sessions[slot];
        if session.state == State::Opening && session.token == token {
            session.state = State::Open;
            self.owe(slot, owes::OPENED);
        }
    }

    /// Ends a session and everything that hangs on it.
    pub(super) fn close_session(&mut self, slot: u32) {
        let publisher = self.sessions[slot].publisher;
        let anonymous = publisher & ANONYMOUS != 0;
        let mut index = self.sessions[slot].publications;
        while let Some(publication) = self.drop_publication(index) {
            if anonymous {
                self.wal.release_publication(publication.slot);
            }
            index = publication.next;
        }
        let mut index = self.sessions[slot].subscriptions;
        while let Some(subscription) = self.subscriptions.at(index) {
            let next = subscription.next_in_session;
            self.drop_subscription(index);
            index = next;
        }
        if let Ok(at) = self.publishers.binary_search_by_key(&publisher, |p| p.id)
            && self.publishers[at].owner == slot
        {
            self.publishers[at].owner = NONE;
        }
        self.timers.disarm(slot);
        self.sessions.close(slot);
    }

    /// Tells up to `most` open sessions, from slot `from` on, that the shard ends. Where to go on, until all were
    /// told.
    pub(crate) fn say_goodbye<O: Outbox<F> + ?Sized>(
        &mut self,
        from: u32,
        most: usize,
        out: &mut O,
    ) -> Option<u32> {
        let slots = self.sessions.slots() as u32;
        let mut told = 0;
        for slot in from..slots {
            if told == most {
                return Some(slot);
            }
            if self.sessions[slot].state == State::Open {
                told += 1;
                self.answer_in_session(slot, out, |writer| {
                    writer.close(&Close {
                        head: Close::HEAD,
                        code: (Code::ShuttingDown as u16).into(),
                        reserved: 0.into(),
                        reserved2: 0.into(),
                    });
                });
            }
        }
        (from < slots).then_some(slots)
    }

    pub(super) fn refuse_open_stream<O: Outbox<F> + ?Sized>(
        &mut self,
        slot: u32,
        frame: &OpenStreamHeader,
        code: Code,
        out: &mut O,
    ) {
        let answer = StreamOpened {
            head: StreamOpened::HEAD,
            request: frame.request,
            handle: mstream_wire::NO_HANDLE.into(),
            code: (code as u16).into(),
            reserved: 0.into(),
            stream: frame.stream,
            sequence: 0.into(),
            round: 0.into(),
            offset: 0.into(),
            reserved2: [0; 16],
        };
        self.answer_in_session(slot, out, |writer| {
            writer.stream_opened(&answer);
        });
    }

    pub(super) fn refuse_subscribe<O: Outbox<F> + ?Sized>(
        &mut self,
        slot: u32,
        frame: &SubscribeHeader,
        code: Code,
        out: &mut O,
    ) {
        let answer = Subscribed {
            head: Subscribed::HEAD,
            request: frame.request,
            handle: mstream_wire::NO_HANDLE.into(),
            code: (code as u16).into(),
            reserved: 0.into(),
            stream: frame.stream,
            start: 0.into(),
            earliest: 0.into(),
            end: 0.into(),
            limit: 0.into(),
            log_id: self.wal.log_id(),
        };
        self.answer_in_session(slot, out, |writer| {
            writer.subscribed(&answer);
        });
    }

    fn answer_in_session<O: Outbox<F> + ?Sized>(
        &mut self,
        slot: u32,
        out: &mut O,
        fill: impl FnOnce(&mut mstream_wire::DatagramWriter<'_>),
    ) {
        let header = self.sessions[slot].next_header(slot, self.wal.epoch());
        let address = self.sessions[slot].address;
        self.answer(&address, &header, usize::MAX, out, fill);
    }
}

/// A hello's answer must never be larger than the hello, nor any error than the smallest datagram that
/// can ask for one.
const _: () = assert!(DATAGRAM_HEADER_BYTES + size_of::<Cookie>() <= HELLO_DATAGRAM_BYTES);
const _: () = assert!(size_of::<ErrorHeader>() <= size_of::<OpenHeader>());
