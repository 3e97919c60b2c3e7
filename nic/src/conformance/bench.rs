//! The bench that the checks run on: sends numbered frames one way and receives them.

use std::time::Instant;

use crate::headers::UdpHeaders;
use crate::port::{BURST, Frame, FrameQueue, Peer, Port, PortStats};

use super::frames::{self, Outstanding};
use super::{Expect, Pair, Report};

/// The same pair the other way round.
pub(super) struct Flipped<P>(P);

impl<P: Pair> Pair for Flipped<P> {
    type A = P::B;
    type B = P::A;

    fn ports(&mut self) -> (&mut P::B, &mut P::A) {
        let (a, b) = self.0.ports();
        (b, a)
    }

    fn headers(&self) -> UdpHeaders {
        self.0.headers().swapped()
    }

    fn settle(&mut self) {
        self.0.settle();
    }
}

/// What the suite knows of one of the ports.
#[derive(Debug)]
pub(super) struct End {
    /// The other end's number on this port.
    pub(super) peer: Peer,
    /// Counts before the suite.
    before: PortStats,
    /// Frames that `send` took.
    pub(super) taken: u64,
    /// Frames that `receive` handed over, and their bytes.
    handed_over: (u64, u64),
}

impl End {
    fn new(port: &impl Port) -> End {
        End { peer: Peer::WIRE, before: port.stats(), taken: 0, handed_over: (0, 0) }
    }

    /// Compares the port's counts with what the suite saw.
    fn check_counts(&self, port: &impl Port, name: &str) {
        let (now, before) = (port.stats(), self.before);
        let handed_over = (now.rx_frames - before.rx_frames, now.rx_bytes - before.rx_bytes);
        assert_eq!(handed_over, self.handed_over, "{name}: rx_frames and rx_bytes");
        let gone = now.tx_frames - before.tx_frames + now.tx_dropped - before.tx_dropped;
        assert_eq!(gone, self.taken, "{name}: tx_frames + tx_dropped");
    }
}

/// Sends from `A` to `B`.
pub(super) struct Bench<P: Pair> {
    pub(super) pair: P,
    pub(super) expect: Expect,
    pub(super) a: End,
    pub(super) b: End,
    pub(super) report: Report,
    outstanding: Outstanding,
    next_number: u32,
}

impl<P: Pair> Bench<P> {
    pub(super) fn new(mut pair: P, expect: Expect) -> Bench<P> {
        let (a, b) = pair.ports();
        let (a, b) = (End::new(a), End::new(b));
        let outstanding = Outstanding::default();
        Bench { pair, expect, a, b, report: Report::default(), outstanding, next_number: 0 }
    }

    /// Turns the bench round.
    pub(super) fn flip(self) -> Bench<Flipped<P>> {
        assert_eq!(self.outstanding.len(), 0, "frames on their way");
        let Bench { pair, expect, a, b, report, outstanding, next_number } = self;
        Bench { pair: Flipped(pair), expect, a: b, b: a, report, outstanding, next_number }
    }

    /// Both ports learn who their peer is: `B` speaks first.
    pub(super) fn greet(&mut self) {
        let headers = self.pair.headers().swapped();
        let (_, b) = self.pair.ports();
        let mut frame = b.frame().expect("a fresh port has an empty frame");
        frame.set_len(self.expect.shortest.max(64));
        frames::write(frame.bytes_mut(), &headers, u32::MAX);
        frame.set_peer(Peer::WIRE);
        assert!(b.send(frame).is_ok(), "a fresh port takes a frame");
        b.flush();
        self.b.taken += 1;
        let deadline = Instant::now() + self.expect.patience;
        let mut got = FrameQueue::new();
        loop {
            self.pair.settle();
            let (a, _) = self.pair.ports();
            a.receive(&mut got, BURST);
            while let Some(frame) = got.pop_front() {
                self.a.handed_over.0 += 1;
                self.a.handed_over.1 += frame.bytes().len() as u64;
                if frames::is_ours(frame.bytes(), &headers) {
                    self.a.peer = frame.peer();
                    self.report.arrived += 1;
                    return;
                }
                self.report.foreign += 1;
            }
            assert!(Instant::now() < deadline, "the first frame did not arrive");
        }
    }

