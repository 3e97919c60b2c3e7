//! A disk under a staged region: what was written is in the kernel's memory, what was synced is durable, and a power
//! cut leaves any sectors of the former.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use mstream_pmem::staged::Media;

use super::Random;

const SECTOR: usize = 512;

/// What a call does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails with this error number. What was written and not synced is dropped, though the kernel's memory shows it.
    Fails(i32),
    /// Does nothing and says that it did.
    Lies,
}

#[derive(Debug)]
struct State {
    slot_bytes: usize,
    cache: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that are not durable, with all that they held since they were.
    dirty: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    writes: u64,
    syncs: u64,
    /// The number of the write and of the sync from which on calls fail.
    bad_write: Option<(u64, Fault)>,
    bad_sync: Option<(u64, Fault)>,
    /// Most bytes that a write takes.
    most: usize,
}

/// Shared by the syncer and the test.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk that holds `image`.
    pub fn new(image: Vec<u8>, slot_bytes: u64) -> Disk {
        Disk(Arc::new(Mutex::new(State {
            slot_bytes: slot_bytes as usize,
            cache: image.clone(),
            durable: image,
            dirty: BTreeMap::new(),
            writes: 0,
            syncs: 0,
            bad_write: None,
            bad_sync: None,
            most: usize::MAX,
        })))
    }

    /// From the `number`th write on (from 1) writes are faulty.
    pub fn spoil_writes(&self, number: u64, fault: Fault) {
        self.0.lock().expect("sound").bad_write = Some((number, fault));
    }

    /// From the `number`th sync on (from 1) syncs are faulty.
    pub fn spoil_syncs(&self, number: u64, fault: Fault) {
        self.0.lock().expect("sound").bad_sync = Some((number, fault));
    }

    /// Nothing is faulty any more.
    pub fn mend(&self) {
        let mut state = self.0.lock().expect("sound");
        (state.bad_write, state.bad_sync) = (None, None);
    }

    /// Writes take `most` bytes at most.
    pub fn shorten(&self, most: usize) {
        self.0.lock().expect("sound").most = most;
    }

    /// Writes and syncs that were asked for.
    pub fn calls(&self) -> (u64, u64) {
        let state = self.0.lock().expect("sound");
        (state.writes, state.syncs)
    }

    /// What a kill of the process leaves.
    pub fn after_kill(&self) -> Vec<u8> {
        self.0.lock().expect("sound").cache.clone()
    }

    /// What a power cut leaves: of each sector that was not synced one of the contents that it had since.
    pub fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let state = self.0.lock().expect("sound");
        let mut image = state.durable.clone();
        for (sector, contents) in &state.dirty {
            let survives = random.below(contents.len() as u64 + 1) as usize;
            if let Some(content) = contents.get(survives) {
                image[sector * SECTOR..][..SECTOR].copy_from_slice(content);
            }
        }
        image
    }
}

fn spoilt(bad: Option<(u64, Fault)>, number: u64) -> Option<Fault> {
    bad.filter(|(from, _)| number >= *from).map(|(_, fault)| fault)
}

impl Media for Disk {
    fn write_at(&mut self, slot: u32, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().expect("sound");
        state.writes += 1;
        let len = bytes.len().min(state.most);
        assert!(at as usize + len <= state.slot_bytes, "a write ends inside its file");
        match spoilt(state.bad_write, state.writes) {
            Some(Fault::Fails(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Lies) => return Ok(len),
            None => {}
        }
        let from = slot as usize * state.slot_bytes + at as usize;
        state.cache[from..from + len].copy_from_slice(&bytes[..len]);
        for sector in from / SECTOR..(from + len).div_ceil(SECTOR) {
            let mut content = [0; SECTOR];
            content.copy_from_slice(&state.cache[sector * SECTOR..][..SECTOR]);
            state.dirty.entry(sector).or_default().push(content);
        }
        Ok(len)
    }

    fn sync(&mut self, slot: u32) -> io::Result<()> {
        let mut state = self.0.lock().expect("sound");
        state.syncs += 1;
        let fault = spoilt(state.bad_sync, state.syncs);
        if fault == Some(Fault::Lies) {
            return Ok(());
        }
        let per_slot = state.slot_bytes / SECTOR;
        let first = slot as usize * per_slot;
        let sectors: Vec<usize> =
            state.dirty.range(first..first + per_slot).map(|(at, _)| *at).collect();
        for sector in sectors {
            state.dirty.remove(&sector);
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            if fault.is_none() {
                let State { cache, durable, .. } = &mut *state;
                durable[range.clone()].copy_from_slice(&cache[range]);
            }
        }
        match fault {
            Some(Fault::Fails(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }
}
