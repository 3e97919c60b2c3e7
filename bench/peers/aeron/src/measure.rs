//! Times messages out and back.

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use quanta::Clock;

use crate::Failure;
use crate::end::End;

/// Silence that means that something was lost for good.
const SILENCE_NS: u64 = 10_000_000_000;
/// Messages that are sent between two turns at most.
const SENT_PER_TURN: u32 = 32;

/// What was measured so far.
pub(crate) struct Measurement {
    clock: Clock,
    origin: u64,
    message: Vec<u8>,
    in_flight: u64,
    /// Between messages that are sent on schedule.
    period_ns: Option<f64>,
    discard_ns: u64,
    latency: Histogram<u64>,
    sent: u64,
    came: u64,
    /// Messages that came while it was recorded, and how long that was.
    recorded: u64,
    recorded_ns: u64,
    wrong: u64,
    at_ns: VecDeque<u64>,
}

impl Measurement {
    pub(crate) fn new(
        size: u16,
        in_flight: u64,
        rate: Option<u64>,
        discard_ns: u64,
    ) -> Result<Measurement, Failure> {
        let clock = Clock::new();
        let origin = clock.raw();
        let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        // Writes to all of its memory.
        latency.reset();
        Ok(Measurement {
            clock,
            origin,
            message: vec![0x5a; size.into()],
            in_flight,
            period_ns: rate.map(|rate| 1e9 / rate as f64),
            discard_ns,
            latency,
            sent: 0,
            came: 0,
            recorded: 0,
            recorded_ns: 0,
            wrong: 0,
            at_ns: VecDeque::with_capacity(usize::try_from(in_flight)?),
        })
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        self.clock.delta_as_nanos(self.origin, self.clock.raw())
    }

    /// Sends for `slice_ns`, then waits until everything came back.
    pub(crate) fn slice(&mut self, end: &End, slice_ns: u64) -> Result<(), Failure> {
        let begin_ns = self.now_ns();
        let (from_ns, to_ns) = (begin_ns + self.discard_ns, begin_ns + slice_ns);
        let mut heard_ns = begin_ns;
        let mut messages: u64 = 0;
        loop {
            let now_ns = self.now_ns();
            if now_ns >= to_ns && self.sent == self.came {
                break;
            }
            let mut turn = 0;
            while now_ns < to_ns && turn < SENT_PER_TURN && self.sent - self.came < self.in_flight {
                let at_ns = match self.period_ns {
                    None => self.now_ns(),
                    Some(period_ns) => begin_ns + (messages as f64 * period_ns) as u64,
                };
                if at_ns > now_ns && self.period_ns.is_some() {
                    break;
                }
                self.message[..8].copy_from_slice(&self.sent.to_le_bytes());
                if !end.send(&self.message)? {
                    break;
                }
                self.at_ns.push_back(at_ns);
                self.sent += 1;
                messages += 1;
                turn += 1;
            }
            end.work()?;
            let before = self.came;
            end.take(|message| self.came(message, from_ns, to_ns))?;
            if self.came > before || turn > 0 {
                heard_ns = self.now_ns();
            } else if now_ns.saturating_sub(heard_ns) > SILENCE_NS {
                return Err("nothing comes back".into());
            }
        }
        self.recorded_ns += slice_ns - self.discard_ns;
        Ok(())
    }

    #[inline]
    fn came(&mut self, message: &[u8], from_ns: u64, to_ns: u64) {
        let now_ns = self.now_ns();
        let number = message.first_chunk().copied().map(u64::from_le_bytes);
        if number != Some(self.came) || message.len() != self.message.len() {
            self.wrong += 1;
        }
        self.came += 1;
        let Some(at_ns) = self.at_ns.pop_front() else { return };
        if at_ns >= from_ns {
            self.latency.saturating_record(now_ns.saturating_sub(at_ns));
        }
        if now_ns >= from_ns && now_ns < to_ns {
            self.recorded += 1;
        }
    }

    /// The figures.
    pub(crate) fn json(&self) -> String {
        let at = |quantile| self.latency.value_at_quantile(quantile);
        serde_json::json!({
            "messages": self.recorded,
            "ns": self.recorded_ns,
            "wrong": self.wrong,
            "latency_ns": {
                "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99_9": at(0.999), "p99_99": at(0.9999),
                "max": self.latency.max(),
            },
        })
        .to_string()
    }
}
