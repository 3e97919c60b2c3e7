//! The client's port: one connection to a memif server, made again when the server comes back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::pool::{MAX_FRAME, Pool, PoolFrame};
use crate::port::{Capabilities, Frame, FrameQueue, Peer, Port, PortStats};

use super::error::MemifError;
use super::message::{Message, VERSION};
use super::offer::Offer;
use super::rings::{Reader, Sent, Writer};
use super::shared::MAX_RING_LOG2;
use super::socket::{Endpoint, Received};

/// How often [`ClientPort::connect`] tries a socket that nobody answers on.
const RETRY: Duration = Duration::from_millis(5);

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The server's control socket.
    pub path: PathBuf,
    /// The interface id that the server is told. The appliance takes any.
    pub id: u32,
    /// The name that the server is told, at most 31 bytes of it.
    pub name: String,
    /// Each ring has 2 to the power of this many slots (0 to 14) of 2,048 bytes, or fewer if the server
    /// wants fewer.
    pub ring_log2: u8,
    /// Buffers of the port's pool.
    pub frames: usize,
    /// A handshake that takes longer is started anew.
    pub handshake_timeout: Duration,
}

impl ClientConfig {
    /// The default settings for the server at `path`: rings of 1,024 slots, 2,048 frames, handshakes of
    /// at most 1 s.
    pub fn new(path: impl Into<PathBuf>) -> ClientConfig {
        ClientConfig {
            path: path.into(),
            id: 0,
            name: "memorystreamer client".into(),
            ring_log2: 10,
            frames: 2048,
            handshake_timeout: Duration::from_secs(1),
        }
    }
}

/// A port to one memif server.
///
/// While there is no connection nothing is received, and frames that are sent are dropped and counted.
/// [`Port::maintain`] notices that the server is gone and connects again when it is back. Sending and
/// receiving make no system call.
#[derive(Debug)]
pub struct ClientPort {
    config: ClientConfig,
    pool: Pool,
    live: Option<Live>,
    attempt: Option<Attempt>,
    stats: PortStats,
}

/// A connection.
#[derive(Debug)]
struct Live {
    endpoint: Endpoint,
    reader: Reader,
    writer: Writer,
    /// Frames were sent and not published.
    unpublished: bool,
    /// The server broke the rings' rules: nothing is done any more until `maintain` ends it.
    broken: bool,
}

/// A handshake under way.
#[derive(Debug)]
struct Attempt {
    endpoint: Endpoint,
    since: Instant,
    /// Made when the server said hello.
    offer: Option<Offer>,
}

/// Why there is no connection yet.
enum Trouble {
    /// Nobody answers, or the answer takes its time.
    NotYet(String),
    /// The server said no, or is no memif 2.0 server.
    Refused(String),
}

impl ClientPort {
    /// Connects to the server, waiting for it if nobody answers yet.
    ///
    /// # Errors
    /// A setting out of range, a refusal by the server, or no connection within `timeout`.
    pub fn connect(config: &ClientConfig, timeout: Duration) -> Result<ClientPort, MemifError> {
        if config.ring_log2 > MAX_RING_LOG2 {
            return Err(MemifError::Setting {
                path: config.path.clone(),
                setting: "ring_log2",
                value: config.ring_log2.into(),
                allowed: "0 to 14",
            });
        }
        let mut port = ClientPort {
            config: config.clone(),
            pool: Pool::new(config.frames),
            live: None,
            attempt: None,
            stats: PortStats::default(),
        };
        let deadline = Instant::now() + timeout;
        loop {
            let path = || config.path.clone();
            let last = match port.advance() {
                Ok(()) => return Ok(port),
                Err(Trouble::Refused(reason)) => {
                    return Err(MemifError::Refused { path: path(), reason });
                }
                Err(Trouble::NotYet(last)) => last,
            };
            let now = Instant::now();
            if now >= deadline {
                return Err(MemifError::TimedOut { path: path(), timeout, last });
            }
            port.wait(RETRY.min(deadline - now));
        }
    }

    /// Whether there is a connection, as far as the port has noticed: [`Port::maintain`] looks.
    pub fn is_connected(&self) -> bool {
        self.live.as_ref().is_some_and(|live| !live.broken)
    }

    /// Waits for the server's next message, or a while.
    fn wait(&self, longest: Duration) {
        let Some(attempt) = &self.attempt else {
            std::thread::sleep(longest);
            return;
        };
        let mut polled = [PollFd::new(&attempt.endpoint, PollFlags::IN)];
        if let Ok(longest) = Timespec::try_from(longest) {
            // Woken early or not: the caller looks at the clock.
            let _ = rustix::event::poll(&mut polled, Some(&longest));
        }
    }

