//! What a connected client may write into shared memory without harm to anyone but itself.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::raw::{BUFFER_BYTES, NEXT, Raw, Slot, Way};
use common::{Served, until};
use mstream_nic::memif::ClientPort;
use mstream_nic::pool::MAX_FRAME;
use mstream_nic::{Frame, FrameQueue, Peer, Port};

const LOG2: u8 = 4;
const SIZE: u16 = 1 << LOG2;

/// A server, a client that behaves, and one that does not.
struct Scene {
    served: Served,
    good: ClientPort,
    raw: Raw,
    raw_peer: Peer,
    pings: u64,
}

impl Scene {
    fn new() -> Scene {
        let mut served = Served::new(|_| {});
        let good = served.client();
        served.until_connected(1);
        let raw = Raw::connect(served.path(), LOG2);
        served.until_connected(2);
        let mut scene = Scene { served, good, raw, raw_peer: Peer::WIRE, pings: 0 };
        let slot = scene.slot(0, 60);
        scene.raw.send(&[slot]);
        let mut got = FrameQueue::new();
        until("the first frame arrives", || scene.served.server.receive(&mut got, 1) == 1);
        scene.raw_peer = got[0].peer();
        scene
    }

    /// A proper descriptor of the buffer that belongs to the slot `ahead` of head.
    fn slot(&self, ahead: u16, length: u32) -> Slot {
        let index = self.raw.head(Way::ToServer).wrapping_add(ahead);
        Slot { flags: 0, region: 0, length, offset: self.raw.buffer(Way::ToServer, index) }
    }

    /// Polls until the server has read everything; returns the lengths of what arrived.
    fn drain(&mut self) -> Vec<usize> {
        let mut lengths = Vec::new();
        until("the server has read everything", || {
            lengths.extend(self.served.poll().iter().map(Vec::len));
            self.raw.tail(Way::ToServer) == self.raw.head(Way::ToServer)
        });
        lengths
    }

    fn refused(&self) -> u64 {
        self.served.server.stats().rx_refused
    }

    /// Sends to the hostile client.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let mut frame = self.served.server.frame().expect("an empty frame");
        assert!(frame.fill(bytes));
        frame.set_peer(self.raw_peer);
        let taken = self.served.server.send(frame).is_ok();
        self.served.server.flush();
        taken
    }

    /// The hostile client is served as ever, and so is the other one.
    fn expect_alive(&mut self) {
        let slot = self.slot(0, 99);
        self.raw.send(&[slot]);
        assert_eq!(self.drain(), [99]);
        assert_eq!(self.served.stats().broken, 0);
        self.expect_other_alive();
    }

    fn expect_other_alive(&mut self) {
        self.pings += 1;
        self.served.ping(&mut self.good, self.pings);
        assert_eq!(self.served.server.frames_out(), 0);
    }

    /// The hostile client was thrown out, and the other one was not.
    fn expect_thrown_out(mut self) {
        self.served.until_connected(1);
        let said = self.raw.control.goodbye().expect("a reason");
        assert!(said.contains("make no sense"), "{said}");
        assert_eq!(self.served.stats().broken, 1);
        let before = self.served.server.stats().tx_dropped;
        assert!(self.send(b"to nobody"));
        assert_eq!(self.served.server.stats().tx_dropped, before + 1);
        self.expect_other_alive();
    }
}

#[test]
fn impossible_lengths_are_refused_frame_by_frame() {
    let mut scene = Scene::new();
    let longest = MAX_FRAME as u32;
    for (length, fits) in [
        (0, false),
        (1, true),
        (longest, true),
        (longest + 1, false),
        (65_535, false),
        (65_536 + 60, false),
        (1 << 31, false),
        (u32::MAX, false),
    ] {
        let before = scene.refused();
        scene.raw.send(&[scene.slot(0, length), scene.slot(1, 70)]);
        let expected = if fits { vec![length as usize, 70] } else { vec![70] };
        assert_eq!(scene.drain(), expected, "length {length}");
        assert_eq!(scene.refused() - before, u64::from(!fits), "length {length}");
    }
    scene.expect_alive();
}

#[test]
fn offsets_and_regions_outside_the_memory_are_refused() {
    let mut scene = Scene::new();
    let end = Raw::bytes(LOG2) as u32;
    let proper = scene.slot(0, 100);
    for slot in [
        Slot { offset: end, ..proper },
        Slot { offset: end - 99, ..proper },
        Slot { offset: u32::MAX, ..proper },
        Slot { offset: u32::MAX - 99, ..proper },
        Slot { offset: 1 << 31, ..proper },
        Slot { region: 1, ..proper },
        Slot { region: 15, ..proper },
        Slot { region: u16::MAX, ..proper },
    ] {
        let before = scene.refused();
        scene.raw.send(&[slot]);
        assert_eq!(scene.drain(), [0; 0], "{slot:?}");
        assert_eq!(scene.refused() - before, 1, "{slot:?}");
    }
    // The last bytes of the memory, and the rings themselves, are the client's to send.
    scene.raw.send(&[Slot { offset: end - 100, ..proper }, Slot { offset: 0, ..proper }]);
    assert_eq!(scene.drain(), [100, 100]);
    scene.expect_alive();
}

