//! Bytes that are not what a sender of ours makes: damaged, cut, mutated or invented.

mod common;

use common::{Piece, bitwise_crc32c, data_header, datagram};
use mstream_wire::{
    Beat, Block, BlockWriter, Code, Credit, DataHeader, Datagram, DatagramHeader, DatagramWriter,
    Frame, FrameHead, OpenStreamHeader, Unsubscribe, WireError, rewrite_as_deliver,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A data frame of two messages between control frames: every kind of boundary is there.
fn mixed() -> Vec<u8> {
    let mut block = [0; 64];
    BlockWriter::at(&mut block, 0).push(b"key", b"head", b"payload").unwrap();
    let block_length = BlockWriter::at(&mut block, 24).push(b"", b"", &[0; 9]).unwrap();
    let block = &block[..block_length];
    let data = DataHeader {
        head: FrameHead { kind: DataHeader::PUBLISH, flags: 0, length: 0.into() },
        count: 2.into(),
        options_length: 0.into(),
        handle: 7.into(),
        block_crc: bitwise_crc32c([block]).into(),
        number: 8.into(),
        tag: 9.into(),
    };
    let mut bytes = [0; 512];
    let mut writer =
        DatagramWriter::new(&mut bytes, &DatagramHeader::new(1, 2, 3, 4)).expect("room");
    assert!(writer.credit(&Credit { head: Credit::HEAD, handle: 1.into(), limit: 2.into() }));
    assert!(writer.data(&data, block));
    assert!(writer.beat(&Beat {
        head: Beat::HEAD,
        handle: 1.into(),
        next: 2.into(),
        end: 3.into(),
        time: 4.into(),
    }));
    assert!(writer.data(&DataHeader { head: deliver_head(), ..data }, block));
    assert!(writer.unsubscribe(&Unsubscribe { head: Unsubscribe::HEAD, handle: 1.into() }));
    let length = writer.finish();
    bytes[..length].to_vec()
}

fn deliver_head() -> FrameHead {
    FrameHead { kind: DataHeader::DELIVER, flags: 0, length: 0.into() }
}

/// Reads everything that can be read. Returns false when something in it was refused.
fn is_whole(bytes: &[u8]) -> bool {
    let Ok(datagram) = Datagram::parse(bytes) else { return false };
    let mut whole = true;
    for frame in datagram.frames() {
        if let Frame::Publish(data) | Frame::Deliver(data) = frame {
            match Block::parse(data.block, data.header.count.get(), data.header.block_crc.get()) {
                Ok(block) => assert_eq!(block.messages().count(), usize::from(block.count())),
                Err(_) => whole = false,
            }
        }
    }
    whole
}

/// `bytes` with its frame check put right for the frames that they seem to be, so that what lies
/// behind the check is reached too.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let Some((head, mut rest)) = bytes.split_at_checked(32) else { return bytes.to_vec() };
    let mut pieces = Vec::new();
    while rest.len() >= 4 {
        let length = usize::from(u16::from_le_bytes([rest[2], rest[3]])).clamp(4, rest.len());
        let (frame, behind) = rest.split_at(length);
        if matches!(frame[0], 0x10 | 0x11) && length > 32 {
            let options = usize::from(u16::from_le_bytes([frame[6], frame[7]])).min(length - 32);
            pieces.push(Piece::Checked(frame[..32].to_vec()));
            pieces.push(Piece::Block(frame[32..length - options].to_vec()));
            pieces.push(Piece::Checked(frame[length - options..].to_vec()));
        } else {
            pieces.push(Piece::Checked(frame.to_vec()));
        }
        rest = behind;
    }
    pieces.push(Piece::Checked(rest.to_vec()));
    datagram(&head[..28], &pieces)
}

#[test]
fn a_mended_datagram_is_whole_again() {
    let good = mixed();
    assert_eq!(mended(&good), good);
    let mut bad = good.clone();
    bad[28] ^= 1;
    bad[8] ^= 1;
    assert!(!is_whole(&bad));
    assert!(is_whole(&mended(&bad)));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let good = mixed();
    assert!(is_whole(&good));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_whole(&bad), "bit {bit} of byte {}", bit / 8);
    }
}

#[test]
fn every_cut_is_noticed() {
    let good = mixed();
    for length in 0..good.len() {
        assert!(!is_whole(&good[..length]), "cut to {length} bytes");
    }
}

