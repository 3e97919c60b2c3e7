//! What a slot holds: its header, and which of its records are valid. Changes nothing.

use crate::copy::prefetch;
use crate::format::{
    Kind, LINE, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_DATA_AT, SEGMENT_HEADER_AT,
    SEGMENT_HEADER_BYTES, SegmentHeader, crc32c, record_bytes,
};
use crate::holes::{Hole, Holes};
use crate::planted::{Bug, planted};

/// Bytes from one look at a free slot to the next, and of each; the first is as long as the way to the second.
const SAMPLED_EVERY: u64 = 2 << 20;
const SAMPLE_BYTES: u64 = 64 << 10;
/// How far ahead of the record that is read memory is asked for: the processor's own stops at the ends of pages.
const AHEAD_BYTES: usize = 4096;

/// Where reading stands in a segment: what the next record must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Byte in the segment behind the last valid record.
    pub(crate) end: u64,
    pub(crate) lsn: u64,
    pub(crate) chain: u32,
    pub(crate) epoch: u32,
    pub(crate) time: u64,
    /// False right behind a gap: the chain is not known.
    pub(crate) linked: bool,
}

/// Records that follow each other without a misfit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// What the first record carries as its lsn.
    pub(crate) lsn: u64,
}

/// Bytes between two runs, or behind the last, in which promised records are damaged.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) from: u64,
    /// Where the next run begins; the segment's size if there is none.
    pub(crate) to: u64,
    pub(crate) lsn: u64,
    pub(crate) next_lsn: u64,
    /// A record that was written after a barrier had covered the gap: byte and lsn. `None`: the gap was accepted.
    pub(crate) proof: Option<(u64, u64)>,
    pub(crate) misfit: Misfit,
    before: Tail,
}

/// How far a segment's records are valid.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) tail: Tail,
    pub(crate) rolled: bool,
    /// Some records say which holes were accepted.
    pub(crate) names_holes: bool,
    pub(crate) runs: Vec<Run>,
    pub(crate) gaps: Vec<Gap>,
}

/// How far reading goes behind a misfit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Not at all: the longest valid prefix.
    Prefix,
    /// Where a record beyond the window shows that the misfit had been promised.
    Window,
    /// Wherever there is a sound record: the segment is known to have been rolled, so all of it was promised.
    Rolled,
}

/// Why the bytes at a place are not the record that is expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The segment ends.
    End,
    /// Magic, version or header check.
    Header,
    /// Another life of the slot wrote it.
    Generation,
    /// The lsn is this one.
    Lsn(u64),
    /// The epoch is lower than that of the record before.
    Epoch,
    /// The time is earlier than that of the record before.
    Time,
    /// It does not follow the record before.
    Chain,
    /// No known type, or a count that does not fit it.
    Kind,
    /// It would end behind the segment.
    Length,
    /// The block does not fit its crc.
    Block,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Misfit::End => "the segment ends",
            Misfit::Header => "no record header (magic, version or header check)",
            Misfit::Generation => "the record is of another life of the slot (generation)",
            Misfit::Lsn(lsn) => return write!(f, "the record has lsn {lsn}"),
            Misfit::Epoch => "the record's epoch is lower than that of the one before",
            Misfit::Time => "the record's time is earlier than that of the one before",
            Misfit::Chain => "the record does not follow the one before (chain)",
            Misfit::Kind => "the record's type or count is none",
            Misfit::Length => "the record would end behind the segment",
            Misfit::Block => "the record's block does not fit its crc",
        };
        f.write_str(text)
    }
}

/// The newer of the valid header copies; `front` is the beginning of a slot.
pub(crate) fn read_header(front: &[u8]) -> Option<SegmentHeader> {
    SEGMENT_HEADER_AT
        .into_iter()
        .filter_map(|copy| SegmentHeader::read(front.get(copy as usize..)?))
        .max_by_key(|header| header.sequence.get())
}

/// The order in which a segment's header copies are wiped, also when one of them was by now. One that is no header, for
/// it was never whole, goes first: with the other one half wiped, the segment would look damaged.
pub(crate) fn wipe_order(front: &[u8]) -> [u64; 2] {
    let [first, second] = SEGMENT_HEADER_AT;
    match SegmentHeader::read(&front[second as usize..]) {
        Some(_) => [first, second],
        None => [second, first],
    }
}

