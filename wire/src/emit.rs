//! The one place that writes datagrams.

use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use crate::datagram::{CHECKED_HEADER_BYTES, FrameCheck};
use crate::frame::Fixed;
use crate::{
    DATA_HEADER_BYTES, DATAGRAM_HEADER_BYTES, DataHeader, DatagramHeader, ErrorHeader, FrameHead,
    Hello, OpenHeader, OpenStreamHeader, SubscribeHeader, pad8,
};

/// Where the check stands in the header.
const CHECK_AT: core::ops::Range<usize> = CHECKED_HEADER_BYTES..DATAGRAM_HEADER_BYTES;

/// Fills a buffer with one datagram, frame by frame.
///
/// A frame that does not fit is refused (`false`) and leaves the datagram as it was.
pub struct DatagramWriter<'a> {
    bytes: &'a mut [u8],
    len: usize,
    check: FrameCheck,
}

macro_rules! fixed_frames {
    ($($(#[$doc:meta])* $method:ident($type:ident);)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $method(&mut self, frame: &crate::$type) -> bool {
            self.fixed(frame, &[])
        }
    )*};
}

impl<'a> DatagramWriter<'a> {
    /// Starts a datagram in `bytes`, which is its size limit; `None` when not even the header fits.
    #[inline]
    pub fn new(bytes: &'a mut [u8], header: &DatagramHeader) -> Option<DatagramWriter<'a>> {
        let room = bytes.get_mut(..DATAGRAM_HEADER_BYTES)?;
        room.copy_from_slice(header.as_bytes());
        let check = FrameCheck::over(room.first_chunk()?);
        Some(DatagramWriter { bytes, len: DATAGRAM_HEADER_BYTES, check })
    }

    /// True when no frame was added yet.
    pub fn is_empty(&self) -> bool {
        self.len == DATAGRAM_HEADER_BYTES
    }

    /// Bytes that are still free.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// Writes the check and returns the datagram's length in bytes.
    #[inline]
    pub fn finish(self) -> usize {
        self.bytes[CHECK_AT].copy_from_slice(&self.check.value().to_le_bytes());
        self.len
    }

    fixed_frames! {
        /// Adds a cookie.
        cookie(Cookie);
        /// Adds an opened.
        opened(Opened);
        /// Adds a close.
        close(Close);
        /// Adds a beat.
        beat(Beat);
        /// Adds a credit.
        credit(Credit);
        /// Adds an ack.
        ack(Ack);
        /// Adds a stream opened.
        stream_opened(StreamOpened);
        /// Adds a subscribed.
        subscribed(Subscribed);
        /// Adds a skip.
        skip(Skip);
        /// Adds an unsubscribe.
        unsubscribe(Unsubscribe);
    }

    /// Adds a hello and pads the datagram to its required size.
    pub fn hello(&mut self, frame: &Hello) -> bool {
        const TAIL: usize =
            crate::HELLO_DATAGRAM_BYTES - DATAGRAM_HEADER_BYTES - size_of::<Hello>();
        self.fixed(frame, &[0; TAIL])
    }

    /// Adds an open with its credential.
    pub fn open(&mut self, frame: &OpenHeader, credential: &[u8]) -> bool {
        let Ok(length) = u16::try_from(credential.len()) else { return false };
        self.fixed(&OpenHeader { credential_length: length.into(), ..*frame }, credential)
    }

    /// Adds an open stream with the stream's name.
    pub fn open_stream(&mut self, frame: &OpenStreamHeader, name: &[u8]) -> bool {
        let Ok(length) = u16::try_from(name.len()) else { return false };
        self.fixed(&OpenStreamHeader { name_length: length.into(), ..*frame }, name)
    }

    /// Adds a subscribe with the stream's name.
    pub fn subscribe(&mut self, frame: &SubscribeHeader, name: &[u8]) -> bool {
        let Ok(length) = u16::try_from(name.len()) else { return false };
        self.fixed(&SubscribeHeader { name_length: length.into(), ..*frame }, name)
    }

    /// Adds an error with its text.
    pub fn error(&mut self, frame: &ErrorHeader, text: &str) -> bool {
        self.fixed(frame, text.as_bytes())
    }

    /// Adds a publish or deliver frame without options. `header.head.length`, `options_length` are set
    /// here.
    #[inline]
    pub fn data(&mut self, header: &DataHeader, block: &[u8]) -> bool {
        let length = DATA_HEADER_BYTES + block.len();
        let Some(room) = self.bytes.get_mut(self.len..self.len + length) else { return false };
        let Ok(length16) = u16::try_from(length) else { return false };
        let header = DataHeader {
            head: FrameHead { length: length16.into(), ..header.head },
            options_length: 0.into(),
            ..*header
        };
        let (head, body) = room.split_at_mut(DATA_HEADER_BYTES);
        head.copy_from_slice(header.as_bytes());
        self.check.add(head);
        body.copy_from_slice(block);
        self.len += length;
        true
    }

    /// Adds a fixed part and a tail padded to 8.
    #[inline]
    fn fixed<T: Fixed>(&mut self, frame: &T, tail: &[u8]) -> bool {
        let fixed = size_of::<T>();
        let length = pad8(fixed + tail.len());
        let Some(room) = self.bytes.get_mut(self.len..self.len + length) else { return false };
        let Ok(length16) = u16::try_from(length) else { return false };
        room[..fixed].copy_from_slice(frame.as_bytes());
        room[fixed..fixed + tail.len()].copy_from_slice(tail);
        room[fixed + tail.len()..].fill(0);
        if let Ok((head, _)) = FrameHead::mut_from_prefix(room) {
            head.kind = T::KIND;
            head.length = U16::new(length16);
        }
        self.check.add(room);
        self.len += length;
        true
    }
}

impl core::fmt::Debug for DatagramWriter<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DatagramWriter").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Turns a datagram that holds exactly one publish frame without options (see
/// [`crate::Datagram::is_only`]) into the delivery of the same block, touching headers only.
///
/// Changes nothing and returns false when `bytes` is too short to be one.
#[inline]
pub fn rewrite_as_deliver(
    bytes: &mut [u8],
    header: &DatagramHeader,
    handle: u32,
    offset: u64,
    publisher: u64,
) -> bool {
    let Some((head, rest)) = bytes.split_at_mut_checked(DATAGRAM_HEADER_BYTES) else {
        return false;
    };
    let Ok((data, _)) = DataHeader::mut_from_prefix(rest) else { return false };
    data.head.kind = DataHeader::DELIVER;
    data.head.flags = 0;
    data.handle = handle.into();
    data.number = offset.into();
    data.tag = publisher.into();
    head.copy_from_slice(header.as_bytes());
    let Some(checked) = head.first_chunk() else { return false };
    let mut check = FrameCheck::over(checked);
    check.add(data.as_bytes());
    head[CHECKED_HEADER_BYTES..].copy_from_slice(&check.value().to_le_bytes());
    true
}
