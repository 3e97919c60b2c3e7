//! One stream that a session reads: order, gaps, credit, positions over restarts.

use mstream_nic::Port;
use mstream_wire::{
    Beat, Block, Code, Credit, Data, DatagramWriter, NO_HANDLE, Skip, SubscribeHeader, Subscribed,
    Unsubscribe,
};

use crate::backoff::Backoff;
use crate::event::{Event, SessionId, Stop, SubscriptionId};
use crate::link::Link;
use crate::planted::{Bug, planted};
use crate::session::Session;
use crate::stream::StreamRef;

/// Subscribing is asked for again after this long at first, and at most after the second.
const ASK_NS: (u64, u64) = (20_000_000, 1_000_000_000);
/// Asking again because of a gap: as above.
const GAP_NS: (u64, u64) = (1_000_000, 100_000_000);

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The first message that is held.
    Earliest,
    /// Behind the last visible message.
    Latest,
    /// A message by its offset.
    Offset(u64),
    /// The first message that was stored at or after a time, in ns since 1970.
    Time(u64),
    /// An offset that was read before: says *diverged* if the log lost what lay before it.
    Position(Position),
}

/// Where a reader of a stream stands; enough to go on after a restart of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Id of the stream: another one may have its name one day. 0: not known, the name tells.
    pub stream: u64,
    /// Offset of the next message.
    pub offset: u64,
    /// The log that the offset comes from.
    pub log_id: [u8; 16],
    /// Epoch of the datagram that was used last.
    pub epoch: u32,
}

pub(crate) struct Subscription {
    id: SubscriptionId,
    pub(crate) session: usize,
    pub(crate) request: u32,
    stream: StreamRef,
    /// Which stream that was found to be, until it is told that it was deleted.
    known: Option<u64>,
    from: From,
    /// Messages that the shard may send beyond what was taken.
    window: u64,
    /// True while the current request is answered.
    answered: bool,
    stopped: bool,
    handle: u32,
    /// What the shard still holds under an earlier request, to be given up with the next one.
    leaving: Option<u32>,
    /// True once the shard said that it has no room for the current request.
    no_room: bool,
    /// The next offset, the log and the epoch it comes from, once known.
    position: Option<Position>,
    limit: u64,
    owes_credit: bool,
    ask: Backoff,
    gap: Backoff,
    gap_at: Option<u64>,
}

impl Subscription {
    /// A subscription that asks under the number `request`.
    pub(crate) fn new(
        id: SubscriptionId,
        session: usize,
        request: u32,
        stream: StreamRef,
        from: From,
        window: u64,
    ) -> Subscription {
        let mut subscription = Subscription {
            id,
            session,
            request,
            stream,
            known: None,
            from,
            window: window.max(2),
            answered: false,
            stopped: false,
            handle: 0,
            leaving: None,
            no_room: false,
            position: None,
            limit: 0,
            owes_credit: false,
            ask: Backoff::new(ASK_NS.0, ASK_NS.1),
            gap: Backoff::new(GAP_NS.0, GAP_NS.1),
            gap_at: None,
        };
        subscription.seek(request, from);
        subscription
    }

    /// Starts anew from another place. `request` is a number of its own, so that a late answer about
    /// the old place is not taken for one about the new.
    pub(crate) fn seek(&mut self, request: u32, from: From) {
        if self.answered {
            self.leaving = Some(self.handle);
        }
        self.request = request;
        self.from = from;
        self.position = match from {
            From::Position(position) => Some(position),
            _ => None,
        };
        let asked = self.position.map(|position| position.stream).filter(|id| *id != 0);
        self.known = asked.or(self.known);
        self.stopped = false;
        self.ask_again();
    }

    /// The session ended, and with it what the shard held.
    pub(crate) fn on_lost(&mut self) {
        self.leaving = None;
        self.ask_again();
    }

    fn ask_again(&mut self) {
        self.answered = false;
        self.no_room = false;
        self.owes_credit = false;
        self.gap_at = None;
        self.ask.reset();
    }

    #[inline]
    pub(crate) fn has_handle(&self, handle: u32) -> bool {
        self.answered && self.handle == handle
    }

