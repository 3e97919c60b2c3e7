//! `mstream status`.

use std::collections::BTreeMap;

use mstream_admin::v1::{
    Cold, Finding, GetStatusRequest, MissingOffsets, Number, Place, Port, Shard, Shortage, Status,
    Unreadable,
};
use mstream_controlplane::metrics::REASONS;
use serde::Serialize;

use super::{Admin, words};
use crate::failure::Failure;
use crate::output::{self, Output, count, counted, hex, span_ms, table};
use crate::settings::Settings;

/// What a counter of refusals counts, in words; `None` for one that says what was done.
fn refused(number: &Number) -> Option<&'static str> {
    let reason = REASONS.iter().find(|(reason, _)| *reason == number.name);
    reason.map(|(_, meaning)| *meaning)
}

/// A shard's refusals by reason, those that happened.
pub(crate) fn refusals(shard: &Shard) -> impl Iterator<Item = &Number> {
    shard.counters.iter().filter(|number| number.value > 0 && refused(number).is_some())
}

/// The number of a name; 0 if there is none.
pub(crate) fn number(numbers: &[Number], name: &str) -> u64 {
    numbers.iter().find(|number| number.name == name).map_or(0, |number| number.value)
}

type Numbers<'a> = BTreeMap<&'a str, u64>;

fn numbers(numbers: &[Number]) -> Numbers<'_> {
    numbers.iter().map(|number| (number.name.as_str(), number.value)).collect()
}

/// A node's status as JSON has it.
#[derive(Serialize)]
struct Record<'a> {
    node_id: u32,
    node_name: &'a str,
    version: &'a str,
    ready: bool,
    time_ns: u64,
    started_ns: u64,
    streams: u64,
    publishers: u64,
    shards: Vec<ShardRecord<'a>>,
    findings: Vec<FindingRecord<'a>>,
}

#[derive(Serialize)]
struct ShardRecord<'a> {
    number: u32,
    core: u32,
    udp_port: u32,
    level: &'static str,
    required_level: Option<&'static str>,
    epoch: u32,
    log_id: String,
    log_condition: &'a str,
    missing: Vec<MissingRecord<'a>>,
    missing_messages: u64,
    unreadable: Option<UnreadableRecord<'a>>,
    shortage: Option<ShortageRecord<'a>>,
    cold: Option<ColdRecord<'a>>,
    positions: Numbers<'a>,
    counters: Numbers<'a>,
    refusals: Numbers<'a>,
    ports: Vec<PortRecord<'a>>,
}

#[derive(Serialize)]
struct ColdRecord<'a> {
    dir: &'a str,
    level: &'static str,
    condition: &'a str,
    positions: Numbers<'a>,
    counters: Numbers<'a>,
}

#[derive(Serialize)]
struct MissingRecord<'a> {
    stream: &'a str,
    stream_id: u64,
    from: u64,
    to: u64,
}

#[derive(Serialize)]
struct UnreadableRecord<'a> {
    messages: u64,
    first: Option<PlaceRecord<'a>>,
    last: Option<PlaceRecord<'a>>,
}

#[derive(Serialize)]
struct ShortageRecord<'a> {
    reason: &'a str,
    since_ns: u64,
}

#[derive(Serialize)]
struct PlaceRecord<'a> {
    stream: &'a str,
    stream_id: u64,
    offset: u64,
}

#[derive(Serialize)]
struct PortRecord<'a> {
    name: &'a str,
    driver: &'a str,
    device: Option<&'a str>,
    addresses: &'a [String],
    mac: &'a str,
    vlan: u32,
    link_up: bool,
    rx_checksums_verified: bool,
    tx_checksums_offloaded: bool,
    counters: Numbers<'a>,
    device_counters: Numbers<'a>,
}

#[derive(Serialize)]
struct FindingRecord<'a> {
    check: &'a str,
    text: &'a str,
    remedy: &'a str,
}

impl Record<'_> {
    fn of(status: &Status) -> Record<'_> {
        Record {
            node_id: status.node_id,
            node_name: &status.node_name,
            version: &status.version,
            ready: status.ready,
            time_ns: status.time_ns,
            started_ns: status.started_ns,
            streams: status.streams,
            publishers: status.publishers,
            shards: status.shards.iter().map(ShardRecord::of).collect(),
            findings: status.findings.iter().map(FindingRecord::of).collect(),
        }
    }
}

impl FindingRecord<'_> {
    fn of(finding: &Finding) -> FindingRecord<'_> {
        FindingRecord { check: &finding.check, text: &finding.text, remedy: &finding.remedy }
    }
}

