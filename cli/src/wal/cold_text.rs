//! Cold segments as `mstream wal` shows them: a table for people, JSON for programs.

use mstream_pmem::cold::ColdDamage;
use mstream_pmem::inspect::{ColdFileReport, ColdState};
use mstream_pmem::region::Level;
use serde::Serialize;

use super::cold::Cold;
use super::names::Names;
use crate::output::{self, count, counted, hex};

/// Cold segments as JSON has them.
#[derive(Serialize)]
pub(super) struct ColdRecord<'a> {
    dir: String,
    log_id: Option<String>,
    health: String,
    /// All chunks were read, not both ends of the files alone.
    read_whole: bool,
    bytes: u64,
    records: u64,
    files: Vec<FileRecord<'a>>,
    streams: Vec<StreamRecord<'a>>,
    set_aside: Vec<String>,
}

#[derive(Serialize)]
struct FileRecord<'a> {
    name: &'a str,
    first_segment: u64,
    last_segment: u64,
    bytes: u64,
    log_id: Option<String>,
    shard: Option<u32>,
    level: Option<&'static str>,
    streams: u64,
    extents: u64,
    chunks: u64,
    records: u64,
    record_bytes: u64,
    state: &'static str,
    health: String,
    damages: Vec<DamageRecord<'a>>,
}

#[derive(Serialize)]
struct DamageRecord<'a> {
    byte: u64,
    what: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_id: Option<u64>,
    /// Offsets that cannot be read: the first, and the one behind the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<(u64, u64)>,
}

#[derive(Serialize)]
struct StreamRecord<'a> {
    id: u64,
    name: &'a str,
    first_offset: u64,
    end_offset: u64,
    extents: u64,
    records: u64,
    bytes: u64,
}

fn state(state: &ColdState) -> &'static str {
    match state {
        ColdState::Sound => "sound",
        ColdState::HalfWritten => "half-written",
        ColdState::Within(_) => "replaced",
        ColdState::Overlaps(_) => "overlapping",
        ColdState::OtherLog => "other-log",
        ColdState::Version(_) => "unknown-version",
        ColdState::Damaged => "damaged",
    }
}

impl Cold {
    /// For programs.
    pub(super) fn record<'a>(&'a self, names: &'a Names) -> ColdRecord<'a> {
        let totals = self.totals();
        let streams = self.look.streams().into_iter().map(|stream| StreamRecord {
            id: stream.id,
            name: names.of(stream.id),
            first_offset: stream.first,
            end_offset: stream.end,
            extents: stream.extents,
            records: stream.records,
            bytes: stream.bytes,
        });
        ColdRecord {
            dir: self.dir.display().to_string(),
            log_id: self.look.owner().map(|owner| hex(&owner.log_id)),
            health: self.sentence(),
            read_whole: self.whole,
            bytes: totals.bytes,
            records: totals.records,
            files: self.look.files().iter().map(|file| self.file_record(file)).collect(),
            streams: streams.collect(),
            set_aside: self.aside.iter().map(|dir| dir.display().to_string()).collect(),
        }
    }

    fn file_record<'a>(&self, file: &'a ColdFileReport) -> FileRecord<'a> {
        let damage = |damage: &'a ColdDamage| DamageRecord {
            byte: damage.at,
            what: &damage.what,
            stream_id: damage.lost.map(|(stream, ..)| stream),
            lost: damage.lost.map(|(_, from, to)| (from, to)),
        };
        FileRecord {
            name: &file.name,
            first_segment: file.range.0,
            last_segment: file.range.1,
            bytes: file.bytes,
            log_id: file.owner.map(|owner| hex(&owner.log_id)),
            shard: file.owner.map(|owner| owner.shard),
            level: file.level.map(Level::name),
            streams: file.streams,
            extents: file.extents,
            chunks: file.chunks,
            records: file.records,
            record_bytes: file.record_bytes,
            state: state(&file.state),
            health: self.words(file),
            damages: file.damages.iter().map(damage).collect(),
        }
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        let totals = self.totals();
        format!(
            "cold segments in {}: {}: {}, {}, {} in {}",
            self.dir.display(),
            self.sentence(),
            counted(totals.files, "file"),
            counted(totals.bytes, "byte"),
            counted(totals.records, "record"),
            counted(totals.extents, "extent"),
        )
    }

    /// The line, files and streams.
    pub(super) fn text(&self, names: &Names) -> String {
        let mut text = self.line();
        if !self.look.files().is_empty() {
            text.push_str(&format!("\n\n{}\n", self.file_table()));
        }
        let streams = self.look.streams();
        if !streams.is_empty() {
            let mut table =
                output::table(&["stream", "id", "first", "end", "records", "bytes", "extents"]);
            for stream in streams {
                table.add_row(vec![
                    names.of(stream.id).to_string(),
                    stream.id.to_string(),
                    count(stream.first),
                    count(stream.end),
                    count(stream.records),
                    count(stream.bytes),
                    count(stream.extents),
                ]);
            }
            text.push_str(&format!("\n{table}\n"));
        }
        for dir in &self.aside {
            text.push_str(&format!("\nset aside: {}\n", dir.display()));
        }
        text
    }

    fn file_table(&self) -> comfy_table::Table {
        let mut table =
            output::table(&["file", "segments", "bytes", "records", "extents", "level", "health"]);
        for file in self.look.files() {
            let (from, to) = file.range;
            table.add_row(vec![
                file.name.clone(),
                if from == to { from.to_string() } else { format!("{from} to {to}") },
                count(file.bytes),
                count(file.records),
                count(file.extents),
                file.level.map(Level::name).unwrap_or("unknown").to_string(),
                self.words(file),
            ]);
        }
        table
    }
}
