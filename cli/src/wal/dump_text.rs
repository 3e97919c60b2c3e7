//! Records and messages of logs as lines.

use mstream_pmem::format::{Kind, RecordHeader};
use serde::Serialize;

use super::logs::Log;
use super::names::Names;
use crate::failure::Failure;
use crate::output::time;
use crate::pubsub::Record;

/// A record as JSON has it.
#[derive(Serialize)]
pub(super) struct RecordLine<'a> {
    shard: Option<u32>,
    /// Segment, slot and byte in the log; `null` of a record that cold segments hold.
    segment: Option<u64>,
    slot: Option<u32>,
    byte: Option<u64>,
    lsn: u64,
    kind: &'static str,
    local: bool,
    epoch: u32,
    time_ns: u64,
    stream_id: u64,
    stream: &'a str,
    offset: u64,
    count: u16,
    publisher_id: u64,
    incarnation: u64,
    sequence: u64,
    block_bytes: u32,
    block_crc: u32,
}

/// Where a record stands in the log.
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) slot: u32,
    pub(super) byte: u64,
}

/// A message as JSON has it: as `mstream sub` writes it, and where it comes from.
#[derive(Serialize)]
struct MessageLine<'a> {
    #[serde(flatten)]
    record: Record<'a>,
    lsn: u64,
    epoch: u32,
    time_ns: u64,
}

pub(super) fn json_message(
    header: &RecordHeader,
    offset: u64,
    message: &mstream_wire::Message<'_>,
) -> Result<String, Failure> {
    let line = MessageLine {
        record: Record { offset, publisher: header.publisher.get(), message },
        lsn: header.lsn.get(),
        epoch: header.epoch.get(),
        time_ns: header.time.get(),
    };
    serde_json::to_string(&line).map_err(|error| Failure::Failed(error.to_string()))
}

pub(super) fn text_message(
    header: &RecordHeader,
    offset: u64,
    message: &mstream_wire::Message<'_>,
) -> String {
    let mut text =
        format!("{offset} {} publisher {:x}", time(header.time.get()), header.publisher.get());
    for (what, bytes) in [("key", message.key), ("headers", message.headers)] {
        if !bytes.is_empty() {
            text.push_str(&format!(" {what} {}", bytes.escape_ascii()));
        }
    }
    text.push_str(&format!(" {}", message.payload.escape_ascii()));
    text
}

fn kind_name(kind: u8) -> &'static str {
    match Kind::from_number(kind) {
        None => "unknown",
        Some(Kind::Data) => "data",
        Some(Kind::Abort) => "abort",
        Some(Kind::EpochStart) => "epoch-start",
        Some(Kind::PublisherState) => "publisher-state",
        Some(Kind::StreamState) => "stream-state",
        Some(Kind::Roll) => "roll",
        Some(Kind::Pad) => "pad",
        Some(Kind::Hint) => "hint",
        Some(Kind::Hole) => "hole",
    }
}

/// A record, and where it stands in the log, unless cold segments hold it.
pub(super) fn record_line<'a>(
    log: &Log,
    place: Option<&Place>,
    header: &RecordHeader,
    names: &'a Names,
) -> RecordLine<'a> {
    RecordLine {
        shard: log.shard,
        segment: place.map(|place| place.segment),
        slot: place.map(|place| place.slot),
        byte: place.map(|place| place.byte),
        lsn: header.lsn.get(),
        kind: kind_name(header.kind),
        local: header.local & 1 != 0,
        epoch: header.epoch.get(),
        time_ns: header.time.get(),
        stream_id: header.stream.get(),
        stream: names.of(header.stream.get()),
        offset: header.offset.get(),
        count: header.count.get(),
        publisher_id: header.publisher.get(),
        incarnation: header.incarnation.get(),
        sequence: header.sequence.get(),
        block_bytes: header.block_bytes.get(),
        block_crc: header.block_crc.get(),
    }
}

pub(super) fn text_record(line: &RecordLine<'_>) -> String {
    let place = match (line.segment, line.slot, line.byte) {
        (Some(segment), Some(slot), Some(byte)) => {
            format!("segment {segment} slot {slot} byte {byte}")
        }
        _ => "cold".to_string(),
    };
    let mut text = format!(
        "{place}: lsn {}{} {} epoch {} {}",
        line.lsn,
        if line.local { " (local)" } else { "" },
        line.kind,
        line.epoch,
        time(line.time_ns),
    );
    if line.stream_id != 0 {
        text.push_str(&format!(" stream {} {}", line.stream_id, line.stream));
        text.push_str(&format!(" offset {} count {}", line.offset, line.count));
    }
    if line.publisher_id != 0 {
        text.push_str(&format!(" publisher {:x}", line.publisher_id));
        text.push_str(&format!(" incarnation {:x} sequence {}", line.incarnation, line.sequence));
    }
    text.push_str(&format!(" block {} bytes crc {:08x}", line.block_bytes, line.block_crc));
    text
}