    /// The longest frame that may be sent, in bytes.
    pub(super) fn longest(&mut self) -> usize {
        let (a, b) = self.pair.ports();
        a.capabilities().max_frame.min(b.capabilities().max_frame).min(self.expect.longest)
    }

    /// The next numbered frame, of `len` bytes; `None` when the pool of `A` is exhausted.
    pub(super) fn fill(&mut self, len: usize) -> Option<<P::A as Port>::Frame> {
        let (a, _) = self.pair.ports();
        let Some(frame) = a.frame() else {
            self.report.exhausted += 1;
            return None;
        };
        Some(self.refill(frame, len))
    }

    /// Makes `frame`, whatever is in it, the next numbered frame.
    pub(super) fn refill<F: Frame>(&mut self, mut frame: F, len: usize) -> F {
        frame.set_len(len);
        frames::write(frame.bytes_mut(), &self.pair.headers(), self.next_number);
        frame.set_peer(self.a.peer);
        frame
    }

    /// Sends a frame that was just filled; gives it back unchanged when there is no room.
    pub(super) fn offer(
        &mut self,
        frame: <P::A as Port>::Frame,
    ) -> Result<(), <P::A as Port>::Frame> {
        let len = frame.bytes().len();
        let (a, _) = self.pair.ports();
        match a.send(frame) {
            Ok(()) => {
                self.a.taken += 1;
                self.outstanding.sent(self.next_number, len);
                self.next_number += 1;
                Ok(())
            }
            Err(frame) => {
                self.report.gave_back += 1;
                assert_eq!(frame.bytes().len(), len, "a frame that was given back");
                assert_eq!(frame.peer(), self.a.peer, "a frame that was given back");
                Err(frame)
            }
        }
    }

    pub(super) fn flush(&mut self) {
        let (a, _) = self.pair.ports();
        a.flush();
    }

    /// Sends a frame of `len` bytes, receiving meanwhile if there is no room or no buffer.
    pub(super) fn send(&mut self, len: usize) {
        let deadline = Instant::now() + self.expect.patience;
        let mut waiting = None;
        loop {
            waiting = match waiting.or_else(|| self.fill(len)) {
                Some(frame) => match self.offer(frame) {
                    Ok(()) => return,
                    Err(frame) => Some(frame),
                },
                None => None,
            };
            self.flush();
            self.collect();
            assert!(Instant::now() < deadline, "no room for another frame");
        }
    }

    /// Receives at `B` once and checks what arrived. Returns how many frames of the suite did.
    pub(super) fn collect(&mut self) -> usize {
        let mut got = FrameQueue::new();
        self.take_in(&mut got, BURST);
        let arrived = got.len();
        drop(got);
        self.ignore_at_a();
        arrived
    }

    /// Receives up to `max` frames at `B`, checks them, and appends those of the suite to `into`.
    pub(super) fn take_in(&mut self, into: &mut FrameQueue<<P::B as Port>::Frame>, max: usize) {
        self.pair.settle();
        let headers = self.pair.headers();
        let (_, b) = self.pair.ports();
        let mut got = FrameQueue::new();
        let said = b.receive(&mut got, max);
        assert_eq!(said, got.len(), "what receive returns is what it appended");
        assert!(said <= max, "receive handed over {said} frames, {max} were asked for");
        let max_frame = b.capabilities().max_frame;
        for frame in got {
            self.b.handed_over.0 += 1;
            self.b.handed_over.1 += frame.bytes().len() as u64;
            if !frames::is_ours(frame.bytes(), &headers) {
                assert!(
                    self.expect.foreign_frames,
                    "a frame that nobody sent: {:02x?}",
                    frame.bytes()
                );
                self.report.foreign += 1;
                continue;
            }
            assert!(frame.capacity() >= max_frame, "a received frame has room for a whole frame");
            let (exact, may_miss) = (self.expect.exact_headers, !self.expect.lossless);
            match self.outstanding.arrived(frame.bytes(), &headers, exact, may_miss) {
                Ok(missed) => self.report.lost += missed,
                Err(wrong) => panic!("{wrong}"),
            }
            self.report.arrived += 1;
            if self.b.peer == Peer::WIRE {
                self.b.peer = frame.peer();
            }
            assert_eq!(frame.peer(), self.b.peer, "the sender's number");
            into.push_back(frame);
        }
    }

