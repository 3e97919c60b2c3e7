//! How fast the cores run, how deep they sleep, and what their clocks are worth.

use std::collections::BTreeSet;

use mstream_controlplane::Config;

use super::{Finding, Host, by_core, cores_in_words, joined};

/// Sleep that takes longer to wake from is a finding, in us.
const DEEP_SLEEP_US: u64 = 10;
const CPU: &str = "sys/devices/system/cpu";
const CLOCK: &str = "sys/devices/system/clocksource/clocksource0";

pub(super) fn check(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    governor(host, config, findings);
    turbo(host, findings);
    sleep(host, config, findings);
    clock(host, findings);
    watchdog(host, findings);
}

fn governor(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    let governor = |core: &usize| {
        let name = host.files.text(&format!("{CPU}/cpu{core}/cpufreq/scaling_governor"))?;
        (name != "performance").then_some((*core, name))
    };
    let slow: Vec<_> = by_core(config).keys().filter_map(governor).collect();
    if slow.is_empty() {
        return;
    }
    let told = slow.iter().map(|(core, name)| format!("{name} on core {core}"));
    findings.push(Finding {
        check: "governor",
        text: format!(
            "the frequency governor is {}: the clock follows the load",
            joined(told, ", ")
        ),
        remedy: format!(
            "for c in {}; do echo performance > /{CPU}/cpu$c/cpufreq/scaling_governor; done",
            joined(slow.iter().map(|(core, _)| core), " ")
        ),
    });
}

fn turbo(host: &Host, findings: &mut Vec<Finding>) {
    for (file, off, on) in [("intel_pstate/no_turbo", 1, 0), ("cpufreq/boost", 0, 1)] {
        if host.files.number(&format!("{CPU}/{file}")) == Some(off) {
            findings.push(Finding {
                check: "turbo",
                text: format!("turbo is off (/{CPU}/{file}): cores stay below their highest clock"),
                remedy: format!("echo {on} > /{CPU}/{file}"),
            });
        }
    }
}

/// Sleep states of the cores of shards and control threads that take long to wake from.
fn sleep(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    // What anybody demands at the moment, in us; the file is for root.
    let demanded = host.files.first::<4>("dev/cpu_dma_latency").map(i32::from_le_bytes);
    if demanded.is_some_and(|us| u64::try_from(us).is_ok_and(|us| us <= DEEP_SLEEP_US)) {
        return;
    }
    let mut cores: BTreeSet<usize> = by_core(config).into_keys().collect();
    cores.insert(config.node.control_core);
    let (mut deep_cores, mut states) = (Vec::new(), BTreeSet::new());
    let mut deepest: Option<(u64, String)> = None;
    for core in cores {
        let dir = format!("{CPU}/cpu{core}/cpuidle");
        for state in host.files.names(&dir) {
            let number = |file: &str| host.files.number(&format!("{dir}/{state}/{file}"));
            let us = number("latency").unwrap_or(0);
            if us <= DEEP_SLEEP_US || number("disable").is_some_and(|disable| disable != 0) {
                continue;
            }
            let name = host.files.text(&format!("{dir}/{state}/name"));
            deepest = deepest.max(Some((us, name.unwrap_or_else(|| state.clone()))));
            deep_cores.push(core);
            states.insert(state);
        }
    }
    deep_cores.dedup();
    let Some((us, name)) = deepest else { return };
    findings.push(Finding {
        check: "c-states",
        text: format!(
            "{} may sleep as deeply as {name}, which takes {us} us to wake from: so late a shard that does \
             not spin, or a control thread, begins its work",
            cores_in_words(&deep_cores)
        ),
        remedy: format!(
            "for c in {}; do for s in {}; do echo 1 > /{CPU}/cpu$c/cpuidle/$s/disable; done; done",
            joined(&deep_cores, " "),
            joined(&states, " ")
        ),
    });
}

fn clock(host: &Host, findings: &mut Vec<Finding>) {
    // Time-stamp counters with this name are a matter of x86.
    let processor = host.files.text("proc/cpuinfo").unwrap_or_default();
    let Some(flags) = processor.lines().find_map(|line| line.strip_prefix("flags")) else { return };
    let missing: Vec<_> = ["constant_tsc", "nonstop_tsc"]
        .into_iter()
        .filter(|flag| !flags.split_whitespace().any(|known| known == *flag))
        .collect();
    if !missing.is_empty() {
        let virtual_machine = flags.split_whitespace().any(|flag| flag == "hypervisor");
        findings.push(Finding {
            check: "tsc",
            text: format!(
                "the time-stamp counter is not invariant ({} is missing): reading the time may take a \
                 system call",
                missing.join(", ")
            ),
            remedy: match virtual_machine {
                true => "let the hypervisor pass it on, with QEMU: -cpu host,migratable=no,+invtsc",
                false => "none by software: use a processor that has it",
            }
            .to_string(),
        });
    }
    let current = host.files.text(&format!("{CLOCK}/current_clocksource"));
    let Some(current) = current.filter(|current| current != "tsc") else { return };
    let available = host.files.text(&format!("{CLOCK}/available_clocksource")).unwrap_or_default();
    findings.push(Finding {
        check: "clock-source",
        text: format!(
            "the kernel's clock source is {current}, not tsc: the time of other programs is slow"
        ),
        remedy: match available.split_whitespace().any(|name| name == "tsc") {
            true => format!("echo tsc > /{CLOCK}/current_clocksource"),
            false => {
                "kernel argument: tsc=reliable, unless `dmesg | grep -i tsc` says that it is not"
                    .into()
            }
        },
    });
}

fn watchdog(host: &Host, findings: &mut Vec<Finding>) {
    if host.files.number("proc/sys/kernel/nmi_watchdog") == Some(1) {
        findings.push(Finding {
            check: "nmi-watchdog",
            text: "the NMI watchdog interrupts every core".to_string(),
            remedy: "sysctl -w kernel.nmi_watchdog=0".to_string(),
        });
    }
}
