//! Checked views of datagrams.

use crc_fast::{CrcAlgorithm, Digest};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::Fixed;
use crate::{
    Ack, Beat, Close, Cookie, Credit, DATA_HEADER_BYTES, DATAGRAM_HEADER_BYTES, Data, DataHeader,
    ErrorHeader, Frame, FrameHead, Hello, MAX_DATAGRAM_BYTES, OpenHeader, OpenStreamHeader, Opened,
    Skip, StreamOpened, SubscribeHeader, Subscribed, Unsubscribe, VERSION, WireError,
};

/// What a datagram starts with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct DatagramHeader {
    /// Protocol version.
    pub version: u8,
    /// Bit 0 sealed, bit 1 group channel.
    pub flags: u8,
    /// Zero.
    pub key_phase: u8,
    /// Zero.
    pub reserved: u8,
    /// Session slot, or [`crate::NO_SLOT`].
    pub slot: U32,
    /// Session token, or 0.
    pub token: U64,
    /// Counts datagrams of the session and direction.
    pub packet_number: U64,
    /// Sender's epoch of the shard, or 0.
    pub epoch: U32,
    /// CRC32C of everything but this field and the blocks.
    pub check: U32,
}

/// Bytes of the header that the frame check covers: all but the check itself, which comes last.
pub(crate) const CHECKED_HEADER_BYTES: usize = 28;
const _: () = assert!(size_of::<DatagramHeader>() == DATAGRAM_HEADER_BYTES);

impl DatagramHeader {
    /// A header outside any session.
    pub fn outside(epoch: u32) -> DatagramHeader {
        DatagramHeader::new(crate::NO_SLOT, 0, 0, epoch)
    }

    /// A header of a session.
    pub fn new(slot: u32, token: u64, packet_number: u64, epoch: u32) -> DatagramHeader {
        DatagramHeader {
            version: VERSION,
            flags: 0,
            key_phase: 0,
            reserved: 0,
            slot: slot.into(),
            token: token.into(),
            packet_number: packet_number.into(),
            epoch: epoch.into(),
            check: 0.into(),
        }
    }
}

/// Bytes that [`FrameCheck`] gathers: a datagram header and any one control frame of fixed size.
const GATHERED_BYTES: usize = 128;

/// The running frame check. Short pieces are gathered, because a call of the checksum costs more than
/// the bytes of a header.
pub(crate) struct FrameCheck {
    gathered: [u8; GATHERED_BYTES],
    len: usize,
    /// Checksum of what came before what is gathered, once that was too much.
    before: Option<Digest>,
}

impl FrameCheck {
    #[inline]
    pub(crate) fn over(header: &[u8; CHECKED_HEADER_BYTES]) -> FrameCheck {
        let mut gathered = [0; GATHERED_BYTES];
        gathered[..CHECKED_HEADER_BYTES].copy_from_slice(header);
        FrameCheck { gathered, len: CHECKED_HEADER_BYTES, before: None }
    }

    #[inline]
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if let Some(room) = self.gathered.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        } else {
            self.add_long(bytes);
        }
    }

    #[cold]
    fn add_long(&mut self, bytes: &[u8]) {
        let before = self.before.get_or_insert_with(|| Digest::new(CrcAlgorithm::Crc32Iscsi));
        before.update(&self.gathered[..self.len]);
        before.update(bytes);
        self.len = 0;
    }

    #[inline]
    pub(crate) fn value(self) -> u32 {
        let gathered = &self.gathered[..self.len];
        match self.before {
            None => crate::crc32c(gathered),
            Some(mut before) => {
                before.update(gathered);
                before.finalize() as u32
            }
        }
    }
}

/// A datagram whose frame boundaries and frame check were verified; blocks were not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The header.
    pub header: &'a DatagramHeader,
    frames: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Checks `bytes`, the whole UDP payload.
    ///
    /// # Errors
    /// The first thing that is wrong.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Datagram<'a>, WireError> {
        if bytes.len() > MAX_DATAGRAM_BYTES {
            return Err(WireError::TooLong);
        }
        let (header, frames) =
            DatagramHeader::ref_from_prefix(bytes).map_err(|_| WireError::TooShort)?;
        if header.version != VERSION {
            return Err(WireError::Version);
        }
        if header.flags & 3 != 0 {
            return Err(WireError::Flags);
        }
        let Some(checked) = bytes.first_chunk() else { return Err(WireError::TooShort) };
        let mut check = FrameCheck::over(checked);
        let mut rest = frames;
        // Runs of control frames are checked in one go: only blocks interrupt a run.
        let mut run = 0;
        while rest.len() > run {
            let (frame, length) = split(&rest[run..])?;
            if let Frame::Publish(data) | Frame::Deliver(data) = frame {
                let (before, after) = rest.split_at(run + DATA_HEADER_BYTES);
                check.add(before);
                let (block_and_options, behind) = after.split_at(length - DATA_HEADER_BYTES);
                if !data.options.is_empty() {
                    check.add(&block_and_options[data.block.len()..]);
                }
                rest = behind;
                run = 0;
            } else {
                run += length;
            }
        }
        if run > 0 {
            check.add(rest);
        }
        if check.value() != header.check.get() {
            return Err(WireError::FrameCheck);
        }
        Ok(Datagram { header, frames })
    }

    /// The frames, in order.
    #[inline]
    pub fn frames(&self) -> Frames<'a> {
        Frames { rest: self.frames }
    }

    /// True when the datagram holds exactly one frame and `data` is it: the case that can be delivered
    /// by rewriting the received buffer.
    #[inline]
    pub fn is_only(&self, data: &Data<'_>) -> bool {
        data.options.is_empty() && self.frames.len() == DATA_HEADER_BYTES + data.block.len()
    }
}

