//! Publications: a session's streams open for publishing, and what becomes of publish frames.

use mstream_nic::Frame;
use mstream_pmem::region::Region;
use mstream_pmem::wal::{AppendData, AppendError, PublicationSlot, StreamSlot};
use mstream_wire::{
    Block, Code, DATA_HEADER_BYTES, DATAGRAM_HEADER_BYTES, Data, OpenStreamHeader, WireError,
};

use super::config::at_limit;
use super::pending::What;
use super::setup::ANONYMOUS;
use super::{Handle, NONE, Now, Refusal, Shard, Stored};
use crate::planted::{Bug, planted};

/// How long a log that cannot go on holds publishers back before it refuses what they send: a device may get room soon.
const REFUSED_AFTER_NS: u64 = 10_000_000_000;

/// What the shard still has to tell about a publication: bits.
pub(crate) mod owes {
    pub(crate) const ACK: u8 = 1;
    pub(crate) const OPENED: u8 = 2;
}

/// A stream that a session opened for publishing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication {
    pub(crate) session: u32,
    /// The client's number for it.
    pub(crate) request: u32,
    /// Index of the stream in the shard.
    pub(crate) stream: u32,
    /// The log's entry for this publisher and stream.
    pub(crate) slot: PublicationSlot,
    pub(crate) round: u64,
    pub(crate) refused: u64,
    pub(crate) code: u16,
    /// Last sequences in the log, behind a barrier, on the required copies.
    pub(crate) received: u64,
    pub(crate) persisted: u64,
    pub(crate) committed: u64,
    /// Offset behind the committed message.
    pub(crate) offset: u64,
    /// What was stored in earlier sessions may wait for its barrier: nothing is said yet.
    pub(crate) opening: bool,
    pub(crate) owes: u8,
    /// Next publication of the session that is owed a frame.
    pub(crate) next_owed: u32,
    /// Next publication of the session.
    pub(crate) next: u32,
    /// Neighbours among the publications of the stream.
    next_in_stream: u32,
    previous_in_stream: u32,
}

impl<R: Region, F: Frame> Shard<R, F> {
    /// Opens a stream for publishing; the answer is owed, or returned when it is a refusal.
    pub(super) fn open_stream(
        &mut self,
        session: u32,
        frame: &OpenStreamHeader,
        name: &[u8],
    ) -> Result<(), Code> {
        let request = frame.request.get();
        let stream = self.find_stream(frame.stream.get(), name).ok_or(Code::UnknownStream)?;
        if let Some(code) = self.log_refuses() {
            return Err(code);
        }
        let mut index = self.sessions[session].publications;
        while let Some(publication) = self.publications.at(index) {
            if publication.request == request {
                self.owe_publication(index, owes::OPENED);
                return Ok(());
            }
            if publication.stream == stream {
                // Sequences are counted per publisher and stream: two at a time would mix them up.
                return Err(Code::Unsupported);
            }
            index = publication.next;
        }
        let entry = &self.streams[stream];
        if at_limit(entry.publication_count, entry.rules.max_publications) {
            return Err(Code::LimitReached);
        }
        let waits = self.pending.newest();
        if waits.is_some() && self.pending.is_full() {
            // Nothing is said, the client asks again.
            self.counters.refuse(Refusal::PendingFull);
            return Ok(());
        }
        let publisher = self.sessions[session].publisher;
        let slot = self
            .wal
            .open_publication(publisher, StreamSlot(stream))
            .map_err(|_| Code::LimitReached)?;
        let state = self.wal.publication(slot);
        let sequence = if planted(Bug::SequenceNotRestored) { 0 } else { state.sequence };
        let publication = Publication {
            session,
            request,
            stream,
            slot,
            round: 1,
            refused: 0,
            code: 0,
            received: sequence,
            persisted: sequence,
            committed: sequence,
            offset: state.offset,
            opening: waits.is_some() && !planted(Bug::OpenedBeforeDurable),
            owes: 0,
            next_owed: NONE,
            next: self.sessions[session].publications,
            next_in_stream: self.streams[stream].publications,
            previous_in_stream: NONE,
        };
        let Ok(handle) = self.publications.insert(publication) else {
            if publisher & ANONYMOUS != 0 {
                self.wal.release_publication(slot);
            }
            return Err(Code::LimitReached);
        };
        self.sessions[session].publications = handle.index();
        self.sessions[session].publication_count += 1;
        let entry = &mut self.streams[stream];
        entry.publication_count += 1;
        let next = std::mem::replace(&mut entry.publications, handle.index());
        if let Some(next) = self.publications.at(next) {
            next.previous_in_stream = handle.index();
        }
        match waits {
            Some(_) if planted(Bug::OpenedBeforeDurable) => {
                self.owe_publication(handle.index(), owes::OPENED);
            }
            Some(lsn) => self.pending.push(lsn, What::Opened(handle)),
            None => self.owe_publication(handle.index(), owes::OPENED),
        }
        Ok(())
    }

