//! Once sessions, publications and subscriptions are made, a client allocates nothing. Counted by an
//! allocator that this program runs on.
#![expect(unsafe_code, reason = "a global allocator")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use common::{MS, PUBLISHER, STREAM, World};
use mstream_client::{Client, Event, From, Identity, PublicationConfig, SessionConfig};
use mstream_nic::sim::SimPort;
use mstream_nic::{Capabilities, FrameQueue, Port, PortStats};

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count_call() {
    // A thread that is ending has no counter any more, and nothing is measured on it.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: everything is the system allocator's; the counter neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_call();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_call();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_call();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type PortFrame = <SimPort as Port>::Frame;

/// The simulated network allocates, so it is kept out of the client's calls: frames cross in [`Gate::pump`].
struct Gate {
    port: SimPort,
    came: FrameQueue<PortFrame>,
    leaving: FrameQueue<PortFrame>,
}

#[derive(Clone)]
struct GatePort(Rc<RefCell<Gate>>);

impl GatePort {
    fn new(mut port: SimPort) -> GatePort {
        // It makes each buffer when it is first needed: that is now.
        drop(std::iter::from_fn(|| port.frame()).collect::<Vec<_>>());
        let (came, leaving) = (FrameQueue::with_capacity(64), FrameQueue::with_capacity(64));
        GatePort(Rc::new(RefCell::new(Gate { port, came, leaving })))
    }

    fn pump(&self) {
        let Gate { port, came, leaving } = &mut *self.0.borrow_mut();
        for frame in leaving.drain(..) {
            port.send(frame).expect("the port has room");
        }
        port.flush();
        port.receive(came, 32);
    }
}

impl Port for GatePort {
    type Frame = PortFrame;

    fn capabilities(&self) -> Capabilities {
        self.0.borrow().port.capabilities()
    }
    fn receive(&mut self, into: &mut FrameQueue<PortFrame>, max: usize) -> usize {
        let came = &mut self.0.borrow_mut().came;
        let taken = max.min(came.len());
        into.extend(came.drain(..taken));
        taken
    }
    fn send(&mut self, frame: PortFrame) -> Result<(), PortFrame> {
        let leaving = &mut self.0.borrow_mut().leaving;
        if leaving.len() == leaving.capacity() {
            return Err(frame);
        }
        leaving.push_back(frame);
        Ok(())
    }
    fn flush(&mut self) {}
    fn frame(&mut self) -> Option<PortFrame> {
        self.0.borrow_mut().port.frame()
    }
    fn stats(&self) -> PortStats {
        self.0.borrow().port.stats()
    }
    fn frames_out(&self) -> usize {
        self.0.borrow().port.frames_out()
    }
}

#[test]
fn after_set_up_a_client_allocates_nothing() {
    let mut world = World::new();
    let (port, addresses) = world.attach(1);
    let gate = GatePort::new(port);
    let mut client = Client::new(gate.clone(), addresses, [1; 16]);
    let named = SessionConfig { identity: Identity::Publisher(PUBLISHER), max_beat_ms: 100 };
    let publishing = client.open_session(named);
    let reading = client.open_session(SessionConfig::new(Identity::Anonymous));
    let config = PublicationConfig { max_batch: 3, ..Default::default() };
    let publication = client.open_publication(publishing, STREAM, &config);
    let subscription = client.subscribe(reading, STREAM, From::Earliest, 50);
    let (mut messages, mut acknowledged, mut lost, mut published) = (0u64, 0, 0, 0u64);
    let mut calls = 0;
    let mut seeks = 0;
    for step in 0..30_000u64 {
        world.advance(100_000);
        world.poll_server();
        gate.pump();
        // Twice the shard is killed, now and then the port is full, and once the reader moves.
        if step == 10_000 || step == 20_000 {
            let region = world.kill();
            world.start(region);
        }
        let before = CALLS.get();
        if step == 25_000 {
            client.seek(subscription, From::Earliest);
            seeks += 1;
        }
        for payload in [&[1; 10][..], &[2; 200], &[3; 1200]] {
            if step % 10 == 0 && client.publish(publication, b"key", b"header", payload).is_ok() {
                published += 1;
            }
        }
        client.flush();
        client.poll(world.now_ns(), |event| match event {
            Event::Message { .. } => messages += 1,
            Event::Acknowledged { sequence, .. } => acknowledged = sequence,
            Event::SessionLost { .. } => lost += 1,
            _ => {}
        });
        calls += CALLS.get() - before;
    }
    for _ in 0..1_000 {
        world.advance(MS);
        world.poll_server();
        gate.pump();
        client.poll(world.now_ns(), |event| match event {
            Event::Message { .. } => messages += 1,
            Event::Acknowledged { sequence, .. } => acknowledged = sequence,
            _ => {}
        });
    }
    assert_eq!(calls, 0, "calls of the allocator in 30,000 polls");
    assert!(published > 3_000 && acknowledged == published, "{acknowledged} of {published}");
    assert!(messages > published && seeks == 1, "{messages} messages came");
    assert_eq!(lost, 4, "both sessions were lost twice");
}

#[test]
fn the_counter_counts() {
    let before = CALLS.get();
    drop(std::hint::black_box(vec![1u8]));
    assert_eq!(CALLS.get() - before, 2);
}
