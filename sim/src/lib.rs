//! A whole world from one seed: the product's shard, poll loop and clients over simulated ports,
//! memory that can lose power, and virtual clocks.
//!
//! [`run`] plays one seed: publishers and subscribers work while everything that can go wrong does,
//! then all faults end and everything must come to rest. The invariants are looked at after every poll
//! of the shard and of a client; the first broken promise is a [`Failure`] that names the seed, the step,
//! the invariant and the command that repeats it. `docs/simulation.md` tells more.

mod campaign;
mod catalogue;
mod churn;
mod clients;
mod clock;
mod cold;
mod config;
mod content;
mod disturb;
mod faults;
mod forge;
mod history;
pub mod invariants;
mod newest;
mod parts;
#[cfg(all(feature = "planted", debug_assertions))]
pub mod planted;
mod play;
mod publisher;
mod random;
mod records;
mod server;
mod shrink;
mod sizes;
mod subscriber;
mod tempo;
mod trace;
mod world;

pub use campaign::{Campaign, Seeds, Totals, play_seeds};
pub use clock::VirtualClock;
pub use faults::{Injected, Kind, Mix};
pub use parts::{Honest, Parts};
pub use server::SHARD_MAC;
pub use shrink::shrink;
pub use world::{Failure, Outcome, PANIC, Run, playing, run};
