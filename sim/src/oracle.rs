//! What must be true, looked at after every event.

use std::collections::{BTreeMap, BTreeSet};

use mstream_dataplane::{Refusal, Shard};
use mstream_nic::Frame;
use mstream_pmem::region::Region;
use mstream_pmem::wal::{StreamSlot, Wal};
use mstream_wire::{Block, WireError};

use crate::content::Content;
use crate::server::ServerConfig;

/// Reasons for which a whole frame is not used; the others are about what is inside of used ones.
const FRAME_REFUSALS: [Refusal; 25] = [
    Refusal::Ethernet,
    Refusal::OtherVlan,
    Refusal::OtherMac,
    Refusal::Arp,
    Refusal::ArpSpoof,
    Refusal::Neighbour,
    Refusal::NeighbourSpoof,
    Refusal::Ipv4,
    Refusal::Ipv6,
    Refusal::Fragment,
    Refusal::IpOptions,
    Refusal::Ipv4Checksum,
    Refusal::OtherIp,
    Refusal::Broadcast,
    Refusal::NoHost,
    Refusal::Protocol,
    Refusal::IcmpChecksum,
    Refusal::Udp,
    Refusal::UdpChecksum,
    Refusal::OtherPort,
    Refusal::SetUp,
    Refusal::Cookie,
    Refusal::Open,
    Refusal::UnknownSession,
    Refusal::WrongSource,
];

/// As above: ways in which a whole datagram is malformed.
const DATAGRAM_ERRORS: [WireError; 7] = [
    WireError::TooShort,
    WireError::TooLong,
    WireError::Version,
    WireError::Flags,
    WireError::FrameLength,
    WireError::FrameType,
    WireError::FrameCheck,
];

/// A message in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) content: Content,
    pub(crate) publisher: u64,
}

/// One stream as it was seen so far.
#[derive(Debug, Default)]
struct Stream {
    /// Every message that the log held, by offset.
    log: Vec<Entry>,
    /// Offsets below this one were delivered or acknowledged: the log must hold them, or have held
    /// them, for good.
    promised: u64,
    /// First offset held.
    earliest: u64,
}

/// What is known of a publisher.
#[derive(Debug, Default)]
struct Publisher {
    named: bool,
    /// The newest life that was begun.
    life: u32,
    acknowledged: u64,
    /// Serials in the log, of an anonymous one.
    stored: BTreeSet<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Oracle {
    streams: Vec<Stream>,
    publishers: BTreeMap<u32, Publisher>,
    /// Which publisher an id was given to.
    ids: BTreeMap<u64, u32>,
    /// The last message in the log under each id.
    last: BTreeMap<u64, Content>,
}

/// Fails with a text when something is not so.
macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}
pub(crate) use ensure;

