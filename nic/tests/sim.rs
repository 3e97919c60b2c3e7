//! The simulated network: conformance, each fault, and that a seed decides everything.

mod common;

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{HEADERS, HEADERS_V6};
use mstream_nic::conformance::{Expect, Pair, run};
use mstream_nic::headers::{HeaderError, Inbound, UdpHeaders, classify, emit_udp_headers};
use mstream_nic::sim::{ARRIVAL_QUEUE, Counts, Faults, SimNet, SimPort};
use mstream_nic::{Frame, FrameQueue, Port};

const A: [u8; 6] = HEADERS.link.src_mac;
const B: [u8; 6] = HEADERS.link.dst_mac;

/// Two simulated ports; waiting lets a microsecond pass.
struct SimPair {
    net: SimNet,
    a: SimPort,
    b: SimPort,
}

impl SimPair {
    fn new(faults: Faults) -> SimPair {
        let net = SimNet::new(1);
        net.set_faults(faults);
        let (a, b) = (net.attach(A, 2048), net.attach(B, 300));
        SimPair { net, a, b }
    }
}

impl Pair for SimPair {
    type A = SimPort;
    type B = SimPort;

    fn ports(&mut self) -> (&mut SimPort, &mut SimPort) {
        (&mut self.a, &mut self.b)
    }

    fn headers(&self) -> UdpHeaders {
        HEADERS
    }

    fn settle(&mut self) {
        self.net.advance(self.net.now_ns() + 1_000);
    }
}

#[test]
fn a_network_without_faults_conforms() {
    for delay_ns in [0..=0, 0..=5_000] {
        let report = run(&mut SimPair::new(Faults { delay_ns, ..Faults::NONE }), Expect::default());
        assert!(report.gave_back >= 6, "the send queues ran full each way: {report:?}");
        assert_eq!((report.lost, report.foreign), (0, 0));
    }
}

#[test]
fn a_network_that_misbehaves_does_not_conform() {
    let one_percent = 10_000;
    let wrong = [
        Faults { loss_ppm: one_percent, ..Faults::NONE },
        Faults { duplicate_ppm: one_percent, ..Faults::NONE },
        Faults { corrupt_ppm: one_percent, ..Faults::NONE },
        Faults { reorder_ppm: one_percent, reorder_ns: 1_000_000, ..Faults::NONE },
    ];
    for faults in wrong {
        let expect = Expect { patience: Duration::from_millis(200), ..Expect::default() };
        let ran = catch_unwind(|| run(&mut SimPair::new(faults.clone()), expect));
        assert!(ran.is_err(), "{faults:?}: {ran:?}");
    }
}

/// Sends a frame to `to` with `content` behind the addresses.
fn send(port: &mut SimPort, to: [u8; 6], content: u64) {
    let mut frame = port.frame().expect("an empty frame");
    frame.set_len(64);
    frame.bytes_mut().fill(0);
    frame.bytes_mut()[..6].copy_from_slice(&to);
    frame.bytes_mut()[14..22].copy_from_slice(&content.to_le_bytes());
    port.send(frame).expect("room");
    port.flush();
}

/// All that has arrived, as the contents that were sent.
fn receive(port: &mut SimPort) -> Vec<u64> {
    let mut got = FrameQueue::new();
    while port.receive(&mut got, 32) > 0 {}
    let content = |bytes: &[u8]| u64::from_le_bytes(bytes[14..22].try_into().expect("8 bytes"));
    got.iter().map(|frame| content(frame.bytes())).collect()
}

/// Sends 10,000 frames over a path with these faults.
fn ten_thousand(seed: u64, faults: Faults) -> (Vec<u64>, Counts) {
    let net = SimNet::new(seed);
    net.set_faults(faults);
    let (mut a, mut b) = (net.attach(A, 64), net.attach(B, 4096));
    let mut arrived = Vec::new();
    for number in 0..10_000 {
        net.advance(number * 100);
        send(&mut a, B, number);
        arrived.extend(receive(&mut b));
    }
    net.advance(u64::MAX);
    arrived.extend(receive(&mut b));
    assert_eq!((a.frames_out(), b.frames_out(), net.next_arrival_ns()), (0, 0, None));
    let counts = net.counts();
    assert_eq!(b.stats().rx_frames, counts.delivered);
    assert_eq!(
        counts.sent + counts.duplicated,
        counts.delivered + counts.cut + counts.lost + counts.overrun + counts.departed
    );
    (arrived, counts)
}

