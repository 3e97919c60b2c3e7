//! The other end of sessions, by hand.

use super::port::TestFrame;
use super::{
    CLIENT_IP, CLIENT_IP6, CLIENT_MAC, PUBLISHER, SHARD_IP, SHARD_IP6, SHARD_MAC, SHARD_PORT,
    STREAM, block, datagram,
};
use mstream_nic::Frame;
use mstream_nic::headers::{Inbound, IpPair, Link, UdpHeaders, classify, emit_udp_headers};
use mstream_wire as wire;
use mstream_wire::{DataHeader, Datagram, DatagramHeader, DatagramWriter, FrameHead};

/// A batch as a client received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub handle: u32,
    pub offset: u64,
    pub publisher: u64,
    pub payloads: Vec<Vec<u8>>,
}

/// The other end of one session, by hand.
pub struct Client {
    /// Where its frames come from and go to.
    pub link: Link,
    pub ips: IpPair,
    pub udp_port: u16,
    pub nonce: u64,
    pub identity: u8,
    pub publisher: u64,
    pub life: [u8; 16],
    pub cookie: [u8; 24],
    pub slot: u32,
    pub token: u64,
    pub epoch: u32,
    pub packet_number: u64,
    pub opened: Option<wire::Opened>,
    pub streams: Vec<wire::StreamOpened>,
    pub subscribed: Vec<wire::Subscribed>,
    pub acks: Vec<wire::Ack>,
    pub credits: Vec<wire::Credit>,
    pub beats: Vec<wire::Beat>,
    pub errors: Vec<u16>,
    pub delivered: Vec<Delivered>,
    pub skips: Vec<wire::Skip>,
}

impl Client {
    pub fn new(udp_port: u16) -> Client {
        Client {
            link: Link { src_mac: CLIENT_MAC, dst_mac: SHARD_MAC, vlan: None },
            ips: IpPair::V4 { src: CLIENT_IP, dst: SHARD_IP },
            udp_port,
            nonce: u64::from(udp_port) * 1000,
            identity: 0,
            publisher: 0,
            life: [0; 16],
            cookie: [0; 24],
            slot: wire::NO_SLOT,
            token: 0,
            epoch: 0,
            packet_number: 0,
            opened: None,
            streams: Vec::new(),
            subscribed: Vec::new(),
            acks: Vec::new(),
            credits: Vec::new(),
            beats: Vec::new(),
            errors: Vec::new(),
            delivered: Vec::new(),
            skips: Vec::new(),
        }
    }

    pub fn claiming(udp_port: u16, life: u8) -> Client {
        let mut client = Client::new(udp_port);
        (client.identity, client.publisher, client.life) = (1, PUBLISHER, [life; 16]);
        client
    }

    /// The same client over IPv6.
    pub fn v6(mut self) -> Client {
        self.ips = IpPair::V6 { src: CLIENT_IP6, dst: SHARD_IP6 };
        self
    }

    /// The same client on a VLAN.
    pub fn on_vlan(mut self, vlan: u16) -> Client {
        self.link.vlan = Some(vlan);
        self
    }

    /// Addresses of its frames to the shard.
    pub fn headers(&self) -> UdpHeaders {
        UdpHeaders { link: self.link, ips: self.ips, src_port: self.udp_port, dst_port: SHARD_PORT }
    }

    /// Puts a datagram into a frame for the shard.
    pub fn wrap(&self, datagram: &[u8]) -> Vec<u8> {
        let headers = self.headers();
        let mut frame = vec![0; headers.bytes()];
        frame.extend_from_slice(datagram);
        emit_udp_headers(&mut frame, &headers, datagram.len());
        frame
    }

