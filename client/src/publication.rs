//! One stream that a session publishes to: sequences, rounds, credit, resending.

use mstream_nic::Port;
use mstream_wire::{
    Ack, Code, DataHeader, DatagramWriter, FrameHead, LAST_ROUND, OpenStreamHeader, StreamOpened,
    message_bytes,
};

use crate::backoff::Backoff;
use crate::event::{Ended, Event, PublicationId, PublishError, SessionId};
use crate::link::Link;
use crate::planted::{Bug, planted};
use crate::retained::Retained;
use crate::session::Session;
use crate::stream::StreamRef;

/// Resending begins after this long without progress, and is at most this far apart.
const RESEND_NS: (u64, u64) = (2_000_000, 100_000_000);
/// Asking to open the stream is repeated after this long at first, and at most after the second.
const ASK_NS: (u64, u64) = (20_000_000, 1_000_000_000);

/// How much a publication keeps, and when it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicationConfig {
    /// Bytes of blocks that are kept until they are acknowledged; at least two blocks.
    pub window_bytes: usize,
    /// Batches that are kept at most.
    pub window_batches: usize,
    /// Messages after which a batch is sent without being flushed; a full block always is.
    pub max_batch: u16,
}

impl Default for PublicationConfig {
    fn default() -> PublicationConfig {
        PublicationConfig { window_bytes: 512 * 1024, window_batches: 4096, max_batch: u16::MAX }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for the session or the answer to open stream.
    Opening,
    Open,
    Ended(Ended),
}

pub(crate) struct Publication {
    id: PublicationId,
    pub(crate) session: usize,
    pub(crate) request: u32,
    stream: StreamRef,
    /// Which stream that was found to be.
    known: Option<u64>,
    max_batch: u16,
    stage: Stage,
    ask: Backoff,
    handle: u32,
    round: u64,
    retained: Retained,
    /// Index in `retained` of the first batch that is to be sent.
    unsent: usize,
    acknowledged: u64,
    received: u64,
    resend: Backoff,
}

impl Publication {
    pub(crate) fn new(
        id: PublicationId,
        session: usize,
        stream: StreamRef,
        config: &PublicationConfig,
    ) -> Publication {
        Publication {
            id,
            session,
            request: id.0 as u32,
            stream,
            known: None,
            max_batch: config.max_batch.max(1),
            stage: Stage::Opening,
            ask: Backoff::new(ASK_NS.0, ASK_NS.1),
            handle: 0,
            round: 0,
            retained: Retained::new(config.window_bytes, config.window_batches),
            unsent: 0,
            acknowledged: 0,
            received: 0,
            resend: Backoff::new(RESEND_NS.0, RESEND_NS.1),
        }
    }

    #[inline]
    pub(crate) fn has_handle(&self, handle: u32) -> bool {
        self.stage == Stage::Open && self.handle == handle
    }

    /// The last sequence that is durable.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Sequence of the next message.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.retained.next()
    }

