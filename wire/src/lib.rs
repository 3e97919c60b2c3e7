//! The wire protocol of `docs/protocol.md`: datagrams and frames as checked views, and their one
//! emitter.
//!
//! [`Datagram::parse`] looks at untrusted bytes once; everything it hands out is infallible afterwards.
//! [`DatagramWriter`] is the only place that writes datagrams, [`BlockWriter`] the only one that writes
//! blocks. Nothing here allocates, panics on input, or does I/O.
#![no_std]
#![forbid(unsafe_code)]

mod block;
mod code;
mod datagram;
mod emit;
mod frame;
mod refusal;

pub use block::{Block, BlockWriter, MESSAGE_HEADER_BYTES, Message, Messages, message_bytes};
pub use code::Code;
pub use datagram::{Datagram, DatagramHeader, Frames};
pub use emit::{DatagramWriter, rewrite_as_deliver};
pub use frame::{
    Ack, Beat, Close, Cookie, Credit, Data, DataHeader, ErrorHeader, Frame, FrameHead, Hello,
    OpenHeader, OpenStreamHeader, Opened, Skip, StreamOpened, SubscribeHeader, Subscribed,
    Unsubscribe,
};
pub use refusal::WireError;

/// The protocol version that this crate speaks.
pub const VERSION: u8 = 1;
/// Bytes of the datagram header.
pub const DATAGRAM_HEADER_BYTES: usize = 32;
/// Bytes of the header that publish and deliver frames share.
pub const DATA_HEADER_BYTES: usize = 32;
/// The most bytes of a datagram, room for the tag included: the UDP payload of a 1,500-byte IPv6 packet.
pub const MAX_DATAGRAM_BYTES: usize = 1452;
/// The most bytes that header and frames of a datagram may take: the rest is the tag's.
pub const MAX_UNSEALED_BYTES: usize = MAX_DATAGRAM_BYTES - 16;
/// The default limit of a message block, in bytes.
pub const DEFAULT_MAX_BLOCK_BYTES: usize = 1280;
/// Bytes of the datagram that carries a hello.
pub const HELLO_DATAGRAM_BYTES: usize = 1200;
/// The slot of datagrams outside a session.
pub const NO_SLOT: u32 = u32::MAX;
/// The handle that means the session itself.
pub const NO_HANDLE: u32 = u32::MAX;
/// The round after which none comes: the publication is over.
pub const LAST_ROUND: u64 = u64::MAX;

/// CRC32C (Castagnoli; iSCSI, RFC 3720) of `bytes`.
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// `n` rounded up to a multiple of 8.
#[inline]
pub const fn pad8(n: usize) -> usize {
    (n + 7) & !7
}
