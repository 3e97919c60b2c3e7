//! The control thread while the node runs: signals, the clock, threads that end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mstream_controlplane::admin::{Errors, now_ns};
use mstream_dataplane::TscClock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::MissedTickBehavior;

use crate::Failure;
use crate::node::Watched;
use crate::probe::PortProbe;
use crate::report::{self, PortErrors, Refusals};
use crate::shard::Event;

/// How often the clock's wall time is mended.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at what was refused.
const REFUSALS_EVERY: u32 = 10;

/// The signals that the node acts upon.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    tell: Signal,
}

impl Signals {
    /// Takes the signals over. Must be called inside the runtime.
    pub(crate) fn take() -> Result<Signals, Failure> {
        let take = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
        Ok(Signals {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            tell: take(SignalKind::user_defined1())?,
        })
    }
}

/// Why the control thread stops waiting.
pub(crate) enum Outcome {
    /// As many shards poll as were waited for.
    Polling,
    /// A signal asked for the end.
    Asked,
}

/// Waits until `shards` shards poll.
pub(crate) async fn until_polling(
    shards: usize,
    signals: &mut Signals,
    events: &mut UnboundedReceiver<Event>,
) -> Result<Outcome, Failure> {
    let mut polling = 0;
    while polling < shards {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(Outcome::Asked),
            _ = signals.interrupt.recv() => return Ok(Outcome::Asked),
            event = events.recv() => match event {
                Some(Event::Polling) => polling += 1,
                Some(Event::Ended(ended)) => return Err(why(ended)),
                None => return Err(why(Ok(()))),
            },
        }
    }
    Ok(Outcome::Polling)
}

/// Runs until a signal asks for the end or a thread ends by itself.
pub(crate) async fn until_asked(
    signals: &mut Signals,
    events: &mut UnboundedReceiver<Event>,
    clock: &mut TscClock,
    shards: &[Watched],
    errors: &Errors,
    probes: &[Arc<Vec<PortProbe>>],
) -> Result<(), Failure> {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tick: u32 = 0;
    let mut refusals: Vec<_> = shards.iter().map(|_| Refusals::default()).collect();
    let mut noted: Vec<_> = shards.iter().map(|_| Default::default()).collect();
    let mut poisoned = vec![false; shards.len()];
    let mut cold = vec![0; shards.len()];
    let mut unreadable = vec![0; shards.len()];
    let mut shortages = vec![0; shards.len()];
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.tell.recv() => tell(shards, probes),
            event = events.recv() => match event {
                Some(Event::Polling) => {}
                Some(Event::Ended(ended)) => return Err(why(ended)),
                None => return Err(why(Ok(()))),
            },
            _ = ticks.tick() => {
                clock.set_wall(SystemTime::now());
                look(probes);
                tick = tick.wrapping_add(1);
                note_errors(shards, &mut noted, errors);
                tell_poisoned(shards, &mut poisoned, errors);
                note_cold(shards, &mut cold, errors);
                tell_unreadable(shards, &mut unreadable, errors);
                note_shortages(shards, &mut shortages, errors);
                if tick.is_multiple_of(REFUSALS_EVERY) {
                    tell_refusals(shards, &mut refusals);
                }
            }
        }
    }
}

/// A thread that ends before it was told to is a failure.
fn why(ended: Result<(), Failure>) -> Failure {
    ended.err().unwrap_or_else(|| "a thread ended by itself".to_string())
}

fn tell(shards: &[Watched], probes: &[Arc<Vec<PortProbe>>]) {
    use std::io::Write;
    let mut out = std::io::stderr().lock();
    for (number, shard) in shards.iter().enumerate() {
        for line in report::status(number, &shard.ports, &shard.status) {
            // Whoever closed standard error does not want to know.
            let _ = writeln!(out, "mstreamd: {line}");
        }
        let of_shard = probes.get(number).into_iter().flat_map(|probes| probes.iter());
        for line in of_shard.filter_map(PortProbe::line) {
            let _ = writeln!(out, "mstreamd: shard {number}: {line}");
        }
    }
}

