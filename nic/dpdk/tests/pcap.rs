//! A net_pcap port: what stands in a file is received, what is sent stands in another.

mod common;

use std::fs;
use std::path::Path;

use common::{eal, filled};
use mstream_nic::port::BURST;
use mstream_nic::{Frame, FrameQueue, Port};
use mstream_nic_dpdk::{
    DpdkError, DpdkPort, DpdkPortConfig, DpdkPortSeed, Eal, Kind, ThreadRegistration,
};

/// A file's header: magic, version 2.4, no time zone, frames of up to 65,535 bytes, Ethernet.
const HEADER: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];

#[test]
fn pcap_ports() {
    let eal = eal();
    let registration = eal.register_thread().expect("a free id");
    let dir = tempfile::tempdir().expect("a folder");
    frames_of_every_length(&eal, &registration, dir.path());
    more_frames_than_buffers(&eal, &registration, dir.path());
    what_fits_no_buffer_is_refused(&eal, &registration, dir.path());
    one_way_only(&eal, &registration, dir.path());
    unusable_files_are_refused(&eal, dir.path());
    drop(registration);
    eal.close().expect("nothing uses DPDK any more");
}

fn port(
    eal: &Eal,
    registration: &ThreadRegistration,
    rx: Option<&Path>,
    tx: Option<&Path>,
) -> DpdkPort {
    let kind = Kind::Pcap { rx: rx.map(Into::into), tx: tx.map(Into::into) };
    let config = DpdkPortConfig { frames: 512, ..DpdkPortConfig::new("pcap", kind) };
    DpdkPortSeed::prepare(eal, &config).expect("a port").open(registration)
}

fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number * 7 + at) as u8).collect()
}

/// Writes a file with frames of these lengths.
fn write(path: &Path, lengths: impl IntoIterator<Item = usize>) {
    let mut file: Vec<u8> = HEADER.iter().flat_map(|word| word.to_le_bytes()).collect();
    for (number, len) in lengths.into_iter().enumerate() {
        for word in [0, 0, len as u32, len as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(content(number, len));
    }
    fs::write(path, file).expect("written");
}

/// The frames of a file.
fn read(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).expect("a file");
    let (header, mut rest) = file.split_at(24);
    // The driver writes time stamps in nanoseconds, or in microseconds.
    assert!(matches!(header[..4], [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]));
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().expect("4 bytes")) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

fn frames_of_every_length(eal: &Eal, registration: &ThreadRegistration, dir: &Path) {
    let (rx, tx) = (dir.join("rx.pcap"), dir.join("tx.pcap"));
    fs::write(&tx, "something older").expect("written");
    let mut port = port(eal, registration, Some(&rx_file(&rx, 14..=1514)), Some(&tx));
    assert!(port.capabilities().syscalls);
    let mut got = FrameQueue::new();
    assert_eq!(port.receive(&mut got, 0), 0);
    let mut number = 0;
    // Each goes back out changed.
    while port.receive(&mut got, BURST - 1) > 0 {
        for mut frame in got.drain(..) {
            assert_eq!(frame.bytes(), content(number, 14 + number), "frame {number}");
            frame.bytes_mut()[0] ^= 0xff;
            assert!(port.send(frame).is_ok());
            number += 1;
        }
    }
    port.flush();
    assert_eq!(number, 1501);
    assert_eq!(port.receive(&mut got, BURST), 0, "a file is received once");
    let stats = port.stats();
    assert_eq!((stats.rx_frames, stats.tx_frames, stats.tx_dropped), (1501, 1501, 0));
    assert_eq!(stats.rx_bytes, stats.tx_bytes);
    assert_eq!(port.frames_out(), 0);
    port.close().expect("the pool is whole");
    let sent = read(&tx);
    assert_eq!(sent.len(), number);
    for (number, frame) in sent.iter().enumerate() {
        let mut expected = content(number, 14 + number);
        expected[0] ^= 0xff;
        assert_eq!(*frame, expected, "frame {number}");
    }
}

fn rx_file(path: &Path, lengths: impl IntoIterator<Item = usize>) -> std::path::PathBuf {
    write(path, lengths);
    path.to_path_buf()
}

fn more_frames_than_buffers(eal: &Eal, registration: &ThreadRegistration, dir: &Path) {
    let rx = rx_file(&dir.join("many.pcap"), std::iter::repeat_n(100, 1000));
    let mut port = port(eal, registration, Some(&rx), None);
    let mut held = FrameQueue::new();
    while port.receive(&mut held, BURST) > 0 {}
    let first = held.len();
    assert!(first > 512 - BURST, "{first}");
    held.clear();
    while port.receive(&mut held, BURST) > 0 {
        held.clear();
    }
    // The driver loses a frame for each time that it found no buffer, and counts it.
    let counters = port.probe().counters();
    let lost = counters.iter().find(|(name, _)| name == "rx_mbuf_allocation_errors");
    let lost = lost.expect("counted").1;
    assert!(lost > 0 && port.stats().rx_frames + lost == 1000, "{lost} {:?}", port.stats());
    port.close().expect("the pool is whole");
}

fn what_fits_no_buffer_is_refused(eal: &Eal, registration: &ThreadRegistration, dir: &Path) {
    let rx = rx_file(&dir.join("long.pcap"), [100, 9000, 2049, 100]);
    let mut port = port(eal, registration, Some(&rx), None);
    let mut got = FrameQueue::new();
    while port.receive(&mut got, BURST) > 0 {}
    assert_eq!((got.len(), port.stats().rx_refused), (2, 2));
    drop(got);
    port.close().expect("the pool is whole");
}

fn one_way_only(eal: &Eal, registration: &ThreadRegistration, dir: &Path) {
    let tx = dir.join("only.pcap");
    let mut port = port(eal, registration, None, Some(&tx));
    let mut got = FrameQueue::new();
    assert_eq!(port.receive(&mut got, BURST), 0);
    let frame = filled(&mut port, 60, 3);
    assert!(port.send(frame).is_ok());
    port.flush();
    port.close().expect("the pool is whole");
    assert_eq!(read(&tx).len(), 1);
}

fn unusable_files_are_refused(eal: &Eal, dir: &Path) {
    let text = dir.join("text");
    fs::write(&text, "this is no capture").expect("written");
    for (rx, tx) in [
        (Some(dir.join("missing")), None),
        (Some(text), None),
        (None, Some(dir.join("no/such/folder.pcap"))),
    ] {
        let config = DpdkPortConfig::new("wrong", Kind::Pcap { rx, tx });
        let refused = DpdkPortSeed::prepare(eal, &config);
        assert!(matches!(refused, Err(DpdkError::Port { .. })), "{refused:?}");
    }
}
