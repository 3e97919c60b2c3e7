//! Streams, publications and publisher lives, as the log's records say they are. Rebuilt at every start;
//! of fixed size afterwards.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::format::{ROLL_BYTES, SEGMENT_DATA_AT, record_bytes};
use crate::index::Entries;
use crate::wal::{RecordAt, TableFull};

/// Index of a stream in the log's table.
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
    pub(crate) newest: Option<RecordAt>,
    pub(crate) entries: Entries,
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

/// Ids come from the configuration or the log, not from strangers: a fixed hash serves, and keeps runs the same.
type Fixed = BuildHasherDefault<DefaultHasher>;

pub(crate) struct Tables {
    pub(crate) streams: Vec<StreamState>,
    stream_by_id: HashMap<u64, u32, Fixed>,
    pub(crate) publications: Vec<PublicationState>,
    free_publications: Vec<u32>,
    publication_by_ids: HashMap<(u64, u32), u32, Fixed>,
    pub(crate) lives: HashMap<u64, Life, Fixed>,
    limits: TableLimits,
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
    /// them, and one more is free to go on in.
    pub fn reserve_segments(&self, segment_bytes: u64) -> u32 {
        // The largest of these records is a publisher's life, with its nonce; all take two lines.
        let states = (self.streams + self.publications + self.publishers) as u64;
        let room = segment_bytes.saturating_sub(SEGMENT_DATA_AT + ROLL_BYTES).max(1);
        1 + (states * record_bytes(16)).div_ceil(room) as u32
    }

    /// The fewest segments with which a log makes progress for good: beside the reserve and those to be kept
    /// ready, those that the state itself takes, the one that is written to and one that is recycled.
    pub fn least_segments(&self, segment_bytes: u64, ready_segments: u32) -> u32 {
        let reserve = self.reserve_segments(segment_bytes);
        reserve.saturating_mul(2).saturating_add(ready_segments).saturating_add(1)
    }
}

impl Tables {
    pub(crate) fn new(limits: TableLimits) -> Tables {
        Tables {
            streams: Vec::with_capacity(limits.streams),
            stream_by_id: HashMap::with_capacity_and_hasher(2 * limits.streams, Fixed::default()),
            publications: Vec::with_capacity(limits.publications),
            free_publications: Vec::with_capacity(limits.publications),
            // Twice the room: tombstones are then cleaned up in place, never by growing.
            publication_by_ids: HashMap::with_capacity_and_hasher(
                2 * limits.publications,
                Fixed::default(),
            ),
            lives: HashMap::with_capacity_and_hasher(2 * limits.publishers, Fixed::default()),
            limits,
        }
    }

    /// Fails when this publisher has no life yet and as many as there may be have one.
    pub(crate) fn room_for_life(&self, publisher: u64) -> Result<(), TableFull> {
        let limit = self.limits.publishers;
        if self.lives.len() >= limit && !self.lives.contains_key(&publisher) {
            return Err(TableFull { table: "publishers", limit });
        }
        Ok(())
    }

    pub(crate) fn stream_slot(&self, id: u64) -> Option<StreamSlot> {
        self.stream_by_id.get(&id).copied().map(StreamSlot)
    }

    pub(crate) fn open_stream(&mut self, id: u64) -> Result<StreamSlot, TableFull> {
        if let Some(slot) = self.stream_slot(id) {
            return Ok(slot);
        }
        if self.streams.len() == self.limits.streams {
            return Err(TableFull { table: "streams", limit: self.limits.streams });
        }
        let slot = self.streams.len() as u32;
        self.streams.push(StreamState {
            id,
            next_offset: 0,
            earliest_offset: 0,
            newest: None,
            entries: Entries::EMPTY,
        });
        self.stream_by_id.insert(id, slot);
        Ok(StreamSlot(slot))
    }

    pub(crate) fn publication_slot(
        &self,
        publisher: u64,
        stream: StreamSlot,
    ) -> Option<PublicationSlot> {
        self.publication_by_ids.get(&(publisher, stream.0)).copied().map(PublicationSlot)
    }

    pub(crate) fn open_publication(
        &mut self,
        publisher: u64,
        stream: StreamSlot,
    ) -> Result<PublicationSlot, TableFull> {
        if let Some(slot) = self.publication_slot(publisher, stream) {
            return Ok(slot);
        }
        let state = PublicationState {
            publisher,
            stream,
            sequence: 0,
            offset: 0,
            incarnation: 0,
            newest: None,
        };
        let slot = match self.free_publications.pop() {
            Some(slot) => {
                self.publications[slot as usize] = state;
                slot
            }
            None if self.publications.len() < self.limits.publications => {
                self.publications.push(state);
                self.publications.len() as u32 - 1
            }
            None => {
                return Err(TableFull { table: "publications", limit: self.limits.publications });
            }
        };
        self.publication_by_ids.insert((publisher, stream.0), slot);
        Ok(PublicationSlot(slot))
    }

    pub(crate) fn release_publication(&mut self, slot: PublicationSlot) {
        let state = &mut self.publications[slot.0 as usize];
        state.newest = None;
        if self.publication_by_ids.remove(&(state.publisher, state.stream.0)).is_some() {
            self.free_publications.push(slot.0);
        }
    }
}
