//! Everything the shard says that is not a delivery, emitted from what is owed.

use mstream_nic::Frame;
use mstream_nic::headers::{Link, UdpHeaders, finish_udp_frame};
use mstream_pmem::region::{Level, Region};
use mstream_wire::{
    Ack, Beat, Code, Credit, DatagramHeader, DatagramWriter, ErrorHeader, LAST_ROUND,
    MAX_UNSEALED_BYTES, NO_HANDLE, Opened, StreamOpened, Subscribed,
};

use super::cold::earliest_offset;
use super::deliver::give;
use super::publish::{Publication, owes as publication_owes};
use super::session::{Address, Session, State, owes};
use super::subscription::{Pace, Subscription, owes as subscription_owes};
use super::{Counters, NONE, PortAddress, Refusal, Shard};
use crate::Outbox;
use crate::planted::{Bug, planted};

/// Datagrams that one session may be sent of what it is owed in one poll.
const OWED_DATAGRAMS: usize = 4;

/// Sets the frame's length for a datagram of `bytes`, which stands in its place already, and writes the
/// headers in front of it.
#[inline]
pub(super) fn finish_frame<F: Frame>(
    frame: &mut F,
    bytes: usize,
    local: &PortAddress,
    udp_port: u16,
    to: &Address,
) {
    frame.set_len(usize::from(to.header_bytes) + bytes);
    frame.set_peer(to.peer);
    let headers = UdpHeaders {
        link: Link { src_mac: local.mac, dst_mac: to.mac, vlan: local.vlan },
        ips: local.to(&to.ip),
        src_port: udp_port,
        dst_port: to.udp_port,
    };
    finish_udp_frame(frame, &headers, bytes, &local.capabilities);
}

