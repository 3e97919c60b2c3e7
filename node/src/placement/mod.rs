//! Placement: what cores, caches, memory and NICs this host has, and what of it is not right for low
//! latency. A finding never stops the node; each says what was found where, and how to mend it.

mod cores;
mod files;
mod interrupts;
mod machine;
mod memory;
mod numa;
mod speed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mstream_controlplane::Config;
use mstream_controlplane::budget::{Medium, medium};

use self::files::Files;
use self::machine::Machine;

/// One thing to mend on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Short and constant, such as "governor".
    pub(crate) check: &'static str,
    /// What was found, and where.
    pub(crate) text: String,
    /// The command, setting or kernel argument that mends it.
    pub(crate) remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not right for low latency: {}: {}; mend it: {}",
            self.check, self.text, self.remedy
        )
    }
}

/// A host as the rules see it.
struct Host {
    files: Files,
    machine: Machine,
    /// What the logs lie on.
    log: Medium,
    /// The block device that they lie on.
    log_device: Option<String>,
}

/// What is known of the placement of a configuration's shards.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    /// Where the shards are, one line each.
    pub(crate) lines: Vec<String>,
    /// What is not right.
    pub(crate) findings: Vec<Finding>,
}

/// Looks at this host. To be called before memory is taken: huge pages that the node holds itself are no
/// longer free.
pub(crate) fn survey(config: &Config) -> Placement {
    let machine = match Machine::this() {
        Ok(machine) => machine,
        Err(error) => {
            tracing::warn!("the host's topology is not known: {error}");
            Machine::default()
        }
    };
    let files = Files::at("/");
    let log_device = block_device(&files, &config.wal.dir);
    let host = Host { files, machine, log: medium(&config.wal.dir), log_device };
    Placement { lines: describe(&host, config), findings: findings(&host, config) }
}

/// The block device that `dir`, or what there is of its path, lies on.
fn block_device(files: &Files, dir: &Path) -> Option<String> {
    let device = dir.ancestors().find_map(|dir| dir.metadata().ok())?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    files.link_name(&format!("sys/dev/block/{major}:{minor}"))
}

fn findings(host: &Host, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    cores::check(host, config, &mut findings);
    interrupts::check(host, config, &mut findings);
    speed::check(host, config, &mut findings);
    numa::check(host, config, &mut findings);
    memory::check(host, config, &mut findings);
    findings
}

/// Core, node and caches of each shard.
fn describe(host: &Host, config: &Config) -> Vec<String> {
    let line = |(number, core)| {
        let cpu = host.machine.cpus.get(&core)?;
        Some(format!("shard {number}: core {core}, {cpu}"))
    };
    config.shards.iter().map(|shard| shard.core).enumerate().filter_map(line).collect()
}

/// Shards by the core that they poll on: the configuration gives each one of its own.
fn by_core(config: &Config) -> BTreeMap<usize, usize> {
    config.shards.iter().enumerate().map(|(number, shard)| (shard.core, number)).collect()
}

/// `items` with `separator` between them.
fn joined<T: ToString>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}

/// "core 1", "cores 1, 3".
fn cores_in_words(cores: &[usize]) -> String {
    format!("core{} {}", if cores.len() == 1 { "" } else { "s" }, joined(cores, ", "))
}
