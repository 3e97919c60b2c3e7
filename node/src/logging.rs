//! Where what happens is written to: standard error, the journal, or both.

use std::io::IsTerminal;
use std::os::linux::fs::MetadataExt;

use mstream_controlplane::config::{Log, LogFormat};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::Failure;

/// Starts it: what is written is said by `--log` (`level`), else RUST_LOG, else the configuration. Standard error
/// is left out only when the journal takes it up anyway.
pub(crate) fn start(level: Option<&str>, config: &Log) -> Result<(), Failure> {
    let filter = match level {
        Some(level) => EnvFilter::try_new(level).map_err(|error| format!("--log: {error}"))?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&config.level)),
    };
    let in_journal = stderr_is_the_journal();
    let journal = match config.journald {
        Some(true) => Some(journal().map_err(|error| {
            format!("[log] journald = true: the journal does not take messages: {error}")
        })?),
        // Standard error remains where the journal cannot be reached.
        None if in_journal => journal().ok(),
        Some(false) | None => None,
    };
    let to_stderr = journal.is_none() || !in_journal;
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => {
            let format = tracing_subscriber::fmt::format().json().with_target(false);
            let fields = tracing_subscriber::fmt::format::JsonFields::new();
            lines.event_format(format.flatten_event(true)).fmt_fields(fields).boxed()
        }
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(to_stderr.then_some(lines))
        .with(journal)
        .init();
    Ok(())
}

fn journal() -> std::io::Result<tracing_journald::Layer> {
    // Fields keep their names, in capitals: SHARD=0 is found by `journalctl SHARD=0`.
    let journal = tracing_journald::layer()?;
    Ok(journal.with_field_prefix(None).with_syslog_identifier("mstreamd".to_string()))
}

/// True if standard error is the stream that systemd connected to the journal (systemd.exec(5), JOURNAL_STREAM).
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino()))
}
