//! Batches that are not acknowledged: one ring of bytes, each block in one piece.

use std::collections::VecDeque;

use mstream_wire::{BlockWriter, crc32c};

use crate::planted::{Bug, planted};

/// A batch whose block is fixed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// Sequence of its first message.
    pub(crate) first: u64,
    pub(crate) count: u16,
    pub(crate) block_crc: u32,
    /// Was sent before, so that its bytes count against the credit already.
    pub(crate) counted: bool,
    at: usize,
    pub(crate) len: usize,
}

impl Batch {
    /// Sequence of its last message.
    #[inline]
    pub(crate) fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }
}

/// The batch that still takes messages.
#[derive(Clone, Copy, Debug)]
struct Open {
    at: usize,
    len: usize,
    count: u16,
}

/// The ring.
pub(crate) struct Retained {
    bytes: Box<[u8]>,
    batches: VecDeque<Batch>,
    max_batches: usize,
    open: Option<Open>,
    /// Sequence of the next message.
    next: u64,
}

impl Retained {
    /// A ring of `bytes` bytes and at most `batches` batches.
    pub(crate) fn new(bytes: usize, batches: usize) -> Retained {
        Retained {
            // A value other than zero touches every page now.
            bytes: vec![1; bytes].into_boxed_slice(),
            batches: VecDeque::with_capacity(batches),
            max_batches: batches,
            open: None,
            next: 1,
        }
    }

    /// Forgets everything; the next message gets sequence `next`.
    pub(crate) fn restart(&mut self, next: u64) {
        self.batches.clear();
        self.open = None;
        self.next = next;
    }

    /// Sequence of the next message.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Closed batches, oldest first.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// No message waits, closed or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.open.is_none()
    }

    /// Messages in the batch that still takes some.
    #[inline]
    pub(crate) fn open_count(&self) -> u16 {
        self.open.map_or(0, |open| open.count)
    }

    /// Bytes in the batch that still takes messages.
    #[inline]
    pub(crate) fn open_bytes(&self) -> usize {
        self.open.map_or(0, |open| open.len)
    }

    /// A new session counts bytes from zero: no batch was counted in it.
    pub(crate) fn uncount(&mut self) {
        self.batches.iter_mut().for_each(|batch| batch.counted = false);
    }

    #[inline]
    pub(crate) fn batch(&self, index: usize) -> Option<&Batch> {
        self.batches.get(index)
    }

    #[inline]
    pub(crate) fn batch_mut(&mut self, index: usize) -> Option<&mut Batch> {
        self.batches.get_mut(index)
    }

    /// The block of a batch.
    #[inline]
    pub(crate) fn block(&self, batch: &Batch) -> &[u8] {
        &self.bytes[batch.at..batch.at + batch.len]
    }

    /// Appends a message to the open batch, opening one with room for `max_block` bytes if there is
    /// none. `None`: it does not fit the open batch (close it first), or there is no room for another.
    #[inline]
    pub(crate) fn push_with(
        &mut self,
        max_block: usize,
        key: &[u8],
        headers: &[u8],
        payload: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<u64> {
        let mut open = match self.open {
            Some(open) => open,
            None => Open { at: self.room(max_block)?, len: 0, count: 0 },
        };
        let room = self.bytes.get_mut(open.at..open.at + max_block)?;
        let count = open.count.checked_add(1)?;
        open.len = BlockWriter::at(room, open.len).push_with(key, headers, payload, fill)?;
        open.count = count;
        self.open = Some(open);
        self.next += 1;
        Some(self.next - 1)
    }

    /// Fixes the open batch, if there is one.
    #[inline]
    pub(crate) fn close(&mut self) {
        let Some(Open { at, len, count }) = self.open.take() else { return };
        let block_crc = crc32c(&self.bytes[at..at + len]);
        let first = self.next - u64::from(count);
        self.batches.push_back(Batch { first, count, block_crc, counted: false, at, len });
    }

    /// Takes the oldest batch out if its last message is at or below `sequence`.
    #[inline]
    pub(crate) fn pop_through(&mut self, sequence: u64) -> Option<Batch> {
        if self.batches.front()?.last() > sequence {
            return None;
        }
        self.batches.pop_front()
    }

    /// Takes the batch out that starts at `sequence`; what follows moves up in number. Its place.
    pub(crate) fn take_out(&mut self, sequence: u64) -> Option<(usize, Batch)> {
        let index = self.batches.iter().position(|batch| batch.first == sequence)?;
        let gone = self.batches.remove(index)?;
        for batch in self.batches.range_mut(index..) {
            batch.first -= u64::from(gone.count);
        }
        self.next -= u64::from(gone.count);
        Some((index, gone))
    }

    /// Where `bytes` bytes in one piece are free.
    #[inline]
    fn room(&self, bytes: usize) -> Option<usize> {
        if self.batches.len() == self.max_batches {
            return None;
        }
        let (Some(oldest), Some(newest)) = (self.batches.front(), self.batches.back()) else {
            let takes = self.next == 1 || !planted(Bug::EmptyWindowIsFull);
            return (takes && bytes <= self.bytes.len()).then_some(0);
        };
        // Blocks start on cache lines. Behind the newest is never where the oldest starts: blocks are
        // not empty, and room for more than there is left of them is asked for.
        let behind = (newest.at + newest.len).next_multiple_of(64);
        let wrapped = newest.at < oldest.at;
        if wrapped {
            return (behind + bytes <= oldest.at).then_some(behind);
        }
        if behind + bytes <= self.bytes.len() {
            return Some(behind);
        }
        (bytes <= oldest.at).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(retained: &mut Retained, value: u8, len: usize) -> Option<u64> {
        retained.push_with(1280, b"", b"", len, |room| room.fill(value))
    }

    #[test]
    fn blocks_stay_whole_through_many_turns_of_the_ring() {
        let mut retained = Retained::new(8 * 1280, 64);
        let mut sent = 0u64;
        let mut acked = 0u64;
        for round in 0..10_000u64 {
            let len = (round * 37 % 1200) as usize;
            match push(&mut retained, round as u8, len) {
                Some(sequence) => {
                    sent += 1;
                    assert_eq!(sequence, sent);
                    retained.close();
                }
                None => {
                    let oldest = *retained.batch(0).expect("full, so not empty");
                    assert_eq!(oldest.first, acked + 1);
                    assert_eq!(crc32c(retained.block(&oldest)), oldest.block_crc);
                    assert!(retained.pop_through(acked).is_none());
                    assert!(retained.pop_through(acked + 1).is_some());
                    acked += 1;
                }
            }
        }
        assert!(acked > 1000);
        for index in 0..retained.len() {
            let batch = retained.batch(index).expect("in range");
            assert_eq!(crc32c(retained.block(batch)), batch.block_crc);
        }
    }

    #[test]
    fn what_is_behind_a_refused_batch_moves_up() {
        let mut retained = Retained::new(1 << 16, 64);
        for count in [2, 3, 4] {
            for _ in 0..count {
                push(&mut retained, 1, 10);
            }
            retained.close();
        }
        push(&mut retained, 1, 10);
        let (index, gone) = retained.take_out(3).expect("it is there");
        assert_eq!((index, gone.count), (1, 3));
        assert_eq!(retained.batch(1).map(|batch| (batch.first, batch.last())), Some((3, 6)));
        retained.close();
        assert_eq!(retained.batch(2).map(|batch| batch.first), Some(7));
        assert_eq!(retained.next(), 8);
    }
}
