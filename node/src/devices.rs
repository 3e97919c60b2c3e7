//! What DPDK devices need of this host, looked up before anything is started.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mstream_controlplane::Config;
use mstream_controlplane::config::{Device, Driver};
use mstream_nic_dpdk::interface_exists;

use crate::placement::Finding;

/// What is missing for the ports' devices as things are now.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let of = |port: &mstream_controlplane::config::Port| {
        let Driver::Dpdk(device) = &port.driver else { return None };
        let (text, remedy) = missing(device)?;
        Some(Finding { check: "device", text: format!("port {}: {text}", port.name), remedy })
    };
    config.ports.iter().filter_map(of).collect()
}

/// What is missing, and what mends it.
fn missing(device: &Device) -> Option<(String, String)> {
    match device {
        Device::AfXdp { interface, .. } | Device::AfPacket { interface } => {
            let there = interface_exists(interface);
            (!there).then(|| {
                let text = format!("there is no interface {interface} in this network namespace");
                (
                    text,
                    format!("name one that `ip link` lists, or make {interface} before the start"),
                )
            })
        }
        Device::Tap { interface } => interface_exists(interface).then(|| {
            let text =
                format!("an interface {interface} exists already, and the port makes its own");
            (text, format!("ip link delete {interface}, or another `interface`"))
        }),
        Device::Pcap { rx, .. } => {
            let rx = rx.as_deref()?;
            let error = File::open(rx).err()?;
            Some((format!("{}: {error}", rx.display()), "another `rx_pcap`".to_string()))
        }
        Device::Pci { address } => pci(address),
        Device::Memif { .. } | Device::Ring | Device::Null => None,
    }
}

fn pci(address: &str) -> Option<(String, String)> {
    let device = Path::new("/sys/bus/pci/devices").join(address);
    if !device.exists() {
        let text = format!("there is no PCI device {address}");
        return Some((text, "one that `lspci -D` lists".to_string()));
    }
    let driver = fs::read_link(device.join("driver")).unwrap_or_else(|_| PathBuf::from("none"));
    let driver =
        driver.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let usable = ["vfio-pci", "igb_uio", "uio_pci_generic", "mlx4_core", "mlx5_core"];
    (!usable.contains(&&*driver)).then(|| {
        let text = format!("the driver of PCI device {address} is {driver}, which DPDK cannot use");
        (text, format!("dpdk-devbind.py --bind=vfio-pci {address} (the kernel loses the device)"))
    })
}
