//! Sealed segments, lent to whoever reads them beside the log.
//!
//! A segment is *sealed* when it takes no more records: it was ended by a roll record that a completed barrier
//! covers, or it was found at a start. [`Wal::next_sealed`] lends each once, oldest first; until it was given back
//! ([`Wal::give_back`]) it is not recycled, so nobody stores to it.

use std::sync::Arc;

use crate::Hole;
use crate::footer::{Facts, Footer, build};
use crate::format::{RecordHeader, SEGMENT_DATA_AT};
use crate::older::Asked;
use crate::region::{Region, SharedBytes};
use crate::retire::Retire;
use crate::survey::records;
use crate::wal::Wal;

/// Bytes of a segment between which nothing counts: an accepted loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentGap {
    /// Sequence of the segment.
    pub(crate) sequence: u64,
    /// Byte in the segment where the gap begins.
    pub(crate) from: u64,
    /// Byte where records go on.
    pub(crate) to: u64,
}

/// A sealed segment on loan. There is one of each at a time, and it is not made elsewhere. Whoever drops it instead
/// of giving it back keeps the segment from being recycled.
#[derive(Debug)]
#[must_use = "a segment that is not given back is never recycled"]
pub struct Sealed {
    slot: u32,
    sequence: u64,
    first_lsn: u64,
    next_lsn: u64,
    generation: u64,
    gaps: Arc<[SegmentGap]>,
    bytes: SharedBytes,
    repeated: bool,
    wants_footer: bool,
    footer: Option<Arc<Footer>>,
}

impl Sealed {
    /// Slot that holds it.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Number of the segment in its log.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Byte behind its last valid record; its first begins at [`SEGMENT_DATA_AT`].
    pub fn end(&self) -> u64 {
        self.bytes().len() as u64
    }

    /// Lsn of its first record that consumes one.
    pub fn first_lsn(&self) -> u64 {
        self.first_lsn
    }

    /// First lsn that it does not hold any more: `first_lsn` if it holds none.
    pub fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    /// Generation of its records.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Its bytes, from the slot's first to [`Sealed::end`].
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: made by `Wal::next_sealed` alone, for a segment that takes no more records and is not being recycled;
        // recycling, which is all that stores to such a segment, does not begin before `Wal::give_back` consumed this.
        unsafe { self.bytes.get() }
    }

    /// Its valid records: the byte where each begins, its header and its block. Ends early where the memory was
    /// changed by someone else.
    pub fn records(&self) -> impl Iterator<Item = (u64, &RecordHeader, &[u8])> {
        self.runs().flat_map(|(start, end)| records(self.bytes(), start, end))
    }

    /// The ranges of bytes between its gaps in which records follow each other.
    fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let gaps = self.gaps.iter().filter(|gap| gap.sequence == self.sequence);
        let ends = gaps.clone().map(|gap| gap.from).chain([self.end()]);
        let starts = [SEGMENT_DATA_AT].into_iter().chain(gaps.map(|gap| gap.to));
        starts.zip(ends)
    }

    /// True if the segment was lent before since the start: now it is for its footer alone.
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// True if the log cannot keep the segment in its index and asks for its footer ([`Sealed::attach`]).
    pub fn wants_footer(&self) -> bool {
        self.wants_footer
    }

    /// The segment's footer, made now; `None` if memory was lost.
    pub fn make_footer(&self) -> Option<Footer> {
        let facts = Facts {
            generation: self.generation,
            sequence: self.sequence,
            first_lsn: self.first_lsn,
            end: self.end(),
        };
        let footer = build(&facts, self.records());
        Footer::new(footer).ok().filter(|_| !self.is_lost())
    }

    /// Gives the log the footer with the segment.
    pub fn attach(&mut self, footer: Arc<Footer>) {
        self.footer = Some(footer);
    }

    /// True if memory of the segment's region was lost: what was read may be zeros. To be asked behind reading.
    pub fn is_lost(&self) -> bool {
        self.bytes.is_lost()
    }
}