impl ShardRecord<'_> {
    fn of(shard: &Shard) -> ShardRecord<'_> {
        let required = words::level(shard.required_level());
        ShardRecord {
            number: shard.number,
            core: shard.core,
            udp_port: shard.udp_port,
            level: words::level(shard.level()),
            required_level: (!required.is_empty()).then_some(required),
            epoch: shard.epoch,
            log_id: hex(&shard.log_id),
            log_condition: &shard.log_condition,
            missing: shard
                .missing
                .iter()
                .map(|m| MissingRecord {
                    stream: &m.stream,
                    stream_id: m.stream_id,
                    from: m.from,
                    to: m.to,
                })
                .collect(),
            missing_messages: shard.missing_messages,
            unreadable: shard.unreadable.as_ref().map(UnreadableRecord::of),
            shortage: shard.shortage.as_ref().map(ShortageRecord::of),
            cold: shard.cold.as_ref().map(ColdRecord::of),
            positions: numbers(&shard.positions),
            counters: numbers(&shard.counters),
            refusals: refusals(shard).map(|n| (n.name.as_str(), n.value)).collect(),
            ports: shard.ports.iter().map(PortRecord::of).collect(),
        }
    }
}

impl ColdRecord<'_> {
    fn of(cold: &Cold) -> ColdRecord<'_> {
        ColdRecord {
            dir: &cold.dir,
            level: words::level(cold.level()),
            condition: &cold.condition,
            positions: numbers(&cold.positions),
            counters: numbers(&cold.counters),
        }
    }
}

impl UnreadableRecord<'_> {
    fn of(unreadable: &Unreadable) -> UnreadableRecord<'_> {
        UnreadableRecord {
            messages: unreadable.messages,
            first: unreadable.first.as_ref().map(PlaceRecord::of),
            last: unreadable.last.as_ref().map(PlaceRecord::of),
        }
    }
}

impl PlaceRecord<'_> {
    fn of(place: &Place) -> PlaceRecord<'_> {
        let Place { stream, stream_id, offset } = place;
        PlaceRecord { stream, stream_id: *stream_id, offset: *offset }
    }
}

impl ShortageRecord<'_> {
    fn of(shortage: &Shortage) -> ShortageRecord<'_> {
        ShortageRecord { reason: &shortage.reason, since_ns: shortage.since_ns }
    }
}

impl PortRecord<'_> {
    fn of(port: &Port) -> PortRecord<'_> {
        PortRecord {
            name: &port.name,
            driver: &port.driver,
            device: (!port.device.is_empty()).then_some(&port.device),
            addresses: &port.addresses,
            mac: &port.mac,
            vlan: port.vlan,
            link_up: port.link_up,
            rx_checksums_verified: port.rx_checksums_verified,
            tx_checksums_offloaded: port.tx_checksums_offloaded,
            counters: numbers(&port.counters),
            device_counters: numbers(&port.device_counters),
        }
    }
}

/// Says what the node is doing.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    let admin = Admin::connect(settings)?;
    let status = admin.call(admin.node().get_status(GetStatusRequest {}))?;
    let mut output = Output::new(settings.json);
    if settings.json {
        return output.record(&Record::of(&status));
    }
    output.line(&heading(&status))?;
    for shard in &status.shards {
        output.line("")?;
        output.line(&shard_text(shard))?;
    }
    if !status.findings.is_empty() {
        output.line("\nNot right for low latency on this host:")?;
    }
    for finding in &status.findings {
        output.line(&format!("  {}: {}", finding.check, finding.text))?;
        if !finding.remedy.is_empty() {
            output.line(&format!("    mend it: {}", finding.remedy))?;
        }
    }
    Ok(())
}

/// The node in a line.
pub(crate) fn heading(status: &Status) -> String {
    let up_ms = status.time_ns.saturating_sub(status.started_ns) / 1_000_000;
    format!(
        "node {} ({}), mstreamd {}, {}, up {} since {}; {}, {}",
        status.node_id,
        status.node_name,
        status.version,
        if status.ready { "ready" } else { "NOT READY" },
        span_ms(up_ms),
        output::time(status.started_ns),
        counted(status.streams, "stream"),
        counted(status.publishers, "publisher"),
    )
}

/// Offsets that the log lacks.
pub(crate) fn missing_text(missing: &MissingOffsets) -> String {
    let MissingOffsets { stream, from, to, .. } = missing;
    format!("MISSING: stream {stream}, offsets {from} to {}", to.saturating_sub(1))
}

