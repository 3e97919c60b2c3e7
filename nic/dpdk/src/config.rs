//! How a port over DPDK is described.

use std::path::PathBuf;

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
    /// The device sees to checksums as far as it can. Without, the port's user does; the outcome is the
    /// same.
    pub checksums: bool,
}

impl DpdkPortConfig {
    /// The default sizes: 4,096 buffers, rings of 512 slots; checksums by the device.
    pub fn new(name: impl Into<String>, kind: Kind) -> DpdkPortConfig {
        let name = name.into();
        DpdkPortConfig { name, kind, frames: 4096, rx_ring: 512, tx_ring: 512, checksums: true }
    }
}

/// What a port is: one of DPDK's virtual devices, or a device on the PCI bus.
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
    /// net_af_xdp: one receive and transmit queue of an interface that the kernel has and that is up. The
    /// port gets all frames of that queue; the kernel sees none of them. Once in the life of a process: the
    /// driver keeps the queue until the process ends.
    AfXdp {
        /// The interface's name, at most 15 bytes.
        interface: String,
        /// Number of the queue.
        queue: u16,
    },
    /// net_af_packet: an interface that the kernel has, by a packet socket with mapped rings. The kernel
    /// sees all frames too.
    AfPacket {
        /// The interface's name, at most 15 bytes.
        interface: String,
    },
    /// net_pcap: receives what stands in a file, once, and writes what is sent to a file.
    Pcap {
        /// What is received; nothing if there is none.
        rx: Option<PathBuf>,
        /// Where to write what is sent, made anew; if there is none it is forgotten.
        tx: Option<PathBuf>,
    },
    /// A device on the PCI bus, bound to a driver that DPDK can use (vfio-pci). DPDK must have been
    /// started with its address ([`EalConfig::pci`](crate::EalConfig::pci)).
    ///
    /// Not tested in any run of this crate's own tests: they have no such device.
    Pci {
        /// Its address: `0000:3b:00.0`.
        address: String,
    },
}

impl Kind {
    /// The kernel's interface that the port shares with it, if it is one that the kernel had before.
    pub(crate) fn kernel_interface(&self) -> Option<&str> {
        match self {
            Kind::AfXdp { interface, .. } | Kind::AfPacket { interface } => Some(interface),
            _ => None,
        }
    }
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
