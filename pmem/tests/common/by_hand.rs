//! Worlds of a log on a staged region over a disk that can lose power: the sync thread's work is done step by step, at
//! moments that a seed picks.

use std::sync::{Arc, Mutex};

use mstream_pmem::staged::{StagedRegion, Syncer};
use mstream_pmem::wal::{AppendError, Wal};

use super::disk::Disk;
use super::{History, Random, check_recovered, config};

pub const SLOTS: u32 = 8;
pub const SLOT_BYTES: u64 = 16 * 1024;
pub const WINDOW: u64 = 4096;

pub type Hand = Arc<Mutex<Syncer<Disk>>>;

/// Opens the log on `disk`, which holds `image`.
pub fn open(disk: &Disk, image: &[u8], time: u64) -> (Result<Wal<StagedRegion>, String>, Hand) {
    let (region, syncer) =
        StagedRegion::by_hand(SLOTS, image, WINDOW, disk.clone()).expect("memory");
    let hand = Arc::new(Mutex::new(syncer));
    let helper = Arc::clone(&hand);
    let region = region.waiting_by(move || {
        helper.lock().expect("sound").step();
    });
    let slots: Vec<u32> = (0..SLOTS).collect();
    let opened = Wal::open(region, &slots, config(time)).map_err(|error| error.to_string());
    (opened.map(|opened| opened.0), hand)
}

pub fn steps(hand: &Hand, most: u64) {
    for _ in 0..most {
        if !hand.lock().expect("sound").step() {
            return;
        }
    }
}

pub fn blank() -> Vec<u8> {
    vec![0; (u64::from(SLOTS) * SLOT_BYTES) as usize]
}

/// Recovers `image` and compares it with what was appended.
pub fn check_image(image: Vec<u8>, history: &History, acknowledged: u64) -> Result<(), String> {
    let disk = Disk::new(image.clone(), SLOT_BYTES);
    let (wal, _) = open(&disk, &image, history.time);
    check_recovered(&mut wal?, &mut history.clone(), acknowledged)
}

/// What became of a world.
#[derive(Debug, Default)]
pub struct Tally {
    pub images: u64,
    pub acknowledged: u64,
}

/// Several lives of a log, each ended by a power cut or a kill, with looks at what other ones would leave.
pub fn play(seed: u64, spoil: impl Fn(&Disk)) -> Result<Tally, String> {
    let mut random = Random(seed);
    let mut history = History::default();
    let (mut image, mut acknowledged, mut tally) = (blank(), 0, Tally::default());
    for life in 0..3 {
        let disk = Disk::new(image.clone(), SLOT_BYTES);
        spoil(&disk);
        if random.below(2) == 0 {
            disk.shorten(64 + random.below(700) as usize);
        }
        let (wal, hand) = open(&disk, &image, history.time);
        let mut wal = wal.map_err(|what| format!("life {life}: {what}"))?;
        check_recovered(&mut wal, &mut history, acknowledged)
            .map_err(|what| format!("life {life}: {what}"))?;
        history.started(&wal);
        // What was found is served at once.
        acknowledged = wal.appended() - 1;
        for action in 0..400 {
            match random.below(16) {
                0..6 => {
                    let bytes = random.below(900);
                    match history.append(&mut wal, &mut random, bytes) {
                        Ok(_) | Err(AppendError::Full | AppendError::Window) => {}
                        Err(other) => return Err(other.to_string()),
                    }
                }
                6..9 => wal.barrier(),
                9..13 => steps(&hand, random.below(9)),
                13 => history.live(&mut wal, &mut random),
                14 => acknowledged = acknowledged.max(wal.persisted()),
                _ => wal.housekeep(random.below(20) as usize),
            }
            if random.below(12) == 0 {
                tally.images += 1;
                check_image(disk.after_power_cut(&mut random), &history, acknowledged)
                    .map_err(|what| format!("life {life}, action {action}, power cut: {what}"))?;
                check_image(disk.after_kill(), &history, acknowledged)
                    .map_err(|what| format!("life {life}, action {action}, kill: {what}"))?;
            }
        }
        acknowledged = acknowledged.max(wal.persisted());
        tally.acknowledged = acknowledged;
        image = match random.below(2) {
            0 => disk.after_power_cut(&mut random),
            _ => disk.after_kill(),
        };
    }
    Ok(tally)
}