    /// True while the shard may have given it a handle that is not known yet. Where there was no room for it, what others
    /// leave behind has to go.
    pub(crate) fn is_asking(&self) -> bool {
        !self.answered && !self.stopped && !self.no_room
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// Adds what keeps the shard sending even when an earlier credit was lost.
    pub(crate) fn add_credit(&self, writer: &mut DatagramWriter<'_>) {
        if self.answered && !self.stopped {
            writer.credit(&Credit {
                head: Credit::HEAD,
                handle: self.handle.into(),
                limit: self.limit.into(),
            });
        }
    }

    #[inline]
    pub(crate) fn drive<P: Port>(
        &mut self,
        now_ns: u64,
        session: &mut Session,
        link: &mut Link<P>,
    ) {
        if self.stopped || !session.is_ready() {
            return;
        }
        if !self.answered {
            if self.ask.due(now_ns) {
                self.subscribe(now_ns, session, link);
            }
        } else if self.gap_at.is_some() {
            if self.gap.due(now_ns) {
                self.subscribe(now_ns, session, link);
            }
        } else if self.owes_credit {
            let header = session.next_header();
            if link.send(&header, |writer| self.add_credit(writer)) {
                self.owes_credit = false;
                session.sent(now_ns);
            }
        }
    }

    fn subscribe<P: Port>(&mut self, now_ns: u64, session: &mut Session, link: &mut Link<P>) {
        // There may be room now, and the answer is under way.
        self.no_room = false;
        let (kind, from, log_id, epoch) = match (self.position, self.from) {
            (Some(position), _) | (None, From::Position(position)) => {
                (2, position.offset, position.log_id, position.epoch)
            }
            (None, From::Earliest) => (0, 0, [0; 16], 0),
            (None, From::Latest) => (1, 0, [0; 16], 0),
            (None, From::Offset(offset)) => (2, offset, [0; 16], 0),
            (None, From::Time(time)) => (3, time, [0; 16], 0),
        };
        let (stream, name) = self.stream.asked(self.known);
        let header = session.next_header();
        link.send(&header, |writer| {
            if let Some(handle) = self.leaving {
                writer.unsubscribe(&Unsubscribe { head: Unsubscribe::HEAD, handle: handle.into() });
            }
            writer.subscribe(
                &SubscribeHeader {
                    head: SubscribeHeader::HEAD,
                    request: self.request.into(),
                    stream: stream.into(),
                    from: from.into(),
                    credit: self.window.into(),
                    log_id,
                    epoch: epoch.into(),
                    from_kind: kind,
                    reserved: 0,
                    name_length: 0.into(),
                    reserved2: 0.into(),
                },
                name,
            );
        });
        session.asked(now_ns);
    }

    pub(crate) fn on_subscribed(
        &mut self,
        session: &Session,
        answer: &Subscribed,
        on: &mut impl FnMut(Event<'_>),
    ) {
        if self.stopped {
            return;
        }
        let start = answer.start.get();
        if answer.handle.get() != NO_HANDLE {
            // Held until this stops or moves; what was held before is given up by then.
            self.leaving = None;
            self.handle = answer.handle.get();
        }
        match Code::from_number(answer.code.get()) {
            Some(Code::Ok) => {}
            // A full table may get room: the question is repeated.
            Some(code @ Code::LimitReached) => {
                self.no_room = true;
                return on(Event::Delayed { session: SessionId(self.session), code });
            }
            // The answer to an earlier question, which came late to the shard: it is asked again.
            Some(Code::OffsetGone) if self.position.is_some_and(|at| start <= at.offset) => {
                self.gap_at = self.position.map(|at| at.offset);
                return;
            }
            Some(Code::OffsetGone) => {
                self.leaving = Some(self.handle);
                return self.stop(Stop::OffsetGone { earliest: start }, on);
            }
            Some(Code::Diverged) => {
                self.leaving = Some(self.handle);
                let next = self.position.map_or(start, |position| position.offset);
                return self.stop(Stop::Diverged { next, common: start }, on);
            }
            code => {
                if answer.handle.get() != NO_HANDLE && code != Some(Code::UnknownStream) {
                    self.leaving = Some(self.handle);
                }
                return self.stop(Stop::Refused(code.unwrap_or(Code::Unsupported)), on);
            }
        }
        let first = !self.answered;
        self.answered = true;
        let stream = answer.stream.get();
        self.known = Some(stream);
        self.limit = answer.limit.get();
        if self.position.is_none() {
            // Nothing was used yet, so there is nothing that could have diverged.
            let (log_id, epoch) = (session.log_id, session.epoch);
            self.position = Some(Position { stream, offset: start, log_id, epoch });
        }
        // The limit counts from where the question stood; more may have come since.
        self.raise_limit();
        if first {
            let end = answer.end.get();
            on(Event::Subscribed { subscription: self.id, start, end });
        }
    }

    fn stop(&mut self, why: Stop, on: &mut impl FnMut(Event<'_>)) {
        self.stopped = true;
        self.answered = false;
        if let Stop::Refused(Code::UnknownStream) = why {
            self.known = None;
        }
        self.gap_at = None;
        on(Event::SubscriptionStopped { subscription: self.id, why });
    }

    /// Takes a deliver frame; false when its block is damaged.
    #[inline]
    pub(crate) fn on_deliver(
        &mut self,
        epoch: u32,
        data: &Data<'_>,
        on: &mut impl FnMut(Event<'_>),
    ) -> bool {
        let Some(position) = &mut self.position else { return true };
        let (first, count) = (data.header.number.get(), data.header.count.get());
        let end = first.saturating_add(u64::from(count));
        if first > position.offset && !planted(Bug::GapSkipped) {
            // Something was lost: it is asked for, and what comes meanwhile is dropped.
            if self.gap_at != Some(position.offset) {
                self.gap_at = Some(position.offset);
                self.gap.reset();
            }
            return true;
        }
        if end <= position.offset && !planted(Bug::RepeatHandedOn) {
            return true;
        }
        let crc = match planted(Bug::BlockCrcUnchecked) {
            true => mstream_wire::crc32c(data.block),
            false => data.header.block_crc.get(),
        };
        let Ok(block) = Block::parse(data.block, count, crc) else {
            return false;
        };
        let publisher = data.header.tag.get();
        let trims = planted(Bug::TrimOffByOne) && first < position.offset;
        let from = match planted(Bug::RepeatHandedOn) {
            true => first,
            false => position.offset + u64::from(trims),
        };
        for (offset, message) in (first..end).zip(block.messages()) {
            if offset >= from {
                on(Event::Message { subscription: self.id, offset, publisher, message });
            }
        }
        position.offset = end;
        position.epoch = epoch;
        self.advanced();
        true
    }

    pub(crate) fn on_skip(&mut self, epoch: u32, skip: &Skip, on: &mut impl FnMut(Event<'_>)) {
        let Some(position) = &mut self.position else { return };
        let (from, to) = (skip.from.get(), skip.to.get());
        if from <= position.offset && position.offset < to {
            let from = position.offset;
            position.offset = to;
            position.epoch = epoch;
            let reason = skip.reason.get();
            on(Event::Skipped { subscription: self.id, from, to, reason });
            self.advanced();
        }
    }

    /// The position moved: a gap is closed, and credit may be due.
    #[inline]
    fn advanced(&mut self) {
        self.gap_at = None;
        self.raise_limit();
    }

    /// Raises the credit once half of it was used.
    #[inline]
    fn raise_limit(&mut self) {
        let Some(position) = &self.position else { return };
        let limit = position.offset.saturating_add(self.window);
        if limit.saturating_sub(self.limit) >= self.window / 2 {
            self.limit = limit;
            self.owes_credit = true;
        }
    }

    /// The shard says what it sent: more than came means that the end was lost.
    pub(crate) fn on_beat(&mut self, beat: &Beat) {
        let Some(position) = &self.position else { return };
        if beat.next.get() > position.offset && self.gap_at != Some(position.offset) {
            self.gap_at = Some(position.offset);
            self.gap.reset();
        }
    }
}
