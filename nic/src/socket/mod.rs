//! The kernel-socket port: a UDP socket that speaks in frames, for networks that the kernel owns.
//!
//! Its users see the same Ethernet frames as on every other port. In front of what arrives, headers
//! are made from the addresses that the kernel names; of what leaves, only the payload is sent, to the
//! destination address of its headers. MAC addresses are zero and mean nothing.

#[expect(unsafe_code, reason = "calls of recvmmsg and sendmmsg")]
mod batch;
mod error;
mod port;

pub use error::SocketError;
pub use port::SocketPort;
