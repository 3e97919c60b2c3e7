//! Messages in files and pipes: how one follows the other, plain or packed by gzip.

mod reader;
mod writer;

pub use reader::{Length, MessageReader, ReadError};
pub use writer::MessageWriter;

/// The most bytes of a message behind a length field of two bytes.
pub const MAX_U16_BYTES: usize = u16::MAX as usize;

const BUFFER_BYTES: usize = 256 * 1024;

/// How messages follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Each ends with a line feed, which is no part of it; the last one may lack it.
    Lines,
    /// Each stands behind its length in 2 bytes, big-endian.
    U16be,
    /// Nasdaq's BinaryFILE: as [`Framing::U16be`], but a message of length 0 marks the end of a session.
    /// It comes out of the reader like any other, so that a copy has it too, but nothing may follow it.
    BinaryFile,
    /// Each stands behind its length in 4 bytes, big-endian.
    U32be,
    /// Nothing stands between messages: read, the whole input is one message, packed or not.
    Whole,
}

impl Framing {
    /// Bytes of the length field.
    fn prefix_bytes(self) -> usize {
        match self {
            Framing::Lines | Framing::Whole => 0,
            Framing::U16be | Framing::BinaryFile => 2,
            Framing::U32be => 4,
        }
    }
}
