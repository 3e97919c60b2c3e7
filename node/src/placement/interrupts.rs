//! Interrupts on a shard's core.

use mstream_controlplane::Config;

use super::{Finding, Host, by_core, joined};

/// Interrupts that are told by name at most.
const NAMED: usize = 6;

/// An interrupt that a shard's core serves.
struct Interrupt {
    number: u32,
    name: String,
}

pub(super) fn check(host: &Host, config: &Config, findings: &mut Vec<Finding>) {
    let table = host.files.text("proc/interrupts").unwrap_or_default();
    let shards = by_core(config);
    let home = config.node.control_core;
    for core in shards.keys().copied().filter(|core| *core != home) {
        let served = served(host, &table, core);
        if served.is_empty() {
            continue;
        }
        let names = served.iter().take(NAMED).map(|i| format!("{} ({})", i.number, i.name));
        let more = if served.len() > NAMED { ", ..." } else { "" };
        findings.push(Finding {
            check: "interrupts",
            text: format!(
                "core {core} of a shard serves {} interrupts: {}{more}",
                served.len(),
                joined(names, ", ")
            ),
            remedy: format!(
                "for i in {}; do echo {home} > /proc/irq/$i/smp_affinity_list; done  (one that refuses is \
                 moved by the kernel argument isolcpus=managed_irq,domain,{core})",
                joined(served.iter().map(|interrupt| interrupt.number), " ")
            ),
        });
    }
    if balancer_runs(host) {
        findings.push(Finding {
            check: "irqbalance",
            text: "irqbalance runs: it moves interrupts back onto cores of shards".to_string(),
            remedy: "systemctl disable --now irqbalance".to_string(),
        });
    }
}

/// Interrupts that `core` serves, and that came there since the machine started as far as that is known.
fn served(host: &Host, table: &str, core: usize) -> Vec<Interrupt> {
    let column = table
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().position(|name| name == format!("CPU{core}")));
    let cores = table.lines().next().map_or(0, |line| line.split_whitespace().count());
    let mut served: Vec<_> = host
        .files
        .names("proc/irq")
        .into_iter()
        .filter_map(|name| {
            let number: u32 = name.parse().ok()?;
            let at = host.files.cores(&format!("proc/irq/{name}/effective_affinity_list"))?;
            let row = table.lines().find_map(|line| {
                let (head, rest) = line.split_once(':')?;
                (head.trim() == name).then_some(rest)
            });
            let count = row
                .zip(column)
                .and_then(|(row, column)| row.split_whitespace().nth(column)?.parse::<u64>().ok());
            let name = row.map(|row| joined(row.split_whitespace().skip(cores).skip(2), " "));
            let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".into());
            (at.contains(&core) && count != Some(0)).then_some(Interrupt { number, name })
        })
        .collect();
    served.sort_by_key(|interrupt| interrupt.number);
    served
}

fn balancer_runs(host: &Host) -> bool {
    let is_process = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    host.files.names("proc").iter().filter(|name| is_process(name)).any(|process| {
        host.files.text(&format!("proc/{process}/comm")).is_some_and(|name| name == "irqbalance")
    })
}
