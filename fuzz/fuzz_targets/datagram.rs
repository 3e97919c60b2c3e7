//! Any bytes as a datagram: no panic, and what was accepted can be read through to the end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mstream_wire::{Block, Datagram, Frame, crc32c};

fuzz_target!(|bytes: &[u8]| {
    // As they come, and with the frame check mended so that the frames behind it are reached.
    read(bytes);
    if bytes.len() >= 32 {
        let mut mended = bytes.to_vec();
        let mut covered = bytes[..28].to_vec();
        covered.extend_from_slice(&bytes[32..]);
        mended[28..32].copy_from_slice(&crc32c(&covered).to_le_bytes());
        read(&mended);
    }
});

fn read(bytes: &[u8]) {
    let Ok(datagram) = Datagram::parse(bytes) else { return };
    for frame in datagram.frames() {
        if let Frame::Publish(data) | Frame::Deliver(data) = frame {
            let crc = crc32c(data.block);
            if let Ok(block) = Block::parse(data.block, data.header.count.get(), crc) {
                assert_eq!(block.messages().count(), usize::from(block.count()));
            }
        }
    }
}