/// Fills and sends one datagram. Nothing is sent when `fill` adds no frame.
#[expect(clippy::too_many_arguments, reason = "the shard's fields, borrowed one by one")]
fn send_datagram<F: Frame, O: Outbox<F> + ?Sized>(
    out: &mut O,
    counters: &mut Counters,
    local: &PortAddress,
    udp_port: u16,
    to: &Address,
    header: &DatagramHeader,
    limit: usize,
    fill: impl FnOnce(&mut DatagramWriter<'_>),
) {
    let Some(mut frame) = out.frame(to.port) else {
        counters.refuse(Refusal::NoFrame);
        return;
    };
    let header_bytes = usize::from(to.header_bytes);
    let room = frame.capacity().min(header_bytes + limit.min(MAX_UNSEALED_BYTES));
    frame.set_len(room);
    let Some(room) = frame.bytes_mut().get_mut(header_bytes..) else { return };
    let Some(mut writer) = DatagramWriter::new(room, header) else { return };
    fill(&mut writer);
    if writer.is_empty() {
        return;
    }
    let bytes = writer.finish();
    finish_frame(&mut frame, bytes, local, udp_port, to);
    give(frame, to.port, out, counters);
}

impl<R: Region, F: Frame> Shard<R, F> {
    /// Notes that a session is owed something.
    #[inline]
    pub(super) fn owe(&mut self, session: u32, what: u8) {
        let entry = &mut self.sessions[session];
        entry.owes |= what;
        if !entry.listed {
            entry.listed = true;
            self.owed.push(session);
        }
    }

    /// Answers outside a session, with at most `limit` bytes.
    pub(super) fn answer<O: Outbox<F> + ?Sized>(
        &mut self,
        to: &Address,
        header: &DatagramHeader,
        limit: usize,
        out: &mut O,
        fill: impl FnOnce(&mut DatagramWriter<'_>),
    ) {
        let Some(local) = self.ports.get(to.port) else { return };
        send_datagram(out, &mut self.counters, local, self.udp_port, to, header, limit, fill);
    }

    /// Sends an error; `limit` is the length of what is answered.
    #[expect(clippy::too_many_arguments, reason = "an error frame's fields")]
    pub(super) fn answer_error<O: Outbox<F> + ?Sized>(
        &mut self,
        to: &Address,
        header: &DatagramHeader,
        limit: usize,
        out: &mut O,
        code: Code,
        nonce: u64,
        value: u64,
    ) {
        let error = ErrorHeader {
            head: ErrorHeader::HEAD,
            code: (code as u16).into(),
            reserved: 0.into(),
            value: value.into(),
            nonce: nonce.into(),
        };
        self.answer(to, header, limit, out, |writer| {
            // Where the text would make the answer larger than the question, the code says it all.
            if !writer.error(&error, code.text()) {
                writer.error(&error, "");
            }
        });
    }

    /// Sends what sessions are owed: one datagram each where it fits, a few more where it does not.
    #[inline]
    pub(super) fn emit_owed<O: Outbox<F> + ?Sized>(&mut self, out: &mut O) {
        let epoch = self.wal.epoch();
        for at in (0..self.owed.len()).rev() {
            let slot = self.owed[at];
            for _ in 0..OWED_DATAGRAMS {
                if !self.is_owed(slot) {
                    break;
                }
                self.emit_session(slot, epoch, out);
            }
            if !self.is_owed(slot) {
                self.sessions[slot].listed = false;
                self.owed.swap_remove(at);
            }
        }
    }

    #[inline]
    fn is_owed(&self, slot: u32) -> bool {
        let session = &self.sessions[slot];
        session.state == State::Open
            && (session.owes != 0
                || session.owed_publications != NONE
                || session.owed_subscriptions != NONE)
    }

    fn emit_session<O: Outbox<F> + ?Sized>(&mut self, slot: u32, epoch: u32, out: &mut O) {
        let header = self.sessions[slot].next_header(slot, epoch);
        let address = self.sessions[slot].address;
        let Some(local) = self.ports.get(address.port) else { return };
        let (wal, limits) = (&self.wal, &self.limits);
        let (streams, sessions) = (&self.streams, &mut self.sessions);
        let (publications, subscriptions) = (&mut self.publications, &mut self.subscriptions);
        let level = match planted(Bug::LevelOverstated) {
            true => Level::Pmem as u8,
            false => wal.level() as u8,
        };
        send_datagram(
            out,
            &mut self.counters,
            local,
            self.udp_port,
            &address,
            &header,
            MAX_UNSEALED_BYTES,
            |writer| {
                let session = &mut sessions[slot];
                if session.owes & owes::OPENED != 0 {
                    writer.opened(&opened(session, wal.log_id(), level, limits));
                }
                if session.owes & owes::CREDIT != 0 {
                    writer.credit(&Credit {
                        head: Credit::HEAD,
                        handle: NO_HANDLE.into(),
                        limit: session.credit.into(),
                    });
                }
                if session.owes & owes::BEAT != 0 {
                    writer.beat(&beat(NO_HANDLE, 0, 0, session.asked_time));
                }
                if session.owes & owes::GONE != 0 {
                    writer.ack(&gone(session.gone, level));
                }
                session.owes = 0;
                while publications.at(session.owed_publications).is_some() {
                    if writer.room() < size_of::<Ack>() + size_of::<StreamOpened>() {
                        return;
                    }
                    let handle = publications.handle(session.owed_publications);
                    let Some(publication) = publications.at(session.owed_publications) else {
                        break;
                    };
                    let owed = std::mem::take(&mut publication.owes);
                    if owed & publication_owes::OPENED != 0 {
                        let id = streams[publication.stream].id;
                        writer.stream_opened(&stream_opened(publication, handle.0, id));
                    }
                    if owed & publication_owes::ACK != 0 {
                        writer.ack(&ack(publication, handle.0, level));
                    }
                    session.owed_publications = publication.next_owed;
                }
                while subscriptions.at(session.owed_subscriptions).is_some() {
                    if writer.room() < size_of::<Subscribed>() + size_of::<Beat>() {
                        return;
                    }
                    let handle = subscriptions.handle(session.owed_subscriptions);
                    let Some(subscription) = subscriptions.at(session.owed_subscriptions) else {
                        break;
                    };
                    // Of a stream that was deleted nothing is held.
                    let (earliest, end) = match subscription.stream {
                        NONE => (0, 0),
                        stream => {
                            (earliest_offset(wal, streams, stream), streams[stream].visible_end)
                        }
                    };
                    let owed = std::mem::take(&mut subscription.owes);
                    // While it is asked for anew, code and start are not those of one answer.
                    let answered = subscription.pace != Pace::Asking;
                    if owed & subscription_owes::SUBSCRIBED != 0 && answered {
                        let mut frame = subscribed(subscription, handle.0, wal.log_id());
                        frame.earliest = earliest.into();
                        frame.end = end.into();
                        writer.subscribed(&frame);
                    }
                    if owed & subscription_owes::BEAT != 0 {
                        writer.beat(&beat(handle.0, subscription.next, end, 0));
                    }
                    session.owed_subscriptions = subscription.next_owed;
                }
            },
        );
    }
}

fn opened(session: &Session, log_id: [u8; 16], level: u8, limits: &super::Limits) -> Opened {
    Opened {
        head: Opened::HEAD,
        max_block: (limits.max_block_bytes as u32).into(),
        nonce: session.nonce.into(),
        log_id,
        publisher: session.publisher.into(),
        incarnation: session.incarnation.into(),
        credit: session.credit.into(),
        timeout_ms: limits.session_timeout_ms.into(),
        level,
        copies: 1,
        required_copies: 1,
        reserved: 0,
        capabilities: 0.into(),
        reserved2: 0.into(),
    }
}

fn stream_opened(publication: &Publication, handle: u32, stream: u64) -> StreamOpened {
    StreamOpened {
        head: StreamOpened::HEAD,
        request: publication.request.into(),
        handle: handle.into(),
        code: 0.into(),
        reserved: 0.into(),
        stream: stream.into(),
        sequence: publication.received.into(),
        round: publication.round.into(),
        offset: publication.offset.into(),
        reserved2: [0; 16],
    }
}

fn ack(publication: &Publication, handle: u32, level: u8) -> Ack {
    Ack {
        head: Ack::HEAD,
        handle: handle.into(),
        received: publication.received.into(),
        persisted: publication.persisted.into(),
        committed: publication.committed.into(),
        offset: publication.offset.into(),
        round: publication.round.into(),
        refused: publication.refused.into(),
        code: publication.code.into(),
        level,
        copies: 1,
        required_copies: 1,
        reserved: [0; 11],
    }
}

/// The session has no publication of this handle: its stream was deleted. No round follows this one.
fn gone(handle: u32, level: u8) -> Ack {
    Ack {
        head: Ack::HEAD,
        handle: handle.into(),
        received: 0.into(),
        persisted: 0.into(),
        committed: 0.into(),
        offset: 0.into(),
        round: LAST_ROUND.into(),
        refused: 0.into(),
        code: (Code::UnknownStream as u16).into(),
        level,
        copies: 1,
        required_copies: 1,
        reserved: [0; 11],
    }
}

fn subscribed(subscription: &Subscription, handle: u32, log_id: [u8; 16]) -> Subscribed {
    Subscribed {
        head: Subscribed::HEAD,
        request: subscription.request.into(),
        handle: handle.into(),
        code: subscription.code.into(),
        reserved: 0.into(),
        stream: subscription.stream_id.into(),
        start: subscription.start.into(),
        earliest: 0.into(),
        end: 0.into(),
        limit: subscription.limit.into(),
        log_id,
    }
}

fn beat(handle: u32, next: u64, end: u64, time: u64) -> Beat {
    Beat {
        head: Beat::HEAD,
        handle: handle.into(),
        next: next.into(),
        end: end.into(),
        time: time.into(),
    }
}
