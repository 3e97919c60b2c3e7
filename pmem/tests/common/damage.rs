//! Damage: a sound log of which something was changed. What had been promised is refused, and nothing is stored.

use mstream_pmem::format::{
    Kind, RECORD_HEADER_BYTES, RecordFields, RecordHeader, SEGMENT_DATA_AT, SEGMENT_HEADER_AT,
    SegmentHeader, crc32c, record_bytes,
};
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::Wal;
use zerocopy::IntoBytes;

use super::oracle::{Known, recover, slots};
use super::watch::{Seen, Watch};
use super::{History, Random};

/// A publisher's block that holds a record of its own making, where a scan of all lines will look at it.
pub fn forged_block(lsn: u64, epoch: u32, random: &mut Random) -> Vec<u8> {
    let far = random.below(40);
    let ahead = random.below(1 << far);
    let fields = RecordFields {
        kind: Kind::Data,
        local: false,
        generation: random.next(),
        count: 1,
        block_bytes: 0,
        epoch,
        block_crc: crc32c(&[]),
        lsn: lsn + ahead,
        stream: 99,
        offset: 0,
        publisher: 98,
        incarnation: 1,
        sequence: 1,
        time: u64::MAX,
    };
    let mut block = vec![0; 32];
    block.extend_from_slice(RecordHeader::new(&fields, 0).as_bytes());
    block
}

/// Tries one of each kind of damage on `sound`, where there is something to damage. Returns how many.
pub fn check(sound: &SimRegion, known: &Known<'_>, random: &mut Random) -> Result<u64, String> {
    Ok(flipped_record(sound, known, random)?
        + flipped_header(sound, known, random)?
        + page_of_another_future(sound, known, random)?)
}

/// The log is refused, and no byte of it is touched.
fn refused(damaged: SimRegion, known: &Known<'_>, what: &str) -> Result<u64, String> {
    let seen = Seen::new(0, 0);
    let slots = slots(&damaged);
    let watched = || Watch { inner: damaged.clone(), seen: seen.clone() };
    if Wal::open(watched(), &slots, known.config).is_ok() {
        return Err(format!("{what}: not noticed"));
    }
    // Nor when what is sound is served, or the damage is such that nothing can be.
    match Wal::open_even_damaged(watched(), &slots, known.config) {
        Ok((wal, _)) if wal.fault().is_none() => return Err(format!("{what}: not a fault")),
        _ => {}
    }
    match seen.borrow().steps {
        0 => Ok(1),
        steps => Err(format!("{what}: refused, but the log was changed in {steps} steps")),
    }
}

/// Held batches: lsn and the region's byte where the block stands.
fn places<R: Region>(wal: &mut Wal<R>, history: &History) -> Vec<(u64, u64, usize)> {
    let mut places = Vec::new();
    for batch in &history.batches {
        let stream = wal.open_stream(batch.stream).expect("known");
        let Some((_, at)) = wal.lookup(stream, batch.offset, 0) else { continue };
        if wal.record(at).is_some_and(|record| record.block == batch.block) {
            let at = at.address() + size_of::<RecordHeader>() as u64;
            places.push((batch.lsn, at, batch.block.len()));
        }
    }
    places
}

fn flip(region: &mut SimRegion, at: u64, random: &mut Random) {
    let byte = region.bytes(at, 1)[0] ^ 1 << random.below(8);
    region.damage(at, &[byte]);
}

/// A bit of a record behind which more than W bytes follow, or another segment.
fn flipped_record(
    sound: &SimRegion,
    known: &Known<'_>,
    random: &mut Random,
) -> Result<u64, String> {
    let (mut wal, end) = recover(sound.clone(), known)?;
    let mut places = places(&mut wal, known.history);
    places.retain(|place| place.0 < end);
    let slot = |at: u64| at / sound.slot_bytes();
    let window = sound.window_bytes() + record_bytes(1000);
    let Some(last) = places.iter().max_by_key(|place| place.0).copied() else { return Ok(0) };
    places.retain(|place| slot(place.1) != slot(last.1) || place.1 + window < last.1);
    if places.is_empty() {
        return Ok(0);
    }
    let (lsn, at, len) = places[random.below(places.len() as u64) as usize];
    let header = RECORD_HEADER_BYTES as u64;
    let at = at - header + random.below(header + len as u64);
    let mut damaged = sound.clone();
    flip(&mut damaged, at, random);
    refused(damaged, known, &format!("a bit of lsn {lsn} at {at}"))
}

/// A bit in each copy of a segment's header.
fn flipped_header(
    sound: &SimRegion,
    known: &Known<'_>,
    random: &mut Random,
) -> Result<u64, String> {
    let slot = random.below(sound.slots().into());
    let mut damaged = sound.clone();
    let copies = SEGMENT_HEADER_AT.map(|copy| slot * sound.slot_bytes() + copy);
    if copies.iter().any(|at| SegmentHeader::read(sound.bytes(*at, 128)).is_none()) {
        return Ok(0);
    }
    for at in copies {
        flip(&mut damaged, at + random.below(128), random);
    }
    refused(damaged, known, &format!("both headers of slot {slot}"))
}

/// Goes on with `sound` in records of two lines, whose content depends on `salt`.
fn future(sound: &SimRegion, known: &Known<'_>, salt: u8) -> Result<SimRegion, String> {
    let (mut wal, end) = recover(sound.clone(), known)?;
    let mut history = known.history.clone();
    history.cut(end);
    history.favourite = None;
    let mut random = Random(7);
    for _ in 0..3 * sound.slot_bytes() / 128 {
        let _ = history.append_block(&mut wal, &mut random, vec![salt; 32]);
        wal.barrier();
        wal.persisted();
        wal.housekeep(4);
    }
    Ok(wal.into_region().after_kill())
}

/// A page of a rolled segment as it would be, had the log gone on otherwise from here: a copy that was put back.
fn page_of_another_future(
    sound: &SimRegion,
    known: &Known<'_>,
    random: &mut Random,
) -> Result<u64, String> {
    let (one, other) = (future(sound, known, 1)?, future(sound, known, 2)?);
    let header = |region: &SimRegion, slot: u64| {
        SegmentHeader::read(region.bytes(slot * sound.slot_bytes(), 128))
    };
    let sequences = (0..u64::from(sound.slots())).filter_map(|slot| header(&one, slot));
    let newest = sequences.map(|header| header.sequence.get()).max();
    // A segment that is full, in both.
    let slot = (0..u64::from(sound.slots())).find(|slot| {
        header(&one, *slot).is_some_and(|found| {
            Some(found.sequence.get() + 1) == newest
                && header(&other, *slot).is_some_and(|other| other.sequence == found.sequence)
        })
    });
    let Some(slot) = slot else { return Ok(0) };
    let pages = sound.slot_bytes() / SEGMENT_DATA_AT;
    let page = 1 + random.below(pages - 1);
    let at = slot * sound.slot_bytes() + page * SEGMENT_DATA_AT;
    let strange = other.bytes(at, SEGMENT_DATA_AT as usize);
    if one.bytes(at, SEGMENT_DATA_AT as usize) == strange {
        return Ok(0);
    }
    let mut damaged = one.clone();
    damaged.damage(at, strange);
    refused(damaged, known, &format!("page {page} of slot {slot} of another future"))
}
