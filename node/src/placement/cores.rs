//! Who else uses a shard's core.

use mstream_controlplane::Config;

use super::{Finding, Host, by_core, cores_in_words, joined};

pub(super) fn check(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    shared(config, findings);
    siblings(host, config, findings);
    isolation(host, config, findings);
}

fn shared(config: &Config, findings: &mut Vec<Finding>) {
    let core = config.node.control_core;
    if let Some(shard) = by_core(config).get(&core) {
        findings.push(Finding {
            check: "shared-core",
            text: format!(
                "core {core} of shard {shard} is the control core too: its threads interrupt the shard"
            ),
            remedy: "set `control_core` in [node] to a core that no shard polls on".to_string(),
        });
    }
}

fn siblings(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    let shards = by_core(config);
    for core in shards.keys() {
        for sibling in host.machine.cpus.get(core).map_or(&[][..], |cpu| &cpu.siblings) {
            let user = if *sibling == config.node.control_core {
                "the control threads".to_string()
            } else if let Some(other) = shards.get(sibling) {
                if sibling < core {
                    // Told of the pair already.
                    continue;
                }
                format!("shard {other}")
            } else {
                findings.push(Finding {
                    check: "smt-sibling",
                    text: format!(
                        "core {sibling} is the same physical core as the shard's core {core}: whatever \
                         runs there takes from it"
                    ),
                    remedy: format!("echo 0 > /sys/devices/system/cpu/cpu{sibling}/online"),
                });
                continue;
            };
            findings.push(Finding {
                check: "smt-sibling",
                text: format!(
                    "core {core} of a shard and core {sibling} of {user} are one physical core"
                ),
                remedy: format!(
                    "choose cores with different siblings: /sys/devices/system/cpu/cpu{core}/topology/\
                     thread_siblings_list lists those of core {core}"
                ),
            });
        }
    }
}

/// A shard's core that the kernel uses for other things as well.
fn isolation(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    let files = &host.files;
    // To isolate the control core would leave nothing to the rest; that it is shared is told already.
    let cores: Vec<usize> =
        by_core(config).into_keys().filter(|core| *core != config.node.control_core).collect();
    if cores.is_empty() {
        return;
    }
    let arguments = files.text("proc/cmdline").unwrap_or_default();
    let argument = |name: &str| {
        let value = arguments.split_whitespace().find_map(|word| word.strip_prefix(name));
        value.and_then(|value| super::files::cores(value.strip_prefix('=')?))
    };
    let cpu = "sys/devices/system/cpu";
    // Cores of isolated partitions stand in the second file only.
    let isolated = files.cores(&format!("{cpu}/isolated")).map(|mut isolated| {
        isolated.extend(files.cores("sys/fs/cgroup/cpuset.cpus.isolated").unwrap_or_default());
        isolated
    });
    let tickless = files.cores(&format!("{cpu}/nohz_full"));
    // Tickless cores are without callbacks as well.
    let without_callbacks = tickless.as_ref().map(|tickless| {
        let mut cores = argument("rcu_nocbs").unwrap_or_default();
        cores.extend(tickless);
        cores
    });
    let all = joined(&cores, ",");
    let (mut wrong, mut remedy) = (Vec::new(), Vec::new());
    for (listed, what, cure) in [
        (
            isolated,
            "the scheduler puts other tasks on",
            format!("isolcpus=managed_irq,domain,{all}"),
        ),
        (tickless, "the timer ticks on", format!("nohz_full={all}")),
        (without_callbacks, "RCU callbacks run on", format!("rcu_nocbs={all}")),
    ] {
        let Some(listed) = listed else { continue };
        let open: Vec<_> = cores.iter().copied().filter(|core| !listed.contains(core)).collect();
        if !open.is_empty() {
            wrong.push(format!("{what} {}", cores_in_words(&open)));
            remedy.push(cure);
        }
    }
    if !wrong.is_empty() {
        findings.push(Finding {
            check: "isolation",
            text: wrong.join("; "),
            remedy: format!("kernel arguments: {}", remedy.join(" ")),
        });
    }
}
