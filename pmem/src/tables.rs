//! Streams, publications and publisher lives, as the log's records say they are. Rebuilt at every start;
//! of fixed size afterwards.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::format::{ROLL_BYTES, SEGMENT_DATA_AT, record_bytes};
use crate::holdings::{Holding, Holdings};
use crate::index::{ArenaSize, Entries};
use crate::places::{Places, hash_of};
use crate::wal::{RecordAt, TableFull};

/// Bytes of a footer for a record that is alone in its stream: extent, place, its share of the filter and of hashes.
const MOST_FOOTER_BYTES: u64 = 40 + 8 + 2 + 1;

/// Segments of the reserve beside those that restated state takes.
const SPARE_SEGMENTS: u32 = 2;

/// The end of a list inside a table.
const NONE: u32 = u32::MAX;

/// Index of a stream in the log's table. It may be another stream's once the stream was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSlot(pub u32);

/// Index of a publication (publisher and stream) in the log's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicationSlot(pub u32);

/// A stream, as the log knows it.
#[derive(Clone, Copy, Debug)]
pub struct StreamState {
    /// Stream id.
    pub id: u64,
    /// Offset of the next message.
    pub next_offset: u64,
    /// Offset of the first message that is still held (`next_offset` when none is).
    pub earliest_offset: u64,
    /// Bytes of all records that were appended since the start or found at it, and of those of them that were let go.
    pub(crate) appended_bytes: u64,
    pub(crate) released_bytes: u64,
    pub(crate) newest: Option<RecordAt>,
    pub(crate) entries: Entries,
    /// Number of the stream's newest entry among [`crate::holdings`], 0: none.
    pub(crate) holding: u64,
    /// First of the publications of this stream.
    publications: u32,
}

impl StreamState {
    const FREE: StreamState = StreamState {
        id: 0,
        next_offset: 0,
        earliest_offset: 0,
        appended_bytes: 0,
        released_bytes: 0,
        newest: None,
        entries: Entries::EMPTY,
        holding: 0,
        publications: NONE,
    };

    /// Bytes of the records that hold messages from the earliest offset on.
    #[inline]
    pub fn held_bytes(&self) -> u64 {
        self.appended_bytes - self.released_bytes
    }

    /// The stream's oldest record, of `bytes` bytes, is not held any more.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.released_bytes = (self.released_bytes + bytes).min(self.appended_bytes);
    }
}

/// What one publisher stored in one stream.
#[derive(Clone, Copy, Debug)]
pub struct PublicationState {
    /// Publisher id.
    pub publisher: u64,
    /// Stream.
    pub stream: StreamSlot,
    /// Sequence of the last stored message, 0 before the first.
    pub sequence: u64,
    /// Offset behind that message.
    pub offset: u64,
    pub(crate) incarnation: u64,
    pub(crate) newest: Option<RecordAt>,
    /// Number of the newest entry among [`crate::holdings`], 0: none.
    pub(crate) holding: u64,
    /// Neighbours in the list of the stream's publications.
    next: u32,
    previous: u32,
}

/// The newest life of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Which life it is; a greater one is newer.
    pub incarnation: u64,
    /// What the claim was made with.
    pub nonce: [u8; 16],
    pub(crate) newest: RecordAt,
}

/// Publisher ids come from the catalogue or the log, not from strangers: a fixed hash serves, and keeps runs the
/// same.
type Fixed = BuildHasherDefault<DefaultHasher>;

pub(crate) struct Tables {
    pub(crate) streams: Vec<StreamState>,
    free_streams: Vec<u32>,
    stream_by_id: Places,
    pub(crate) publications: Vec<PublicationState>,
    free_publications: Vec<u32>,
    publication_by_ids: Places,
    pub(crate) lives: HashMap<u64, Life, Fixed>,
    limits: TableLimits,
    /// During recovery the tables take what the log holds: streams among it may have been given up.
    recovering: bool,
}

/// Sizes of the log's tables.
#[derive(Clone, Copy, Debug)]
pub struct TableLimits {
    /// Streams.
    pub streams: usize,
    /// Publications, those of anonymous publishers included.
    pub publications: usize,
    /// Publishers that may have a life.
    pub publishers: usize,
}

impl TableLimits {
    /// Segments of a log that data cannot use: what may have to be written again when a segment is recycled fits
    /// them, and two more are free to go on in, for a start may come behind a start that took one and went no further.
    pub fn reserve_segments(&self, segment_bytes: u64) -> u32 {
        // The largest of these records is a publisher's life, with its nonce; all take two lines.
        let states = (self.streams + self.publications + self.publishers) as u64;
        let room = segment_bytes.saturating_sub(SEGMENT_DATA_AT + ROLL_BYTES).max(1);
        SPARE_SEGMENTS + (states * record_bytes(16)).div_ceil(room) as u32
    }

