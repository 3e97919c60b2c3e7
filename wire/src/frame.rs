//! The frames of `docs/protocol.md` section 4, as laid out on the wire.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What every frame starts with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct FrameHead {
    /// Frame type.
    pub kind: u8,
    /// Bits by type; unknown ones are ignored.
    pub flags: u8,
    /// Bytes of the whole frame, a multiple of 8.
    pub length: U16,
}

/// A frame header of fixed size and one type.
pub(crate) trait Fixed: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned {
    const KIND: u8;
}

macro_rules! frames {
    ($($(#[$doc:meta])* $name:ident = $kind:literal, $size:literal {
        $($(#[$fdoc:meta])* $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name {
            /// Type, flags and length.
            pub head: FrameHead,
            $($(#[$fdoc])* pub $field: $type,)*
        }

        impl Fixed for $name {
            const KIND: u8 = $kind;
        }

        impl $name {
            /// The frame's type number.
            pub const KIND: u8 = $kind;
            /// The head of a frame of this type without anything behind its fixed part.
            pub const HEAD: FrameHead =
                FrameHead { kind: $kind, flags: 0, length: U16::new($size) };
        }

        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

frames! {
    /// Asks for a cookie; padded to [`crate::HELLO_DATAGRAM_BYTES`].
    Hello = 0x01, 16 {
        /// Lowest protocol version the client speaks.
        lowest_version: u8,
        /// Highest one.
        highest_version: u8,
        /// Zero.
        reserved: U16,
        /// The client's random name for this set-up.
        nonce: U64,
    }
    /// Answers a hello; the shard keeps nothing.
    Cookie = 0x02, 40 {
        /// The version to use.
        version: u8,
        /// Zero.
        reserved: [u8; 3],
        /// From the hello.
        nonce: U64,
        /// Opaque to the client.
        cookie: [u8; 24],
    }
    /// Opens a session; the credential follows.
    OpenHeader = 0x03, 80 {
        /// 0 anonymous, 1 claim, 2 resume.
        identity: u8,
        /// Zero.
        reserved: u8,
        /// Bytes of the credential.
        credential_length: U16,
        /// As in the hello.
        nonce: U64,
        /// From the cookie frame.
        cookie: [u8; 24],
        /// Publisher id, 0 when anonymous.
        publisher: U64,
        /// Claim: nonce of the life. Resume: incarnation in the first 8 bytes.
        life: [u8; 16],
        /// Zero.
        capabilities: U64,
        /// Zero.
        reserved2: U64,
    }
    /// The session is open.
    Opened = 0x04, 80 {
        /// Largest message block, bytes.
        max_block: U32,
        /// From the open.
        nonce: U64,
        /// Names the shard's log.
        log_id: [u8; 16],
        /// Publisher id of the session.
        publisher: U64,
        /// Life of the publisher.
        incarnation: U64,
        /// First byte limit for publishing.
        credit: U64,
        /// Milliseconds of silence after which the session ends.
        timeout_ms: U32,
        /// Durability level number.
        level: u8,
        /// Copies that hold what is committed.
        copies: u8,
        /// Copies that must.
        required_copies: u8,
        /// Zero.
        reserved: u8,
        /// Zero.
        capabilities: U64,
        /// Zero.
        reserved2: U64,
    }
    /// Ends the session.
    Close = 0x05, 16 {
        /// Why.
        code: U16,
        /// Zero.
        reserved: U16,
        /// Zero.
        reserved2: U64,
    }
    /// Something was refused outside the ways that other frames have; text follows.
    ErrorHeader = 0x06, 24 {
        /// Why.
        code: U16,
        /// Zero.
        reserved: U16,
        /// Depends on the code.
        value: U64,
        /// Nonce of the hello or open that is answered, or 0.
        nonce: U64,
    }
    /// Keeps a session alive and tells positions.
    Beat = 0x07, 32 {
        /// Subscription handle or [`crate::NO_HANDLE`].
        handle: U32,
        /// Next offset that the subscription will be sent.
        next: U64,
        /// Offset behind the last visible message.
        end: U64,
        /// Sender's clock in ns, or the asker's in an answer.
        time: U64,
    }
    /// Raises an absolute limit.
    Credit = 0x08, 16 {
        /// Subscription handle or [`crate::NO_HANDLE`].
        handle: U32,
        /// Bytes or offset.
        limit: U64,
    }
    /// How far a publication got.
    Ack = 0x12, 72 {
        /// Publication handle.
        handle: U32,
        /// Last sequence in the log.
        received: U64,
        /// Last sequence behind a completed barrier.
        persisted: U64,
        /// Last sequence on the required copies.
        committed: U64,
        /// Offset behind the committed message.
        offset: U64,
        /// Current round.
        round: U64,
        /// First refused sequence of this round, or 0.
        refused: U64,
        /// Why, or 0.
        code: U16,
        /// Durability level number.
        level: u8,
        /// Copies that hold `committed`.
        copies: u8,
        /// Copies that must.
        required_copies: u8,
        /// Zero.
        reserved: [u8; 11],
    }
    /// Opens a stream for publishing; its name follows.
    OpenStreamHeader = 0x13, 24 {
        /// Client's number of the publication.
        request: U32,
        /// Stream id, 0: by name.
        stream: U64,
        /// Bytes of the name.
        name_length: U16,
        /// Zero.
        reserved: [u8; 6],
    }
    /// Answers open stream.
    StreamOpened = 0x14, 64 {
        /// From the question.
        request: U32,
        /// Publication handle.
        handle: U32,
        /// 0 or why not.
        code: U16,
        /// Zero.
        reserved: U16,
        /// Stream id.
        stream: U64,
        /// Last stored sequence.
        sequence: U64,
        /// Current round.
        round: U64,
        /// Offset behind that sequence's message.
        offset: U64,
        /// Zero.
        reserved2: [u8; 16],
    }
    /// Subscribes or asks again; the stream's name follows.
    SubscribeHeader = 0x15, 64 {
        /// Client's number of the subscription.
        request: U32,
        /// Stream id, 0: by name.
        stream: U64,
        /// Offset or time.
        from: U64,
        /// Messages that may be delivered from the start on.
        credit: U64,
        /// Log that the offset comes from, or zeros.
        log_id: [u8; 16],
        /// Epoch of the last datagram used, or 0.
        epoch: U32,
        /// 0 earliest, 1 latest, 2 offset, 3 time.
        from_kind: u8,
        /// Zero.
        reserved: u8,
        /// Bytes of the name.
        name_length: U16,
        /// Zero.
        reserved2: U64,
    }
    /// Answers subscribe.
    Subscribed = 0x16, 72 {
        /// From the question.
        request: U32,
        /// Subscription handle.
        handle: U32,
        /// 0 or why not.
        code: U16,
        /// Zero.
        reserved: U16,
        /// Stream id.
        stream: U64,
        /// First offset to be delivered, or what the code says.
        start: U64,
        /// First offset still held.
        earliest: U64,
        /// Offset behind the last visible message.
        end: U64,
        /// Offset limit from the credit.
        limit: U64,
        /// Names the shard's log.
        log_id: [u8; 16],
    }
    /// Offsets without content.
    Skip = 0x17, 32 {
        /// Subscription handle.
        handle: U32,
        /// First offset without content.
        from: U64,
        /// Offset behind the last one without.
        to: U64,
        /// 1 compacted, 2 lost and accepted, 3 damaged and not decided.
        reason: U16,
        /// Zero.
        reserved: [u8; 6],
    }
    /// Ends a subscription.
    Unsubscribe = 0x18, 8 {
        /// Subscription handle.
        handle: U32,
    }
}

/// The header that publish and deliver frames share.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct DataHeader {
    /// Type, flags and length.
    pub head: FrameHead,
    /// Messages in the block.
    pub count: U16,
    /// Bytes of options behind the block.
    pub options_length: U16,
    /// Publication or subscription handle.
    pub handle: U32,
    /// CRC32C of the block.
    pub block_crc: U32,
    /// Sequence or offset of the first message.
    pub number: U64,
    /// Round or publisher id.
    pub tag: U64,
}

const _: () = assert!(size_of::<DataHeader>() == crate::DATA_HEADER_BYTES);

impl Skip {
    /// Reason: newer messages of the same keys replaced them.
    pub const COMPACTED: u16 = 1;
    /// Reason: they were lost, and an operator accepted that.
    pub const LOST: u16 = 2;
    /// Reason: the log is damaged, and nobody has decided yet.
    pub const DAMAGED: u16 = 3;
}

impl DataHeader {
    /// Type number of publish frames.
    pub const PUBLISH: u8 = 0x10;
    /// Type number of deliver frames.
    pub const DELIVER: u8 = 0x11;
}

/// A publish or deliver frame inside a checked datagram. The block is not checked yet: see
/// [`crate::Block::parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// The frame's header.
    pub header: &'a DataHeader,
    /// The message block.
    pub block: &'a [u8],
    /// Options behind the block.
    pub options: &'a [u8],
}

/// A frame of a checked datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the frame of the same name")]
pub enum Frame<'a> {
    Hello(&'a Hello),
    Cookie(&'a Cookie),
    Open(&'a OpenHeader, &'a [u8]),
    Opened(&'a Opened),
    Close(&'a Close),
    Error(&'a ErrorHeader, &'a [u8]),
    Beat(&'a Beat),
    Credit(&'a Credit),
    Publish(Data<'a>),
    Deliver(Data<'a>),
    Ack(&'a Ack),
    OpenStream(&'a OpenStreamHeader, &'a [u8]),
    StreamOpened(&'a StreamOpened),
    Subscribe(&'a SubscribeHeader, &'a [u8]),
    Subscribed(&'a Subscribed),
    Skip(&'a Skip),
    Unsubscribe(&'a Unsubscribe),
    /// Of a type that may be ignored.
    Ignorable(u8),
}