fn in_order(numbers: &[u64]) -> bool {
    numbers.is_sorted()
}

#[test]
fn lost_frames_are_counted_and_the_others_stay_in_order() {
    let faults = Faults { loss_ppm: 100_000, delay_ns: 0..=5_000, ..Faults::NONE };
    let (arrived, counts) = ten_thousand(3, faults);
    assert!((800..1200).contains(&counts.lost), "{counts:?}");
    assert_eq!(arrived.len() as u64 + counts.lost, 10_000);
    assert!(in_order(&arrived));
}

#[test]
fn duplicated_frames_arrive_twice() {
    let (arrived, counts) = ten_thousand(4, Faults { duplicate_ppm: 50_000, ..Faults::NONE });
    assert!((400..600).contains(&counts.duplicated), "{counts:?}");
    assert_eq!(arrived.len() as u64, 10_000 + counts.duplicated);
    let twice = arrived.windows(2).filter(|two| two[0] == two[1]).count();
    assert_eq!(twice as u64, counts.duplicated);
}

#[test]
fn held_back_frames_are_overtaken_and_all_arrive() {
    let faults = Faults { reorder_ppm: 20_000, reorder_ns: 10_000, ..Faults::NONE };
    let (mut arrived, counts) = ten_thousand(5, faults);
    assert!((150..250).contains(&counts.reordered), "{counts:?}");
    assert!(!in_order(&arrived));
    arrived.sort_unstable();
    assert!(arrived.iter().copied().eq(0..10_000));
}

#[test]
fn corrupted_frames_differ_in_one_bit_behind_the_destination() {
    let net = SimNet::new(6);
    net.set_faults(Faults { corrupt_ppm: 1_000_000, ..Faults::NONE });
    let (mut a, mut b) = (net.attach(A, 4), net.attach(B, 4));
    for _ in 0..1000 {
        send(&mut a, B, 0);
        let mut got = FrameQueue::new();
        assert_eq!(b.receive(&mut got, 4), 1);
        assert_eq!(got[0].bytes()[..6], B);
        let flipped: u32 = got[0].bytes()[6..].iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(flipped, 1);
    }
    assert_eq!(net.counts().corrupted, 1000);
}

/// Sends a datagram over IPv6; its headers and what the other end makes of it.
fn datagram(a: &mut SimPort, b: &mut SimPort) -> Vec<Result<(UdpHeaders, Vec<u8>), HeaderError>> {
    let mut frame = a.frame().expect("an empty frame");
    frame.set_len(HEADERS_V6.bytes() + 64);
    frame.bytes_mut().fill(7);
    emit_udp_headers(frame.bytes_mut(), &HEADERS_V6, 64);
    a.send(frame).expect("room");
    a.flush();
    let mut got = FrameQueue::new();
    b.receive(&mut got, 8);
    let read = |frame: &<SimPort as Port>::Frame| match classify(frame.bytes(), true) {
        Ok(Inbound::Udp(udp)) => Ok((*udp.headers(), udp.payload().to_vec())),
        Ok(_) => Err(HeaderError::Udp),
        Err(error) => Err(error),
    };
    got.iter().map(read).collect()
}

#[test]
fn mended_frames_pass_the_checksums_and_are_not_what_was_sent() {
    let net = SimNet::new(6);
    net.set_faults(Faults { corrupt_ppm: 1_000_000, mend_ppm: 1_000_000, ..Faults::NONE });
    let (mut a, mut b) = (net.attach(A, 4), net.attach(B, 4));
    let mut changed = 0;
    for _ in 0..500 {
        for read in datagram(&mut a, &mut b) {
            let (headers, payload) = read.expect("it passes all checksums");
            changed += u64::from((headers, payload) != (HEADERS_V6, vec![7; 64]));
        }
    }
    let counts = net.counts();
    assert_eq!(counts.corrupted, counts.mended);
    // Bits that no reader looks at, such as the flow label, are made as they were.
    assert!(changed <= counts.mended && (350..500).contains(&changed), "{changed}, {counts:?}");
}

