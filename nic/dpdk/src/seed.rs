//! Ports on their way from the control thread to the thread that will poll them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{DpdkPortConfig, Kind, MemifConfig, MemifRole};
use crate::device::{Device, RECEIVE_QUEUE};
use crate::eal::{Eal, Running, ThreadRegistration};
use crate::error::DpdkError;
use crate::interface::{Interface, interface_exists};
use crate::mbuf::ROOM;
use crate::pool::PacketPool;
use crate::port::DpdkPort;
use crate::probe::{DpdkProbe, Link};
use crate::ring::Ring;

/// How often a link is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(1);
/// How long a queue of an interface may be busy after its former user went.
const BUSY: Duration = Duration::from_secs(1);

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
    /// A link that is down is the probe's to find out: the driver does not say it, or not quickly, and
    /// takes frames that then never leave.
    pub(crate) watched: bool,
    /// When it is closed, the driver gives none of the buffers back that it has.
    pub(crate) forgets: bool,
    /// Bytes of a frame that the driver takes and hands over at most, and a received one has room for.
    pub(crate) room: u16,
}

impl Traits {
    fn of(kind: &Kind) -> Traits {
        let client = matches!(kind, Kind::Memif(MemifConfig { role: MemifRole::Client, .. }));
        let tap = matches!(kind, Kind::Tap { .. });
        let interface = kind.kernel_interface().is_some();
        let pcap = matches!(kind, Kind::Pcap { .. });
        Traits {
            syscalls: tap || interface || pcap,
            reconnects: client,
            wakes_once: tap,
            watched: interface || matches!(kind, Kind::Pci { .. }),
            forgets: matches!(kind, Kind::AfXdp { .. }),
            room: match kind {
                // The kernel keeps XDP_PACKET_HEADROOM of each buffer to itself.
                Kind::AfXdp { .. } => ROOM - 256,
                // Slots of the rings have 2,048 bytes, their headers included.
                Kind::AfPacket { .. } => ROOM - 64,
                _ => ROOM,
            },
        }
    }
}

impl DpdkPortSeed {
    /// Makes the port's pool and device and starts it. A memif server listens from now on (a socket file
    /// that no server answers on is replaced); a memif client needs its server to listen.
    ///
    /// # Errors
    /// A setting out of range, not enough memory for the pool, or a refusal by DPDK.
    pub fn prepare(eal: &Eal, config: &DpdkPortConfig) -> Result<DpdkPortSeed, DpdkError> {
        config.words()?;
        let device = match config.kind {
            Kind::AfXdp { queue, .. } => patiently(queue, || device(eal.running(), config))?,
            _ => device(eal.running(), config)?,
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
            config.words()?;
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
        let pool = Arc::new(PacketPool::new(running, &a.name, frames, false)?);
        let from_a = Arc::new(Ring::new(running, &a.name, a.tx_ring, &pool)?);
        let from_b = Arc::new(Ring::new(running, &b.name, b.tx_ring, &pool)?);
        let traits = Traits::of(&Kind::Ring);
        let of_a = Device::over_rings(running, a, &pool, &from_b, &from_a)?;
        let of_b = Device::over_rings(running, b, &pool, &from_a, &from_b)?;
        Ok((DpdkPortSeed { device: of_a, traits }, DpdkPortSeed { device: of_b, traits }))
    }

    /// The port for a control thread, to which it says the link's state, the MAC address and the device's
    /// own counters.
    pub fn probe(&self) -> DpdkProbe {
        DpdkProbe(Arc::clone(&self.device.shared))
    }

    /// Waits until the link is up, at most `timeout`; returns whether it is.
    pub fn wait_for_link(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.device.shared.link() != Link::Up {
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

/// The device that `config` describes, with its pool, started.
fn device(running: &Arc<Running>, config: &DpdkPortConfig) -> Result<Device, DpdkError> {
    let refused = |action, reason| DpdkError::Port { port: config.name.clone(), action, reason };
    let dma = matches!(config.kind, Kind::Pci { .. });
    let pool = Arc::new(PacketPool::new(running, &config.name, config.frames, dma)?);
    match &config.kind {
        Kind::Ring => {
            let ring = Arc::new(Ring::new(running, &config.name, config.tx_ring, &pool)?);
            return Device::over_rings(running, config, &pool, &ring, &ring);
        }
        Kind::Memif(memif) if memif.role == MemifRole::Server => {
            let failed = |action| {
                move |error: io::Error| {
                    refused(action, format!("{}: {error}", memif.socket.display()))
                }
            };
            remove_stale(&memif.socket).map_err(failed("listen on its socket"))?;
            let device = Device::new(running, config, &pool)?;
            fs::set_permissions(&memif.socket, fs::Permissions::from_mode(0o600))
                .map_err(failed("make its socket private"))?;
            return Ok(device);
        }
        // A second tap of that name would get a part of its frames.
        Kind::Tap { interface, .. } if interface_exists(interface) => {
            return Err(refused("make its interface", format!("{interface} exists already")));
        }
        Kind::AfXdp { interface, .. } => {
            if let Some(reason) = unfit_for_af_xdp(interface, &pool) {
                return Err(refused("use its interface", reason));
            }
        }
        Kind::Pcap { rx: Some(path), .. } => {
            let unreadable =
                |error| refused("read its file", format!("{}: {error}", path.display()));
            fs::File::open(path).map_err(unreadable)?;
        }
        _ => {}
    }
    Device::new(running, config, &pool)
}

/// The queue of an interface may still be busy when the process that had it before has ended: the kernel
/// clears up later.
fn patiently(
    queue: u16,
    mut make: impl FnMut() -> Result<Device, DpdkError>,
) -> Result<Device, DpdkError> {
    let deadline = Instant::now() + BUSY;
    loop {
        match make() {
            Err(DpdkError::Port { port, action: RECEIVE_QUEUE, reason }) => {
                if Instant::now() >= deadline {
                    let reason = format!(
                        "{reason}; is there a queue {queue}, and no other AF_XDP socket or XDP program on it?"
                    );
                    return Err(DpdkError::Port { port, action: RECEIVE_QUEUE, reason });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            made => return made,
        }
    }
}

/// What keeps a socket of AF_XDP from being made, as far as it can be seen before.
fn unfit_for_af_xdp(interface: &str, pool: &PacketPool) -> Option<String> {
    if Interface::find(interface).is_ok_and(|interface| !interface.is_up()) {
        return Some(format!("it is down: ip link set {interface} up"));
    }
    (pool.pieces() != 1).then(|| {
        "the pool of packet buffers lies in several pieces of memory: give DPDK more memory or the port \
         fewer frames"
            .to_owned()
    })
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
