//! The admin API's way to the shards: commands and replies over bounded queues.
//!
//! What was asked waits in a list of the control plane's own until the shard has taken what was asked before: a
//! shard that does not answer loses nothing and is waited for by nobody but those who asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use mstream_admin::v1;
use mstream_controlplane::admin::{Answer, Page};
use mstream_controlplane::catalogue::{Publisher, Stream};
use mstream_dataplane::{
    Command, CreateError, PublisherEntry, REPORT_ROWS, ReaderState, Reply, SessionRow, StreamRow,
    SubscriptionRow,
};
use tokio::sync::{Notify, oneshot};
use tonic::Code;

use crate::snapshot;

/// Commands and replies that may wait for a shard, or for its control plane.
pub(crate) const QUEUE: usize = 256;
/// Commands that the admin API has under way at a time: the replies to all of them fit the shard's queue, so a
/// shard never waits, and room is left for segments.
const UNDER_WAY: usize = QUEUE / 2;
/// The longest pause between two looks at a shard that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// One shard's queues, and what waits for its answers.
pub(crate) struct Link {
    number: u32,
    /// Names of its ports.
    ports: Vec<String>,
    commands: Arc<ArrayQueue<Command>>,
    replies: Arc<ArrayQueue<Reply>>,
    asked: Mutex<Asked>,
    /// Something was asked.
    wake: Notify,
}

#[derive(Default)]
struct Asked {
    next_request: u64,
    /// What the shard's queue has not taken yet, in order.
    waiting: VecDeque<Command>,
    /// Who waits for which request.
    answers: HashMap<u64, Pending>,
    /// Commands in the shard's queue, or taken and not yet answered.
    under_way: usize,
    /// Changes among all that was asked and not answered.
    changes: usize,
}

/// Who waits for an answer.
enum Pending {
    Change(oneshot::Sender<Result<(), v1::Failure>>),
    Positions(oneshot::Sender<Option<v1::StreamPositions>>),
    Sessions(oneshot::Sender<Page<v1::Session>>),
    Subscriptions(oneshot::Sender<Page<v1::Backlog>>),
}

impl Link {
    pub(crate) fn new(
        number: u32,
        ports: Vec<String>,
        commands: Arc<ArrayQueue<Command>>,
        replies: Arc<ArrayQueue<Reply>>,
    ) -> Link {
        Link { number, ports, commands, replies, asked: Mutex::default(), wake: Notify::new() }
    }

