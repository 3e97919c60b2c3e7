//! Changes with shards that answer late, never, or with a refusal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mstream_admin::v1;
use mstream_pmem::region::Level;
use tokio::sync::{oneshot, watch};
use tonic::Code;

use super::changes::Changes;
use super::*;
use crate::catalogue::{
    Catalogue, Command, Configured, Event, Journal, JournalError, Publisher, Rules, Stream,
    StreamKey,
};

/// A question, and where its answer goes.
type Asked = (String, oneshot::Sender<Result<(), v1::Failure>>);

/// Shards that answer when the test says so.
#[derive(Default)]
struct Double {
    asked: Mutex<VecDeque<Asked>>,
    /// Answers of their own accord.
    prompt: bool,
}

impl Double {
    fn ask(&self, what: String) -> Answer<Result<(), v1::Failure>> {
        let (answer, receiver) = oneshot::channel();
        match self.prompt {
            true => answer.send(Ok(())).expect("it is waited for"),
            false => self.asked.lock().expect("no panic").push_back((what, answer)),
        }
        receiver
    }

    /// Takes the oldest question.
    async fn next(&self) -> Asked {
        loop {
            if let Some(asked) = self.asked.lock().expect("no panic").pop_front() {
                return asked;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Shards for Double {
    fn count(&self) -> u32 {
        2
    }
    fn unanswered(&self, shard: u32) -> usize {
        if shard == 0 { self.asked.lock().expect("no panic").len() << 15 } else { 0 }
    }
    fn create_stream(&self, stream: &Stream) -> Answer<Result<(), v1::Failure>> {
        self.ask(format!("create {}", stream.name))
    }
    fn delete_stream(&self, _: u32, id: u64) -> Answer<Result<(), v1::Failure>> {
        self.ask(format!("delete {id}"))
    }
    fn add_publisher(&self, shard: u32, publisher: &Publisher) -> Answer<Result<(), v1::Failure>> {
        self.ask(format!("publisher {} on {shard}", publisher.name))
    }
    fn positions(&self, _: u32, _: u64) -> Answer<Option<v1::StreamPositions>> {
        oneshot::channel().1
    }
    fn sessions(&self, shard: u32, from: u32, most: usize) -> Answer<Page<v1::Session>> {
        // Ten slots on each shard, three looked at a time, every second one in use.
        let (answer, receiver) = oneshot::channel();
        let (mut rows, mut slot) = (Vec::new(), from);
        while slot < (from + 3).min(10) && rows.len() < most {
            if slot % 2 == 0 {
                rows.push(v1::Session { shard, slot, ..Default::default() });
            }
            slot += 1;
        }
        answer.send(Page { rows, next: (slot < 10).then_some(slot) }).expect("it is waited for");
        receiver
    }
    fn subscriptions(&self, _: u32, _: u32, _: usize) -> Answer<Page<v1::Backlog>> {
        oneshot::channel().1
    }
    fn status(&self) -> v1::Status {
        v1::Status::default()
    }
    fn pulses(&self) -> Vec<u64> {
        vec![0; 2]
    }
}

/// A journal that forgets, or fails.
struct Forgetful {
    fails: bool,
}

impl Journal for Forgetful {
    fn commit(&mut self, _: &Catalogue, _: &[Command]) -> Result<(), JournalError> {
        match self.fails {
            true => Err(JournalError::NotWritten { place: "file".into(), reason: "full".into() }),
            false => Ok(()),
        }
    }
    fn tidy(&mut self, _: &Catalogue) -> Result<(), JournalError> {
        Ok(())
    }
}

fn changes(shards: &Arc<Double>, fails: bool) -> (Admin, Changes) {
    let mut catalogue = Catalogue::default();
    let shard_levels = vec![Level::Process; 2];
    let configured = Configured { shards: shard_levels, streams_per_shard: 99, publishers: 9 };
    catalogue.apply(&Command::Configure(configured)).expect("nothing is in the way");
    let admin = Admin {
        keeper: Arc::new(Keeper::new(catalogue, Forgetful { fails })),
        shards: Arc::clone(shards) as Arc<dyn Shards>,
        errors: Arc::default(),
        source: Arc::new(Source { path: "node.toml".into(), text: String::new() }),
        stopping: watch::channel(false).1,
    };
    (admin.clone(), Changes::new(admin))
}

fn create(name: &str) -> Command {
    let (name, rules) = (name.into(), Rules::default());
    Command::CreateStream { time_ns: 1, id: None, name, shard: Some(0), rules }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_answer_is_told_of_and_the_catalogue_keeps_the_stream() {
    let shards = Arc::new(Double::default());
    let (admin, changes) = changes(&shards, false);
    let outcomes = changes.make(vec![create("a")]).await.expect("committed");
    let failure = outcomes[0].as_ref().expect_err("late");
    assert_eq!(failure.code, Code::DeadlineExceeded as i32);
    assert_eq!(
        failure.message,
        "shard 0 did not answer in 5 s: stream `a` was created with id 1 and stays in the catalogue; \
         clients can use it as soon as the shard answers"
    );
    let (asked, answer) = shards.next().await;
    assert_eq!(asked, "create a", "it is still asked for");
    answer.send(Ok(())).expect("somebody follows it to its end");
    assert_eq!(admin.keeper.read(Catalogue::streams), 1);
    let outcomes = changes.make(vec![Command::DeleteStream(StreamKey::Id(1))]).await;
    let failure = outcomes.expect("committed").remove(0).expect_err("late");
    assert!(failure.message.contains("stream `a` (id 1) is deleted"), "{}", failure.message);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_shard_refuses_is_deleted_again_also_when_nobody_waits() {
    let shards = Arc::new(Double::default());
    let (admin, changes) = changes(&shards, false);
    let refusal = || {
        Err(v1::Failure { code: Code::ResourceExhausted as i32, message: "no room".to_string() })
    };
    let made = tokio::spawn({
        let changes = changes.clone();
        async move { changes.make(vec![create("a"), create("b")]).await }
    });
    let (_, first) = shards.next().await;
    let (_, second) = shards.next().await;
    second.send(Ok(())).expect("it is waited for");
    first.send(refusal()).expect("it is waited for");
    let outcomes = made.await.expect("no panic").expect("committed");
    let failure = outcomes[0].as_ref().expect_err("refused");
    assert_eq!(failure.code, Code::ResourceExhausted as i32);
    assert_eq!(failure.message, "shard 0 refused it: no room; it was not created");
    assert!(matches!(&outcomes[1], Ok(Event::StreamCreated(stream)) if stream.id == 2));
    assert_eq!(admin.keeper.read(Catalogue::streams), 1);
    assert_eq!(shards.next().await.0, "delete 1", "whatever the shard made of it");
    // The same with a caller that goes away at once.
    let made = tokio::spawn({
        let changes = changes.clone();
        async move { changes.make(vec![create("c")]).await }
    });
    let (_, answer) = shards.next().await;
    made.abort();
    assert!(made.await.expect_err("aborted").is_cancelled());
    answer.send(refusal()).expect("it is followed");
    while admin.keeper.read(Catalogue::streams) > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(admin.errors.list().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_fails_tells_no_shard_anything() {
    let shards = Arc::new(Double::default());
    let (admin, changes) = changes(&shards, true);
    let status = changes.make(vec![create("a")]).await.expect_err("nothing is durable");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "nothing was changed: file: cannot write: full");
    assert!(shards.asked.lock().expect("no panic").is_empty());
    assert_eq!(admin.keeper.read(Catalogue::streams), 0);
    assert_eq!(admin.errors.list()[0].place, "catalogue");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_answers_nothing_gets_no_more() {
    let shards = Arc::new(Double::default());
    let (admin, changes) = changes(&shards, false);
    for name in ["a", "b", "c"] {
        changes.make(vec![create(name)]).await.expect("committed");
    }
    let status = changes.make(vec![create("d")]).await.expect_err("too many wait");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("nothing was changed: shard 0 has not answered"));
    assert_eq!(admin.keeper.read(Catalogue::streams), 3);
}

#[tokio::test]
async fn of_many_creates_of_one_name_one_wins_and_a_publisher_reaches_every_shard() {
    let shards = Arc::new(Double { prompt: true, ..Double::default() });
    let (admin, changes) = changes(&shards, false);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let changes = changes.clone();
            tokio::spawn(async move { changes.make(vec![create("same")]).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.expect("no panic").expect("committed").remove(0) {
            Ok(_) => won += 1,
            Err(failure) => assert_eq!(failure.code, Code::AlreadyExists as i32),
        }
    }
    assert_eq!(won, 1);
    let register = || Command::RegisterPublisher { time_ns: 1, id: None, name: "w".into() };
    let outcomes = changes.make(vec![register(), register()]).await.expect("committed");
    assert!(matches!(&outcomes[0], Ok(Event::PublisherRegistered(w)) if w.id == 1));
    assert!(matches!(&outcomes[1], Ok(Event::PublisherKnown(w)) if w.id == 1));
    assert_eq!(admin.keeper.read(Catalogue::publishers), 1);
}

#[tokio::test]
async fn pages_of_reports_go_on_over_all_shards() {
    let shards = Double::default();
    let ask = |shard, from, most| shards.sessions(shard, from, most);
    let (mut all, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let (rows, next) =
            pages::gather(2, &token, 3, ask, |_| true).await.expect("they all answer");
        assert!(rows.len() <= 3);
        all.extend(rows.iter().map(|row| (row.shard, row.slot)));
        (token, pages) = (next, pages + 1);
        if token.is_empty() {
            break;
        }
    }
    let expected: Vec<_> =
        (0..2).flat_map(|shard| [0, 2, 4, 6, 8].map(|slot| (shard, slot))).collect();
    assert_eq!(all, expected);
    assert!(pages > 2);
    for wrong in ["x", "0", "0.x", ".", "0.1.2", "-1.0", "99999999999.0"] {
        let status = pages::gather(2, wrong, 3, ask, |_| true).await.expect_err(wrong);
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong}");
    }
}