    /// True when batches wait for room in the port, or for credit.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent < self.retained.len()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Takes a message; the batch it completes is ready to be sent.
    #[inline]
    pub(crate) fn publish_with(
        &mut self,
        max_block: usize,
        key: &[u8],
        headers: &[u8],
        payload: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<u64, PublishError> {
        if self.stage != Stage::Open {
            return Err(self.why_not());
        }
        let bytes = message_bytes(key.len(), headers.len(), payload);
        if bytes > max_block || key.len() > 255 || headers.len() > usize::from(u16::MAX) {
            return Err(PublishError::TooLarge { bytes, limit: max_block });
        }
        if self.retained.open_bytes() + bytes > max_block {
            self.retained.close();
        }
        let sequence = self
            .retained
            .push_with(max_block, key, headers, payload, fill)
            .ok_or(PublishError::BackPressured)?;
        if self.retained.open_count() >= self.max_batch {
            self.retained.close();
        }
        Ok(sequence)
    }

    #[cold]
    fn why_not(&self) -> PublishError {
        match self.stage {
            Stage::Ended(Ended::Diverged { acknowledged, stored }) => {
                PublishError::Diverged { acknowledged, stored }
            }
            Stage::Ended(Ended::Session(Code::Fenced)) => PublishError::Fenced,
            Stage::Ended(Ended::Session(code) | Ended::Refused(code)) => {
                PublishError::Refused(code)
            }
            Stage::Opening | Stage::Open => PublishError::NotConnected,
        }
    }

    /// Ends the batch that takes messages, so that it is sent.
    #[inline]
    pub(crate) fn flush(&mut self) {
        self.retained.close();
    }

    /// Sends what may be sent. Asks to open the stream, resends, if it is time.
    #[inline]
    pub(crate) fn drive<P: Port>(
        &mut self,
        now_ns: u64,
        session: &mut Session,
        link: &mut Link<P>,
    ) {
        match self.stage {
            Stage::Open => {}
            Stage::Opening => {
                if session.is_ready() && self.ask.due(now_ns) {
                    self.ask(now_ns, session, link);
                }
                return;
            }
            Stage::Ended(_) => return,
        }
        if self.unsent > 0 && self.resend.due(now_ns) && !planted(Bug::NothingResent) {
            // What the log has in order needs no repeat, only its barrier; a beat asks for the ack.
            let (received, sent) = (self.received, self.unsent);
            while self.unsent > 0
                && self.retained.batch(self.unsent - 1).is_some_and(|b| b.last() > received)
            {
                self.unsent -= 1;
            }
            if self.unsent == sent && self.resend.is_slow() && session.is_ready() {
                // Where the stream was deleted meanwhile there is no ack any more, and only a publish frame is
                // answered by that.
                self.send_batch(0, session, link);
                session.asked(now_ns);
            }
        }
        self.send(now_ns, session, link);
    }

    /// Sends batches as far as credit and port allow.
    #[inline]
    pub(crate) fn send<P: Port>(&mut self, now_ns: u64, session: &mut Session, link: &mut Link<P>) {
        if self.stage != Stage::Open || self.unsent >= self.retained.len() || !session.is_ready() {
            return;
        }
        let before = self.unsent;
        while self.send_batch(self.unsent, session, link) {
            self.unsent += 1;
        }
        if self.unsent > before {
            if before == 0 {
                self.resend.restart(now_ns);
            }
            session.asked(now_ns);
        }
    }

    /// Sends one batch; false where there is none, or neither credit nor room for it.
    #[inline]
    fn send_batch<P: Port>(
        &mut self,
        index: usize,
        session: &mut Session,
        link: &mut Link<P>,
    ) -> bool {
        let Some(batch) = self.retained.batch(index).copied() else { return false };
        let bytes = if batch.counted { 0 } else { batch.len as u64 };
        if session.used + bytes > session.credit {
            return false;
        }
        let header = session.next_header();
        let data = DataHeader {
            head: FrameHead { kind: DataHeader::PUBLISH, flags: 0, length: 0.into() },
            count: batch.count.into(),
            options_length: 0.into(),
            handle: self.handle.into(),
            block_crc: batch.block_crc.into(),
            number: batch.first.into(),
            tag: self.round.into(),
        };
        let block = self.retained.block(&batch);
        let fill = |writer: &mut DatagramWriter<'_>| {
            writer.data(&data, block);
        };
        if !link.send(&header, fill) {
            return false;
        }
        session.used += bytes;
        if let Some(batch) = self.retained.batch_mut(index) {
            batch.counted = true;
        }
        true
    }

    fn ask<P: Port>(&mut self, now_ns: u64, session: &mut Session, link: &mut Link<P>) {
        let (stream, name) = self.stream.asked(self.known);
        let header = session.next_header();
        link.send(&header, |writer| {
            writer.open_stream(
                &OpenStreamHeader {
                    head: OpenStreamHeader::HEAD,
                    request: self.request.into(),
                    stream: stream.into(),
                    name_length: 0.into(),
                    reserved: [0; 6],
                },
                name,
            );
        });
        session.asked(now_ns);
    }

