//! The memif port: frames over shared memory between processes of one machine.
//!
//! This is memif 2.0 (the protocol of FD.io and of DPDK's net_memif) in Ethernet mode, one ring each
//! way, polled on both sides. The client makes the memory and hands it over on a unix socket; the
//! server maps it. The appliance is the server:
//!
//! - [`Listener`] runs on a control thread. It owns the socket, does the handshake, checks, maps and
//!   populates what a client hands over, and unmaps it again after the port let go of it.
//! - [`ServerPort`] runs on a shard's thread and only polls. It makes no system call, allocates
//!   nothing and takes no lock, whatever its peers do.
//! - [`ClientPort`] is the other end, for the client library.
//!
//! # What a peer can do
//! The memory of a connection can be changed by the peer at any moment, so nothing in it is believed:
//! ring positions and descriptors are read once into private memory and checked there, a frame is
//! copied once into a private buffer before anyone looks at it, and nothing is read back from a
//! transmit buffer. Memory is accepted only if it cannot shrink under the mapping. A peer that breaks
//! the rules loses its connection; the others do not notice.

mod client;
mod error;
mod handover;
mod handshake;
mod listener;
mod message;
mod offer;
mod rings;
mod server;
#[expect(unsafe_code, reason = "memory that another process changes")]
mod shared;
mod socket;

pub use client::{ClientConfig, ClientPort};
pub use error::MemifError;
pub use handover::{ListenerCounters, ListenerStats};
pub use listener::{Listener, ListenerConfig};
pub use server::{ServerPort, ServerPortSeed};
pub use shared::MAX_RING_LOG2;
