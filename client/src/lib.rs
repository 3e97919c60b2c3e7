//! Publish to and subscribe from a MemoryStreamer shard, over any port.
//!
//! A [`Client`] owns a port and the sessions over it. It has no thread: its owner calls
//! [`Client::poll`] with the time, and is told of messages, acknowledgements and everything that went
//! wrong as [`Event`]s. A restart of the shard is survived without losing or repeating what was
//! acknowledged; a log that lost its tail is told, never skipped. The wire protocol is
//! `docs/protocol.md`.
//!
//! ```no_run
//! use mstream_client::{Event, From, Identity, PublicationConfig, SessionConfig, connect};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = connect::udp("127.0.0.1:7500".parse::<std::net::SocketAddr>()?)?;
//! let clock = std::time::Instant::now();
//! let session = client.open_session(SessionConfig::new(Identity::Anonymous));
//! let trades = client.open_publication(session, "trades", &PublicationConfig::default());
//! client.subscribe(session, "trades", From::Latest, 1024);
//! let mut done = false;
//! while !done {
//!     client.poll(clock.elapsed().as_nanos() as u64, |event| match event {
//!         Event::Message { offset, message, .. } => {
//!             println!("{offset}: {} bytes", message.payload.len());
//!             done = true;
//!         }
//!         _ => {}
//!     });
//!     if client.is_open(trades) && client.sequences(trades).1 == 1 {
//!         client.publish(trades, b"", b"", b"hello")?;
//!         client.flush();
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod backoff;
mod client;
pub mod connect;
mod event;
mod link;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
mod publication;
mod retained;
mod session;
mod stream;
mod subscription;

pub use client::Client;
pub use event::{Ended, Event, Lost, PublicationId, PublishError, SessionId, Stop, SubscriptionId};
pub use link::{Addresses, LinkCounters};
pub use mstream_nic::headers::IpPair;
pub use publication::PublicationConfig;
pub use session::{Identity, SessionConfig};
pub use stream::StreamRef;
pub use subscription::{From, Position};
