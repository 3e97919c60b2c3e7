//! A whole world from one seed: the product's shard, poll loop and clients over simulated ports,
//! memory that can lose power, and a virtual clock.
//!
//! [`run`] plays one seed: publishers and subscribers work while everything that can go wrong does,
//! then all faults end and everything must come to rest. An oracle looks at the log after every poll
//! of the shard and at everything the clients are told; the first broken promise is a [`Failure`]
//! that names the seed, the step and the command that repeats it.

mod content;
mod disturb;
mod faults;
mod oracle;
mod parts;
mod publisher;
mod random;
mod server;
mod subscriber;
mod trace;
mod world;

pub use faults::{Injected, Kind, Mix};
pub use parts::{Honest, Parts};
pub use server::{SHARD_MAC, VirtualClock};
pub use world::{Failure, Outcome, Run, run};
