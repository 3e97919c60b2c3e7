//! Keeps a lane loaded and times what comes back. While a slice runs nothing here allocates or enters the
//! kernel, unless the client shares its core.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use super::clock::Clock;
use super::lane::Lane;
use crate::Failure;
use crate::interrupt::Interrupt;

/// Of each slice this much is not recorded: caches and predictors find out that another program runs.
pub(crate) const DISCARDED_NS: u64 = 20_000_000;
/// Silence that means that the appliance is gone.
const SILENCE_NS: u64 = 10_000_000_000;
/// Datagrams that are under way at most.
const MOST_UNDER_WAY: usize = 1 << 14;
/// Datagrams that are sent between two polls at most, so that what is due late delays no reading.
const SENT_PER_TURN: u16 = 32;

/// What is sent, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Messages of a datagram.
    pub(crate) batch: u16,
    /// Datagrams under way at most.
    pub(crate) in_flight: usize,
    /// Messages per second; without it the next datagram is sent once there is room.
    pub(crate) rate: Option<u64>,
}

impl Load {
    /// A load on schedule.
    pub(crate) fn paced(batch: u16, rate: u64) -> Load {
        Load { batch, in_flight: MOST_UNDER_WAY, rate: Some(rate) }
    }

    /// A load that keeps `in_flight` datagrams under way.
    pub(crate) fn closed(batch: u16, in_flight: u16) -> Load {
        Load { batch, in_flight: usize::from(in_flight), rate: None }
    }
}

/// What was recorded of a lane.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Latency of each message in ns.
    pub(crate) latency: Histogram<u64>,
    /// Messages that came while it was recorded.
    pub(crate) messages: u64,
    /// How long it was recorded, in ns.
    pub(crate) ns: u64,
    /// In how many slices.
    pub(crate) slices: u64,
    /// Messages given up.
    pub(crate) given_up: u64,
}

impl Record {
    pub(crate) fn new() -> Record {
        // 1 ns to a minute, to three digits: these bounds are possible.
        let mut latency =
            Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that are possible");
        // Writes to all of its memory.
        latency.reset();
        Record { latency, messages: 0, ns: 0, slices: 0, given_up: 0 }
    }
}

/// A datagram under way.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// Number of its last message.
    last: u64,
    count: u64,
    /// When it was, or should have been, sent.
    at_ns: u64,
}

/// One lane's traffic over all its slices.
pub(crate) struct Driver {
    clock: Clock,
    load: Load,
    /// The appliance needs this core too.
    shared_core: bool,
    interrupt: Interrupt,
    sent: u64,
    under_way: VecDeque<UnderWay>,
}

impl Driver {
    pub(crate) fn new(clock: Clock, load: Load, shared_core: bool, interrupt: Interrupt) -> Driver {
        let under_way = VecDeque::with_capacity(MOST_UNDER_WAY);
        Driver { clock, load, shared_core, interrupt, sent: 0, under_way }
    }

    /// Messages that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends for `slice_ns`, then waits until everything came back. Records what was sent behind the
    /// discarded beginning.
    pub(crate) fn slice<L: Lane>(
        &mut self,
        lane: &mut L,
        slice_ns: u64,
        record: &mut Record,
    ) -> Result<(), Failure> {
        let begin_ns = self.clock.now_ns();
        let window = (begin_ns + DISCARDED_NS, begin_ns + slice_ns);
        let period_ns = self.load.rate.map(|rate| f64::from(self.load.batch) * 1e9 / rate as f64);
        let mut datagrams: u64 = 0;
        let mut heard_ns = begin_ns;
        loop {
            let now_ns = self.clock.now_ns();
            let sending = now_ns < window.1;
            if !sending && self.under_way.is_empty() {
                break;
            }
            let mut turn = 0;
            while sending && turn < SENT_PER_TURN && self.under_way.len() < self.load.in_flight {
                let at_ns = match period_ns {
                    None => self.clock.now_ns(),
                    Some(period_ns) => begin_ns + (datagrams as f64 * period_ns) as u64,
                };
                if at_ns > now_ns && period_ns.is_some() || !self.send(lane, at_ns) {
                    break;
                }
                datagrams += 1;
                turn += 1;
            }
            if turn > 0 {
                lane.flush();
            }
            if self.poll(lane, window, record) > 0 {
                heard_ns = self.clock.now_ns();
            } else {
                if turn > 0 && self.under_way.len() == usize::from(turn) {
                    // Nothing was under way before, so silence begins now.
                    heard_ns = now_ns;
                }
                self.idle(lane, &mut heard_ns, record)?;
            }
        }
        record.ns += slice_ns - DISCARDED_NS;
        record.slices += 1;
        Ok(())
    }

