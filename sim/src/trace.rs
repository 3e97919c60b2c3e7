//! What happened, as text: the same for the same seed, byte for byte.

use std::fmt::Write;

/// Lines of text, kept only when asked for.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    text: Option<String>,
    pub(crate) now_ns: u64,
    pub(crate) step: u64,
}

impl Trace {
    pub(crate) fn new(kept: bool) -> Trace {
        Trace { text: kept.then(String::new), ..Trace::default() }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, what: std::fmt::Arguments<'_>) {
        if let Some(text) = &mut self.text {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{} {} {what}", self.step, self.now_ns);
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}
