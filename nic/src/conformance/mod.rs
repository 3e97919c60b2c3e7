//! What every port must do, as one suite that runs on any two ports that are connected to each other.
//!
//! A test implements [`Pair`] for its two ports and calls [`run`]; the suite panics with what went
//! wrong. A port whose other end is no port (a kernel socket on a tap device, another program) is
//! paired with a [`WirePort`] that reads and writes whole frames there.
//!
//! Checked, each way: frames of every length arrive byte for byte and in order; a full ring gives the
//! frame back and loses nothing; an exhausted pool loses nothing uncounted; received frames can be
//! held, rewritten, cut, lengthened and sent on; peer numbers stay; counts add up; all buffers come
//! back.

mod bench;
mod checks;
mod frames;
mod wire_port;

use std::time::Duration;

use crate::headers::UdpHeaders;
use crate::port::Port;

pub use wire_port::{Wire, WirePort};

/// Two ports that are connected to each other.
///
/// `B` must be able to send to [`Peer::WIRE`](crate::Peer::WIRE) from the start; `A` learns the number
/// of its peer from the first frame that it receives. So a memif server is `A` and its client `B`.
pub trait Pair {
    /// The port that may have several peers.
    type A: Port;
    /// The port with one peer.
    type B: Port;

    /// Both ports.
    fn ports(&mut self) -> (&mut Self::A, &mut Self::B);

    /// The addresses of frames from `A` to `B`. Frames the other way have them swapped. A frame with
    /// other IP addresses or UDP ports is taken for a foreign one.
    fn headers(&self) -> UdpHeaders;

    /// Called whenever the suite waits for frames: whatever must go on beside the two ports (virtual
    /// time, a listener) goes on here.
    fn settle(&mut self) {}
}

impl<P: Pair> Pair for &mut P {
    type A = P::A;
    type B = P::B;

    fn ports(&mut self) -> (&mut P::A, &mut P::B) {
        (**self).ports()
    }

    fn headers(&self) -> UdpHeaders {
        (**self).headers()
    }

    fn settle(&mut self) {
        (**self).settle();
    }
}

/// What may be expected of a pair. [`Expect::default`] is the strictest.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// Nothing that `send` took is lost, even if the other end does not receive for a while and its
    /// queue fills up. Where that is false, frames must still arrive as long as at most
    /// [`BURST`](crate::port::BURST) are on their way.
    pub lossless: bool,
    /// Frames that the suite did not send may arrive. They are counted and otherwise ignored.
    pub foreign_frames: bool,
    /// All headers arrive as they were sent. False where MAC addresses mean nothing or the path
    /// rewrites headers: then IP addresses, UDP ports and payload must be the same.
    pub exact_headers: bool,
    /// The length in bytes of the shortest frame that arrives with its length unchanged; at least that of
    /// the headers.
    pub shortest: usize,
    /// The length in bytes of the longest frame that the path takes; the ports' own limits hold too.
    pub longest: usize,
    /// The most buffers that each port's driver keeps when there is no traffic.
    pub resting: usize,
    /// A frame that has not arrived after this time is lost.
    pub patience: Duration,
}

impl Default for Expect {
    fn default() -> Expect {
        Expect {
            lossless: true,
            foreign_frames: false,
            exact_headers: true,
            shortest: crate::headers::UDP_HEADERS_BYTES,
            longest: usize::MAX,
            resting: 0,
            patience: Duration::from_secs(5),
        }
    }
}

/// What happened during a run that is no failure by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Frames that arrived as they should.
    pub arrived: u64,
    /// How often `send` gave a frame back because there was no room.
    pub gave_back: u64,
    /// How often there was no empty frame to fill.
    pub exhausted: u64,
    /// Frames that were lost where that was expected.
    pub lost: u64,
    /// Frames that the suite did not send.
    pub foreign: u64,
}

/// Runs the whole suite on `pair`.
///
/// # Panics
/// If one of the ports does not do what it must.
pub fn run(pair: &mut impl Pair, expect: Expect) -> Report {
    let shortest = expect.shortest.max(pair.headers().bytes());
    let mut bench = bench::Bench::new(pair, Expect { shortest, ..expect });
    bench.greet();
    checks::one_way(&mut bench);
    let mut bench = bench.flip();
    checks::one_way(&mut bench);
    bench.finish()
}
