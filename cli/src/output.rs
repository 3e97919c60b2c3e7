//! Standard output: tables and words for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;

/// Standard output, one command's.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json }
    }

    /// True when programs read it.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// A line, or several.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// A value as one line of JSON.
    pub(crate) fn record<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
        self.line(&text)
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::of_output(&error))
    }
}

/// A table under headings, without lines.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !headings.is_empty() {
        table.set_header(headings);
    }
    flush_left(&mut table, headings.len());
    table
}

/// Takes the space before the first column away.
fn flush_left(table: &mut Table, columns: usize) {
    if columns > 0 {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
    }
}

/// A number with a comma after every three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "1 message", "2 messages".
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number of bytes, in the largest unit that says it exactly.
pub(crate) fn bytes(number: u64) -> String {
    for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1u64 << 10)] {
        if number >= factor && number.is_multiple_of(factor) {
            return format!("{} {unit}", count(number / factor));
        }
    }
    counted(number, "byte")
}

/// A time in ns since 1970, to the second; empty for 0.
pub(crate) fn time(ns: u64) -> String {
    if ns == 0 {
        return String::new();
    }
    i64::try_from(ns / 1_000_000_000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ns} ns"))
}

/// A span of milliseconds, coarsely.
pub(crate) fn span_ms(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [0, 12, 999, 1_000, 1_234_567].map(count),
            ["0", "12", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0, 1, 1024, 1025, 3 << 30].map(bytes),
            ["0 bytes", "1 byte", "1 KiB", "1,025 bytes", "3 GiB"]
        );
        assert_eq!([1, 1_500, 120_000, 7_200_000].map(span_ms), ["1 ms", "1 s", "2 min", "2 h"]);
        assert_eq!(time(1_000_000_000_000_000_000), "2001-09-09T01:46:40Z");
        assert_eq!(time(0), "");
    }
}
