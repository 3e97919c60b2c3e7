//! The machine that figures come from, and what it took away.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// What a reader must know of the machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    /// The processor's name.
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Version of DPDK, if it is installed.
    pub(crate) dpdk: Option<String>,
    /// Bytes of reserved huge pages.
    pub(crate) huge_pages: u64,
    /// Cores that the scheduler leaves alone, as the kernel lists them.
    pub(crate) isolated: String,
}

impl Host {
    pub(crate) fn now() -> Host {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let number = |key| field(&memory, key).and_then(|value| value.parse::<u64>().ok());
        Host {
            cpu: line(&cpus, "model name").unwrap_or("unknown").to_string(),
            cores: core_affinity::get_core_ids().map_or(0, |cores| cores.len()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
            dpdk: dpdk_version(),
            huge_pages: number("HugePages_Total").unwrap_or(0)
                * number("Hugepagesize").unwrap_or(0)
                * 1024,
            isolated: read("/sys/devices/system/cpu/isolated").trim().to_string(),
        }
    }
}

/// The value of the first line that starts with `key`.
fn line<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// The first word of that value.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    line(text, key)?.split_whitespace().next()
}

fn dpdk_version() -> Option<String> {
    let output = Command::new("pkg-config").args(["--modversion", "libdpdk"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Processor time of all cores since start, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuTime {
    all: u64,
    stolen: u64,
}

impl CpuTime {
    pub(crate) fn now() -> CpuTime {
        CpuTime::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> CpuTime {
        let first = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guests are in user and nice already.
        let ticks: Vec<u64> =
            first.split_whitespace().skip(1).take(8).filter_map(|tick| tick.parse().ok()).collect();
        CpuTime { all: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }

    /// Percent of the time since `self` that the hypervisor gave to others.
    pub(crate) fn steal_percent_until(self, later: CpuTime) -> f64 {
        let all = later.all.saturating_sub(self.all);
        let stolen = later.stolen.saturating_sub(self.stolen);
        if all == 0 { 0.0 } else { 100.0 * stolen as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_number() {
        let before = CpuTime::parse("cpu  100 0 100 100 0 0 0 10 0 0\ncpu0 1 1\n");
        let after = CpuTime::parse("cpu  150 0 120 120 0 0 0 20 7 7\n");
        assert!((before.steal_percent_until(after) - 10.0).abs() < 1e-9);
        assert!(before.steal_percent_until(before).abs() < 1e-9);
        assert_eq!(CpuTime::parse(""), CpuTime { all: 0, stolen: 0 });
    }
}
