//! The control socket: what a client may not say, and what becomes of those who say it.

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use common::raw::{
    ACK, Control, HELLO, Raw, Way, add_region, add_ring, connect_message, init, memory, message,
};
use common::{Served, until};
use mstream_nic::Port;
use mstream_nic::memif::{ClientConfig, ClientPort, MemifError};
use rustix::event::{EventfdFlags, eventfd};

const LOG2: u8 = 2;

/// One packet of a client: its bytes and how many descriptors of the file go with it.
type Packet<'f> = (Vec<u8>, Vec<&'f OwnedFd>);

/// Says all packets to a fresh connection and returns why the server refused.
fn refusal(served: &Served, packets: &[Packet<'_>]) -> Option<String> {
    let control = Control::open(served.path());
    control.expect(HELLO);
    for (bytes, files) in packets {
        let passed: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        control.send(bytes, &passed);
    }
    control.goodbye()
}

/// How many descriptors of this process are open on the file.
fn open_descriptors(file: &OwnedFd) -> usize {
    let wanted = rustix::fs::fstat(file).expect("fstat");
    let open = std::fs::read_dir("/proc/self/fd").expect("/proc");
    open.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok())
        .filter(|found| found.dev() == wanted.st_dev && found.ino() == wanted.st_ino)
        .count()
}

/// A region with two formatted rings.
fn formatted() -> OwnedFd {
    let file = memory(Raw::bytes(LOG2), true);
    for offset in [0, 128 + (16 << LOG2)] {
        let cookie = 0x03E3_1F20u32.to_le_bytes();
        assert_eq!(rustix::io::pwrite(&file, &cookie, offset), Ok(4));
    }
    file
}

