//! Clients over the ports that need no privileges: kernel UDP and memif.

use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;

use mstream_nic::memif::{ClientConfig, ClientPort, MemifError};

use crate::client::Client;
use crate::link::Addresses;

/// 16 bytes that nobody can guess, for [`Client::new`].
///
/// # Errors
/// When the system gives no randomness.
pub fn random_key() -> std::io::Result<[u8; 16]> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(key)
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The memif socket could not be connected.
    #[error(transparent)]
    Memif(#[from] MemifError),
    /// The system refused something.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Its reason.
        source: std::io::Error,
    },
}

/// A client over a memif socket of an appliance on this machine, for the shard at `shard`.
///
/// # Errors
/// As [`ClientPort::connect`], or when the system gives no randomness.
pub fn memif(
    socket: &Path,
    shard: SocketAddrV4,
    timeout: Duration,
) -> Result<Client<ClientPort>, ConnectError> {
    let key = random_key()
        .map_err(|source| ConnectError::Io { action: "asking for random bytes", source })?;
    let port = ClientPort::connect(&ClientConfig::new(socket), timeout)?;
    Ok(Client::new(port, memif_addresses(shard, &key), key))
}

/// Addresses on a wire that only this client and the shard share: any will do, so that the shard's
/// neighbour is taken and a MAC address of the locally administered kind.
fn memif_addresses(shard: SocketAddrV4, key: &[u8; 16]) -> Addresses {
    let [a, b, c, d] = shard.ip().octets();
    let [x, y, z, port_high, port_low, ..] = *key;
    Addresses {
        mac: [0x02, 0x6d, 0x73, x, y, z],
        ip: [a, b, c, if d == 2 { 3 } else { 2 }],
        // From the range of ephemeral ports.
        udp_port: 0xc000 | u16::from(port_high) << 8 | u16::from(port_low),
        shard_ip: shard.ip().octets(),
        shard_udp_port: shard.port(),
    }
}
