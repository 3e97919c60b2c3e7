//! What can go wrong while a socket port is opened.

use std::io;
use std::net::SocketAddr;

/// Why a socket port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The operating system refused an operation on the socket.
    #[error("UDP socket {address}: cannot {action}: {source}")]
    Io {
        /// The address to bind.
        address: SocketAddr,
        /// What was tried, as a phrase after "cannot".
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
}
