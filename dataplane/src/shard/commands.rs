//! What the control plane asks for: streams come and go, publishers come, reports are made.

use mstream_nic::Frame;
use mstream_pmem::region::Region;
use mstream_pmem::wal::{StreamSlot, TableFull};

use super::cold::earliest_offset;
use super::session::State;
use super::setup::ANONYMOUS;
use super::subscription::Pace;
use super::{NONE, Now, Publisher, Shard, StreamEntry};
use crate::control::{
    Command, CreateError, DeleteError, REPORT_ROWS, ReaderState, Reply, SessionRow, StreamRow,
    SubscriptionRow,
};

/// Places of a table that one report looks at, free ones included.
const REPORT_PLACES: usize = 512;

impl<R: Region, F: Frame> Shard<R, F> {
    /// Does what the control plane asks for. Work is bounded, whatever is asked.
    #[cold]
    pub fn command(&mut self, now: Now, command: Command) -> Option<Reply> {
        Some(match command {
            Command::SlotReady(slot) => {
                self.wal.add_ready(slot);
                return None;
            }
            Command::ColdRange { stream, range } => {
                self.set_cold_range(stream, range);
                return None;
            }
            Command::SegmentRead(sealed) => {
                self.wal.give_back(sealed);
                return None;
            }
            Command::CreateStream { request, entry } => {
                let (result, spare) = self.create_stream(entry);
                Reply::StreamCreated { request, result, spare }
            }
            Command::DeleteStream { request, id } => {
                Reply::StreamDeleted { request, result: self.delete_stream(id) }
            }
            Command::AddPublisher { request, entry } => {
                let result = self.add_publisher(entry.id);
                Reply::PublisherAdded { request, result, spare: Some(entry.name) }
            }
            Command::Streams { request, ids, mut rows } => {
                self.report_streams(&ids, &mut rows);
                Reply::Streams { request, ids, rows }
            }
            Command::Sessions { request, from, mut rows } => {
                let places = self.sessions.slots();
                let next = fill(&mut rows, from, places, |slot| self.session_row(now, slot));
                Reply::Sessions { request, rows, next }
            }
            Command::Subscriptions { request, from, mut rows } => {
                let places = self.subscriptions.entries();
                let next = fill(&mut rows, from, places, |index| self.subscription_row(index));
                Reply::Subscriptions { request, rows, next }
            }
        })
    }

    /// Takes a stream on; a repeat is a success.
    fn create_stream(&mut self, entry: StreamEntry) -> (Result<(), CreateError>, Option<Box<str>>) {
        match self.try_create(&entry) {
            Ok(Some(slot)) => {
                self.streams.insert(slot, entry, self.wal.stream(slot).next_offset);
                (Ok(()), None)
            }
            Ok(None) => (Ok(()), Some(entry.name)),
            Err(error) => (Err(error), Some(entry.name)),
        }
    }

    /// The place of a new stream; `None` for one that is there already.
    fn try_create(&mut self, entry: &StreamEntry) -> Result<Option<StreamSlot>, CreateError> {
        let named = self.streams.by_name(entry.name.as_bytes());
        if let Some(slot) = self.wal.stream_slot(entry.id) {
            return if named == Some(slot.0) { Ok(None) } else { Err(CreateError::IdTaken) };
        }
        if entry.id == 0 {
            return Err(CreateError::IdTaken);
        }
        if let Some(index) = named {
            return Err(CreateError::NameTaken { id: self.streams[index].id });
        }
        let has = self.wal.level();
        if let Some(wants) = entry.rules.minimum_level.filter(|wants| *wants > has) {
            return Err(CreateError::Level { wants, has });
        }
        if let Ok(slot) = self.wal.open_stream(entry.id) {
            return Ok(Some(slot));
        }
        // What was deleted just before may make room.
        self.give_up_streams(REPORT_ROWS);
        Ok(Some(self.wal.open_stream(entry.id)?))
    }

