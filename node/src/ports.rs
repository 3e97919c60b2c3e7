//! Ports: made on the control thread, opened on the shard's, closed there too.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use mstream_controlplane::config::{self, Config, Device, Driver};
use mstream_dataplane::PortAddress;
use mstream_nic::Port;
use mstream_nic::memif::{Listener, ListenerConfig, ServerPort, ServerPortSeed};
use mstream_nic::socket::SocketPort;
use mstream_nic_dpdk::{
    DpdkPort, DpdkPortConfig, DpdkPortSeed, DpdkProbe, Eal, EalConfig, Kind, LogLevel, MemifConfig,
    MemifRole, Memory, ThreadRegistration,
};

use crate::Failure;
use crate::any_port::{AnyPort, Inner};
use crate::probe::PortProbe;

/// Bytes of the frames that a null device makes up.
const NULL_FRAME_BYTES: u16 = 64;

/// A port that its shard's thread can open.
pub(crate) struct PortSeed {
    name: String,
    network: Network,
    frames: usize,
    driver: DriverSeed,
}

/// What the network calls a port.
#[derive(Clone, Copy)]
struct Network {
    mac: [u8; 6],
    ip: Option<Ipv4Addr>,
    ip6: Option<Ipv6Addr>,
    vlan: Option<u16>,
    /// Frames find their way by their addresses: a kernel is at the other end.
    addressed: bool,
}

/// A port that was opened, as its user sees it.
pub(crate) struct Opened {
    /// What the network calls it.
    pub(crate) address: PortAddress,
    /// Frames find their way by their addresses: a kernel is at the other end.
    pub(crate) addressed: bool,
}

enum DriverSeed {
    Memif(ServerPortSeed),
    Socket(SocketAddr),
    Dpdk(Box<DpdkPortSeed>),
}

impl PortSeed {
    /// Makes what can be made off the shard's thread; a memif port comes with the listener of its socket.
    pub(crate) fn prepare(
        port: &config::Port,
        node_name: &str,
        udp_port: u16,
        eal: Option<&Eal>,
    ) -> Result<(PortSeed, PortProbe, Option<Listener>), Failure> {
        let failed = |reason: String| format!("port {}: {reason}", port.name);
        let mut listener = None;
        let driver = match &port.driver {
            Driver::Memif { socket, max_connections, trusted } => {
                let mut settings = ListenerConfig::new(socket);
                settings.name = node_name.to_string();
                settings.max_connections = *max_connections;
                settings.trusted = *trusted;
                let (bound, seed) =
                    Listener::bind(&settings).map_err(|error| failed(error.to_string()))?;
                listener = Some(bound);
                DriverSeed::Memif(seed)
            }
            Driver::Socket => {
                let ip = port.addresses().next().ok_or_else(|| failed("no address".to_string()))?;
                DriverSeed::Socket(SocketAddr::new(ip, udp_port))
            }
            Driver::Dpdk(device) => {
                let eal = eal.ok_or_else(|| failed("DPDK was not started".to_string()))?;
                let settings = DpdkPortConfig {
                    // A plain name that DPDK takes, whatever the port is called.
                    name: device_name(&port.name),
                    kind: kind(device),
                    frames: u32::try_from(port.frames).unwrap_or(u32::MAX),
                    rx_ring: 512,
                    tx_ring: 512,
                    checksums: true,
                };
                let seed = DpdkPortSeed::prepare(eal, &settings)
                    .map_err(|error| failed(error.to_string()))?;
                DriverSeed::Dpdk(Box::new(seed))
            }
        };
        let probe = match &driver {
            DriverSeed::Dpdk(seed) => Some(seed.probe()),
            DriverSeed::Memif(_) | DriverSeed::Socket(_) => None,
        };
        // A PCI device brings its own.
        let mac = port.mac.or(probe.as_ref().map(DpdkProbe::mac));
        let probe = PortProbe::new(port, mac, probe);
        let seed = PortSeed {
            name: port.name.clone(),
            network: Network {
                mac: mac.unwrap_or_default(),
                ip: port.ip,
                ip6: port.ip6,
                vlan: port.vlan,
                addressed: is_addressed(&port.driver),
            },
            frames: port.frames,
            driver,
        };
        Ok((seed, probe, listener))
    }

