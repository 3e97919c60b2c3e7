//! The rules over made-up machines and files: each finding where it must be, and not where it must not.

use std::fs;
use std::path::Path;

use super::*;

/// Two nodes of two cores each; a NIC and a persistent memory device on the second.
const MACHINE: &str = include_str!("two_nodes.xml");
/// Two physical cores with two threads each: 0 and 1, 2 and 3.
const THREADED: &str = "core:2 pu:2";

const CONFIG: &str = r#"
    [node]
    id = 1
    run_dir = "/run/mstream"
    control_core = 0
    [[port]]
    name = "a"
    driver = "memif"
    ip = "10.0.0.1"
    socket = "a.sock"
    [[shard]]
    core = 1
    ports = ["a"]
    udp_port = 7500
    idle = "spin"
    [wal]
    dir = "/nowhere/log"
    segment_bytes = "1 MiB"
    max_bytes = "32 MiB"
"#;
const SECOND_SHARD: &str = "[[shard]]\ncore = 3\nports = [\"b\"]\nudp_port = 7501\nidle = \"spin\"\n\
                            [[port]]\nname = \"b\"\ndriver = \"memif\"\nip = \"10.0.0.2\"\nsocket = \"b.sock\"\n";

/// A host on which nothing is wrong for shards on cores 1 and 3.
const QUIET: &[(&str, &str)] = &[
    ("sys/devices/system/cpu/isolated", "1,3\n"),
    ("sys/devices/system/cpu/nohz_full", "1,3\n"),
    ("proc/cmdline", "quiet rcu_nocbs=1,3\n"),
    ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu tsc constant_tsc nonstop_tsc\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n"),
    ("sys/devices/system/cpu/cpu1/cpuidle/state1/latency", "2\n"),
    ("sys/devices/system/cpu/cpu1/cpuidle/state1/disable", "0\n"),
    ("sys/devices/system/cpu/cpu1/cpuidle/state2/latency", "133\n"),
    ("sys/devices/system/cpu/cpu1/cpuidle/state2/disable", "1\n"),
    ("sys/devices/system/cpu/cpu1/cpuidle/state2/name", "C6\n"),
    ("proc/sys/kernel/nmi_watchdog", "0\n"),
    ("proc/sys/kernel/numa_balancing", "0\n"),
    (
        "proc/interrupts",
        "      CPU0 CPU1 CPU2 CPU3\n 9:  5 0 0 0  IO-APIC 9-fast  acpi\n24:  5 0 0 7  PCI-MSI 1-edge  eth0-rx-0\n",
    ),
    ("proc/irq/9/effective_affinity_list", "0\n"),
    ("proc/irq/24/effective_affinity_list", "0\n"),
    ("proc/12/comm", "bash\n"),
    ("proc/meminfo", "HugePages_Total: 20\nHugePages_Free: 16\nHugepagesize: 2048 kB\n"),
    ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "16\n"),
    ("sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "16\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("proc/swaps", "Filename Type Size Used Priority\n"),
    ("proc/self/status", "Name: x\nCapEff:\t0000000000000000\nTHP_enabled:\t1\n"),
    ("proc/self/limits", "Limit Soft Hard Units\nMax locked memory  unlimited unlimited bytes\n"),
];

/// Files by their paths.
type Changes<'a> = &'a [(&'a str, &'a str)];

struct Made {
    host: Host,
    _root: tempfile::TempDir,
}

/// A host with the files of `QUIET` and `changes`; an empty one is left out.
fn made(machine: Machine, changes: Changes<'_>) -> Made {
    let root = tempfile::tempdir().expect("a directory");
    for (path, text) in QUIET.iter().chain(changes) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("not the root")).expect("made");
        fs::write(&path, text).expect("written");
        if text.is_empty() {
            fs::remove_file(&path).expect("removed");
        }
    }
    let files = Files::at(root.path());
    let host = Host { files, machine, log: Medium::Hugetlbfs, log_device: None };
    Made { host, _root: root }
}