    /// Why the log takes nothing more, for as long as the shard runs.
    pub(super) fn log_refuses(&self) -> Option<Code> {
        match (self.wal.fault(), self.wal.poison()) {
            (Some(_), _) => Some(Code::LogDamaged),
            (None, Some(_)) => Some(Code::LogPoisoned),
            (None, None) => None,
        }
    }

    /// Frees a publication that the session's own list no longer names, or will not when this returns.
    pub(super) fn drop_publication(&mut self, index: u32) -> Option<Publication> {
        let gone = self.publications.remove(index)?;
        let (next, previous) = (gone.next_in_stream, gone.previous_in_stream);
        if let Some(next) = self.publications.at(next) {
            next.previous_in_stream = previous;
        }
        let stream = &mut self.streams[gone.stream];
        stream.publication_count -= 1;
        match self.publications.at(previous) {
            Some(previous) => previous.next_in_stream = next,
            None => stream.publications = next,
        }
        Some(gone)
    }

    /// Ends a publication whose stream was deleted: its session is told.
    pub(super) fn end_publication(&mut self, index: u32) {
        let handle = self.publications.handle(index);
        let Some(gone) = self.publications.at(index).copied() else { return };
        let mut at = self.sessions[gone.session].publications;
        if at == index {
            self.sessions[gone.session].publications = gone.next;
        }
        while let Some(other) = self.publications.at(at) {
            if other.next == index {
                other.next = gone.next;
                break;
            }
            at = other.next;
        }
        let mut at = self.sessions[gone.session].owed_publications;
        if at == index {
            self.sessions[gone.session].owed_publications = gone.next_owed;
        }
        while gone.owes != 0
            && let Some(other) = self.publications.at(at)
        {
            if other.owes != 0 && other.next_owed == index {
                other.next_owed = gone.next_owed;
                break;
            }
            at = other.next_owed;
        }
        self.drop_publication(index);
        self.sessions[gone.session].publication_count -= 1;
        self.tell_gone(gone.session, handle);
    }

    /// Notes that a session is to be told that it has no publication of this handle: its stream was deleted.
    fn tell_gone(&mut self, session: u32, handle: Handle) {
        if planted(Bug::DeletedStreamUntold) {
            return;
        }
        self.sessions[session].gone = handle.0;
        self.owe(session, super::session::owes::GONE);
    }

    /// Everything that was stored when a publication was opened is durable.
    pub(super) fn publication_is_durable(&mut self, handle: Handle) {
        if let Some(publication) = self.publications.get_mut(handle) {
            publication.opening = false;
            self.owe_publication(handle.index(), owes::OPENED);
        }
    }

    /// Notes that publication `index` is owed a frame.
    #[inline]
    pub(super) fn owe_publication(&mut self, index: u32, what: u8) {
        let Some(publication) = self.publications.at(index) else { return };
        if publication.opening {
            return;
        }
        let session = publication.session;
        if publication.owes == 0 {
            let head = &mut self.sessions[session].owed_publications;
            publication.next_owed = *head;
            *head = index;
        }
        publication.owes |= what;
        self.owe(session, 0);
    }

