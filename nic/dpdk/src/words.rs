//! Ports in DPDK's words: names and arguments of devices.

use std::ffi::CStr;
use std::path::Path;

use crate::config::{DpdkPortConfig, Kind, MemifConfig, MemifRole};
use crate::error::DpdkError;

/// Longest path that the kernel takes.
const LONGEST_PATH: usize = 4095;

/// A device in DPDK's words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// The bus that it is on.
    pub(crate) bus: &'static CStr,
    /// Its name there.
    pub(crate) name: String,
    pub(crate) arguments: String,
}

impl DpdkPortConfig {
    /// The device's name, whose driver follows from its beginning, and its arguments.
    pub(crate) fn words(&self) -> Result<Words, DpdkError> {
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
            Kind::AfXdp { interface, queue } => {
                let interface = plain_interface(interface)?;
                ("net_af_xdp", format!("iface={interface},start_queue={queue},queue_count=1"))
            }
            Kind::AfPacket { interface } => {
                ("net_af_packet", format!("iface={}", plain_interface(interface)?))
            }
            Kind::Pcap { rx, tx } => ("net_pcap", pcap_arguments(rx.as_deref(), tx.as_deref())?),
            Kind::Pci { address } => {
                if !is_pci_address(address) {
                    return wrong("PCI address", address, "one such as 0000:3b:00.0");
                }
                return Ok(Words { bus: c"pci", name: address.clone(), arguments: String::new() });
            }
        };
        Ok(Words { bus: c"vdev", name: format!("{driver}_{}", self.name), arguments })
    }
}

impl MemifConfig {
    fn arguments(&self) -> Result<String, DpdkError> {
        let Some(socket) = plain_path(&self.socket, 107) else {
            let socket = self.socket.to_string_lossy();
            return wrong("memif socket", &socket, "a path of 1 to 107 bytes without , = [ ] \"");
        };
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

/// A path that DPDK does not take for something else.
fn plain_path(path: &Path, longest: usize) -> Option<&str> {
    path.to_str().filter(|path| {
        (1..=longest).contains(&path.len()) && !path.contains([',', '=', '[', ']', '"'])
    })
}

fn plain_interface(interface: &str) -> Result<&str, DpdkError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if !(1..=15).contains(&interface.len()) || !interface.chars().all(plain) {
        return wrong("interface", interface, "1 to 15 letters, digits, - _ and .");
    }
    Ok(interface)
}

fn pcap_arguments(rx: Option<&Path>, tx: Option<&Path>) -> Result<String, DpdkError> {
    if rx.is_none() && tx.is_none() {
        return wrong("pcap file", "none", "one to receive from, one to send to, or both");
    }
    if rx == tx {
        let both = rx.unwrap_or(Path::new("")).to_string_lossy();
        return wrong("pcap file", &both, "two files: the one sent to is made anew");
    }
    let mut arguments = Vec::new();
    for (key, path) in [("rx_pcap", rx), ("tx_pcap", tx)] {
        let Some(path) = path else { continue };
        let Some(path) = plain_path(path, LONGEST_PATH) else {
            let path = path.to_string_lossy();
            return wrong("pcap file", &path, "a path of 1 to 4095 bytes without , = [ ] \"");
        };
        arguments.push(format!("{key}={path}"));
    }
    Ok(arguments.join(","))
}

/// Whether `text` is domain, bus, device and function, as in `0000:3b:00.0`.
fn is_pci_address(text: &str) -> bool {
    let hex = |text: &str, digits: usize, most: u32| {
        text.len() == digits
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && u32::from_str_radix(text, 16).is_ok_and(|number| number <= most)
    };
    let Some((rest, function)) = text.split_once('.') else { return false };
    let parts: Vec<&str> = rest.split(':').collect();
    let [domain, bus, device] = parts[..] else { return false };
    hex(domain, 4, 0xffff) && hex(bus, 2, 0xff) && hex(device, 2, 0x1f) && hex(function, 1, 7)
}

fn tap_arguments(interface: &str, mac: Option<[u8; 6]>) -> Result<String, DpdkError> {
    let mut arguments = format!("iface={}", plain_interface(interface)?);
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

    fn words(kind: Kind) -> Result<Words, DpdkError> {
        DpdkPortConfig::new("p1", kind).words()
    }

    #[test]
    fn kinds_are_put_in_dpdks_words() {
        let memif = MemifConfig::new("/run/m.sock", MemifRole::Client);
        let made = words(Kind::Memif(memif)).expect("valid");
        assert_eq!(made.name, "net_memif_p1");
        assert_eq!(
            made.arguments,
            "role=client,id=0,socket=/run/m.sock,socket-abstract=no,rsize=10,bsize=2048,zero-copy=no"
        );
        let mac = Some([2, 0, 0, 0, 0, 0xaf]);
        let made = words(Kind::Tap { interface: "tap0".into(), mac }).expect("valid");
        assert_eq!(made.arguments, "iface=tap0,mac=02:00:00:00:00:af");
        let made = words(Kind::AfXdp { interface: "eth1".into(), queue: 2 }).expect("valid");
        assert_eq!(made.arguments, "iface=eth1,start_queue=2,queue_count=1");
        let (rx, tx) = (Some("/tmp/in".into()), Some("/tmp/out".into()));
        let made = words(Kind::Pcap { rx, tx }).expect("valid");
        assert_eq!(made.arguments, "rx_pcap=/tmp/in,tx_pcap=/tmp/out");
        let made = words(Kind::Pci { address: "0000:3b:00.1".into() }).expect("valid");
        assert_eq!((made.bus, &*made.name, &*made.arguments), (c"pci", "0000:3b:00.1", ""));
    }

    #[test]
    fn pci_addresses_are_checked() {
        for sound in ["0000:00:00.0", "ffff:ff:1f.7"] {
            assert!(is_pci_address(sound), "{sound}");
        }
        let wrong = ["", "3b:00.0", "0000:3b:00", "0000:3b:20.0", "0000:3b:00.8", "0000:3B:00.0"];
        for wrong in wrong.into_iter().chain(["0000:3b:00.0,x=1", "0000:3b:00.0:", "+000:3b:00.0"])
        {
            assert!(!is_pci_address(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_would_be_read_as_another_argument_is_refused() {
        let sockets = ["/run/m,role=server", "/run/a=b", "", "/run/[x]"];
        for socket in sockets {
            let memif = MemifConfig::new(socket, MemifRole::Client);
            assert!(words(Kind::Memif(memif)).is_err(), "{socket}");
        }
        for interface in ["tap0,remote=eth0", "", "a-name-of-16-byte"] {
            assert!(words(Kind::Tap { interface: interface.into(), mac: None }).is_err());
            assert!(words(Kind::AfXdp { interface: interface.into(), queue: 0 }).is_err());
            assert!(words(Kind::AfPacket { interface: interface.into() }).is_err());
        }
        let pcap = |rx: Option<&str>, tx: Option<&str>| {
            words(Kind::Pcap { rx: rx.map(Into::into), tx: tx.map(Into::into) })
        };
        assert!(pcap(None, None).is_err());
        assert!(pcap(Some("/tmp/same"), Some("/tmp/same")).is_err());
        assert!(pcap(Some("/tmp/in,tx_iface=eth0"), None).is_err());
        assert!(words(Kind::Null { frame_bytes: 13 }).is_err());
        let mut config = DpdkPortConfig::new("a b", Kind::Ring);
        assert!(config.words().is_err());
        config.name = "a".into();
        config.frames = 63;
        assert!(config.words().is_err());
    }
}
