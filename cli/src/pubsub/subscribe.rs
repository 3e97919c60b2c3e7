//! `mstream sub`.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{HumanCount, ProgressBar};
use mstream_client::{Client, Event, From, Identity, SessionConfig, Stop, SubscriptionId};
use mstream_nic::Port;

use super::contact::Contact;
use super::format::Sink;
use super::idle::Idle;
use super::reach::Reach;
use super::{Job, MAX_BEAT_MS, advice, since, with_client};
use crate::admin::spinner;
use crate::cli::SubArgs;
use crate::failure::{Failure, note};
use crate::interrupt::Interrupt;
use crate::output::{Output, count, counted};
use crate::settings::Settings;

/// Messages that the node may send beyond what was taken.
const WINDOW: u64 = 1 << 14;
/// Offsets that were compacted away: nothing is missing there.
const COMPACTED: u16 = 1;

struct Subscribing<'a> {
    args: &'a SubArgs,
    interrupt: Interrupt,
    sink: Sink,
    contact: Contact,
    bar: ProgressBar,
    /// Messages that were written, and bytes of them.
    messages: u64,
    bytes: u64,
    /// Offsets whose messages are gone.
    missing: u64,
    /// The next offset.
    next: u64,
    /// Where it ends, once that is known.
    until: Option<u64>,
    /// Where to go on, behind what is gone.
    seek: Option<From>,
    done: bool,
    trouble: Option<Failure>,
}

/// Reads a stream until its end, a count, or Ctrl-C.
pub(crate) fn subscribe(args: &SubArgs, settings: &Settings) -> Result<(), Failure> {
    let reach = Reach::find(&args.reach, settings)?;
    let sink = Sink::open(args, settings.json)?;
    let interrupt = Interrupt::take(true)?;
    let to_terminal = args.output.is_none() && std::io::stdout().is_terminal();
    let job = Subscribing {
        args,
        interrupt,
        sink,
        contact: Contact::new(&reach, settings, args.reach.patience),
        // Messages on the same terminal show best how far it is.
        bar: if to_terminal { ProgressBar::hidden() } else { spinner() },
        messages: 0,
        bytes: 0,
        missing: 0,
        next: 0,
        until: None,
        seek: None,
        done: false,
        trouble: None,
    };
    with_client(&reach, settings, (job, &reach, settings))
}

impl Job for (Subscribing<'_>, &Reach, &Settings) {
    fn run<P: Port>(self, mut client: Client<P>) -> Result<(), Failure> {
        let (mut job, reach, settings) = self;
        let session = client.open_session(SessionConfig {
            max_beat_ms: MAX_BEAT_MS,
            ..SessionConfig::new(Identity::Anonymous)
        });
        let from = job.args.from.unwrap_or(match job.args.until_end {
            true => From::Earliest,
            false => From::Latest,
        });
        let subscription = client.subscribe(session, reach.stream.clone(), from, WINDOW);
        let stopped = job.read(&mut client, subscription);
        client.close();
        job.bar.finish_and_clear();
        let Subscribing { args, sink, messages, bytes, missing, .. } = job;
        // Whatever went wrong, what was read is there.
        let finished = sink.finish();
        stopped?;
        finished?;
        if let Some(path) = args.output.as_ref().filter(|_| !settings.json) {
            let what = format!("{}, {}", counted(messages, "message"), counted(bytes, "byte"));
            Output::new(false).line(&format!("{}: {what}", path.display()))?;
        }
        match missing {
            0 => Ok(()),
            missing => Err(Failure::Failed(format!("{} missing", counted(missing, "message")))),
        }
    }
}

impl Subscribing<'_> {
    fn read<P: Port>(
        &mut self,
        client: &mut Client<P>,
        subscription: SubscriptionId,
    ) -> Result<(), Failure> {
        let clock = Instant::now();
        let mut idle = Idle::new(self.args.reach.spin);
        while !self.done && !self.interrupt.asked() {
            let now_ns = since(clock);
            let came = client.poll(now_ns, |event| self.event(now_ns, &event));
            if let Some(trouble) = self.trouble.take() {
                return Err(trouble);
            }
            self.contact.check(now_ns, client.counters().malformed)?;
            if let Some(from) = self.seek.take() {
                client.seek(subscription, from);
            }
            if came == 0 && !self.done {
                self.sink.rest()?;
                self.bar.set_message(format!("{} messages", HumanCount(self.messages)));
                idle.wait();
            } else {
                idle.reset();
            }
        }
        Ok(())
    }

    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        if self.done || self.trouble.is_some() {
            return;
        }
        match *event {
            Event::Message { offset, publisher, message, .. } => {
                match self.sink.message(offset, publisher, &message) {
                    Ok(()) => {}
                    Err(failure) => return self.trouble = Some(failure),
                }
                self.messages += 1;
                self.bytes += message.payload.len() as u64;
                self.next = offset + 1;
                self.done = self.args.count == Some(self.messages);
            }
            Event::Skipped { from, to, reason, .. } => {
                let gone = to.saturating_sub(from);
                self.next = to;
                if reason == COMPACTED {
                    return;
                }
                self.missing += gone;
                note(&format!("offsets {from} to {} are lost", to - 1));
                if !self.args.keep_going {
                    self.done = true;
                }
            }
            Event::SubscriptionStopped { why, .. } => self.stopped(why),
            ref event => {
                if let Event::Subscribed { start, end, .. } = *event
                    && self.messages == 0
                {
                    self.next = self.next.max(start);
                    if self.args.until_end {
                        self.until.get_or_insert(end);
                    }
                }
                if let Err(why) = self.contact.on_event(now_ns, event) {
                    self.trouble = Some(why.into());
                }
            }
        }
        self.done |= self.until.is_some_and(|until| self.next >= until);
    }

    /// The node says that it cannot go on from here.
    fn stopped(&mut self, why: Stop) {
        let (text, go_on) = match why {
            Stop::OffsetGone { earliest } => {
                let gone = earliest.saturating_sub(self.wanted());
                let text = format!(
                    "offset {} is gone: the first one that is held is {}",
                    count(self.wanted()),
                    count(earliest)
                );
                (text, Some((gone, earliest)))
            }
            Stop::Diverged { next, common } if common < next => {
                let text = format!(
                    "diverged: the log lost offsets {} to {}, which were read, and has or will have other messages there",
                    count(common),
                    count(next - 1)
                );
                (text, Some((next - common, common)))
            }
            Stop::Diverged { common, .. } => {
                let text = format!(
                    "offset {} is beyond the stream's end at {}",
                    count(self.wanted()),
                    count(common)
                );
                (text, None)
            }
            Stop::Refused(code) => (format!("subscription refused: {code}{}", advice(code)), None),
        };
        match go_on.filter(|_| self.args.keep_going) {
            Some((gone, offset)) => {
                note(&format!("{text}: going on there"));
                self.missing += gone;
                self.next = offset;
                self.seek = Some(From::Offset(offset));
            }
            None => self.trouble = Some(text.into()),
        }
    }

    /// The offset that would come next.
    fn wanted(&self) -> u64 {
        match self.args.from {
            Some(From::Offset(offset)) if self.messages == 0 => offset.max(self.next),
            _ => self.next,
        }
    }
}
