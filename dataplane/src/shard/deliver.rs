//! Subscriptions and deliveries: live ones from the received buffer, lagging ones from the log.

use mstream_nic::Frame;
use mstream_pmem::region::Region;
use mstream_pmem::wal::StreamSlot;
use mstream_wire::{
    Code, DataHeader, DatagramWriter, FrameHead, SubscribeHeader, rewrite_as_deliver,
};

use super::config::at_limit;
use super::emit::finish_frame;
use super::publish::owes as publication_owes;
use super::session::{Session, State};
use super::{BEAT_MIN_NS, CATCH_UP_FRAMES, Counters, Handle, NONE, Now, Shard, Stored};
use crate::Outbox;

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
        let mut known = self.find_subscription(session, frame.request.get());
        if let Some(index) = known
            && self.subscriptions.at(index).is_some_and(|known| known.stream == NONE)
        {
            // Its stream was deleted; there may be another one of that name.
            self.close_subscription(session, index);
            known = None;
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
        subscription.next = start;
        subscription.limit = start.saturating_add(frame.credit.get());
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
                if offset > common {
                    (Code::Diverged, common)
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
        if subscription.pace == Pace::Parked {
            subscription.pace = Pace::Behind;
            self.list_behind(handle.index());
        }
        true
    }

    fn list_behind(&mut self, index: u32) {
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

    /// A batch was covered by a barrier: it becomes acknowledged and visible.
    #[inline]
    pub(super) fn completed<O: Outbox<F> + ?Sized>(
        &mut self,
        now: Now,
        stored: Stored,
        mut frame: Option<F>,
        out: &mut O,
    ) {
        let end = stored.offset + u64::from(stored.count);
        let stream = &mut self.streams[stored.stream];
        stream.pending -= 1;
        if !stream.is_live() {
            return;
        }
        if let Some(publication) = self.publications.get_mut(stored.publication) {
            publication.persisted = stored.last_sequence;
            publication.committed = stored.last_sequence;
            publication.offset = end;
            self.owe_publication(stored.publication.index(), publication_owes::ACK);
        }
        let stream = &mut self.streams[stored.stream];
        stream.visible_end = end;
        let mut next = stream.subscriptions;
        while next != NONE {
            let index = next;
            let Some(subscription) = self.subscriptions.at(index) else { return };
            next = subscription.next_in_stream;
            if subscription.pace != Pace::Live {
                continue;
            }
            if stored.offset >= subscription.limit {
                subscription.pace = Pace::Parked;
                continue;
            }
            // The last subscription may have the buffer itself.
            let buffer = if next == NONE { frame.take() } else { None };
            if self.deliver_live(now, index, &stored, buffer, out) {
                if let Some(subscription) = self.subscriptions.at(index) {
                    subscription.next = end;
                }
            } else if let Some(subscription) = self.subscriptions.at(index) {
                subscription.pace = Pace::Behind;
                self.list_behind(index);
            }
        }
    }

    /// Sends one batch to a live subscription; false when there was no room.
    #[inline]
    fn deliver_live<O: Outbox<F> + ?Sized>(
        &mut self,
        now: Now,
        index: u32,
        stored: &Stored,
        buffer: Option<F>,
        out: &mut O,
    ) -> bool {
        let handle = self.subscriptions.handle(index);
        let Some(subscription) = self.subscriptions.at(index) else { return false };
        let slot = subscription.session;
        let session = &mut self.sessions[slot];
        let port = session.address.port;
        let header_bytes = usize::from(session.address.header_bytes);
        let (Some(local), epoch) = (self.ports.get(port), self.wal.epoch()) else { return false };
        let header = session.next_header(slot, epoch);
        // The datagram stays where it is: the headers in front of it must be as long as they were.
        let fits = stored.port == port && usize::from(stored.header_bytes) == header_bytes;
        let frame = match buffer.filter(|_| fits) {
            Some(mut frame) => {
                let Some(datagram) = frame.bytes_mut().get_mut(header_bytes..) else {
                    return false;
                };
                rewrite_as_deliver(datagram, &header, handle.0, stored.offset, stored.publisher);
                let bytes = stored.datagram_bytes as usize;
                finish_frame(&mut frame, bytes, local, self.udp_port, &session.address);
                self.counters.delivered_in_place += 1;
                frame
            }
            None => {
                let Some(record) = self.wal.record(stored.at) else { return false };
                let Some(mut frame) = out.frame(port) else { return false };
                frame.set_len(frame.capacity());
                let Some(room) = frame.bytes_mut().get_mut(header_bytes..) else { return false };
                let Some(mut writer) = DatagramWriter::new(room, &header) else { return false };
                let data = deliver_header(
                    handle.0,
                    stored.count,
                    record.header.block_crc.get(),
                    stored.offset,
                    stored.publisher,
                );
                writer.data(&data, record.block);
                let bytes = writer.finish();
                finish_frame(&mut frame, bytes, local, self.udp_port, &session.address);
                self.counters.delivered_by_copy += 1;
                frame
            }
        };
        if !give(frame, port, out, &mut self.counters) {
            return false;
        }
        self.want_beat(now, slot);
        true
    }

    /// Serves subscriptions that lag from the log, in turn and within a bound.
    #[inline]
    pub(super) fn catch_up<O: Outbox<F> + ?Sized>(&mut self, now: Now, out: &mut O) {
        let mut budget = CATCH_UP_FRAMES;
        for _ in 0..self.behind.len() {
            if budget == 0 {
                return;
            }
            let Some(index) = self.behind.pop_front() else { return };
            let Some(subscription) = self.subscriptions.at(index) else { continue };
            subscription.listed = false;
            if subscription.pace != Pace::Behind {
                continue;
            }
            while budget > 0 && self.send_from_log(now, index, out) {
                budget -= 1;
            }
            self.list_behind(index);
        }
    }

    /// Sends one datagram full of what a lagging subscription is due. False when it is to stop for
    /// now: it caught up, has no credit, or there was no room.
    fn send_from_log<O: Outbox<F> + ?Sized>(&mut self, now: Now, index: u32, out: &mut O) -> bool {
        let handle = self.subscriptions.handle(index);
        let Some(subscription) = self.subscriptions.at(index) else { return false };
        let slot = subscription.session;
        let session = &mut self.sessions[slot];
        if session.state != State::Open {
            return false;
        }
        let (slot_of_stream, stream) =
            (StreamSlot(subscription.stream), &self.streams[subscription.stream]);
        if subscription.next >= stream.visible_end {
            subscription.pace = Pace::Live;
            return false;
        }
        if subscription.next >= subscription.limit {
            subscription.pace = Pace::Parked;
            return false;
        }
        let earliest = self.wal.stream(slot_of_stream).earliest_offset;
        if subscription.next < earliest {
            // Recycled under a reader that was too slow: it is told, never silently moved on.
            subscription.pace = Pace::Stopped;
            subscription.code = Code::OffsetGone as u16;
            subscription.start = earliest;
            self.owe_subscription(index, owes::SUBSCRIBED);
            return false;
        }
        let port = session.address.port;
        let Some(local) = self.ports.get(port) else { return false };
        let Some(mut frame) = out.frame(port) else {
            self.counters.refuse(super::Refusal::NoFrame);
            return false;
        };
        let header = session.next_header(slot, self.wal.epoch());
        let header_bytes = usize::from(session.address.header_bytes);
        let room = frame.capacity().min(header_bytes + mstream_wire::MAX_UNSEALED_BYTES);
        frame.set_len(room);
        let Some(room) = frame.bytes_mut().get_mut(header_bytes..) else { return false };
        let Some(mut writer) = DatagramWriter::new(room, &header) else { return false };
        let mut next = subscription.next;
        while next < stream.visible_end && next < subscription.limit {
            let found = self.wal.lookup(slot_of_stream, next, subscription.hint);
            let Some((number, record)) =
                found.and_then(|(number, at)| Some((number, self.wal.record(at)?)))
            else {
                break;
            };
            let (offset, count) = (record.header.offset.get(), record.header.count.get());
            let data = deliver_header(
                handle.0,
                count,
                record.header.block_crc.get(),
                offset,
                record.header.publisher.get(),
            );
            if !writer.data(&data, record.block) {
                break;
            }
            subscription.hint = number;
            next = offset + u64::from(count);
        }
        if writer.is_empty() {
            return false;
        }
        let bytes = writer.finish();
        finish_frame(&mut frame, bytes, local, self.udp_port, &session.address);
        if !give(frame, port, out, &mut self.counters) {
            return false;
        }
        subscription.next = next;
        self.counters.delivered_by_copy += 1;
        self.want_beat(now, slot);
        true
    }

    /// Something was sent to a session: it hears a beat soon, so that a lost tail is noticed.
    #[inline]
    fn want_beat(&mut self, now: Now, slot: u32) {
        let due = now.mono_ns + BEAT_MIN_NS;
        let session = &mut self.sessions[slot];
        session.beat_interval_ns = BEAT_MIN_NS;
        if session.beat_ns > due {
            session.beat_ns = due;
            self.timers.arm(slot, due);
        }
    }
}

impl Session {
    /// The header of the session's next datagram.
    #[inline]
    pub(super) fn next_header(&mut self, slot: u32, epoch: u32) -> mstream_wire::DatagramHeader {
        self.packet_number += 1;
        mstream_wire::DatagramHeader::new(slot, self.token, self.packet_number, epoch)
    }
}

/// Hands a finished frame to its port.
#[inline]
pub(super) fn give<F, O: Outbox<F> + ?Sized>(
    frame: F,
    port: usize,
    out: &mut O,
    counters: &mut Counters,
) -> bool {
    if out.send(port, frame).is_err() {
        counters.refuse(super::Refusal::PortFull);
        return false;
    }
    counters.frames_out += 1;
    true
}

#[inline]
fn deliver_header(
    handle: u32,
    count: u16,
    block_crc: u32,
    offset: u64,
    publisher: u64,
) -> DataHeader {
    DataHeader {
        head: FrameHead { kind: DataHeader::DELIVER, flags: 0, length: 0.into() },
        count: count.into(),
        options_length: 0.into(),
        handle: handle.into(),
        block_crc: block_crc.into(),
        number: offset.into(),
        tag: publisher.into(),
    }
}
