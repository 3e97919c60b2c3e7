//! Clients over the ports that need no privileges: kernel UDP and memif.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use mstream_nic::memif::{ClientConfig, ClientPort, MemifError};
use mstream_nic::socket::{SocketError, SocketPort};

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
    /// The UDP socket could not be made.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The system gives no randomness.
    #[error("asking for random bytes: {0}")]
    Random(std::io::Error),
}

/// Frames of a UDP client's port.
const UDP_FRAMES: usize = 2048;

/// A client over a kernel UDP socket of its own, for the shard at `shard`.
///
/// # Errors
/// When the socket cannot be made, or the system gives no randomness.
pub fn udp(shard: SocketAddrV4) -> Result<Client<SocketPort>, ConnectError> {
    let key = random_key().map_err(ConnectError::Random)?;
    let local = if shard.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let port = SocketPort::bind(SocketAddrV4::new(local, 0), UDP_FRAMES)?;
    let addresses = Addresses {
        mac: [0; 6],
        ip: port.local_address().ip().octets(),
        udp_port: port.local_address().port(),
        shard_ip: shard.ip().octets(),
        shard_udp_port: shard.port(),
    };
    Ok(Client::new(port, addresses, key))
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
    let key = random_key().map_err(ConnectError::Random)?;
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