fn two_nodes() -> Machine {
    Machine::from_xml(MACHINE).expect("a machine")
}

fn config(text: &str) -> Config {
    Config::parse(Path::new("test.toml"), text, &[0, 1, 2, 3]).expect("a sound configuration")
}

/// The findings of `CONFIG` on two nodes with other files.
fn found(changes: Changes<'_>) -> Vec<Finding> {
    findings(&made(two_nodes(), changes).host, &config(CONFIG))
}

/// The one finding of a host, which must be of `check`.
fn only(findings: &[Finding], check: &str) -> Finding {
    assert!(matches!(findings, [finding] if finding.check == check), "{check}: {findings:?}");
    findings[0].clone()
}

#[test]
fn a_quiet_host_has_no_findings() {
    assert_eq!(found(&[]), []);
    let machine = made(two_nodes(), &[]);
    let two = format!("{CONFIG}{SECOND_SHARD}");
    // Half of the free pages each; the second is on the other node.
    let two = two.replace("32 MiB", "16 MiB");
    assert_eq!(findings(&machine.host, &config(&two)), []);
}

#[test]
fn each_file_that_is_not_right_is_one_finding_with_its_remedy() {
    let cpu = "sys/devices/system/cpu";
    let clock = "sys/devices/system/clocksource/clocksource0";
    let cases: &[(&str, Changes<'_>, &str, &str)] = &[
        (
            "isolation",
            &[(&format!("{cpu}/isolated"), "3")],
            "other tasks on core 1",
            "isolcpus=managed_irq,domain,1",
        ),
        (
            "isolation",
            &[(&format!("{cpu}/nohz_full"), "2-3")],
            "timer ticks on core 1",
            "nohz_full=1",
        ),
        (
            "isolation",
            &[(&format!("{cpu}/nohz_full"), "2-3"), ("proc/cmdline", "quiet")],
            "RCU callbacks run on core 1",
            "nohz_full=1 rcu_nocbs=1",
        ),
        (
            "interrupts",
            &[("proc/irq/24/effective_affinity_list", "1"), ("proc/interrupts", "")],
            "24 (unknown)",
            "for i in 24; do echo 0 > /proc/irq/$i/smp_affinity_list; done",
        ),
        (
            "irqbalance",
            &[("proc/12/comm", "irqbalance\n")],
            "irqbalance runs",
            "systemctl disable --now irqbalance",
        ),
        (
            "governor",
            &[(&format!("{cpu}/cpu1/cpufreq/scaling_governor"), "powersave")],
            "powersave on core 1",
            "for c in 1; do echo performance > /sys/devices/system/cpu/cpu$c/cpufreq/scaling_governor; done",
        ),
        (
            "turbo",
            &[(&format!("{cpu}/intel_pstate/no_turbo"), "1")],
            "no_turbo",
            "echo 0 > /sys/devices/system/cpu/intel_pstate/no_turbo",
        ),
        (
            "turbo",
            &[(&format!("{cpu}/cpufreq/boost"), "0")],
            "boost",
            "echo 1 > /sys/devices/system/cpu/cpufreq/boost",
        ),
        (
            "c-states",
            &[(&format!("{cpu}/cpu1/cpuidle/state2/disable"), "0")],
            "C6, which takes 133 us",
            "for c in 1; do for s in state2; do echo 1 > /sys/devices/system/cpu/cpu$c/cpuidle/$s/disable; done; done",
        ),
        (
            "clock-source",
            &[
                (&format!("{clock}/current_clocksource"), "hpet"),
                (&format!("{clock}/available_clocksource"), "tsc hpet"),
            ],
            "hpet",
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
        ),
        (
            "clock-source",
            &[(&format!("{clock}/current_clocksource"), "hpet")],
            "hpet",
            "tsc=reliable",
        ),
        (
            "tsc",
            &[("proc/cpuinfo", "flags : tsc constant_tsc hypervisor")],
            "nonstop_tsc",
            "+invtsc",
        ),
        (
            "nmi-watchdog",
            &[("proc/sys/kernel/nmi_watchdog", "1")],
            "watchdog",
            "sysctl -w kernel.nmi_watchdog=0",
        ),
        (
            "numa-balancing",
            &[("proc/sys/kernel/numa_balancing", "1")],
            "between NUMA nodes",
            "sysctl -w kernel.numa_balancing=0",
        ),
        (
            "numa-huge-pages",
            &[
                ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "6"),
                ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "8"),
            ],
            "need 16 huge pages",
            "echo 18 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
        ),
        (
            "huge-pages",
            &[("proc/meminfo", "HugePages_Total: 20\nHugePages_Free: 15\nHugepagesize: 2048 kB")],
            "16 of 2048 KiB are needed, 15 are free",
            "echo 21 > /proc/sys/vm/nr_hugepages",
        ),
        (
            "thp",
            &[("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")],
            "every process",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        (
            "swap",
            &[("proc/swaps", "Filename Type\n/dev/sda2 partition 1 0 -2\n")],
            "/dev/sda2",
            "swapoff /dev/sda2",
        ),
        (
            "mlock",
            &[("proc/self/limits", "Max locked memory  8388608 8388608 bytes")],
            "at most 8 MiB",
            "ulimit -l unlimited",
        ),
    ];
    for (check, changes, text, remedy) in cases {
        let finding = only(&found(changes), check);
        assert!(finding.text.contains(text), "{check}: {}", finding.text);
        assert!(finding.remedy.contains(remedy), "{check}: {}", finding.remedy);
    }
}