    /// Takes what arrives at `A`, where nothing of the suite may.
    fn ignore_at_a(&mut self) {
        let (a, _) = self.pair.ports();
        let mut got = FrameQueue::new();
        a.receive(&mut got, BURST);
        for frame in got {
            self.a.handed_over.0 += 1;
            self.a.handed_over.1 += frame.bytes().len() as u64;
            self.report.foreign += 1;
            assert!(self.expect.foreign_frames, "a frame that nobody sent: {:02x?}", frame.bytes());
        }
    }

    /// Frames that were sent and have not arrived.
    pub(super) fn on_their_way(&self) -> usize {
        self.outstanding.len()
    }

    /// Receives until all frames have arrived.
    pub(super) fn await_all(&mut self) {
        let left = self.collect_until_quiet();
        assert_eq!(left, 0, "{left} frames were sent and did not arrive");
    }

    /// Receives until all frames have arrived, those excepted that may be lost.
    pub(super) fn await_survivors(&mut self) {
        if self.expect.lossless {
            self.await_all();
        } else {
            self.collect_until_quiet();
            self.report.lost += self.outstanding.give_up();
        }
    }

    /// Rewrites a frame that `B` received and sends it back from there; it must arrive at `A`.
    pub(super) fn send_back(&mut self, mut frame: <P::B as Port>::Frame, len: usize) {
        let headers = self.pair.headers().swapped();
        let mut outstanding = Outstanding::default();
        outstanding.sent(self.next_number, len);
        frame.set_len(len);
        frames::write(frame.bytes_mut(), &headers, self.next_number);
        self.next_number += 1;
        let (_, b) = self.pair.ports();
        assert!(b.send(frame).is_ok(), "an idle port takes a frame");
        b.flush();
        self.b.taken += 1;
        let deadline = Instant::now() + self.expect.patience;
        let mut got = FrameQueue::new();
        while outstanding.len() > 0 {
            assert!(Instant::now() < deadline, "the frame that was sent back did not arrive");
            self.pair.settle();
            let (a, _) = self.pair.ports();
            a.receive(&mut got, BURST);
            for frame in got.drain(..) {
                self.a.handed_over.0 += 1;
                self.a.handed_over.1 += frame.bytes().len() as u64;
                if !frames::is_ours(frame.bytes(), &headers) {
                    assert!(self.expect.foreign_frames, "a frame that nobody sent");
                    self.report.foreign += 1;
                    continue;
                }
                let exact = self.expect.exact_headers;
                if let Err(wrong) = outstanding.arrived(frame.bytes(), &headers, exact, false) {
                    panic!("{wrong}");
                }
                assert_eq!(frame.peer(), self.a.peer, "the sender's number");
                self.report.arrived += 1;
            }
        }
    }

    /// Gives up the frames on their way; returns how many there were.
    pub(super) fn write_off(&mut self) -> u64 {
        self.outstanding.give_up()
    }

    /// Receives until everything has arrived or nothing more does; returns how much is missing.
    pub(super) fn collect_until_quiet(&mut self) -> usize {
        let mut heard = Instant::now();
        while self.outstanding.len() > 0 && heard.elapsed() < self.expect.patience {
            self.flush();
            if self.collect() > 0 {
                heard = Instant::now();
            }
        }
        self.outstanding.len()
    }

    /// The counts add up and all buffers are back.
    pub(super) fn finish(mut self) -> Report {
        let deadline = Instant::now() + self.expect.patience;
        loop {
            self.collect();
            let (a, b) = self.pair.ports();
            a.flush();
            b.flush();
            let out = a.frames_out().max(b.frames_out());
            if out <= self.expect.resting {
                break;
            }
            assert!(Instant::now() < deadline, "{out} buffers did not come back");
        }
        let (a, b) = self.pair.ports();
        // Turned round once: `A` is the pair's second port now.
        self.a.check_counts(a, "second port");
        self.b.check_counts(b, "first port");
        self.report
    }
}
