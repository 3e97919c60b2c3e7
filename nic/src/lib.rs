//! What a port is: a receive queue and a transmit queue of Ethernet frames that one thread polls.
//!
//! A port never blocks and never calls back. Frames are owned values: whoever holds one may read and
//! write it, sending one consumes it, dropping one gives its buffer back to the pool it came from.
//! This crate holds the trait and every port that needs no C library; ports over DPDK live in
//! `nic/dpdk`.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod headers;
pub mod memif;
pub mod pool;
pub mod port;
pub mod sim;
pub mod socket;

pub use pool::{Pool, PoolFrame};
pub use port::{
    Capabilities, ChecksumRequest, Frame, FrameQueue, Peer, Port, PortStats, TxChecksum,
};
