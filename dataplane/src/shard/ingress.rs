//! What becomes of a received frame: addresses, ARP, ICMP echo, then datagrams of sessions.

use mstream_nic::Frame;
use mstream_nic::headers::{HeaderError, Inbound, UdpFrame, classify, udp_headers_bytes};
use mstream_pmem::region::Region;
use mstream_wire::{Code, Datagram, DatagramHeader, NO_SLOT, WireError};

use super::session::{Address, State, owes};
use super::{Now, Refusal, Shard, neighbour};
use crate::Outbox;
use crate::planted::{Bug, planted};

/// Why a frame was not used.
enum NotUsed {
    Refused(Refusal),
    Malformed(WireError),
}

impl From<Refusal> for NotUsed {
    fn from(reason: Refusal) -> NotUsed {
        NotUsed::Refused(reason)
    }
}

/// What is to be done with a frame once nothing borrows it any more.
enum Then {
    Drop,
    /// It holds the newest waiting record's batch alone.
    Keep,
    /// It was turned into its own answer.
    SendBack,
}

impl<R: Region, F: Frame> Shard<R, F> {
    /// Takes one received frame of port `port`.
    #[inline]
    pub fn receive<O: Outbox<F> + ?Sized>(
        &mut self,
        now: Now,
        port: usize,
        mut frame: F,
        out: &mut O,
    ) {
        self.counters.frames_in += 1;
        // Not when the last poll was: this one may be late, and that is no time in which anything waited for a segment.
        self.wal.set_moment(now.mono_ns);
        match self.take(now, port, &mut frame, out) {
            Ok(Then::Drop) => self.counters.frames_used += 1,
            Ok(Then::Keep) => {
                self.counters.frames_used += 1;
                self.pending.keep(frame);
            }
            Ok(Then::SendBack) => {
                self.counters.frames_used += 1;
                super::deliver::give(frame, port, out, &mut self.counters);
            }
            Err(NotUsed::Refused(reason)) => {
                if planted(Bug::BufferLeaked) && reason == Refusal::UnknownSession {
                    std::mem::forget(frame);
                }
                if !planted(Bug::RefusalUncounted) || reason != Refusal::UnknownSession {
                    self.counters.refuse(reason);
                }
            }
            Err(NotUsed::Malformed(reason)) => self.counters.refuse_wire(reason),
        }
    }

    #[inline]
    fn take<O: Outbox<F> + ?Sized>(
        &mut self,
        now: Now,
        port: usize,
        frame: &mut F,
        out: &mut O,
    ) -> Result<Then, NotUsed> {
        let Some(local) = self.ports.get(port) else {
            return Err(Refusal::OtherPort.into());
        };
        let peer = frame.peer();
        let verified = local.capabilities.rx_checksums_verified || frame.checksums_verified();
        match classify(frame.bytes(), !verified).map_err(reason_of)? {
            Inbound::Udp(udp) => {
                neighbour::check_udp(local, self.udp_port, &udp)?;
                let ip = udp.src_ip();
                let from = Address {
                    port,
                    peer,
                    mac: udp.link().src_mac,
                    ip,
                    udp_port: udp.src_port(),
                    header_bytes: udp_headers_bytes(&ip, local.vlan) as u8,
                };
                self.datagram(now, &from, &udp, out)
            }
            Inbound::Arp(arp) => {
                neighbour::answer_arp(local, &arp, frame)?;
                self.counters.arp_replies += 1;
                Ok(Then::SendBack)
            }
            Inbound::Solicitation(asked) => {
                neighbour::answer_solicitation(local, &asked, frame)?;
                self.counters.neighbour_replies += 1;
                Ok(Then::SendBack)
            }
            Inbound::Advertisement(told) => Err(neighbour::reason(local, &told).into()),
            Inbound::EchoRequest(echo) => {
                neighbour::answer_echo(local, &echo, frame)?;
                self.counters.echo_replies += 1;
                Ok(Then::SendBack)
            }
        }
    }

