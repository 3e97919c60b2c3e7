//! The checks, each from `A` to `B`.

use std::time::Instant;

use crate::port::{BURST, Frame, FrameQueue, Port};

use super::Pair;
use super::bench::Bench;

/// Rounds of filling the other end's queue.
const ROUNDS: usize = 3;
/// A port that took so many frames loses them elsewhere and never runs full: more than any ring has.
const ENOUGH: usize = 40_000;
/// Frames that arrive while there is no buffer for them.
const UNWELCOME: usize = 16;

/// All checks.
pub(super) fn one_way<P: Pair>(bench: &mut Bench<P>) {
    every_length(bench);
    receive_takes_at_most_what_was_asked_for(bench);
    full_queue(bench);
    exhausted_pool_of_the_sender(bench);
    exhausted_pool_of_the_receiver(bench);
    held_frames(bench);
    received_frames_are_sent_back(bench);
    too_long(bench);
}

/// Frames of every length arrive as they were sent, in order, a few at a time.
fn every_length<P: Pair>(bench: &mut Bench<P>) {
    let longest = bench.longest();
    assert!(longest >= bench.expect.shortest, "the longest frame has {longest} bytes");
    for len in bench.expect.shortest..=longest {
        bench.send(len);
        if len % (BURST / 2) == 0 {
            bench.flush();
            bench.await_all();
        }
    }
    bench.flush();
    bench.await_all();
}

/// `receive` appends, and no more than it was asked for.
fn receive_takes_at_most_what_was_asked_for<P: Pair>(bench: &mut Bench<P>) {
    for _ in 0..BURST {
        bench.send(100);
    }
    bench.flush();
    let mut got = FrameQueue::new();
    bench.take_in(&mut got, 0);
    assert_eq!(got.len(), 0, "nothing was asked for");
    for asked in 1..4 {
        // `take_in` checks the limit.
        bench.take_in(&mut got, asked);
    }
    drop(got);
    bench.await_all();
}

/// Nobody receives until there is no room any more: the frame comes back, and what was taken arrives.
fn full_queue<P: Pair>(bench: &mut Bench<P>) {
    for _ in 0..ROUNDS {
        let mut given_back = None;
        for _ in 0..ENOUGH {
            let Some(frame) = bench.fill(256) else { break };
            if let Err(frame) = bench.offer(frame) {
                given_back = Some(frame);
                break;
            }
        }
        bench.flush();
        bench.await_survivors();
        if let Some(frame) = given_back {
            // It is as good as before; its number was not used.
            let taken = bench.offer(frame).is_ok();
            assert!(taken, "there is room again after everything arrived");
            bench.flush();
            bench.await_all();
        }
    }
}

/// All empty frames are taken; they come back when they are dropped.
fn exhausted_pool_of_the_sender<P: Pair>(bench: &mut Bench<P>) {
    let (a, _) = bench.pair.ports();
    let before = a.frames_out();
    let mut held = Vec::new();
    while let Some(frame) = a.frame() {
        held.push(frame);
    }
    assert!(a.frames_out() >= before + held.len(), "frames_out counts frames that were taken");
    let all = held.len();
    drop(held);
    assert!(a.frames_out() <= before + bench.expect.resting, "dropped frames come back");
    let (a, _) = bench.pair.ports();
    let again: Vec<_> = (0..all).map_while(|_| a.frame()).collect();
    assert_eq!(again.len(), all, "the pool is as large as before");
}

/// Frames arrive while the receiver has no buffer: they wait, or they are counted.
fn exhausted_pool_of_the_receiver<P: Pair>(bench: &mut Bench<P>) {
    // Of one pool with two ports the sender's frames must be filled first.
    let filled: Vec<_> = (0..UNWELCOME).map_while(|_| bench.pair.ports().0.frame()).collect();
    let (_, b) = bench.pair.ports();
    let before = b.stats().rx_no_buffer;
    let mut held = Vec::new();
    while let Some(frame) = b.frame() {
        held.push(frame);
    }
    for frame in filled {
        let frame = bench.refill(frame, 200);
        if bench.offer(frame).is_err() {
            break;
        }
    }
    bench.flush();
    for _ in 0..4 {
        bench.collect();
    }
    drop(held);
    let dropped = |bench: &mut Bench<P>| bench.pair.ports().1.stats().rx_no_buffer - before;
    let patience = bench.expect.patience;
    let started = Instant::now();
    while bench.on_their_way() as u64 > dropped(bench) && started.elapsed() < patience {
        bench.flush();
        if bench.collect() == 0 && !bench.expect.lossless && started.elapsed() > patience / 8 {
            break;
        }
    }
    let counted = dropped(bench);
    let missing = bench.write_off();
    if bench.expect.lossless {
        assert_eq!(missing, counted, "frames without a buffer wait or are counted in rx_no_buffer");
    }
    bench.report.lost += missing;
    // It goes on as before.
    bench.send(300);
    bench.flush();
    bench.await_all();
}

/// A received frame is the holder's alone: what arrives later does not change it.
fn held_frames<P: Pair>(bench: &mut Bench<P>) {
    let mut held: FrameQueue<_> = FrameQueue::new();
    for len in 0..4 {
        bench.send(200 + len);
    }
    bench.flush();
    let started = Instant::now();
    while bench.on_their_way() > 0 {
        bench.take_in(&mut held, 1);
        assert!(started.elapsed() < bench.expect.patience, "frames did not arrive");
    }
    let seen: Vec<Vec<u8>> = held.iter().map(|frame| frame.bytes().to_vec()).collect();
    for _ in 0..4 * BURST {
        bench.send(250);
        bench.flush();
        bench.await_all();
    }
    for (frame, seen) in held.iter().zip(&seen) {
        assert_eq!(frame.bytes(), seen, "a held frame changed");
    }
}

/// Received frames are rewritten, cut or lengthened, and go back out of the port they came from.
fn received_frames_are_sent_back<P: Pair>(bench: &mut Bench<P>) {
    let (shortest, longest) = (bench.expect.shortest, bench.longest());
    let middle = (shortest + longest) / 2;
    for (there, back) in [(middle, middle), (middle, shortest), (shortest, longest)] {
        bench.send(there);
        bench.flush();
        let mut got = FrameQueue::new();
        let started = Instant::now();
        while got.is_empty() {
            bench.take_in(&mut got, 1);
            assert!(started.elapsed() < bench.expect.patience, "the frame did not arrive");
        }
        let frame = got.pop_front().expect("not empty");
        bench.send_back(frame, back);
    }
}

/// A frame that is too long for the port is taken, dropped and counted.
fn too_long<P: Pair>(bench: &mut Bench<P>) {
    let (a, _) = bench.pair.ports();
    let max_frame = a.capabilities().max_frame;
    let mut frame = a.frame().expect("all buffers are back");
    if frame.capacity() <= max_frame {
        // No frame of this port can be too long.
        return;
    }
    let before = a.stats().tx_dropped;
    frame.set_len(max_frame + 1);
    frame.bytes_mut().fill(0);
    frame.set_peer(bench.a.peer);
    let (a, _) = bench.pair.ports();
    assert!(a.send(frame).is_ok(), "a frame that can never leave is taken");
    a.flush();
    assert_eq!(a.stats().tx_dropped, before + 1, "a frame that can never leave is counted");
    bench.a.taken += 1;
}
