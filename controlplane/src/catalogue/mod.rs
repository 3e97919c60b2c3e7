//! The catalogue: which streams and publishers there are.
//!
//! [`Catalogue`] is a state machine without I/O, clocks or randomness: commands in, events or refusals out. A
//! [`Journal`] makes commands durable before they are applied; [`FileJournal`] is the one of a single node
//! (docs/catalogue-format.md). [`Keeper`] joins the two for concurrent use.

mod command;
mod configured;
mod file;
mod ids;
mod journal;
#[cfg(test)]
mod journal_tests;
mod keeper;
#[cfg(test)]
mod model_tests;
mod name;
mod record;
mod refusal;
mod state;
#[cfg(test)]
mod state_tests;
mod table;

pub use command::{Command, Configured, Event, Publisher, Rules, Stream, StreamKey, Watermark};
pub use configured::{directory_for, take_configured};
pub use file::{Directory, read_only};
pub use journal::{FileJournal, Journal, JournalError, Medium, OpenError, Recovered, ReplaceError};
pub use keeper::Keeper;
pub use name::{MAX_NAME_BYTES, NameError, check_name};
pub use refusal::{Kind, Refusal};
pub use state::Catalogue;

/// Ids with this bit belong to anonymous publishers; no id of the catalogue has it.
pub const ANONYMOUS: u64 = 1 << 63;