/// True when a header copy holds anything but zeros.
pub(crate) fn written_copy(front: &[u8], copy: u64) -> bool {
    front[copy as usize..][..SEGMENT_HEADER_BYTES].iter().any(|byte| *byte != 0)
}

/// The header at byte `at`, if the bytes there are one of this generation.
fn header_at(bytes: &[u8], at: u64, generation: u64) -> Result<&RecordHeader, Misfit> {
    let place = bytes.get(at as usize..).filter(|rest| rest.len() >= RECORD_HEADER_BYTES);
    let header = RecordHeader::read(place.ok_or(Misfit::End)?).ok_or(Misfit::Header)?;
    match header.generation() == generation || planted(Bug::GenerationUnchecked) {
        true => Ok(header),
        false => Err(Misfit::Generation),
    }
}

/// What a record must be whatever stands before it, given that its lsn, epoch and time do.
fn sound_by_itself(bytes: &[u8], at: u64, header: &RecordHeader) -> Result<(), Misfit> {
    let block = header.block_bytes.get() as usize;
    if Kind::from_number(header.kind).is_none()
        || (header.kind == Kind::Data as u8) != (header.count.get() > 0)
    {
        return Err(Misfit::Kind);
    }
    if at + record_bytes(block) > bytes.len() as u64 {
        return Err(Misfit::Length);
    }
    let start = at as usize + RECORD_HEADER_BYTES;
    match crc32c(&bytes[start..start + block]) == header.block_crc.get()
        || planted(Bug::BlockUnchecked)
    {
        true => Ok(()),
        false => Err(Misfit::Block),
    }
}

/// The record at the tail, if it follows.
fn follows<'a>(bytes: &'a [u8], generation: u64, tail: &Tail) -> Result<&'a RecordHeader, Misfit> {
    let header = header_at(bytes, tail.end, generation)?;
    if header.lsn.get() != tail.lsn {
        return Err(Misfit::Lsn(header.lsn.get()));
    }
    if header.epoch.get() < tail.epoch {
        return Err(Misfit::Epoch);
    }
    if header.time.get() < tail.time {
        return Err(Misfit::Time);
    }
    if tail.linked
        && header.chain.get() != header.chain_after(tail.chain)
        && !planted(Bug::ChainUnchecked)
    {
        return Err(Misfit::Chain);
    }
    sound_by_itself(bytes, tail.end, header).map(|()| header)
}

/// Walks a segment's valid records; `bytes` is its slot.
pub(crate) fn scan(bytes: &[u8], header: &SegmentHeader, holes: &Holes, depth: Depth) -> Scan {
    let tail = Tail {
        end: SEGMENT_DATA_AT,
        lsn: header.base_lsn.get(),
        chain: header.base_chain.get(),
        epoch: if planted(Bug::EpochOfRecordsOnly) { 0 } else { header.base_epoch.get() },
        time: header.time.get(),
        linked: true,
    };
    let first = Run { start: tail.end, end: tail.end, lsn: tail.lsn };
    let (runs, gaps) = (vec![first], Vec::new());
    let mut scan = Scan { tail, rolled: false, names_holes: false, runs, gaps };
    let generation = header.generation();
    loop {
        let misfit = scan.walk(bytes, generation);
        if let Some(run) = scan.runs.last_mut() {
            run.end = scan.tail.end;
        }
        let Some(misfit) = misfit else { return scan };
        let accepted = holes
            .at(header.sequence.get(), scan.tail.end)
            .and_then(|hole| accepted_gap(hole, &scan.tail, misfit, bytes.len() as u64));
        let gap = accepted.or_else(|| damaged_gap(bytes, header, &scan.tail, misfit, depth));
        let Some(gap) = gap else { return scan };
        let (to, next_lsn) = (gap.to, gap.next_lsn);
        scan.gaps.push(gap);
        if to >= bytes.len() as u64 {
            return scan;
        }
        scan.tail = Tail { end: to, lsn: next_lsn, linked: false, ..scan.tail };
        scan.runs.push(Run { start: to, end: to, lsn: next_lsn });
    }
}

