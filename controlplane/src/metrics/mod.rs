//! What a node tells of itself in numbers: one table of metrics, read from a snapshot of the admin API, written
//! as Prometheus text or exported by OTLP.
//!
//! A snapshot is taken from memory that the shards only write, so nobody who asks costs the message path
//! anything.

mod otlp;
mod page;
mod sample;
mod table;
mod text;

pub use otlp::{Otlp, OtlpError, Snapshot};
pub use page::page;
pub use table::{Kind, METRICS, Metric, Origin, REASONS};
pub use text::{CONTENT_TYPE, render};
