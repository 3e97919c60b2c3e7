//! Names and words of what the admin API says in numbers.

use mstream_admin::v1::{Level, Rules, Watermark};
use serde::Serialize;

use crate::output::{bytes, count, span_ms};

/// A level's name, as the configuration has it.
pub(crate) fn level(level: Level) -> &'static str {
    match level {
        Level::Unspecified => "",
        Level::Process => "process",
        Level::PmemEmulated => "pmem-emulated",
        Level::MediaSync => "media-sync",
        Level::Pmem => "pmem",
    }
}

/// As [`level`], of the wire protocol's number.
pub(crate) fn wire_level(number: u8) -> &'static str {
    level(Level::try_from(i32::from(number)).unwrap_or_default())
}

/// Rules as JSON has them; 0: no limit of its own.
#[derive(Serialize)]
pub(crate) struct RulesRecord {
    watermark: &'static str,
    minimum_level: Option<&'static str>,
    retention_bytes: u64,
    retention_ms: u64,
    max_block_bytes: u32,
    max_publications: u32,
    max_subscriptions: u32,
    cold: bool,
    newest_per_key: bool,
}

impl RulesRecord {
    pub(crate) fn of(rules: &Rules) -> RulesRecord {
        let minimum = level(rules.minimum_level());
        RulesRecord {
            watermark: watermark(rules),
            minimum_level: (!minimum.is_empty()).then_some(minimum),
            retention_bytes: rules.retention_bytes,
            retention_ms: rules.retention_ms,
            max_block_bytes: rules.max_block_bytes,
            max_publications: rules.max_publications,
            max_subscriptions: rules.max_subscriptions,
            cold: rules.cold,
            newest_per_key: rules.newest_per_key,
        }
    }
}

fn watermark(rules: &Rules) -> &'static str {
    match rules.watermark() {
        Watermark::Persisted => "persisted",
        Watermark::Unspecified | Watermark::Committed => "committed",
    }
}

/// The rules that are set, in words.
pub(crate) fn rules(rules: &Rules) -> Vec<String> {
    let mut words = vec![watermark(rules).to_owned()];
    if rules.minimum_level() != Level::Unspecified {
        words.push(format!("level at least {}", level(rules.minimum_level())));
    }
    if rules.newest_per_key {
        words.push("cold, newest per key".to_owned());
    } else if rules.cold {
        words.push("cold".to_owned());
    }
    if rules.retention_bytes > 0 {
        words.push(format!("keeps {}", bytes(rules.retention_bytes)));
    }
    if rules.retention_ms > 0 {
        words.push(format!("keeps {}", span_ms(rules.retention_ms)));
    }
    if rules.max_block_bytes > 0 {
        words.push(format!("blocks up to {}", bytes(rules.max_block_bytes.into())));
    }
    for (most, what) in
        [(rules.max_publications, "publications"), (rules.max_subscriptions, "subscriptions")]
    {
        if most > 0 {
            words.push(format!("at most {} {what}", count(most.into())));
        }
    }
    words
}
