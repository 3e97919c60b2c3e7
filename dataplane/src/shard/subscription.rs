//! Subscriptions: a session asks for a stream from some place on, moves, gives credit, and gives up.

use mstream_nic::Frame;
use mstream_pmem::region::Region;
use mstream_pmem::wal::StreamSlot;
use mstream_wire::{Code, SubscribeHeader};

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
    /// Stands in the list of those that are served from the log.
    Behind,
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
    /// Start position that the answer says.
    pub(crate) start: u64,
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
        let (code, start) = self.start_position(stream, &from, frame);
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
        subscription.code = code as u16;
        subscription.start = start;
        if !planted(Bug::AnswerOfOldRequest) || subscription.pace == Pace::Stopped {
            subscription.next = start;
        }
        subscription.limit = start.saturating_add(frame.credit.get());
        subscription.asked = true;
        subscription.pace = if code == Code::Ok { Pace::Behind } else { Pace::Stopped };
        self.list_behind(index);
        self.owe_subscription(index, owes::SUBSCRIBED);
        Ok(())
    }

    /// Where a subscription starts, or the code and position that say why it cannot.
    fn start_position(&self, stream: u32, from: &From, frame: &SubscribeHeader) -> (Code, u64) {
        let slot = StreamSlot(stream);
        let earliest = self.wal.stream(slot).earliest_offset;
        let end = self.streams[stream].visible_end;
        match *from {
            From::Earliest => (Code::Ok, earliest),
            From::Latest => (Code::Ok, end),
            From::Time(time) => {
                (Code::Ok, self.wal.first_at_or_after(slot, time).unwrap_or(end).min(end))
            }
            From::Offset(offset) => {
                if frame.log_id != [0; 16] && frame.log_id != self.wal.log_id() {
                    return (Code::Diverged, 0);
                }
                let epoch = frame.epoch.get();
                let common = match epoch {
                    0 => end,
                    epoch => self.wal.first_of_later_epoch(slot, epoch).unwrap_or(end),
                };
                if offset > end && self.wal.fault().is_some() {
                    // What stood there may be among what is damaged: nobody has decided yet that it is lost.
                    (Code::LogDamaged, end)
                } else if offset > common && !planted(Bug::DivergedUntold) {
                    (Code::Diverged, common)
                } else if offset < earliest && planted(Bug::OffsetGoneUntold) {
                    (Code::Ok, earliest)
                } else if offset < earliest {
                    (Code::OffsetGone, earliest)
                } else {
                    (Code::Ok, offset)
                }
            }
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
        let Some(gone) = self.subscriptions.remove(index) else { return };
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
