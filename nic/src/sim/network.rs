//! The switch and the paths: where a frame goes, when it arrives, and what happens to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::faults::{Counts, Faults};
use super::random::Random;
use super::{ARRIVAL_QUEUE, Endpoint, Forger};
use crate::headers::{Inbound, classify, emit_udp_headers};
use crate::pool::{LooseFrame, PoolFrame};

/// The first bytes of a frame that are its destination address; they are never corrupted, because the
/// switch has read them by then.
const MAC_BYTES: usize = 6;

#[derive(Debug)]
pub(super) struct Network {
    random: Random,
    now_ns: u64,
    faults: Faults,
    forger: Option<Forger>,
    stations: Vec<Station>,
    /// Those that are attached, in order, and their addresses: others come and go, and are never asked for again.
    attached: Vec<(Endpoint, u64)>,
    /// By sender and receiver; what was not used yet is not there.
    paths: Vec<Vec<Option<Path>>>,
    /// Frames on their way, in the order of their arrival; of those that arrive at a time, of their sending. Most are
    /// among the last to arrive when they are sent.
    flying: VecDeque<Flying>,
    /// Frames on their way, and those that arrived.
    frames: Vec<LooseFrame>,
    /// Which of these are not in use.
    spare: Vec<usize>,
    counts: Counts,
}

/// The network's end of a port.
#[derive(Debug)]
struct Station {
    mac: u64,
    /// A port is here, though another may have its address by now.
    is_used: bool,
    attached: bool,
    arrived: VecDeque<usize>,
    /// Buffers that the port does not get from its own pool.
    withheld: usize,
    /// The port hands over at most so many frames at once.
    burst: usize,
    /// Nothing leaves it while this is true.
    dead: Arc<AtomicBool>,
}

/// The way from one port to another.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) faults: Faults,
    pub(super) cut: bool,
    /// When the last frame arrives that was not held back.
    last_ns: u64,
}

/// A frame on its way.
#[derive(Debug)]
struct Flying {
    due_ns: u64,
    to: Endpoint,
    /// Its bytes are in this one of [`Network::frames`].
    frame: usize,
}

