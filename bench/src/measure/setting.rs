//! The directories, addresses and configurations of a run.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::cores::Cores;
use crate::Failure;
use crate::cli::PortKind;

/// Bytes of the log.
pub(crate) const LOG_BYTES: u64 = SEGMENTS * SEGMENT_BYTES;
const SEGMENT_BYTES: u64 = 16 << 20;
const SEGMENTS: u64 = 8;
/// UDP port of the shard, but for kernel sockets.
const UDP_PORT: u16 = 7500;
/// The stream that is measured, and the one that warms up.
pub(crate) const STREAM: &str = "bench";
pub(crate) const WARM_UP_STREAM: &str = "warm-up";

/// Interfaces at the server's end, where ports have any.
pub(crate) const SHARD_INTERFACE: &str = "msb-shard";
pub(crate) const ECHO_INTERFACE: &str = "msb-echo";

/// Who is at the server's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The appliance.
    Shard,
    /// The echo.
    Echo,
}

/// Where one of the two is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Address of its shard.
    pub(crate) address: SocketAddrV4,
    /// Its memif socket.
    pub(crate) socket: PathBuf,
    /// Its interface.
    pub(crate) interface: &'static str,
    /// The client's address on that interface.
    pub(crate) client: Ipv4Addr,
    /// Its configuration.
    pub(crate) config: PathBuf,
}

/// The directories of a run; they are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Setting {
    port: PortKind,
    cores: Cores,
    run: TempDir,
    wal: TempDir,
}

/// Where logs are made: in `wal`, or on the hugetlbfs that MSTREAM_HUGETLBFS names, or in shared memory.
pub(crate) fn log_parent(wal: Option<&Path>) -> PathBuf {
    let named = std::env::var_os("MSTREAM_HUGETLBFS").map(PathBuf::from);
    wal.map(Path::to_path_buf).or(named).unwrap_or_else(|| PathBuf::from("/dev/shm"))
}

impl Setting {
    /// Makes the directories: the log's in `wal`, or where memory is.
    pub(crate) fn new(
        port: PortKind,
        cores: Cores,
        wal: Option<&Path>,
    ) -> Result<Setting, Failure> {
        let base = log_parent(wal);
        let make = |base: &Path| {
            tempfile::Builder::new()
                .prefix("mstream-bench-")
                .tempdir_in(base)
                .map_err(|error| format!("{}: {error}", base.display()))
        };
        Ok(Setting { port, cores, run: make(&std::env::temp_dir())?, wal: make(&base)? })
    }

    /// Directory of files that end with the run.
    pub(crate) fn dir(&self) -> &Path {
        self.run.path()
    }

    /// Chooses addresses and writes the configuration of one of the two.
    pub(crate) fn place(&self, role: Role) -> Result<Place, Failure> {
        let (name, interface, network) = match role {
            Role::Shard => ("shard", SHARD_INTERFACE, 0),
            Role::Echo => ("echo", ECHO_INTERFACE, 4),
        };
        let address = match self.port {
            PortKind::Socket => free_address()?,
            _ => SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, network + 1), UDP_PORT),
        };
        let place = Place {
            address,
            socket: self.run.path().join(name).with_extension("sock"),
            interface,
            client: Ipv4Addr::new(10, 77, 0, network + 2),
            config: self.run.path().join(name).with_extension("toml"),
        };
        let text = self.config(&place, name);
        fs::write(&place.config, text)
            .map_err(|error| format!("{}: {error}", place.config.display()))?;
        Ok(place)
    }

    fn config(&self, place: &Place, name: &str) -> String {
        let Place { address, socket, interface, .. } = place;
        let socket = quoted(socket);
        let port = match self.port {
            PortKind::Memif => format!("driver = \"memif\"\nsocket = {socket}"),
            PortKind::Socket => "driver = \"socket\"".to_string(),
            PortKind::DpdkMemif => {
                format!(
                    "driver = \"dpdk\"\ndevice = \"memif\"\nrole = \"server\"\nsocket = {socket}"
                )
            }
            PortKind::AfXdp => {
                format!("driver = \"dpdk\"\ndevice = \"af_xdp\"\ninterface = \"{interface}\"")
            }
            PortKind::DpdkTap => {
                format!("driver = \"dpdk\"\ndevice = \"tap\"\ninterface = \"{interface}\"")
            }
        };
        format!(
            "[node]\nid = 1\nname = \"{name}\"\nadmin = \"off\"\nrun_dir = {run}\n\
             control_core = {control}\n\
             [[port]]\nname = \"{name}\"\nip = \"{ip}\"\n{port}\n\
             [[shard]]\ncore = {core}\nports = [\"{name}\"]\nudp_port = {udp_port}\nidle = \"{idle}\"\n\
             [wal]\ndir = {wal}\nsegment_bytes = {SEGMENT_BYTES}\nmax_bytes = {LOG_BYTES}\n\
             [[stream]]\nid = 1\nname = \"{STREAM}\"\n\
             [[stream]]\nid = 2\nname = \"{WARM_UP_STREAM}\"\n",
            run = quoted(self.run.path()),
            control = self.cores.control,
            ip = address.ip(),
            core = self.cores.server,
            udp_port = address.port(),
            idle = if self.cores.shared() { "yield" } else { "spin" },
            wal = quoted(&self.wal.path().join(name)),
        )
    }
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A loopback address that nobody uses at the moment.
fn free_address() -> Result<SocketAddrV4, Failure> {
    let bound = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    let port = bound.map_err(|error| format!("a UDP port of loopback: {error}"))?.port();
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}
