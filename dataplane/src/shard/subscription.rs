//! Subscriptions: a session asks for a stream from some place on, moves, gives credit, and gives up.

use mstream_nic::Frame;
use mstream_pmem::cold::ColdFrom;
use mstream_pmem::region::Region;
use mstream_wire::{Code, SubscribeHeader};

use super::cold::earliest_offset;
use super::config::at_limit;
use super::{Handle, NONE, Refusal, Shard};
use crate::planted::{Bug, planted};

/// What the shard still has to tell about a subscription: bits.
pub(crate) mod owes {
    pub(crate) const SUBSCRIBED: u8 = 1;
    pub(crate) const BEAT: u8 = 2;
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Everything visible was sent: the next batch is delivered as it becomes visible.
    Live,
    /// Stands in the list of those that are served from the log, or from the page of cold segments that it has.
    Behind,
    /// Waits for cold segments to say where it starts; not answered until then.
    Asking,
    /// Waits for a page of cold segments.
    Cold,
    /// Waits for credit.
    Parked,
    /// Asked for something that could not be answered; sends nothing until it asks again.
    Stopped,
}

/// A session's subscription to a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription {
    pub(crate) session: u32,
    pub(crate) request: u32,
    /// Index of the stream; [`NONE`] once it was deleted.
    pub(crate) stream: u32,
    pub(crate) stream_id: u64,
    /// Next offset to be sent.
    pub(crate) next: u64,
    /// Offsets below this one may be sent.
    pub(crate) limit: u64,
    /// Where in the log's index the last batch from the log was found.
    pub(crate) hint: u64,
    /// A client asks again when a block did not fit its crc: what is sent first behind that is looked at more closely.
    pub(crate) asked: bool,
    pub(crate) pace: Pace,
    /// True while it stands in the list of lagging ones (it may have become another pace meanwhile).
    pub(crate) listed: bool,
    pub(crate) owes: u8,
    pub(crate) code: u16,
    /// Start position that the answer says; while it is asked for, the offset that the client named.
    pub(crate) start: u64,
    /// Place of the page of cold segments that it has; [`NONE`]: none.
    pub(crate) page: u32,
    /// True while it stands in the list of those that wait for a page.
    pub(crate) cold_listed: bool,
    /// Number of its request that was not answered yet; 0: none.
    pub(crate) cold_number: u64,
    /// What it wants of cold segments.
    pub(crate) cold_from: ColdFrom,
    /// Offsets below this one that it was not sent yet have no content in cold segments, and why.
    pub(crate) hole: (u64, u16),
    pub(crate) next_owed: u32,
    pub(crate) next_in_session: u32,
    pub(crate) next_in_stream: u32,
}

/// What a subscription asks for.
enum From {
    Earliest,
    Latest,
    Offset(u64),
    Time(u64),
}

/// Where a subscription starts.
enum Start {
    /// There, or the code and position that say why it cannot.
    At(Code, u64),
    /// Cold segments are to be asked first, with regard to this offset.
    Ask(ColdFrom, u64),
}

impl<R: Region, F: Frame> Shard<R, F> {
    /// Subscribes, or moves a subscription; the answer is owed, or returned when it is a refusal.
    pub(super) fn subscribe(
        &mut self,
        session: u32,
        frame: &SubscribeHeader,
        name: &[u8],
    ) -> Result<(), Code> {
        let from = match frame.from_kind {
            0 => From::Earliest,
            1 => From::Latest,
            2 => From::Offset(frame.from.get()),
            3 => From::Time(frame.from.get()),
            _ => return Err(Code::Unsupported),
        };
        let stream = self.find_stream(frame.stream.get(), name);
        let known = self.find_subscription(session, frame.request.get());
        if let Some(index) = known
            && self.subscriptions.at(index).is_some_and(|known| known.stream == NONE)
        {
            // Its stream was deleted, also where there is another one of that name. An answer that is lost is said again
            // with the beats, until the client gives it up.
            self.owe_subscription(index, owes::SUBSCRIBED);
            return Ok(());
        }
        let stream = stream.ok_or(Code::UnknownStream)?;
        let start = self.start_position(stream, &from, frame);
        let index = match known {
            Some(index) if self.subscriptions.at(index).is_some_and(|s| s.stream == stream) => {
                index
            }
            Some(_) => return Err(Code::Unsupported),
            None => self.add_subscription(session, frame.request.get(), stream)?,
        };
        let Some(subscription) = self.subscriptions.at(index) else {
            return Err(Code::LimitReached);
        };
        // Until it is known where that is, this much from there on.
        subscription.limit = frame.credit.get();
        match start {
            Start::At(code, start) => {
                self.leave_cold(index);
                self.start_at(index, code, start);
            }
            // Said again while it is being found out.
            Start::Ask(from, offset)
                if subscription.pace == Pace::Asking
                    && (subscription.cold_from, subscription.start) == (from, offset) => {}
            Start::Ask(from, offset) => {
                subscription.start = offset;
                self.want_cold(index, from, Pace::Asking);
            }
        }
        Ok(())
    }

