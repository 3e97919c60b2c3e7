//! A subscriber: takes what it is given, and it is compared with the log.

use std::collections::BTreeMap;

use mstream_client::{
    Client, Event, From, Identity, Position, SessionConfig, Stop, SubscriptionId,
};
use mstream_nic::Port;
use mstream_nic::sim::Endpoint;
use mstream_wire::{Code, Skip};

use crate::catalogue::stream_name;
use crate::clients::{Attached, Pace};
use crate::content::Content;
use crate::history::{Entry, History};
use crate::invariants::gaps::Since;
use crate::invariants::{Broken, Check, bytes, diverged, gaps, told};
use crate::random::Random;
use crate::trace::Trace;

pub(crate) struct Subscriber<P: Port> {
    pub(crate) number: u32,
    pub(crate) stream: u32,
    /// Its place in the network.
    pub(crate) host: u16,
    pub(crate) endpoint: Endpoint,
    pub(crate) pace: Pace,
    client: Client<P>,
    subscription: SubscriptionId,
    /// The next offset, once known.
    next: Option<u64>,
    /// Where it must start when it asked for another place than an offset: at or behind this.
    least: u64,
    /// It asked for the earliest offset: nothing that is held is left out.
    earliest: bool,
    /// The time that it asked for, and what its stream was then.
    since: Option<(u64, Since)>,
    /// How often the log had been opened when it last asked for a place.
    starts: u32,
    /// How often something was lost when it last began to set up a session: whatever it is told in that, it is told later.
    losses: u32,
    /// What it was given since it last asked for a place without a position or was told *diverged*: kept where a reboot
    /// may take something.
    seen: BTreeMap<u64, Content>,
    /// Its stream was deleted.
    pub(crate) over: bool,
    notes: Vec<Note>,
}

enum Note {
    Subscribed { start: u64 },
    Message { offset: u64, entry: Option<Entry> },
    Compacted { from: u64, to: u64 },
    Lost { from: u64, to: u64 },
    OffsetGone(u64),
    Diverged { next: u64, common: u64 },
    Deleted,
    SessionOpened { level: u8 },
    SessionLost,
    Quiet,
    Wrong(String),
}

fn note(event: Event<'_>) -> Note {
    match event {
        Event::Subscribed { start, .. } => Note::Subscribed { start },
        Event::Message { offset, publisher, message, .. } => {
            let entry = Content::read(&message).map(|content| Entry { content, publisher });
            Note::Message { offset, entry }
        }
        Event::Skipped { from, to, reason: Skip::COMPACTED, .. } => Note::Compacted { from, to },
        Event::Skipped { from, to, reason: Skip::LOST, .. } => Note::Lost { from, to },
        Event::SubscriptionStopped { why: Stop::OffsetGone { earliest }, .. } => {
            Note::OffsetGone(earliest)
        }
        Event::SubscriptionStopped { why: Stop::Diverged { next, common }, .. } => {
            Note::Diverged { next, common }
        }
        Event::SubscriptionStopped { why: Stop::Refused(Code::UnknownStream), .. } => Note::Deleted,
        Event::SessionLost { .. } => Note::SessionLost,
        Event::SessionOpened { level, .. } => Note::SessionOpened { level },
        Event::Delayed { .. } => Note::Quiet,
        other => Note::Wrong(format!("{other:?}")),
    }
}

/// Where a subscriber goes on after its client died.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    pub(crate) next: u64,
    pub(crate) position: Option<Position>,
    seen: BTreeMap<u64, Content>,
}

impl<P: Port> Subscriber<P> {
    pub(crate) fn new(
        number: u32,
        stream: u32,
        resume: Option<Resume>,
        attached: Attached<P>,
        history: &History,
        random: &mut Random,
    ) -> Subscriber<P> {
        let Attached { number: host, endpoint, port, addresses, pace } = attached;
        let mut client = Client::new(port, addresses, random.key());
        let max_beat_ms = random.within(20..=2_000) as u32;
        let session =
            client.open_session(SessionConfig { identity: Identity::Anonymous, max_beat_ms });
        let latest = random.one_in(4);
        let from = match &resume {
            Some(Resume { position: Some(position), .. }) => From::Position(*position),
            Some(Resume { next, .. }) => From::Offset(*next),
            None if latest => From::Latest,
            None => From::Earliest,
        };
        let window = random.size(2..=256);
        let name = stream_name(stream);
        let subscription = client.subscribe(session, name.as_str(), from, window);
        let (_, promised, earliest) = history.bounds(stream);
        let next = resume.as_ref().map(|resume| resume.next);
        let seen = match resume {
            Some(Resume { position: Some(_), seen, .. }) => seen,
            _ => BTreeMap::new(),
        };
        Subscriber {
            number,
            stream,
            host,
            endpoint,
            pace,
            client,
            subscription,
            next,
            least: if from == From::Latest { promised } else { earliest },
            earliest: from == From::Earliest,
            since: None,
            starts: history.starts,
            losses: history.losses,
            seen,
            over: false,
            notes: Vec::new(),
        }
    }

    /// Where another client would go on.
    pub(crate) fn resume(&self) -> Option<Resume> {
        let position = self.client.position(self.subscription);
        self.next.map(|next| Resume { next, position, seen: self.seen.clone() })
    }

    /// True once the shard told where it starts.
    pub(crate) fn started(&self) -> bool {
        self.client.position(self.subscription).is_some()
    }

