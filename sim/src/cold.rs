//! Cold segments of a world: a directory that can lose power, and the product's own worker beside the shard, which has its
//! turns at random times.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use mstream_dataplane::{
    ColdLink, ColdQueues, ColdStreams, ColdWatch, ColdWork, ColdWorker, Command, Now,
};
use mstream_pmem::cold::{ColdDisk, ColdError, ColdPage, ColdRange, ColdStore, SimDisk};
use mstream_pmem::region::{Level, Region};
use mstream_pmem::sealed::Sealed;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::Wal;

use crate::catalogue::Catalogue;
use crate::invariants::{Broken, kept};
use crate::random::Random;

/// Pages of the shard, and bytes of each: more readers than that wait for each other.
const PAGES: usize = 2;
const PAGE_BYTES: usize = 8 * 1024;
/// Segments on loan at a time.
const LENT: usize = 2;
/// What copying and merging may move in a second: enough for all, and not at once.
const BYTES_PER_SECOND: u64 = 64 << 20;

/// The directory, which outlives who uses it.
#[derive(Clone, Debug)]
pub(crate) struct Directory(Rc<RefCell<SimDisk>>);

impl ColdDisk for Directory {
    fn level(&self) -> Level {
        self.0.borrow().level()
    }
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.0.borrow_mut().list()
    }
    fn create(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().create(name)
    }
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().append(name, bytes)
    }
    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().sync(name)
    }
    fn len(&mut self, name: &str) -> io::Result<u64> {
        self.0.borrow_mut().len(name)
    }
    fn read_at(&mut self, name: &str, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.borrow_mut().read_at(name, at, bytes)
    }
    fn rename(&mut self, name: &str, to: &str) -> io::Result<()> {
        self.0.borrow_mut().rename(name, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().remove(name)
    }
    fn sync_directory(&mut self) -> io::Result<()> {
        self.0.borrow_mut().sync_directory()
    }
}

/// What went wrong, if anything did.
#[derive(Debug, Default)]
struct Watch {
    failed: Option<String>,
}

impl ColdWatch for Watch {
    fn copied(&mut self, _: u64) {}
    fn moved(&mut self, _: u64) {}
    fn read(&mut self) {}
    fn failed(&mut self, work: ColdWork, error: &ColdError) {
        self.failed.get_or_insert(format!("{work:?}: {error}"));
    }
    fn succeeded(&mut self, _: ColdWork) {}
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is killed: what was written is there.
    Killed,
    /// Power is lost between two polls of the shard.
    Unpowered,
    /// Power is lost within a poll or a start.
    Torn,
}

impl End {
    /// What is left of a region.
    pub(crate) fn leaves(self, region: &SimRegion, random: impl FnMut() -> u64) -> SimRegion {
        match self {
            End::Killed if region.level() == Level::MediaSync => {
                region.killed_while_writing(random)
            }
            End::Killed => region.killed(),
            End::Unpowered | End::Torn => region.after_random_power_cut(random),
        }
    }
}

/// Cold segments over all lives of the shard.
#[derive(Debug)]
pub(crate) struct Cold {
    directory: Directory,
    worker: Option<ColdWorker<Directory>>,
    random: Random,
}

/// What a shard needs of its cold segments.
pub(crate) struct Opened {
    pub(crate) link: ColdLink,
    pub(crate) sealed: Arc<ArrayQueue<Sealed>>,
    pub(crate) pages: Vec<ColdPage>,
    pub(crate) ranges: Vec<(u64, ColdRange)>,
}

fn broken(what: impl std::fmt::Display) -> Broken {
    Broken { invariant: kept::NAME, what: format!("cold segments: {what}") }
}

impl Cold {
    pub(crate) fn new(random: Random) -> Cold {
        let disk = SimDisk::new(Level::Pmem);
        Cold { directory: Directory(Rc::new(RefCell::new(disk))), worker: None, random }
    }

