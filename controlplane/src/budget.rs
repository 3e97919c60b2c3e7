//! How much memory a configuration asks for, and whether the machine has it.
//!
//! The log's size is exact. Pools are exact up to their bookkeeping. Tables are upper bounds.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mstream_pmem::wal::TableLimits;

use crate::config::{Config, Driver};

/// hugetlbfs's and tmpfs's magic numbers in statfs (statfs(2)).
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// A buffer of a pool, with the pointers to it.
const FRAME_BYTES: u64 = 2048 + 16;
/// Upper bounds of a table's entry, with its places in maps and lists.
const SESSION_BYTES: u64 = 512;
const HANDLE_BYTES: u64 = 256;
const PENDING_BYTES: u64 = 192;
/// Beside what the log keeps of it, with its name.
const STREAM_BYTES: u64 = 192;
const PUBLISHER_BYTES: u64 = 32;
/// A thread's stack, its stack guard aside, and what the allocator keeps for it.
const THREAD_BYTES: u64 = 4 << 20;

/// Where memory is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Ordinary pages.
    Memory,
    /// Reserved huge pages.
    HugePages,
}

/// One line of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is for.
    pub what: String,
    /// Bytes, whether taken already or not.
    pub bytes: u64,
    /// Bytes of it that are there already: segments of an earlier run.
    pub taken: u64,
    /// Where it comes from.
    pub source: Source,
}

/// The memory that a configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its parts.
    pub items: Vec<Item>,
}

/// What the machine has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Bytes of ordinary memory that can be had without swapping.
    pub memory: u64,
    /// Bytes of free huge pages of all sizes.
    pub huge_pages: u64,
}

impl Available {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When /proc does not say it.
    pub fn now() -> io::Result<Available> {
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let memory = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse::<u64>().ok())
            .ok_or_else(|| io::Error::other("/proc/meminfo has no MemAvailable"))?;
        Ok(Available { memory: memory * 1024, huge_pages: free_huge_pages().unwrap_or(0) })
    }
}

fn free_huge_pages() -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir("/sys/kernel/mm/hugepages")? {
        let entry = entry?;
        let name = entry.file_name();
        let page = name
            .to_str()
            .and_then(|name| name.strip_prefix("hugepages-"))
            .and_then(|name| name.strip_suffix("kB"))
            .and_then(|number| number.parse::<u64>().ok());
        let free = fs::read_to_string(entry.path().join("free_hugepages"))?;
        if let (Some(page), Ok(free)) = (page, free.trim().parse::<u64>()) {
            bytes += page * 1024 * free;
        }
    }
    Ok(bytes)
}

/// What the files of a directory take their pages from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Reserved huge pages.
    Hugetlbfs,
    /// Ordinary memory.
    Tmpfs,
    /// A device, through the kernel's page cache or directly.
    Device,
}

/// What files below `dir` take; a directory that does not exist yet is its parent's kind.
pub fn medium(dir: &Path) -> Medium {
    let kind = dir.ancestors().find_map(|dir| {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        rustix::fs::statfs(dir).ok()
    });
    match kind.map(|kind| kind.f_type as u64 & 0xffff_ffff) {
        Some(HUGETLBFS_MAGIC) => Medium::Hugetlbfs,
        Some(TMPFS_MAGIC) => Medium::Tmpfs,
        _ => Medium::Device,
    }
}

/// Bytes that the files of a directory take.
pub fn taken(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|file| file.blocks() * 512)
        .sum()
}

