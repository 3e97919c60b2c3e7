//! One session: set-up, what keeps it alive, and noticing that it ended.

use std::hash::Hasher;

use mstream_nic::Port;
use mstream_wire::{
    Beat, Close, Code, Cookie, DatagramHeader, DatagramWriter, Hello, NO_HANDLE, NO_SLOT,
    OpenHeader, Opened, VERSION,
};
use siphasher::sip::SipHasher13;

use crate::backoff::Backoff;
use crate::event::Lost;
use crate::link::Link;
use crate::planted::{Bug, planted};

/// First interval of beats.
const BEAT_MIN_NS: u64 = 10_000_000;
/// Silence while an answer is due after which a session counts as lost.
const SILENCE_NS: u64 = 1_000_000_000;
/// An unanswered beat is said again at least so often: one that is lost, or its answer, is no lost session.
const REPEAT_NS: u64 = 100_000_000;
/// So many beats must have stayed without an answer: a client that was stopped for a while, perhaps with
/// the shard, does not take that for silence.
const UNANSWERED: u32 = 8;
/// Set-up is tried again after this long at first, and at most after the second.
const RETRY_NS: (u64, u64) = (100_000_000, 2_000_000_000);
/// Handles that were given up, and that late answers are not believed about.
const GIVEN_UP: usize = 16;
/// Flag bit of a beat that asks for an answer.
const ASKS: u8 = 1;

/// Whom a session speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A publisher without a name, or a session that only reads. It cannot be resumed.
    Anonymous,
    /// A new life of this publisher, which fences its older lives.
    Publisher(u64),
    /// The life of this publisher that an incarnation names.
    Resume {
        /// Publisher id.
        publisher: u64,
        /// As [`crate::Event::SessionOpened`] told it.
        incarnation: u64,
    },
}

/// How a session behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Whom it speaks for.
    pub identity: Identity,
    /// The longest interval of beats when nothing is going on, in milliseconds: how late a restart of
    /// the shard is noticed then.
    pub max_beat_ms: u32,
}