#[test]
fn forged_frames_come_in_front_of_what_they_are_made_of() {
    let net = SimNet::new(6);
    let (mut a, mut b) = (net.attach(A, 4), net.attach(B, 4));
    net.set_forger(|frame, random| (random % 2 == 0).then(|| frame[..60].to_vec()));
    assert_eq!(datagram(&mut a, &mut b).len(), 1, "nobody forges without faults");
    net.set_faults(Faults { forge_ppm: 1_000_000, ..Faults::NONE });
    for _ in 0..100 {
        let got = datagram(&mut a, &mut b);
        assert!(got.last().is_some_and(Result::is_ok), "the frame itself comes last");
        assert!(got[..got.len() - 1].iter().all(Result::is_err));
    }
    let counts = net.counts();
    assert!((30..70).contains(&counts.forged), "{counts:?}");
    assert_eq!(counts.sent, 101 + counts.forged);
}

#[test]
fn withheld_buffers_are_not_there() {
    let net = SimNet::new(6);
    let (mut a, mut b) = (net.attach(A, 4), net.attach(B, 4));
    net.withhold(b.endpoint(), 3);
    for content in 0..3 {
        send(&mut a, B, content);
    }
    let mut got = FrameQueue::new();
    assert_eq!(b.receive(&mut got, 8), 1, "one is left");
    assert!(b.frame().is_none());
    net.withhold(b.endpoint(), 0);
    assert_eq!(b.receive(&mut got, 8), 2, "what had no buffer waited");
    assert!(b.frame().is_some());
}

#[test]
fn delays_stay_in_their_range() {
    let net = SimNet::new(7);
    net.set_faults(Faults { delay_ns: 500..=700, ..Faults::NONE });
    let (mut a, mut b) = (net.attach(A, 4), net.attach(B, 4));
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..1000 {
        let sent_ns = round * 10_000;
        net.advance(sent_ns);
        send(&mut a, B, round);
        assert_eq!(receive(&mut b), []);
        let due_ns = net.next_arrival_ns().expect("a frame is on its way");
        seen.insert(due_ns - sent_ns);
        net.advance(due_ns - 1);
        assert_eq!(receive(&mut b), []);
        net.advance(due_ns);
        assert_eq!(receive(&mut b), [round]);
    }
    assert!(seen.first() >= Some(&500) && seen.last() <= Some(&700) && seen.len() > 150);
}

#[test]
fn a_seed_decides_everything() {
    let faults = Faults {
        loss_ppm: 10_000,
        duplicate_ppm: 10_000,
        reorder_ppm: 10_000,
        corrupt_ppm: 10_000,
        delay_ns: 100..=3_000,
        reorder_ns: 9_000,
        ..Faults::NONE
    };
    let first = ten_thousand(8, faults.clone());
    assert_eq!(first, ten_thousand(8, faults.clone()));
    assert_ne!(first.0, ten_thousand(9, faults).0);
}

#[test]
fn a_cut_works_one_way_until_it_is_joined() {
    let net = SimNet::new(1);
    let (mut a, mut b) = (net.attach(A, 4), net.attach(B, 4));
    net.cut(a.endpoint(), b.endpoint(), true);
    send(&mut a, B, 1);
    send(&mut b, A, 2);
    assert_eq!((receive(&mut a), receive(&mut b)), (vec![2], vec![]));
    net.cut(a.endpoint(), b.endpoint(), false);
    send(&mut a, B, 3);
    assert_eq!(receive(&mut b), [3]);
    assert_eq!(net.counts().cut, 1);
}

#[test]
fn nothing_leaves_a_dead_machine() {
    let net = SimNet::new(1);
    let (mut a, mut b) = (net.attach(A, 4), net.attach(B, 4));
    let dead = Arc::new(AtomicBool::new(false));
    net.silence(a.endpoint(), Arc::clone(&dead));
    send(&mut a, B, 1);
    dead.store(true, Ordering::Relaxed);
    send(&mut a, B, 2);
    send(&mut b, A, 3);
    assert_eq!(
        (receive(&mut a), receive(&mut b)),
        (vec![3], vec![1]),
        "what was sent before arrives"
    );
    dead.store(false, Ordering::Relaxed);
    send(&mut a, B, 4);
    assert_eq!(receive(&mut b), [4]);
    assert_eq!(net.counts().sent, 3);
}

