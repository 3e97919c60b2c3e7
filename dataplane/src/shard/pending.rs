//! Records that wait for the watermark, in lsn order, some with the frame they came in.

use std::collections::VecDeque;

use super::{Handle, Stored};
use crate::planted::{Bug, planted};

/// What happens when a record becomes durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// A batch becomes visible and acknowledged.
    Data(Stored),
    /// A publisher's life begins: its session may open. The token tells whether the slot still holds
    /// the session that asked.
    Life { session: u32, token: u64 },
    /// A publication was opened while records of its publisher may have waited: its answer may be said.
    Opened(Handle),
}

/// A record that waits.
pub(crate) struct Waiting<F> {
    pub(crate) lsn: u64,
    pub(crate) what: What,
    /// The received frame, when it holds this batch alone and can become its delivery.
    pub(crate) frame: Option<F>,
}

/// The bounded ring of waiting records.
pub(crate) struct Pending<F> {
    ring: VecDeque<Waiting<F>>,
    max_records: usize,
    max_frames: usize,
    frames: usize,
}

impl<F> Pending<F> {
    pub(crate) fn new(max_records: usize, max_frames: usize) -> Pending<F> {
        Pending { ring: VecDeque::with_capacity(max_records), max_records, max_frames, frames: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ring.len() == self.max_records + usize::from(planted(Bug::PendingTooLong))
    }

    /// Records that wait.
    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Lsn of the newest record that waits.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.ring.back().map(|newest| newest.lsn)
    }

    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Appends a record. The caller has looked that there is room.
    #[inline]
    pub(crate) fn push(&mut self, lsn: u64, what: What) {
        debug_assert!(!self.is_full());
        self.ring.push_back(Waiting { lsn, what, frame: None });
    }

    /// Leaves `frame` with the newest record; drops it, and the record will be read from the log,
    /// when enough frames are kept already.
    #[inline]
    pub(crate) fn keep(&mut self, frame: F) {
        if self.frames < self.max_frames
            && let Some(newest) = self.ring.back_mut()
        {
            newest.frame = Some(frame);
            self.frames += 1;
        }
    }

    /// The oldest record.
    #[inline]
    pub(crate) fn front(&self) -> Option<&Waiting<F>> {
        self.ring.front()
    }

    /// Takes the oldest record.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Waiting<F>> {
        let record = self.ring.pop_front()?;
        if record.frame.is_some() && !planted(Bug::HeldFramesMiscounted) {
            self.frames -= 1;
        }
        Some(record)
    }
}
