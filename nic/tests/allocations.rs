//! After they were opened ports allocate nothing, whatever happens to them. Counted for each thread,
//! by an allocator that this program runs on.
#![expect(unsafe_code, reason = "a global allocator")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{HEADERS, MemifPair, Served, until};
use mstream_nic::headers::{IpPair, UdpHeaders, emit_udp_headers};
use mstream_nic::port::BURST;
use mstream_nic::socket::SocketPort;
use mstream_nic::{Frame, FrameQueue, Port};

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

/// Calls of the allocator, frees included, that this thread makes in `work`.
fn calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    work();
    CALLS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(1)))), 2);
}

/// Sends frames of all lengths both ways and receives them; with nothing to receive at times.
fn traffic<A: Port, B: Port>(a: &mut A, b: &mut B, a_to_b: &UdpHeaders, b_to_a: &UdpHeaders) {
    let mut at_a = FrameQueue::with_capacity(BURST);
    let mut at_b = FrameQueue::with_capacity(BURST);
    let counted = calls(|| {
        for round in 0..200 {
            fill(a, a_to_b, round);
            fill(b, b_to_a, round);
            while a.receive(&mut at_a, BURST) > 0 {
                at_a.clear();
            }
            while b.receive(&mut at_b, BURST) > 0 {
                at_b.clear();
            }
        }
    });
    assert_eq!(counted, 0);
    assert!(a.stats().rx_frames > 1000 && b.stats().rx_frames > 1000);
}

fn fill(port: &mut impl Port, headers: &UdpHeaders, round: usize) {
    for at in 0..100 {
        let Some(mut frame) = port.frame() else { break };
        let payload = (round * 100 + at * 37) % 1400;
        frame.set_len(headers.bytes() + payload);
        emit_udp_headers(frame.bytes_mut(), headers, payload);
        frame.set_peer(mstream_nic::Peer(1));
        if port.send(frame).is_err() {
            break;
        }
    }
    port.flush();
}

#[test]
fn memif_ports_allocate_nothing() {
    let mut pair = MemifPair::new(|config| config.ring_log2 = 6);
    let MemifPair { server, client, .. } = &mut pair;
    traffic(server, client, &HEADERS, &HEADERS);
}

#[test]
fn a_memif_server_allocates_nothing_while_clients_come_and_go() {
    let mut served = Served::new(|_| {});
    let mut clients: Vec<_> = (0..8).map(|_| served.client()).collect();
    let mut got = FrameQueue::with_capacity(BURST);
    let mut poll = |served: &mut Served, connections: usize| {
        until("the clients have come or gone", || {
            served.server.receive(&mut got, BURST);
            for frame in got.drain(..) {
                drop(served.server.send(frame));
            }
            served.server.flush();
            served.server.connections() == connections
        });
    };
    assert_eq!(calls(|| poll(&mut served, 8)), 0);
    for client in &mut clients {
        fill(client, &HEADERS, 1);
    }
    clients.clear();
    assert_eq!(calls(|| poll(&mut served, 0)), 0);
    assert!(served.server.stats().rx_frames >= 800);
}

#[test]
fn socket_ports_allocate_nothing() {
    for host in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let open = || SocketPort::bind((host, 0), 256).expect("bind");
        let (mut a, mut b) = (open(), open());
        let headers = UdpHeaders {
            ips: IpPair::new(host, host).expect("one family"),
            src_port: a.local_address().port(),
            dst_port: b.local_address().port(),
            ..HEADERS
        };
        traffic(&mut a, &mut b, &headers, &headers.swapped());
    }
}