    /// Takes the handshake as far as it goes without waiting.
    fn advance(&mut self) -> Result<(), Trouble> {
        let mut attempt = match self.attempt.take() {
            Some(attempt) => attempt,
            None => Attempt {
                endpoint: Endpoint::connect(&self.config.path)
                    .map_err(|errno| Trouble::NotYet(format!("connect: {errno}")))?,
                since: Instant::now(),
                offer: None,
            },
        };
        loop {
            let message = match attempt.endpoint.receive() {
                Received::Message(message, _) => message,
                Received::Nothing if attempt.since.elapsed() > self.config.handshake_timeout => {
                    return Err(Trouble::NotYet("the server stopped answering".into()));
                }
                Received::Nothing => {
                    self.attempt = Some(attempt);
                    return Err(Trouble::NotYet("waiting for the server's answer".into()));
                }
                Received::Closed => {
                    return Err(Trouble::NotYet("the server closed the connection".into()));
                }
                Received::Malformed(reason) => return Err(Trouble::Refused(reason.into())),
            };
            match message {
                Message::Hello(hello) if attempt.offer.is_none() => {
                    if hello.min_version > VERSION || hello.max_version < VERSION {
                        return Err(Trouble::Refused("the server does not speak memif 2.0".into()));
                    }
                    let log2 = self.config.ring_log2.min(hello.max_ring_log2);
                    attempt.offer = Some(self.make_offer(&attempt.endpoint, log2)?);
                }
                Message::Ack if attempt.offer.is_some() => {}
                Message::Connected { .. } => {
                    let Some(offer) = attempt.offer else {
                        return Err(Trouble::Refused("connected without a hello".into()));
                    };
                    let (reader, writer) =
                        offer.start().map_err(|reason| Trouble::Refused(reason.into()))?;
                    let endpoint = attempt.endpoint;
                    let live = Live { endpoint, reader, writer, unpublished: false, broken: false };
                    self.live = Some(live);
                    return Ok(());
                }
                Message::Disconnect { reason, .. } => return Err(Trouble::Refused(reason)),
                _ => return Err(Trouble::Refused("unexpected message from the server".into())),
            }
        }
    }

    /// Makes the memory and tells the server about it.
    fn make_offer(&self, endpoint: &Endpoint, log2: u8) -> Result<Offer, Trouble> {
        let offer = Offer::new(log2)
            .map_err(|error| Trouble::NotYet(format!("cannot make shared memory: {error}")))?;
        // All at once: the server answers each, and nothing depends on the answers but going on.
        for (message, passed) in offer.messages(self.config.id, &self.config.name) {
            endpoint
                .send(&message, passed)
                .map_err(|error| Trouble::NotYet(format!("send to the server: {error}")))?;
        }
        Ok(offer)
    }
}

impl Port for ClientPort {
    type Frame = PoolFrame;

    fn capabilities(&self) -> Capabilities {
        Capabilities { ethernet: true, max_frame: MAX_FRAME, ..Capabilities::default() }
    }

    #[inline]
    fn receive(&mut self, into: &mut FrameQueue<PoolFrame>, max: usize) -> usize {
        let Some(live) = &mut self.live else { return 0 };
        match live.reader.receive(&self.pool, Peer::WIRE, into, max, &mut self.stats) {
            Ok(got) => got,
            Err(_) => {
                self.stats.rx_refused += 1;
                live.broken = true;
                0
            }
        }
    }

    #[inline]
    fn send(&mut self, frame: PoolFrame) -> Result<(), PoolFrame> {
        let Some(live) = self.live.as_mut().filter(|live| !live.broken) else {
            self.stats.tx_dropped += 1;
            return Ok(());
        };
        let bytes = frame.bytes();
        match live.writer.send(bytes) {
            Sent::Yes => {
                live.unpublished = true;
                self.stats.tx_frames += 1;
                self.stats.tx_bytes += bytes.len() as u64;
            }
            Sent::Full => return Err(frame),
            Sent::TooLong => self.stats.tx_dropped += 1,
            Sent::Broken => {
                live.broken = true;
                self.stats.tx_dropped += 1;
            }
        }
        Ok(())
    }

    #[inline]
    fn flush(&mut self) {
        if let Some(live) = &mut self.live
            && live.unpublished
        {
            live.unpublished = false;
            live.writer.publish();
        }
    }

    fn frame(&mut self) -> Option<PoolFrame> {
        self.pool.take()
    }

    /// Notices a server that is gone, and tries to connect again. Never waits: a handshake goes on with
    /// the next call.
    fn maintain(&mut self) {
        if let Some(live) = &self.live {
            if !live.broken && matches!(live.endpoint.receive(), Received::Nothing) {
                return;
            }
            // Whatever a connected server says, it means the end.
            self.live = None;
        }
        // Not connected yet: the next call tries again.
        let _ = self.advance();
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn frames_out(&self) -> usize {
        self.pool.out()
    }
}
