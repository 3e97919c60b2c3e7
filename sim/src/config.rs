//! How the appliance of a world is made: sizes, limits and how it opens its log.

use mstream_dataplane::{Limits, Now};
use mstream_nic::port::BURST;
use mstream_pmem::index::ArenaSize;
use mstream_pmem::recovery::RecoveryError;
use mstream_pmem::region::{Level, Region};
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{TableLimits, Wal, WalConfig};

use crate::catalogue::MOST_STREAMS;
use crate::faults::{Kind, Mix};
use crate::random::Random;

/// Bytes of a segment.
const SEGMENT: u64 = 64 * 1024;
/// Bytes of the least record of data.
const LEAST_RECORD: u64 = 128;
/// Sessions that are not heard end after this long, in milliseconds.
pub(crate) const SESSION_TIMEOUT_MS: u32 = 3_000;
/// Publishers that may ever have a name.
pub(crate) const MOST_PUBLISHERS: u16 = 8;
/// What the log's tables hold.
const TABLES: TableLimits = TableLimits {
    streams: MOST_STREAMS + 1,
    publications: 128,
    publishers: MOST_PUBLISHERS as usize,
};
/// Free segments that it keeps beside its reserve.
const READY: u32 = 1;

/// How the appliance is made; the same for all its lives.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    pub(crate) limits: Limits,
    /// VLAN of the whole network.
    pub(crate) vlan: Option<u16>,
    /// What its region promises.
    pub(crate) level: Level,
    /// Buffers of its port.
    pub(crate) frames: usize,
    /// Frames that its port hands over at once, at most.
    pub(crate) burst: usize,
    pub(crate) slots: u32,
    /// Slots that exist from the beginning.
    pub(crate) first_slots: u32,
    /// The log's index has room for little more than one segment.
    small_index: bool,
    /// How long making another takes, and reading a sealed segment.
    pub(crate) make_ns: u64,
    window_bytes: u64,
    /// Polls after which a barrier completes.
    pub(crate) barrier_polls: u64,
}

impl ServerConfig {
    pub(crate) fn draw(mix: Mix, random: &mut Random) -> ServerConfig {
        let limits = Limits {
            sessions: 64,
            publications: 64,
            subscriptions: 64,
            pending_records: random.within(4..=256) as usize,
            pending_frames: random.below(33) as usize,
            session_window_bytes: random.within(4..=128) * 1024,
            session_timeout_ms: SESSION_TIMEOUT_MS,
            ..Limits::default()
        };
        let slots = random.within(6..=12) as u32;
        let (few, media, process) = (random.one_in(2), random.one_in(4), random.one_in(3));
        let late = random.size(1..=64);
        let level = match () {
            () if mix.has(Kind::Reboot) && (process || mix == Mix::only(Kind::Reboot)) => {
                Level::Process
            }
            () if media => Level::MediaSync,
            () => Level::Pmem,
        };
        ServerConfig {
            // Not drawn: that would make other worlds of all seeds.
            small_index: limits.pending_records.is_multiple_of(2),
            limits,
            vlan: random.one_in(4).then(|| random.within(1..=4094) as u16),
            level,
            frames: random.within(128..=512) as usize,
            burst: if random.one_in(4) { BURST } else { random.size(1..=7) as usize },
            slots,
            first_slots: if few || mix.has(Kind::NoSegments) { 1 } else { slots },
            make_ns: random.within(0..=50_000_000),
            window_bytes: random.within(4..=64) * 1024,
            barrier_polls: if mix.has(Kind::LateBarrier) { late } else { 0 },
        }
    }

    /// Free segments below which the log recycles one, if its index does not make it.
    pub(crate) fn recycles_below(&self) -> Option<u32> {
        (!self.small_index).then(|| READY + TABLES.reserve_segments(SEGMENT))
    }

    /// A region without a log.
    pub(crate) fn region(&self) -> SimRegion {
        SimRegion::new(self.slots, SEGMENT, self.barrier_polls)
            .with_window(self.window_bytes)
            .with_level(self.level)
    }

    /// Opens the log in a region of which the first `slots` slots exist. A new one gets `names`: its id and its secret.
    /// With `hold` it recycles nothing before it was lent and given back.
    pub(crate) fn open<R: Region>(
        &self,
        region: R,
        slots: u32,
        boot: u8,
        names: [[u8; 16]; 2],
        hold: bool,
        now: Now,
    ) -> Result<Wal<R>, RecoveryError> {
        let config = WalConfig {
            shard: 0,
            new_log_id: names[0],
            new_secret: names[1],
            boot_id: [boot; 16],
            tables: TABLES,
            ready_segments: READY,
            time_ns: now.wall_ns,
        };
        let slots: Vec<u32> = (0..slots).collect();
        let least = ArenaSize::new(1, (SEGMENT / LEAST_RECORD) as usize, config.tables.streams);
        let arena = self.small_index.then_some(least);
        let (mut wal, _) = match (hold, arena) {
            (true, arena) => Wal::open_holding(region, &slots, config, arena)?,
            (false, None) => Wal::open(region, &slots, config)?,
            (false, Some(arena)) => Wal::open_with_index(region, &slots, config, arena)?,
        };
        if self.small_index {
            wal.use_footers();
        }
        Ok(wal)
    }
}
