//! The server's control side: accepts clients, does handshakes, unmaps what the port gives back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::error::MemifError;
use super::handover::{Connection, ConnectionState, Handover, ListenerCounters, count};
use super::handshake::{Handshake, Limits, MAX_REGIONS, Step};
use super::message::{Hello, Message, VERSION};
use super::server::ServerPortSeed;
use super::shared::MAX_RING_LOG2;
use super::socket::{Acceptor, Endpoint, Received};

/// The most messages of one client that are handled before the others have their turn.
const MESSAGES_PER_TURN: usize = 8;
/// The most clients that are accepted before the others have their turn.
const ACCEPTS_PER_TURN: usize = 16;
/// How often a listener that runs by itself looks for connections that the port gave back.
const TURN: Duration = Duration::from_millis(20);
/// How long a listener that ran out of file descriptors accepts nobody.
const PAUSE: Duration = Duration::from_millis(20);

/// How a memif server listens.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// The control socket's path. Its directory must exist; the socket is made with mode 0600.
    pub path: PathBuf,
    /// The name that clients are told, at most 31 bytes of it.
    pub name: String,
    /// The most connections at a time (1 to 1,024), handshakes included.
    pub max_connections: usize,
    /// The most handshakes under way at a time (at least 1).
    pub max_handshakes: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// The most shared memory of one client in bytes.
    pub max_memory_bytes: u64,
    /// Accept memory that is not sealed against shrinking: a client could then kill this process with
    /// SIGBUS. For clients that cannot seal, such as DPDK's with zero-copy.
    pub trusted: bool,
}

impl ListenerConfig {
    /// The default settings for a socket at `path`: 64 connections, 16 handshakes of at most 1 s,
    /// 128 MiB for each client, nobody trusted.
    pub fn new(path: impl Into<PathBuf>) -> ListenerConfig {
        ListenerConfig {
            path: path.into(),
            name: "memorystreamer".into(),
            max_connections: 64,
            max_handshakes: 16,
            handshake_timeout: Duration::from_secs(1),
            max_memory_bytes: 128 << 20,
            trusted: false,
        }
    }
}

/// A memif server's control socket. Lives on a control thread, never on the shard's.
///
/// Dropping it ends all connections and removes the socket's file.
#[derive(Debug)]
pub struct Listener {
    acceptor: Acceptor,
    config: ListenerConfig,
    handover: Arc<Handover>,
    clients: Vec<Client>,
    /// Connections that were handed to the port and did not come back.
    handed_over: usize,
    next_token: u64,
    paused_until: Option<Instant>,
    counters: Arc<ListenerCounters>,
}

#[derive(Debug)]
struct Client {
    endpoint: Endpoint,
    token: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Handshake { handshake: Handshake, deadline: Instant },
    Connected(Arc<ConnectionState>),
}

/// What became of a client in its turn.
enum Turn {
    Stays,
    Leaves,
}

impl Listener {
    /// Binds the socket and makes the seed of the port that goes with it. A socket file that no server
    /// answers on is replaced.
    ///
    /// # Errors
    /// A setting out of range, a path in use or not usable.
    pub fn bind(config: &ListenerConfig) -> Result<(Listener, ServerPortSeed), MemifError> {
        let wrong = |setting, value, allowed| {
            Err(MemifError::Setting { path: config.path.clone(), setting, value, allowed })
        };
        if !(1..=1024).contains(&config.max_connections) {
            return wrong("max_connections", config.max_connections as u64, "1 to 1024");
        }
        if config.max_handshakes == 0 {
            return wrong("max_handshakes", 0, "at least 1");
        }
        let acceptor = Acceptor::bind(&config.path)?;
        let handover = Arc::new(Handover::new(config.max_connections));
        let seed = ServerPortSeed {
            handover: Arc::clone(&handover),
            max_connections: config.max_connections,
        };
        let listener = Listener {
            acceptor,
            config: config.clone(),
            handover,
            clients: Vec::new(),
            handed_over: 0,
            next_token: 0,
            paused_until: None,
            counters: Arc::default(),
        };
        Ok((listener, seed))
    }

