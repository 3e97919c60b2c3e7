//! Whether the node is there, and how long to wait for it.

use std::time::Duration;

use mstream_client::{Event, Lost};
use mstream_wire::{Code, VERSION};

use super::reach::Reach;
use super::{ended, refused};
use crate::failure::note;
use crate::settings::Settings;

/// A node that is away for longer is worth a word.
const WORTH_A_WORD_NS: u64 = 1_000_000_000;

/// The contact with a shard, from the first hello on.
pub(super) struct Contact {
    /// The shard's address, in words.
    at: String,
    timeout: Duration,
    patience: Duration,
    /// Since when it is waited for; `None` while all is well.
    waits_since_ns: Option<u64>,
    /// It was there once.
    met: bool,
    /// What is known of why it does not go on.
    reason: Option<String>,
    told: bool,
    /// How often the session was lost.
    pub(super) reconnects: u64,
    /// The level that the shard's log has.
    pub(super) level: u8,
    /// Publisher and incarnation of the session.
    pub(super) publisher: (u64, u64),
}

impl Contact {
    pub(super) fn new(reach: &Reach, settings: &Settings, patience: Duration) -> Contact {
        Contact {
            at: reach.to_string(),
            timeout: settings.timeout,
            patience,
            waits_since_ns: Some(0),
            met: false,
            reason: None,
            told: false,
            reconnects: 0,
            level: 0,
            publisher: (0, 0),
        }
    }

    /// True while the node is there and does what it is asked for.
    pub(super) fn is_made(&self) -> bool {
        self.waits_since_ns.is_none()
    }

    /// Takes note of what happened at `now_ns`; what ends everything comes back as an error.
    pub(super) fn on_event(&mut self, now_ns: u64, event: &Event<'_>) -> Result<(), String> {
        match *event {
            Event::SessionOpened { publisher, incarnation, level, .. } => {
                self.level = level;
                self.publisher = (publisher, incarnation);
                self.reason = Some("it does not open the stream".into());
            }
            Event::PublicationOpened { .. } | Event::Subscribed { .. } => {
                if self.told {
                    note(&format!("{} answers again", self.at));
                }
                (self.waits_since_ns, self.reason) = (None, None);
                (self.met, self.told) = (true, false);
            }
            Event::SessionLost { why, .. } => {
                self.reconnects += 1;
                self.waits_since_ns.get_or_insert(now_ns);
                self.reason = match why {
                    Lost::Silence => None,
                    Lost::Unknown => Some("it restarted, or forgot this session".into()),
                    Lost::Closed => Some("it closed the session".into()),
                };
            }
            Event::Delayed { code, .. } => self.reason = Some(code.to_string()),
            Event::SessionFailed { code: Code::WrongVersion, value, .. } => {
                return Err(format!(
                    "{} speaks version {value} of the protocol, this mstream version {VERSION}",
                    self.at
                ));
            }
            Event::SessionFailed { code, .. } => return Err(refused(code)),
            Event::PublicationEnded { why, .. } => return Err(ended(why)),
            _ => {}
        }
        Ok(())
    }

    /// Fails when it was waited for long enough at `now_ns`; `malformed` datagrams came from there so far.
    pub(super) fn check(&mut self, now_ns: u64, malformed: u64) -> Result<(), String> {
        let Some(since_ns) = self.waits_since_ns else { return Ok(()) };
        let waited_ns = now_ns.saturating_sub(since_ns);
        let patience = if self.met { self.patience } else { self.timeout };
        if u128::from(waited_ns) >= patience.as_nanos() {
            return Err(match (&self.reason, self.met) {
                (Some(reason), _) => format!("{} for {patience:?}: {reason}", self.at),
                (None, false) if malformed > 0 => format!(
                    "what answers at {} speaks another protocol, or another version of it than this mstream, \
                     which speaks version {VERSION}",
                    self.at
                ),
                (None, false) => format!(
                    "no answer from {} within {patience:?}: is mstreamd running there, and is the address right \
                     (--addr)? A node that hangs looks the same",
                    self.at
                ),
                (None, true) => format!(
                    "no answer from {} for {patience:?}: the node hangs, or is not there any more",
                    self.at
                ),
            });
        }
        if self.met && !self.told && waited_ns > WORTH_A_WORD_NS {
            self.told = true;
            note(&format!("no answer from {}: trying again", self.at));
        }
        Ok(())
    }
}