    /// True when a whole datagram was taken.
    #[inline]
    fn send<L: Lane>(&mut self, lane: &mut L, at_ns: u64) -> bool {
        let count = lane.send(self.sent, self.load.batch);
        if count == 0 {
            return false;
        }
        self.sent += u64::from(count);
        let datagram = UnderWay { last: self.sent - 1, count: count.into(), at_ns };
        self.under_way.push_back(datagram);
        count == self.load.batch
    }

    #[inline]
    fn poll<L: Lane>(&mut self, lane: &mut L, window: (u64, u64), record: &mut Record) -> usize {
        let Driver { clock, under_way, .. } = self;
        lane.poll(clock.now_ns(), |number| {
            while let Some(oldest) = under_way.front().copied()
                && oldest.last <= number
            {
                under_way.pop_front();
                if oldest.last < number {
                    record.given_up += oldest.count;
                    continue;
                }
                let now_ns = clock.now_ns();
                if oldest.at_ns >= window.0 {
                    let ns = now_ns.saturating_sub(oldest.at_ns);
                    record.latency.saturating_record_n(ns, oldest.count);
                }
                if now_ns >= window.0 && now_ns < window.1 {
                    record.messages += oldest.count;
                }
            }
        })
    }

    /// Nothing came.
    #[inline]
    fn idle<L: Lane>(
        &mut self,
        lane: &mut L,
        heard_ns: &mut u64,
        record: &mut Record,
    ) -> Result<(), Failure> {
        if self.shared_core {
            std::thread::yield_now();
        }
        if let Some(trouble) = lane.trouble() {
            return Err(trouble.to_string());
        }
        self.interrupt.check()?;
        let now_ns = self.clock.now_ns();
        let silent = now_ns.saturating_sub(*heard_ns);
        if self.under_way.is_empty() || silent < L::GIVES_UP_NS.unwrap_or(SILENCE_NS) {
            return Ok(());
        }
        if L::GIVES_UP_NS.is_none() {
            return Err(format!("nothing was delivered for {} s", SILENCE_NS / 1_000_000_000));
        }
        record.given_up += self.under_way.drain(..).map(|datagram| datagram.count).sum::<u64>();
        *heard_ns = now_ns;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_NS: u64 = 100_000_000;

    /// Gives back what was sent, but for datagrams whose first number is a multiple of `loses`.
    struct Loop {
        loses: u64,
        waiting: VecDeque<u64>,
    }

    impl Lane for Loop {
        const GIVES_UP_NS: Option<u64> = Some(1_000_000);

        fn send(&mut self, first: u64, count: u16) -> u16 {
            if self.loses == 0 || !first.is_multiple_of(self.loses) {
                self.waiting.push_back(first + u64::from(count) - 1);
            }
            count
        }

        fn flush(&mut self) {}

        fn poll(&mut self, _now_ns: u64, on: impl FnMut(u64)) -> usize {
            let came = self.waiting.len();
            self.waiting.drain(..).for_each(on);
            came
        }

        fn trouble(&self) -> Option<&str> {
            None
        }
    }

    fn run(load: Load, loses: u64) -> (u64, Record) {
        let interrupt = Interrupt::take().expect("signals");
        let mut driver = Driver::new(Clock::new(), load, false, interrupt);
        let mut lane = Loop { loses, waiting: VecDeque::new() };
        let mut record = Record::new();
        driver.slice(&mut lane, DISCARDED_NS + WINDOW_NS, &mut record).expect("no trouble");
        (driver.sent(), record)
    }

    #[test]
    fn everything_that_comes_back_is_recorded_behind_the_beginning() {
        for load in [Load::closed(1, 1), Load::closed(4, 16), Load::paced(2, 100_000)] {
            let (sent, record) = run(load, 0);
            assert!(record.messages > 0 && record.messages <= sent);
            assert!(!record.latency.is_empty() && record.latency.len() <= sent);
            assert_eq!((record.given_up, record.ns), (0, WINDOW_NS));
        }
    }

    #[test]
    fn a_schedule_is_kept_from_its_beginning() {
        let (sent, _) = run(Load::paced(2, 100_000), 0);
        // 120 ms at 100 messages each, in pairs: some may be late, none early.
        assert!((2..=12_000).contains(&sent), "{sent}");
    }

    #[test]
    fn what_does_not_come_back_is_given_up() {
        let (sent, record) = run(Load::closed(1, 4), 16);
        assert_eq!(record.given_up, sent.div_ceil(16));
    }
}
