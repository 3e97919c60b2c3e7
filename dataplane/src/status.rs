//! Counters and positions of a shard in memory that the shard writes and others only read.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use mstream_nic::{Frame, Port, PortStats};
use mstream_pmem::region::Region;

use crate::shard::{Counters, Shard};

/// Positions and gauges, in the order of [`Status::positions`].
const POSITIONS: [&str; 9] = [
    "appended_lsn",
    "committed_lsn",
    "slots_wanted",
    "slots_ready",
    "sessions",
    "publications",
    "subscriptions",
    "frames_held",
    // Where recycling stopped at a record that cannot be read; 0: nowhere.
    "unreadable_at",
];

/// The published state of one shard. Relaxed loads and stores: each number is right by itself, and no
/// number promises anything about another.
#[derive(Debug)]
pub struct Status {
    positions: [CachePadded<AtomicU64>; POSITIONS.len()],
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
            counters,
            ports: (0..ports).map(|_| Default::default()).collect(),
            updates: AtomicU64::new(0),
        }
    }

    pub(crate) fn publish<P: Port<Frame = F>, R: Region, F: Frame>(
        &self,
        shard: &Shard<R, F>,
        ports: &[P],
    ) {
        let wal = shard.wal();
        let (publications, subscriptions) = shard.handles();
        let values = [
            wal.appended(),
            shard.committed(),
            u64::from(wal.slots_wanted()),
            u64::from(wal.slots_ready()),
            shard.sessions() as u64,
            publications as u64,
            subscriptions as u64,
            shard.frames_held() as u64,
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
        self.positions[2].load(Ordering::Relaxed)
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
