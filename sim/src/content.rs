//! Messages whose every byte follows from who published them as which: any other byte is noticed.

use mstream_wire::{DEFAULT_MAX_BLOCK_BYTES, Message, message_bytes};

use crate::random::mix;

/// Which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Content {
    /// The publisher's number in the world.
    pub(crate) actor: u16,
    /// The stream it was published to.
    pub(crate) stream: u16,
    /// The publisher's life: which of its clients made the message.
    pub(crate) life: u32,
    /// Counts the publisher's messages in the stream from 1. With a name, this is the sequence.
    pub(crate) serial: u64,
}

/// Bytes of actor, stream, life and serial at the start of each payload.
const LABEL: usize = 16;
/// Keys of each length: few, so that newer messages displace older ones.
const KEYS: u64 = 3;
/// The lengths of keys: multiples of so many bytes.
const KEY_STEP: usize = 3;
const KEY_LENGTHS: u64 = 5;
/// All keys there are, and the empty one a few times.
pub(crate) const DIFFERENT_KEYS: usize = (KEY_LENGTHS * KEYS) as usize;
/// The longest key and headers.
const KEY: usize = 12;
const HEADERS: usize = 10;

/// Room in which a message is written.
pub(crate) struct Draft {
    key: [u8; KEY],
    headers: [u8; HEADERS],
    payload: [u8; DEFAULT_MAX_BLOCK_BYTES],
}

impl Draft {
    pub(crate) fn new() -> Draft {
        Draft { key: [0; KEY], headers: [0; HEADERS], payload: [0; DEFAULT_MAX_BLOCK_BYTES] }
    }
}

/// Words that follow from a seed: of another seed's, any one is another but by chance.
fn fillers(seed: u64) -> impl Iterator<Item = [u8; 8]> {
    let step = mix(seed);
    (1u64..).map(move |number| number.wrapping_mul(step | 1).rotate_left(23).to_le_bytes())
}

impl Content {
    fn hash(self) -> u64 {
        let who = u64::from(self.actor) << 48 | u64::from(self.stream) << 32;
        mix(mix(who | u64::from(self.life)) ^ self.serial)
    }

    /// Lengths of key, headers and payload.
    fn lengths(self) -> (usize, usize, usize) {
        let hash = self.hash();
        let (key, headers) =
            ((hash % KEY_LENGTHS) as usize * KEY_STEP, (hash >> 8) as usize % 3 * 5);
        let most = DEFAULT_MAX_BLOCK_BYTES - message_bytes(0, 0, LABEL) - 32;
        let filler = match hash >> 16 & 15 {
            0 => (hash >> 24) as usize % most,
            1 => 0,
            _ => (hash >> 24) as usize % 96,
        };
        (key, headers, LABEL + filler)
    }

    /// Behind the bytes of its key.
    fn key_seed(self) -> u64 {
        mix(self.hash() >> 40) % KEYS
    }

    /// Says which key it has: a number below [`DIFFERENT_KEYS`], the same where the bytes are the same.
    pub(crate) fn key_number(self) -> usize {
        (self.hash() % KEY_LENGTHS * KEYS + self.key_seed()) as usize
    }

    pub(crate) fn has_key(self) -> bool {
        !self.hash().is_multiple_of(KEY_LENGTHS)
    }

    fn fill(bytes: &mut [u8], seed: u64) {
        let (words, rest) = bytes.as_chunks_mut();
        let mut fillers = fillers(seed);
        for (word, filler) in words.iter_mut().zip(&mut fillers) {
            *word = filler;
        }
        rest.iter_mut()
            .zip(fillers.next().unwrap_or_default())
            .for_each(|(byte, filler)| *byte = filler);
    }

    fn filled(bytes: &[u8], seed: u64) -> bool {
        let (words, rest) = bytes.as_chunks();
        let mut fillers = fillers(seed);
        let same = words.iter().zip(&mut fillers).all(|(word, filler)| *word == filler);
        // So short that a call to compare them takes longer.
        same && rest
            .iter()
            .zip(fillers.next().unwrap_or_default())
            .all(|(byte, filler)| *byte == filler)
    }

    fn label(self) -> [u8; LABEL] {
        let mut label = [0; LABEL];
        label[..2].copy_from_slice(&self.actor.to_le_bytes());
        label[2..4].copy_from_slice(&self.stream.to_le_bytes());
        label[4..8].copy_from_slice(&self.life.to_le_bytes());
        label[8..].copy_from_slice(&self.serial.to_le_bytes());
        label
    }

    /// Key, headers and payload.
    pub(crate) fn write(self, draft: &mut Draft) -> (&[u8], &[u8], &[u8]) {
        let (key, headers, payload) = self.lengths();
        let parts = (&mut draft.key[..key], &mut draft.headers[..headers], &mut draft.payload);
        let (key, headers, payload) = (parts.0, parts.1, &mut parts.2[..payload]);
        Content::fill(key, self.key_seed());
        Content::fill(headers, self.hash() ^ 2);
        payload[..LABEL].copy_from_slice(&self.label());
        Content::fill(&mut payload[LABEL..], self.hash() ^ 3);
        (key, headers, payload)
    }

    /// Which message this is, if every byte of it is right.
    pub(crate) fn read(message: &Message<'_>) -> Option<Content> {
        let label = u128::from_le_bytes(*message.payload.first_chunk()?);
        let content = Content {
            actor: label as u16,
            stream: (label >> 16) as u16,
            life: (label >> 32) as u32,
            serial: (label >> 64) as u64,
        };
        let (key, headers, payload) = content.lengths();
        let same = message.key.len() == key
            && message.headers.len() == headers
            && message.payload.len() == payload
            && Content::filled(message.key, content.key_seed())
            && Content::filled(message.headers, content.hash() ^ 2)
            && Content::filled(&message.payload[LABEL..], content.hash() ^ 3);
        same.then_some(content)
    }
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{} of stream {}", self.actor, self.life, self.serial, self.stream)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn keys_are_the_same_where_their_numbers_are() {
        let mut keys = BTreeMap::new();
        let mut draft = Draft::new();
        for serial in 0..1_000 {
            let content = Content { actor: 1, stream: 1, life: 1, serial };
            let key = content.write(&mut draft).0.to_vec();
            assert_eq!(content.has_key(), !key.is_empty());
            if content.has_key() {
                assert_eq!(*keys.entry(content.key_number()).or_insert(key.clone()), key);
            }
        }
        assert_eq!(keys.len(), DIFFERENT_KEYS - KEYS as usize);
        let distinct: std::collections::BTreeSet<_> = keys.values().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