/// An address as a number: compared in one go.
fn number(mac: &[u8; MAC_BYTES]) -> u64 {
    mac.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Network {
    pub(super) fn new(seed: u64) -> Network {
        Network {
            random: Random::new(seed),
            now_ns: 0,
            faults: Faults::NONE,
            forger: None,
            stations: Vec::new(),
            attached: Vec::new(),
            paths: Vec::new(),
            flying: VecDeque::new(),
            frames: Vec::new(),
            spare: Vec::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn attach(&mut self, mac: [u8; 6]) -> Endpoint {
        let mac = number(&mac);
        // Another port had this address.
        while let Some(at) = self.attached.iter().position(|(_, known)| *known == mac) {
            let (endpoint, _) = self.attached.remove(at);
            self.stations[endpoint.0].attached = false;
        }
        let (arrived, dead) = (VecDeque::new(), Arc::default());
        let (is_used, attached, withheld, burst) = (true, true, 0, usize::MAX);
        let station = Station { mac, is_used, attached, arrived, withheld, burst, dead };
        // What is on its way to a port that left reaches the next one of its address.
        let left = self.stations.iter().position(|left| left.mac == mac && !left.is_used);
        let at = left.unwrap_or(self.stations.len());
        match self.stations.get_mut(at) {
            Some(left) => *left = station,
            None => self.stations.push(station),
        }
        self.attached.push((Endpoint(at), mac));
        Endpoint(at)
    }

    pub(super) fn detach(&mut self, endpoint: Endpoint) {
        self.attached.retain(|(attached, _)| *attached != endpoint);
        let station = &mut self.stations[endpoint.0];
        (station.attached, station.is_used) = (false, false);
        self.spare.extend(station.arrived.drain(..));
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        for path in self.paths.iter_mut().flatten().flatten() {
            path.faults = faults.clone();
        }
        self.faults = faults;
    }

    pub(super) fn path(&mut self, from: Endpoint, to: Endpoint) -> &mut Path {
        if self.paths.len() <= from.0 {
            self.paths.resize_with(from.0 + 1, Vec::new);
        }
        let from = &mut self.paths[from.0];
        if from.len() <= to.0 {
            from.resize_with(to.0 + 1, || None);
        }
        let faults = &self.faults;
        from[to.0].get_or_insert_with(|| Path { faults: faults.clone(), cut: false, last_ns: 0 })
    }

    pub(super) fn set_forger(&mut self, forger: Forger) {
        self.forger = Some(forger);
    }

    pub(super) fn withhold(&mut self, endpoint: Endpoint, frames: usize) {
        self.stations[endpoint.0].withheld = frames;
    }

    pub(super) fn limit_burst(&mut self, endpoint: Endpoint, frames: usize) {
        self.stations[endpoint.0].burst = frames;
    }

    pub(super) fn burst(&self, endpoint: Endpoint) -> usize {
        self.stations[endpoint.0].burst
    }

    pub(super) fn silence(&mut self, endpoint: Endpoint, dead: Arc<AtomicBool>) {
        self.stations[endpoint.0].dead = dead;
    }

    pub(super) fn withheld(&self, endpoint: Endpoint) -> usize {
        self.stations[endpoint.0].withheld
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub(super) fn next_arrival_ns(&self) -> Option<u64> {
        self.flying.front().map(|next| next.due_ns)
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a frame from a port and puts it on its way, by its destination address.
    pub(super) fn send(&mut self, from: Endpoint, frame: &[u8]) {
        let Some(mac) = frame.first_chunk::<MAC_BYTES>() else {
            self.counts.unknown += 1;
            return;
        };
        if !self.stations[from.0].attached {
            // Another port has this one's address now.
            self.counts.unknown += 1;
            return;
        }
        if self.stations[from.0].dead.load(Ordering::Relaxed) {
            return;
        }
        // The lowest bit of the first byte marks an address of a group: everyone else gets it.
        let group = mac[0] & 1 == 1;
        if group {
            for at in 0..self.attached.len() {
                let (to, _) = self.attached[at];
                if to != from {
                    self.put_on_path(from, to, frame);
                }
            }
            return;
        }
        let mac = number(mac);
        match self.attached.iter().find(|(_, known)| *known == mac) {
            Some((to, _)) if *to != from => self.put_on_path(from, *to, frame),
            _ => self.counts.unknown += 1,
        }
    }

    fn put_on_path(&mut self, from: Endpoint, to: Endpoint, frame: &[u8]) {
        let mut path = self.path(from, to).clone();
        if let Some(forger) = self.forger
            && self.random.chance(path.faults.forge_ppm)
            && let Some(forged) = forger(frame, self.random.next())
        {
            self.counts.forged += 1;
            self.enter_path(&mut path, to, &forged);
        }
        self.enter_path(&mut path, to, frame);
        self.path(from, to).last_ns = path.last_ns;
    }

    fn enter_path(&mut self, path: &mut Path, to: Endpoint, frame: &[u8]) {
        self.counts.sent += 1;
        if path.cut {
            self.counts.cut += 1;
            return;
        }
        if self.random.chance(path.faults.loss_ppm) {
            self.counts.lost += 1;
            return;
        }
        self.take_off(path, to, frame);
        if self.random.chance(path.faults.duplicate_ppm) {
            self.counts.duplicated += 1;
            self.take_off(path, to, frame);
        }
    }

    fn take_off(&mut self, path: &mut Path, to: Endpoint, frame: &[u8]) {
        let faults = &path.faults;
        let number = self.spare.pop().unwrap_or(self.frames.len());
        if number == self.frames.len() {
            self.frames.push(LooseFrame::new());
        }
        let bytes = self.frames[number].fill(frame);
        if bytes.len() > MAC_BYTES && self.random.chance(faults.corrupt_ppm) {
            let bit = self.random.below((bytes.len() - MAC_BYTES) as u64 * 8) as usize;
            let (at, mask) = (MAC_BYTES + bit / 8, 1 << (bit % 8));
            bytes[at] ^= mask;
            if !self.random.chance(faults.mend_ppm) {
                self.counts.corrupted += 1;
            } else if mend(bytes) {
                self.counts.corrupted += 1;
                self.counts.mended += 1;
            } else {
                bytes[at] ^= mask;
            }
        }
        let (least, most) = (*faults.delay_ns.start(), *faults.delay_ns.end());
        let delay_ns = least + self.random.below(most.saturating_sub(least).saturating_add(1));
        let mut due_ns = self.now_ns.saturating_add(delay_ns);
        let held_back = self.random.chance(faults.reorder_ppm);
        if held_back {
            self.counts.reordered += 1;
            due_ns = due_ns.saturating_add(self.random.below(faults.reorder_ns.saturating_add(1)));
        }
        if !held_back {
            due_ns = due_ns.max(path.last_ns);
            path.last_ns = due_ns;
        }
        if due_ns <= self.now_ns {
            // Whatever was due before has landed by now.
            self.arrive(to, number);
            return;
        }
        let at = self.flying.partition_point(|flying| flying.due_ns <= due_ns);
        self.flying.insert(at, Flying { due_ns, to, frame: number });
    }

    pub(super) fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.land();
    }

    /// Lets everything arrive that is due.
    fn land(&mut self) {
        while self.next_arrival_ns().is_some_and(|due_ns| due_ns <= self.now_ns) {
            let Some(Flying { to, frame, .. }) = self.flying.pop_front() else { return };
            self.arrive(to, frame);
        }
    }

    fn arrive(&mut self, to: Endpoint, frame: usize) {
        let station = &mut self.stations[to.0];
        if !station.attached {
            self.counts.departed += 1;
            self.spare.push(frame);
        } else if station.arrived.len() == ARRIVAL_QUEUE {
            self.counts.overrun += 1;
            self.spare.push(frame);
        } else {
            self.counts.delivered += 1;
            station.arrived.push_back(frame);
        }
    }

    /// True while frames that arrived wait in a port.
    pub(super) fn has_arrived(&self, endpoint: Endpoint) -> bool {
        !self.stations[endpoint.0].arrived.is_empty()
    }

    /// Puts the next arrived frame of a port into `frame`, if there is one.
    pub(super) fn receive(&mut self, endpoint: Endpoint, frame: &mut PoolFrame) {
        let Some(number) = self.stations[endpoint.0].arrived.pop_front() else { return };
        self.frames[number].put_into(frame);
        self.spare.push(number);
    }
}

/// Makes the checksums of a UDP packet fit what is in it. False when it is none, or none any more.
fn mend(frame: &mut [u8]) -> bool {
    let Ok(Inbound::Udp(udp)) = classify(frame, false) else { return false };
    let (headers, payload) = (*udp.headers(), udp.payload().len());
    if udp.payload_at() != headers.bytes() {
        return false;
    }
    emit_udp_headers(frame, &headers, payload);
    true
}
