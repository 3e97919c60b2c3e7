//! Pages: huge ones, locked ones, swapped ones.

use mstream_controlplane::budget::{Medium, taken};
use mstream_controlplane::{Budget, Config};

use super::{Finding, Host};

/// CAP_IPC_LOCK in a capability set: locked memory without a limit.
const IPC_LOCK: u64 = 1 << 14;
const THP: &str = "sys/kernel/mm/transparent_hugepage/enabled";

pub(super) fn check(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    huge_pages(host, config, findings);
    transparent(host, findings);
    swap(host, findings);
    locked(host, config, findings);
}

/// Huge pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageSize {
    pub(super) kib: u64,
    pub(super) reserved: u64,
    pub(super) free: u64,
}

/// The huge pages that the kernel hands out unless asked for others.
pub(super) fn page_size(host: &Host) -> Option<PageSize> {
    let memory = host.files.text("proc/meminfo")?;
    let number = |key: &str| {
        let rest = memory.lines().find_map(|line| line.strip_prefix(key))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(PageSize {
        kib: number("Hugepagesize:").filter(|kib| *kib > 0)?,
        reserved: number("HugePages_Total:")?,
        free: number("HugePages_Free:")?,
    })
}

/// Bytes that the log of shard `number` still takes in memory.
pub(super) fn log_bytes(config: &Config, number: usize) -> u64 {
    let all = u64::from(config.wal.segments) * config.wal.segment_bytes;
    all.saturating_sub(taken(&config.wal.shard_dir(number)))
}

fn huge_pages(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    let Some(size) = page_size(host) else { return };
    let pages = |bytes: u64| bytes.div_ceil(size.kib * 1024);
    let log = match host.log {
        Medium::Hugetlbfs => (0..config.shards.len()).map(|n| pages(log_bytes(config, n))).sum(),
        Medium::Tmpfs | Medium::Device => 0,
    };
    let dpdk = match config.uses_dpdk() && config.dpdk.huge_pages != Some(false) {
        true => pages(u64::from(config.dpdk.memory_mib) << 20),
        false => 0,
    };
    if log + dpdk > size.free {
        let who = match (log, dpdk) {
            (0, _) => "DPDK takes ordinary pages unless there are enough huge ones",
            (_, 0) => "the log lies on huge pages",
            _ => "the log and DPDK use huge pages",
        };
        findings.push(Finding {
            check: "huge-pages",
            text: format!(
                "{who}: {} of {} KiB are needed, {} are free",
                log + dpdk,
                size.kib,
                size.free
            ),
            remedy: reserve(size, log + dpdk),
        });
    }
    if host.log == Medium::Tmpfs && !tmpfs_is_huge(host, config) {
        let bytes =
            u64::from(config.wal.segments) * config.wal.segment_bytes * config.shards.len() as u64;
        findings.push(Finding {
            check: "huge-pages",
            text: format!(
                "the log in {} lies on a tmpfs with pages of 4 KiB: the processor's cache of \
                 page addresses does not cover it",
                config.wal.dir.display()
            ),
            remedy: format!(
                "{}; mkdir -p /mnt/huge && mount -t hugetlbfs -o pagesize={}K none /mnt/huge; [wal] dir = \
                 \"/mnt/huge/...\"",
                reserve(size, pages(bytes) + dpdk),
                size.kib
            ),
        });
    }
}

/// Reserves as many more pages as are needed beyond those that are free.
fn reserve(size: PageSize, needed: u64) -> String {
    format!("echo {} > /proc/sys/vm/nr_hugepages", size.reserved + needed.saturating_sub(size.free))
}

/// True if the log's tmpfs was mounted so that it uses huge pages.
fn tmpfs_is_huge(host: &Host, config: &Config) -> bool {
    let mounts = host.files.text("proc/self/mounts").unwrap_or_default();
    // Device, directory, type, options; of directories within each other the longest counts.
    let mount = mounts
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() >= 4 && config.wal.dir.starts_with(fields[1]))
        .max_by_key(|fields| fields[1].len());
    mount.is_some_and(|fields| {
        fields[2] == "tmpfs"
            && fields[3]
                .split(',')
                .any(|option| matches!(option, "huge=always" | "huge=within_size" | "huge=advise"))
    })
}

fn transparent(host: &Host, findings: &mut Vec<Finding>) {
    // A process may have been started without them.
    let status = host.files.text("proc/self/status").unwrap_or_default();
    let off = status.lines().any(|line| line.split_whitespace().eq(["THP_enabled:", "0"]));
    if !off && host.files.text(THP).is_some_and(|modes| modes.contains("[always]")) {
        findings.push(Finding {
            check: "thp",
            text: "transparent huge pages are on for every process: the kernel stops threads to merge pages"
                .to_string(),
            remedy: format!("echo madvise > /{THP}"),
        });
    }
}

fn swap(host: &Host, findings: &mut Vec<Finding>) {
    let swaps = host.files.text("proc/swaps").unwrap_or_default();
    let areas: Vec<_> =
        swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if !areas.is_empty() {
        findings.push(Finding {
            check: "swap",
            text: format!("memory may be swapped out to {}", areas.join(", ")),
            remedy: format!("swapoff {}", areas.join(" ")),
        });
    }
}

/// Whether all memory may be locked.
fn locked(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    let status = host.files.text("proc/self/status").unwrap_or_default();
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    if capabilities.is_some_and(|set| set & IPC_LOCK != 0) {
        return;
    }
    let limits = host.files.text("proc/self/limits").unwrap_or_default();
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let needed: u64 = Budget::of(config).items.iter().map(|item| item.bytes).sum();
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        findings.push(Finding {
            check: "mlock",
            text: format!(
                "at most {} MiB of memory may be locked, {} MiB are used: the rest may be swapped out or \
                 moved",
                limit >> 20,
                needed.div_ceil(1 << 20)
            ),
            remedy: "ulimit -l unlimited  (systemd: LimitMEMLOCK=infinity)".to_string(),
        });
    }
}
