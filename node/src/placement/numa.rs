//! NICs, memory and logs on another NUMA node than their shard's core.

use std::collections::{BTreeMap, BTreeSet};

use mstream_controlplane::Config;
use mstream_controlplane::budget::Medium;
use mstream_controlplane::config::{Device, Driver};

use super::memory::{PageSize, log_bytes, page_size};
use super::{Finding, Host, by_core, joined};

pub(super) fn check(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    if host.machine.nodes.len() < 2 {
        return;
    }
    nics(host, config, findings);
    log(host, config, findings);
    huge_pages(host, config, findings);
    if host.files.number("proc/sys/kernel/numa_balancing") == Some(1) {
        findings.push(Finding {
            check: "numa-balancing",
            text: "the kernel moves memory between NUMA nodes: it takes page faults to find out who uses it"
                .to_string(),
            remedy: "sysctl -w kernel.numa_balancing=0".to_string(),
        });
    }
}

/// The device that a port's frames pass, by interface or PCI address.
fn nic(driver: &Driver) -> Option<&str> {
    match driver {
        Driver::Dpdk(Device::AfXdp { interface, .. } | Device::AfPacket { interface }) => {
            Some(interface)
        }
        Driver::Dpdk(Device::Pci { address }) => Some(address),
        Driver::Memif { .. } | Driver::Socket | Driver::Dpdk(_) => None,
    }
}

/// `None` where the two have a node in common, or it is not known; else those of the device.
fn far<'a>(host: &'a Host, device: &str, core: usize) -> Option<&'a BTreeSet<usize>> {
    let (device, cpu) = (host.machine.devices.get(device)?, host.machine.cpus.get(&core)?);
    let known = !device.is_empty() && !cpu.nodes.is_empty();
    (known && device.is_disjoint(&cpu.nodes)).then_some(device)
}

/// Cores on `nodes`, for remedies.
fn cores_on(host: &Host, nodes: &BTreeSet<usize>) -> String {
    let near = |cpu: &super::machine::Cpu| !cpu.nodes.is_disjoint(nodes);
    joined(host.machine.cpus.iter().filter(|(_, cpu)| near(cpu)).map(|(core, _)| core), ", ")
}

fn nics(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    for (number, shard) in config.shards.iter().enumerate() {
        for port in shard.ports.iter().map(|port| &config.ports[*port]) {
            let Some(name) = nic(&port.driver) else { continue };
            let Some(nodes) = far(host, name, shard.core) else { continue };
            findings.push(Finding {
                check: "numa-nic",
                text: format!(
                    "port {} ({name}) is on NUMA node {}, core {} of shard {number} is not: every frame \
                     crosses between them",
                    port.name,
                    joined(nodes, ", "),
                    shard.core
                ),
                remedy: format!("`core` of shard {number}: one of {}", cores_on(host, nodes)),
            });
        }
    }
}

fn log(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    let Some(device) = &host.log_device else { return };
    for (core, shard) in by_core(config) {
        let Some(nodes) = far(host, device, core) else { continue };
        findings.push(Finding {
            check: "numa-log",
            text: format!(
                "the log is on {device}, on NUMA node {}; core {core} of shard {shard} is not",
                joined(nodes, ", ")
            ),
            remedy: format!(
                "`core` of shard {shard}: one of {}; or [wal] dir on a device of the shard's node",
                cores_on(host, nodes)
            ),
        });
    }
}

/// Huge pages that are free on the nodes of the shards that need them.
fn huge_pages(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    if host.log != Medium::Hugetlbfs {
        return;
    }
    let mut needed: BTreeMap<&BTreeSet<usize>, (u64, Vec<usize>)> = BTreeMap::new();
    for (number, shard) in config.shards.iter().enumerate() {
        let Some(cpu) = host.machine.cpus.get(&shard.core) else { continue };
        let (bytes, shards) = needed.entry(&cpu.nodes).or_default();
        *bytes += log_bytes(config, number);
        shards.push(number);
    }
    let Some(PageSize { kib, .. }) = page_size(host) else { return };
    for (nodes, (bytes, shards)) in needed {
        let dir = |node: &usize| {
            format!("sys/devices/system/node/node{node}/hugepages/hugepages-{kib}kB")
        };
        let count = |node: &usize, file: &str| host.files.number(&format!("{}/{file}", dir(node)));
        let free: Option<u64> = nodes.iter().map(|node| count(node, "free_hugepages")).sum();
        let (Some(free), Some(node)) = (free, nodes.first()) else { continue };
        let wanted = bytes.div_ceil(kib * 1024);
        if free < wanted {
            let reserved = count(node, "nr_hugepages").unwrap_or(0);
            findings.push(Finding {
                check: "numa-huge-pages",
                text: format!(
                    "the logs of shard {} need {wanted} huge pages of {kib} KiB, and NUMA node {} has {free} \
                     free: the rest comes from other nodes",
                    joined(&shards, ", "),
                    joined(nodes, ", ")
                ),
                remedy: format!(
                    "echo {} > /{}/nr_hugepages",
                    reserved + wanted - free,
                    dir(node)
                ),
            });
        }
    }
}
