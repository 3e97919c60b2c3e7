//! Counters and positions of a shard in memory that the shard writes and others only read.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use mstream_nic::{Frame, Port, PortStats};
use mstream_pmem::Poison;
use mstream_pmem::region::{Level, Region};
use mstream_pmem::wal::Wal;

use crate::poll_times::PollTimes;
use crate::shard::{Counters, Shard, Unreadable};
use crate::write_rate::WriteRate;

/// Positions and gauges, in the order of [`Status::positions`].
const POSITIONS: [&str; 16] = [
    "appended_lsn",
    "committed_lsn",
    "slots_wanted",
    "slots_ready",
    // For how long those last at the highest rate at which the log was written; 0: nothing was written yet.
    "slots_ready_ms",
    // Segments whose records are not in the index but in footers, and bytes of these.
    "segments_in_footers",
    "footer_bytes",
    "sessions",
    "publications",
    "subscriptions",
    // Those that are served from the log.
    "subscriptions_behind",
    // Those that wait for cold segments or are served from them.
    "subscriptions_cold",
    "frames_held",
    "streams",
    // Deleted streams whose users are still being told, or whose place in the tables is not free yet.
    "streams_dying",
    // Where recycling stopped at a record that cannot be read; 0: nowhere.
    "unreadable_at",
];

/// The log of a shard, as its status tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStatus {
    /// What its barriers promise; `None` before the shard runs.
    pub level: Option<Level>,
    /// Epoch of this start.
    pub epoch: u32,
    /// Names the log.
    pub log_id: [u8; 16],
    /// The machine was booted since it was written at level `process`: what was acknowledged then may be missing.
    pub possible_loss: bool,
    /// Where recycling stopped at a record that cannot be read.
    pub unreadable_at: Option<u64>,
    /// What readers asked for in vain; the place of the first one belongs together.
    pub unreadable: Unreadable,
    /// The log is damaged and read-only.
    pub fault: bool,
    /// No data is taken until a segment can be made ([`Wal::exhausted_ns`]).
    pub exhausted: bool,
    /// Why nothing is taken or acknowledged any more: the medium failed.
    pub poison: Option<Poison>,
}

/// [`LogStatus`] in cells; the place of the unreadable record is a position.
#[derive(Debug, Default)]
struct LogCells {
    level: AtomicU64,
    epoch: AtomicU64,
    log_id: [AtomicU64; 2],
    possible_loss: AtomicU64,
    fault: AtomicU64,
    exhausted: AtomicU64,
    /// [`Poison::to_bits`]; 0: none.
    poison: AtomicU64,
    unreadable: UnreadableCells,
}

/// [`Unreadable`] in cells.
#[derive(Debug, Default)]
struct UnreadableCells {
    messages: AtomicU64,
    first: [AtomicU64; 2],
    last: [AtomicU64; 2],
}

