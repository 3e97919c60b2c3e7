//! Ports as the control thread sees them while shards poll them: links, addresses, the devices' own counts.

use std::sync::{Mutex, PoisonError};

use mstream_admin::v1;
use mstream_controlplane::config::{self, Device, Driver};
use mstream_nic_dpdk::{DpdkProbe, Link};

/// One port of one shard.
#[derive(Debug)]
pub(crate) struct PortProbe {
    pub(crate) name: String,
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
        PortProbe { name: port.name.clone(), mac, dpdk, link: Mutex::new(Link::Up) }
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

    /// Fills in what may change beside the shard's own counts, and who the port is.
    pub(crate) fn fill(&self, port: &mut v1::Port) {
        port.mac = self.mac.map(mac_text).unwrap_or_default();
        port.link_up = self.link_up();
        let counters = self.device_counters().into_iter();
        port.device_counters = counters.map(|(name, value)| v1::Number { name, value }).collect();
        let device = self.dpdk.as_ref();
        port.rx_checksums_verified = device.is_some_and(DpdkProbe::verifies_checksums);
        port.tx_checksums_offloaded = device.is_some_and(DpdkProbe::fills_checksums);
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
pub(crate) fn names(driver: &Driver) -> (&'static str, &'static str) {
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

fn mac_text([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
