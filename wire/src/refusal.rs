//! Why bytes are not a datagram, a frame or a block.

/// The first thing that is wrong with untrusted bytes. One byte, to be counted and never formatted on
/// the message path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WireError {
    /// Shorter than a datagram header.
    TooShort,
    /// Longer than [`crate::MAX_DATAGRAM_BYTES`].
    TooLong,
    /// A version other than 1.
    Version,
    /// Sealed or group channel, which this version does not take.
    Flags,
    /// A frame's length is under its type's, not a multiple of 8, or runs over the datagram.
    FrameLength,
    /// A frame type that is neither known nor may be ignored.
    FrameType,
    /// The frame check does not fit the bytes.
    FrameCheck,
    /// The block crc does not fit the block.
    BlockCrc,
    /// Messages do not fill the block as its count says, or a padding byte is not zero.
    BlockShape,
    /// A message without both begin and end, or with abort.
    Part,
}

impl WireError {
    /// All of them, in order of their numbers.
    pub const ALL: [WireError; 10] = [
        WireError::TooShort,
        WireError::TooLong,
        WireError::Version,
        WireError::Flags,
        WireError::FrameLength,
        WireError::FrameType,
        WireError::FrameCheck,
        WireError::BlockCrc,
        WireError::BlockShape,
        WireError::Part,
    ];

    /// The name used in counters.
    pub fn name(self) -> &'static str {
        match self {
            WireError::TooShort => "datagram_too_short",
            WireError::TooLong => "datagram_too_long",
            WireError::Version => "version",
            WireError::Flags => "datagram_flags",
            WireError::FrameLength => "frame_length",
            WireError::FrameType => "frame_type",
            WireError::FrameCheck => "frame_check",
            WireError::BlockCrc => "block_crc",
            WireError::BlockShape => "block_shape",
            WireError::Part => "part",
        }
    }
}

impl core::fmt::Display for WireError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for WireError {}
