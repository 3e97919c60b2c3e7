//! Datagrams made by hand, over a kernel socket.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use mstream_wire::{
    Ack, Beat, Block, BlockWriter, DataHeader, Datagram, DatagramHeader, DatagramWriter, Frame,
    FrameHead, Hello, MAX_UNSEALED_BYTES, NO_HANDLE, OpenHeader, OpenStreamHeader, crc32c,
};

use super::PATIENCE;

/// How long an answer takes at most before the question is asked again.
const ANSWER: Duration = Duration::from_millis(100);

/// A datagram with this header and the frames that `fill` adds.
pub fn datagram(header: &DatagramHeader, fill: impl FnOnce(&mut DatagramWriter<'_>)) -> Vec<u8> {
    let mut bytes = vec![0; MAX_UNSEALED_BYTES];
    let mut writer = DatagramWriter::new(&mut bytes, header).expect("room");
    fill(&mut writer);
    let len = writer.finish();
    bytes.truncate(len);
    bytes
}

pub fn hello(nonce: u64) -> Vec<u8> {
    datagram(&DatagramHeader::outside(0), |writer| {
        assert!(writer.hello(&Hello {
            head: Hello::HEAD,
            lowest_version: 1,
            highest_version: 1,
            reserved: 0.into(),
            nonce: nonce.into(),
        }));
    })
}

/// An open of an anonymous session.
pub fn open(nonce: u64, cookie: [u8; 24]) -> Vec<u8> {
    datagram(&DatagramHeader::outside(0), |writer| {
        let open = OpenHeader {
            head: OpenHeader::HEAD,
            identity: 0,
            reserved: 0,
            credential_length: 0.into(),
            nonce: nonce.into(),
            cookie,
            publisher: 0.into(),
            life: [0; 16],
            capabilities: 0.into(),
            reserved2: 0.into(),
        };
        assert!(writer.open(&open, &[]));
    })
}

/// Makes the frame check fit again; for datagrams without blocks.
pub fn reseal(bytes: &mut [u8]) {
    if bytes.len() >= 32 {
        let checked: Vec<u8> = bytes[..28].iter().chain(&bytes[32..]).copied().collect();
        bytes[28..32].copy_from_slice(&crc32c(&checked).to_le_bytes());
    }
}

/// A block of messages with these payloads.
pub fn block(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; 1400];
    let mut len = 0;
    for payload in payloads {
        len = BlockWriter::at(&mut bytes, len).push(b"", b"", payload).expect("room");
    }
    bytes.truncate(len);
    assert!(Block::parse(&bytes, payloads.len() as u16, crc32c(&bytes)).is_ok());
    bytes
}

/// A session and one publication, spoken by hand.
pub struct Raw {
    pub socket: UdpSocket,
    pub slot: u32,
    pub token: u64,
    packet_number: u64,
    pub handle: u32,
    pub round: u64,
}

/// A socket that speaks to the shard.
pub fn socket(shard: SocketAddrV4) -> UdpSocket {
    socket_at(Ipv4Addr::LOCALHOST, shard)
}

/// As [`socket`], from an address of this host.
pub fn socket_at(from: Ipv4Addr, shard: SocketAddrV4) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).expect("a socket");
    socket.connect(shard).expect("connected");
    socket.set_read_timeout(Some(ANSWER)).expect("set");
    socket
}

