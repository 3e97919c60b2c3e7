//! `mstream pub`.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use mstream_client::{
    Client, Event, Identity, PublicationConfig, PublicationId, PublishError, SessionConfig,
};
use mstream_nic::Port;

use super::contact::Contact;
use super::idle::Idle;
use super::input::{Input, Next};
use super::pace::Pace;
use super::reach::Reach;
use super::summary::Summary;
use super::{Job, MAX_BEAT_MS, since, with_client};
use crate::admin::{Admin, publishers, words};
use crate::cli::PubArgs;
use crate::failure::{Failure, note};
use crate::interrupt::Interrupt;
use crate::output::{Output, count, counted};
use crate::settings::Settings;

/// Messages that are handed over between two polls at most.
const TURN: usize = 256;

struct Publishing<'a> {
    args: &'a PubArgs,
    settings: &'a Settings,
    interrupt: Interrupt,
    identity: Identity,
    input: Input,
    pace: Pace,
    contact: Contact,
    bar: ProgressBar,
    messages: u64,
    bytes: u64,
    /// Messages that are not known to be stored: refused, or sent by a session that was lost.
    failed: u64,
    /// Offset behind the last acknowledged message.
    end: Option<u64>,
    /// Set once no more input is taken, with why if that is not its end. What was sent is waited for.
    input_end: Option<Result<(), String>>,
    began: Option<Instant>,
    trouble: Option<String>,
}

/// Publishes the input's messages until all are acknowledged.
pub(crate) fn publish(args: &PubArgs, settings: &Settings) -> Result<(), Failure> {
    let input = Input::open(args.file.as_deref(), args.framing.framing())?;
    let reach = Reach::find(&args.reach, settings)?;
    let identity = match (&args.publisher, args.publisher_id) {
        (Some(name), _) => {
            Identity::Publisher(publishers::id_of(&Admin::connect(settings)?, name)?)
        }
        (None, Some(id)) => Identity::Publisher(id),
        (None, None) => Identity::Anonymous,
    };
    if input.is_standard() && std::io::stdin().is_terminal() {
        note("a message is what you type, as --framing says; Ctrl-D ends it");
    }
    // From here on there is something to wait for.
    let interrupt = Interrupt::take(true)?;
    let job = Publishing {
        args,
        settings,
        interrupt,
        identity,
        bar: bar(&input),
        input,
        pace: Pace::new(args.rate),
        contact: Contact::new(&reach, settings, args.reach.patience),
        messages: 0,
        bytes: 0,
        failed: 0,
        end: None,
        input_end: None,
        began: None,
        trouble: None,
    };
    with_client(&reach, settings, (job, &reach))
}

impl Job for (Publishing<'_>, &Reach) {
    fn run<P: Port>(self, mut client: Client<P>) -> Result<(), Failure> {
        let (mut job, reach) = self;
        let session = client.open_session(SessionConfig {
            max_beat_ms: MAX_BEAT_MS,
            ..SessionConfig::new(job.identity)
        });
        let config = PublicationConfig::default();
        let publication = client.open_publication(session, reach.stream.clone(), &config);
        let stopped = job.publish(&mut client, publication);
        let (acknowledged, next) = client.sequences(publication);
        client.close();
        job.bar.finish_and_clear();
        job.finish(next.saturating_sub(1).saturating_sub(acknowledged), stopped)
    }
}

