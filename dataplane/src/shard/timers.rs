//! A timer wheel with one timer per session: arming, moving and firing cost the same at any number.

/// One tick in nanoseconds: 2^20, about a millisecond.
const TICK_SHIFT: u32 = 20;
/// Slots of the wheel: one revolution is about 4.3 s; later timers stay in their slot for another round.
const SLOTS: usize = 4096;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Timer {
    next: u32,
    prev: u32,
    /// Tick at which it fires; `u64::MAX` when not armed.
    due: u64,
}

/// Timers numbered `0..n`, each armed for at most one moment.
pub(crate) struct TimerWheel {
    heads: Box<[u32; SLOTS]>,
    timers: Vec<Timer>,
    /// The last tick that was looked at.
    tick: u64,
}

impl TimerWheel {
    pub(crate) fn new(timers: usize, now_ns: u64) -> TimerWheel {
        TimerWheel {
            heads: Box::new([NONE; SLOTS]),
            timers: vec![Timer { next: NONE, prev: NONE, due: u64::MAX }; timers],
            tick: now_ns >> TICK_SHIFT,
        }
    }

    /// Arms timer `id` for `due_ns`, or moves it there. It fires at the first [`TimerWheel::expire`] at least one tick
    /// later.
    pub(crate) fn arm(&mut self, id: u32, due_ns: u64) {
        self.disarm(id);
        let due = ((due_ns >> TICK_SHIFT) + 1).max(self.tick + 1);
        let slot = due as usize % SLOTS;
        let head = self.heads[slot];
        self.timers[id as usize] = Timer { next: head, prev: NONE, due };
        if head != NONE {
            self.timers[head as usize].prev = id;
        }
        self.heads[slot] = id;
    }

    /// Disarms timer `id` if it is armed.
    pub(crate) fn disarm(&mut self, id: u32) {
        let timer = self.timers[id as usize];
        if timer.due == u64::MAX {
            return;
        }
        if timer.prev == NONE {
            self.heads[timer.due as usize % SLOTS] = timer.next;
        } else {
            self.timers[timer.prev as usize].next = timer.next;
        }
        if timer.next != NONE {
            self.timers[timer.next as usize].prev = timer.prev;
        }
        self.timers[id as usize].due = u64::MAX;
    }

    /// True when [`TimerWheel::expire`] would look at anything.
    #[inline]
    pub(crate) fn ticked(&self, now_ns: u64) -> bool {
        now_ns >> TICK_SHIFT > self.tick
    }

    /// Puts the timers that are due at `now_ns` into `fired`, disarmed, until it is full; the rest
    /// fires at the next call.
    pub(crate) fn expire(&mut self, now_ns: u64, fired: &mut Vec<u32>) {
        let end = now_ns >> TICK_SHIFT;
        // After a long stall one revolution visits every timer.
        let mut tick = (self.tick + 1).max(end.saturating_sub(SLOTS as u64 - 1));
        while tick <= end {
            let mut id = self.heads[tick as usize % SLOTS];
            while id != NONE {
                let timer = self.timers[id as usize];
                if timer.due <= end {
                    if fired.len() == fired.capacity() {
                        self.tick = tick - 1;
                        return;
                    }
                    self.disarm(id);
                    fired.push(id);
                }
                id = timer.next;
            }
            tick += 1;
        }
        self.tick = self.tick.max(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1 << TICK_SHIFT;

    fn expire(wheel: &mut TimerWheel, now: u64) -> Vec<u32> {
        let mut fired = Vec::with_capacity(64);
        wheel.expire(now, &mut fired);
        fired.sort_unstable();
        fired
    }

    #[test]
    fn timers_fire_once_and_not_early() {
        let mut wheel = TimerWheel::new(4, 0);
        wheel.arm(0, 10 * MS);
        wheel.arm(1, 10 * MS);
        wheel.arm(2, 20_000 * MS);
        assert!(expire(&mut wheel, 10 * MS).is_empty());
        assert_eq!(expire(&mut wheel, 12 * MS), [0, 1]);
        assert!(expire(&mut wheel, 19_999 * MS).is_empty());
        assert_eq!(expire(&mut wheel, 30_000 * MS), [2]);
        assert!(expire(&mut wheel, 90_000 * MS).is_empty());
    }

    #[test]
    fn moving_and_disarming_leave_the_neighbours_alone() {
        let mut wheel = TimerWheel::new(4, 0);
        for id in 0..4 {
            wheel.arm(id, 5 * MS);
        }
        wheel.disarm(2);
        wheel.arm(1, 50 * MS);
        assert_eq!(expire(&mut wheel, 10 * MS), [0, 3]);
        assert_eq!(expire(&mut wheel, 60 * MS), [1]);
    }

    #[test]
    fn a_full_list_goes_on_at_the_next_call() {
        let mut wheel = TimerWheel::new(3, 0);
        for id in 0..3 {
            wheel.arm(id, 5 * MS);
        }
        let mut fired = Vec::with_capacity(2);
        wheel.expire(10 * MS, &mut fired);
        assert_eq!(fired.len(), 2);
        assert_eq!(expire(&mut wheel, 10 * MS).len(), 1);
    }

    #[test]
    fn a_stall_longer_than_a_revolution_loses_no_timer() {
        let mut wheel = TimerWheel::new(3, 0);
        wheel.arm(0, 3 * MS);
        wheel.arm(1, 4_095 * MS);
        wheel.arm(2, 9_000 * MS);
        assert_eq!(expire(&mut wheel, 100_000 * MS), [0, 1, 2]);
    }
}
