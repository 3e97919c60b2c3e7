//! A log whose index has no room for all of it, with what reads its segments, and all that can be asked of it compared
//! with a log that has all in its index.

use std::sync::Arc;

use mstream_pmem::accept::accept_loss;
use mstream_pmem::footer::Footer;
use mstream_pmem::format::{RECORD_HEADER_BYTES, crc32c};
use mstream_pmem::index::ArenaSize;
use mstream_pmem::sealed::Sealed;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{AppendData, AppendError, RecordAt, TableLimits, Wal, WalConfig};

use super::{Random, config};

const SEGMENT: u64 = 64 * 1024;
const SLOTS: u32 = 14;
const STREAMS: usize = 8;
const TABLES: TableLimits = TableLimits { streams: 2 * STREAMS, publications: 40, publishers: 2 };

/// An index for the records of two segments or so.
fn small() -> ArenaSize {
    ArenaSize::new(1, 400, 2 * STREAMS)
}

/// One that is large enough.
fn large() -> ArenaSize {
    ArenaSize::new(SLOTS as usize, 512, 2 * STREAMS)
}

fn settings(time: u64) -> WalConfig {
    WalConfig { tables: TABLES, ..config(time) }
}

pub struct World {
    wal: Wal<SimRegion>,
    random: Random,
    streams: Vec<u64>,
    next_id: u64,
    time: u64,
    held: Vec<Sealed>,
    /// The footer that was made last.
    last: Option<Arc<Footer>>,
    /// Most segments that were in footers.
    pub most: u32,
    pub recycled: bool,
    pub refused: u64,
    /// Losses that were accepted, and queries inside one.
    pub lost: u64,
    pub holes: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let region = SimRegion::new(SLOTS, SEGMENT, random.below(4));
        World {
            wal: open(region, 0),
            streams: (1..=STREAMS as u64).collect(),
            next_id: 1 + STREAMS as u64,
            time: 0,
            held: Vec::new(),
            last: None,
            most: 0,
            recycled: false,
            refused: 0,
            lost: 0,
            holes: 0,
            random,
        }
    }

    /// Plays some lives of the log. What it finds otherwise than it should, if anything.
    pub fn live(&mut self) -> Result<(), String> {
        for _ in 0..6 {
            self.play(900)?;
            self.check()?;
            match self.random.below(3) {
                0 => self.restart()?,
                1 => self.lose()?,
                _ => {}
            }
            self.check()?;
        }
        Ok(())
    }

    fn append(&mut self) -> Result<(), String> {
        // Some streams are busy, some hardly ever used.
        let pick = self.random.below(STREAMS as u64).min(self.random.below(2 * STREAMS as u64));
        let stream = self.wal.open_stream(self.streams[pick as usize]).expect("room");
        let publication = self.wal.open_publication(21, stream).expect("room");
        let bytes = self.random.below(600) as usize;
        let block: Vec<u8> = (0..bytes).map(|_| self.random.next() as u8).collect();
        self.time += self.random.below(3);
        let data = AppendData {
            stream,
            publication,
            incarnation: 1,
            count: 1 + self.random.below(4) as u16,
            block_crc: crc32c(&block),
            time_ns: self.time,
            block: &block,
        };
        match self.wal.append_data(&data) {
            Ok(_) => {}
            Err(AppendError::Full) => self.refused += 1,
            Err(AppendError::Window) => {}
            Err(other) => return Err(other.to_string()),
        }
        Ok(())
    }

    /// Plays the log's user and the reader of its segments for a while.
    fn play(&mut self, steps: u64) -> Result<(), String> {
        for _ in 0..steps {
            self.append()?;
            if self.random.below(3) > 0 {
                self.wal.barrier();
            }
            self.wal.persisted();
            self.wal.housekeep(self.random.below(12) as usize);
            if self.random.below(20) == 0
                && let Some(sealed) = self.wal.next_sealed()
            {
                self.held.push(sealed);
            }
            if !self.held.is_empty() && self.random.below(20) == 0 {
                let sealed =
                    self.held.swap_remove(self.random.below(self.held.len() as u64) as usize);
                self.give_back(sealed);
            }
            if self.random.below(60) == 0 {
                let id = self.streams[self.random.below(STREAMS as u64) as usize];
                if let Some(slot) = self.wal.stream_slot(id) {
                    self.wal.drop_oldest(slot);
                }
            }
            if self.random.below(900) == 0 {
                self.delete_stream();
            }
            self.most = self.most.max(self.wal.segments_in_footers());
            if self.random.below(200) == 0 {
                self.check()?;
            }
        }
        Ok(())
    }

    /// Gives a segment back, with its footer if that is asked for; now and then with another's.
    fn give_back(&mut self, mut sealed: Sealed) {
        if sealed.wants_footer() {
            let mut footer = Arc::new(sealed.make_footer().expect("sound"));
            let last = self.last.replace(Arc::clone(&footer));
            if self.random.below(8) == 0 {
                footer = last.unwrap_or(footer);
            }
            sealed.attach(footer);
        }
        self.wal.give_back(sealed);
    }

    fn delete_stream(&mut self) {
        let pick = self.random.below(STREAMS as u64) as usize;
        let Some(slot) = self.wal.stream_slot(self.streams[pick]) else { return };
        while !self.wal.give_up_stream(slot, 3) {}
        self.streams[pick] = self.next_id;
        self.next_id += 1;
    }

    /// Compares all look-ups with those of a log that has all of it in its index.
    fn check(&mut self) -> Result<(), String> {
        let slots: Vec<u32> = (0..SLOTS).collect();
        let image = self.wal.region().after_kill();
        let opened = Wal::open_with_index(image, &slots, settings(self.time), large());
        // A start needs a segment that is free.
        let Ok((full, _)) = opened else { return Ok(()) };
        for id in self.streams.clone() {
            let Some(slot) = self.wal.stream_slot(id) else { continue };
            let Some(other) = full.stream_slot(id) else { continue };
            let (state, known) = (*self.wal.stream(slot), *full.stream(other));
            same(state.next_offset, known.next_offset, || format!("stream {id}"))?;
            let from = state.earliest_offset.max(known.earliest_offset);
            self.recycled |= state.earliest_offset > 0;
            let mut hint = self.random.below(9);
            let below = state.earliest_offset.checked_sub(1);
            let before = below.and_then(|offset| self.wal.lookup(slot, offset, 0));
            same(at(before), None, || format!("stream {id} before its earliest"))?;
            for offset in from..state.next_offset + 2 {
                let here = self.wal.lookup(slot, offset, hint);
                let there = full.lookup(other, offset, 0);
                same(at(here), at(there), || format!("stream {id} offset {offset}"))?;
                let cold = self.wal.lookup(slot, offset, u64::MAX);
                same(at(cold), at(there), || format!("stream {id} offset {offset}"))?;
                hint = here.map_or(0, |(number, _)| number);
                let holes = (self.wal.hole(slot, offset, hint), full.hole(other, offset, 0));
                self.holes += u64::from(holes.0.is_some());
                same(holes.0, holes.1, || format!("stream {id} offset {offset}"))?;
            }
            for _ in 0..20 {
                let time = self.random.below(self.time + 5);
                let epoch = self.random.below(u64::from(self.wal.epoch()) + 2) as u32;
                let pairs = [
                    (self.wal.first_at_or_after(slot, time), full.first_at_or_after(other, time)),
                    (
                        self.wal.first_of_later_epoch(slot, epoch),
                        full.first_of_later_epoch(other, epoch),
                    ),
                ];
                for (here, there) in pairs {
                    // The full log may hold what was let go here.
                    let later = |found: Option<u64>| {
                        found
                            .map(|offset| offset.max(from))
                            .filter(|from| *from < state.next_offset)
                    };
                    same(later(here), later(there), || format!("stream {id} {time} {epoch}"))?;
                }
            }
            let oldest =
                self.wal.oldest(slot).map(|(offset, record)| (offset, record.header.offset.get()));
            let some = state.earliest_offset < state.next_offset;
            same(oldest, some.then_some((state.earliest_offset, state.earliest_offset)), || {
                format!("oldest of stream {id}")
            })?;
            same(!some || state.held_bytes() > 0, true, || format!("bytes of stream {id}"))?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        self.held.clear();
        let slots: Vec<u32> = (0..SLOTS).collect();
        let image = self.wal.region().after_kill();
        let opened = Wal::open_with_index(image, &slots, settings(self.time), small());
        let Ok((mut wal, _)) = opened else { return Ok(()) };
        wal.use_footers();
        self.wal = wal;
        let streams = self.streams.clone();
        let kept = self.wal.keep_streams(|id| streams.contains(&id));
        kept.map(|_| ()).map_err(|full| full.to_string())
    }

    /// A record in the middle of the log is lost, and that is accepted.
    fn lose(&mut self) -> Result<(), String> {
        let id = self.streams[self.random.below(3) as usize];
        let Some(slot) = self.wal.stream_slot(id) else { return Ok(()) };
        let state = *self.wal.stream(slot);
        let middle = state.earliest_offset + (state.next_offset - state.earliest_offset) / 3;
        let Some((_, at)) = self.wal.lookup(slot, middle, 0) else { return Ok(()) };
        let mut image = self.wal.region().after_kill();
        image.damage(at.address(), &[0; RECORD_HEADER_BYTES]);
        let slots: Vec<u32> = (0..SLOTS).collect();
        if let Ok((_, region)) = accept_loss(image, &slots, settings(self.time)) {
            let opened =
                Wal::open_with_index(region.after_kill(), &slots, settings(self.time), small());
            let Ok((mut wal, _)) = opened else { return Ok(()) };
            wal.use_footers();
            self.held.clear();
            self.wal = wal;
            self.lost += 1;
        }
        Ok(())
    }
}

fn at(found: Option<(u64, RecordAt)>) -> Option<RecordAt> {
    found.map(|(_, at)| at)
}

fn open(region: SimRegion, time: u64) -> Wal<SimRegion> {
    let slots: Vec<u32> = (0..SLOTS).collect();
    let opened = Wal::open_with_index(region, &slots, settings(time), small());
    let (mut wal, _) = opened.expect("sound");
    wal.use_footers();
    wal
}

fn same<T: PartialEq + std::fmt::Debug>(
    here: T,
    there: T,
    what: impl FnOnce() -> String,
) -> Result<(), String> {
    match here == there {
        true => Ok(()),
        false => Err(format!("{}: {here:?}, not {there:?}", what())),
    }
}