#[test]
fn chained_slots_are_one_frame_up_to_a_limit() {
    let mut scene = Scene::new();
    let chain = |scene: &Scene, parts: u16, length| -> Vec<Slot> {
        let last = parts - 1;
        let flags = |at| if at == last { 0 } else { NEXT };
        (0..parts).map(|at| Slot { flags: flags(at), ..scene.slot(at, length) }).collect()
    };
    for (parts, length, arrives) in [
        (2, 1000, true),
        (8, 100, true),
        (9, 100, false),
        (SIZE, 10, false),
        (2, MAX_FRAME as u32, false),
        (4, u32::MAX, false),
    ] {
        let before = scene.refused();
        scene.raw.send(&chain(&scene, parts, length));
        let whole = usize::from(parts) * length as usize;
        assert_eq!(scene.drain(), if arrives { vec![whole] } else { vec![] }, "{parts} parts");
        assert_eq!(scene.refused() - before, u64::from(!arrives), "{parts} parts");
        // The frame behind it is a frame of its own.
        scene.expect_alive();
    }
}

#[test]
fn a_chain_that_goes_on_behind_head_is_refused() {
    let mut scene = Scene::new();
    let before = scene.refused();
    scene.raw.send(&[Slot { flags: NEXT, ..scene.slot(0, 100) }]);
    assert_eq!(scene.drain(), [0; 0]);
    assert_eq!(scene.refused() - before, 1);
    scene.expect_alive();
}

#[test]
fn an_endless_chain_costs_only_the_one_who_makes_it() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        let endless: Vec<Slot> =
            (0..SIZE).map(|at| Slot { flags: NEXT, ..scene.slot(at, 1) }).collect();
        scene.raw.send(&endless);
        assert_eq!(scene.drain(), [0; 0]);
        scene.expect_other_alive();
    }
    // The end of the chain belongs to the refused frame.
    scene.raw.send(&[scene.slot(0, 1)]);
    assert_eq!(scene.drain(), [0; 0]);
    scene.expect_alive();
}

#[test]
fn impossible_positions_of_the_ring_to_the_server_end_the_connection() {
    for jump in [SIZE + 1, 2 * SIZE, 0x8000, u16::MAX - SIZE, u16::MAX] {
        let scene = Scene::new();
        let head = scene.raw.head(Way::ToServer);
        scene.raw.set_head(Way::ToServer, head.wrapping_add(jump));
        scene.expect_thrown_out();
    }
}

#[test]
fn a_whole_ring_at_once_is_possible() {
    let mut scene = Scene::new();
    let all: Vec<Slot> = (0..SIZE).map(|at| scene.slot(at, 60)).collect();
    scene.raw.send(&all);
    assert_eq!(scene.drain(), [60; SIZE as usize]);
    scene.expect_alive();
}

#[test]
fn a_ring_position_that_moves_back_while_frames_wait_ends_the_connection() {
    let scene = Scene::new();
    let head = scene.raw.head(Way::ToServer);
    scene.raw.set_head(Way::ToServer, head.wrapping_sub(1));
    scene.expect_thrown_out();
}

#[test]
fn positions_that_are_not_the_clients_to_write_do_no_harm() {
    let mut scene = Scene::new();
    // Tail of the ring to the server: the server writes it and does not read it. Cookies and flags:
    // read when the ring was attached.
    scene.raw.write(64, &[0xff; 2]);
    scene.raw.write(0, &[0xff; 6]);
    scene.raw.write(scene.raw.ring_offset(Way::ToClient), &[0xff; 6]);
    scene.expect_alive();
}

/// Offers the hostile client's slots to the server, as `slot` changes them.
fn offer(scene: &Scene, count: u16, slot: impl Fn(Slot) -> Slot) {
    let head = scene.raw.head(Way::ToClient);
    for at in 0..count {
        let index = head.wrapping_add(at);
        let offset = scene.raw.buffer(Way::ToClient, index);
        let proper = Slot { flags: 0, region: 0, length: BUFFER_BYTES, offset };
        scene.raw.set_slot(Way::ToClient, index, slot(proper));
    }
    scene.raw.set_head(Way::ToClient, head.wrapping_add(count));
}

#[test]
fn frames_to_a_client_without_room_come_back_and_others_get_theirs() {
    let mut scene = Scene::new();
    assert!(!scene.send(b"no room yet"));
    scene.expect_other_alive();
    offer(&scene, 2, |slot| slot);
    assert!(scene.send(b"one") && scene.send(b"two") && !scene.send(b"three"));
    assert_eq!(scene.raw.tail(Way::ToClient), 2);
    scene.expect_alive();
}