    /// Changes that the shard has not answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.asked().changes
    }

    pub(crate) fn create_stream(&self, stream: &Stream) -> Answer<Result<(), v1::Failure>> {
        let entry = snapshot::stream_entry(stream);
        self.change(|request| Command::CreateStream { request, entry })
    }

    pub(crate) fn delete_stream(&self, id: u64) -> Answer<Result<(), v1::Failure>> {
        self.change(|request| Command::DeleteStream { request, id })
    }

    pub(crate) fn add_publisher(&self, publisher: &Publisher) -> Answer<Result<(), v1::Failure>> {
        let entry = PublisherEntry { id: publisher.id, name: publisher.name.clone() };
        self.change(|request| Command::AddPublisher { request, entry })
    }

    pub(crate) fn positions(&self, id: u64) -> Answer<Option<v1::StreamPositions>> {
        let (answer, receiver) = oneshot::channel();
        let (ids, rows) = (vec![id], Vec::with_capacity(1));
        let command = |request| Command::Streams { request, ids, rows };
        self.ask(command, Pending::Positions(answer));
        receiver
    }

    pub(crate) fn sessions(&self, from: u32, most: usize) -> Answer<Page<v1::Session>> {
        let (answer, receiver) = oneshot::channel();
        let rows = Vec::with_capacity(most.min(REPORT_ROWS));
        let command = |request| Command::Sessions { request, from, rows };
        self.ask(command, Pending::Sessions(answer));
        receiver
    }

    pub(crate) fn subscriptions(&self, from: u32, most: usize) -> Answer<Page<v1::Backlog>> {
        let (answer, receiver) = oneshot::channel();
        let rows = Vec::with_capacity(most.min(REPORT_ROWS));
        let command = |request| Command::Subscriptions { request, from, rows };
        self.ask(command, Pending::Subscriptions(answer));
        receiver
    }

    fn change(&self, command: impl FnOnce(u64) -> Command) -> Answer<Result<(), v1::Failure>> {
        let (answer, receiver) = oneshot::channel();
        self.ask(command, Pending::Change(answer));
        receiver
    }

    fn ask(&self, command: impl FnOnce(u64) -> Command, pending: Pending) {
        let mut asked = self.asked();
        let request = asked.next_request;
        asked.next_request += 1;
        asked.changes += usize::from(matches!(pending, Pending::Change(_)));
        asked.answers.insert(request, pending);
        asked.waiting.push_back(command(request));
        drop(asked);
        self.wake.notify_one();
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves commands to the shard and replies to whoever waits for them, for ever. Runs on the control thread.
    pub(crate) async fn run(&self) {
        let mut pause = Duration::ZERO;
        loop {
            let moved = self.turn();
            let idle = self.asked().answers.is_empty();
            match (idle, moved) {
                (true, _) => self.wake.notified().await,
                (false, true) => {
                    pause = Duration::ZERO;
                    tokio::task::yield_now().await;
                }
                (false, false) => {
                    pause = (pause * 2).clamp(Duration::from_millis(1), LONGEST_PAUSE);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Moves what can be moved now; true if anything was.
    fn turn(&self) -> bool {
        let mut moved = false;
        // As many as can be under way: the thread has more to do than this.
        for _ in 0..UNDER_WAY {
            let Some(reply) = self.replies.pop() else { break };
            self.answer(reply);
            moved = true;
        }
        let mut asked = self.asked();
        while asked.under_way < UNDER_WAY {
            let Some(command) = asked.waiting.pop_front() else { break };
            if let Err(command) = self.commands.push(command) {
                asked.waiting.push_front(command);
                break;
            }
            asked.under_way += 1;
            moved = true;
        }
        moved
    }

    /// Hands a reply to whoever waits for it. Those who went away are not missed.
    fn answer(&self, reply: Reply) {
        let (Reply::StreamCreated { request, .. }
        | Reply::StreamDeleted { request, .. }
        | Reply::PublisherAdded { request, .. }
        | Reply::Streams { request, .. }
        | Reply::Sessions { request, .. }
        | Reply::Subscriptions { request, .. }) = &reply;
        let mut asked = self.asked();
        let pending = asked.answers.remove(request);
        asked.under_way -= 1;
        asked.changes -= usize::from(matches!(pending, Some(Pending::Change(_))));
        drop(asked);
        match (pending, reply) {
            (
                Some(Pending::Change(answer)),
                Reply::StreamCreated { result, .. } | Reply::PublisherAdded { result, .. },
            ) => {
                let _ = answer.send(result.map_err(failure));
            }
            // A stream that the shard does not have is as gone as it can be.
            (Some(Pending::Change(answer)), Reply::StreamDeleted { .. }) => {
                let _ = answer.send(Ok(()));
            }
            (Some(Pending::Positions(answer)), Reply::Streams { rows, .. }) => {
                let _ = answer.send(rows.first().map(positions));
            }
            (Some(Pending::Sessions(answer)), Reply::Sessions { rows, next, .. }) => {
                let rows = rows.iter().map(|row| self.session(row)).collect();
                {
                    let _ = answer.send(Page { rows, next });
                }
            }
            (Some(Pending::Subscriptions(answer)), Reply::Subscriptions { rows, next, .. }) => {
                let rows = rows.iter().map(|row| self.backlog(row)).collect();
                {
                    let _ = answer.send(Page { rows, next });
                }
            }
            (_, reply) => tracing::error!("shard {}: an unasked reply: {reply:?}", self.number),
        }
    }

    fn session(&self, row: &SessionRow) -> v1::Session {
        v1::Session {
            shard: self.number,
            slot: row.slot,
            port: self.ports.get(row.port).cloned().unwrap_or_default(),
            client: std::net::SocketAddr::new(row.ip, row.udp_port).to_string(),
            publisher: String::new(),
            publisher_id: row.publisher,
            incarnation: row.incarnation,
            silent_ms: row.silent_ns / 1_000_000,
            publications: row.publications,
            subscriptions: row.subscriptions,
            published_bytes: row.published_bytes,
            credit_bytes: row.credit_bytes,
        }
    }

    fn backlog(&self, row: &SubscriptionRow) -> v1::Backlog {
        let state = match row.state {
            ReaderState::Live => v1::ReaderState::Live,
            ReaderState::CatchingUp => v1::ReaderState::CatchingUp,
            ReaderState::NoCredit => v1::ReaderState::NoCredit,
            ReaderState::Stopped => v1::ReaderState::Stopped,
        };
        v1::Backlog {
            shard: self.number,
            slot: row.slot,
            client: std::net::SocketAddr::new(row.ip, row.udp_port).to_string(),
            stream_id: row.stream,
            stream: String::new(),
            next_offset: row.next_offset,
            limit: row.limit,
            visible_end: row.visible_end,
            state: state.into(),
        }
    }
}

fn positions(row: &StreamRow) -> v1::StreamPositions {
    v1::StreamPositions {
        earliest_offset: row.earliest_offset,
        next_offset: row.next_offset,
        visible_end: row.visible_end,
        publications: row.publications,
        subscriptions: row.subscriptions,
        cold_earliest_offset: row.cold.earliest,
        cold_end: row.cold.end,
    }
}

/// Why a shard did not take something on, as an answer.
fn failure(error: CreateError) -> v1::Failure {
    let code = match error {
        CreateError::Full(_) => Code::ResourceExhausted,
        CreateError::IdTaken | CreateError::NameTaken { .. } => Code::AlreadyExists,
        CreateError::Level { .. } => Code::FailedPrecondition,
    };
    v1::Failure { code: code as i32, message: error.to_string() }
}