#[test]
fn faults_of_one_path_leave_the_others_alone() {
    let net = SimNet::new(1);
    let (mut a, mut b) = (net.attach(A, 4), net.attach(B, 4));
    let lossy = Faults { loss_ppm: 1_000_000, ..Faults::NONE };
    net.set_path_faults(a.endpoint(), b.endpoint(), lossy);
    send(&mut a, B, 1);
    send(&mut b, A, 2);
    assert_eq!((receive(&mut a), receive(&mut b)), (vec![2], vec![]));
}

#[test]
fn the_switch_goes_by_the_destination_address() {
    let net = SimNet::new(1);
    let (mut a, mut b, mut c) = (net.attach(A, 4), net.attach(B, 4), net.attach([4; 6], 4));
    send(&mut a, [4; 6], 1);
    send(&mut a, [0xff; 6], 2);
    send(&mut a, [8; 6], 3);
    send(&mut a, A, 4);
    assert_eq!((receive(&mut a), receive(&mut b), receive(&mut c)), (vec![], vec![2], vec![1, 2]));
    assert_eq!((net.counts().sent, net.counts().unknown), (3, 2));
}

#[test]
fn a_port_that_left_gets_nothing_and_its_successor_does() {
    let net = SimNet::new(1);
    net.set_faults(Faults { delay_ns: 10..=10, ..Faults::NONE });
    let (mut a, b) = (net.attach(A, 4), net.attach(B, 4));
    send(&mut a, B, 1);
    drop(b);
    net.advance(10);
    send(&mut a, B, 2);
    let mut b = net.attach(B, 4);
    send(&mut a, B, 3);
    net.advance(20);
    assert_eq!(receive(&mut b), [3]);
    assert_eq!((net.counts().departed, net.counts().unknown), (1, 1));
}

#[test]
fn what_is_on_its_way_to_a_port_that_left_reaches_its_successor() {
    let net = SimNet::new(1);
    net.set_faults(Faults { delay_ns: 10..=10, ..Faults::NONE });
    let (mut a, b) = (net.attach(A, 4), net.attach(B, 4));
    let endpoint = b.endpoint();
    net.cut(endpoint, a.endpoint(), true);
    send(&mut a, B, 1);
    drop(b);
    let mut b = net.attach(B, 4);
    assert_eq!(b.endpoint(), endpoint);
    net.advance(10);
    assert_eq!(receive(&mut b), [1]);
    send(&mut b, A, 2);
    net.advance(20);
    assert_eq!((receive(&mut a), net.counts().cut), (vec![], 1), "paths stay as they were");
    // One that is still there is nobody's predecessor.
    let other = net.attach(B, 4);
    assert_ne!(other.endpoint(), endpoint);
}

#[test]
fn a_port_hands_over_no_more_at_once_than_it_may() {
    let net = SimNet::new(1);
    let (mut a, mut b) = (net.attach(A, 8), net.attach(B, 8));
    net.limit_burst(b.endpoint(), 2);
    (1..=3).for_each(|number| send(&mut a, B, number));
    let mut frames = FrameQueue::new();
    assert_eq!((b.receive(&mut frames, 32), b.receive(&mut frames, 32)), (2, 1));
    frames.clear();
    send(&mut a, B, 4);
    assert_eq!(b.receive(&mut frames, 0), 0, "nor more than it is asked for");
}

#[test]
fn a_full_arrival_queue_loses_the_newest_frames() {
    let net = SimNet::new(1);
    let (mut a, mut b) = (net.attach(A, 4), net.attach(B, 2048));
    for number in 0..ARRIVAL_QUEUE as u64 + 5 {
        send(&mut a, B, number);
    }
    assert!(receive(&mut b).into_iter().eq(0..ARRIVAL_QUEUE as u64));
    assert_eq!(net.counts().overrun, 5);
}
