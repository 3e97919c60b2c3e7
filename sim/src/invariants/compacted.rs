//! Cold streams keep what the log does not hold any more. Of one that keeps the newest message of each key a message goes
//! only when there is a newer one of its key, and readers are told.

use super::{Check, ensure};

pub(crate) const NAME: &str = "cold-keeps-what-it-must";

/// A reader was told that offsets were compacted away.
pub(crate) fn told(stream: u32, (from, to): (u64, u64), newest: bool, visible: u64) -> Check {
    ensure!(
        NAME,
        newest && from < to && to <= visible,
        "stream {stream}: offsets {from} to {to} are said to be compacted, {visible} are visible"
    );
    Ok(())
}

/// A message is not held any more.
pub(crate) fn displaced(stream: u32, offset: u64, displaced: bool) -> Check {
    ensure!(NAME, displaced, "stream {stream} offset {offset} went, and no newer one has its key");
    Ok(())
}

/// What the log has let go was copied before.
pub(crate) fn reaches(stream: u32, end: u64, earliest: u64) -> Check {
    ensure!(
        NAME,
        end >= earliest,
        "stream {stream}: the log begins at {earliest}, cold segments end at {end}"
    );
    Ok(())
}

/// No cold segment holds what the log has yet to give.
pub(crate) fn within(stream: u32, end: u64, next: u64) -> Check {
    ensure!(
        NAME,
        end <= next,
        "stream {stream}: the log goes on with {next}, cold segments end at {end}"
    );
    Ok(())
}

/// A place of cold segments is read.
pub(crate) fn readable(stream: u32, offset: u64, readable: bool) -> Check {
    ensure!(NAME, readable, "stream {stream} offset {offset} is not in cold segments");
    Ok(())
}

/// No record counts that the log, whose next one has lsn `next`, does not know of: it lost it, and gives its lsn to another.
pub(crate) fn of_this_log(stream: u32, offset: u64, lsn: u64, next: u64) -> Check {
    ensure!(
        NAME,
        lsn < next,
        "stream {stream} offset {offset} is in cold segments with lsn {lsn}, the log goes on with {next}"
    );
    Ok(())
}