    /// Upper bound of the bytes that the tables take.
    pub fn table_bytes(&self) -> u64 {
        let entries = |number: usize, bytes: usize| (number * (bytes + size_of::<u32>())) as u64;
        entries(self.streams, size_of::<StreamState>())
            + entries(self.publications, size_of::<PublicationState>())
            // A hash map of twice the room, which is at most half as much again.
            + entries(4 * self.publishers, size_of::<(u64, Life)>())
            + Places::bytes(self.streams)
            + Places::bytes(self.publications)
    }

    /// Bytes that the index of a log of `segments` segments of `segment_bytes` bytes takes.
    pub fn index_bytes(&self, segments: u32, segment_bytes: u64) -> u64 {
        self.arena(segments, segment_bytes).bytes()
    }

    /// Bytes that the footers of a log's oldest segments may take whose index is of `index_bytes` bytes: half as much
    /// again, and at least the footer of one segment of `segment_bytes` bytes whose records are of a stream each.
    pub fn footer_bytes(index_bytes: u64, segment_bytes: u64) -> u64 {
        let records = segment_bytes / record_bytes(8);
        (index_bytes / 2).max(records * MOST_FOOTER_BYTES + 4096)
    }

    /// Bytes of the notes on who has anything in which of a log's `segments` segments of `segment_bytes` bytes.
    pub fn holdings_bytes(&self, segments: u32, segment_bytes: u64) -> u64 {
        (self.holdings(segments, segment_bytes) * size_of::<Holding>()) as u64
    }

    pub(crate) fn holdings(&self, segments: u32, segment_bytes: u64) -> usize {
        let records = segment_bytes / record_bytes(8);
        Holdings::capacity(self, segments as usize, records as usize)
    }

    pub(crate) fn arena(&self, segments: u32, segment_bytes: u64) -> ArenaSize {
        // The least record of data has a message header of 8 bytes and nothing else: two lines.
        let records = segment_bytes / record_bytes(8);
        ArenaSize::new(segments as usize, records as usize, self.streams)
    }

    /// The fewest segments with which a log makes progress for good: beside the reserve and those to be kept
    /// ready, those that the state itself takes, the one that is written to and one that is recycled.
    pub fn least_segments(&self, segment_bytes: u64, ready_segments: u32) -> u32 {
        let reserve = self.reserve_segments(segment_bytes);
        let state = reserve.saturating_sub(SPARE_SEGMENTS);
        reserve.saturating_add(ready_segments).saturating_add(state).saturating_add(2)
    }
}

impl Tables {
    pub(crate) fn new(limits: TableLimits) -> Tables {
        Tables {
            streams: Vec::with_capacity(limits.streams),
            free_streams: Vec::with_capacity(limits.streams),
            stream_by_id: Places::new(limits.streams),
            publications: Vec::with_capacity(limits.publications),
            free_publications: Vec::with_capacity(limits.publications),
            publication_by_ids: Places::new(limits.publications),
            // Only ever added to.
            lives: HashMap::with_capacity_and_hasher(2 * limits.publishers, Fixed::default()),
            limits,
            recovering: true,
        }
    }

    /// Recovery is over: what the tables hold beyond their limits may be given up, but not become more.
    pub(crate) fn seal(&mut self) {
        self.recovering = false;
        let spare = |most: usize, free: &Vec<u32>| most.saturating_sub(free.len());
        self.free_streams.reserve(spare(self.streams.len(), &self.free_streams));
        self.free_publications.reserve(spare(self.publications.len(), &self.free_publications));
    }

    /// Fails when a table holds more than its limit.
    pub(crate) fn check_limits(&self) -> Result<(), TableFull> {
        let TableLimits { streams, publications, .. } = self.limits;
        if self.streams.len() - self.free_streams.len() > streams {
            return Err(TableFull { table: "streams", limit: streams });
        }
        if self.publications.len() - self.free_publications.len() > publications {
            return Err(TableFull { table: "publications", limit: publications });
        }
        Ok(())
    }

