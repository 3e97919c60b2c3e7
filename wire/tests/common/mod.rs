//! What the tests use in the crate's place: bytes put together from `docs/protocol.md` alone.

#![allow(dead_code, reason = "each test file uses its own part")]

use proptest::test_runner::{Config, RngSeed};

/// That many cases, the same ones in every run.
pub fn cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}

/// CRC32C bit by bit: reflected polynomial 0x1EDC6F41, initial value and final xor 0xFFFFFFFF.
pub fn bitwise_crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.into_iter().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The bytes that `text` spells in hexadecimal digits; anything else in it is decoration.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|letter| letter.to_digit(16)).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text}");
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// A stretch of a datagram behind its header.
pub enum Piece {
    /// Bytes that the frame check covers.
    Checked(Vec<u8>),
    /// A message block, which it leaves out.
    Block(Vec<u8>),
}

impl Piece {
    /// The bytes of either kind.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Piece::Checked(bytes) | Piece::Block(bytes) => bytes,
        }
    }
}

/// A datagram: the 28 header bytes before the check, the check, the pieces.
pub fn datagram(header: &[u8], pieces: &[Piece]) -> Vec<u8> {
    assert_eq!(header.len(), 28);
    let checked = pieces.iter().filter_map(|piece| match piece {
        Piece::Checked(bytes) => Some(bytes.as_slice()),
        Piece::Block(_) => None,
    });
    let check = bitwise_crc32c([header].into_iter().chain(checked));
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(&check.to_le_bytes());
    for piece in pieces {
        bytes.extend_from_slice(piece.bytes());
    }
    bytes
}

/// The 32-byte header of a data frame without flags.
pub fn data_header(kind: u8, length: u16, count: u16, options_length: u16, crc: u32) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&options_length.to_le_bytes());
    bytes.extend_from_slice(&3u32.to_le_bytes());
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&4u64.to_le_bytes());
    bytes.extend_from_slice(&5u64.to_le_bytes());
    bytes
}