    /// Moves to another place.
    pub(crate) fn seek(&mut self, from: From, history: &History, trace: &mut Trace) {
        trace.line(format_args!("subscriber {} seeks {from:?}", self.number));
        let (_, promised, earliest) = history.bounds(self.stream);
        self.least = if from == From::Latest { promised } else { earliest };
        (self.starts, self.earliest) = (history.starts, from == From::Earliest);
        self.since = match from {
            From::Time(time) => Some((time, history.since(self.stream, time))),
            _ => None,
        };
        self.seen.clear();
        self.next = match from {
            From::Offset(offset) | From::Position(Position { offset, .. }) => Some(offset),
            _ => None,
        };
        self.client.seek(self.subscription, from);
    }

    /// Polls the client and looks at what it says. True when a message came.
    pub(crate) fn poll(
        &mut self,
        history: &mut History,
        trace: &mut Trace,
        keeps: bool,
    ) -> Result<bool, Broken> {
        let mut notes = std::mem::take(&mut self.notes);
        self.client.poll(self.pace.time(trace.now_ns), |event| notes.push(note(event)));
        let mut came = false;
        for note in notes.drain(..) {
            came |= matches!(note, Note::Message { .. });
            self.told(note, history, trace, keeps).map_err(|mut broken| {
                broken.what = format!("subscriber {}: {}", self.number, broken.what);
                broken
            })?;
        }
        self.notes = notes;
        Ok(came)
    }

    fn told(&mut self, note: Note, history: &mut History, trace: &mut Trace, keeps: bool) -> Check {
        let (number, stream) = (self.number, self.stream);
        match note {
            Note::Subscribed { start } => {
                trace.line(format_args!("subscriber {number} starts at {start}"));
                let (end, _, earliest) = history.bounds(stream);
                let begins = self.next.is_none();
                let next = *self.next.get_or_insert(start);
                if history.losses > 0 {
                    return Ok(());
                }
                let as_asked = self.starts == history.starts;
                if let Some((time, asked)) = self.since.take().filter(|_| as_asked) {
                    gaps::since(start, asked, history.since(stream, time))?;
                }
                let most = if self.earliest && begins && as_asked { earliest } else { end };
                gaps::start(next, start, if as_asked { self.least } else { 0 }, most)
            }
            Note::Message { offset, entry } => {
                let entry = entry.ok_or_else(|| {
                    bytes::nobody_published(format_args!("offset {offset} as delivered"))
                })?;
                trace.line(format_args!("subscriber {number} got {offset}: {}", entry.content));
                gaps::next(self.next, offset)?;
                self.next = Some(offset + 1);
                if keeps {
                    let before = self.seen.insert(offset, entry.content);
                    diverged::seen(offset, before, entry.content)?;
                }
                history.delivered(stream, offset, entry)
            }
            Note::Compacted { from, to } => {
                trace.line(format_args!("subscriber {number}: {from} to {to} compacted"));
                gaps::next(self.next, from)?;
                self.next = Some(to);
                history.compacted(stream, from, to)
            }
            Note::Lost { from, to } => {
                trace.line(format_args!("subscriber {number}: {from} to {to} lost"));
                gaps::next(self.next, from)?;
                self.next = Some(to);
                history.lost(stream, from, to, self.losses == history.losses)
            }
            Note::OffsetGone(first) => {
                trace.line(format_args!("subscriber {number}: offset gone, {first} is the first"));
                let now = self.starts == history.starts;
                history.gone(stream, self.next.unwrap_or(0), first, now)?;
                self.seek(From::Earliest, history, trace);
                Ok(())
            }
            Note::Diverged { next, common } => {
                trace.line(format_args!("subscriber {number}: diverged at {common}, not {next}"));
                diverged::said(format_args!("it"), history.losses(stream))?;
                diverged::reached(next, common)?;
                // What was said before another loss was about the log of that time.
                if self.losses == history.losses {
                    history.in_common(stream, &self.seen, common)?;
                }
                let seen = std::mem::take(&mut self.seen);
                // What is in common is still to be compared, should more be lost before this is heard.
                let from = match self.client.position(self.subscription) {
                    Some(position) if common > 0 => {
                        From::Position(Position { offset: common, ..position })
                    }
                    _ => From::Offset(common),
                };
                self.seek(from, history, trace);
                self.seen = seen.into_iter().filter(|(offset, _)| *offset < common).collect();
                Ok(())
            }
            Note::Deleted => {
                trace.line(format_args!("subscriber {number}: stream {stream} deleted"));
                self.over = true;
                told::unknown(format_args!("it"), stream, history.is_deleted(stream))
            }
            Note::SessionOpened { level } => told::level(format_args!("it"), level, history.level),
            Note::SessionLost => {
                self.losses = history.losses;
                Ok(())
            }
            Note::Quiet => Ok(()),
            Note::Wrong(event) => Err(told::wrong(format_args!("it"), event)),
        }
    }

    /// Everything in the log was read.
    pub(crate) fn is_settled(&self, history: &History) -> bool {
        self.next == Some(history.bounds(self.stream).0)
    }

    pub(crate) fn close(&mut self) {
        self.client.close();
    }

    /// Buffers of the port that are not free.
    pub(crate) fn frames_out(&self) -> usize {
        self.client.port().frames_out()
    }
}

impl<P: Port> std::fmt::Display for Subscriber<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let position = self.client.position(self.subscription);
        write!(f, "subscriber {} next {:?} position {position:?}", self.number, self.next)
    }
}
