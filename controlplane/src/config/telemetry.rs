//! Checks of what the node tells of itself: its log and its metrics.

use std::time::Duration;

use axum::http::Uri;
use toml::Spanned;

use super::problem::Collector;
use super::{Log, LogFormat, Metrics, raw};

/// Levels of `[log] level`, fewest lines first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Milliseconds between two exports.
const INTERVAL_MS: std::ops::RangeInclusive<u32> = 100..=3_600_000;

pub(super) fn log(raw: raw::Log, problems: &mut Collector<'_>) -> Log {
    let level = match raw.level {
        Some(level) => {
            if !LEVELS.contains(&level.get_ref().as_str()) {
                let reason = format!(
                    "`level`: unknown level `{}`, expected one of {}",
                    level.get_ref(),
                    LEVELS.map(|level| format!("`{level}`")).join(", ")
                );
                problems.add(level.span(), reason);
            }
            level.into_inner()
        }
        None => "info".to_string(),
    };
    let format = match raw.format {
        Some(raw::LogFormat::Json) => LogFormat::Json,
        Some(raw::LogFormat::Text) | None => LogFormat::Text,
    };
    Log { level, format, journald: raw.journald.and_then(|switch| switch.0) }
}

pub(super) fn metrics(raw: raw::Metrics, problems: &mut Collector<'_>) -> Metrics {
    if let Some(endpoint) = &raw.otlp_endpoint
        && let Err(reason) = check_endpoint(endpoint.get_ref())
    {
        problems.add(endpoint.span(), format!("`otlp_endpoint`: {reason}"));
    }
    if let Some(interval) = &raw.otlp_interval_ms {
        if !INTERVAL_MS.contains(interval.get_ref()) {
            let (least, most) = (INTERVAL_MS.start(), INTERVAL_MS.end());
            let reason =
                format!("`otlp_interval_ms`: {} is not in {least} to {most}", interval.get_ref());
            problems.add(interval.span(), reason);
        }
        if raw.otlp_endpoint.is_none() {
            let reason = "`otlp_interval_ms` is set, but otlp_endpoint is not";
            problems.add(interval.span(), reason);
        }
    }
    let interval = raw.otlp_interval_ms.map_or(10_000, Spanned::into_inner);
    Metrics {
        otlp_endpoint: raw.otlp_endpoint.map(Spanned::into_inner),
        otlp_interval: Duration::from_millis(interval.into()),
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let expected = "expected http://HOST:PORT, such as \"http://127.0.0.1:4317\"";
    let uri: Uri = endpoint.parse().map_err(|error| format!("{error}; {expected}"))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(_)) => Ok(()),
        (Some("https"), _) => Err(format!("only plain http is spoken; {expected}")),
        _ => Err(format!("`{endpoint}` is not the address of a server; {expected}")),
    }
}