    /// Starts a subscription at `start`, with its credit as its limit, or says with a code why not.
    pub(super) fn start_at(&mut self, index: u32, code: Code, start: u64) {
        let Some(subscription) = self.subscriptions.at(index) else { return };
        subscription.code = code as u16;
        subscription.start = start;
        if !planted(Bug::AnswerOfOldRequest) || subscription.pace == Pace::Stopped {
            subscription.next = start;
        }
        subscription.hole = (0, 0);
        subscription.limit = start.saturating_add(subscription.limit);
        subscription.asked = true;
        subscription.pace = if code == Code::Ok { Pace::Behind } else { Pace::Stopped };
        self.list_behind(index);
        self.owe_subscription(index, owes::SUBSCRIBED);
    }

    /// Stops a subscription; the client is told why, never silently moved on.
    pub(super) fn stop(&mut self, index: u32, code: Code, start: u64) {
        self.leave_cold(index);
        let Some(subscription) = self.subscriptions.at(index) else { return };
        subscription.pace = Pace::Stopped;
        subscription.code = code as u16;
        subscription.start = start;
        self.owe_subscription(index, owes::SUBSCRIBED);
    }

    /// Where a subscription starts, as far as that can be said without cold segments.
    fn start_position(&self, stream: u32, from: &From, frame: &SubscribeHeader) -> Start {
        let earliest = earliest_offset(&self.wal, &self.streams, stream);
        let end = self.streams[stream].visible_end;
        match *from {
            From::Earliest if planted(Bug::EarliestIsLatest) => Start::At(Code::Ok, end),
            From::Earliest => Start::At(Code::Ok, earliest),
            From::Latest => Start::At(Code::Ok, end),
            From::Time(time) => {
                let from = ColdFrom::Time(time + u64::from(planted(Bug::TimeExclusive)));
                let start = self.hot_answer(stream, from);
                match self.cold_may_know(stream, start) {
                    true => Start::Ask(from, 0),
                    false => Start::At(Code::Ok, start),
                }
            }
            From::Offset(_) if frame.log_id != [0; 16] && frame.log_id != self.wal.log_id() => {
                Start::At(Code::Diverged, 0)
            }
            From::Offset(offset) => {
                let from = ColdFrom::BehindEpoch(frame.epoch.get());
                let later = (frame.epoch.get() != 0).then(|| self.hot_answer(stream, from));
                // What is not held cannot tell either.
                if later.is_some_and(|later| offset > earliest && self.cold_may_know(stream, later))
                {
                    return Start::Ask(from, offset);
                }
                let (code, start) = self.judge_offset(stream, offset, later);
                Start::At(code, start)
            }
        }
    }

    /// Where a subscription that asks for `offset` starts, or why it cannot. From `later` on the stream holds what was
    /// written since the client was there; if it did not say when that was, it is only compared with the stream's end.
    pub(super) fn judge_offset(&self, stream: u32, offset: u64, later: Option<u64>) -> (Code, u64) {
        let earliest = earliest_offset(&self.wal, &self.streams, stream);
        let end = self.streams[stream].visible_end;
        let common = later.unwrap_or(end);
        if offset > end && self.wal.fault().is_some() {
            // What stood there may be among what is damaged: nobody has decided yet that it is lost.
            (Code::LogDamaged, end)
        } else if offset > common && !planted(Bug::DivergedUntold) {
            // Where all that is held was written since, what was before it may have been other messages as well.
            let unknown = later.is_some() && common <= earliest;
            let too_high = u64::from(planted(Bug::CommonTooHigh));
            (Code::Diverged, if unknown { 0 } else { common + too_high })
        } else if offset < earliest && planted(Bug::OffsetGoneUntold) {
            (Code::Ok, earliest)
        } else if offset < earliest {
            (Code::OffsetGone, earliest)
        } else {
            (Code::Ok, offset)
        }
    }

    fn find_subscription(&mut self, session: u32, request: u32) -> Option<u32> {
        let mut index = self.sessions[session].subscriptions;
        while let Some(subscription) = self.subscriptions.at(index) {
            if subscription.request == request {
                return Some(index);
            }
            index = subscription.next_in_session;
        }
        None
    }

