//! Why a region keeps no promise any more.

use std::fmt;
use std::io;

/// What was being done when the medium failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Failed {
    /// Bytes were being written.
    Write = 1,
    /// What had been written was being made durable.
    Sync = 2,
    /// Nothing: the thread that does both ended by a bug.
    Thread = 3,
    /// Memory of the region was used, and there was none any more.
    Memory = 4,
}

/// Why a region keeps no promise any more, for the rest of the process's life. A sync that failed is not tried again:
/// the kernel may have dropped what it could not write, and a second call would succeed without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poison {
    /// What failed.
    pub failed: Failed,
    /// At which slot.
    pub slot: u32,
    /// The system's error number; 0: it gave none.
    pub errno: i32,
}

impl Poison {
    pub(crate) fn new(failed: Failed, slot: u32, error: &io::Error) -> Poison {
        Poison { failed, slot, errno: error.raw_os_error().unwrap_or(0) }
    }

    /// In one number, never 0, for atomic cells.
    pub fn to_bits(self) -> u64 {
        self.failed as u64 | u64::from(self.slot) << 8 | u64::from(self.errno as u32) << 40
    }

    /// What [`Poison::to_bits`] gave; `None` for 0.
    #[inline]
    pub fn from_bits(bits: u64) -> Option<Poison> {
        // Asked on the message path, where it is 0.
        if bits == 0 { None } else { Poison::of(bits) }
    }

    #[cold]
    fn of(bits: u64) -> Option<Poison> {
        let failed = [Failed::Write, Failed::Sync, Failed::Thread, Failed::Memory];
        let failed = failed.into_iter().find(|failed| *failed as u64 == bits & 0xff)?;
        Some(Poison { failed, slot: (bits >> 8) as u32, errno: (bits >> 40) as i32 })
    }
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.failed {
            Failed::Write => "writing",
            Failed::Sync => "syncing",
            Failed::Memory => {
                return write!(
                    f,
                    "a part of segment {:08}.seg is gone: its file was cut short, or the medium cannot be read",
                    self.slot
                );
            }
            Failed::Thread => return f.write_str("the thread that syncs the log has ended"),
        };
        write!(f, "{what} segment {:08}.seg failed", self.slot)?;
        match self.errno {
            0 => Ok(()),
            errno => write!(f, ": {}", io::Error::from_raw_os_error(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_a_number_and_says_what_and_where() {
        for failed in [Failed::Write, Failed::Sync, Failed::Thread, Failed::Memory] {
            for (slot, errno) in [(0, 0), (3, libc::EIO), (u32::MAX, libc::ENOSPC)] {
                let poison = Poison { failed, slot, errno };
                assert_eq!(Poison::from_bits(poison.to_bits()), Some(poison));
            }
        }
        assert_eq!(Poison::from_bits(0), None);
        let error = io::Error::from_raw_os_error(libc::EIO);
        let text = Poison::new(Failed::Sync, 12, &error).to_string();
        assert!(text.starts_with("syncing segment 00000012.seg failed: Input/output"), "{text}");
        let text = Poison::new(Failed::Write, 1, &io::ErrorKind::WriteZero.into()).to_string();
        assert_eq!(text, "writing segment 00000001.seg failed");
    }
}