impl Scan {
    /// Goes on to the roll record, or to the first misfit.
    fn walk(&mut self, bytes: &[u8], generation: u64) -> Option<Misfit> {
        loop {
            let record = match follows(bytes, generation, &self.tail) {
                Ok(record) => record,
                Err(misfit) => return Some(misfit),
            };
            self.tail = Tail {
                end: self.tail.end + record_bytes(record.block_bytes.get() as usize),
                lsn: self.tail.lsn + u64::from(record.local & 1 == 0),
                chain: record.chain.get(),
                epoch: record.epoch.get(),
                time: record.time.get(),
                linked: true,
            };
            let ahead = bytes.as_ptr().wrapping_add(self.tail.end as usize + AHEAD_BYTES);
            (0..record_bytes(record.block_bytes.get() as usize))
                .step_by(LINE as usize)
                .for_each(|line| prefetch(ahead.wrapping_add(line as usize)));
            self.names_holes |= record.kind == Kind::Hole as u8;
            if record.kind == Kind::Roll as u8 {
                self.rolled = true;
                return None;
            }
        }
    }

    /// Byte behind the last run.
    pub(crate) fn end(&self) -> u64 {
        self.runs.last().map_or(SEGMENT_DATA_AT, |run| run.end)
    }

    /// Takes away what is void because a newer segment was opened at a start with base lsn `cut`. What that start found
    /// had all lsns below `cut`; a gap from there on was none then, and what follows it was not promised.
    pub(crate) fn void_from(&mut self, bytes: &[u8], cut: u64) {
        if let Some(first) = self.gaps.iter().position(|gap| gap.lsn >= cut) {
            self.tail = self.gaps[first].before;
            self.rolled = false;
            self.gaps.truncate(first);
            self.runs.truncate(first + 1);
        }
        if self.tail.lsn <= cut {
            return;
        }
        for run in &mut self.runs {
            let mut at = run.start;
            while at < run.end
                && let Some(header) = RecordHeader::read(&bytes[at as usize..])
                && header.lsn.get() < cut
            {
                at += record_bytes(header.block_bytes.get() as usize);
            }
            run.end = run.end.min(at);
        }
    }
}

/// The gap that an operator accepted at the tail.
fn accepted_gap(hole: &Hole, tail: &Tail, misfit: Misfit, bytes: u64) -> Option<Gap> {
    let (to, next_lsn) = (hole.to.get(), hole.next_lsn.get());
    let sound = to > tail.end && to <= bytes && to.is_multiple_of(LINE) && next_lsn >= tail.lsn;
    let gap =
        Gap { from: tail.end, to, lsn: tail.lsn, next_lsn, proof: None, misfit, before: *tail };
    sound.then_some(gap)
}

/// The gap at the tail, if a valid record stands so far behind it that a barrier had covered what is damaged.
fn damaged_gap(
    bytes: &[u8],
    header: &SegmentHeader,
    tail: &Tail,
    misfit: Misfit,
    depth: Depth,
) -> Option<Gap> {
    let window = match depth {
        Depth::Prefix => return None,
        Depth::Rolled => LINE,
        Depth::Window if planted(Bug::WindowTooSmall) => LINE,
        Depth::Window if planted(Bug::WindowTooLarge) => u64::MAX,
        Depth::Window => header.window_bytes.get(),
    };
    let generation = header.generation();
    let candidate =
        |at: u64| header_at(bytes, at, generation).ok().filter(|found| found.lsn.get() >= tail.lsn);
    let proof = lines(tail.end.saturating_add(window), bytes)
        .find_map(|at| Some((at, candidate(at)?.lsn.get())))?;
    let next = lines(tail.end + LINE, bytes).find_map(|at| {
        let found = candidate(at)?;
        let sound = found.epoch.get() >= tail.epoch
            && found.time.get() >= tail.time
            && sound_by_itself(bytes, at, found).is_ok();
        sound.then(|| (at, found.lsn.get()))
    });
    let (to, next_lsn) = next.unwrap_or((bytes.len() as u64, proof.1));
    let proof = Some(proof);
    Some(Gap { from: tail.end, to, lsn: tail.lsn, next_lsn, proof, misfit, before: *tail })
}

/// Where a record could begin, from byte `from` on.
fn lines(from: u64, bytes: &[u8]) -> impl Iterator<Item = u64> {
    let end = (bytes.len() as u64 + 1).saturating_sub(RECORD_HEADER_BYTES as u64);
    (from..end.max(from)).step_by(LINE as usize)
}