#[test]
fn frames_longer_than_the_clients_buffers_are_dropped() {
    let mut scene = Scene::new();
    offer(&scene, 3, |slot| Slot { length: 100, ..slot });
    let before = scene.served.server.stats();
    assert!(scene.send(&[1; 101]) && scene.send(&[2; 100]) && scene.send(&[3; MAX_FRAME]));
    let after = scene.served.server.stats();
    assert_eq!(after.tx_dropped - before.tx_dropped, 2);
    assert_eq!(after.tx_frames - before.tx_frames, 1);
    assert_eq!(scene.raw.tail(Way::ToClient), 1);
    scene.expect_alive();
}

#[test]
fn buffers_outside_the_memory_end_the_connection_that_offers_them() {
    let end = Raw::bytes(LOG2) as u32;
    let wrong: [fn(Slot, u32) -> Slot; 5] = [
        |slot, end| Slot { offset: end, ..slot },
        |slot, end| Slot { offset: end - 10, ..slot },
        |slot, _| Slot { offset: u32::MAX, length: u32::MAX, ..slot },
        |slot, _| Slot { region: 1, ..slot },
        |slot, _| Slot { region: u16::MAX, ..slot },
    ];
    for wrong in wrong {
        let mut scene = Scene::new();
        offer(&scene, SIZE, |slot| wrong(slot, end));
        assert!(scene.send(&[1; 100]), "taken and dropped");
        scene.expect_thrown_out();
    }
}

#[test]
fn impossible_positions_of_the_ring_to_the_client_end_the_connection() {
    for head in [SIZE + 1, 0x8000, u16::MAX] {
        let mut scene = Scene::new();
        scene.raw.set_head(Way::ToClient, head);
        assert!(scene.send(b"taken and dropped"));
        scene.expect_thrown_out();
    }
}

#[test]
fn a_frame_does_not_change_once_it_is_received() {
    let mut scene = Scene::new();
    let stop = AtomicBool::new(false);
    let buffer = scene.raw.buffer(Way::ToServer, 0);
    std::thread::scope(|scope| {
        let raw = &scene.raw;
        let stop = &stop;
        scope.spawn(move || {
            // Rewrites the one buffer that all frames are in, without pause.
            let mut byte = 0u8;
            while !stop.load(Ordering::Relaxed) {
                raw.write(u64::from(buffer), &[byte; 1024]);
                byte = byte.wrapping_add(1);
            }
        });
        let mut got = FrameQueue::new();
        for _ in 0..2000 {
            let head = raw.head(Way::ToServer);
            raw.set_slot(
                Way::ToServer,
                head,
                Slot { flags: 0, region: 0, length: 1024, offset: buffer },
            );
            raw.set_head(Way::ToServer, head.wrapping_add(1));
            until("the frame arrives", || scene.served.server.receive(&mut got, 1) == 1);
            let frame = got.pop_front().expect("one");
            let first = frame.bytes().to_vec();
            std::thread::yield_now();
            assert_eq!(frame.bytes(), first, "the frame changed in the holder's hands");
        }
        stop.store(true, Ordering::Relaxed);
    });
    scene.expect_alive();
}

#[test]
fn random_writes_all_over_the_memory_harm_nobody_else() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random >> 33
    };
    let mut scene = Scene::new();
    let mut thrown_out = 0;
    for round in 0..5000 {
        let rings = scene.raw.ring_offset(Way::ToClient) * 2;
        for _ in 0..1 + next() % 4 {
            let word = (next() as u32).to_le_bytes();
            let len = [1, 2, 4][next() as usize % 3];
            scene.raw.write(next() % rings, &word[..len]);
        }
        if next() % 2 == 0 {
            // Not only nonsense: head goes a little on.
            let head = scene.raw.tail(Way::ToServer).wrapping_add(next() as u16 % SIZE);
            scene.raw.set_head(Way::ToServer, head);
        }
        scene.served.poll();
        if scene.served.server.connections() == 2 {
            scene.send(&[round as u8; 200]);
        }
        if round % 16 == 0 {
            scene.expect_other_alive();
        }
        if scene.served.server.connections() == 1 {
            thrown_out += 1;
            until("it is told", || scene.served.stats().broken == thrown_out);
            scene.raw = Raw::connect(scene.served.path(), LOG2);
            scene.served.until_connected(2);
            // Peer numbers count on, skipping places that are taken.
            scene.raw_peer = scene.learn_peer();
        }
    }
    assert!(thrown_out > 9, "some writes are impossible positions: {thrown_out}");
    scene.expect_other_alive();
}

impl Scene {
    /// The number of the hostile client after it connected anew.
    fn learn_peer(&mut self) -> Peer {
        let slot = self.slot(0, 60);
        self.raw.send(&[slot]);
        let mut got = FrameQueue::new();
        until("its first frame arrives", || self.served.server.receive(&mut got, 1) == 1);
        got[0].peer()
    }
}