#[test]
fn every_broken_rule_is_refused_with_its_reason() {
    let mut served = Served::new(|config| config.max_memory_bytes = 8 << 20);
    let bytes = Raw::bytes(LOG2);
    let ring = 128 + (16u32 << LOG2);
    let good = formatted();
    let blank = memory(bytes, true);
    let unsealed = memory(bytes, false);
    let huge = memory(16 << 20, true);
    let plain: OwnedFd = tempfile::tempfile().expect("a file").into();
    rustix::fs::ftruncate(&plain, bytes).expect("ftruncate");
    let event = eventfd(0, EventfdFlags::CLOEXEC).expect("eventfd");
    let say = |bytes: Vec<u8>| -> Packet<'_> { (bytes, vec![]) };
    let hello = || say(init(0x0200, 0));
    let region = |file, size| -> Packet<'_> { (add_region(0, size), vec![file]) };
    let to_server = || say(add_ring(true, 0, 0, 0, LOG2));
    let to_client = || say(add_ring(false, 0, 0, ring, LOG2));
    let connect = || say(connect_message());
    let with_ring = |bytes| vec![hello(), region(&good, 4096), say(bytes)];

    let cases: Vec<(&str, Vec<Packet<'_>>)> = vec![
        ("not 128 bytes", vec![say(vec![3; 10])]),
        ("not 128 bytes", vec![say(vec![3; 129])]),
        ("not 128 bytes", vec![say(vec![3; 60_000])]),
        ("unknown type", vec![say(vec![0; 128])]),
        ("unknown type", vec![say(vec![0xff; 128])]),
        ("not INIT", vec![region(&good, bytes)]),
        ("not INIT", vec![connect()]),
        ("not INIT", vec![say(message(ACK, &[]))]),
        ("version", vec![say(init(0x0100, 0))]),
        ("mode", vec![say(init(0x0200, 1))]),
        ("second INIT", vec![hello(), hello()]),
        ("server's message", vec![hello(), say(message(ACK, &[]))]),
        ("server's message", vec![hello(), say(message(HELLO, &[]))]),
        ("server's message", vec![hello(), say(message(7, &[]))]),
        ("without descriptor", vec![hello(), say(add_region(0, bytes))]),
        ("more than one file", vec![hello(), (add_region(0, bytes), vec![&good, &good])]),
        ("more than one file", vec![hello(), (add_region(0, bytes), vec![&good; 8])]),
        ("out of order", vec![hello(), (add_region(1, bytes), vec![&good])]),
        ("out of order", vec![hello(), region(&good, bytes), region(&good, bytes)]),
        ("empty", vec![hello(), region(&good, 0)]),
        ("memory limit", vec![hello(), region(&huge, 16 << 20)]),
        ("memory limit", vec![hello(), region(&good, u64::MAX)]),
        ("smaller than stated", vec![hello(), region(&good, bytes + 1)]),
        ("not a memfd sealed", vec![hello(), region(&unsealed, bytes)]),
        ("not a memfd sealed", vec![hello(), region(&plain, bytes)]),
        ("not a memfd sealed", vec![hello(), region(&event, bytes)]),
        ("unknown region", vec![hello(), to_server()]),
        ("unknown region", with_ring(add_ring(true, 0, 1, 0, LOG2))),
        ("unknown region", with_ring(add_ring(true, 0, u16::MAX, 0, LOG2))),
        ("2^14", with_ring(add_ring(true, 0, 0, 0, 15))),
        ("2^14", with_ring(add_ring(true, 0, 0, 0, 255))),
        ("over the end", with_ring(add_ring(true, 0, 0, 0, 14))),
        ("over the end", with_ring(add_ring(true, 0, 0, 4096 - ring + 1, LOG2))),
        ("over the end", with_ring(add_ring(true, 0, 0, u32::MAX, LOG2))),
        ("more than one ring", with_ring(add_ring(true, 1, 0, 0, LOG2))),
        ("more than one ring", vec![hello(), region(&good, bytes), to_server(), to_server()]),
        ("without a ring", vec![hello(), connect()]),
        ("without a ring", vec![hello(), region(&good, bytes), to_server(), connect()]),
        ("not aligned", {
            let crooked = say(add_ring(false, 0, 0, ring + 8, LOG2));
            vec![hello(), region(&good, bytes), to_server(), crooked, connect()]
        }),
        ("cookie", vec![hello(), region(&blank, bytes), to_server(), to_client(), connect()]),
    ];
    let count = cases.len() as u64;
    for (reason, packets) in cases {
        let said = refusal(&served, &packets).unwrap_or_default();
        assert!(said.contains(reason), "{reason:?} expected, the server said {said:?}");
    }
    for file in [&good, &blank, &unsealed, &huge, &plain] {
        until("the server closed what was passed", || open_descriptors(file) == 1);
    }
    let stats = served.stats();
    assert_eq!((stats.accepted, stats.refused, stats.connected), (count, count, 0));
    let mut client = served.client();
    served.ping(&mut client, 1);
}

#[test]
fn seventeen_regions_are_too_many() {
    let served = Served::new(|_| {});
    let file = memory(4096, true);
    let mut packets: Vec<Packet<'_>> = vec![(init(0x0200, 0), vec![])];
    packets.extend((0..17).map(|index| (add_region(index, 4096), vec![&file])));
    let said = refusal(&served, &packets).expect("a reason");
    assert!(said.contains("too high"), "{said}");
}

#[test]
fn closing_saying_goodbye_or_an_empty_packet_ends_a_handshake_quietly() {
    let mut served = Served::new(|_| {});
    let file = formatted();
    for last in [message(8, b"bye"), vec![]] {
        let control = Control::open(served.path());
        control.expect(HELLO);
        control.send(&init(0x0200, 0), &[]);
        control.expect(ACK);
        control.send(&add_region(0, 4096), &[file.as_fd()]);
        control.expect(ACK);
        control.send(&last, &[]);
        assert_eq!(control.receive(), None);
    }
    drop(Control::open(served.path()));
    until("the server closed them all", || {
        open_descriptors(&file) == 1 && served.stats().accepted == 3
    });
    assert_eq!(served.stats().refused, 0);
    let mut client = served.client();
    served.ping(&mut client, 1);
}

