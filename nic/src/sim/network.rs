//! The switch and the paths: where a frame goes, when it arrives, and what happens to it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::faults::{Counts, Faults};
use super::random::Random;
use super::{ARRIVAL_QUEUE, Endpoint, Forger};
use crate::headers::{Inbound, classify, emit_udp_headers};

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
    /// By sender and receiver; what was not used yet is not there.
    paths: Vec<Vec<Option<Path>>>,
    /// Frames on their way, the next to arrive on top.
    flying: BinaryHeap<Reverse<Flying>>,
    next_flight: u64,
    /// Buffers for frames on their way, to be used again.
    spare: Vec<Vec<u8>>,
    counts: Counts,
}

/// The network's end of a port.
#[derive(Debug)]
struct Station {
    mac: [u8; 6],
    attached: bool,
    arrived: VecDeque<Vec<u8>>,
    /// Buffers that the port does not get from its own pool.
    withheld: usize,
}

/// The way from one port to another.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) faults: Faults,
    pub(super) cut: bool,
    /// When the last frame arrives that was not held back.
    last_ns: u64,
}

/// A frame on its way. Ordered by the time of arrival, then by the order of sending.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    due_ns: u64,
    flight: u64,
    to: Endpoint,
    bytes: Vec<u8>,
}

impl Network {
    pub(super) fn new(seed: u64) -> Network {
        Network {
            random: Random::new(seed),
            now_ns: 0,
            faults: Faults::NONE,
            forger: None,
            stations: Vec::new(),
            paths: Vec::new(),
            flying: BinaryHeap::new(),
            next_flight: 0,
            spare: Vec::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn attach(&mut self, mac: [u8; 6]) -> Endpoint {
        for station in &mut self.stations {
            station.attached &= station.mac != mac;
        }
        self.stations.push(Station { mac, attached: true, arrived: VecDeque::new(), withheld: 0 });
        Endpoint(self.stations.len() - 1)
    }

    pub(super) fn detach(&mut self, endpoint: Endpoint) {
        let station = &mut self.stations[endpoint.0];
        station.attached = false;
        station.arrived.clear();
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

    pub(super) fn withheld(&self, endpoint: Endpoint) -> usize {
        self.stations[endpoint.0].withheld
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub(super) fn next_arrival_ns(&self) -> Option<u64> {
        self.flying.peek().map(|Reverse(next)| next.due_ns)
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
        // The lowest bit of the first byte marks an address of a group: everyone else gets it.
        let group = mac[0] & 1 == 1;
        let mut found = group;
        for to in 0..self.stations.len() {
            let station = &self.stations[to];
            if to != from.0 && station.attached && (group || station.mac == *mac) {
                found = true;
                self.put_on_path(from, Endpoint(to), frame);
            }
        }
        self.counts.unknown += u64::from(!found);
    }

    fn put_on_path(&mut self, from: Endpoint, to: Endpoint, frame: &[u8]) {
        if let Some(forger) = self.forger {
            let forges = self.path(from, to).faults.forge_ppm;
            if self.random.chance(forges)
                && let Some(forged) = forger(frame, self.random.next())
            {
                self.counts.forged += 1;
                self.enter_path(from, to, &forged);
            }
        }
        self.enter_path(from, to, frame);
    }

    fn enter_path(&mut self, from: Endpoint, to: Endpoint, frame: &[u8]) {
        self.counts.sent += 1;
        let path = self.path(from, to);
        let (loss_ppm, duplicate_ppm) = (path.faults.loss_ppm, path.faults.duplicate_ppm);
        if path.cut {
            self.counts.cut += 1;
            return;
        }
        if self.random.chance(loss_ppm) {
            self.counts.lost += 1;
            return;
        }
        self.take_off(from, to, frame);
        if self.random.chance(duplicate_ppm) {
            self.counts.duplicated += 1;
            self.take_off(from, to, frame);
        }
    }

    fn take_off(&mut self, from: Endpoint, to: Endpoint, frame: &[u8]) {
        let faults = self.path(from, to).faults.clone();
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(frame);
        if bytes.len() > MAC_BYTES && self.random.chance(faults.corrupt_ppm) {
            let bit = self.random.below((bytes.len() - MAC_BYTES) as u64 * 8) as usize;
            let (at, mask) = (MAC_BYTES + bit / 8, 1 << (bit % 8));
            bytes[at] ^= mask;
            if !self.random.chance(faults.mend_ppm) {
                self.counts.corrupted += 1;
            } else if mend(&mut bytes) {
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
        let path = self.path(from, to);
        if !held_back {
            due_ns = due_ns.max(path.last_ns);
            path.last_ns = due_ns;
        }
        if due_ns <= self.now_ns {
            // Whatever was due before has landed by now.
            self.arrive(to, bytes);
            return;
        }
        let flight = self.next_flight;
        self.next_flight += 1;
        self.flying.push(Reverse(Flying { due_ns, flight, to, bytes }));
    }

    pub(super) fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.land();
    }

    /// Lets everything arrive that is due.
    fn land(&mut self) {
        while self.next_arrival_ns().is_some_and(|due_ns| due_ns <= self.now_ns) {
            let Some(Reverse(Flying { to, bytes, .. })) = self.flying.pop() else { return };
            self.arrive(to, bytes);
        }
    }

    fn arrive(&mut self, to: Endpoint, bytes: Vec<u8>) {
        let station = &mut self.stations[to.0];
        if !station.attached {
            self.counts.departed += 1;
            self.spare.push(bytes);
        } else if station.arrived.len() == ARRIVAL_QUEUE {
            self.counts.overrun += 1;
            self.spare.push(bytes);
        } else {
            self.counts.delivered += 1;
            station.arrived.push_back(bytes);
        }
    }

    /// True while frames that arrived wait in a port.
    pub(super) fn has_arrived(&self, endpoint: Endpoint) -> bool {
        !self.stations[endpoint.0].arrived.is_empty()
    }

    /// Hands the next arrived frame of a port to `take`, if there is one.
    pub(super) fn receive(&mut self, endpoint: Endpoint, take: impl FnOnce(&[u8])) {
        let Some(bytes) = self.stations[endpoint.0].arrived.pop_front() else { return };
        take(&bytes);
        self.spare.push(bytes);
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