    /// Gives a stream up: nobody can open it any more; who uses it is told in the next polls.
    fn delete_stream(&mut self, id: u64) -> Result<Option<Box<str>>, DeleteError> {
        let known = if id == 0 { None } else { self.find_stream(id, b"") };
        known.map(|index| self.streams.delete(index)).ok_or(DeleteError::Unknown)
    }

    fn add_publisher(&mut self, id: u64) -> Result<(), CreateError> {
        if id == 0 || id & ANONYMOUS != 0 {
            return Err(CreateError::IdTaken);
        }
        let Err(at) = self.publishers.binary_search_by_key(&id, |publisher| publisher.id) else {
            return Ok(());
        };
        if self.publishers.len() == self.publishers.capacity() {
            let limit = self.publishers.len();
            return Err(CreateError::Full(TableFull { table: "publishers", limit }));
        }
        // Ids only grow, so this is the end but for commands out of order.
        self.publishers.insert(at, Publisher::new(id));
        Ok(())
    }

    fn report_streams(&self, ids: &[u64], rows: &mut Vec<StreamRow>) {
        rows.clear();
        for id in ids.iter().filter(|id| **id != 0).take(REPORT_ROWS.min(rows.capacity())) {
            let Some(index) = self.find_stream(*id, b"") else { continue };
            let (stream, state) = (&self.streams[index], self.wal.stream(StreamSlot(index)));
            rows.push(StreamRow {
                id: *id,
                earliest_offset: earliest_offset(&self.wal, &self.streams, index),
                cold: stream.cold,
                next_offset: state.next_offset,
                visible_end: stream.visible_end,
                publications: stream.publication_count,
                subscriptions: stream.subscription_count,
            });
        }
    }

    fn session_row(&self, now: Now, slot: u32) -> Option<SessionRow> {
        let session = self.sessions.get(slot).filter(|session| session.state != State::Free)?;
        let address = &session.address;
        Some(SessionRow {
            slot,
            port: address.port,
            peer: address.peer,
            ip: address.ip,
            udp_port: address.udp_port,
            publisher: session.publisher,
            incarnation: session.incarnation,
            silent_ns: now.mono_ns.saturating_sub(session.heard_ns),
            publications: session.publication_count,
            subscriptions: session.subscription_count,
            published_bytes: session.stored_bytes,
            credit_bytes: session.credit,
        })
    }

    fn subscription_row(&self, index: u32) -> Option<SubscriptionRow> {
        let subscription = self.subscriptions.peek(index)?;
        let address = &self.sessions.get(subscription.session)?.address;
        let visible_end = match subscription.stream {
            NONE => 0,
            stream => self.streams[stream].visible_end,
        };
        Some(SubscriptionRow {
            slot: subscription.session,
            port: address.port,
            ip: address.ip,
            udp_port: address.udp_port,
            stream: subscription.stream_id,
            next_offset: subscription.next,
            limit: subscription.limit,
            visible_end,
            state: match subscription.pace {
                Pace::Live => ReaderState::Live,
                Pace::Behind | Pace::Asking | Pace::Cold => ReaderState::CatchingUp,
                Pace::Parked => ReaderState::NoCredit,
                Pace::Stopped => ReaderState::Stopped,
            },
        })
    }
}

/// Fills `rows`, as far as there is room and within a bound, from the places `from..places` of a table. Where to
/// go on, if not all were looked at.
fn fill<T>(
    rows: &mut Vec<T>,
    from: u32,
    places: usize,
    row: impl Fn(u32) -> Option<T>,
) -> Option<u32> {
    rows.clear();
    let room = rows.capacity().min(REPORT_ROWS);
    let end = places.min(from as usize + REPORT_PLACES) as u32;
    let mut at = from;
    while at < end && rows.len() < room {
        rows.extend(row(at));
        at += 1;
    }
    ((at as usize) < places).then_some(at)
}
