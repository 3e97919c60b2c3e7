//! What must hold of every crash image.

use mstream_pmem::region::Region;
use mstream_pmem::sim::{SimRegion, Survivors};
use mstream_pmem::wal::{Wal, WalConfig};

use super::watch::{Seen, Watch};
use super::{History, Random};

/// What is known of a log at the moment of a crash.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub history: &'a History,
    /// Records with a lower lsn were acknowledged.
    pub acknowledged: u64,
    /// Epoch of the last start that was done.
    pub epoch: u32,
    pub config: WalConfig,
}

/// All slots of a region.
pub fn slots<R: Region>(region: &R) -> Vec<u32> {
    (0..region.slots()).collect()
}

/// Opens the log and compares it with the history: it opens, each acknowledged record is there, what is there is
/// a prefix, the epoch is new. Returns it with the lsn before which it was recovered.
pub fn recover<R: Region>(region: R, known: &Known<'_>) -> Result<(Wal<R>, u64), String> {
    let slots = slots(&region);
    let (mut wal, report) =
        Wal::open(region, &slots, known.config).map_err(|error| format!("refused: {error}"))?;
    if report.possible_loss {
        return Err("a loss is supposed where none is possible".to_string());
    }
    // The start's own epoch record took one lsn.
    let end = wal.appended() - 1;
    if end < known.acknowledged {
        return Err(format!(
            "acknowledged below lsn {}, recovered below {end}",
            known.acknowledged
        ));
    }
    let history = known.history;
    let lsns = history.batches.iter().map(|batch| batch.lsn);
    let lsns = lsns.chain(history.lives.iter().map(|life| life.0));
    let last = lsns.chain(history.starts.iter().copied()).filter(|lsn| *lsn < end).max();
    if last.unwrap_or(0) + 1 != end && end > 1 {
        return Err(format!("recovered below lsn {end}, but nothing was appended before that"));
    }
    history.check_below(&mut wal, end)?;
    if wal.epoch() <= known.epoch {
        return Err(format!("epoch {} again, after {}", wal.epoch(), known.epoch));
    }
    Ok((wal, end))
}

/// Recovers an image, then what that left: after a kill and after a power cut. Returns the lsn before which it
/// was recovered.
pub fn check(image: SimRegion, known: &Known<'_>) -> Result<u64, String> {
    let (wal, end) = recover(image, known)?;
    let first = wal.into_region();
    for again in [first.after_power_cut(), first] {
        recover_again(again, known, end).map_err(|what| format!("recovered again: {what}"))?;
    }
    Ok(end)
}

/// Recovers a second time: nothing that the first recovery found is gone or more.
fn recover_again(image: SimRegion, known: &Known<'_>, end: u64) -> Result<(), String> {
    let mut history = known.history.clone();
    history.cut(end);
    // The first recovery's own record may be there.
    history.starts.push(end);
    let known = Known { history: &history, acknowledged: end, ..*known };
    recover(image, &known).map(|_| ())
}

/// Recovers an image with a crash at a sample of the steps of that; recovers from all those. Returns how many.
pub fn check_crashes_in_recovery(
    image: &SimRegion,
    known: &Known<'_>,
    seed: u64,
    one_in: u64,
) -> Result<u64, String> {
    let seen = Seen::new(seed, one_in);
    let watched = Watch { inner: image.clone(), seen: seen.clone() };
    let (wal, end) = recover(watched, known)?;
    drop(wal);
    let mut random = Random(seed);
    let points = std::mem::take(&mut seen.borrow_mut().points);
    let mut images = 0;
    for point in &points {
        let survivors = point.random_survivors(|| random.next());
        images += 1;
        recover_again(point.after_crash(&survivors), known, end).map_err(|what| {
            format!("crashed in recovery ({}): {what}", point.describe(&survivors))
        })?;
    }
    Ok(images)
}

/// The fewest survivors with which `known` does not hold, and what is wrong then.
pub fn least(region: &SimRegion, survivors: &Survivors, known: &Known<'_>) -> String {
    let least = region.shrink(survivors, |less| check(region.after_crash(less), known).is_err());
    match check(region.after_crash(&least), known) {
        Err(what) => format!("{what}; {}", region.describe(&least)),
        Ok(_) => "it held when it was tried again".to_string(),
    }
}
