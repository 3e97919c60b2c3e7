//! The machine by hwloc: cores, their siblings and caches, the NUMA nodes of cores and devices.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::{CacheType, ObjectType};
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder, TypeFilter};

/// A core, as the kernel counts them: a hardware thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// The other threads of its physical core.
    pub(crate) siblings: Vec<usize>,
    /// NUMA nodes that are local to it.
    pub(crate) nodes: BTreeSet<usize>,
    /// Its data caches, the nearest first.
    pub(crate) caches: Vec<Cache>,
}

/// A cache of a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) level: usize,
    pub(crate) bytes: u64,
    /// Cores that use it.
    pub(crate) cores: usize,
}

/// What the rules ask of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Cores that are online, by number.
    pub(crate) cpus: BTreeMap<usize, Cpu>,
    /// NUMA nodes with memory.
    pub(crate) nodes: BTreeSet<usize>,
    /// NUMA nodes that devices are local to, by interface name, block device or PCI address
    /// (`0000:3b:00.0`).
    pub(crate) devices: BTreeMap<String, BTreeSet<usize>>,
}

impl Machine {
    /// The machine that this process runs on, with what is kept from it.
    pub(crate) fn this() -> Result<Machine, String> {
        Machine::build(TopologyBuilder::new())
    }

    /// A machine described in hwloc's XML, for tests.
    #[cfg(test)]
    pub(crate) fn from_xml(xml: &str) -> Result<Machine, String> {
        let builder = TopologyBuilder::new().from_xml(xml).map_err(|error| error.to_string())?;
        Machine::build(builder)
    }

    /// A machine in hwloc's short form, such as `node:2 core:2 pu:2`, for tests.
    #[cfg(test)]
    pub(crate) fn from_synthetic(description: &str) -> Result<Machine, String> {
        let builder = TopologyBuilder::new()
            .from_synthetic(description)
            .map_err(|error| error.to_string())?;
        Machine::build(builder)
    }

    fn build(builder: TopologyBuilder) -> Result<Machine, String> {
        let topology = builder
            .with_flags(BuildFlags::INCLUDE_DISALLOWED)
            .map_err(|error| error.to_string())?
            .with_io_type_filter(TypeFilter::KeepAll)
            .map_err(|error| error.to_string())?
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Machine::of(&topology))
    }

    fn of(topology: &Topology) -> Machine {
        let mut machine = Machine::default();
        for pu in topology.objects_with_type(ObjectType::PU) {
            let Some(number) = pu.os_index() else { continue };
            let core = pu.first_ancestor_with_type(ObjectType::Core);
            let mut siblings = core.map(cores).unwrap_or_default();
            siblings.retain(|sibling| *sibling != number);
            let caches = pu.ancestors().filter_map(cache).collect();
            machine.cpus.insert(number, Cpu { siblings, nodes: nodes(pu), caches });
        }
        let memory = topology.objects_with_type(ObjectType::NUMANode);
        machine.nodes = memory.filter_map(TopologyObject::os_index).collect();
        for device in topology.pci_devices().chain(topology.os_devices()) {
            let Some(local) = device.first_non_io_ancestor().map(nodes) else { continue };
            let name = match device.attributes() {
                Some(ObjectAttributes::PCIDevice(pci)) => Some(format!(
                    "{:04x}:{:02x}:{:02x}.{:x}",
                    pci.domain(),
                    pci.bus_id(),
                    pci.bus_device(),
                    pci.function()
                )),
                _ => device.name().map(|name| name.to_string_lossy().into_owned()),
            };
            machine.devices.extend(name.map(|name| (name, local)));
        }
        machine
    }
}

fn cores(object: &TopologyObject) -> Vec<usize> {
    object.cpuset().map(|set| set.iter_set().map(usize::from).collect()).unwrap_or_default()
}

fn nodes(object: &TopologyObject) -> BTreeSet<usize> {
    object.nodeset().map(|set| set.iter_set().map(usize::from).collect()).unwrap_or_default()
}

fn cache(object: &TopologyObject) -> Option<Cache> {
    let Some(ObjectAttributes::Cache(cache)) = object.attributes() else { return None };
    (cache.cache_type() != CacheType::Instruction).then(|| Cache {
        level: cache.depth(),
        bytes: cache.size().map_or(0, std::num::NonZero::get),
        cores: cores(object).len(),
    })
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = super::joined(&self.nodes, ", ");
        write!(f, "NUMA node {}", if nodes.is_empty() { "unknown" } else { &nodes })?;
        if !self.siblings.is_empty() {
            let siblings = super::joined(&self.siblings, ", ");
            write!(f, ", one physical core with {siblings}")?;
        }
        for cache in &self.caches {
            write!(f, ", L{} {} KiB", cache.level, cache.bytes >> 10)?;
            if cache.cores > 1 {
                write!(f, " ({} cores)", cache.cores)?;
            }
        }
        Ok(())
    }
}