    /// A datagram of the session with the frames that `fill` adds.
    pub fn datagram(&mut self, fill: impl FnOnce(&mut DatagramWriter<'_>)) -> Vec<u8> {
        self.packet_number += 1;
        let header = DatagramHeader::new(self.slot, self.token, self.packet_number, self.epoch);
        datagram(&header, fill)
    }

    pub fn hello(&self) -> Vec<u8> {
        datagram(&DatagramHeader::outside(0), |writer| {
            assert!(writer.hello(&wire::Hello {
                head: wire::Hello::HEAD,
                lowest_version: 1,
                highest_version: 1,
                reserved: 0.into(),
                nonce: self.nonce.into(),
            }));
        })
    }

    pub fn open(&self) -> Vec<u8> {
        self.open_with(b"secret")
    }

    /// An open with this credential.
    pub fn open_with(&self, credential: &[u8]) -> Vec<u8> {
        datagram(&DatagramHeader::outside(0), |writer| {
            assert!(writer.open(
                &wire::OpenHeader {
                    head: wire::OpenHeader::HEAD,
                    identity: self.identity,
                    reserved: 0,
                    credential_length: 0.into(),
                    nonce: self.nonce.into(),
                    cookie: self.cookie,
                    publisher: self.publisher.into(),
                    life: self.life,
                    capabilities: 0.into(),
                    reserved2: 0.into(),
                },
                credential,
            ));
        })
    }

    pub fn open_stream(&mut self, request: u32, name: &[u8]) -> Vec<u8> {
        self.datagram(|writer| {
            assert!(writer.open_stream(
                &wire::OpenStreamHeader {
                    head: wire::OpenStreamHeader::HEAD,
                    request: request.into(),
                    stream: 0.into(),
                    name_length: 0.into(),
                    reserved: [0; 6],
                },
                name,
            ));
        })
    }

    /// A subscribe of a stream without a log.
    pub fn subscribe_to(
        &mut self,
        stream: u64,
        request: u32,
        kind: u8,
        from: u64,
        credit: u64,
    ) -> Vec<u8> {
        self.subscribe_with(stream, request, (kind, from), credit, [0; 16], 0)
    }

    /// A subscribe of `STREAM` from an offset, with log id and epoch as given.
    pub fn subscribe(
        &mut self,
        kind: u8,
        from: u64,
        credit: u64,
        log: [u8; 16],
        epoch: u32,
    ) -> Vec<u8> {
        self.subscribe_with(STREAM, 1, (kind, from), credit, log, epoch)
    }

    fn subscribe_with(
        &mut self,
        stream: u64,
        request: u32,
        (kind, from): (u8, u64),
        credit: u64,
        log: [u8; 16],
        epoch: u32,
    ) -> Vec<u8> {
        self.datagram(|writer| {
            assert!(writer.subscribe(
                &wire::SubscribeHeader {
                    head: wire::SubscribeHeader::HEAD,
                    request: request.into(),
                    stream: stream.into(),
                    from: from.into(),
                    credit: credit.into(),
                    log_id: log,
                    epoch: epoch.into(),
                    from_kind: kind,
                    reserved: 0,
                    name_length: 0.into(),
                    reserved2: 0.into(),
                },
                b"",
            ));
        })
    }

    pub fn publish(
        &mut self,
        handle: u32,
        sequence: u64,
        round: u64,
        payloads: &[&[u8]],
    ) -> Vec<u8> {
        let block = block(payloads);
        let crc = wire::crc32c(&block);
        self.publish_block(handle, sequence, round, payloads.len() as u16, &block, crc)
    }

    pub fn publish_block(
        &mut self,
        handle: u32,
        sequence: u64,
        round: u64,
        count: u16,
        block: &[u8],
        crc: u32,
    ) -> Vec<u8> {
        self.datagram(|writer| {
            assert!(writer.data(
                &DataHeader {
                    head: FrameHead { kind: DataHeader::PUBLISH, flags: 0, length: 0.into() },
                    count: count.into(),
                    options_length: 0.into(),
                    handle: handle.into(),
                    block_crc: crc.into(),
                    number: sequence.into(),
                    tag: round.into(),
                },
                block,
            ));
        })
    }

    pub fn credit(&mut self, handle: u32, limit: u64) -> Vec<u8> {
        self.datagram(|writer| {
            assert!(writer.credit(&wire::Credit {
                head: wire::Credit::HEAD,
                handle: handle.into(),
                limit: limit.into()
            }));
        })
    }

    /// The last ack.
    pub fn ack(&self) -> &wire::Ack {
        self.acks.last().expect("an ack came")
    }

    /// Reads a frame if it is for this client.
    pub fn take(&mut self, frame: &TestFrame) -> bool {
        let Ok(Inbound::Udp(udp)) = classify(frame.bytes(), true) else { return false };
        if udp.dst_port() != self.udp_port {
            return false;
        }
        assert_eq!(*udp.headers(), self.headers().swapped());
        let datagram = Datagram::parse(udp.payload()).expect("the shard sends sound datagrams");
        self.epoch = datagram.header.epoch.get().max(self.epoch);
        for frame in datagram.frames() {
            use wire::Frame as Wire;
            match frame {
                Wire::Cookie(cookie) => self.cookie = cookie.cookie,
                Wire::Opened(opened) => {
                    self.slot = datagram.header.slot.get();
                    self.token = datagram.header.token.get();
                    self.opened = Some(*opened);
                }
                Wire::StreamOpened(opened) => self.streams.push(*opened),
                Wire::Subscribed(subscribed) => self.subscribed.push(*subscribed),
                Wire::Ack(ack) => self.acks.push(*ack),
                Wire::Credit(credit) => self.credits.push(*credit),
                Wire::Skip(skip) => self.skips.push(*skip),
                Wire::Beat(beat) => self.beats.push(*beat),
                Wire::Error(error, _) => self.errors.push(error.code.get()),
                Wire::Deliver(data) => {
                    let block = wire::Block::parse(
                        data.block,
                        data.header.count.get(),
                        data.header.block_crc.get(),
                    )
                    .expect("a delivered block is what was published");
                    self.delivered.push(Delivered {
                        handle: data.header.handle.get(),
                        offset: data.header.number.get(),
                        publisher: data.header.tag.get(),
                        payloads: block.messages().map(|m| m.payload.to_vec()).collect(),
                    });
                }
                other => panic!("a client never hears {other:?}"),
            }
        }
        true
    }
}