    fn add_subscription(&mut self, session: u32, request: u32, stream: u32) -> Result<u32, Code> {
        let entry = &self.streams[stream];
        if at_limit(entry.subscription_count, entry.rules.max_subscriptions) {
            return Err(Code::LimitReached);
        }
        let subscription = Subscription {
            session,
            request,
            stream,
            stream_id: entry.id,
            next: 0,
            limit: 0,
            hint: 0,
            asked: true,
            pace: Pace::Stopped,
            listed: false,
            owes: 0,
            code: 0,
            start: 0,
            page: NONE,
            cold_listed: false,
            cold_number: 0,
            cold_from: ColdFrom::Offset(0),
            hole: (0, 0),
            next_owed: NONE,
            next_in_session: self.sessions[session].subscriptions,
            next_in_stream: self.streams[stream].subscriptions,
        };
        let handle = self.subscriptions.insert(subscription).map_err(|_| Code::LimitReached)?;
        self.sessions[session].subscriptions = handle.index();
        self.sessions[session].subscription_count += 1;
        let entry = &mut self.streams[stream];
        entry.subscriptions = handle.index();
        entry.subscription_count += 1;
        Ok(handle.index())
    }

    /// Frees a subscription that the session's own list no longer names.
    pub(super) fn drop_subscription(&mut self, index: u32) {
        self.leave_cold(index);
        let Some(gone) = self.subscriptions.remove(index) else { return };
        if gone.cold_listed {
            self.cold.forget(index);
        }
        if gone.listed {
            self.behind.retain(|listed| *listed != index);
        }
        if gone.stream == NONE {
            return;
        }
        let stream = &mut self.streams[gone.stream];
        stream.subscription_count -= 1;
        let mut at = stream.subscriptions;
        if at == index {
            stream.subscriptions = gone.next_in_stream;
            return;
        }
        while let Some(other) = self.subscriptions.at(at) {
            if other.next_in_stream == index {
                other.next_in_stream = gone.next_in_stream;
                return;
            }
            at = other.next_in_stream;
        }
    }

    /// Raises a subscription's limit.
    pub(super) fn raise_limit(&mut self, session: u32, handle: u32, limit: u64) -> bool {
        let handle = Handle(handle);
        let Some(subscription) = self.subscriptions.get_mut(handle) else { return false };
        if subscription.session != session {
            return false;
        }
        if subscription.pace == Pace::Asking {
            // Of where it stood before; the client says it again.
            return true;
        }
        subscription.limit = subscription.limit.max(limit);
        if subscription.pace == Pace::Parked && !planted(Bug::ParkedForEver) {
            subscription.pace = Pace::Behind;
            self.list_behind(handle.index());
        }
        true
    }

    pub(super) fn list_behind(&mut self, index: u32) {
        if let Some(subscription) = self.subscriptions.at(index)
            && subscription.pace == Pace::Behind
            && !subscription.listed
        {
            subscription.listed = true;
            self.behind.push_back(index);
        }
    }

    /// Notes that subscription `index` is owed a frame.
    pub(super) fn owe_subscription(&mut self, index: u32, what: u8) {
        let Some(subscription) = self.subscriptions.at(index) else { return };
        let session = subscription.session;
        if subscription.owes == 0 {
            let head = &mut self.sessions[session].owed_subscriptions;
            subscription.next_owed = *head;
            *head = index;
        }
        subscription.owes |= what;
        self.owe(session, 0);
    }

    /// Ends one subscription.
    pub(super) fn unsubscribe(&mut self, slot: u32, handle: u32) {
        let handle = Handle(handle);
        let mine = self.subscriptions.get_mut(handle).is_some_and(|s| s.session == slot);
        if !mine {
            self.counters.refuse(Refusal::UnknownHandle);
            return;
        }
        self.close_subscription(slot, handle.index());
    }

    /// Ends a subscription of this session.
    pub(super) fn close_subscription(&mut self, slot: u32, index: u32) {
        self.unlink_subscription(slot, index);
        self.sessions[slot].subscription_count -= 1;
        self.drop_subscription(index);
    }

    /// Takes a subscription out of its session's lists.
    fn unlink_subscription(&mut self, slot: u32, index: u32) {
        let Some(gone) = self.subscriptions.at(index).copied() else { return };
        let mut at = self.sessions[slot].subscriptions;
        if at == index {
            self.sessions[slot].subscriptions = gone.next_in_session;
        }
        while let Some(other) = self.subscriptions.at(at) {
            if other.next_in_session == index {
                other.next_in_session = gone.next_in_session;
            }
            at = other.next_in_session;
        }
        let mut at = self.sessions[slot].owed_subscriptions;
        if at == index {
            self.sessions[slot].owed_subscriptions = gone.next_owed;
        }
        while gone.owes != 0
            && let Some(other) = self.subscriptions.at(at)
        {
            if other.owes != 0 && other.next_owed == index {
                other.next_owed = gone.next_owed;
            }
            at = other.next_owed;
        }
    }
}