impl Budget {
    /// The budget of `config`, on this machine's file systems.
    pub fn of(config: &Config) -> Budget {
        let mut items = Vec::new();
        let mut add = |what: String, bytes: u64| {
            items.push(Item { what, bytes, taken: 0, source: Source::Memory });
        };
        let limits = &config.limits;
        let handles = (limits.publications + limits.subscriptions) as u64;
        let tables = limits.sessions as u64 * SESSION_BYTES
            + handles * HANDLE_BYTES
            + limits.pending_records as u64 * PENDING_BYTES
            + limits.streams as u64 * STREAM_BYTES
            + limits.publishers as u64 * PUBLISHER_BYTES
            + limits.log_tables().table_bytes();
        let log_bytes = u64::from(config.wal.segments) * config.wal.segment_bytes;
        let index = limits.log_tables().index_bytes(config.wal.segments, config.wal.segment_bytes);
        let footers = TableLimits::footer_bytes(index, config.wal.segment_bytes);
        let notes =
            limits.log_tables().holdings_bytes(config.wal.segments, config.wal.segment_bytes);
        for (number, shard) in config.shards.iter().enumerate() {
            for port in shard.ports.iter().map(|port| &config.ports[*port]) {
                if !matches!(port.driver, Driver::Dpdk(_)) {
                    let what = format!("shard {number}: frames of port {}", port.name);
                    add(what, port.frames as u64 * FRAME_BYTES);
                }
            }
            add(format!("shard {number}: sessions and tables"), tables);
            add(format!("shard {number}: index of the log"), index);
            add(format!("shard {number}: notes on who has what in which segment"), notes);
            let buffers = (config.cold.read_buffers * config.cold.read_buffer_bytes) as u64;
            add(format!("shard {number}: buffers of cold segments"), buffers);
            add(format!("shard {number}: footers of what has no room in the index"), footers);
        }
        // A shard's own, its cold segments', and one that syncs its log.
        let per_shard = 2 + u64::from(config.wal.sync.is_some());
        let threads = config.shards.len() as u64 * per_shard + 4;
        add("threads".to_string(), threads * THREAD_BYTES);
        if config.uses_dpdk() {
            // Whether they are huge is found out when DPDK starts; small ones always will do.
            add("DPDK".to_string(), u64::from(config.dpdk.memory_mib) << 20);
        }
        for number in 0..config.shards.len() {
            let dir = config.wal.shard_dir(number);
            let medium = medium(&dir);
            let source = match medium {
                Medium::Hugetlbfs => Source::HugePages,
                Medium::Tmpfs | Medium::Device => Source::Memory,
            };
            let taken = if medium == Medium::Device { 0 } else { taken(&dir).min(log_bytes) };
            // On ordinary files that are synced it is a copy, which stays there.
            let staged = medium == Medium::Device && config.wal.sync.is_some();
            let copy = if staged { "memory of the " } else { "" };
            let what = format!("shard {number}: {copy}log in {}", dir.display());
            items.push(Item { what, bytes: log_bytes, taken, source });
        }
        Budget { items }
    }

    /// Bytes still to be taken from `source`.
    pub fn needed(&self, source: Source) -> u64 {
        let from_there = self.items.iter().filter(|item| item.source == source);
        from_there.map(|item| item.bytes - item.taken).sum()
    }

    /// What the machine lacks, in words.
    pub fn shortage(&self, available: &Available) -> Option<String> {
        let pairs = [
            (Source::Memory, available.memory, "memory", "lower [wal] max_bytes or [limits]"),
            (
                Source::HugePages,
                available.huge_pages,
                "huge pages",
                "raise /proc/sys/vm/nr_hugepages or lower [wal] max_bytes",
            ),
        ];
        pairs.into_iter().find_map(|(source, has, name, advice)| {
            let needed = self.needed(source);
            (needed > has).then(|| {
                format!(
                    "not enough {name}: {} needed, {} available; {advice}",
                    mib(needed),
                    mib(has)
                )
            })
        })
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for item in &self.items {
            let pages = if item.source == Source::HugePages { " (huge pages)" } else { "" };
            writeln!(f, "  {:>12}  {}{pages}", mib(item.bytes), item.what)?;
        }
        let total: u64 = self.items.iter().map(|item| item.bytes).sum();
        write!(f, "  {:>12}  in all", mib(total))
    }
}

/// Bytes in MiB, rounded up to tenths.
fn mib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("test.toml"), text, &[0, 1]).expect("a sound configuration")
    }

    const TEXT: &str = r#"
        [node]
        id = 1
        run_dir = "/run/mstream"
        [[port]]
        name = "a"
        driver = "memif"
        ip = "10.0.0.1"
        socket = "a.sock"
        frames = 2048
        [[shard]]
        core = 0
        ports = ["a"]
        udp_port = 7500
        idle = "yield"
        [wal]
        dir = "/nowhere/log"
        segment_bytes = "1 MiB"
        max_bytes = "32 MiB"
    "#;

    #[test]
    fn the_log_and_the_pools_are_in_the_budget() {
        let budget = Budget::of(&config(TEXT));
        let bytes = |word: &str| {
            let item = budget.items.iter().find(|item| item.what.contains(word));
            item.map(|item| item.bytes).expect("an item")
        };
        assert_eq!(bytes("log in /nowhere/log/shard-0"), 32 << 20);
        assert!(bytes("frames of port a") >= 2048 * 2048);
        assert!(bytes("index of the log") >= (32 << 20) / 128 * 8);
        assert!(bytes("footers") >= bytes("index of the log") / 2);
        let all: u64 = budget.items.iter().map(|item| item.bytes).sum();
        let source = budget.items.iter().map(|item| item.source);
        assert!(source.into_iter().all(|source| source == Source::Memory));
        assert_eq!(budget.needed(Source::Memory), all);
        assert_eq!(budget.shortage(&Available { memory: all, huge_pages: 0 }), None);
        let short = budget.shortage(&Available { memory: all - 1, huge_pages: 0 });
        assert!(short.expect("too little").starts_with("not enough memory: "));
    }
}
