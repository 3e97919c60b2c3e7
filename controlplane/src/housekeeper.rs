//! Prepares segment slots off the shards' threads, so that a shard only ever takes a finished one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mstream_pmem::prepare::{DirError, Preparer};

/// How often the owners are asked.
const TURN: Duration = Duration::from_millis(5);
/// How long a failed preparation waits before it is tried again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Who uses the slots: a shard, seen from outside.
pub trait Owner {
    /// How many slots are to be made now; 0 also while it is not known what became of the last one.
    fn wanted(&mut self) -> u64;

    /// Hands over a slot. False when it cannot be taken now: it is offered again.
    fn give(&mut self, slot: u32) -> bool;

    /// Is told each time why a slot could not be made, and once that one can be again.
    fn troubled(&mut self, reason: Option<&str>);
}

/// Makes the slots of one log.
pub trait Maker {
    /// True while there is a slot that was not made yet.
    fn has_next(&self) -> bool;

    /// Makes the next slot; may take long.
    ///
    /// # Errors
    /// What failed; the slot can be tried again.
    fn make(&mut self) -> Result<u32, DirError>;
}

impl Maker for Preparer {
    fn has_next(&self) -> bool {
        Preparer::has_next(self)
    }

    fn make(&mut self) -> Result<u32, DirError> {
        self.prepare_next()
    }
}

/// One log that is kept supplied.
struct Log<M, O> {
    number: usize,
    maker: M,
    owner: O,
    /// A slot that was made and not taken yet.
    made: Option<u32>,
    failing: Option<Failing>,
}

struct Failing {
    said: String,
    pause: Duration,
    again: Instant,
}

/// Keeps the logs of all shards supplied with slots. Lives on a control thread.
pub struct Housekeeper<M, O> {
    logs: Vec<Log<M, O>>,
}

impl<M: Maker, O: Owner> Housekeeper<M, O> {
    /// A housekeeper of the logs of shards 0, 1, ...
    pub fn new(logs: impl IntoIterator<Item = (M, O)>) -> Housekeeper<M, O> {
        let log =
            |(number, (maker, owner))| Log { number, maker, owner, made: None, failing: None };
        Housekeeper { logs: logs.into_iter().enumerate().map(log).collect() }
    }

    /// Serves until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        // Relaxed: whoever sets it waits for this thread's end.
        while !stop.load(Ordering::Relaxed) {
            if !self.turn(Instant::now()) {
                std::thread::sleep(TURN);
            }
        }
    }

    /// Makes at most one slot for each log. True if one was handed over.
    pub fn turn(&mut self, now: Instant) -> bool {
        let mut worked = false;
        for log in &mut self.logs {
            worked |= log.turn(now);
        }
        worked
    }
}

impl<M: Maker, O: Owner> Log<M, O> {
    fn turn(&mut self, now: Instant) -> bool {
        if self.made.is_none() {
            let waits = self.failing.as_ref().is_some_and(|failing| now < failing.again);
            if waits || !self.maker.has_next() || self.owner.wanted() == 0 {
                return false;
            }
            match self.maker.make() {
                Ok(slot) => {
                    if self.failing.take().is_some() {
                        self.owner.troubled(None);
                        tracing::info!(shard = self.number, "segments can be made again");
                    }
                    self.made = Some(slot);
                }
                Err(error) => {
                    self.failed(&error, now);
                    return false;
                }
            }
        }
        if let Some(slot) = self.made
            && self.owner.give(slot)
        {
            self.made = None;
            return true;
        }
        false
    }

    /// Says what failed, once for as long as it stays the same, and backs off.
    fn failed(&mut self, error: &DirError, now: Instant) {
        let said = error.to_string();
        self.owner.troubled(Some(&said));
        let before = self.failing.take();
        if before.as_ref().is_none_or(|before| before.said != said) {
            tracing::error!(
                shard = self.number,
                reason = %said,
                "cannot make a segment: publishers are held back when the ready ones are used up"
            );
        }
        let pause = before.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
        self.failing = Some(Failing { said, pause, again: now + pause });
    }
}

