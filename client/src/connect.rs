//! Clients over the ports that need no privileges: kernel UDP and memif.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use mstream_nic::headers::IpPair;
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

/// A client over a kernel UDP socket of its own, for the shard at `shard`, an address of either family.
///
/// # Errors
/// When the socket cannot be made, or the system gives no randomness.
///
/// # Panics
/// If the system bound the socket to an address of another family: a bug of the system.
pub fn udp(shard: impl Into<SocketAddr>) -> Result<Client<SocketPort>, ConnectError> {
    let shard = shard.into();
    let key = random_key().map_err(ConnectError::Random)?;
    let local: SocketAddr = match shard {
        SocketAddr::V4(shard) if shard.ip().is_loopback() => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(shard) if shard.ip().is_loopback() => (Ipv6Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(shard) => {
            // What names the interface of a link-local address goes with all that is sent.
            SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, shard.scope_id()).into()
        }
    };
    let port = SocketPort::bind(local, UDP_FRAMES)?;
    let ips = IpPair::new(port.local_address().ip(), shard.ip())
        .expect("a socket has the family that it was bound to");
    let addresses = Addresses {
        mac: [0; 6],
        vlan: None,
        ips,
        udp_port: port.local_address().port(),
        shard_udp_port: shard.port(),
    };
    Ok(Client::new(port, addresses, key))
}

/// A client over a memif socket of an appliance on this machine, for the shard at `shard`, an address of
/// either family.
///
/// # Errors
/// As [`ClientPort::connect`], or when the system gives no randomness.
pub fn memif(
    socket: &Path,
    shard: impl Into<SocketAddr>,
    timeout: Duration,
) -> Result<Client<ClientPort>, ConnectError> {
    memif_on_vlan(socket, shard, None, timeout)
}

/// As [`memif`], for a port of the appliance that is on VLAN `vlan`, 1 to 4094.
///
/// # Errors
/// As [`memif`].
pub fn memif_on_vlan(
    socket: &Path,
    shard: impl Into<SocketAddr>,
    vlan: Option<u16>,
    timeout: Duration,
) -> Result<Client<ClientPort>, ConnectError> {
    let key = random_key().map_err(ConnectError::Random)?;
    let port = ClientPort::connect(&ClientConfig::new(socket), timeout)?;
    Ok(Client::new(port, memif_addresses(shard.into(), vlan, &key), key))
}

/// Addresses on a wire that only this client and the shard share: any will do, so that the shard's
/// neighbour is taken and a MAC address of the locally administered kind.
fn memif_addresses(shard: SocketAddr, vlan: Option<u16>, key: &[u8; 16]) -> Addresses {
    let neighbour = |last: u8| if last == 2 { 3 } else { 2 };
    let ips = match shard.ip() {
        IpAddr::V4(dst) => {
            let [a, b, c, d] = dst.octets();
            IpPair::V4 { src: Ipv4Addr::new(a, b, c, neighbour(d)), dst }
        }
        IpAddr::V6(dst) => {
            let mut src = dst.octets();
            src[15] = neighbour(src[15]);
            IpPair::V6 { src: src.into(), dst }
        }
    };
    let [x, y, z, port_high, port_low, ..] = *key;
    Addresses {
        mac: [0x02, 0x6d, 0x73, x, y, z],
        vlan,
        ips,
        // From the range of ephemeral ports.
        udp_port: 0xc000 | u16::from(port_high) << 8 | u16::from(port_low),
        shard_udp_port: shard.port(),
    }
}