/// What readers asked for in vain, and what to do.
fn unreadable_text(unreadable: &Unreadable) -> String {
    let place = |place: &Option<Place>| {
        let Place { stream, stream_id, offset } = place.clone().unwrap_or_default();
        let stream = if stream.is_empty() { stream_id.to_string() } else { stream };
        format!("stream {stream}, offset {offset}")
    };
    format!(
        "UNREADABLE: asked for {} times, first {}, last {}\n    mend it: the memory or the medium of the log fails: \
         replace it; the node's next start tells all that is missing (docs/operating.md, a damaged log)",
        count(unreadable.messages),
        place(&unreadable.first),
        place(&unreadable.last),
    )
}

fn shard_text(shard: &Shard) -> String {
    let demanded = match words::level(shard.required_level()) {
        "" => String::new(),
        level => format!(" (at least {level} is demanded)"),
    };
    let mut text = format!(
        "shard {}: core {}, UDP port {}, epoch {}, level {}{demanded}",
        shard.number,
        shard.core,
        shard.udp_port,
        shard.epoch,
        words::level(shard.level()),
    );
    if !shard.log_condition.is_empty() {
        text.push_str(&format!("\n  LOG: {}", shard.log_condition));
    }
    if let Some(Shortage { reason, since_ns }) = &shard.shortage {
        text.push_str(&format!(
            "\n  SEGMENTS: none can be made since {}: {reason}\n    mend it: free space where [wal] dir is; it is tried \
             again all the time. Until then the log makes do with the segments that it has",
            output::time(*since_ns)
        ));
    }
    if let Some(unreadable) = &shard.unreadable {
        text.push_str(&format!("\n  {}", unreadable_text(unreadable)));
    }
    if let Some(cold) = &shard.cold {
        text.push_str(&cold_text(cold));
    }
    for missing in &shard.missing {
        text.push_str(&format!("\n  {}", missing_text(missing)));
    }
    let mut rows = table(&["", "NUMBER", "VALUE", ""]);
    let work = |number: &&Number| number.value > 0 && refused(number).is_none();
    let groups = [
        ("positions", shard.positions.iter().collect::<Vec<_>>()),
        ("work", shard.counters.iter().filter(work).collect()),
        ("refused", refusals(shard).collect()),
    ];
    for (group, numbers) in groups {
        for (at, number) in numbers.iter().enumerate() {
            let title = if at == 0 { group } else { "" };
            let meaning = refused(number).unwrap_or_default();
            rows.add_row([title, &number.name, &count(number.value), meaning]);
        }
    }
    text.push('\n');
    text.push_str(&rows.trim_fmt());
    for port in &shard.ports {
        text.push_str(&port_text(port));
    }
    text
}

/// Cold segments, where there are any or should be.
fn cold_text(cold: &Cold) -> String {
    let (files, waiting) =
        (number(&cold.positions, "files"), number(&cold.positions, "waiting_segments"));
    let mut text = String::new();
    if !cold.condition.is_empty() {
        text.push_str(&format!("\n  COLD SEGMENTS: {}", cold.condition));
    }
    if files > 0 || number(&cold.counters, "copied_bytes") > 0 {
        text.push_str(&format!(
            "\n  cold segments: {} in {} of {}, level {}, {} to copy",
            counted(number(&cold.positions, "streams"), "stream"),
            counted(files, "file"),
            output::bytes(number(&cold.positions, "file_bytes")),
            words::level(cold.level()),
            counted(waiting, "segment"),
        ));
    }
    text
}

fn port_text(port: &Port) -> String {
    let device = if port.device.is_empty() { "" } else { " " };
    let link = if port.link_up { "up" } else { "DOWN" };
    let vlan = if port.vlan > 0 { format!(", VLAN {}", port.vlan) } else { String::new() };
    let checksums = match (port.rx_checksums_verified, port.tx_checksums_offloaded) {
        (true, true) => "by the port",
        (true, false) => "received by the port, sent by software",
        (false, true) => "received by software, sent by the port",
        (false, false) => "by software",
    };
    let mut text = format!(
        "\n  port {}: {}{device}{} at {}{vlan}, link {link}, checksums {checksums}",
        port.name,
        port.driver,
        port.device,
        port.addresses.join(", "),
    );
    let all = port.counters.iter().chain(&port.device_counters);
    let told: Vec<String> = all
        .filter(|number| number.value > 0)
        .map(|number| format!("{} {}", number.name, count(number.value)))
        .collect();
    if !told.is_empty() {
        text.push_str(&format!("\n    {}", told.join(", ")));
    }
    text
}