    /// Fails when this publisher has no life yet and as many as there may be have one.
    pub(crate) fn room_for_life(&self, publisher: u64) -> Result<(), TableFull> {
        let limit = self.limits.publishers;
        if self.lives.len() >= limit && !self.lives.contains_key(&publisher) {
            return Err(TableFull { table: "publishers", limit });
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn stream_slot(&self, id: u64) -> Option<StreamSlot> {
        let is = |slot: u32| self.streams[slot as usize].id == id;
        self.stream_by_id.find(hash_of(id), is).map(StreamSlot)
    }

    pub(crate) fn open_stream(&mut self, id: u64) -> Result<StreamSlot, TableFull> {
        if let Some(slot) = self.stream_slot(id) {
            return Ok(slot);
        }
        let limit = self.limits.streams;
        if self.recovering {
            let streams = &self.streams;
            self.stream_by_id.reserve(|slot| hash_of(streams[slot as usize].id));
        } else if self.streams.len() - self.free_streams.len() >= limit {
            return Err(TableFull { table: "streams", limit });
        }
        let state = StreamState { id, ..StreamState::FREE };
        let slot = match self.free_streams.pop() {
            Some(slot) => {
                self.streams[slot as usize] = state;
                slot
            }
            None => {
                self.streams.push(state);
                self.streams.len() as u32 - 1
            }
        };
        self.stream_by_id.insert(hash_of(id), slot);
        Ok(StreamSlot(slot))
    }

    /// Frees a stream's entry. The stream has no publications any more and nothing in the index.
    pub(crate) fn release_stream(&mut self, slot: StreamSlot) {
        let Tables { streams, stream_by_id, .. } = self;
        let id = streams[slot.0 as usize].id;
        if stream_by_id.remove(hash_of(id), slot.0, |slot| hash_of(streams[slot as usize].id)) {
            streams[slot.0 as usize] = StreamState::FREE;
            self.free_streams.push(slot.0);
        }
    }

    /// A publication of the stream, if there is one.
    pub(crate) fn publication_of(&self, stream: StreamSlot) -> Option<PublicationSlot> {
        let first = self.streams[stream.0 as usize].publications;
        (first != NONE).then_some(PublicationSlot(first))
    }

    pub(crate) fn publication_slot(
        &self,
        publisher: u64,
        stream: StreamSlot,
    ) -> Option<PublicationSlot> {
        let is = |slot: u32| {
            let state = &self.publications[slot as usize];
            (state.publisher, state.stream) == (publisher, stream)
        };
        self.publication_by_ids.find(hash_of((publisher, stream.0)), is).map(PublicationSlot)
    }

    pub(crate) fn open_publication(
        &mut self,
        publisher: u64,
        stream: StreamSlot,
    ) -> Result<PublicationSlot, TableFull> {
        if let Some(slot) = self.publication_slot(publisher, stream) {
            return Ok(slot);
        }
        let limit = self.limits.publications;
        if self.recovering {
            let publications = &self.publications;
            self.publication_by_ids.reserve(|slot| publication_hash(publications, slot));
        } else if self.publications.len() - self.free_publications.len() >= limit {
            return Err(TableFull { table: "publications", limit });
        }
        let next = self.streams[stream.0 as usize].publications;
        let state = PublicationState {
            publisher,
            stream,
            sequence: 0,
            offset: 0,
            incarnation: 0,
            newest: None,
            holding: 0,
            next,
            previous: NONE,
        };
        let slot = match self.free_publications.pop() {
            Some(slot) => {
                self.publications[slot as usize] = state;
                slot
            }
            None => {
                self.publications.push(state);
                self.publications.len() as u32 - 1
            }
        };
        if let Some(next) = self.publications.get_mut(next as usize) {
            next.previous = slot;
        }
        self.streams[stream.0 as usize].publications = slot;
        self.publication_by_ids.insert(hash_of((publisher, stream.0)), slot);
        Ok(PublicationSlot(slot))
    }

    pub(crate) fn release_publication(&mut self, slot: PublicationSlot) {
        let Tables { publications, publication_by_ids, .. } = self;
        let hash = publication_hash(publications, slot.0);
        if !publication_by_ids.remove(hash, slot.0, |slot| publication_hash(publications, slot)) {
            return;
        }
        let PublicationState { stream, next, previous, .. } = publications[slot.0 as usize];
        if let Some(next) = publications.get_mut(next as usize) {
            next.previous = previous;
        }
        match publications.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => self.streams[stream.0 as usize].publications = next,
        }
        publications[slot.0 as usize].newest = None;
        self.free_publications.push(slot.0);
    }
}

fn publication_hash(publications: &[PublicationState], slot: u32) -> u64 {
    let state = &publications[slot as usize];
    hash_of((state.publisher, state.stream.0))
}