/// The error of one checked frame behind a good header.
fn refusal(frame: Vec<u8>) -> Option<WireError> {
    let header = [&[1, 0, 0, 0][..], &[5; 24]].concat();
    Datagram::parse(&datagram(&header, &[Piece::Checked(frame)])).err()
}

#[test]
fn each_fault_has_its_name() {
    let header = |version: u8, flags: u8| {
        let header = [&[version, flags, 0, 0][..], &[5; 24]].concat();
        Datagram::parse(&datagram(&header, &[])).err()
    };
    assert_eq!(header(1, 0), None);
    assert_eq!(header(0, 0), Some(WireError::Version));
    assert_eq!(header(2, 0), Some(WireError::Version));
    assert_eq!(header(1, 1), Some(WireError::Flags));
    assert_eq!(header(1, 2), Some(WireError::Flags));
    assert_eq!(header(1, 0xFC), None);
    assert_eq!(Datagram::parse(&[1; 31]).err(), Some(WireError::TooShort));
    assert_eq!(Datagram::parse(&[1; 1453]).err(), Some(WireError::TooLong));
    let mut bad_check = datagram(&[&[1, 0, 0, 0][..], &[5; 24]].concat(), &[]);
    bad_check[28] ^= 1;
    assert_eq!(Datagram::parse(&bad_check).err(), Some(WireError::FrameCheck));

    // Lengths: less than a head, not a multiple of 8, over the end, under the type's.
    assert_eq!(refusal(vec![0x18, 0]), Some(WireError::FrameLength));
    assert_eq!(refusal(vec![0x18, 0, 0, 0, 0, 0, 0, 0]), Some(WireError::FrameLength));
    assert_eq!(refusal([&[0x18, 0, 12, 0][..], &[0; 8]].concat()), Some(WireError::FrameLength));
    assert_eq!(refusal(vec![0x18, 0, 16, 0, 0, 0, 0, 0]), Some(WireError::FrameLength));
    for kind in (0x01..=0x08).chain(0x10..=0x17) {
        let short = vec![kind, 0, 8, 0, 0, 0, 0, 0];
        assert_eq!(refusal(short), Some(WireError::FrameLength), "type {kind:#x}");
    }
    // Types: unknown below 0x80, the reserved ones among them; ignorable from there.
    for kind in [0x00, 0x09, 0x0F, 0x19, 0x20, 0x25, 0x7F] {
        let frame = vec![kind, 0, 8, 0, 0, 0, 0, 0];
        assert_eq!(refusal(frame), Some(WireError::FrameType), "type {kind:#x}");
    }
    assert_eq!(refusal(vec![0xFF, 0, 8, 0, 0, 0, 0, 0]), None);

    // Tails: a name or credential longer than the frame has room for.
    let mut open_stream = vec![0; 32];
    open_stream[0] = OpenStreamHeader::KIND;
    open_stream[2] = 32;
    open_stream[16] = 8;
    assert_eq!(refusal(open_stream.clone()), None);
    open_stream[16] = 9;
    assert_eq!(refusal(open_stream), Some(WireError::FrameLength));

    // Data frames: no room for a message, options not a multiple of 8 or over the block.
    let data = |length: u16, options: u16| {
        let block = vec![0; usize::from(length - 32)];
        refusal([data_header(0x10, length, 1, options, 0), block].concat())
    };
    assert_eq!(data(32, 0), Some(WireError::FrameLength));
    assert_eq!(data(48, 4), Some(WireError::FrameLength));
    assert_eq!(data(48, 16), Some(WireError::FrameLength));
    assert_eq!(data(48, 24), Some(WireError::FrameLength));
    assert_eq!(data(48, 0xFFF8), Some(WireError::FrameLength));
}

#[test]
fn each_fault_of_a_block_has_its_name() {
    let parse = |block: &[u8], count| Block::parse(block, count, bitwise_crc32c([block])).err();
    let good = [3, 0, 0, 0, 3, 1, 1, 0, b'k', b'h', b'p', 0, 0, 0, 0, 0];
    let with = |at: usize, byte: u8| {
        let mut block = good;
        block[at] = byte;
        parse(&block, 1)
    };
    assert_eq!(parse(&good, 1), None);
    assert_eq!(Block::parse(&good, 1, 0).err(), Some(WireError::BlockCrc));
    assert_eq!(parse(&good, 0), Some(WireError::BlockShape));
    assert_eq!(parse(&[], 0), Some(WireError::BlockShape));
    assert_eq!(parse(&good, 2), Some(WireError::BlockShape));
    assert_eq!(parse(&good[..12], 1), Some(WireError::BlockShape), "padding cut off");
    assert_eq!(with(0, 9), Some(WireError::BlockShape), "longer than the block");
    assert_eq!(with(3, 0xFF), Some(WireError::BlockShape), "very long");
    assert_eq!(with(5, 3), Some(WireError::BlockShape), "key and headers over the length");
    assert_eq!(with(7, 0xFF), Some(WireError::BlockShape), "headers over the length");
    assert_eq!(with(11, 1), Some(WireError::BlockShape), "padding not zero");
    for flags in [0, 1, 2, 4, 5, 6, 7] {
        assert_eq!(with(4, flags), Some(WireError::Part), "flags {flags}");
    }
    assert_eq!(with(4, 0xFB), None, "unknown message flags are ignored");
}

