//! `mstream-bench subscribe`: reads a stream, over restarts of the appliance, and checks its offsets.

use std::fs::File;
use std::time::Instant;

use mstream_client::{Client, Event, Identity, SessionConfig, Stop};
use mstream_framing::MessageWriter;
use mstream_nic::Port;
use serde::Serialize;

use super::digest::Digest;
use super::progress::Progress;
use super::{Job, MAX_BEAT_MS, Waiting, with_client};
use crate::cli::SubscribeArgs;
use crate::interrupt::Interrupt;
use crate::itch_command::{create, failed};
use crate::tally::{Faults, Tally};
use crate::{Failure, replace_file, say};

/// Messages that the appliance may send beyond what was taken.
const WINDOW: u64 = 1 << 14;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct State {
    received: u64,
    reconnects: u64,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Outcome {
    messages: u64,
    first_offset: Option<u64>,
    /// Framed, as in a file.
    bytes: u64,
    sha256: String,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    /// From the first message to the last.
    seconds: f64,
    reconnects: u64,
    /// Why it ended before its count, or that it did not.
    stopped: String,
}

struct Subscribing<'a> {
    args: &'a SubscribeArgs,
    interrupt: Interrupt,
    output: Option<MessageWriter<File>>,
    digest: Digest,
    tally: Option<(u64, Tally)>,
    reconnects: u64,
    times: Option<(Instant, Instant)>,
    /// Why it ends.
    stopped: Option<String>,
    trouble: Option<Failure>,
}

/// Reads until the count is reached, or somebody asks for the end.
pub(crate) fn subscribe(args: &SubscribeArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::take()?;
    let output = args.output.as_deref().map(create).transpose()?;
    let subscribing = Subscribing {
        args,
        interrupt,
        output,
        digest: Digest::new(),
        tally: None,
        reconnects: 0,
        times: None,
        stopped: None,
        trouble: None,
    };
    let (outcome, trouble) = with_client(&args.at, subscribing)?;
    let Outcome { messages, bytes, sha256, reconnects, .. } = &outcome;
    say(&format!(
        "received {messages} messages, {bytes} bytes, {reconnects} reconnects, sha256 {sha256}\n"
    ));
    if let Some(path) = &args.at.json {
        let text = serde_json::to_string_pretty(&outcome).map_err(|error| error.to_string())?;
        replace_file(path, &(text + "\n"))?;
    }
    let Outcome { lost, duplicated, out_of_order, .. } = outcome;
    match trouble {
        Some(trouble) => Err(trouble),
        None if lost + duplicated + out_of_order > 0 => Err(format!(
            "{lost} messages lost, {duplicated} duplicated, {out_of_order} out of order"
        )),
        None => Ok(()),
    }
}

impl Job for Subscribing<'_> {
    type Outcome = (Outcome, Option<Failure>);

    fn run<P: Port>(mut self, mut client: Client<P>) -> Result<Self::Outcome, Failure> {
        let session = client.open_session(SessionConfig {
            max_beat_ms: MAX_BEAT_MS,
            ..SessionConfig::new(Identity::Anonymous)
        });
        client.subscribe(session, self.args.at.stream.clone(), self.args.from, WINDOW);
        let mut progress = Progress::new(self.args.at.status_file.clone());
        let mut waiting = Waiting::new(&self.args.at);
        let clock = Instant::now();
        while self.stopped.is_none() && self.trouble.is_none() {
            if self.interrupt.asked() {
                self.stopped = Some("asked to end".into());
            }
            let now_ns = clock.elapsed().as_nanos() as u64;
            if client.poll(now_ns, |event| self.event(&event)) > 0 {
                waiting.heard();
            } else if let Err(silence) = waiting.wait() {
                self.trouble = Some(silence);
            }
            let state = self.state();
            progress.tell(&state, || format!("received {}", state.received))?;
        }
        progress.write(&self.state())?;
        client.close();
        if let Some(output) = self.output.take()
            && let Some(path) = &self.args.output
        {
            output.finish().map_err(|error| failed(path, &error))?;
        }
        let faults = match &self.tally {
            Some((_, tally)) => tally.faults(0),
            None => Faults::default(),
        };
        let seconds = self.times.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        let outcome = Outcome {
            messages: self.digest.messages(),
            first_offset: self.tally.as_ref().map(|(first, _)| *first),
            bytes: self.digest.bytes(),
            sha256: self.digest.sha256(),
            lost: faults.lost,
            duplicated: faults.duplicated,
            out_of_order: faults.out_of_order,
            seconds: (seconds * 1000.0).round() / 1000.0,
            reconnects: self.reconnects,
            stopped: self
                .trouble
                .as_ref()
                .or(self.stopped.as_ref())
                .map_or_else(String::new, String::clone),
        };
        Ok((outcome, self.trouble))
    }
}

impl Subscribing<'_> {
    fn state(&self) -> State {
        State { received: self.digest.messages(), reconnects: self.reconnects }
    }

    fn event(&mut self, event: &Event<'_>) {
        let trouble = match *event {
            Event::Message { offset, message, .. } => match self.message(offset, message.payload) {
                Ok(()) => return,
                Err(failure) => failure,
            },
            Event::SessionLost { .. } => {
                self.reconnects += 1;
                return;
            }
            Event::SessionFailed { code, .. } => format!("session refused: {code}"),
            Event::SubscriptionStopped { why, .. } => match why {
                Stop::OffsetGone { earliest } => {
                    format!("offset gone: the earliest that is held is {earliest}")
                }
                Stop::Diverged { next, common } => format!(
                    "diverged: the log lost what was read from offset {common} on, before {next} was asked for"
                ),
                Stop::Refused(code) => format!("subscription refused: {code}"),
            },
            // Offsets without content show as lost: the next message's offset is higher.
            _ => return,
        };
        self.trouble.get_or_insert(trouble);
    }

    fn message(&mut self, offset: u64, payload: &[u8]) -> Result<(), Failure> {
        if self.stopped.is_some() {
            return Ok(());
        }
        let (_, tally) = self.tally.get_or_insert_with(|| (offset, Tally::new(offset)));
        tally.came(offset);
        self.digest.add(payload)?;
        if let (Some(output), Some(path)) = (&mut self.output, &self.args.output) {
            output.write(payload).map_err(|error| failed(path, &error))?;
        }
        let now = Instant::now();
        self.times = Some((self.times.map_or(now, |(first, _)| first), now));
        if self.args.count == Some(self.digest.messages()) {
            self.stopped = Some("count reached".into());
        }
        Ok(())
    }
}
