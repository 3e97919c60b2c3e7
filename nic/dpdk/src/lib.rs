//! Ports over DPDK: packet buffers of DPDK's pools, driven by DPDK's poll-mode drivers.
//!
//! The order of things:
//!
//! 1. [`Eal::init`] starts DPDK, once in the life of the process, on a thread of its own.
//! 2. [`DpdkPortSeed::prepare`] makes and starts a device on a control thread.
//! 3. The thread that is to poll pins itself and calls [`Eal::register_thread`]; with the registration it
//!    turns the seed into a [`DpdkPort`] ([`DpdkPortSeed::open`]) and polls that.
//! 4. At the end [`DpdkPort::close`] on the polling thread, which also checks that every buffer came
//!    back, then the registration is dropped, then [`Eal::close`].
//!
//! The types keep that order: whatever was made from DPDK's memory holds DPDK, so nothing dangles if
//! something is dropped early or never.
//!
//! # Trust
//! [`Kind::Memif`] is DPDK's net_memif. It believes its peer's descriptors and unmaps memory under the
//! poller when a peer goes away, so a peer can crash this process: it is for tests, for measurements and
//! for peers that are trusted like the process itself. The appliance's own memif port is
//! [`mstream_nic::memif`].

mod config;
#[expect(unsafe_code, reason = "calls into DPDK")]
mod device;
#[expect(unsafe_code, reason = "calls into DPDK")]
mod eal;
mod error;
mod frame;
#[expect(unsafe_code, reason = "asks the kernel by ioctl")]
mod interface;
#[expect(unsafe_code, reason = "calls into DPDK")]
mod interrupt;
#[expect(unsafe_code, reason = "buffers live in DPDK's memory")]
mod mbuf;
#[expect(unsafe_code, reason = "calls into DPDK")]
mod pool;
mod port;
mod probe;
#[expect(unsafe_code, reason = "calls into DPDK")]
mod queue;
#[expect(unsafe_code, reason = "calls into DPDK")]
mod ring;
mod seed;
mod words;

pub use config::{DpdkPortConfig, Kind, MemifConfig, MemifRole};
pub use eal::{Eal, EalConfig, LogLevel, Memory, ThreadRegistration};
pub use error::{DpdkError, PoolLeak};
pub use frame::DpdkFrame;
pub use interface::interface_exists;
pub use port::DpdkPort;
pub use probe::{DpdkProbe, Link};
pub use seed::DpdkPortSeed;