    fn memif(self) -> Result<ServerPort, PortSeed> {
        match self.driver {
            DriverSeed::Memif(seed) => Ok(seed.open(self.frames)),
            driver => Err(PortSeed { driver, ..self }),
        }
    }

    fn socket(self) -> Result<SocketPort, Failure> {
        let DriverSeed::Socket(address) = self.driver else {
            return Err(format!("port {}: not a socket port", self.name));
        };
        SocketPort::bind(address, self.frames)
            .map_err(|error| format!("port {}: {error}", self.name))
    }
}

/// Whether frames find their way by their addresses, so that what goes back to its sender must swap them.
fn is_addressed(driver: &Driver) -> bool {
    match driver {
        Driver::Memif { .. } => false,
        Driver::Socket => true,
        Driver::Dpdk(device) => {
            !matches!(device, Device::Memif { .. } | Device::Ring | Device::Null)
        }
    }
}

/// At most 16 letters, digits, `-` and `_`.
fn device_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    name.chars().take(16).map(plain).collect()
}

fn kind(device: &Device) -> Kind {
    match device {
        Device::Memif { socket, server, id } => {
            let role = if *server { MemifRole::Server } else { MemifRole::Client };
            Kind::Memif(MemifConfig { id: *id, ..MemifConfig::new(socket, role) })
        }
        Device::Tap { interface } => Kind::Tap { interface: interface.clone(), mac: None },
        Device::AfXdp { interface, queue } => {
            Kind::AfXdp { interface: interface.clone(), queue: *queue }
        }
        Device::AfPacket { interface } => Kind::AfPacket { interface: interface.clone() },
        Device::Pcap { rx, tx } => Kind::Pcap { rx: rx.clone(), tx: tx.clone() },
        Device::Pci { address } => Kind::Pci { address: address.clone() },
        Device::Ring => Kind::Ring,
        Device::Null => Kind::Null { frame_bytes: NULL_FRAME_BYTES },
    }
}

/// Starts DPDK, if a port needs it.
pub(crate) fn start_dpdk(config: &Config) -> Result<Option<Eal>, Failure> {
    if !config.uses_dpdk() {
        return Ok(None);
    }
    let mib = config.dpdk.memory_mib;
    let huge = config.dpdk.huge_pages.unwrap_or_else(|| {
        let free =
            mstream_controlplane::Available::now().map_or(0, |available| available.huge_pages);
        free >= u64::from(mib) << 20
    });
    let pci = config.ports.iter().filter_map(|port| match &port.driver {
        Driver::Dpdk(Device::Pci { address }) => Some(address.clone()),
        _ => None,
    });
    let pci: Vec<String> = pci.collect();
    if !huge && !pci.is_empty() {
        return Err(format!(
            "a port with device = \"pci\" needs huge pages, and there are not enough free ones: write {} or \
             more to /proc/sys/vm/nr_hugepages",
            mib.div_ceil(2)
        ));
    }
    let memory = if huge { Memory::HugePages { mib } } else { Memory::OrdinaryPages { mib } };
    let log = match tracing::enabled!(tracing::Level::DEBUG) {
        true => LogLevel::Errors,
        false => LogLevel::Quiet,
    };
    let settings = EalConfig { memory, log, pci, ..EalConfig::new(config.node.control_core) };
    let eal = Eal::init(&settings).map_err(|error| error.to_string())?;
    tracing::info!("DPDK: {mib} MiB of {} pages", if huge { "huge" } else { "ordinary" });
    Ok(Some(eal))
}