impl Publishing<'_> {
    /// Publishes until the end, or until something ends it early.
    fn publish<P: Port>(
        &mut self,
        client: &mut Client<P>,
        publication: PublicationId,
    ) -> Result<(), String> {
        let clock = Instant::now();
        let mut idle = Idle::new(self.args.reach.spin);
        loop {
            let now_ns = since(clock);
            let came = client.poll(now_ns, |event| self.event(now_ns, &event));
            if let Some(trouble) = self.trouble.take() {
                return Err(trouble);
            }
            if self.interrupt.asked() {
                self.input_end.get_or_insert(Err("interrupted".into()));
            }
            let (acknowledged, next) = client.sequences(publication);
            if acknowledged + 1 == next
                && let Some(end) = &self.input_end
                && (self.contact.is_made() || end.is_err())
            {
                return end.clone();
            }
            self.contact.check(now_ns, client.counters().malformed)?;
            let took = self.hand_over(client, publication, now_ns);
            if came == 0 && took == 0 {
                idle.wait();
            } else {
                idle.reset();
                self.bar.set_position(self.input.position());
            }
        }
    }

    /// Gives messages to the client as far as it takes them and the rate allows; how many.
    fn hand_over<P: Port>(
        &mut self,
        client: &mut Client<P>,
        publication: PublicationId,
        now_ns: u64,
    ) -> usize {
        let mut took = 0;
        while took < TURN && self.input_end.is_none() && self.pace.is_due(now_ns) {
            match self.input.look() {
                Ok(Next::Message) => {}
                Ok(Next::Nothing) => break,
                Ok(Next::End) => {
                    self.input_end = Some(Ok(()));
                    break;
                }
                // What was read before is sound and goes its way.
                Err(why) => {
                    self.input_end = Some(Err(why));
                    break;
                }
            }
            let message = self.input.message();
            match client.publish(publication, self.args.key.as_bytes(), b"", message) {
                Ok(_) => {}
                Err(PublishError::BackPressured | PublishError::NotConnected) => break,
                Err(error) => {
                    let why = format!("message {} of the input: {error}", self.messages + 1);
                    self.input_end = Some(Err(why));
                    break;
                }
            }
            self.began.get_or_insert_with(Instant::now);
            self.messages += 1;
            self.bytes += message.len() as u64;
            self.pace.sent(now_ns);
            self.input.take();
            took += 1;
        }
        if took > 0 {
            client.flush();
        }
        took
    }

    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        let trouble = match *event {
            Event::Acknowledged { offset, .. } => {
                self.end = Some(offset);
                return;
            }
            Event::OutcomeUnknown { first, last, .. } => {
                let unknown = last + 1 - first;
                self.failed += unknown;
                format!(
                    "the node was lost, and whether {} stored is not known: only a publisher with a name \
                     (--publisher) goes on over reconnects",
                    if unknown == 1 {
                        "1 message is".into()
                    } else {
                        format!("{} messages are", count(unknown))
                    }
                )
            }
            Event::Refused { count: refused, code, .. } => {
                self.failed += u64::from(refused);
                format!("{} refused: {code}", counted(refused.into(), "message"))
            }
            ref event => match self.contact.on_event(now_ns, event) {
                Ok(()) => return,
                Err(trouble) => trouble,
            },
        };
        self.trouble.get_or_insert(trouble);
    }

    /// Says what became of it.
    fn finish(self, in_flight: u64, stopped: Result<(), String>) -> Result<(), Failure> {
        let seconds = self.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        let summary = Summary {
            stream: &self.args.reach.stream,
            messages: self.messages,
            bytes: self.bytes,
            acknowledged: self.messages.saturating_sub(in_flight + self.failed),
            last_offset: self.end.and_then(|end| end.checked_sub(1)),
            level: words::wire_level(self.contact.level),
            seconds: (seconds * 1e6).round() / 1e6,
            publisher: self.args.publisher.as_deref(),
            publisher_id: self.contact.publisher.0,
            incarnation: self.contact.publisher.1,
            reconnects: self.contact.reconnects,
            error: stopped.as_ref().err().map(String::as_str),
        };
        let mut output = Output::new(self.settings.json);
        if self.settings.json {
            output.record(&summary)?;
        }
        match &stopped {
            Err(why) if self.messages == 0 => Err(Failure::Failed(why.clone())),
            Err(why) => Err(Failure::Failed(format!("{why}; {}", summary.partly()))),
            Ok(()) if self.settings.json => Ok(()),
            Ok(()) => output.line(&summary.words()),
        }
    }
}

/// How far the input is read, on a terminal that the input does not come from.
fn bar(input: &Input) -> ProgressBar {
    if !std::io::stderr().is_terminal() || std::io::stdin().is_terminal() && input.is_standard() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match input.size() {
        Some(size) => (
            ProgressBar::new(size),
            "{bar:30} {bytes} of {total_bytes} read, {bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} read, {bytes_per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