#[test]
fn what_is_right_in_another_way_is_no_finding() {
    let cpu = "sys/devices/system/cpu";
    let latency = "\u{5}\0\0\0";
    let cases: &[Changes<'_>] = &[
        // A partition of the process's control group.
        &[(&format!("{cpu}/isolated"), "3"), ("sys/fs/cgroup/cpuset.cpus.isolated", "1-2")],
        // Tickless cores have no callbacks.
        &[("proc/cmdline", "quiet")],
        // An interrupt that never came.
        &[("proc/irq/24/effective_affinity_list", "1")],
        // Somebody demands that nobody sleeps deeply.
        &[(&format!("{cpu}/cpu1/cpuidle/state2/disable"), "0"), ("dev/cpu_dma_latency", latency)],
        // This process is without them.
        &[
            ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
            ("proc/self/status", "THP_enabled:\t0\nCapEff: 0"),
        ],
        // A process that may lock what it likes.
        &[
            ("proc/self/limits", "Max locked memory  8388608 8388608 bytes"),
            ("proc/self/status", "CapEff:\t000001ffffffffff"),
        ],
        // Another architecture.
        &[
            ("proc/cpuinfo", "Features : fp asimd"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "arch_sys_counter"),
        ],
    ];
    for changes in cases {
        assert_eq!(found(changes), [], "{changes:?}");
    }
}

#[test]
fn files_that_do_not_exist_are_no_findings() {
    let without: Vec<_> = QUIET.iter().map(|(path, _)| (*path, "")).collect();
    assert_eq!(found(&without), []);
    let nonsense: Vec<_> =
        QUIET.iter().map(|(path, _)| (*path, "\u{1}x,-9-,99999999999999999999\n")).collect();
    // Whatever it finds, it ends.
    let _ = found(&nonsense);
}

#[test]
fn cores_that_are_shared() {
    let made = made(two_nodes(), &[]);
    let host = &made.host;
    let on_control = config(&CONFIG.replace("control_core = 0", "control_core = 1"));
    assert!(only(&findings(host, &on_control), "shared-core").text.contains("control core"));
}