    /// Takes one publish frame. True when it was stored: its record is then the newest that waits.
    #[inline]
    pub(super) fn publish(&mut self, now: Now, session: u32, data: &Data<'_>) -> bool {
        let handle = Handle(data.header.handle.get());
        let known = self.publications.get_mut(handle).filter(|known| known.session == session);
        let Some(publication) = known.filter(|known| self.streams[known.stream].is_live()) else {
            self.counters.refuse(Refusal::UnknownHandle);
            self.tell_gone(session, handle);
            return false;
        };
        let index = handle.index();
        if publication.round != data.header.tag.get() {
            self.counters.refuse(Refusal::WrongRound);
            self.owe_publication(index, owes::ACK);
            return false;
        }
        let first = data.header.number.get();
        let count = data.header.count.get();
        let received = publication.received;
        // A first of 0 or a sequence that wraps is nonsense that no honest client sends.
        let Some(last) =
            first.checked_add(u64::from(count).wrapping_sub(1)).filter(|_| first > 0 && count > 0)
        else {
            self.counters.refuse_wire(WireError::BlockShape);
            self.refuse_round(index, first, Code::MalformedBlock);
            return false;
        };
        let stored = planted(Bug::RepeatStored) && last <= received
            || planted(Bug::GapStored) && first > received;
        if first != received + 1 && !stored {
            if last <= received {
                self.counters.refuse(Refusal::Repeat);
                self.owe_publication(index, owes::ACK);
            } else if first > received {
                self.counters.refuse(Refusal::Gap);
                self.owe_publication(index, owes::ACK);
            } else {
                self.refuse_batch(index, received + 1, Code::Overlap, Refusal::Overlap);
            }
            return false;
        }
        let (stream, slot) = (publication.stream, publication.slot);
        let most = self.streams[stream].rules.most_block_bytes(self.limits.max_block_bytes);
        if data.block.len() > most {
            self.refuse_batch(index, first, Code::TooLarge, Refusal::TooLarge);
            return false;
        }
        let crc = match planted(Bug::BlockCrcUnchecked) {
            true => mstream_wire::crc32c(data.block),
            false => data.header.block_crc.get(),
        };
        if let Err(error) = Block::parse(data.block, count, crc) {
            self.counters.refuse_wire(error);
            match error {
                // Damaged on the way: as good as lost, the publisher will send it again.
                WireError::BlockCrc => {}
                WireError::Part => self.refuse_round(index, first, Code::Unsupported),
                _ => self.refuse_round(index, first, Code::MalformedBlock),
            }
            return false;
        }
        let bytes = data.block.len() as u64;
        if self.sessions[session].stored_bytes + bytes > self.sessions[session].credit {
            self.counters.refuse(Refusal::OverCredit);
            self.owe(session, super::session::owes::CREDIT);
            return false;
        }
        // Of a poisoned log it stays full; that is not what is to be said.
        if self.pending.is_full() && self.wal.poison().is_none() {
            self.counters.refuse(Refusal::PendingFull);
            return false;
        }
        let (publisher, incarnation) =
            (self.sessions[session].publisher, self.sessions[session].incarnation);
        let appended = self.wal.append_data(&AppendData {
            stream: StreamSlot(stream),
            publication: slot,
            incarnation,
            count,
            block_crc: data.header.block_crc.get(),
            time_ns: now.wall_ns,
            block: data.block,
        });
        let appended = match appended {
            Ok(appended) => appended,
            Err(AppendError::TooLarge { .. }) => {
                self.refuse_batch(index, first, Code::TooLarge, Refusal::TooLarge);
                return false;
            }
            Err(AppendError::Fault) => {
                self.refuse_batch(index, first, Code::LogDamaged, Refusal::LogDamaged);
                return false;
            }
            Err(AppendError::Poisoned(_)) => {
                self.refuse_batch(index, first, Code::LogPoisoned, Refusal::LogPoisoned);
                return false;
            }
            // No room came for long, nor does it by itself: the publisher is told, or it would send again for ever.
            Err(AppendError::Full)
                if self.wal.exhausted_ns().is_some_and(|ns| ns >= REFUSED_AFTER_NS) =>
            {
                self.refuse_batch(index, first, Code::LogFull, Refusal::LogFull);
                return false;
            }
            // Back-pressure: nothing is said, the publisher sends again later.
            Err(AppendError::Window) => {
                self.counters.refuse(Refusal::SyncWindow);
                return false;
            }
            Err(AppendError::Full | AppendError::TableFull(_)) => {
                self.counters.refuse(Refusal::LogFull);
                return false;
            }
        };
        self.counters.batches += 1;
        self.counters.messages += u64::from(count);
        self.counters.bytes += bytes;
        if let Some(publication) = self.publications.at(index) {
            publication.received = last;
        }
        self.streams[stream].pending += 1;
        self.pending.push(
            appended.lsn,
            What::Data(Stored {
                publication: handle,
                stream,
                offset: appended.offset,
                count,
                publisher,
                last_sequence: last,
                at: appended.at,
                port: self.sessions[session].address.port,
                header_bytes: self.sessions[session].address.header_bytes,
                datagram_bytes: (DATAGRAM_HEADER_BYTES + DATA_HEADER_BYTES + data.block.len())
                    as u16,
            }),
        );
        self.owe_publication(index, owes::ACK);
        self.give_credit(session, bytes);
        true
    }

    /// Counts stored bytes and raises the limit once a quarter of the window was used.
    #[inline]
    fn give_credit(&mut self, session: u32, bytes: u64) {
        let window = self.limits.session_window_bytes;
        let entry = &mut self.sessions[session];
        entry.stored_bytes += bytes;
        let limit = entry.stored_bytes + window;
        if limit - entry.credit >= window / 4 {
            entry.credit = limit;
            self.owe(session, super::session::owes::CREDIT);
        }
    }

    fn refuse_batch(&mut self, index: u32, first: u64, code: Code, reason: Refusal) {
        self.counters.refuse(reason);
        self.refuse_round(index, first, code);
    }

    /// Begins a new round: nothing that was sent in the old one can fill the refused number.
    fn refuse_round(&mut self, index: u32, first: u64, code: Code) {
        let Some(publication) = self.publications.at(index) else { return };
        publication.round += 1;
        publication.refused = first;
        publication.code = code as u16;
        self.owe_publication(index, owes::ACK);
    }
}
