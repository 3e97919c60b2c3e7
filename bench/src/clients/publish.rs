//! `mstream-bench publish`: messages to an appliance, over its restarts, until all are acknowledged.

use std::time::Instant;

use mstream_client::{
    Client, Ended, Event, Identity, PublicationConfig, PublicationId, PublishError, SessionConfig,
};
use mstream_nic::Port;
use serde::Serialize;

use super::digest::Digest;
use super::progress::Progress;
use super::source::Source;
use super::{Job, MAX_BEAT_MS, Waiting, with_client};
use crate::cli::PublishArgs;
use crate::interrupt::Interrupt;
use crate::{Failure, replace_file, say};

/// Messages that are handed over between two polls at most.
const TURN: usize = 256;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct State {
    acknowledged: u64,
    sent: u64,
    reconnects: u64,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Outcome {
    messages: u64,
    /// Framed, as in a file.
    bytes: u64,
    sha256: String,
    /// From the first message to the last acknowledgement.
    seconds: f64,
    reconnects: u64,
}

struct Publishing<'a> {
    args: &'a PublishArgs,
    interrupt: Interrupt,
    source: Source,
    /// The source has a message that was not taken yet.
    at_hand: bool,
    digest: Digest,
    state: State,
    /// The last sequence that was stored before this run.
    base: Option<u64>,
    trouble: Option<Failure>,
}

/// Publishes until everything is acknowledged.
pub(crate) fn publish(args: &PublishArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::take()?;
    let mut source = Source::open(args)?;
    let at_hand = source.advance()?;
    let publishing = Publishing {
        args,
        interrupt,
        source,
        at_hand,
        digest: Digest::new(),
        state: State::default(),
        base: None,
        trouble: None,
    };
    let outcome = with_client(&args.at, publishing)?;
    let Outcome { messages, bytes, sha256, seconds, reconnects } = &outcome;
    say(&format!(
        "published {messages} messages, {bytes} bytes in {seconds} s, {reconnects} reconnects, sha256 {sha256}\n"
    ));
    match &args.at.json {
        Some(path) => {
            let text = serde_json::to_string_pretty(&outcome).map_err(|error| error.to_string())?;
            replace_file(path, &(text + "\n"))
        }
        None => Ok(()),
    }
}

impl Job for Publishing<'_> {
    type Outcome = Outcome;

    fn run<P: Port>(mut self, mut client: Client<P>) -> Result<Outcome, Failure> {
        let identity = self.args.publisher.map_or(Identity::Anonymous, Identity::Publisher);
        let session = client.open_session(SessionConfig {
            max_beat_ms: MAX_BEAT_MS,
            ..SessionConfig::new(identity)
        });
        let config = PublicationConfig {
            max_batch: self.args.batch.unwrap_or(u16::MAX),
            ..PublicationConfig::default()
        };
        let publication = client.open_publication(session, self.args.at.stream.clone(), &config);
        let mut progress = Progress::new(self.args.at.status_file.clone());
        let mut waiting = Waiting::new(&self.args.at);
        let clock = Instant::now();
        let mut began = None;
        while self.at_hand || self.state.acknowledged < self.state.sent {
            self.interrupt.check()?;
            let now_ns = clock.elapsed().as_nanos() as u64;
            let came = client.poll(now_ns, |event| self.event(&event));
            if let Some(trouble) = self.trouble.take() {
                return Err(trouble);
            }
            let state = self.state;
            progress.tell(&state, || {
                format!("acknowledged {} of {} sent", state.acknowledged, state.sent)
            })?;
            let took = self.hand_over(&mut client, publication, &mut began)?;
            if came > 0 {
                waiting.heard();
            } else if took == 0 {
                waiting.wait()?;
            }
        }
        progress.write(&self.state)?;
        client.close();
        let seconds = began.map_or(0.0, |began: Instant| began.elapsed().as_secs_f64());
        Ok(Outcome {
            messages: self.digest.messages(),
            bytes: self.digest.bytes(),
            sha256: self.digest.sha256(),
            seconds: (seconds * 1000.0).round() / 1000.0,
            reconnects: self.state.reconnects,
        })
    }
}

/// Why nothing more can be published, in words.
fn ended(why: Ended) -> Failure {
    match why {
        Ended::Diverged { acknowledged, stored } => format!(
            "diverged: {acknowledged} messages were acknowledged, the log holds {stored}: it lost its tail, or \
             somebody else published in this publisher's name"
        ),
        Ended::Refused(code) => format!("stream refused: {code}"),
        Ended::Session(code) => format!("session refused: {code}"),
    }
}

impl Publishing<'_> {
    /// Gives messages to the client as far as it takes them and the rate allows; how many.
    fn hand_over<P: Port>(
        &mut self,
        client: &mut Client<P>,
        publication: PublicationId,
        began: &mut Option<Instant>,
    ) -> Result<usize, Failure> {
        let mut took = 0;
        while self.at_hand && took < TURN && self.is_due(*began) {
            match client.publish(publication, b"", b"", self.source.message()) {
                Ok(_) => {}
                Err(PublishError::BackPressured | PublishError::NotConnected) => break,
                Err(error) => return Err(format!("message {}: {error}", self.state.sent)),
            }
            began.get_or_insert_with(Instant::now);
            self.digest.add(self.source.message())?;
            self.state.sent += 1;
            took += 1;
            self.at_hand = self.source.advance()?;
        }
        if took > 0 {
            client.flush();
        }
        Ok(took)
    }

    /// True when the next message may be sent.
    fn is_due(&self, began: Option<Instant>) -> bool {
        match (self.args.rate, began) {
            (Some(rate), Some(began)) => {
                began.elapsed().as_secs_f64() * rate as f64 >= self.state.sent as f64
            }
            _ => true,
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        let trouble = match *event {
            Event::Acknowledged { sequence, .. } => {
                self.state.acknowledged = sequence - self.base.unwrap_or(0).min(sequence);
                return;
            }
            Event::PublicationOpened { sequence, .. } => {
                self.base.get_or_insert(sequence);
                return;
            }
            Event::SessionLost { .. } => {
                self.state.reconnects += 1;
                return;
            }
            Event::OutcomeUnknown { first, last, .. } => format!(
                "the appliance was lost, and whether messages {first} to {last} of that session are stored is \
                 not known: only a publisher with a name (--publisher) goes on over restarts"
            ),
            Event::Refused { sequence, code, .. } => format!("message {sequence} refused: {code}"),
            Event::SessionFailed { code, .. } => format!("session refused: {code}"),
            Event::PublicationEnded { why, .. } => ended(why),
            _ => return,
        };
        self.trouble.get_or_insert(trouble);
    }
}
