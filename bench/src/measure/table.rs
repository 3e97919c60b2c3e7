//! Figures for people.

use std::fmt::Write;

use super::figures::{Percentiles, Report};
use super::host::Host;

/// A table of reports, and what must be said about them.
pub(crate) fn of(reports: &[&Report], host: &Host) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = lines(&mut text, reports, host);
    text
}

fn lines(text: &mut String, reports: &[&Report], host: &Host) -> std::fmt::Result {
    let Host { cpu, cores, kernel, .. } = host;
    writeln!(text, "{cpu}, {cores} cores, Linux {kernel}")?;
    writeln!(
        text,
        "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12}",
        "", "p50 us", "p99 us", "p99.9 us", "p99.99 us", "max us", "messages/s"
    )?;
    for report in reports {
        let figures = &report.figures;
        let name = format!("{} ({})", figures.scenario, figures.port);
        if figures.scenario != "floor" {
            row(text, &name, &figures.latency_ns, Some(figures.throughput_msgs_per_s))?;
        }
        if let Some(floor) = &figures.floor_ns {
            let name = if figures.scenario == "floor" { &name } else { "  floor" };
            row(text, name, floor, figures.floor_msgs_per_s)?;
        }
        if let (Some(ratio), true) = (&figures.ratio, figures.scenario != "floor") {
            writeln!(
                text,
                "{:<28} {:>9.2} {:>9.2} {:>9.2}",
                "  ratio", ratio.p50, ratio.p99, ratio.p99_9
            )?;
        }
        for peer in &figures.peers {
            let name = format!("  {}, {}", peer.name, peer.shape);
            row(text, &name, &peer.latency_ns, Some(peer.throughput_msgs_per_s))?;
            let ratio = &peer.ratio;
            writeln!(
                text,
                "{:<28} {:>9.2} {:>9.2} {:>9.2}",
                "    by the appliance's", ratio.p50, ratio.p99, ratio.p99_9
            )?;
        }
        writeln!(
            text,
            "  {} messages of {} bytes, {} a datagram, persisted: {}; lost {}, duplicated {}, out of \
             order {}, mismatched {}; steal {} %; median of {} run{}",
            figures.messages,
            figures.size,
            figures.batch,
            figures.durability,
            figures.lost,
            figures.duplicated,
            figures.out_of_order,
            figures.mismatched,
            figures.steal_percent,
            report.runs.len(),
            if report.runs.len() == 1 { "" } else { "s" },
        )?;
        for remark in &figures.remarks {
            writeln!(text, "  note: {remark}")?;
        }
    }
    Ok(())
}

fn row(
    text: &mut String,
    name: &str,
    latency: &Percentiles,
    rate: Option<f64>,
) -> std::fmt::Result {
    let us = |ns: u64| ns as f64 / 1000.0;
    writeln!(
        text,
        "{name:<28} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.1} {:>12.0}",
        us(latency.p50),
        us(latency.p99),
        us(latency.p99_9),
        us(latency.p99_99),
        us(latency.max),
        rate.unwrap_or(0.0),
    )
}