impl<M, O> std::fmt::Debug for Housekeeper<M, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Housekeeper").field("logs", &self.logs.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Supply {
        next: u32,
        of: u32,
        /// Tries that fail before one succeeds.
        failures: u32,
        tries: u32,
    }

    impl Maker for Supply {
        fn has_next(&self) -> bool {
            self.next < self.of
        }

        fn make(&mut self) -> Result<u32, DirError> {
            self.tries += 1;
            if self.failures > 0 {
                self.failures -= 1;
                return Err(DirError::Io {
                    path: PathBuf::from("00000000.seg"),
                    action: "allocating the segment",
                    source: std::io::ErrorKind::StorageFull.into(),
                });
            }
            self.next += 1;
            Ok(self.next - 1)
        }
    }

    struct Shard {
        wants: u64,
        busy: bool,
        got: Vec<u32>,
        troubles: Vec<Option<String>>,
    }

    impl Owner for Shard {
        fn wanted(&mut self) -> u64 {
            self.wants.saturating_sub(self.got.len() as u64)
        }

        fn give(&mut self, slot: u32) -> bool {
            if !self.busy {
                self.got.push(slot);
            }
            !self.busy
        }

        fn troubled(&mut self, reason: Option<&str>) {
            self.troubles.push(reason.map(str::to_owned));
        }
    }

    fn housekeeper(supply: Supply, wants: u64) -> Housekeeper<Supply, Shard> {
        Housekeeper::new([(
            supply,
            Shard { wants, busy: false, got: Vec::new(), troubles: Vec::new() },
        )])
    }

    #[test]
    fn as_many_slots_are_made_as_are_wanted_and_there_are() {
        let now = Instant::now();
        let mut keeper = housekeeper(Supply { next: 0, of: 9, failures: 0, tries: 0 }, 3);
        while keeper.turn(now) {}
        assert_eq!(keeper.logs[0].owner.got, [0, 1, 2]);
        keeper.logs[0].owner.wants = 99;
        while keeper.turn(now) {}
        assert_eq!(keeper.logs[0].owner.got.len(), 9);
    }

    #[test]
    fn a_slot_that_was_not_taken_is_offered_again() {
        let now = Instant::now();
        let mut keeper = housekeeper(Supply { next: 0, of: 9, failures: 0, tries: 0 }, 1);
        keeper.logs[0].owner.busy = true;
        assert!(!keeper.turn(now) && !keeper.turn(now));
        assert_eq!(keeper.logs[0].maker.tries, 1);
        keeper.logs[0].owner.busy = false;
        assert!(keeper.turn(now));
        assert_eq!(keeper.logs[0].owner.got, [0]);
    }

    #[test]
    fn a_full_disk_is_tried_again_later_and_less_and_less_often() {
        let start = Instant::now();
        let mut keeper = housekeeper(Supply { next: 0, of: 9, failures: 3, tries: 0 }, 1);
        assert!(!keeper.turn(start) && !keeper.turn(start));
        assert_eq!(keeper.logs[0].maker.tries, 1);
        assert!(!keeper.turn(start + FIRST_PAUSE));
        assert_eq!(keeper.logs[0].maker.tries, 2);
        assert!(!keeper.turn(start + FIRST_PAUSE * 2));
        assert_eq!(keeper.logs[0].maker.tries, 2);
        assert!(!keeper.turn(start + FIRST_PAUSE * 3));
        assert_eq!(keeper.logs[0].maker.tries, 3);
        assert!(keeper.turn(start + LONGEST_PAUSE));
        assert_eq!(keeper.logs[0].owner.got, [0]);
        let [first, _, _, None] = &keeper.logs[0].owner.troubles[..] else {
            panic!("{:?}", keeper.logs[0].owner.troubles)
        };
        assert!(
            first.as_ref().is_some_and(|first| first.contains("no storage space")),
            "{first:?}"
        );
    }
}
