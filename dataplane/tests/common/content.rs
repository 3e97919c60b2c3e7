//! Datagrams and blocks by hand.

use mstream_wire as wire;
use mstream_wire::{BlockWriter, DatagramHeader, DatagramWriter};

pub fn datagram(header: &DatagramHeader, fill: impl FnOnce(&mut DatagramWriter<'_>)) -> Vec<u8> {
    let mut bytes = vec![0; wire::MAX_DATAGRAM_BYTES];
    let mut writer = DatagramWriter::new(&mut bytes, header).expect("the header fits");
    fill(&mut writer);
    let len = writer.finish();
    bytes.truncate(len);
    bytes
}

pub fn block(payloads: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut len = 0;
    for payload in payloads {
        len = BlockWriter::at(&mut bytes, len).push(b"", b"", payload).expect("it fits");
    }
    bytes.truncate(len);
    bytes
}
