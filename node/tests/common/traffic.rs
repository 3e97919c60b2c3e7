//! A client that publishes messages whose content follows from their number, and that checks every one
//! that it reads.

use std::path::Path;
use std::time::{Duration, Instant};

use mstream_client::{
    Client, Event, From, Identity, Lost, PublicationConfig, PublicationId, PublishError,
    SessionConfig, SessionId, Stop, SubscriptionId, connect,
};
use mstream_nic::Port;
use mstream_nic::memif::ClientPort;
use mstream_nic::socket::SocketPort;

use super::{PATIENCE, Setting};

/// The publisher that [`Setting`] names.
pub const PUBLISHER: u64 = 1;
/// More than any message here takes.
const LONGEST: usize = 256;

/// Bytes of message `number`, 8 to 207 of them.
fn content(number: u64, room: &mut [u8; LONGEST]) -> &[u8] {
    let len = 8 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % 200;
    for (at, byte) in room[..len].iter_mut().enumerate() {
        *byte = (number as u8).wrapping_mul(31).wrapping_add(at as u8);
    }
    room[..8].copy_from_slice(&number.to_le_bytes());
    &room[..len]
}

/// The payload of message `number`.
pub fn payload(number: u64) -> Vec<u8> {
    content(number, &mut [0; LONGEST]).to_vec()
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Messages given to the client: numbers 0 to this one.
    pub published: u64,
    /// Messages that are acknowledged.
    pub acknowledged: u64,
    /// The next offset, which is the next message's number.
    pub next: u64,
    /// Messages read.
    pub read: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Why sessions were lost.
    pub lost: Vec<Lost>,
    /// Why the subscription stopped.
    pub stopped: Option<Stop>,
}

/// A client with one session, and with a publication and a subscription of one stream if asked for.
///
/// It is the only publisher of its stream, so that a message's number is its offset. Anything that an
/// honest client never sees in an appliance that keeps its promises is a panic.
pub struct Traffic<P: Port> {
    pub client: Client<P>,
    pub seen: Seen,
    clock: Instant,
    session: SessionId,
    publication: Option<PublicationId>,
    subscription: Option<SubscriptionId>,
}

/// A client over the setting's socket port.
pub fn udp(setting: &Setting, identity: Identity) -> Traffic<SocketPort> {
    Traffic::new(connect::udp(setting.shard()).expect("a client"), identity)
}

/// A client over the setting's memif port.
pub fn memif(setting: &Setting, identity: Identity) -> Traffic<ClientPort> {
    memif_at(&setting.control_socket(), setting, [10, 0, 0, 1], identity)
}

/// A client over a memif socket.
pub fn memif_at(
    socket: &Path,
    setting: &Setting,
    ip: [u8; 4],
    identity: Identity,
) -> Traffic<ClientPort> {
    let client = connect::memif(socket, setting.shard_at(ip), PATIENCE).expect("a client");
    Traffic::new(client, identity)
}

impl<P: Port> Traffic<P> {
    pub fn new(mut client: Client<P>, identity: Identity) -> Traffic<P> {
        // Beats that stay close notice a restart soon.
        let config = SessionConfig { max_beat_ms: 50, ..SessionConfig::new(identity) };
        let session = client.open_session(config);
        Traffic {
            client,
            seen: Seen::default(),
            clock: Instant::now(),
            session,
            publication: None,
            subscription: None,
        }
    }

    pub fn publishing(mut self, stream: &str) -> Traffic<P> {
        let config = PublicationConfig::default();
        self.publication = Some(self.client.open_publication(self.session, stream, &config));
        self
    }

    /// Reads from `from`; offsets are expected from the one that the answer names.
    pub fn reading(mut self, stream: &str, from: From, window: u64) -> Traffic<P> {
        self.subscription = Some(self.client.subscribe(self.session, stream, from, window));
        self
    }

    pub fn publication(&self) -> PublicationId {
        self.publication.expect("it publishes")
    }

    pub fn subscription(&self) -> SubscriptionId {
        self.subscription.expect("it reads")
    }

