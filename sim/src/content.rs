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
    /// The message that stands here, if any does.
    content: Option<Content>,
    key: [u8; KEY],
    headers: [u8; HEADERS],
    payload: [u8; DEFAULT_MAX_BLOCK_BYTES],
}

impl Draft {
    pub(crate) fn new() -> Draft {
        Draft {
            content: None,
            key: [0; KEY],
            headers: [0; HEADERS],
            payload: [0; DEFAULT_MAX_BLOCK_BYTES],
        }
    }
}

/// Words that follow from a seed: of another seed's, any one is another but by chance.
struct Fillers {
    sum: u64,
    step: u64,
}

impl Fillers {
    fn new(seed: u64) -> Fillers {
        Fillers { sum: 0, step: mix(seed) | 1 }
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.sum = self.sum.wrapping_add(self.step);
        self.sum.rotate_left(23)
    }
}

impl Content {
    fn hash(self) -> u64 {
        let who = u64::from(self.actor) << 48 | u64::from(self.stream) << 32;
        mix(mix(who | u64::from(self.life)) ^ self.serial)
    }

    /// Lengths of key, headers and payload of the message with this hash.
    fn lengths(hash: u64) -> (usize, usize, usize) {
        let key = (hash % KEY_LENGTHS) as usize * KEY_STEP;
        let headers = (hash >> 8) as usize % 3 * 5;
        let most = DEFAULT_MAX_BLOCK_BYTES - message_bytes(0, 0, LABEL) - 32;
        let filler = match hash >> 16 & 15 {
            0 => (hash >> 24) as usize % most,
            1 => 0,
            _ => (hash >> 24) as usize % 96,
        };
        (key, headers, LABEL + filler)
    }

    /// Behind the bytes of the key of the message with this hash.
    fn key_seed(hash: u64) -> u64 {
        mix(hash >> 40) % KEYS
    }

    /// Says which key it has: a number below [`DIFFERENT_KEYS`], the same where the bytes are the same.
    pub(crate) fn key_number(self) -> usize {
        let hash = self.hash();
        (hash % KEY_LENGTHS * KEYS + Content::key_seed(hash)) as usize
    }

    pub(crate) fn has_key(self) -> bool {
        !self.hash().is_multiple_of(KEY_LENGTHS)
    }

    fn fill(bytes: &mut [u8], seed: u64) {
        let mut fillers = Fillers::new(seed);
        let (words, rest) = bytes.as_chunks_mut();
        for word in words {
            *word = fillers.next().to_le_bytes();
        }
        for (byte, filler) in rest.iter_mut().zip(fillers.next().to_le_bytes()) {
            *byte = filler;
        }
    }

    fn filled(bytes: &[u8], seed: u64) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let mut fillers = Fillers::new(seed);
        let (words, rest) = bytes.as_chunks();
        // All of it and then one question: most are right.
        let mut wrong = 0;
        for word in words {
            wrong |= u64::from_le_bytes(*word) ^ fillers.next();
        }
        let filler = fillers.next();
        match bytes.last_chunk() {
            // At the end of a word that was looked at in part.
            Some(word) if !rest.is_empty() => {
                let before = u64::BITS - 8 * rest.len() as u32;
                wrong |= (u64::from_le_bytes(*word) ^ filler << before) >> before;
            }
            _ => {
                for (byte, filler) in rest.iter().zip(filler.to_le_bytes()) {
                    wrong |= u64::from(byte ^ filler);
                }
            }
        }
        wrong == 0
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
        let hash = self.hash();
        let (key, headers, payload) = Content::lengths(hash);
        // One that was not taken is written again.
        let again = draft.content.replace(self) == Some(self);
        let parts = (&mut draft.key[..key], &mut draft.headers[..headers], &mut draft.payload);
        let (key, headers, payload) = (parts.0, parts.1, &mut parts.2[..payload]);
        if !again {
            Content::fill(key, Content::key_seed(hash));
            Content::fill(headers, hash ^ 2);
            payload[..LABEL].copy_from_slice(&self.label());
            Content::fill(&mut payload[LABEL..], hash ^ 3);
        }
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
        let hash = content.hash();
        let (key, headers, payload) = Content::lengths(hash);
        let same = message.key.len() == key
            && message.headers.len() == headers
            && message.payload.len() == payload
            && Content::filled(message.key, Content::key_seed(hash))
            && Content::filled(message.headers, hash ^ 2)
            && Content::filled(&message.payload[LABEL..], hash ^ 3);
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