#[test]
fn threads_of_one_physical_core() {
    let machine = || Machine::from_synthetic(THREADED).expect("a machine");
    let made = made(
        machine(),
        &[("sys/devices/system/cpu/isolated", "1-3"), ("sys/devices/system/cpu/nohz_full", "1-3")],
    );
    let at = |shard: &str, control: &str| {
        let text = CONFIG.replace("core = 1", shard).replace("control_core = 0", control);
        findings(&made.host, &config(&text))
    };
    let with_control = only(&at("core = 1", "control_core = 0"), "smt-sibling");
    assert!(with_control.text.contains("control threads"), "{with_control:?}");
    let free = only(&at("core = 2", "control_core = 0"), "smt-sibling");
    assert_eq!(free.remedy, "echo 0 > /sys/devices/system/cpu/cpu3/online");
    let pair = format!("{CONFIG}{SECOND_SHARD}")
        .replace("core = 1", "core = 2")
        .replace("32 MiB", "16 MiB");
    let pair = only(&findings(&made.host, &config(&pair)), "smt-sibling");
    assert!(pair.text.contains("core 2 of a shard and core 3 of shard 1"), "{pair:?}");
}

#[test]
fn a_log_on_a_device_of_another_node() {
    let mut made = made(two_nodes(), &[]);
    let host = &mut made.host;
    host.log = Medium::Device;
    host.log_device = Some("pmem1".to_string());
    let finding = only(&findings(host, &config(CONFIG)), "numa-log");
    assert!(
        finding.text.contains("NUMA node 1") && finding.remedy.contains("one of 2, 3"),
        "{finding:?}"
    );
    let near = CONFIG.replace("core = 1", "core = 3");
    assert_eq!(findings(host, &config(&near)), []);
    host.log_device = Some("sda".to_string());
    assert_eq!(findings(host, &config(CONFIG)), []);
}

#[test]
fn a_nic_of_another_node() {
    let made = made(two_nodes(), &[]);
    let af_xdp = "driver = \"dpdk\"\n    device = \"af_xdp\"\n    interface = \"eth0\"";
    let text =
        CONFIG.replace("driver = \"memif\"", af_xdp).replace("    socket = \"a.sock\"\n", "");
    let text = format!("{text}[dpdk]\nhuge_pages = false\n");
    let finding = only(&findings(&made.host, &config(&text)), "numa-nic");
    assert!(finding.text.contains("port a (eth0) is on NUMA node 1"), "{finding:?}");
    assert!(finding.remedy.contains("one of 2, 3"), "{finding:?}");
    assert_eq!(findings(&made.host, &config(&text.replace("core = 1", "core = 3"))), []);
}

#[test]
fn a_log_on_a_tmpfs_of_ordinary_pages() {
    for (options, wrong) in [("rw,size=1g", true), ("rw,huge=always", false)] {
        let mounts = format!("/dev/sda / ext4 rw 0 0\ntmpfs /nowhere tmpfs {options} 0 0\n");
        let mut made = made(two_nodes(), &[("proc/self/mounts", &mounts)]);
        let host = &mut made.host;
        host.log = Medium::Tmpfs;
        let findings = findings(host, &config(CONFIG));
        match wrong {
            true => assert!(only(&findings, "huge-pages").remedy.contains("mount -t hugetlbfs")),
            false => assert_eq!(findings, []),
        }
    }
}

#[test]
fn this_machine_is_looked_at_without_trouble() {
    let machine = Machine::this().expect("hwloc knows it");
    let cpu = machine.cpus.values().next().expect("a core");
    assert!(!cpu.nodes.is_empty() && cpu.to_string().starts_with("NUMA node "), "{cpu}");
    let machine = two_nodes();
    assert_eq!(machine.devices["eth0"], [1].into());
    assert_eq!(machine.devices["0000:3b:00.0"], [1].into());
    let placement = survey(&config(CONFIG));
    assert!(placement.lines.len() <= 1);
}