#[test]
fn names_of_errors_and_codes_are_distinct() {
    let mut names: Vec<&str> = WireError::ALL.iter().map(|error| error.name()).collect();
    for (number, error) in WireError::ALL.iter().enumerate() {
        assert_eq!(*error as usize, number);
        assert_eq!(error.to_string(), error.name());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), WireError::ALL.len());
    // The numbers and names of section 5 of the page.
    let page = [
        "ok",
        "unknown session",
        "bad cookie",
        "sessions full",
        "unknown publisher",
        "fenced",
        "unknown incarnation",
        "unknown stream",
        "wrong version",
        "too large",
        "malformed block",
        "unsupported",
        "overlap",
        "offset gone",
        "diverged",
        "limit reached",
        "shutting down",
        "moved",
        "log full",
        "log poisoned",
    ];
    for (number, name) in page.into_iter().enumerate() {
        let code = Code::from_number(number as u16).expect("a code of the page");
        assert_eq!((code as usize, code.text()), (number, name));
    }
    assert_eq!(Code::from_number(page.len() as u16), None);
}

proptest! {
    #![proptest_config(common::cases(2000))]

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..1600)) {
        is_whole(&bytes);
        is_whole(&mended(&bytes));
        let _ = Block::parse(&bytes, 3, mstream_wire::crc32c(&bytes));
        let mut rewritten = bytes.clone();
        let header = DatagramHeader::new(1, 2, 3, 4);
        let done = rewrite_as_deliver(&mut rewritten, &header, 1, 2, 3);
        prop_assert_eq!(done, bytes.len() >= 64);
        prop_assert!(done || rewritten == bytes);
    }

    /// Mutations of a valid datagram, its frame check put right for what it says it is.
    #[test]
    fn mutations_are_survived(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = mixed();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes[0] = 1;
        bytes[1] &= !3;
        is_whole(&mended(&bytes));
        bytes.truncate(cut.index(bytes.len() + 1));
        is_whole(&bytes);
        is_whole(&mended(&bytes));
    }

    /// A frame of any type and content behind a good header and a fitting check.
    #[test]
    fn any_frame_is_survived(kind in any::<u8>(), body in vec(any::<u8>(), 4..200)) {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend_from_slice(&body[..body.len() / 4 * 4]);
        let length = frame.len() as u16;
        frame[2..4].copy_from_slice(&length.to_le_bytes());
        let header = [&[1, 0, 0, 0][..], &[5; 24]].concat();
        let pieces = match kind {
            0x10 | 0x11 if frame.len() > 40 => {
                let options = usize::from(u16::from_le_bytes([frame[6], frame[7]]) % 3 * 8);
                frame[6..8].copy_from_slice(&(options as u16).to_le_bytes());
                let end = (frame.len() - options).max(32);
                let options = frame.split_off(end);
                let block = frame.split_off(32);
                vec![Piece::Checked(frame), Piece::Block(block), Piece::Checked(options)]
            }
            _ => vec![Piece::Checked(frame)],
        };
        is_whole(&datagram(&header, &pieces));
    }

    /// Messages of any shape behind a fitting block crc.
    #[test]
    fn any_block_is_survived(mut block in vec(any::<u8>(), 0..600), count in 0u16..8) {
        // Small lengths, or nothing would get past the first message.
        for at in (0..block.len() / 8 * 8).step_by(8) {
            block[at + 1..at + 4].fill(0);
            block[at + 7] = 0;
        }
        if let Ok(parsed) = Block::parse(&block, count, bitwise_crc32c([block.as_slice()])) {
            prop_assert_eq!(parsed.messages().count(), usize::from(count));
        }
    }
}