    /// Publishes up to `count` messages, as many as are taken.
    pub fn publish(&mut self, count: u64) {
        let publication = self.publication();
        let mut room = [0; LONGEST];
        for _ in 0..count {
            let payload = content(self.seen.published, &mut room);
            match self.client.publish(publication, b"", b"", payload) {
                Ok(sequence) => {
                    self.seen.published += 1;
                    assert_eq!(sequence, self.seen.published, "numbered without holes");
                }
                Err(PublishError::BackPressured | PublishError::NotConnected) => break,
                Err(error) => panic!("not taken: {error}"),
            }
        }
        self.client.flush();
    }

    /// One poll.
    pub fn poll(&mut self) {
        let now_ns = self.clock.elapsed().as_nanos() as u64;
        let seen = &mut self.seen;
        let came = self.client.poll(now_ns, |event| seen.event(&event));
        if came == 0 {
            std::thread::yield_now();
        }
    }

    /// One poll whose events `on` alone looks at.
    pub fn poll_with(&mut self, mut on: impl FnMut(&Event<'_>)) {
        let now_ns = self.clock.elapsed().as_nanos() as u64;
        self.client.poll(now_ns, |event| on(&event));
        std::thread::yield_now();
    }

    /// Polls until `done`.
    pub fn until(&mut self, what: &str, done: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.seen) {
            assert!(Instant::now() < deadline, "never: {what}; {:?}", self.seen);
            self.poll();
        }
    }

    /// Polls for a while.
    pub fn poll_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.poll();
        }
    }

    /// Polls until everything is acknowledged, and read if it reads.
    pub fn settle(&mut self) {
        let reads = self.subscription.is_some();
        self.until("everything acknowledged and read", |seen| {
            seen.acknowledged == seen.published && (!reads || seen.next == seen.published)
        });
    }

    /// Publishes exactly `count` messages and waits until all is acknowledged, and read if it reads.
    pub fn publish_all(&mut self, count: u64) {
        let end = self.seen.published + count;
        let deadline = Instant::now() + PATIENCE;
        while self.seen.published < end {
            assert!(Instant::now() < deadline, "not taken; {:?}", self.seen);
            self.publish((end - self.seen.published).min(64));
            self.poll();
        }
        self.settle();
    }
}

impl Seen {
    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Message { offset, publisher, message, .. } => {
                assert_eq!(offset, self.next, "in order, without holes or repeats");
                assert_eq!(publisher, PUBLISHER);
                let mut room = [0; LONGEST];
                assert_eq!(message.payload, content(offset, &mut room), "message {offset}");
                self.next += 1;
                self.read += 1;
            }
            Event::Acknowledged { sequence, offset, .. } => {
                assert!(sequence >= self.acknowledged && sequence <= self.published);
                assert_eq!(offset, sequence, "the stream has no other publisher");
                self.acknowledged = sequence;
            }
            Event::PublicationOpened { sequence, .. } => {
                assert!(sequence >= self.acknowledged, "what was acknowledged is there");
            }
            Event::SessionOpened { .. } => self.opened += 1,
            Event::SessionLost { why, .. } => self.lost.push(why),
            Event::Subscribed { start, .. } => {
                if self.read == 0 {
                    self.next = start;
                } else {
                    assert!(start <= self.next, "asked for {}, given {start}", self.next);
                }
            }
            Event::SubscriptionStopped { why, .. } => self.stopped = Some(why),
            Event::Delayed { .. } => {}
            Event::Refused { .. }
            | Event::SessionFailed { .. }
            | Event::PublicationEnded { .. }
            | Event::OutcomeUnknown { .. }
            | Event::Skipped { .. } => panic!("unexpected: {event:?}"),
        }
    }
}

/// Reads stream "s" from offset 0 with a client of its own: it holds the messages 0 to `count`.
pub fn holds_exactly<P: Port>(client: Client<P>, count: u64) {
    let mut reader = Traffic::new(client, Identity::Anonymous).reading("s", From::Offset(0), 4096);
    reader.until("the whole stream read", |seen| seen.next == count);
    // Nothing more comes: a repeat of the last messages would.
    reader.poll_for(Duration::from_millis(20));
    assert_eq!((reader.seen.read, &reader.seen.stopped), (count, &None));
}