    #[inline]
    fn datagram<O: Outbox<F> + ?Sized>(
        &mut self,
        now: Now,
        from: &Address,
        udp: &UdpFrame<'_>,
        out: &mut O,
    ) -> Result<Then, NotUsed> {
        let bytes = udp.payload();
        let datagram = Datagram::parse(bytes).map_err(NotUsed::Malformed)?;
        let slot = datagram.header.slot.get();
        if slot == NO_SLOT {
            if !neighbour::is_host(from.mac, &from.ip) {
                return Err(Refusal::NoHost.into());
            }
            self.set_up(now, from, bytes.len(), &datagram, out)?;
            return Ok(Then::Drop);
        }
        let token = datagram.header.token.get();
        let session = self.sessions.get(slot).filter(|session| {
            session.state == State::Open
                && (session.token == token || planted(Bug::StaleTokenAccepted))
        });
        let Some(session) = session else {
            if !neighbour::is_host(from.mac, &from.ip) {
                return Err(Refusal::NoHost.into());
            }
            // The client repeats its own token back to itself: nobody else can make it believe this.
            let header = DatagramHeader::new(slot, token, 0, self.wal.epoch());
            self.answer_error(from, &header, bytes.len(), out, Code::UnknownSession, 0, 0);
            return Err(Refusal::UnknownSession.into());
        };
        if session.address != *from && !planted(Bug::SourceNotCompared) {
            return Err(Refusal::WrongSource.into());
        }
        self.sessions[slot].heard_ns = now.mono_ns;
        let then = self.session_frames(now, slot, &datagram, out);
        // A tag that only says a priority is not sent back: such a datagram has to move.
        Ok(match then {
            Then::Keep if udp.payload_at() != usize::from(from.header_bytes) => Then::Drop,
            then => then,
        })
    }

    #[inline]
    fn session_frames<O: Outbox<F> + ?Sized>(
        &mut self,
        now: Now,
        slot: u32,
        datagram: &Datagram<'_>,
        out: &mut O,
    ) -> Then {
        use mstream_wire::Frame as Wire;
        let mut then = Then::Drop;
        for frame in datagram.frames() {
            match frame {
                Wire::Publish(data) => {
                    if self.publish(now, slot, &data) && datagram.is_only(&data) {
                        then = Then::Keep;
                    }
                }
                Wire::Beat(beat) => self.client_beat(slot, beat),
                Wire::Credit(credit) => {
                    if !self.raise_limit(slot, credit.handle.get(), credit.limit.get()) {
                        self.counters.refuse(Refusal::UnknownHandle);
                    }
                }
                Wire::OpenStream(frame, name) => {
                    if let Err(code) = self.open_stream(slot, frame, name) {
                        self.refuse_open_stream(slot, frame, code, out);
                    }
                }
                Wire::Subscribe(frame, name) => {
                    if let Err(code) = self.subscribe(slot, frame, name) {
                        self.refuse_subscribe(slot, frame, code, out);
                    }
                }
                Wire::Unsubscribe(frame) => self.unsubscribe(slot, frame.handle.get()),
                Wire::Close(_) => {
                    self.close_session(slot);
                    return then;
                }
                Wire::Ignorable(_) => {}
                _ => self.counters.refuse(Refusal::Direction),
            }
        }
        then
    }

    fn client_beat(&mut self, slot: u32, beat: &mstream_wire::Beat) {
        /// Flag bit of a beat that asks for an answer.
        const ASKS: u8 = 1;
        if beat.head.flags & ASKS == 0 {
            return;
        }
        self.sessions[slot].asked_time = beat.time.get();
        // The credit is said again too: a publisher whose last credit was lost would wait for ever.
        let credit = if planted(Bug::CreditNotRepeated) { 0 } else { owes::CREDIT };
        self.owe(slot, owes::BEAT | credit);
        let mut index = self.sessions[slot].publications;
        while let Some(publication) = self.publications.at(index) {
            let next = publication.next;
            self.owe_publication(index, super::publish::owes::ACK);
            index = next;
        }
    }
}

fn reason_of(error: HeaderError) -> Refusal {
    match error {
        HeaderError::Ethernet => Refusal::Ethernet,
        HeaderError::Arp => Refusal::Arp,
        HeaderError::Ipv4 => Refusal::Ipv4,
        HeaderError::Ipv6 => Refusal::Ipv6,
        HeaderError::Fragment => Refusal::Fragment,
        HeaderError::IpOptions => Refusal::IpOptions,
        HeaderError::Ipv4Checksum => Refusal::Ipv4Checksum,
        HeaderError::Protocol => Refusal::Protocol,
        HeaderError::IcmpChecksum => Refusal::IcmpChecksum,
        HeaderError::Neighbour => Refusal::Neighbour,
        HeaderError::Udp => Refusal::Udp,
        HeaderError::UdpChecksum => Refusal::UdpChecksum,
    }
}
