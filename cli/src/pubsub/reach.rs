//! Which stream is meant, and the way to its shard.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use mstream_admin::v1::{DescribeStreamRequest, GetStatusRequest, Shard, Status};
use mstream_client::StreamRef;

use crate::admin::{Admin, stream_id, stream_key};
use crate::cli::ReachArgs;
use crate::failure::Failure;
use crate::settings::Settings;

/// The way to a stream.
pub(super) struct Reach {
    pub(super) stream: StreamRef,
    /// The shard's address.
    pub(super) addr: SocketAddr,
    /// Control socket of the memif port to go by; without one by UDP.
    pub(super) memif: Option<PathBuf>,
    /// VLAN of that port.
    pub(super) vlan: Option<u16>,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.memif {
            Some(socket) => write!(f, "{} over memif {}", self.addr, socket.display()),
            None => self.addr.fmt(f),
        }
    }
}

impl Reach {
    /// Finds the way: by what the flags and the context say, and for the rest by the admin API.
    pub(super) fn find(args: &ReachArgs, settings: &Settings) -> Result<Reach, Failure> {
        let stream = match args.id {
            true => StreamRef::Id(stream_id(&args.stream)?),
            false => StreamRef::Name(args.stream.clone()),
        };
        // An address on the command line means that one, whatever port the context prefers.
        let by_context = !args.udp && args.addr.is_none();
        let memif = args.memif.clone().or_else(|| settings.memif.clone().filter(|_| by_context));
        let addr = args.addr.or(settings.addr);
        let (addr, vlan) = match (addr, args.shard) {
            (Some(addr), Some(shard)) => (beside(addr, shard)?, None),
            (Some(addr), None) if settings.admin.origin.is_none() => (addr, None),
            (addr, shard) => look_up(args, settings, addr, shard, memif.is_some())?,
        };
        Ok(Reach { stream, addr, memif, vlan: args.vlan.or(vlan) })
    }
}

/// The address of a shard: ports are numbered from shard 0's on.
fn beside(addr: SocketAddr, shard: u32) -> Result<SocketAddr, Failure> {
    let port = u16::try_from(shard).ok().and_then(|shard| addr.port().checked_add(shard));
    match port {
        Some(port) => Ok(SocketAddr::new(addr.ip(), port)),
        None => Err(Failure::Usage(format!("shard {shard} has no UDP port beside that of {addr}"))),
    }
}

/// Asks the node for the stream's shard and where that is.
fn look_up(
    args: &ReachArgs,
    settings: &Settings,
    addr: Option<SocketAddr>,
    shard: Option<u32>,
    memif: bool,
) -> Result<(SocketAddr, Option<u16>), Failure> {
    let admin = Admin::connect(settings).map_err(|failure| match failure {
        Failure::Failed(why) => Failure::Failed(format!(
            "finding the stream's shard: {why} (with --addr and --shard nobody is asked)"
        )),
        failure => failure,
    })?;
    let shard = match shard {
        Some(shard) => shard,
        None => {
            let stream = Some(stream_key(&args.stream, args.id)?);
            let asked = DescribeStreamRequest { stream };
            let answer = admin.call(admin.catalogue().describe_stream(asked))?;
            answer.stream.unwrap_or_default().shard
        }
    };
    let status = admin.call(admin.node().get_status(GetStatusRequest {}))?;
    place(&status, shard, addr, memif).map_err(Failure::Failed)
}

/// Where a shard is: at the address that is known for shard 0, or at one of its ports, on its VLAN.
fn place(
    status: &Status,
    number: u32,
    addr: Option<SocketAddr>,
    memif: bool,
) -> Result<(SocketAddr, Option<u16>), String> {
    let find = |number| status.shards.iter().find(|shard: &&Shard| shard.number == number);
    let Some(shard) = find(number) else {
        return Err(format!("the node has no shard {number}, but {}", status.shards.len()));
    };
    if let Some(addr) = addr {
        // As far from shard 0's port as in the configuration, should something translate ports on the way.
        let first = find(0).map_or(shard.udp_port, |first| first.udp_port);
        let port = i64::from(addr.port()) + i64::from(shard.udp_port) - i64::from(first);
        let port =
            u16::try_from(port).map_err(|_| format!("shard {number} has no UDP port there"))?;
        return Ok((SocketAddr::new(addr.ip(), port), None));
    }
    let port = u16::try_from(shard.udp_port).map_err(|_| "a UDP port above 65535".to_owned())?;
    let drivers: &[&str] = if memif { &["memif"] } else { &["socket", "dpdk"] };
    let reached = drivers.iter().find_map(|driver| {
        let ports = shard.ports.iter().filter(|port| port.driver == *driver);
        ports
            .flat_map(|port| port.addresses.iter().map(move |text| (text, port.vlan)))
            .find_map(|(text, vlan)| Some((ip(text)?, vlan)))
    });
    let vlan = |vlan| u16::try_from(vlan).ok().filter(|vlan| *vlan > 0);
    reached.map(|(ip, on)| (SocketAddr::new(ip, port), vlan(on))).ok_or_else(|| {
        let ports: Vec<String> =
            shard.ports.iter().map(|port| format!("{} ({})", port.name, port.driver)).collect();
        let wanted = if memif { "memif" } else { "UDP" };
        format!(
            "shard {number} has no port for {wanted} clients, but: {}. Use --memif SOCKET, or --addr",
            ports.join(", ")
        )
    })
}

/// The IP address in what a port says of itself.
fn ip(text: &str) -> Option<IpAddr> {
    let text = text.split('/').next()?;
    text.parse().ok().or_else(|| text.parse().ok().map(|both: SocketAddr| both.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mstream_admin::v1::Port;

    fn port(driver: &str, address: &str) -> Port {
        Port { driver: driver.into(), addresses: vec![address.into()], ..Port::default() }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_shard_is_found_at_its_ports_or_beside_the_first() {
        let shard = |number, udp_port, ports| Shard { number, udp_port, ports, ..Shard::default() };
        let tagged = Port { vlan: 7, ..port("memif", "10.0.0.1") };
        let both = vec![tagged, port("socket", "127.0.0.1")];
        let status = Status {
            shards: vec![shard(0, 7500, both), shard(1, 7510, vec![port("memif", "fd00::2/64")])],
            ..Status::default()
        };
        assert_eq!(place(&status, 0, None, false), Ok((at("127.0.0.1:7500"), None)));
        assert_eq!(place(&status, 0, None, true), Ok((at("10.0.0.1:7500"), Some(7))));
        assert_eq!(place(&status, 1, None, true), Ok((at("[fd00::2]:7510"), None)));
        assert!(place(&status, 1, None, false).is_err_and(|why| why.contains("no port for UDP")));
        assert_eq!(
            place(&status, 1, Some(at("1.2.3.4:9000")), false),
            Ok((at("1.2.3.4:9010"), None))
        );
        assert!(place(&status, 2, None, false).is_err_and(|why| why.contains("no shard 2")));
        assert_eq!(beside(at("1.2.3.4:7500"), 2).expect("there is one"), at("1.2.3.4:7502"));
        assert!(beside(at("1.2.3.4:65535"), 1).is_err());
    }
}
