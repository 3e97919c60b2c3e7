//! The control plane: the configuration, the memory it asks for, and the upkeep of segments.
//!
//! It knows the log's directory but not the data plane: what it prepares is handed over through
//! [`housekeeper::Owner`], and what is sealed comes through [`sealed::Lender`]; the binary implements both over the
//! shard's queues.

pub mod admin;
pub mod budget;
pub mod catalogue;
pub mod config;
pub mod footers;
pub mod housekeeper;
pub mod metrics;
pub mod sealed;

pub use budget::{Available, Budget};
pub use config::{Config, ConfigError};
pub use footers::Footers;
pub use housekeeper::{Housekeeper, Owner};
pub use sealed::{Job, Lender, SealedReader};
