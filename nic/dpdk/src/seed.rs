//! Ports on their way from the control thread to the thread that will poll them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use crate::config::{DpdkPortConfig, Kind, MemifConfig, MemifRole};
use crate::device::Device;
use crate::eal::{Eal, ThreadRegistration};
use crate::error::DpdkError;
use crate::pool::PacketPool;
use crate::port::DpdkPort;
use crate::ring::Ring;

/// How often a link is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(1);

/// A device that runs and is not polled yet. Made on a control thread, opened on the polling one.
#[derive(Debug)]
pub struct DpdkPortSeed {
    pub(crate) device: Device,
    pub(crate) traits: Traits,
}

/// What the kinds of ports differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Polling enters the kernel.
    pub(crate) syscalls: bool,
    /// A lost peer is found again by starting the device anew.
    pub(crate) reconnects: bool,
    /// Once a receive found no buffer, the driver looks at waiting frames again only when another one
    /// arrives. (net_tap goes by a signal for each arrival, and takes it for seen.) So it must never
    /// find none.
    pub(crate) wakes_once: bool,
}

impl Traits {
    fn of(kind: &Kind) -> Traits {
        let client = matches!(kind, Kind::Memif(MemifConfig { role: MemifRole::Client, .. }));
        let tap = matches!(kind, Kind::Tap { .. });
        Traits { syscalls: tap, reconnects: client, wakes_once: tap }
    }
}

impl DpdkPortSeed {
    /// Makes the port's pool and device and starts it. A memif server listens from now on (a socket file
    /// that no server answers on is replaced); a memif client needs its server to listen.
    ///
    /// # Errors
    /// A setting out of range, not enough memory for the pool, or a refusal by DPDK.
    pub fn prepare(eal: &Eal, config: &DpdkPortConfig) -> Result<DpdkPortSeed, DpdkError> {
        config.vdev()?;
        let running = eal.running();
        let pool = Arc::new(PacketPool::new(running, &config.name, config.frames)?);
        let device = match &config.kind {
            Kind::Ring => {
                let ring = Arc::new(Ring::new(running, &config.name, config.tx_ring, &pool)?);
                Device::over_rings(running, config, &pool, &ring, &ring)?
            }
            Kind::Memif(memif) if memif.role == MemifRole::Server => {
                let failed = |action| {
                    move |error: io::Error| DpdkError::Port {
                        port: config.name.clone(),
                        action,
                        reason: format!("{}: {error}", memif.socket.display()),
                    }
                };
                remove_stale(&memif.socket).map_err(failed("listen on its socket"))?;
                let device = Device::new(running, config, &pool)?;
                fs::set_permissions(&memif.socket, fs::Permissions::from_mode(0o600))
                    .map_err(failed("make its socket private"))?;
                device
            }
            Kind::Tap { interface, .. } => {
                if exists(interface) {
                    return Err(DpdkError::Port {
                        port: config.name.clone(),
                        action: "make its interface",
                        reason: format!("{interface} exists already"),
                    });
                }
                Device::new(running, config, &pool)?
            }
            _ => Device::new(running, config, &pool)?,
        };
        Ok(DpdkPortSeed { device, traits: Traits::of(&config.kind) })
    }

    /// Makes two net_ring ports, each of which receives what the other sends. They share one pool, of the
    /// sum of both sizes: a buffer that is sent is the receiver's.
    ///
    /// # Errors
    /// As [`DpdkPortSeed::prepare`], and for ports that are not [`Kind::Ring`].
    pub fn prepare_pair(
        eal: &Eal,
        a: &DpdkPortConfig,
        b: &DpdkPortConfig,
    ) -> Result<(DpdkPortSeed, DpdkPortSeed), DpdkError> {
        for config in [a, b] {
            config.vdev()?;
            if config.kind != Kind::Ring {
                return Err(DpdkError::Setting {
                    setting: "kind of a pair",
                    value: format!("{:?}", config.kind),
                    allowed: "Ring",
                });
            }
        }
        let running = eal.running();
        let frames = a.frames.saturating_add(b.frames);
        let pool = Arc::new(PacketPool::new(running, &a.name, frames)?);
        let from_a = Arc::new(Ring::new(running, &a.name, a.tx_ring, &pool)?);
        let from_b = Arc::new(Ring::new(running, &b.name, b.tx_ring, &pool)?);
        let traits = Traits::of(&Kind::Ring);
        let of_a = Device::over_rings(running, a, &pool, &from_b, &from_a)?;
        let of_b = Device::over_rings(running, b, &pool, &from_a, &from_b)?;
        Ok((DpdkPortSeed { device: of_a, traits }, DpdkPortSeed { device: of_b, traits }))
    }

    /// The device's MAC address; of a tap the kernel's.
    pub fn mac(&self) -> [u8; 6] {
        self.device.mac()
    }

    /// Whether the link is up: for memif, whether a peer is connected.
    pub fn link_up(&self) -> bool {
        self.device.link_up()
    }

    /// Waits until the link is up, at most `timeout`; returns whether it is.
    pub fn wait_for_link(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while !self.link_up() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// The port, to be polled by the calling thread, which must be registered: without that its every
    /// take and free would go to memory that is shared between threads.
    pub fn open(self, _registration: &ThreadRegistration) -> DpdkPort {
        DpdkPort::new(self)
    }
}

/// Whether the kernel has the interface. A second tap of that name would get a part of its frames.
fn exists(interface: &str) -> bool {
    socket(AddressFamily::INET, SocketType::DGRAM, None)
        .is_ok_and(|any| name_to_index(any, interface).is_ok())
}

/// Removes a socket that no server answers on: DPDK's server would refuse to start. Anything else is
/// left for DPDK to refuse.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A server of another kind of socket answers with another error.
        _ => Err(io::Error::from(io::ErrorKind::AddrInUse)),
    }
}