    /// Opens what is there for a start of the log `wal`, and copies what that is to recycle first. `anew` says that a log
    /// of another name may have begun: what was kept of the former is taken away then. Stops once the process `is_dead`: what
    /// the directory holds is what it did by then.
    pub(crate) fn open<R: Region>(
        &mut self,
        wal: &mut Wal<R>,
        is_dead: impl Fn(&Wal<R>) -> bool,
        commands: Arc<ArrayQueue<Command>>,
        streams: &Catalogue,
        anew: bool,
        now: Now,
    ) -> Result<Opened, Broken> {
        let opened = ColdStore::open(self.directory.clone(), wal.log_id(), 0);
        let mut store = match opened {
            Err(ColdError::OtherLog { .. }) if anew => {
                *self.directory.0.borrow_mut() = SimDisk::new(Level::Pmem);
                ColdStore::open(self.directory.clone(), wal.log_id(), 0)
            }
            opened => opened,
        }
        .map_err(broken)?;
        let (newest, next_lsn) = wal.starts_behind();
        store.settle(newest, next_lsn).map_err(broken)?;
        while wal.is_short_of_segments()
            && !is_dead(wal)
            && let Some(sealed) = wal.next_sealed()
        {
            let (sequence, end) = (sealed.sequence(), sealed.end());
            let keep = |stream| streams.keep(stream);
            store.copy(sequence, sealed.bytes(), end, &keep).map_err(broken)?;
            wal.give_back(sealed);
            wal.refill_reserve();
        }
        for (stream, held) in store.ranges().filter(|(stream, _)| streams.keep(*stream).is_some()) {
            wal.go_on_behind(stream, held.end).map_err(broken)?;
        }
        let link = ColdLink::new(PAGES);
        let sealed = Arc::new(ArrayQueue::new(LENT));
        let ranges = store.ranges().collect();
        let queues = ColdQueues { link: link.clone(), sealed: Arc::clone(&sealed), commands };
        self.worker = Some(ColdWorker::new(store, queues, BYTES_PER_SECOND, now));
        let pages = (0..PAGES).map(|_| ColdPage::new(PAGE_BYTES)).collect();
        Ok(Opened { link, sealed, pages, ranges })
    }

    /// The worker has a turn, or misses it.
    pub(crate) fn turn(
        &mut self,
        streams: &Catalogue,
        always: bool,
        now: Now,
    ) -> Result<(), Broken> {
        if !always && !self.random.one_in(3) {
            return Ok(());
        }
        let Some(worker) = &mut self.worker else { return Ok(()) };
        let mut watch = Watch::default();
        worker.turn(now, streams, &mut watch);
        watch.failed.map_or(Ok(()), |failed| Err(broken(failed)))
    }

    /// The process ends as this says; where power is lost between two polls, perhaps in the midst of what the worker does.
    pub(crate) fn stop(&mut self, streams: &Catalogue, end: End, now: Now) {
        let worker = self.worker.take();
        let (midst, operations) = (self.random.one_in(2), self.random.within(1..=12));
        if end == End::Killed {
            return;
        }
        if let Some(mut worker) = worker
            && midst
            && end == End::Unpowered
        {
            let at = self.directory.0.borrow().operations() + operations;
            self.directory.0.borrow_mut().stop_at(at);
            for _ in 0..4 {
                worker.turn(now, streams, &mut Watch::default());
            }
        }
        let mut pick = |below: u64| self.random.below(below);
        let left = self.directory.0.borrow().after_power_cut(&mut pick);
        *self.directory.0.borrow_mut() = left;
    }

    /// A look at what is there, apart from who works on it.
    pub(crate) fn look(&self, log_id: [u8; 16]) -> Result<ColdStore<Directory>, Broken> {
        let copy = Directory(Rc::new(RefCell::new(self.directory.0.borrow().clone())));
        ColdStore::open(copy, log_id, 0).map_err(broken)
    }
}
