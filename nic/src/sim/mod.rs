//! A simulated network: ports in one thread, joined by a switch that misbehaves as told.
//!
//! Time is virtual and stands still between calls of [`SimNet::advance`]. Everything that happens is
//! a function of the seed, the faults that were set and the order of calls, so a run can be repeated.
//!
//! ```
//! use mstream_nic::sim::{Faults, SimNet};
//! use mstream_nic::{Frame, FrameQueue, Port};
//!
//! let net = SimNet::new(7);
//! net.set_faults(Faults { delay_ns: 1_000..=1_000, ..Faults::NONE });
//! let mut a = net.attach([2, 0, 0, 0, 0, 1], 64);
//! let mut b = net.attach([2, 0, 0, 0, 0, 2], 64);
//! let mut frame = a.frame().expect("64 are free");
//! frame.fill(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45]);
//! a.send(frame).expect("there is room");
//! a.flush();
//! let mut got = FrameQueue::new();
//! net.advance(999);
//! assert_eq!(b.receive(&mut got, 32), 0);
//! net.advance(1_000);
//! assert_eq!(b.receive(&mut got, 32), 1);
//! ```

mod faults;
mod network;
mod port;
mod random;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use faults::{Counts, Faults};
use network::Network;
pub use port::SimPort;

/// Frames that wait in a port: to leave with the next flush.
pub const SEND_QUEUE: usize = 256;
/// Frames that wait in a port: arrived and not yet received. What arrives when it is full is lost and
/// counted.
pub const ARRIVAL_QUEUE: usize = 1024;

/// Makes a frame of one that is sent, with 64 random bits; `None` where it can make nothing of it.
pub type Forger = fn(&[u8], u64) -> Option<Vec<u8>>;

/// Names one port of a [`SimNet`]; never used again for another port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint(pub(crate) usize);

/// A simulated network. A clone is another handle of the same network.
#[derive(Clone, Debug)]
pub struct SimNet {
    network: Rc<RefCell<Network>>,
}

impl SimNet {
    /// A network without ports and faults, at time 0.
    pub fn new(seed: u64) -> SimNet {
        SimNet { network: Rc::new(RefCell::new(Network::new(seed))) }
    }

    /// A new port with address `mac` and a pool of `frames` buffers. If another port has the address
    /// the new one takes it over, like a machine that was replaced. A port leaves the network when it
    /// is dropped; the next one of its address has its paths, and gets what is on its way to it.
    pub fn attach(&self, mac: [u8; 6], frames: usize) -> SimPort {
        let endpoint = self.network.borrow_mut().attach(mac);
        SimPort::new(Rc::clone(&self.network), endpoint, frames)
    }

    /// Sets the faults of all paths, those of ports to come included.
    pub fn set_faults(&self, faults: Faults) {
        self.network.borrow_mut().set_faults(faults);
    }

    /// Sets the faults of the path from one port to another; the way back keeps its own.
    pub fn set_path_faults(&self, from: Endpoint, to: Endpoint, faults: Faults) {
        self.network.borrow_mut().path(from, to).faults = faults;
    }

    /// Cuts the path from one port to another, or joins it again; the way back stays as it is. Frames
    /// on their way when the path is cut still arrive.
    pub fn cut(&self, from: Endpoint, to: Endpoint, cut: bool) {
        self.network.borrow_mut().path(from, to).cut = cut;
    }

    /// Sets who makes frames of others' ([`Faults::forge_ppm`]).
    pub fn set_forger(&self, forger: Forger) {
        self.network.borrow_mut().set_forger(forger);
    }

    /// Withholds `frames` of a port's buffers from it, as if somebody kept them: none is left when as many
    /// are out as are not withheld.
    pub fn withhold(&self, endpoint: Endpoint, frames: usize) {
        self.network.borrow_mut().withhold(endpoint, frames);
    }

    /// A port hands over at most `frames` of its frames at once, though more may be asked for and have arrived: as a NIC
    /// does, whose ring is read while it fills.
    pub fn limit_burst(&self, endpoint: Endpoint, frames: usize) {
        self.network.borrow_mut().limit_burst(endpoint, frames);
    }

    /// Nothing leaves a port while `dead` is true, nor is it counted: for a machine that dies in the midst of something that
    /// its code does to the end.
    pub fn silence(&self, endpoint: Endpoint, dead: Arc<AtomicBool>) {
        self.network.borrow_mut().silence(endpoint, dead);
    }

    /// Moves the time to `now_ns` nanoseconds and lets everything arrive that is due by then, in the
    /// order in which it is due. A time before the current one changes nothing.
    pub fn advance(&self, now_ns: u64) {
        self.network.borrow_mut().advance(now_ns);
    }

    /// The current time in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.network.borrow().now_ns()
    }

    /// When the next frame arrives, in nanoseconds; `None` if none is on its way.
    pub fn next_arrival_ns(&self) -> Option<u64> {
        self.network.borrow().next_arrival_ns()
    }

    /// True while frames that arrived wait in a port.
    pub fn has_arrived(&self, endpoint: Endpoint) -> bool {
        self.network.borrow().has_arrived(endpoint)
    }

    /// What happened to the frames so far, on all paths together.
    pub fn counts(&self) -> Counts {
        self.network.borrow().counts()
    }
}