/// [`PollTimes`] in cells.
#[derive(Debug)]
struct TimesCells {
    counts: [AtomicU64; PollTimes::BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

/// The published state of one shard. Relaxed loads and stores: each number is right by itself, and no
/// number promises anything about another.
#[derive(Debug)]
pub struct Status {
    positions: [CachePadded<AtomicU64>; POSITIONS.len()],
    log: CachePadded<LogCells>,
    times: CachePadded<TimesCells>,
    counters: Vec<(&'static str, AtomicU64)>,
    ports: Vec<[AtomicU64; 7]>,
    updates: AtomicU64,
}

impl Status {
    /// An empty status for a shard with `ports` ports.
    pub fn new(ports: usize) -> Status {
        let mut counters = Vec::new();
        Counters::default().each(|name, _| counters.push((name, AtomicU64::new(0))));
        Status {
            positions: Default::default(),
            log: Default::default(),
            times: CachePadded::new(TimesCells {
                counts: std::array::from_fn(|_| AtomicU64::new(0)),
                sum_ns: AtomicU64::new(0),
                max_ns: AtomicU64::new(0),
            }),
            counters,
            ports: (0..ports).map(|_| Default::default()).collect(),
            updates: AtomicU64::new(0),
        }
    }

    pub(crate) fn publish<P: Port<Frame = F>, R: Region, F: Frame>(
        &self,
        shard: &Shard<R, F>,
        ports: &[P],
        times: &PollTimes,
        rate: &WriteRate,
    ) {
        let wal = shard.wal();
        self.log.publish(wal);
        self.log.unreadable.publish(&shard.counters().unreadable);
        self.times.publish(times);
        let (publications, subscriptions) = shard.handles();
        let (streams, dying) = shard.streams();
        let (waiting, in_use) = shard.cold_readers();
        let values = [
            wal.appended(),
            shard.committed(),
            u64::from(wal.slots_wanted()),
            u64::from(wal.slots_ready()),
            rate.lasts_ms(u64::from(wal.slots_ready()) * wal.region().slot_bytes()),
            u64::from(wal.segments_in_footers()),
            wal.footer_bytes(),
            shard.sessions() as u64,
            publications as u64,
            subscriptions as u64,
            shard.subscriptions_behind() as u64,
            (waiting + in_use) as u64,
            shard.frames_held() as u64,
            streams as u64,
            dying as u64,
            wal.unreadable().unwrap_or(0),
        ];
        for (cell, value) in self.positions.iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
        let mut cells = self.counters.iter();
        shard.counters().each(|_, value| {
            if let Some((_, cell)) = cells.next() {
                cell.store(value, Ordering::Relaxed);
            }
        });
        for (cells, port) in self.ports.iter().zip(ports) {
            let s = port.stats();
            let values = [
                s.rx_frames,
                s.rx_bytes,
                s.rx_no_buffer,
                s.rx_refused,
                s.tx_frames,
                s.tx_bytes,
                s.tx_dropped,
            ];
            for (cell, value) in cells.iter().zip(values) {
                cell.store(value, Ordering::Relaxed);
            }
        }
        // Release: whoever sees this update sees the numbers above, or newer ones. Only the shard writes.
        let updates = self.updates.load(Ordering::Relaxed);
        self.updates.store(updates + 1, Ordering::Release);
    }

    /// How often the status was published. What was told to the shard when this read `n` is taken into
    /// account in all numbers once it reads `n + 2`.
    pub fn updates(&self) -> u64 {
        self.updates.load(Ordering::Acquire)
    }

    /// How many segment slots the housekeeper is to prepare.
    pub fn slots_wanted(&self) -> u64 {
        self.position("slots_wanted")
    }

    /// The shard's log.
    pub fn log(&self) -> LogStatus {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let mut log_id = [0; 16];
        for (bytes, cell) in log_id.chunks_exact_mut(8).zip(&self.log.log_id) {
            bytes.copy_from_slice(&load(cell).to_le_bytes());
        }
        LogStatus {
            level: Level::from_number(load(&self.log.level) as u8),
            epoch: load(&self.log.epoch) as u32,
            log_id,
            possible_loss: load(&self.log.possible_loss) != 0,
            fault: load(&self.log.fault) != 0,
            exhausted: load(&self.log.exhausted) != 0,
            unreadable_at: Some(self.position("unreadable_at")).filter(|at| *at != 0),
            unreadable: self.log.unreadable.load(),
            poison: Poison::from_bits(load(&self.log.poison)),
        }
    }

    /// How long polls that carried messages took.
    pub fn poll_times(&self) -> PollTimes {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        PollTimes {
            counts: std::array::from_fn(|bucket| load(&self.times.counts[bucket])),
            sum_ns: load(&self.times.sum_ns),
            max_ns: load(&self.times.max_ns),
        }
    }

    /// The position or gauge with this name; 0 if there is none.
    fn position(&self, name: &str) -> u64 {
        self.positions().find(|(known, _)| *known == name).map_or(0, |(_, value)| value)
    }

    /// Positions and gauges with their names.
    pub fn positions(&self) -> impl Iterator<Item = (&'static str, u64)> {
        POSITIONS
            .iter()
            .copied()
            .zip(self.positions.iter().map(|cell| cell.load(Ordering::Relaxed)))
    }

    /// The shard's counters with their names.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counters.iter().map(|(name, cell)| (*name, cell.load(Ordering::Relaxed)))
    }

    /// The counts of port `port`.
    pub fn port(&self, port: usize) -> Option<PortStats> {
        let [rx_frames, rx_bytes, rx_no_buffer, rx_refused, tx_frames, tx_bytes, tx_dropped] =
            self.ports.get(port)?;
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Some(PortStats {
            rx_frames: get(rx_frames),
            rx_bytes: get(rx_bytes),
            rx_no_buffer: get(rx_no_buffer),
            rx_refused: get(rx_refused),
            tx_frames: get(tx_frames),
            tx_bytes: get(tx_bytes),
            tx_dropped: get(tx_dropped),
        })
    }
}

impl LogCells {
    fn publish<R: Region>(&self, wal: &Wal<R>) {
        let store = |cell: &AtomicU64, value: u64| cell.store(value, Ordering::Relaxed);
        store(&self.level, wal.level() as u64);
        store(&self.epoch, wal.epoch().into());
        for (cell, bytes) in self.log_id.iter().zip(wal.log_id().as_chunks::<8>().0) {
            store(cell, u64::from_le_bytes(*bytes));
        }
        store(&self.possible_loss, wal.possible_loss().into());
        store(&self.fault, wal.fault().is_some().into());
        store(&self.exhausted, wal.exhausted_ns().is_some().into());
        store(&self.poison, wal.poison().map_or(0, Poison::to_bits));
    }
}

impl UnreadableCells {
    fn publish(&self, unreadable: &Unreadable) {
        for (cells, place) in [(&self.first, unreadable.first), (&self.last, unreadable.last)] {
            cells[0].store(place.0, Ordering::Relaxed);
            cells[1].store(place.1, Ordering::Relaxed);
        }
        // Release: whoever sees that there is something sees where the first of it was; that stays.
        self.messages.store(unreadable.messages, Ordering::Release);
    }

    fn load(&self) -> Unreadable {
        let messages = self.messages.load(Ordering::Acquire);
        let place = |cells: &[AtomicU64; 2]| {
            (cells[0].load(Ordering::Relaxed), cells[1].load(Ordering::Relaxed))
        };
        Unreadable { messages, first: place(&self.first), last: place(&self.last) }
    }
}

impl TimesCells {
    fn publish(&self, times: &PollTimes) {
        for (cell, count) in self.counts.iter().zip(times.counts) {
            cell.store(count, Ordering::Relaxed);
        }
        self.sum_ns.store(times.sum_ns, Ordering::Relaxed);
        self.max_ns.store(times.max_ns, Ordering::Relaxed);
    }
}