impl Oracle {
    pub(crate) fn new(streams: u32) -> Oracle {
        Oracle {
            streams: (0..streams).map(|_| Stream::default()).collect(),
            publishers: BTreeMap::new(),
            ids: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    fn stream(&mut self, id: u32) -> &mut Stream {
        &mut self.streams[id as usize - 1]
    }

    /// Offset behind the last message in the log, that behind the last one that was promised, and the
    /// first one held.
    pub(crate) fn bounds(&self, stream: u32) -> (u64, u64, u64) {
        let stream = &self.streams[stream as usize - 1];
        (stream.log.len() as u64, stream.promised, stream.earliest)
    }

    /// Reads what was appended since the last look, and checks it against who published it.
    pub(crate) fn look<R: Region>(&mut self, wal: &Wal<R>) -> Result<(), String> {
        for id in 1..=self.streams.len() as u32 {
            let slot = slot_of(wal, id, self.streams.len())?;
            let state = *wal.stream(slot);
            let known = self.stream(id);
            ensure!(state.earliest_offset >= known.earliest, "stream {id} got older messages back");
            known.earliest = state.earliest_offset;
            while (self.stream(id).log.len() as u64) < state.next_offset {
                let next = self.stream(id).log.len() as u64;
                for entry in read_batch(wal, slot, next)? {
                    self.appended(id, entry)?;
                }
            }
        }
        Ok(())
    }

    fn appended(&mut self, stream: u32, entry: Entry) -> Result<(), String> {
        let Entry { content, publisher } = entry;
        let offset = self.stream(stream).log.len();
        let Some(known) = self.publishers.get_mut(&content.actor) else {
            return Err(format!("{content} was stored and nobody published it"));
        };
        let owner = *self.ids.entry(publisher).or_insert(content.actor);
        ensure!(
            owner == content.actor,
            "{content} stands under another publisher's id {publisher:#x}"
        );
        let last = self.last.insert(publisher, content);
        let (serial, life) = match last {
            Some(last) => (last.serial + 1, last.life),
            None if known.named => (1, 0),
            // Each session of an anonymous publisher has an id of its own.
            None => (content.serial, 0),
        };
        ensure!(
            content.serial == serial,
            "{content} was stored at offset {offset} where serial {serial} belongs: lost, repeated or reordered"
        );
        ensure!(
            content.life >= life,
            "{content} was stored at offset {offset} though life {life} had published"
        );
        ensure!(
            known.named || known.stored.insert(content.serial),
            "{content} was stored again at offset {offset}"
        );
        self.stream(stream).log.push(entry);
        Ok(())
    }

    /// A start found this log: everything promised is in it, and nothing in it has changed.
    pub(crate) fn restarted<R: Region>(&mut self, wal: &Wal<R>) -> Result<(), String> {
        self.holds(wal)?;
        for id in 1..=self.streams.len() as u32 {
            let slot = slot_of(wal, id, self.streams.len())?;
            let end = wal.stream(slot).next_offset;
            self.stream(id).log.truncate(end as usize);
        }
        self.last.clear();
        self.publishers.values_mut().for_each(|known| known.stored.clear());
        for Entry { content, publisher } in self.streams.iter().flat_map(|stream| &stream.log) {
            self.last.insert(*publisher, *content);
            if let Some(known) =
                self.publishers.get_mut(&content.actor).filter(|known| !known.named)
            {
                known.stored.insert(content.serial);
            }
        }
        Ok(())
    }

    /// The log holds everything promised, as it was.
    pub(crate) fn holds<R: Region>(&self, wal: &Wal<R>) -> Result<(), String> {
        for (id, known) in (1..).zip(&self.streams) {
            let slot = slot_of(wal, id, self.streams.len())?;
            let state = wal.stream(slot);
            ensure!(
                state.next_offset >= known.promised,
                "stream {id} ends at {} though everything below {} was delivered or acknowledged",
                state.next_offset,
                known.promised
            );
            let mut offset = state.earliest_offset;
            while offset < state.next_offset {
                for entry in read_batch(wal, slot, offset)? {
                    let before = known.log.get(offset as usize);
                    ensure!(
                        before == Some(&entry),
                        "stream {id} offset {offset} holds {}, before it was {before:?}",
                        entry.content
                    );
                    offset += 1;
                }
            }
        }
        Ok(())
    }

    /// A subscriber was handed a message.
    pub(crate) fn delivered(
        &mut self,
        stream: u32,
        offset: u64,
        entry: Entry,
    ) -> Result<(), String> {
        let known = self.stream(stream);
        let stored = known.log.get(offset as usize);
        ensure!(
            stored == Some(&entry),
            "stream {stream} offset {offset} was delivered as {} and stored as {stored:?}",
            entry.content
        );
        known.promised = known.promised.max(offset + 1);
        Ok(())
    }

    /// A publisher was told that a message, and those before it, are durable.
    pub(crate) fn acknowledged(
        &mut self,
        stream: u32,
        content: Content,
        end: u64,
    ) -> Result<(), String> {
        let known = self.stream(stream);
        let stored = end.checked_sub(1).and_then(|offset| known.log.get(offset as usize));
        // A message of an earlier life may be acknowledged in a later one.
        let same = stored.is_some_and(|stored| {
            stored.content == Content { life: stored.content.life, ..content }
                && stored.content.life <= content.life
        });
        ensure!(same, "{content} was acknowledged below offset {end}, which holds {stored:?}");
        known.promised = known.promised.max(end);
        if let Some(known) = self.publishers.get_mut(&content.actor) {
            known.acknowledged = known.acknowledged.max(content.serial);
        }
        Ok(())
    }

    /// A publisher was given an id.
    pub(crate) fn opened(&mut self, actor: u32, id: u64) -> Result<(), String> {
        let owner = *self.ids.entry(id).or_insert(actor);
        ensure!(owner == actor, "publisher id {id:#x} was given to {owner} and to {actor}");
        Ok(())
    }

    /// A publisher's life begins; it may fence older ones.
    pub(crate) fn begins(&mut self, actor: u32, named: bool, life: u32) {
        let known = self.publishers.entry(actor).or_default();
        known.named = named;
        known.life = known.life.max(life);
    }

    /// A named publisher was told what the log holds of it.
    pub(crate) fn stored(&self, actor: u32, sequence: u64) -> Result<(), String> {
        let known = self.publishers.get(&actor).map_or(0, |known| known.acknowledged);
        ensure!(
            sequence >= known,
            "publisher {actor} was told that {sequence} are stored, {known} were acknowledged"
        );
        Ok(())
    }

    /// The newest life that was begun.
    pub(crate) fn life(&self, actor: u32) -> u32 {
        self.publishers.get(&actor).map_or(0, |known| known.life)
    }

    /// Tables are bounded, and every frame is accounted for.
    pub(crate) fn accounts<R: Region, F: Frame>(
        &self,
        shard: &Shard<R, F>,
        config: &ServerConfig,
    ) -> Result<(), String> {
        let (counters, limits) = (shard.counters(), &config.limits);
        let refused: u64 = FRAME_REFUSALS.iter().map(|reason| counters.refused(*reason)).sum();
        let malformed: u64 = DATAGRAM_ERRORS.iter().map(|error| counters.malformed(*error)).sum();
        ensure!(
            counters.frames_in == counters.frames_used + refused + malformed,
            "{} frames came in, {} were used, {refused} refused, {malformed} malformed",
            counters.frames_in,
            counters.frames_used
        );
        let (publications, subscriptions) = shard.handles();
        ensure!(
            shard.sessions() <= limits.sessions
                && publications <= limits.publications
                && subscriptions <= limits.subscriptions
                && shard.frames_held() <= limits.pending_frames,
            "a table is larger than its limit"
        );
        ensure!(shard.committed() <= shard.wal().appended(), "committed before it was appended");
        Ok(())
    }
}

fn slot_of<R: Region>(wal: &Wal<R>, id: u32, streams: usize) -> Result<StreamSlot, String> {
    if wal.stream_by_id(id.into()).is_none() {
        return Err(format!("the log does not know stream {id}"));
    }
    (0..streams as u32)
        .map(StreamSlot)
        .find(|slot| wal.stream(*slot).id == u64::from(id))
        .ok_or_else(|| format!("stream {id} stands at no slot"))
}

/// The batch that begins at `offset`, or the part of it from there on.
fn read_batch<R: Region>(
    wal: &Wal<R>,
    slot: StreamSlot,
    offset: u64,
) -> Result<Vec<Entry>, String> {
    let record = wal
        .lookup(slot, offset, 0)
        .and_then(|(_, at)| wal.record(at))
        .ok_or_else(|| format!("no record holds offset {offset}"))?;
    let (header, first) = (record.header, record.header.offset.get());
    let block = Block::parse(record.block, header.count.get(), header.block_crc.get())
        .map_err(|error| format!("the block at offset {offset}: {error}"))?;
    let publisher = header.publisher.get();
    let entry = |message| {
        let content = Content::read(&message);
        content.map(|content| Entry { content, publisher })
    };
    let entries: Option<Vec<Entry>> =
        block.messages().skip((offset - first) as usize).map(entry).collect();
    entries
        .filter(|entries| !entries.is_empty())
        .ok_or_else(|| format!("the batch at offset {offset} holds what nobody published"))
}