/// Asks until a datagram comes of which `pick` takes something.
pub fn ask<T>(
    socket: &UdpSocket,
    question: &[u8],
    mut pick: impl FnMut(&DatagramHeader, &Frame<'_>) -> Option<T>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = [0; 2048];
    while Instant::now() < deadline {
        socket.send(question).expect("sent");
        while let Ok(len) = socket.recv(&mut bytes) {
            let answer = Datagram::parse(&bytes[..len]).expect("the shard's are sound");
            if let Some(found) = answer.frames().find_map(|frame| pick(answer.header, &frame)) {
                return found;
            }
        }
    }
    panic!("no answer");
}

impl Raw {
    /// An anonymous session, with stream `stream` open for publishing.
    pub fn open(shard: SocketAddrV4, nonce: u64, stream: u64) -> Raw {
        let socket = socket(shard);
        let cookie = ask(&socket, &hello(nonce), |_, frame| match frame {
            Frame::Cookie(cookie) => Some(cookie.cookie),
            _ => None,
        });
        let (slot, token) = ask(&socket, &open(nonce, cookie), |header, frame| match frame {
            Frame::Opened(_) => Some((header.slot.get(), header.token.get())),
            _ => None,
        });
        let mut raw = Raw { socket, slot, token, packet_number: 0, handle: 0, round: 0 };
        let question = raw.open_stream(stream);
        (raw.handle, raw.round) = ask(&raw.socket, &question, |_, frame| match frame {
            Frame::StreamOpened(opened) => Some((opened.handle.get(), opened.round.get())),
            _ => None,
        });
        raw
    }

    /// A datagram of the session.
    pub fn datagram(&mut self, fill: impl FnOnce(&mut DatagramWriter<'_>)) -> Vec<u8> {
        self.packet_number += 1;
        datagram(&DatagramHeader::new(self.slot, self.token, self.packet_number, 0), fill)
    }

    pub fn open_stream(&mut self, stream: u64) -> Vec<u8> {
        self.datagram(|writer| {
            let open = OpenStreamHeader {
                head: OpenStreamHeader::HEAD,
                request: 1.into(),
                stream: stream.into(),
                name_length: 0.into(),
                reserved: [0; 6],
            };
            assert!(writer.open_stream(&open, &[]));
        })
    }

    /// A beat that asks for an answer.
    pub fn beat(&mut self) -> Vec<u8> {
        self.datagram(|writer| {
            let mut head = Beat::HEAD;
            head.flags = 1;
            let beat = Beat {
                head,
                handle: NO_HANDLE.into(),
                next: 0.into(),
                end: 0.into(),
                time: 0.into(),
            };
            assert!(writer.beat(&beat));
        })
    }

    /// A publish frame with what its sender says about `block`.
    pub fn publish_as(&mut self, first: u64, count: u16, crc: u32, block: &[u8]) -> Vec<u8> {
        let data = DataHeader {
            head: FrameHead { kind: DataHeader::PUBLISH, flags: 0, length: 0.into() },
            count: count.into(),
            options_length: 0.into(),
            handle: self.handle.into(),
            block_crc: crc.into(),
            number: first.into(),
            tag: self.round.into(),
        };
        self.datagram(|writer| assert!(writer.data(&data, block)))
    }

    /// A sound publish frame.
    pub fn publish(&mut self, first: u64, payloads: &[&[u8]]) -> Vec<u8> {
        let block = block(payloads);
        self.publish_as(first, payloads.len() as u16, crc32c(&block), &block)
    }

    /// Sends a datagram and then asks how far the publication got.
    pub fn ack_after(&mut self, bytes: &[u8]) -> Ack {
        self.socket.send(bytes).expect("sent");
        self.ack()
    }

    /// How far the publication got, in the answer to a beat: all that was sent before was looked at.
    pub fn ack(&mut self) -> Ack {
        // What came before is no answer to this.
        self.socket.set_nonblocking(true).expect("set");
        while self.socket.recv(&mut [0; 2048]).is_ok() {}
        self.socket.set_nonblocking(false).expect("set");
        let time = self.packet_number + 1;
        let beat = self.datagram(|writer| {
            let mut head = Beat::HEAD;
            head.flags = 1;
            assert!(writer.beat(&Beat {
                head,
                handle: NO_HANDLE.into(),
                next: 0.into(),
                end: 0.into(),
                time: time.into(),
            }));
        });
        let handle = self.handle;
        let mut answered = false;
        ask(&self.socket, &beat, |_, frame| match frame {
            Frame::Beat(beat) if beat.time.get() == time => {
                answered = true;
                None
            }
            Frame::Ack(ack) if answered && ack.handle.get() == handle => Some(**ack),
            _ => None,
        })
    }
}
