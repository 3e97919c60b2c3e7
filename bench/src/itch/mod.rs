//! Market data to publish: NASDAQ TotalView-ITCH 5.0 sessions, read, generated and checked.
//!
//! [`message`] knows the layouts, [`generate`] makes a session from a seed, and [`check`] proves that a session,
//! from wherever it comes, keeps the rules.
//! Generator and checker share the layouts and nothing else.

pub mod check;
pub mod generate;
pub mod message;
mod random;