/// Segments that are not lent where they will be recycled next: a reader that is slower than the log would hold up
/// recycling, and with it publishers.
const LEAD: usize = 4;

impl<R: Region> Wal<R> {
    /// Right behind the opening of a log that is not damaged: the sequence of its newest segment before this start's own,
    /// 0 if there was none, and the lsn that this start goes on with. What anybody knows of records from there on was
    /// lost.
    pub fn starts_behind(&self) -> (u64, u64) {
        let own = self.segments.back();
        own.map_or((0, self.lsn), |own| (own.sequence.saturating_sub(1), own.first_lsn))
    }

    /// Bytes of segments in which no record is expected: losses that an operator accepted.
    pub fn accepted_holes(&self) -> impl Iterator<Item = Hole> {
        self.gaps.iter().map(|gap| Hole {
            segment: gap.sequence.into(),
            from: gap.from.into(),
            to: gap.to.into(),
            lsn: 0.into(),
            next_lsn: 0.into(),
        })
    }

    /// True if [`Wal::next_sealed`] may have a segment.
    #[inline]
    pub fn has_sealed(&self) -> bool {
        self.lends
    }

    /// Lends the segment whose footer is wanted, or else the oldest sealed one that was not lent since the start: first
    /// those that the start found. Segments that are recycled now or soon are passed over, and a damaged or poisoned log lends nothing. Allocates
    /// nothing, but on a region that has no memory to share.
    pub fn next_sealed(&mut self) -> Option<Sealed> {
        if !self.has_sealed() || self.poison().is_some() {
            return None;
        }
        let recycled = usize::from(self.retire != Retire::Idle);
        // A log that holds lends each in order, and passes over none.
        let in_order = |at: &usize| !self.holds || self.segments[*at].sequence <= self.lent_below;
        let wanted = self.footer_wanted().filter(|wanted| *wanted >= recycled && in_order(wanted));
        let passed = match self.recycles() && !self.holds {
            true => LEAD.min(self.segments.len() / 2),
            false => recycled,
        };
        let next = self.segments.partition_point(|segment| segment.sequence < self.lent_below);
        let (sealed_below, lent_below) = (self.sealed_below, self.lent_below);
        let next = wanted.unwrap_or(next.max(passed));
        let found = self.segments.get_mut(next);
        // What somebody reads and is wanted again comes back first.
        let next = found.filter(|next| next.sequence < sealed_below && !next.lent);
        let Some(segment) = next else {
            self.lends = false;
            return None;
        };
        segment.lent = true;
        let segment = *segment;
        if segment.sequence >= lent_below {
            self.lent_below = segment.sequence + 1;
        }
        if wanted.is_some() {
            self.older.asked = Asked::Lent;
        }
        let base = self.base(segment.slot);
        Some(Sealed {
            slot: segment.slot,
            sequence: segment.sequence,
            first_lsn: segment.first_lsn,
            next_lsn: segment.next_lsn,
            generation: segment.generation,
            gaps: Arc::clone(&self.gaps),
            bytes: self.region.share(base, (segment.end - base) as usize),
            repeated: segment.sequence < lent_below,
            wants_footer: wanted.is_some(),
            footer: None,
        })
    }

    /// Takes back a segment that was lent: it may be recycled again. One of another log is ignored.
    pub fn give_back(&mut self, sealed: Sealed) {
        let Ok(at) = self.segments.binary_search_by_key(&sealed.sequence, |known| known.sequence)
        else {
            return;
        };
        if sealed.generation == self.segments[at].generation {
            self.segments[at].lent = false;
            self.lends |= self.older.asked == Asked::Wanted;
            if sealed.wants_footer {
                let segment = self.segments[at];
                self.take_footer(&segment, sealed.footer);
            }
        }
    }
}
