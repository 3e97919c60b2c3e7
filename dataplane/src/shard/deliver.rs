//! Deliveries: live ones from the received buffer, lagging ones from the log.

use mstream_nic::Frame;
use mstream_pmem::format::RecordHeader;
use mstream_pmem::region::Region;
use mstream_pmem::wal::{Record, StreamSlot};
use mstream_wire::{Code, DataHeader, DatagramWriter, FrameHead, Skip, rewrite_as_deliver};

use super::cold::{earliest_offset, fill_from_page};

use super::emit::finish_frame;
use super::publish::owes as publication_owes;
use super::session::{Session, State};
use super::subscription::Pace;
use super::{BEAT_MIN_NS, CATCH_UP_FRAMES, Counters, NONE, Now, Shard, Stored, Unreadable};
use crate::Outbox;
use crate::planted::{Bug, planted};

impl<R: Region, F: Frame> Shard<R, F> {
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
                let stream = StreamSlot(stored.stream);
                let record = self.wal.record_of(stream, stored.offset, stored.at);
                let Some(record) = record else { return false };
                let Some(mut frame) = out.frame(port) else { return false };
                frame.set_len(frame.capacity());
                let Some(room) = frame.bytes_mut().get_mut(header_bytes..) else { return false };
                let Some(mut writer) = DatagramWriter::new(room, &header) else { return false };
                writer.data(&deliver_header(handle.0, record.header), record.block);
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
        let slot_of_stream = StreamSlot(subscription.stream);
        let mut visible_end = self.streams[subscription.stream].visible_end;
        if planted(Bug::DeliveredBeforeVisible) {
            visible_end = self.wal.stream(slot_of_stream).next_offset;
        }
        let done = match subscription.next {
            next if next >= visible_end => Some(Pace::Live),
            next if next >= subscription.limit => Some(Pace::Parked),
            _ => None,
        };
        if let Some(pace) = done {
            subscription.pace = pace;
            // Others may have use for its page of cold segments.
            self.leave_cold(index);
            return false;
        }
        let (stream, next) = (subscription.stream, subscription.next);
        let (hole_end, reason) = subscription.hole;
        if self.cold.page(subscription.page, next).is_none() && next >= hole_end {
            let hot = self.wal.stream(slot_of_stream).earliest_offset;
            self.leave_cold(index);
            if next < hot {
                return !self.turn_to_cold(index, stream, next) && self.pass_over(index, next, hot);
            }
        }
        let Some(subscription) = self.subscriptions.at(index) else { return false };
        let session = &mut self.sessions[slot];
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
        let to = visible_end.min(subscription.limit);
        let (mut in_log, mut from_cold) = (true, false);
        let mut unreadable = Unreadable::default();
        if next < hole_end {
            let end = hole_end.min(visible_end);
            writer.skip(&skip(handle.0, next, end, reason));
            (next, in_log) = (end, false);
        } else if let Some(page) = self.cold.page(subscription.page, next) {
            (next, in_log) = (fill_from_page(&mut writer, page, handle.0, next, to), false);
            self.counters.delivered_from_cold += 1;
        }
        while in_log && next < to {
            let found = self.wal.read(slot_of_stream, next, subscription.hint);
            let whole = found.filter(|(_, record)| !subscription.asked || is_whole(record));
            let Some((number, record)) = whole else {
                // It was lost, or its memory is, or what stands there is not what was stored; cold segments may have a
                // copy.
                let cold = self.streams[stream].cold;
                if (cold.earliest..cold.end).contains(&next) {
                    from_cold = true;
                    break;
                }
                let hole = match found {
                    Some((_, record)) => Some((record.end_offset(), false)),
                    None => self.wal.hole(slot_of_stream, next, subscription.hint),
                };
                let Some((to, accepted)) = hole else { break };
                let end = to.min(visible_end);
                let reason = if accepted { Skip::LOST } else { Skip::DAMAGED };
                if !writer.skip(&skip(handle.0, next, end, reason)) {
                    break;
                }
                if !accepted {
                    unreadable.note(self.streams[stream].id, next, end);
                }
                next = end;
                continue;
            };
            if !writer.data(&deliver_header(handle.0, record.header), record.block) {
                break;
            }
            if !self.wal.still_sound(&record) {
                // Its memory was lost while it was copied: the next look finds that.
                return true;
            }
            subscription.hint = number;
            next = record.end_offset();
        }
        if writer.is_empty() {
            if from_cold {
                self.turn_to_cold(index, stream, next);
            }
            return false;
        }
        let bytes = writer.finish();
        finish_frame(&mut frame, bytes, local, self.udp_port, &session.address);
        if !give(frame, port, out, &mut self.counters) {
            return false;
        }
        subscription.next = next;
        subscription.asked = false;
        if unreadable.messages > 0 {
            self.counters.unreadable.add(&unreadable);
        }
        self.counters.delivered_by_copy += 1;
        self.want_beat(now, slot);
        true
    }

    /// Neither the log, which begins at `hot`, nor cold segments hold `next`. True if the subscription goes on.
    fn pass_over(&mut self, index: u32, next: u64, hot: u64) -> bool {
        let Some(subscription) = self.subscriptions.at(index) else { return false };
        let earliest = earliest_offset(&self.wal, &self.streams, subscription.stream);
        if next < earliest {
            // Recycled under a reader that was too slow: it is told, never silently moved on.
            self.stop(index, Code::OffsetGone, earliest);
            return false;
        }
        // Between what was copied and what a log holds that lost its beginning.
        subscription.hole = (hot, Skip::LOST);
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

/// True if a record's block is what was stored.
fn is_whole(record: &Record<'_>) -> bool {
    mstream_wire::crc32c(record.block) == record.header.block_crc.get()
}

/// Offsets that have no content, or whose content cannot be read, and why.
pub(super) fn skip(handle: u32, from: u64, to: u64, reason: u16) -> Skip {
    Skip {
        head: Skip::HEAD,
        handle: handle.into(),
        from: from.into(),
        to: to.into(),
        reason: reason.into(),
        reserved: [0; 6],
    }
}

#[inline]
pub(super) fn deliver_header(handle: u32, record: &RecordHeader) -> DataHeader {
    DataHeader {
        head: FrameHead { kind: DataHeader::DELIVER, flags: 0, length: 0.into() },
        count: record.count.get().into(),
        options_length: 0.into(),
        handle: handle.into(),
        block_crc: record.block_crc.get().into(),
        number: record.offset.get().into(),
        tag: record.publisher.get().into(),
    }
}
