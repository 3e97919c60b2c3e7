//! Where and how a log is damaged.

use crate::recovery::RecoveryError;

/// A place where promised data is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Slot of the segment.
    pub slot: u32,
    /// Sequence of the segment (of a joint, of the later one); 0 where it is not known.
    pub sequence: u64,
    /// Byte in the slot's file.
    pub at: u64,
    /// Byte where sound records go on; the segment's size: nowhere in it.
    pub to: u64,
    /// First lsn that is missing.
    pub lsn: u64,
    /// First lsn that is not; the same as `lsn` where that is not known.
    pub next_lsn: u64,
    /// What it is.
    pub kind: DamageKind,
    /// What was found.
    pub what: String,
}

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// Records inside a segment.
    Records,
    /// A segment does not continue the one before.
    Joint {
        /// Slot of the segment before.
        before: u32,
        /// Sequence of the first segment that is missing between the two, if one is.
        missing: Option<u64>,
    },
    /// The header of the segment in the slot.
    Header,
    /// The slot's file is short or missing, or cannot be read whole.
    File,
}

impl Damage {
    pub(crate) fn into_error(self) -> RecoveryError {
        let Damage { slot, at, what, .. } = self;
        match self.kind {
            DamageKind::Joint { before, missing: Some(missing) } => {
                RecoveryError::Missing { missing, before, after: slot }
            }
            _ => RecoveryError::Fault { slot, at, what },
        }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let DamageKind::Joint { before, missing: Some(missing) } = self.kind {
            return write!(
                f,
                "segment {missing} is missing between slots {before} and {}",
                self.slot
            );
        }
        write!(f, "slot {} byte {}: {}", self.slot, self.at, self.what)
    }
}
