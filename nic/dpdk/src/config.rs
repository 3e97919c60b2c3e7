//! How a port over DPDK is described, and DPDK's words for it.

use std::path::PathBuf;

use crate::error::DpdkError;

/// How a port is opened.
#[derive(Clone, Debug)]
pub struct DpdkPortConfig {
    /// The port's name: 1 to 16 letters, digits, `-` and `_`, unique in the process.
    pub name: String,
    /// What the port is.
    pub kind: Kind,
    /// Buffers of the port's pool (64 or more), those included that the device keeps ready for receiving.
    pub frames: u32,
    /// Slots of the receive ring, rounded to what the device can; without meaning for memif and null.
    pub rx_ring: u16,
    /// Slots of the transmit ring, rounded to what the device can; without meaning for memif and null.
    pub tx_ring: u16,
}

impl DpdkPortConfig {
    /// The default sizes: 4,096 buffers, rings of 512 slots.
    pub fn new(name: impl Into<String>, kind: Kind) -> DpdkPortConfig {
        DpdkPortConfig { name: name.into(), kind, frames: 4096, rx_ring: 512, tx_ring: 512 }
    }
}

/// What a port is. Each is one of DPDK's virtual devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// net_null: always has frames of unspecified bytes to receive, and forgets what is sent.
    Null {
        /// Length of the received frames in bytes, 14 to 2,048.
        frame_bytes: u16,
    },
    /// net_ring: what is sent is received by the same port, or, of a pair
    /// ([`DpdkPortSeed::prepare_pair`](crate::DpdkPortSeed::prepare_pair)), by the other one. Buffers change
    /// hands without a copy.
    Ring,
    /// net_memif: shared memory with one trusted peer.
    Memif(MemifConfig),
    /// net_tap: an interface of the kernel, made with the port and gone with it.
    Tap {
        /// The interface's name, at most 15 bytes.
        interface: String,
        /// The kernel's MAC address on the interface; random if there is none. Frames of the port carry
        /// another one.
        mac: Option<[u8; 6]>,
    },
}

/// A net_memif port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemifConfig {
    /// The control socket's path, at most 107 bytes, without commas and equals signs.
    pub socket: PathBuf,
    /// The interface id; both ends have the same.
    pub id: u32,
    /// Which end this is.
    pub role: MemifRole,
    /// Each ring has 2 to the power of this many slots, 1 to 14.
    pub ring_log2: u8,
    /// Bytes of a slot's buffer, 64 to 65,535.
    pub buffer_bytes: u16,
}

impl MemifConfig {
    /// Id 0, rings of 1,024 slots of 2,048 bytes.
    pub fn new(socket: impl Into<PathBuf>, role: MemifRole) -> MemifConfig {
        MemifConfig { socket: socket.into(), id: 0, role, ring_log2: 10, buffer_bytes: 2048 }
    }
}

/// The ends of a memif connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemifRole {
    /// Listens on the socket and maps the client's memory.
    Server,
    /// Connects to the socket and makes the memory.
    Client,
}

/// A virtual device in DPDK's words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Vdev {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl DpdkPortConfig {
    /// The device's name, whose driver follows from its beginning, and its arguments.
    pub(crate) fn vdev(&self) -> Result<Vdev, DpdkError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || self.name.len() > 16 || !self.name.chars().all(plain) {
            return wrong("port name", &self.name, "1 to 16 letters, digits, - and _");
        }
        if self.frames < 64 {
            return wrong("frames", &self.frames.to_string(), "64 or more");
        }
        let (driver, arguments) = match &self.kind {
            Kind::Null { frame_bytes } => {
                if !(14..=2048).contains(frame_bytes) {
                    return wrong("frame_bytes", &frame_bytes.to_string(), "14 to 2048");
                }
                ("net_null", format!("size={frame_bytes}"))
            }
            Kind::Ring => ("net_ring", String::new()),
            Kind::Memif(memif) => ("net_memif", memif.arguments()?),
            Kind::Tap { interface, mac } => ("net_tap", tap_arguments(interface, *mac)?),
        };
        Ok(Vdev { name: format!("{driver}_{}", self.name), arguments })
    }
}

impl MemifConfig {
    fn arguments(&self) -> Result<String, DpdkError> {
        let socket = self.socket.to_string_lossy();
        let usable = self.socket.to_str().is_some_and(|path| {
            (1..=107).contains(&path.len()) && !path.contains([',', '=', '[', ']', '"'])
        });
        if !usable {
            return wrong("memif socket", &socket, "a path of 1 to 107 bytes without , = [ ] \"");
        }
        if !(1..=14).contains(&self.ring_log2) {
            return wrong("ring_log2", &self.ring_log2.to_string(), "1 to 14");
        }
        if self.buffer_bytes < 64 {
            return wrong("buffer_bytes", &self.buffer_bytes.to_string(), "64 to 65535");
        }
        let role = match self.role {
            MemifRole::Server => "server",
            MemifRole::Client => "client",
        };
        Ok(format!(
            "role={role},id={},socket={socket},socket-abstract=no,rsize={},bsize={},zero-copy=no",
            self.id, self.ring_log2, self.buffer_bytes
        ))
    }
}

fn tap_arguments(interface: &str, mac: Option<[u8; 6]>) -> Result<String, DpdkError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if !(1..=15).contains(&interface.len()) || !interface.chars().all(plain) {
        return wrong("tap interface", interface, "1 to 15 letters, digits, - _ and .");
    }
    let mut arguments = format!("iface={interface}");
    if let Some([a, b, c, d, e, f]) = mac {
        arguments += &format!(",mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    }
    Ok(arguments)
}

fn wrong<T>(setting: &'static str, value: &str, allowed: &'static str) -> Result<T, DpdkError> {
    Err(DpdkError::Setting { setting, value: value.to_owned(), allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vdev(kind: Kind) -> Result<Vdev, DpdkError> {
        DpdkPortConfig::new("p1", kind).vdev()
    }

    #[test]
    fn kinds_are_put_in_dpdks_words() {
        let memif = MemifConfig::new("/run/m.sock", MemifRole::Client);
        let made = vdev(Kind::Memif(memif)).expect("valid");
        assert_eq!(made.name, "net_memif_p1");
        assert_eq!(
            made.arguments,
            "role=client,id=0,socket=/run/m.sock,socket-abstract=no,rsize=10,bsize=2048,zero-copy=no"
        );
        let mac = Some([2, 0, 0, 0, 0, 0xaf]);
        let made = vdev(Kind::Tap { interface: "tap0".into(), mac }).expect("valid");
        assert_eq!(made.arguments, "iface=tap0,mac=02:00:00:00:00:af");
    }

    #[test]
    fn what_would_be_read_as_another_argument_is_refused() {
        let sockets = ["/run/m,role=server", "/run/a=b", "", "/run/[x]"];
        for socket in sockets {
            let memif = MemifConfig::new(socket, MemifRole::Client);
            assert!(vdev(Kind::Memif(memif)).is_err(), "{socket}");
        }
        for interface in ["tap0,remote=eth0", "", "a-name-of-16-byte"] {
            assert!(vdev(Kind::Tap { interface: interface.into(), mac: None }).is_err());
        }
        assert!(vdev(Kind::Null { frame_bytes: 13 }).is_err());
        let mut config = DpdkPortConfig::new("a b", Kind::Ring);
        assert!(config.vdev().is_err());
        config.name = "a".into();
        config.frames = 63;
        assert!(config.vdev().is_err());
    }
}
