//! What became of a publisher's messages.

use serde::Serialize;

use crate::output::{count, counted};

/// What was done, as JSON has it too.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    pub(super) stream: &'a str,
    /// Messages that were handed over, and bytes of them.
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) acknowledged: u64,
    /// Offset of the last acknowledged message.
    pub(super) last_offset: Option<u64>,
    pub(super) level: &'static str,
    /// From the first message to the last acknowledgement.
    pub(super) seconds: f64,
    pub(super) publisher: Option<&'a str>,
    pub(super) publisher_id: u64,
    pub(super) incarnation: u64,
    pub(super) reconnects: u64,
    /// Why it ended early.
    pub(super) error: Option<&'a str>,
}

impl Summary<'_> {
    /// When all is acknowledged.
    pub(super) fn words(&self) -> String {
        let Some(last) = self.last_offset.filter(|_| self.acknowledged > 0) else {
            return format!("no messages to publish to {}", self.stream);
        };
        let rate = (self.acknowledged as f64 / self.seconds.max(1e-6)) as u64;
        let reconnects = match self.reconnects {
            0 => String::new(),
            times => format!("; {}", counted(times, "reconnect")),
        };
        format!(
            "published {}, {} to {} in {:.3} s ({} messages/s); all acknowledged at level {}, the last at offset \
             {}{reconnects}",
            counted(self.acknowledged, "message"),
            counted(self.bytes, "byte"),
            self.stream,
            self.seconds,
            count(rate),
            self.level,
            count(last),
        )
    }

    /// When it ended early.
    pub(super) fn partly(&self) -> String {
        format!(
            "{} of {} acknowledged at level {}",
            count(self.acknowledged),
            counted(self.messages, "message"),
            self.level
        )
    }
}
