//! Reads sealed segments off the shards' threads: what is made of them beside the log ([`Job`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mstream_pmem::sealed::Sealed;

/// How often the lenders are asked.
const TURN: Duration = Duration::from_millis(10);

/// Who lends sealed segments: a shard, seen from outside.
pub trait Lender {
    /// The next segment, if one is lent now.
    fn lend(&mut self) -> Option<Sealed>;

    /// Gives a segment back.
    ///
    /// # Errors
    /// The segment, when it cannot be taken now: it is offered again.
    fn give_back(&mut self, sealed: Sealed) -> Result<(), Sealed>;
}

/// What is done with each sealed segment.
pub trait Job: Send {
    /// Reads a segment of this shard. May take long; the segment is not recycled meanwhile. One that comes again
    /// ([`Sealed::is_repeated`]) is lent for its footer alone.
    ///
    /// # Errors
    /// In words, what failed. The segment is given back all the same.
    fn read(&mut self, shard: usize, sealed: &mut Sealed) -> Result<(), String>;
}

/// One shard whose segments are read.
struct Shard<L> {
    lender: L,
    /// A segment that was read and not taken back yet.
    read: Option<Sealed>,
    /// What failed last.
    said: Option<String>,
}

/// Reads the sealed segments of all shards, one at a time. Lives on a control thread.
pub struct SealedReader<L> {
    shards: Vec<Shard<L>>,
    jobs: Vec<Box<dyn Job>>,
}

impl<L: Lender> SealedReader<L> {
    /// A reader of the segments of shards 0, 1, ...; each job reads each of them, in this order.
    pub fn new(lenders: impl IntoIterator<Item = L>, jobs: Vec<Box<dyn Job>>) -> SealedReader<L> {
        let shard = |lender| Shard { lender, read: None, said: None };
        SealedReader { shards: lenders.into_iter().map(shard).collect(), jobs }
    }

    /// Serves until `stop` is set.
    pub fn run(&mut self, stop: &AtomicBool) {
        // Relaxed: whoever sets it waits for this thread's end.
        while !stop.load(Ordering::Relaxed) {
            if !self.turn() {
                std::thread::sleep(TURN);
            }
        }
    }

    /// Reads at most one segment of each shard. True if one was given back.
    pub fn turn(&mut self) -> bool {
        let mut worked = false;
        for (number, shard) in self.shards.iter_mut().enumerate() {
            worked |= shard.turn(number, &mut self.jobs);
        }
        worked
    }
}

impl<L: Lender> Shard<L> {
    fn turn(&mut self, number: usize, jobs: &mut [Box<dyn Job>]) -> bool {
        if self.read.is_none() {
            let Some(mut sealed) = self.lender.lend() else { return false };
            for job in jobs {
                let done = job.read(number, &mut sealed);
                self.tell(number, &sealed, done);
            }
            self.read = Some(sealed);
        }
        let Some(sealed) = self.read.take() else { return false };
        self.read = self.lender.give_back(sealed).err();
        self.read.is_none()
    }

    /// Says what failed, once for as long as it stays the same.
    fn tell(&mut self, number: usize, sealed: &Sealed, done: Result<(), String>) {
        let Err(said) = done else { return };
        if self.said.as_ref() != Some(&said) {
            let segment = sealed.sequence();
            tracing::warn!(shard = number, segment, "reading a sealed segment: {said}");
            self.said = Some(said);
        }
    }
}

impl<L> std::fmt::Debug for SealedReader<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedReader").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;
    use std::sync::{Arc, Mutex};

    use mstream_pmem::sim::SimRegion;
    use mstream_pmem::wal::{TableLimits, Wal, WalConfig};

    use super::*;

    /// A shard that takes segments back only when it is not busy.
    struct Shelf {
        lends: VecDeque<Sealed>,
        back: Rc<RefCell<Vec<u64>>>,
        busy: Rc<RefCell<bool>>,
    }

    impl Lender for Shelf {
        fn lend(&mut self) -> Option<Sealed> {
            self.lends.pop_front()
        }

        fn give_back(&mut self, sealed: Sealed) -> Result<(), Sealed> {
            if *self.busy.borrow() {
                return Err(sealed);
            }
            self.back.borrow_mut().push(sealed.sequence());
            Ok(())
        }
    }

    struct Note(Arc<Mutex<Vec<u64>>>);

    impl Job for Note {
        fn read(&mut self, _: usize, sealed: &mut Sealed) -> Result<(), String> {
            self.0.lock().expect("nobody panicked").push(sealed.sequence());
            Err("only a test".to_string())
        }
    }

    /// The segments that some starts leave behind.
    fn segments() -> VecDeque<Sealed> {
        let config = WalConfig {
            shard: 0,
            new_log_id: [1; 16],
            new_secret: [2; 16],
            boot_id: [3; 16],
            tables: TableLimits { streams: 2, publications: 2, publishers: 2 },
            ready_segments: 1,
            time_ns: 0,
        };
        let slots: Vec<u32> = (0..10).collect();
        let mut region = SimRegion::new(10, 64 * 1024, 0);
        for _ in 0..3 {
            let (wal, _) = Wal::open(region, &slots, config).expect("sound");
            region = wal.into_region().after_kill();
        }
        let (mut wal, _) = Wal::open(region, &slots, config).expect("sound");
        std::iter::from_fn(|| wal.next_sealed()).collect()
    }

    #[test]
    fn each_segment_is_read_once_and_given_back_when_that_is_possible() {
        let (back, busy) = (Rc::default(), Rc::new(RefCell::new(true)));
        let read = Arc::default();
        let shelf = Shelf { lends: segments(), back: Rc::clone(&back), busy: Rc::clone(&busy) };
        let jobs: Vec<Box<dyn Job>> =
            vec![Box::new(Note(Arc::clone(&read))), Box::new(Note(Arc::clone(&read)))];
        let mut reader = SealedReader::new([shelf], jobs);
        assert!(!reader.turn() && !reader.turn());
        assert_eq!(*read.lock().expect("nobody panicked"), [1, 1], "one is held at a time");
        *busy.borrow_mut() = false;
        while reader.turn() {}
        assert_eq!(*back.borrow(), [1, 2, 3]);
        assert_eq!(*read.lock().expect("nobody panicked"), [1, 1, 2, 2, 3, 3]);
    }
}
