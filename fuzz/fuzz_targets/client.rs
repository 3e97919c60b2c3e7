//! Any datagrams into a client with open sessions, a publication and a subscription, between those of a real shard:
//! no panic, and what it keeps does not grow.
#![no_main]

#[path = "../../dataplane/tests/common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicIsize, Ordering};

use common::{PUBLISHER, SHARD_IP, SHARD_MAC, SHARD_PORT, World};
use libfuzzer_sys::fuzz_target;
use mstream_client::{
    Addresses, Client, From, Identity, PublicationConfig, PublicationId, SessionConfig,
};
use mstream_nic::headers::{Inbound, IpPair, Link, UdpHeaders, classify, emit_udp_headers};
use mstream_nic::sim::{SimNet, SimPort};
use mstream_nic::{Frame, FrameQueue, Port};
use mstream_wire::{DATAGRAM_HEADER_BYTES, Datagram, DatagramHeader, crc32c};

const MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const UDP_PORT: u16 = 4000;
const FRAMES: usize = 256;
const STEP_NS: u64 = 3_000_000;
/// What queues of the port and the network may still grow by when they are used for the first time.
const GROWTH_BYTES: isize = 64 * 1024;

/// Bytes that are allocated.
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is the callee's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is the callee's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A client and a shard, and who sits on the wire between them.
struct Setting {
    world: World,
    net: SimNet,
    wire: SimPort,
    client: Client<SimPort>,
    publication: PublicationId,
    /// Header of the last datagram that the shard sent in a session.
    header: DatagramHeader,
    grown: isize,
}

impl Setting {
    fn new() -> Setting {
        let net = SimNet::new(1);
        let wire = net.attach(SHARD_MAC, FRAMES);
        let port = net.attach(MAC, FRAMES);
        let addresses = Addresses {
            mac: MAC,
            vlan: None,
            ips: IpPair::V4 { src: IP, dst: SHARD_IP },
            udp_port: UDP_PORT,
            shard_udp_port: SHARD_PORT,
        };
        let mut client = Client::new(port, addresses, [4; 16]);
        let publisher = Identity::Publisher(PUBLISHER);
        let publishing = client.open_session(SessionConfig::new(publisher));
        let subscribing = client.open_session(SessionConfig::new(Identity::Anonymous));
        let config =
            PublicationConfig { window_bytes: 8192, window_batches: 16, max_batch: u16::MAX };
        let publication = client.open_publication(publishing, "trades", &config);
        client.subscribe(subscribing, "trades", From::Earliest, 64);
        let header = DatagramHeader::outside(0);
        Setting { world: World::new(), net, wire, client, publication, header, grown: 0 }
    }

    /// Time passes; what client and shard have to say to each other is carried over.
    fn turn(&mut self) {
        self.world.pass(STEP_NS);
        self.net.advance(self.world.now.mono_ns);
        let before = LIVE.load(Ordering::Relaxed);
        self.client.poll(self.world.now.mono_ns, |_| {});
        if self.client.is_open(self.publication) {
            // Refused when the window is full.
            let _ = self.client.publish(self.publication, b"key", b"", b"payload");
            self.client.flush();
        }
        self.grown += LIVE.load(Ordering::Relaxed) - before;
        let mut frames = FrameQueue::new();
        self.wire.receive(&mut frames, FRAMES);
        for frame in frames {
            self.world.frame(frame.bytes().to_vec());
        }
        self.world.finish();
        while let Some(frame) = self.world.out.sent.pop_front() {
            if let Ok(Inbound::Udp(udp)) = classify(frame.bytes(), true)
                && let Ok(datagram) = Datagram::parse(udp.payload())
                && datagram.header.token.get() != 0
            {
                self.header = *datagram.header;
            }
            self.send(frame.bytes());
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(mut frame) = self.wire.frame() {
            frame.fill(&bytes[..bytes.len().min(frame.capacity())]);
            // Without room it is lost, as on any network.
            let _ = self.wire.send(frame);
            self.wire.flush();
        }
    }

    /// Sends a datagram to the client as if from the shard.
    fn datagram(&mut self, datagram: &[u8]) {
        let headers = UdpHeaders {
            link: Link { src_mac: SHARD_MAC, dst_mac: MAC, vlan: None },
            ips: IpPair::V4 { src: SHARD_IP, dst: IP },
            src_port: SHARD_PORT,
            dst_port: UDP_PORT,
        };
        let mut frame = vec![0; headers.bytes()];
        frame.extend_from_slice(datagram);
        emit_udp_headers(&mut frame, &headers, datagram.len());
        self.send(&frame);
    }

    /// Sends `frames` as the frames of a sound datagram.
    fn frames(&mut self, header: &DatagramHeader, frames: &[u8]) {
        let mut whole = common::datagram(header, |_| {});
        whole.extend_from_slice(frames);
        whole.truncate(1400);
        let mut covered = whole[..28].to_vec();
        covered.extend_from_slice(&whole[DATAGRAM_HEADER_BYTES..]);
        whole[28..32].copy_from_slice(&crc32c(&covered).to_le_bytes());
        self.datagram(&whole);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut setting = Setting::new();
    for _ in 0..12 {
        setting.turn();
    }
    assert!(setting.client.is_open(setting.publication), "nothing disturbed the set-up");
    setting.grown = 0;
    for piece in bytes.split(|byte| *byte == 0xff) {
        let Some((how, piece)) = piece.split_first() else { continue };
        match how % 4 {
            0 => {
                let mut frame = MAC.to_vec();
                frame.extend_from_slice(piece);
                setting.send(&frame);
            }
            1 => setting.datagram(piece),
            2 => setting.frames(&DatagramHeader::outside(0), piece),
            _ => setting.frames(&setting.header.clone(), piece),
        }
        setting.turn();
    }
    for _ in 0..4 {
        setting.turn();
    }
    assert!(setting.grown <= GROWTH_BYTES, "{} bytes were kept", setting.grown);
    assert!(setting.client.port().frames_out() <= FRAMES);
});
