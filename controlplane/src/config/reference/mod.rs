//! The page of all keys of the configuration, made from one table.

mod table;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use table::{SECTIONS, Unset};

/// `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         `mstreamd --config FILE` reads one TOML file. `mstreamd --check --config FILE` says what it means and what is \
         wrong in it, each problem with file, line, key and reason; `mstreamd --reference config` prints this page. A \
         commented sample is [mstreamd.sample.toml](../node/mstreamd.sample.toml).\n\n\
         A key that is not listed here is refused. *Bytes* are an integer or text with a unit, such as `\"64 MiB\"` (B, \
         KiB, MiB, GiB, TiB). A file is read once, at the start.\n",
    );
    // Writing to a string does not fail.
    for section in SECTIONS {
        let _ = write!(
            text,
            "\n## `{}`\n\n{}\n\n| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n",
            section.header, section.about
        );
        for key in section.keys {
            let default = match key.unset {
                Unset::Refused => "must be set".to_string(),
                Unset::Is(value) => format!("`{value}`"),
                Unset::Means(words) => words.to_string(),
            };
            let (name, kind) = (key.name, key.kind);
            let (allowed, meaning) = (key.allowed, key.meaning);
            let _ = writeln!(text, "| `{name}` | {kind} | {default} | {allowed} | {meaning} |");
        }
    }
    text
}