/// Iterates the frames of a checked datagram.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'a>> {
        // `parse` walked the same bytes with the same function: an error cannot come up here, and
        // ending the walk is what one would do with it.
        let (frame, length) = split(self.rest).ok()?;
        self.rest = &self.rest[length..];
        Some(frame)
    }
}

/// The first frame of `bytes` and its length.
#[inline]
fn split(bytes: &[u8]) -> Result<(Frame<'_>, usize), WireError> {
    let (head, _) = FrameHead::ref_from_prefix(bytes).map_err(|_| WireError::FrameLength)?;
    let length = head.length.get() as usize;
    if length < 8 || !length.is_multiple_of(8) || length > bytes.len() {
        return Err(WireError::FrameLength);
    }
    let bytes = &bytes[..length];
    let frame = match head.kind {
        DataHeader::PUBLISH => Frame::Publish(data(bytes)?),
        DataHeader::DELIVER => Frame::Deliver(data(bytes)?),
        Hello::KIND => Frame::Hello(fixed(bytes)?.0),
        Cookie::KIND => Frame::Cookie(fixed(bytes)?.0),
        OpenHeader::KIND => {
            let (open, tail) = fixed::<OpenHeader>(bytes)?;
            Frame::Open(open, named(tail, open.credential_length.get())?)
        }
        Opened::KIND => Frame::Opened(fixed(bytes)?.0),
        Close::KIND => Frame::Close(fixed(bytes)?.0),
        ErrorHeader::KIND => {
            let (error, text) = fixed(bytes)?;
            Frame::Error(error, text)
        }
        Beat::KIND => Frame::Beat(fixed(bytes)?.0),
        Credit::KIND => Frame::Credit(fixed(bytes)?.0),
        Ack::KIND => Frame::Ack(fixed(bytes)?.0),
        OpenStreamHeader::KIND => {
            let (open, tail) = fixed::<OpenStreamHeader>(bytes)?;
            Frame::OpenStream(open, named(tail, open.name_length.get())?)
        }
        StreamOpened::KIND => Frame::StreamOpened(fixed(bytes)?.0),
        SubscribeHeader::KIND => {
            let (subscribe, tail) = fixed::<SubscribeHeader>(bytes)?;
            Frame::Subscribe(subscribe, named(tail, subscribe.name_length.get())?)
        }
        Subscribed::KIND => Frame::Subscribed(fixed(bytes)?.0),
        Skip::KIND => Frame::Skip(fixed(bytes)?.0),
        Unsubscribe::KIND => Frame::Unsubscribe(fixed(bytes)?.0),
        kind if kind >= 0x80 => Frame::Ignorable(kind),
        _ => return Err(WireError::FrameType),
    };
    Ok((frame, length))
}

#[inline]
fn data(bytes: &[u8]) -> Result<Data<'_>, WireError> {
    let (header, body) = DataHeader::ref_from_prefix(bytes).map_err(|_| WireError::FrameLength)?;
    let options_length = header.options_length.get() as usize;
    if !options_length.is_multiple_of(8) || options_length + 8 > body.len() {
        return Err(WireError::FrameLength);
    }
    let (block, options) = body.split_at(body.len() - options_length);
    Ok(Data { header, block, options })
}

/// The fixed part of a frame and what follows it.
#[inline]
fn fixed<T: Fixed>(bytes: &[u8]) -> Result<(&T, &[u8]), WireError> {
    T::ref_from_prefix(bytes).map_err(|_| WireError::FrameLength)
}

/// The first `length` bytes of a tail: a name or a credential.
fn named(tail: &[u8], length: u16) -> Result<&[u8], WireError> {
    tail.get(..length as usize).ok_or(WireError::FrameLength)
}