#[test]
fn a_silent_client_is_timed_out_while_others_connect() {
    let mut served = Served::new(|config| {
        config.max_handshakes = 3;
        config.handshake_timeout = Duration::from_millis(200);
    });
    let silent = Control::open(served.path());
    let slow = Control::open(served.path());
    slow.expect(HELLO);
    slow.send(&init(0x0200, 0), &[]);
    let mut client = served.client();
    served.ping(&mut client, 1);
    for control in [silent, slow] {
        assert_eq!(control.goodbye().as_deref(), Some("handshake took too long"));
    }
    assert_eq!(served.stats().timed_out, 2);
}

#[test]
fn only_so_many_handshakes_at_a_time() {
    let served = Served::new(|config| {
        config.max_handshakes = 2;
        config.handshake_timeout = Duration::from_secs(60);
    });
    let waiting: Vec<_> = (0..2).map(|_| Control::open(served.path())).collect();
    waiting.iter().for_each(|control| _ = control.expect(HELLO));
    let said = Control::open(served.path()).goodbye();
    assert_eq!(said.as_deref(), Some("too many connections"));
    assert_eq!(served.stats().over_limit, 1);
    drop(waiting);
    // Their places are free as soon as the server has noticed.
    until("another one may come", || Control::open(served.path()).first_word() == Some(HELLO));
}

#[test]
fn only_so_many_connections_at_a_time() {
    let mut served = Served::new(|config| config.max_connections = 2);
    let mut first = served.client();
    let second = served.client();
    let config = ClientConfig::new(served.path());
    let third = ClientPort::connect(&config, Duration::from_secs(10));
    assert!(
        matches!(&third, Err(MemifError::Refused { reason, .. }) if reason.contains("too many")),
        "{third:?}"
    );
    served.until_connected(2);
    drop(second);
    served.until_connected(1);
    until("a third may connect", || {
        ClientPort::connect(&config, Duration::from_secs(10)).is_ok_and(|mut third| {
            served.ping(&mut third, 3);
            true
        })
    });
    served.ping(&mut first, 1);
}

#[test]
fn a_connected_client_has_nothing_to_say_but_goodbye() {
    let mut served = Served::new(|_| {});
    let mut client = served.client();
    let chatty = Raw::connect(served.path(), LOG2);
    let polite = Raw::connect(served.path(), LOG2);
    served.until_connected(3);
    chatty.control.send(&init(0x0200, 0), &[]);
    let said = chatty.control.goodbye().expect("a reason");
    assert!(said.contains("unexpected message"), "{said}");
    served.until_connected(2);
    polite.control.send(&message(8, b"bye"), &[]);
    assert_eq!(polite.control.goodbye(), None);
    served.until_connected(1);
    served.ping(&mut client, 1);
    assert_eq!((served.stats().refused, served.stats().broken), (1, 0));
}

#[test]
fn the_memory_of_a_connection_cannot_shrink() {
    let mut served = Served::new(|_| {});
    let raw = Raw::connect(served.path(), LOG2);
    assert!(rustix::fs::ftruncate(&raw.memory, 0).is_err());
    assert!(rustix::fs::ftruncate(&raw.memory, 4096).is_err());
    // Growing does no harm.
    rustix::fs::ftruncate(&raw.memory, Raw::bytes(LOG2) + 4096).expect("grows");
    // A hole reads as zeros: rings without frames.
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&raw.memory, flags, 0, Raw::bytes(LOG2)).expect("a hole");
    served.until_connected(1);
    assert!(served.poll().is_empty());
    assert_eq!(raw.tail(Way::ToServer), 0);
    assert_eq!(served.server.stats().rx_refused, 0);
}