    /// The session ended: the stream is opened again in the next one.
    pub(crate) fn on_lost(&mut self, anonymous: bool, on: &mut impl FnMut(Event<'_>)) {
        if matches!(self.stage, Stage::Ended(_)) {
            return;
        }
        self.stage = Stage::Opening;
        self.ask.reset();
        if anonymous && !planted(Bug::OutcomeHidden) {
            // Nobody can tell a repeat of these from a new message.
            if !self.retained.is_empty() {
                let (first, last) = (self.acknowledged + 1, self.retained.next() - 1);
                on(Event::OutcomeUnknown { publication: self.id, first, last });
            }
            self.retained.restart(1);
            (self.acknowledged, self.received, self.unsent) = (0, 0, 0);
        }
    }

    pub(crate) fn end(&mut self, why: Ended, on: &mut impl FnMut(Event<'_>)) {
        if !matches!(self.stage, Stage::Ended(_)) {
            self.stage = Stage::Ended(why);
            on(Event::PublicationEnded { publication: self.id, why });
        }
    }

    pub(crate) fn on_opened(
        &mut self,
        session: &Session,
        opened: &StreamOpened,
        on: &mut impl FnMut(Event<'_>),
    ) {
        if self.stage != Stage::Opening {
            return;
        }
        if opened.code.get() != 0 {
            let code = Code::from_number(opened.code.get()).unwrap_or(Code::Unsupported);
            match code {
                // A full table may get room.
                Code::LimitReached => {
                    on(Event::Delayed { session: SessionId(self.session), code });
                }
                code => self.end(Ended::Refused(code), on),
            }
            return;
        }
        let stored = opened.sequence.get();
        if self.retained.is_empty() && self.acknowledged == 0 {
            self.retained.restart(stored + 1);
            self.acknowledged = stored;
        }
        // Nothing is kept, or the oldest that is kept follows what was acknowledged.
        while self.retained.pop_through(stored).is_some() {}
        self.retained.close();
        let follows = self.retained.batch(0).map_or(self.retained.next(), |batch| batch.first);
        if stored < self.acknowledged || follows != stored + 1 {
            self.end(Ended::Diverged { acknowledged: self.acknowledged, stored }, on);
            return;
        }
        self.stage = Stage::Open;
        self.known = Some(opened.stream.get());
        self.handle = opened.handle.get();
        self.round = opened.round.get();
        self.received = stored;
        self.unsent = 0;
        self.retained.uncount();
        on(Event::PublicationOpened { publication: self.id, sequence: stored });
        if stored > self.acknowledged {
            self.acknowledged = stored;
            let (offset, level) = (opened.offset.get(), session.level);
            on(Event::Acknowledged { publication: self.id, sequence: stored, offset, level });
        }
    }

    #[inline]
    pub(crate) fn on_ack(
        &mut self,
        now_ns: u64,
        session: &mut Session,
        ack: &Ack,
        on: &mut impl FnMut(Event<'_>),
    ) {
        let (round, received, committed) =
            (ack.round.get(), ack.received.get(), ack.committed.get());
        if round == LAST_ROUND {
            let code = Code::from_number(ack.code.get()).unwrap_or(Code::Unsupported);
            return self.end(Ended::Refused(code), on);
        }
        // No more can have been received than was sent.
        if round < self.round || committed > received || received >= self.retained.next() {
            return;
        }
        let committed = if planted(Bug::ReceivedIsAcknowledged) { received } else { committed };
        let before = self.received.max(self.acknowledged);
        self.received = self.received.max(received);
        if committed > self.acknowledged {
            self.acknowledged = committed;
            while self.retained.pop_through(committed).is_some() {
                self.unsent = self.unsent.saturating_sub(1);
            }
            on(Event::Acknowledged {
                publication: self.id,
                sequence: committed,
                offset: ack.offset.get(),
                level: ack.level,
            });
        }
        if self.received.max(self.acknowledged) > before {
            self.resend.restart(now_ns);
        }
        if round > self.round {
            self.on_round(session, ack, on);
        }
    }

    /// A batch was refused: it is taken out, and what follows is sent again in the new round.
    #[cold]
    fn on_round(&mut self, session: &mut Session, ack: &Ack, on: &mut impl FnMut(Event<'_>)) {
        self.round = ack.round.get();
        let code = Code::from_number(ack.code.get()).unwrap_or(Code::Unsupported);
        self.retained.close();
        let Some((index, gone)) = self.retained.take_out(ack.refused.get()) else { return };
        if gone.counted {
            session.used -= gone.len as u64;
        }
        self.unsent = self.unsent.min(index);
        on(Event::Refused { publication: self.id, sequence: gone.first, count: gone.count, code });
    }
}