impl SessionConfig {
    /// A session for `identity` with beats of at most 10 s.
    pub fn new(identity: Identity) -> SessionConfig {
        SessionConfig { identity, max_beat_ms: 10_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Asks for a cookie.
    Hello,
    /// Asks to be opened with it.
    Open([u8; 24]),
    /// Is open.
    Ready,
    /// Ended for good.
    Failed(Code),
}

/// What a datagram outside a session, or about one, changed.
pub(crate) enum Change {
    None,
    Opened,
    Lost(Lost),
    /// Set-up goes on trying.
    Delayed(Code),
    /// With the number that the shard said with it.
    Failed(Code, u64),
}

pub(crate) struct Session {
    config: SessionConfig,
    /// What the identity became: a claim turns into the life that it made.
    identity: Identity,
    /// Names this life of the publisher; the same in all repeats of a claim.
    life: [u8; 16],
    key: [u8; 16],
    set_ups: u64,
    stage: Stage,
    retry: Backoff,
    nonce: u64,
    slot: u32,
    token: u64,
    packet_number: u64,
    /// The handles given up last, the newest first: a late answer may still name them.
    given_up: [u32; GIVEN_UP],
    pub(crate) epoch: u32,
    pub(crate) publisher: u64,
    pub(crate) incarnation: u64,
    pub(crate) level: u8,
    pub(crate) log_id: [u8; 16],
    pub(crate) max_block: usize,
    /// Block bytes that may be, and were, sent in this session.
    pub(crate) credit: u64,
    pub(crate) used: u64,
    timeout_ns: u64,
    beat: Backoff,
    sent_ns: u64,
    /// Since when an answer is due.
    asked_ns: Option<u64>,
    /// When the last beat was due, and how many were while an answer is.
    beat_ns: u64,
    unanswered: u32,
}

impl Session {
    /// A session that sets itself up; `key` is secret and random, and no other session's.
    pub(crate) fn new(config: SessionConfig, key: [u8; 16]) -> Session {
        let mut session = Session {
            config,
            identity: config.identity,
            life: [0; 16],
            key,
            set_ups: 0,
            stage: Stage::Hello,
            retry: Backoff::new(RETRY_NS.0, RETRY_NS.1),
            nonce: 0,
            slot: NO_SLOT,
            token: 0,
            packet_number: 0,
            given_up: [NO_HANDLE; GIVEN_UP],
            epoch: 0,
            publisher: 0,
            incarnation: 0,
            level: 0,
            log_id: [0; 16],
            max_block: 0,
            credit: 0,
            used: 0,
            timeout_ns: u64::MAX,
            beat: Backoff::new(BEAT_MIN_NS, u64::from(config.max_beat_ms) * 1_000_000),
            sent_ns: 0,
            asked_ns: None,
            beat_ns: 0,
            unanswered: 0,
        };
        let halves = [session.random(1), session.random(2)];
        for (bytes, half) in session.life.chunks_mut(8).zip(halves) {
            bytes.copy_from_slice(&half.to_le_bytes());
        }
        session.set_up();
        session
    }

    /// A number that only this client can know.
    fn random(&self, n: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write_u64(n);
        hasher.finish()
    }

    /// Starts set-up anew.
    fn set_up(&mut self) {
        self.set_ups += 1;
        self.nonce = self.random(self.set_ups << 8);
        self.stage = Stage::Hello;
        self.retry.reset();
        (self.slot, self.token, self.packet_number) = (NO_SLOT, 0, 0);
        self.given_up = [NO_HANDLE; GIVEN_UP];
        (self.asked_ns, self.unanswered) = (None, 0);
    }

    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Why it ended for good.
    pub(crate) fn failure(&self) -> Option<Code> {
        match self.stage {
            Stage::Failed(code) => Some(code),
            _ => None,
        }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.config.identity == Identity::Anonymous
    }

    /// True for datagrams with this slot and token.
    #[inline]
    pub(crate) fn owns(&self, slot: u32, token: u64) -> bool {
        self.stage == Stage::Ready
            && self.slot == slot
            && (self.token == token || planted(Bug::TokenUnchecked))
    }

    pub(crate) fn has_nonce(&self, nonce: u64) -> bool {
        self.nonce == nonce && !matches!(self.stage, Stage::Ready | Stage::Failed(_))
    }

    /// A datagram of this session came.
    #[inline]
    pub(crate) fn heard(&mut self, epoch: u32) {
        (self.asked_ns, self.unanswered) = (None, 0);
        self.epoch = epoch;
    }

    /// A handle is given up.
    pub(crate) fn give_up(&mut self, handle: u32) {
        if !self.gave_up(handle) {
            self.given_up.rotate_right(1);
            self.given_up[0] = handle;
        }
    }

    /// True of a handle that was given up a short while ago.
    pub(crate) fn gave_up(&self, handle: u32) -> bool {
        handle != NO_HANDLE && self.given_up.contains(&handle)
    }

    /// Something was sent that wants an answer: beats come close again.
    #[inline]
    pub(crate) fn asked(&mut self, now_ns: u64) {
        self.sent_ns = now_ns;
        self.asked_ns.get_or_insert(now_ns);
        self.beat.restart(now_ns);
    }

    /// Something was sent that wants no answer.
    #[inline]
    pub(crate) fn sent(&mut self, now_ns: u64) {
        self.sent_ns = now_ns;
    }

    /// Something came in that more may follow: beats come close again.
    #[inline]
    pub(crate) fn busy(&mut self, now_ns: u64) {
        self.beat.restart(now_ns);
    }

    /// The header of the next datagram.
    #[inline]
    pub(crate) fn next_header(&mut self) -> DatagramHeader {
        self.packet_number += 1;
        DatagramHeader::new(self.slot, self.token, self.packet_number, self.epoch)
    }

    /// Does what is due: asks in set-up, notices silence, beats. `extra` adds what is to travel with a
    /// beat.
    pub(crate) fn drive<P: Port>(
        &mut self,
        now_ns: u64,
        link: &mut Link<P>,
        extra: impl FnOnce(&mut DatagramWriter<'_>),
    ) -> Change {
        match self.stage {
            Stage::Failed(_) => return Change::None,
            Stage::Hello | Stage::Open(_) => {
                if link.ready(now_ns) && self.retry.due(now_ns) {
                    self.ask(link);
                }
                return Change::None;
            }
            Stage::Ready => {}
        }
        let asked = self.asked_ns;
        if asked.is_some_and(|asked| now_ns >= asked + SILENCE_NS)
            && self.unanswered >= UNANSWERED
            && !planted(Bug::SilenceUnnoticed)
        {
            return self.lose(Lost::Silence);
        }
        let again = asked.is_some_and(|asked| now_ns >= asked.max(self.beat_ns) + REPEAT_NS);
        if self.beat.due(now_ns) || again || now_ns >= self.sent_ns + self.timeout_ns / 3 {
            self.beat_ns = now_ns;
            let header = self.next_header();
            let sent = link.send(&header, |writer| {
                let mut head = Beat::HEAD;
                head.flags = ASKS;
                writer.beat(&Beat {
                    head,
                    handle: NO_HANDLE.into(),
                    next: 0.into(),
                    end: 0.into(),
                    time: now_ns.into(),
                });
                extra(writer);
            });
            if sent {
                self.sent_ns = now_ns;
                self.asked_ns.get_or_insert(now_ns);
            }
            // Also one that the port had no room for.
            self.unanswered = self.unanswered.saturating_add(self.asked_ns.is_some().into());
        }
        Change::None
    }

    /// Ends the session here; it is set up again.
    pub(crate) fn lose(&mut self, why: Lost) -> Change {
        self.set_up();
        Change::Lost(why)
    }

    fn ask<P: Port>(&mut self, link: &mut Link<P>) {
        let header = DatagramHeader::outside(self.epoch);
        match self.stage {
            Stage::Open(cookie) => {
                let (identity, publisher, life) = self.identity_fields();
                link.send(&header, |writer| {
                    writer.open(
                        &OpenHeader {
                            head: OpenHeader::HEAD,
                            identity,
                            reserved: 0,
                            credential_length: 0.into(),
                            nonce: self.nonce.into(),
                            cookie,
                            publisher: publisher.into(),
                            life,
                            capabilities: 0.into(),
                            reserved2: 0.into(),
                        },
                        &[],
                    );
                });
            }
            _ => {
                link.send(&header, |writer| {
                    writer.hello(&Hello {
                        head: Hello::HEAD,
                        lowest_version: VERSION,
                        highest_version: VERSION,
                        reserved: 0.into(),
                        nonce: self.nonce.into(),
                    });
                });
            }
        }
    }

    /// Identity number, publisher and life of an open.
    fn identity_fields(&self) -> (u8, u64, [u8; 16]) {
        match self.identity {
            Identity::Anonymous => (0, 0, [0; 16]),
            Identity::Publisher(publisher) => (1, publisher, self.life),
            Identity::Resume { publisher, incarnation } => {
                let mut life = [0; 16];
                life[..8].copy_from_slice(&incarnation.to_le_bytes());
                (2, publisher, life)
            }
        }
    }

    pub(crate) fn on_cookie(&mut self, cookie: &Cookie) {
        if self.stage == Stage::Hello {
            self.stage = Stage::Open(cookie.cookie);
            self.retry.reset();
        }
    }

    pub(crate) fn on_opened(
        &mut self,
        now_ns: u64,
        header: &DatagramHeader,
        opened: &Opened,
    ) -> Change {
        if !matches!(self.stage, Stage::Open(_)) {
            return Change::None;
        }
        self.stage = Stage::Ready;
        (self.slot, self.token) = (header.slot.get(), header.token.get());
        self.epoch = header.epoch.get();
        self.publisher = opened.publisher.get();
        self.incarnation = opened.incarnation.get();
        if !self.is_anonymous() {
            self.identity =
                Identity::Resume { publisher: self.publisher, incarnation: self.incarnation };
        }
        self.level = opened.level;
        self.log_id = opened.log_id;
        self.max_block = opened.max_block.get() as usize;
        self.credit = opened.credit.get();
        if !planted(Bug::LostCreditKept) {
            self.used = 0;
        }
        self.timeout_ns = u64::from(opened.timeout_ms.get()) * 1_000_000;
        self.sent_ns = now_ns;
        self.beat.restart(now_ns);
        Change::Opened
    }

    /// An error that names this session's set-up (its nonce) or the session itself.
    pub(crate) fn on_error(&mut self, code: u16, value: u64) -> Change {
        let ready = self.stage == Stage::Ready;
        match Code::from_number(code) {
            Some(Code::UnknownSession) if ready => self.lose(Lost::Unknown),
            Some(Code::UnknownSession) => Change::None,
            Some(Code::BadCookie) => {
                if !ready {
                    self.stage = Stage::Hello;
                }
                Change::None
            }
            // The log lost this life: a new one goes on; what was acknowledged is compared when the
            // streams are opened.
            Some(Code::UnknownIncarnation)
                if matches!(self.config.identity, Identity::Publisher(_)) =>
            {
                self.identity = self.config.identity;
                Change::None
            }
            // These pass: set-up goes on trying.
            Some(code @ (Code::SessionsFull | Code::LogFull | Code::ShuttingDown)) => {
                Change::Delayed(code)
            }
            code => {
                let code = code.unwrap_or(Code::Unsupported);
                self.stage = Stage::Failed(code);
                Change::Failed(code, value)
            }
        }
    }

    /// Tells the shard that the session ends.
    pub(crate) fn close<P: Port>(&mut self, link: &mut Link<P>) {
        if self.stage == Stage::Ready {
            let header = self.next_header();
            link.send(&header, |writer| {
                writer.close(&Close {
                    head: Close::HEAD,
                    code: 0.into(),
                    reserved: 0.into(),
                    reserved2: 0.into(),
                });
            });
        }
    }
}
