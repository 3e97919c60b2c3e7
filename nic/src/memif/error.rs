//! What can go wrong while a memif socket is opened or a connection is made.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a memif port could not be opened or connected.
#[derive(Debug, thiserror::Error)]
pub enum MemifError {
    /// The operating system refused an operation on the control socket or the shared memory.
    #[error("memif {}: cannot {action}: {source}", path.display())]
    Io {
        /// The control socket's path.
        path: PathBuf,
        /// What was tried, as a phrase after "cannot".
        action: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Another server answers on the socket.
    #[error("memif {}: in use, another server answers on this socket", path.display())]
    InUse {
        /// The control socket's path.
        path: PathBuf,
    },
    /// Something that is no socket is at the socket's path; it is left alone.
    #[error("memif {}: exists and is not a socket", path.display())]
    NotASocket {
        /// The control socket's path.
        path: PathBuf,
    },
    /// A setting is outside its limits.
    #[error("memif {}: {setting} is {value}, must be {allowed}", path.display())]
    Setting {
        /// The control socket's path.
        path: PathBuf,
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The server refused the connection or broke the protocol during the handshake.
    #[error("memif {}: handshake failed: {reason}", path.display())]
    Refused {
        /// The control socket's path.
        path: PathBuf,
        /// The server's reason, or what was wrong with its message.
        reason: String,
    },
    /// The handshake did not end in time.
    #[error("memif {}: no connection within {timeout:?}: {last}", path.display())]
    TimedOut {
        /// The control socket's path.
        path: PathBuf,
        /// How long was waited.
        timeout: Duration,
        /// The last thing that went wrong, or what was waited for.
        last: String,
    },
}
