//! Ports as the control thread sees them while shards poll them: links, addresses, the devices' own counts.

use std::sync::{Mutex, PoisonError};

use mstream_admin::v1;
use mstream_controlplane::config::{self, Device, Driver};
use mstream_nic::PortStats;
use mstream_nic_dpdk::{DpdkProbe, Link};

/// One port of one shard.
#[derive(Debug)]
pub(crate) struct PortProbe {
    pub(crate) name: String,
    driver: &'static str,
    device: &'static str,
    addresses: Vec<String>,
    mac: Option<[u8; 6]>,
    dpdk: Option<DpdkProbe>,
    /// What the last look found.
    link: Mutex<Link>,
}

impl PortProbe {
    /// The port that `port` describes, whose MAC address is `mac`; of a DPDK port, with DPDK's own probe.
    pub(crate) fn new(
        port: &config::Port,
        mac: Option<[u8; 6]>,
        dpdk: Option<DpdkProbe>,
    ) -> PortProbe {
        let (driver, device) = names(&port.driver);
        PortProbe {
            name: port.name.clone(),
            driver,
            device,
            addresses: vec![port.ip.to_string()],
            mac,
            dpdk,
            link: Mutex::new(Link::Up),
        }
    }

    /// Looks at the link; what to tell people if it is not as it was at the last look. To be called from
    /// time to time: ports over DPDK go by it.
    pub(crate) fn look(&self) -> Option<String> {
        let now = self.dpdk.as_ref()?.link();
        let mut last = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *last, now) == now {
            return None;
        }
        let what = match now {
            Link::Up => "the link is up",
            Link::Down => "the link is down: what is to be sent is dropped and counted",
            Link::Gone => {
                "its interface is gone: what is to be sent is dropped and counted; start mstreamd again once \
                 the interface is back"
            }
        };
        Some(format!("port {}: {what}", self.name))
    }

    /// Whether frames can pass, as of the last look.
    fn link_up(&self) -> bool {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) == Link::Up
    }

    /// The device's own counts by name. Slow.
    pub(crate) fn device_counters(&self) -> Vec<(String, u64)> {
        self.dpdk.as_ref().map(DpdkProbe::counters).unwrap_or_default()
    }

    /// The port as the admin API says it; `stats` are the shard's counts of it.
    #[expect(dead_code, reason = "the admin API's status will take it")]
    pub(crate) fn message(&self, stats: Option<PortStats>) -> v1::Port {
        let number = |(name, value): (String, u64)| v1::Number { name, value };
        let checksums = self.dpdk.as_ref();
        v1::Port {
            name: self.name.clone(),
            driver: self.driver.to_string(),
            device: self.device.to_string(),
            addresses: self.addresses.clone(),
            mac: self.mac.map(mac_text).unwrap_or_default(),
            vlan: 0,
            link_up: self.link_up(),
            counters: stats.iter().flat_map(counts).map(number).collect(),
            device_counters: self.device_counters().into_iter().map(number).collect(),
            rx_checksums_verified: checksums.is_some_and(DpdkProbe::verifies_checksums),
            tx_checksums_offloaded: checksums.is_some_and(DpdkProbe::fills_checksums),
        }
    }

    /// The link and the device's counts that are not 0, as one line; empty for ports without a device.
    pub(crate) fn line(&self) -> Option<String> {
        self.dpdk.as_ref()?;
        let link = match *self.link.lock().unwrap_or_else(PoisonError::into_inner) {
            Link::Up => "up",
            Link::Down => "down",
            Link::Gone => "gone",
        };
        let mac = self.mac.map(mac_text).unwrap_or_default();
        let counters = self.device_counters().into_iter().filter(|(_, value)| *value > 0);
        let counters: String = counters.map(|(name, value)| format!(" {name}={value}")).collect();
        Some(format!("device {}: link={link} mac={mac}{counters}", self.name))
    }
}

/// What the configuration calls a driver and its device.
fn names(driver: &Driver) -> (&'static str, &'static str) {
    match driver {
        Driver::Memif { .. } => ("memif", ""),
        Driver::Socket => ("socket", ""),
        Driver::Dpdk(device) => {
            let device = match device {
                Device::Memif { .. } => "memif",
                Device::Tap { .. } => "tap",
                Device::AfXdp { .. } => "af_xdp",
                Device::AfPacket { .. } => "af_packet",
                Device::Pcap { .. } => "pcap",
                Device::Pci { .. } => "pci",
                Device::Ring => "ring",
                Device::Null => "null",
            };
            ("dpdk", device)
        }
    }
}

/// A shard's counts of a port by name.
fn counts(stats: &PortStats) -> [(String, u64); 7] {
    [
        ("rx_frames", stats.rx_frames),
        ("rx_bytes", stats.rx_bytes),
        ("rx_no_buffer", stats.rx_no_buffer),
        ("rx_refused", stats.rx_refused),
        ("tx_frames", stats.tx_frames),
        ("tx_bytes", stats.tx_bytes),
        ("tx_dropped", stats.tx_dropped),
    ]
    .map(|(name, value)| (name.to_string(), value))
}

fn mac_text([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
