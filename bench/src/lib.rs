//! Measuring the appliance, and something to publish to it.

pub mod itch;
