//! Message blocks: a checked view and the one writer.

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{WireError, crc32c, pad8};

/// Bytes before the key of each message in a block.
pub const MESSAGE_HEADER_BYTES: usize = 8;
const BEGIN_AND_END: u8 = 3;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct MessageHeader {
    length: U32,
    flags: u8,
    key_length: u8,
    header_length: U16,
}

const _: () = assert!(size_of::<MessageHeader>() == MESSAGE_HEADER_BYTES);

/// Bytes that a message takes in a block, padding included.
pub const fn message_bytes(key: usize, headers: usize, payload: usize) -> usize {
    MESSAGE_HEADER_BYTES + pad8(key + headers + payload)
}

/// A message inside a checked block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The key, possibly empty.
    pub key: &'a [u8],
    /// The headers, opaque to the protocol.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// A block whose crc and message boundaries were verified.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    bytes: &'a [u8],
    count: u16,
}

impl<'a> Block<'a> {
    /// Checks crc, boundaries, padding and flags.
    ///
    /// # Errors
    /// [`WireError::BlockCrc`] when the bytes are not those the publisher made, else what is wrong with
    /// what it made.
    #[inline]
    pub fn parse(bytes: &'a [u8], count: u16, crc: u32) -> Result<Block<'a>, WireError> {
        if crc32c(bytes) != crc {
            return Err(WireError::BlockCrc);
        }
        let mut rest = bytes;
        for _ in 0..count {
            let (header, body) =
                MessageHeader::ref_from_prefix(rest).map_err(|_| WireError::BlockShape)?;
            let length = header.length.get() as usize;
            let parts = header.key_length as usize + header.header_length.get() as usize;
            if length > body.len() || parts > length {
                return Err(WireError::BlockShape);
            }
            let padded = pad8(length);
            let Some(padding) = body.get(length..padded) else {
                return Err(WireError::BlockShape);
            };
            if padding.iter().any(|byte| *byte != 0) {
                return Err(WireError::BlockShape);
            }
            if header.flags & 7 != BEGIN_AND_END {
                return Err(WireError::Part);
            }
            rest = &body[padded..];
        }
        if !rest.is_empty() || count == 0 {
            return Err(WireError::BlockShape);
        }
        Ok(Block { bytes, count })
    }

    /// Messages in the block.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The messages, in order.
    #[inline]
    pub fn messages(&self) -> Messages<'a> {
        Messages { rest: self.bytes }
    }
}

/// Iterates the messages of a checked block.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        // `Block::parse` walked the same bytes: the fallible steps here only end the walk at its end.
        let (header, body) = MessageHeader::ref_from_prefix(self.rest).ok()?;
        let length = header.length.get() as usize;
        let content = body.get(..length)?;
        let (key, content) = content.split_at_checked(header.key_length as usize)?;
        let (headers, payload) = content.split_at_checked(header.header_length.get() as usize)?;
        self.rest = body.get(pad8(length)..)?;
        Some(Message { key, headers, payload })
    }
}

/// Builds a block in place. Bytes before `len()` are the block so far.
#[derive(Debug)]
pub struct BlockWriter<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> BlockWriter<'a> {
    /// Goes on writing behind the first `len` bytes of `bytes`.
    pub fn at(bytes: &'a mut [u8], len: usize) -> BlockWriter<'a> {
        BlockWriter { bytes, len }
    }

    /// Appends a message whose payload of `payload` bytes is written by `fill`; returns the block's
    /// new length, or `None`, and changes nothing, when it does not fit or key or headers are longer
    /// than the format can say (255 and 65,535 bytes).
    #[inline]
    pub fn push_with(
        &mut self,
        key: &[u8],
        headers: &[u8],
        payload: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<usize> {
        let length = key.len().checked_add(headers.len())?.checked_add(payload)?;
        let header = MessageHeader {
            length: u32::try_from(length).ok()?.into(),
            flags: BEGIN_AND_END,
            key_length: u8::try_from(key.len()).ok()?,
            header_length: u16::try_from(headers.len()).ok()?.into(),
        };
        let end = self.len.checked_add(MESSAGE_HEADER_BYTES)?.checked_add(pad8(length))?;
        let room = self.bytes.get_mut(self.len..end)?;
        let (head, body) = room.split_at_mut(MESSAGE_HEADER_BYTES);
        head.copy_from_slice(header.as_bytes());
        let (content, padding) = body.split_at_mut(length);
        padding.fill(0);
        let (key_room, content) = content.split_at_mut(key.len());
        key_room.copy_from_slice(key);
        let (headers_room, payload_room) = content.split_at_mut(headers.len());
        headers_room.copy_from_slice(headers);
        fill(payload_room);
        self.len = end;
        Some(end)
    }

    /// Appends a message; see [`BlockWriter::push_with`].
    pub fn push(&mut self, key: &[u8], headers: &[u8], payload: &[u8]) -> Option<usize> {
        self.push_with(key, headers, payload.len(), |room| room.copy_from_slice(payload))
    }
}
