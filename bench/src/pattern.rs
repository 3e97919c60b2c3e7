//! What a numbered message says: its number, then bytes that follow from seed, number and place.

/// Odd, with bits all over: different numbers differ in every word.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bytes of the number in front.
pub(crate) const NUMBER_BYTES: usize = 8;

/// The content of all messages of a seed and a size.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    size: usize,
    /// One word for each 8 bytes behind the number, the last possibly in part.
    words: Vec<u64>,
}

impl Pattern {
    /// Messages of `size` bytes, at least 8.
    pub(crate) fn new(seed: u64, size: usize) -> Pattern {
        let mut state = seed;
        // splitmix64: words of any seed look random.
        let words = (NUMBER_BYTES..size).step_by(8).map(|_| {
            state = state.wrapping_add(SPREAD);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        });
        Pattern { size, words: words.collect() }
    }

    /// Bytes of a message.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Writes message `number` into `room`, which has the size of a message.
    #[inline]
    pub(crate) fn fill(&self, number: u64, room: &mut [u8]) {
        let Some((head, body)) = room.split_first_chunk_mut::<NUMBER_BYTES>() else { return };
        *head = number.to_le_bytes();
        let mask = number.wrapping_mul(SPREAD);
        let (chunks, rest) = body.as_chunks_mut::<8>();
        for (chunk, word) in chunks.iter_mut().zip(&self.words) {
            *chunk = (word ^ mask).to_le_bytes();
        }
        if let Some(word) = self.words.get(chunks.len()) {
            let last = (word ^ mask).to_le_bytes();
            let length = rest.len();
            rest.copy_from_slice(&last[..length]);
        }
    }

    /// The number of `message`, if every byte is what that number asks for.
    #[inline]
    pub(crate) fn number_in(&self, message: &[u8]) -> Option<u64> {
        let (head, body) = message.split_first_chunk::<NUMBER_BYTES>()?;
        if message.len() != self.size {
            return None;
        }
        let number = u64::from_le_bytes(*head);
        let mask = number.wrapping_mul(SPREAD);
        let (chunks, rest) = body.as_chunks::<8>();
        let mut differing = 0;
        for (chunk, word) in chunks.iter().zip(&self.words) {
            differing |= u64::from_le_bytes(*chunk) ^ word ^ mask;
        }
        if let Some(word) = self.words.get(chunks.len())
            && *rest != (word ^ mask).to_le_bytes()[..rest.len()]
        {
            return None;
        }
        (differing == 0).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_seen() {
        for size in [8, 9, 15, 16, 64, 71, 1272] {
            let pattern = Pattern::new(7, size);
            let mut message = vec![0; size];
            pattern.fill(123_456, &mut message);
            assert_eq!(pattern.number_in(&message), Some(123_456));
            for at in NUMBER_BYTES..size {
                message[at] ^= 0x10;
                assert_eq!(pattern.number_in(&message), None, "byte {at} of {size}");
                message[at] ^= 0x10;
            }
            assert_eq!(pattern.number_in(&message[..size - 1]), None);
            if size > NUMBER_BYTES {
                message[0] ^= 1;
                assert_eq!(
                    pattern.number_in(&message),
                    None,
                    "another number asks for other bytes"
                );
            }
        }
    }

    #[test]
    fn seeds_differ() {
        let (mut one, mut other) = ([0; 64], [0; 64]);
        Pattern::new(1, 64).fill(5, &mut one);
        Pattern::new(2, 64).fill(5, &mut other);
        assert_ne!(one[8..], other[8..]);
    }
}
