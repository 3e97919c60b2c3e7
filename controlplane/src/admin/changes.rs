//! Changes: committed to the catalogue, then handed to the shards, then answered.

use std::sync::Arc;

use mstream_admin::v1;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{Admin, Answer, PATIENCE, convert, now_ns};
use crate::catalogue::{Command, Event, Refusal, StreamKey};

/// Changes that may wait for one shard: more mean that it does not answer.
const MOST_UNANSWERED: usize = 1 << 16;

/// Makes the changes of all calls, one call after another.
#[derive(Clone)]
pub(super) struct Changes {
    admin: Admin,
    /// Held from committing until the shards' queues have it: shards see changes in the catalogue's order.
    order: Arc<Mutex<()>>,
}

/// What became of one command.
pub(super) type Outcome = Result<Event, v1::Failure>;

/// A change that shards have to answer.
struct Delivered {
    index: usize,
    event: Event,
    answers: Vec<Answer<Result<(), v1::Failure>>>,
}

impl Changes {
    pub(super) fn new(admin: Admin) -> Changes {
        Changes { admin, order: Arc::default() }
    }

    /// Commits `commands` in one durable step, hands them to the shards, and waits for their answers for a while.
    /// It goes on also when the caller does not wait.
    pub(super) async fn make(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, Status> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        for shard in 0..self.admin.shards.count() {
            let unanswered = self.admin.shards.unanswered(shard);
            if unanswered > MOST_UNANSWERED {
                return Err(Status::unavailable(format!(
                    "nothing was changed: shard {shard} has not answered {unanswered} changes yet"
                )));
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let (reports, mut reported) = mpsc::unbounded_channel();
        let this = self.clone();
        // A task of its own: a caller that goes away must not leave a commit that no shard hears of.
        let commit = tokio::spawn(async move {
            let (outcomes, delivered) = this.commit(commands).await?;
            tokio::spawn(this.follow(delivered, reports));
            Ok::<_, Status>(outcomes)
        });
        let outcomes = commit.await.map_err(|_| Status::internal("a task ended by itself"))??;
        let mut answers: Vec<Option<Outcome>> = outcomes
            .iter()
            .map(|outcome| outcome.as_ref().err().map(|refusal| Err(convert::refusal(refusal))))
            .collect();
        let mut missing = answers.iter().filter(|answer| answer.is_none()).count();
        while missing > 0 {
            match tokio::time::timeout_at(deadline, reported.recv()).await {
                Ok(Some((index, outcome))) => {
                    answers[index] = Some(outcome);
                    missing -= 1;
                }
                Ok(None) | Err(_) => break,
            }
        }
        let late = |outcome: &Result<Event, Refusal>| match outcome {
            Ok(event) => Err(no_answer(event)),
            Err(refusal) => Err(convert::refusal(refusal)),
        };
        let answers = answers.into_iter().zip(&outcomes);
        Ok(answers.map(|(answer, outcome)| answer.unwrap_or_else(|| late(outcome))).collect())
    }

    /// Commits, and queues for the shards what came of it.
    async fn commit(
        &self,
        commands: Vec<Command>,
    ) -> Result<(Vec<Result<Event, Refusal>>, Vec<Delivered>), Status> {
        let _order = self.order.lock().await;
        let keeper = Arc::clone(&self.admin.keeper);
        let changed = tokio::task::spawn_blocking(move || keeper.change(&commands))
            .await
            .map_err(|_| Status::internal("a task ended by itself"))?;
        let outcomes = changed.map_err(|error| {
            self.admin.errors.note("catalogue", &error.to_string(), 1, now_ns());
            convert::journal(&error)
        })?;
        let shards = &self.admin.shards;
        let mut delivered = Vec::with_capacity(outcomes.len());
        for (index, outcome) in outcomes.iter().enumerate() {
            let Ok(event) = outcome else { continue };
            let answers = match event {
                Event::StreamCreated(stream) => vec![shards.create_stream(stream)],
                Event::StreamDeleted(stream) => vec![shards.delete_stream(stream.shard, stream.id)],
                // One that is known may not have reached a shard yet.
                Event::PublisherRegistered(publisher) | Event::PublisherKnown(publisher) => (0
                    ..shards.count())
                    .map(|shard| shards.add_publisher(shard, publisher))
                    .collect(),
                Event::Configured | Event::StreamIdsReserved(_) => Vec::new(),
            };
            delivered.push(Delivered { index, event: event.clone(), answers });
        }
        Ok((outcomes, delivered))
    }

    /// Waits for all answers, however long they take. A stream that its shard refused is deleted again.
    async fn follow(
        self,
        delivered: Vec<Delivered>,
        reports: mpsc::UnboundedSender<(usize, Outcome)>,
    ) {
        for Delivered { index, event, answers } in delivered {
            let mut outcome = Ok(event);
            for answer in answers {
                match answer.await {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => outcome = Err(self.refused(outcome, failure).await),
                    // The node stops. Its catalogue has it, and so will its shards at the next start.
                    Err(_) => return,
                }
            }
            // Nobody may be waiting any more.
            let _ = reports.send((index, outcome));
        }
    }

    /// Makes up for what a shard refused, and says so.
    async fn refused(&self, event: Outcome, mut failure: v1::Failure) -> v1::Failure {
        match event {
            Ok(Event::StreamCreated(stream)) => {
                let undo = Command::DeleteStream(StreamKey::Id(stream.id));
                let end = match Box::pin(self.commit(vec![undo])).await {
                    Ok(_) => "it was not created".to_string(),
                    Err(error) => {
                        format!("it is in the catalogue all the same: {}", error.message())
                    }
                };
                failure.message =
                    format!("shard {} refused it: {}; {end}", stream.shard, failure.message);
            }
            Ok(Event::PublisherRegistered(publisher) | Event::PublisherKnown(publisher)) => {
                failure.message = format!(
                    "it has id {}, but a shard refused it: {}",
                    publisher.id, failure.message
                );
            }
            Ok(_) => {}
            Err(earlier) => return earlier,
        }
        self.admin.errors.note("catalogue", &failure.message, 1, now_ns());
        failure
    }
}

/// What is true of a change that was committed and that a shard has not answered.
fn no_answer(event: &Event) -> v1::Failure {
    let seconds = PATIENCE.as_secs();
    let message = match event {
        Event::StreamCreated(stream) => format!(
            "shard {} did not answer in {seconds} s: stream `{}` was created with id {} and stays in the \
             catalogue; clients can use it as soon as the shard answers",
            stream.shard, stream.name, stream.id
        ),
        Event::StreamDeleted(stream) => format!(
            "shard {} did not answer in {seconds} s: stream `{}` (id {}) is deleted; clients may use it \
             until the shard answers",
            stream.shard, stream.name, stream.id
        ),
        Event::PublisherRegistered(publisher) | Event::PublisherKnown(publisher) => format!(
            "a shard did not answer in {seconds} s: publisher `{}` has id {} and can use a shard as soon \
             as it answers",
            publisher.name, publisher.id
        ),
        Event::Configured | Event::StreamIdsReserved(_) => "committed".to_string(),
    };
    v1::Failure { code: Code::DeadlineExceeded as i32, message }
}