/// True when something was written behind the valid records.
pub(crate) fn torn(bytes: &[u8], header: &SegmentHeader, end: u64) -> bool {
    let generation = (header.generation() as u32).to_le_bytes();
    bytes
        .get(end as usize..)
        .is_some_and(|rest| rest.len() as u64 >= LINE && rest[4..8] == generation)
}

/// Sound data records of a segment's own behind its valid records, which end at `tail`: how many, and their messages.
pub(crate) fn sound_behind(bytes: &[u8], header: &SegmentHeader, tail: &Tail) -> (u64, u64) {
    let (mut records, mut messages, mut at) = (0, 0, tail.end);
    while at < bytes.len() as u64 {
        let found = header_at(bytes, at, header.generation());
        let sound = found.ok().filter(|record| {
            record.lsn.get() >= tail.lsn && sound_by_itself(bytes, at, record).is_ok()
        });
        if let Some(record) = sound.filter(|record| record.kind == Kind::Data as u8) {
            (records, messages) = (records + 1, messages + u64::from(record.count.get()));
        }
        at += sound.map_or(LINE, |record| record_bytes(record.block_bytes.get() as usize));
    }
    (records, messages)
}

/// Byte of the first record of `generation` (of any, if none is given) in a slot without a segment header.
pub(crate) fn headless(bytes: &[u8], generation: Option<u64>) -> Option<u64> {
    lines(SEGMENT_DATA_AT, bytes).find(|at| is_of(bytes, *at, generation))
}

/// Whether there is one, for a start, which has more such slots than it has time for: looks at the beginning, and at
/// every place behind it where a huge page begins, further than the largest record reaches. It does not see records of
/// which more than the beginning was lost and less than a huge page is left.
pub(crate) fn headless_by_samples(bytes: &[u8], generation: Option<u64>) -> bool {
    (0..bytes.len() as u64).step_by(SAMPLED_EVERY as usize).any(|page| {
        let (from, to) = match page {
            // One that begins in its last line too.
            0 => (SEGMENT_DATA_AT, SAMPLED_EVERY + LINE),
            page => (page, page + SAMPLE_BYTES),
        };
        let sample = &bytes[..bytes.len().min(to as usize)];
        lines(from, sample).any(|at| is_of(sample, at, generation))
    })
}

/// True if a record of `generation` (of any, if none is given) begins at byte `at`.
fn is_of(bytes: &[u8], at: u64, generation: Option<u64>) -> bool {
    RecordHeader::read(&bytes[at as usize..])
        .is_some_and(|record| generation.is_none_or(|generation| record.generation() == generation))
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::format::RecordFields;

    /// A slot that holds one record of generation 9, at byte `at`.
    fn slot_with_a_record(at: usize) -> Vec<u8> {
        let fields = RecordFields {
            kind: Kind::Data,
            local: false,
            generation: 9,
            count: 1,
            block_bytes: 8,
            epoch: 1,
            block_crc: 0,
            lsn: 1,
            stream: 1,
            offset: 0,
            publisher: 1,
            incarnation: 1,
            sequence: 1,
            time: 0,
        };
        let mut bytes = vec![0; 6 << 20];
        bytes[at..at + RECORD_HEADER_BYTES]
            .copy_from_slice(RecordHeader::new(&fields, 0).as_bytes());
        bytes
    }

    #[test]
    fn samples_find_records_at_the_beginning_and_where_huge_pages_begin() {
        const HUGE: usize = 2 << 20;
        for at in [4096, HUGE - 64, HUGE, HUGE + (64 << 10) - 128, 2 * HUGE, 2 * HUGE + 6400] {
            let bytes = slot_with_a_record(at);
            assert_eq!(headless(&bytes, Some(9)), Some(at as u64));
            for (generation, found) in [(Some(9), true), (None, true), (Some(8), false)] {
                assert_eq!(headless_by_samples(&bytes, generation), found, "at {at}");
            }
        }
        // What they do not see, and only a thorough look does.
        let bytes = slot_with_a_record(2 * HUGE - 128);
        assert!(!headless_by_samples(&bytes, Some(9)) && headless(&bytes, Some(9)).is_some());
    }
}