/// Looks after the ports' links, and says what changed.
fn look(probes: &[Arc<Vec<PortProbe>>]) {
    for change in probes.iter().flat_map(|probes| probes.iter()).filter_map(PortProbe::look) {
        tracing::warn!("{change}");
    }
}

/// Notes what became more since the last call.
fn note_errors(shards: &[Watched], noted: &mut [(Refusals, PortErrors)], errors: &Errors) {
    let now_ns = now_ns();
    for (number, (shard, (refusals, ports))) in shards.iter().zip(noted).enumerate() {
        for (reason, count) in refusals.grown(&shard.status) {
            errors.note(&format!("shard {number}"), &format!("refused: {reason}"), count, now_ns);
        }
        for (port, what, count) in ports.grown(&shard.status, shard.ports.len()) {
            let place = format!("shard {number}, port {}", shard.ports[port]);
            errors.note(&place, what, count, now_ns);
        }
    }
}

/// Notes what went wrong with cold segments since the last call. Their workers said it in the log.
fn note_cold(shards: &[Watched], noted: &mut [u64], errors: &Errors) {
    for (number, (shard, noted)) in shards.iter().zip(noted).enumerate() {
        let count = shard.cold.errors();
        let more = count - std::mem::replace(noted, count);
        if more > 0 {
            let what = format!("cold segments: {}", shard.cold.condition());
            errors.note(&format!("shard {number}"), &what, more, now_ns());
        }
    }
}

/// Says once of each shard that its log is poisoned.
fn tell_poisoned(shards: &[Watched], told: &mut [bool], errors: &Errors) {
    for (number, (shard, told)) in shards.iter().zip(told).enumerate() {
        if let Some(poison) = shard.status.log().poison
            && !*told
        {
            *told = true;
            tracing::error!(
                shard = number,
                condition = "poisoned",
                "the log is poisoned: {poison}. Nothing more is taken or acknowledged; what was can be read. Mend \
                 the medium and start mstreamd again"
            );
            let what = format!("log poisoned: {poison}");
            errors.note(&format!("shard {number}"), &what, 1, now_ns());
        }
    }
}

/// Notes what segments could not be made since the last call. The housekeeper said it in the log.
fn note_shortages(shards: &[Watched], noted: &mut [u64], errors: &Errors) {
    for (number, (shard, noted)) in shards.iter().zip(noted).enumerate() {
        let Some(shortage) = shard.shortage.told() else { continue };
        let count = shard.shortage.failures();
        let more = count - std::mem::replace(noted, count);
        if more > 0 {
            let what = format!("cannot make a segment: {}", shortage.reason);
            errors.note(&format!("shard {number}"), &what, more, now_ns());
        }
    }
}

/// Notes what readers asked for in vain since the last call, and says it the first time.
fn tell_unreadable(shards: &[Watched], noted: &mut [u64], errors: &Errors) {
    for (number, (shard, noted)) in shards.iter().zip(noted).enumerate() {
        let log = shard.status.log();
        let before = std::mem::replace(noted, log.unreadable.messages);
        let more = log.unreadable.messages - before;
        let Some(damage) = report::damage(&log.unreadable).filter(|_| more > 0) else { continue };
        if before == 0 {
            tracing::error!(
                shard = number,
                condition = "damaged",
                "the log is {damage}. Readers are told and go on behind it; publishers go on. Its memory or its medium is \
                 not to be trusted: mend that, then start mstreamd again, which tells all that is missing"
            );
        }
        errors.note(&format!("shard {number}"), &format!("log {damage}"), more, now_ns());
    }
}

fn tell_refusals(shards: &[Watched], refusals: &mut [Refusals]) {
    for (number, (shard, refusals)) in shards.iter().zip(refusals).enumerate() {
        for (reason, count) in refusals.grown(&shard.status) {
            tracing::warn!(shard = number, reason, count, "refused since the last look");
        }
    }
}