/// What is to be done with the opened ports of a shard, whatever their type.
pub(crate) trait PortUser {
    /// Polls `ports` until told to stop and gives them back, with no frame of theirs held.
    fn use_ports<P: Port>(self, ports: Vec<P>, opened: Vec<Opened>) -> Result<Vec<P>, Failure>;
}

/// Opens the ports of a shard on the calling thread, lets `user` poll them, and closes them.
///
/// Ports of one driver are polled as what they are; mixed ones behind an enum.
pub(crate) fn with_ports(
    seeds: Vec<PortSeed>,
    eal: Option<&Eal>,
    user: impl PortUser,
) -> Result<(), Failure> {
    let networks: Vec<_> = seeds.iter().map(|seed| seed.network).collect();
    let names: Vec<_> = seeds.iter().map(|seed| seed.name.clone()).collect();
    // Dropped after all ports of this thread.
    let registration =
        eal.map(Eal::register_thread).transpose().map_err(|error| error.to_string())?;
    let all = |is: fn(&DriverSeed) -> bool| seeds.iter().all(|seed| is(&seed.driver));
    if all(|driver| matches!(driver, DriverSeed::Memif(_))) {
        let ports: Vec<_> = seeds.into_iter().filter_map(|seed| seed.memif().ok()).collect();
        let opened = opened(&ports, &networks);
        user.use_ports(ports, opened).map(drop)
    } else if all(|driver| matches!(driver, DriverSeed::Socket(_))) {
        let ports = seeds.into_iter().map(PortSeed::socket).collect::<Result<Vec<_>, _>>()?;
        let opened = opened(&ports, &networks);
        user.use_ports(ports, opened).map(drop)
    } else if all(|driver| matches!(driver, DriverSeed::Dpdk(_))) {
        let ports = seeds
            .into_iter()
            .map(|seed| open_dpdk(seed, registration.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let opened = opened(&ports, &networks);
        let ports = user.use_ports(ports, opened)?;
        ports.into_iter().zip(&names).try_for_each(|(port, name)| close(port, name))
    } else {
        let ports = seeds
            .into_iter()
            .map(|seed| open_any(seed, registration.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let opened = opened(&ports, &networks);
        let ports = user.use_ports(ports, opened)?;
        ports.into_iter().zip(&names).try_for_each(|(port, name)| match port.into_inner() {
            Inner::Dpdk(port) => close(*port, name),
            Inner::Memif(_) | Inner::Socket(_) => Ok(()),
        })
    }
}

fn open_any(seed: PortSeed, registration: Option<&ThreadRegistration>) -> Result<AnyPort, Failure> {
    let inner = match seed.memif() {
        Ok(port) => Inner::Memif(port),
        Err(seed) if matches!(seed.driver, DriverSeed::Socket(_)) => Inner::Socket(seed.socket()?),
        Err(seed) => Inner::Dpdk(Box::new(open_dpdk(seed, registration)?)),
    };
    Ok(AnyPort::new(inner))
}

fn open_dpdk(
    seed: PortSeed,
    registration: Option<&ThreadRegistration>,
) -> Result<DpdkPort, Failure> {
    match (seed.driver, registration) {
        (DriverSeed::Dpdk(seed), Some(registration)) => Ok(seed.open(registration)),
        _ => Err(format!("port {}: DPDK was not started", seed.name)),
    }
}

fn close(port: DpdkPort, name: &str) -> Result<(), Failure> {
    port.close().map_err(|leak| format!("port {name}: {leak}"))
}

fn opened<P: Port>(ports: &[P], networks: &[Network]) -> Vec<Opened> {
    let one = |(port, network): (&P, &Network)| {
        let Network { mac, ip, ip6, vlan, addressed } = *network;
        let address = PortAddress { mac, ip, ip6, vlan, capabilities: port.capabilities() };
        Opened { address, addressed }
    };
    ports.iter().zip(networks).map(one).collect()
}