    /// The listener's counts, to be read from any thread.
    pub fn counters(&self) -> Arc<ListenerCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves clients until `stop` is set.
    ///
    /// # Errors
    /// As [`Listener::poll`].
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), MemifError> {
        // Acquire: whoever stops the listener sees its thread end anyway; kept for symmetry with
        // a releasing store.
        while !stop.load(Ordering::Acquire) {
            self.poll(TURN)?;
        }
        Ok(())
    }

    /// Waits for at most `timeout` until there is something to do and does it. Must be called at least
    /// every few tens of milliseconds: connections that the port gave back are unmapped here.
    ///
    /// # Errors
    /// Only if the operating system fails to poll; what clients do is counted, not returned.
    pub fn poll(&mut self, timeout: Duration) -> Result<(), MemifError> {
        self.reclaim();
        let now = Instant::now();
        let paused = self.paused_until.is_some_and(|until| now < until);
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(self.clients.len() + 1);
        polled.extend(self.clients.iter().map(|c| PollFd::new(&c.endpoint, PollFlags::IN)));
        if !paused {
            polled.push(PollFd::new(&self.acceptor, PollFlags::IN));
        }
        let wait = self.earliest_deadline().map_or(timeout, |deadline| {
            timeout.min(deadline.saturating_duration_since(now) + Duration::from_millis(1))
        });
        let wait = if paused { wait.min(PAUSE) } else { wait };
        let wait = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match rustix::event::poll(&mut polled, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(MemifError::Io {
                    path: self.acceptor.path().to_owned(),
                    action: "poll the control sockets",
                    source: errno.into(),
                });
            }
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        // Backwards: a client that leaves is replaced by one that had its turn.
        for at in (0..self.clients.len()).rev() {
            if ready[at] && matches!(self.serve(at), Turn::Leaves) {
                self.remove(at);
            }
        }
        self.expire();
        if !paused && ready.last() == Some(&true) {
            self.accept();
        }
        self.reclaim();
        Ok(())
    }

    fn earliest_deadline(&self) -> Option<Instant> {
        self.clients
            .iter()
            .filter_map(|client| match client.stage {
                Stage::Handshake { deadline, .. } => Some(deadline),
                Stage::Connected(_) => None,
            })
            .min()
    }

    fn handshakes(&self) -> usize {
        self.clients.iter().filter(|c| matches!(c.stage, Stage::Handshake { .. })).count()
    }

    /// Lets clients in, or turns them away when there are too many.
    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let endpoint = match self.acceptor.accept() {
                Ok(Some(endpoint)) => endpoint,
                Ok(None) => return,
                Err(_) => {
                    // Out of descriptors or memory: the client keeps waiting, we try again later.
                    count(&self.counters.over_limit);
                    self.paused_until = Some(Instant::now() + PAUSE);
                    return;
                }
            };
            count(&self.counters.accepted);
            let handshakes = self.handshakes();
            if handshakes >= self.config.max_handshakes
                || self.handed_over + handshakes >= self.config.max_connections
            {
                count(&self.counters.over_limit);
                farewell(&endpoint, "too many connections");
                continue;
            }
            let hello = Message::Hello(Hello {
                name: self.config.name.clone(),
                min_version: VERSION,
                max_version: VERSION,
                max_region: (MAX_REGIONS - 1) as u16,
                max_ring_to_client: 0,
                max_ring_to_server: 0,
                max_ring_log2: MAX_RING_LOG2,
            });
            if endpoint.send(&hello, None).is_err() {
                // Gone again already.
                continue;
            }
            let deadline = Instant::now() + self.config.handshake_timeout;
            let stage = Stage::Handshake { handshake: Handshake::default(), deadline };
            self.clients.push(Client { endpoint, token: self.next_token, stage });
            self.next_token += 1;
        }
    }

    /// Handles what a client sent.
    fn serve(&mut self, at: usize) -> Turn {
        for _ in 0..MESSAGES_PER_TURN {
            let client = &mut self.clients[at];
            let (message, passed) = match client.endpoint.receive() {
                Received::Message(message, passed) => (message, passed),
                Received::Nothing => return Turn::Stays,
                Received::Closed => return Turn::Leaves,
                Received::Malformed(reason) => return self.refuse(at, reason),
            };
            let Stage::Handshake { handshake, .. } = &mut client.stage else {
                // Connected clients have nothing to say but goodbye.
                return match message {
                    Message::Disconnect { .. } => Turn::Leaves,
                    _ => self.refuse(at, "unexpected message on a connection"),
                };
            };
            let limits = Limits {
                max_memory_bytes: self.config.max_memory_bytes,
                trusted: self.config.trusted,
            };
            let answered = match handshake.take(message, passed, limits) {
                Ok(Step::Acknowledge) => client.endpoint.send(&Message::Ack, None),
                Ok(Step::Connect(rings)) => {
                    let state = Arc::new(ConnectionState::default());
                    client.stage = Stage::Connected(Arc::clone(&state));
                    let (reader, writer) = *rings;
                    let connection = Connection { token: client.token, state, reader, writer };
                    if self.handover.fresh.push(connection).is_err() {
                        // Not reachable: the queue holds as many connections as there may be.
                        return self.refuse(at, "too many connections");
                    }
                    self.handed_over += 1;
                    self.handover.announce();
                    count(&self.counters.connected);
                    let name = self.config.name.clone();
                    client.endpoint.send(&Message::Connected { name }, None)
                }
                Ok(Step::Close) => return Turn::Leaves,
                Err(reason) => return self.refuse(at, reason),
            };
            if answered.is_err() {
                return Turn::Leaves;
            }
        }
        Turn::Stays
    }

    fn refuse(&self, at: usize, reason: &str) -> Turn {
        count(&self.counters.refused);
        farewell(&self.clients[at].endpoint, reason);
        Turn::Leaves
    }

    /// Forgets a client; if it was connected the port is told and gives the connection back.
    fn remove(&mut self, at: usize) {
        let client = self.clients.swap_remove(at);
        if let Stage::Connected(state) = client.stage {
            // Release, with `announce`: the port that sees the announcement sees this.
            state.gone.store(true, Ordering::Release);
            self.handover.announce();
            count(&self.counters.closed);
        }
    }

    /// Ends handshakes that took too long.
    fn expire(&mut self) {
        let now = Instant::now();
        for at in (0..self.clients.len()).rev() {
            let client = &self.clients[at];
            if matches!(client.stage, Stage::Handshake { deadline, .. } if deadline <= now) {
                count(&self.counters.timed_out);
                farewell(&client.endpoint, "handshake took too long");
                self.clients.swap_remove(at);
            }
        }
    }

    /// Unmaps what the port gave back, and ends the connections of clients that broke the rules.
    fn reclaim(&mut self) {
        while let Some(connection) = self.handover.retired.pop() {
            self.handed_over -= 1;
            if !connection.state.broken.load(Ordering::Acquire) {
                continue;
            }
            count(&self.counters.broken);
            if let Some(at) = self.clients.iter().position(|c| c.token == connection.token) {
                farewell(&self.clients[at].endpoint, "ring positions or descriptors make no sense");
                self.remove(at);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        while let Some(at) = self.clients.len().checked_sub(1) {
            farewell(&self.clients[at].endpoint, "server stops");
            self.remove(at);
        }
    }
}

/// Tells a client why it is disconnected. Best effort: it may be gone, or not reading.
fn farewell(endpoint: &Endpoint, reason: &str) {
    let _ = endpoint.send(&Message::Disconnect { code: 0, reason: reason.into() }, None);
}
