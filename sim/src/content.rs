//! Messages whose every byte follows from who published them as which: any other byte is noticed.

use mstream_wire::{DEFAULT_MAX_BLOCK_BYTES, Message, message_bytes};

use crate::random::mix;

/// Which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The publisher's number in the world.
    pub(crate) actor: u32,
    /// Its life: which of its clients made the message.
    pub(crate) life: u32,
    /// Counts the publisher's messages from 1. With a name, this is the sequence.
    pub(crate) serial: u64,
}

/// Bytes of actor, life and serial at the start of each payload.
const LABEL: usize = 16;

impl Content {
    fn hash(self) -> u64 {
        mix(mix(u64::from(self.actor) << 32 | u64::from(self.life)) ^ self.serial)
    }

    /// Lengths of key, headers and payload.
    fn lengths(self) -> (usize, usize, usize) {
        let hash = self.hash();
        let (key, headers) = ((hash % 5) as usize * 3, (hash >> 8) as usize % 3 * 5);
        let most = DEFAULT_MAX_BLOCK_BYTES - message_bytes(0, 0, LABEL) - 32;
        let filler = match hash >> 16 & 15 {
            0 => (hash >> 24) as usize % most,
            1 => 0,
            _ => (hash >> 24) as usize % 96,
        };
        (key, headers, LABEL + filler)
    }

    fn fill(bytes: &mut [u8], mut state: u64) {
        for chunk in bytes.chunks_mut(8) {
            state = mix(state);
            chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
        }
    }

    /// Key, headers and payload.
    pub(crate) fn parts(self) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (key, headers, payload) = self.lengths();
        let (mut key, mut headers, mut payload) =
            (vec![0; key], vec![0; headers], vec![0; payload]);
        Content::fill(&mut key, self.hash() ^ 1);
        Content::fill(&mut headers, self.hash() ^ 2);
        payload[..4].copy_from_slice(&self.actor.to_le_bytes());
        payload[4..8].copy_from_slice(&self.life.to_le_bytes());
        payload[8..LABEL].copy_from_slice(&self.serial.to_le_bytes());
        Content::fill(&mut payload[LABEL..], self.hash() ^ 3);
        (key, headers, payload)
    }

    /// Which message this is, if every byte of it is right.
    pub(crate) fn read(message: &Message<'_>) -> Option<Content> {
        let (label, _) = message.payload.split_first_chunk::<LABEL>()?;
        let label = u128::from_le_bytes(*label);
        let content = Content {
            actor: label as u32,
            life: (label >> 32) as u32,
            serial: (label >> 64) as u64,
        };
        let (key, headers, payload) = content.parts();
        let same = key == message.key && headers == message.headers && payload == message.payload;
        same.then_some(content)
    }
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.actor, self.life, self.serial)
    }
}
