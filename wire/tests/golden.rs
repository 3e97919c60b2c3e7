//! One datagram of each frame type, its bytes written by hand from `docs/protocol.md`: the emitter
//! must make exactly these bytes and the parser must read exactly these values.

mod common;

use common::{Piece, bitwise_crc32c, datagram, hex};
use mstream_wire::{
    Ack, Beat, Block, BlockWriter, Close, Cookie, Credit, DataHeader, Datagram, DatagramHeader,
    DatagramWriter, ErrorHeader, Frame, FrameHead, Hello, OpenHeader, OpenStreamHeader, Opened,
    Skip, StreamOpened, SubscribeHeader, Subscribed, Unsubscribe,
};

/// Version 1, slot 0x01020304, token 0x1112131415161718, packet number 0x21, epoch 0x31323334.
const SESSION: &str = "01 00 00 00  04030201  1817161514131211  2100000000000000  34333231";
/// Outside a session: slot 0xFFFFFFFF, no token, no packet number; epoch 0x31323334.
const OUTSIDE: &str = "01 00 00 00  FFFFFFFF  0000000000000000  0000000000000000  34333231";

fn session() -> DatagramHeader {
    DatagramHeader::new(0x0102_0304, 0x1112_1314_1516_1718, 0x21, 0x3132_3334)
}

fn outside() -> DatagramHeader {
    DatagramHeader::outside(0x3132_3334)
}

/// Both ways: `emit` makes the bytes of `header` and `frame`, and parsing them gives `expected`.
fn both_ways(
    header: (&str, DatagramHeader),
    frame: &str,
    emit: impl FnOnce(&mut DatagramWriter<'_>) -> bool,
    expected: Frame<'_>,
) {
    let golden = datagram(&hex(header.0), &[Piece::Checked(hex(frame))]);
    let mut room = [0xEE; 1500];
    let mut writer = DatagramWriter::new(&mut room, &header.1).expect("room for a header");
    assert!(emit(&mut writer));
    let length = writer.finish();
    assert_eq!(room[..length], golden);

    let parsed = Datagram::parse(&golden).expect("golden bytes are valid");
    let frames: Vec<Frame<'_>> = parsed.frames().collect();
    assert_eq!(frames, [expected]);
    let check = bitwise_crc32c([&golden[..28], &golden[32..]]);
    assert_eq!(*parsed.header, DatagramHeader { check: check.into(), ..header.1 });
}

#[test]
fn the_crc_is_the_one_on_the_page() {
    assert_eq!(bitwise_crc32c([b"123456789".as_slice()]), 0xE306_9283);
    assert_eq!(mstream_wire::crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn an_empty_datagram() {
    let golden = datagram(&hex(SESSION), &[]);
    let mut room = [0xEE; 32];
    let writer = DatagramWriter::new(&mut room, &session()).unwrap();
    assert!(writer.is_empty());
    assert_eq!(writer.finish(), 32);
    assert_eq!(room, golden[..]);
    assert_eq!(Datagram::parse(&golden).unwrap().frames().count(), 0);
}

#[test]
fn hello() {
    let frame = Hello {
        head: FrameHead { length: 1168.into(), ..Hello::HEAD },
        lowest_version: 1,
        highest_version: 2,
        reserved: 0.into(),
        nonce: 0x4142_4344_4546_4748.into(),
    };
    let bytes = format!("01 00 9004  01 02  0000  4847464544434241 {}", "00".repeat(1152));
    both_ways((OUTSIDE, outside()), &bytes, |writer| writer.hello(&frame), Frame::Hello(&frame));
}

#[test]
fn cookie() {
    let frame = Cookie {
        head: Cookie::HEAD,
        version: 1,
        reserved: [0; 3],
        nonce: 0x4142_4344_4546_4748.into(),
        cookie: *b"abcdefghijklmnopqrstuvwx",
    };
    both_ways(
        (OUTSIDE, outside()),
        "02 00 2800  01 00 0000  4847464544434241  6162636465666768 696a6b6c6d6e6f70 7172737475767778",
        |writer| writer.cookie(&frame),
        Frame::Cookie(&frame),
    );
}

#[test]
fn open() {
    let mut life = [0; 16];
    life.copy_from_slice(&hex("505152535455565758595A5B5C5D5E5F"));
    let frame = OpenHeader {
        head: FrameHead { length: 88.into(), ..OpenHeader::HEAD },
        identity: 1,
        reserved: 0,
        credential_length: 3.into(),
        nonce: 0x4142_4344_4546_4748.into(),
        cookie: *b"abcdefghijklmnopqrstuvwx",
        publisher: 0x0807_0605_0403_0201.into(),
        life,
        capabilities: 0.into(),
        reserved2: 0.into(),
    };
    both_ways(
        (OUTSIDE, outside()),
        "03 00 5800  01 00 0300  4847464544434241  6162636465666768 696a6b6c6d6e6f70 7172737475767778
         0102030405060708  505152535455565758595A5B5C5D5E5F  0000000000000000  0000000000000000
         4b4559 0000000000",
        |writer| writer.open(&frame, b"KEY"),
        Frame::Open(&frame, b"KEY"),
    );
}

#[test]
fn opened() {
    let mut log_id = [0; 16];
    log_id.copy_from_slice(&hex("606162636465666768696A6B6C6D6E6F"));
    let frame = Opened {
        head: Opened::HEAD,
        max_block: 1280.into(),
        nonce: 0x4142_4344_4546_4748.into(),
        log_id,
        publisher: 0x71.into(),
        incarnation: 0x0000_0002_0000_0003.into(),
        credit: 0x0001_0000.into(),
        timeout_ms: 30_000.into(),
        level: 4,
        copies: 2,
        required_copies: 1,
        reserved: 0,
        capabilities: 0.into(),
        reserved2: 0.into(),
    };
    both_ways(
        (SESSION, session()),
        "04 00 5000  00050000  4847464544434241  606162636465666768696A6B6C6D6E6F
         7100000000000000  0300000002000000  0000010000000000  30750000 04 02 01 00
         0000000000000000  0000000000000000",
        |writer| writer.opened(&frame),
        Frame::Opened(&frame),
    );
}

#[test]
fn close() {
    let frame =
        Close { head: Close::HEAD, code: 16.into(), reserved: 0.into(), reserved2: 0.into() };
    both_ways(
        (SESSION, session()),
        "05 00 1000  1000 0000  0000000000000000",
        |writer| writer.close(&frame),
        Frame::Close(&frame),
    );
}

#[test]
fn error() {
    let frame = ErrorHeader {
        head: FrameHead { length: 32.into(), ..ErrorHeader::HEAD },
        code: 2.into(),
        reserved: 0.into(),
        value: 0x99.into(),
        nonce: 0x4142_4344_4546_4748.into(),
    };
    both_ways(
        (OUTSIDE, outside()),
        "06 00 2000  0200 0000  9900000000000000  4847464544434241  746f6f206f6c64 00",
        |writer| writer.error(&frame, "too old"),
        Frame::Error(&frame, b"too old\0"),
    );
}

#[test]
fn beat() {
    // Bit 0 of the flags asks for an answer.
    let frame = Beat {
        head: FrameHead { flags: 1, ..Beat::HEAD },
        handle: u32::MAX.into(),
        next: 0x0A.into(),
        end: 0x0B.into(),
        time: 0x0102_0304_0506_0708.into(),
    };
    both_ways(
        (SESSION, session()),
        "07 01 2000  FFFFFFFF  0A00000000000000  0B00000000000000  0807060504030201",
        |writer| writer.beat(&frame),
        Frame::Beat(&frame),
    );
}

#[test]
fn credit() {
    let frame = Credit { head: Credit::HEAD, handle: 0x0D.into(), limit: 0x0102_0304_0506.into() };
    both_ways(
        (SESSION, session()),
        "08 00 1000  0D000000  0605040302010000",
        |writer| writer.credit(&frame),
        Frame::Credit(&frame),
    );
}

#[test]
fn ack() {
    let frame = Ack {
        head: Ack::HEAD,
        handle: 0x0D.into(),
        received: 0x13.into(),
        persisted: 0x12.into(),
        committed: 0x11.into(),
        offset: 0x1111.into(),
        round: 0x02.into(),
        refused: 0x0F.into(),
        code: 9.into(),
        level: 1,
        copies: 2,
        required_copies: 3,
        reserved: [0; 11],
    };
    both_ways(
        (SESSION, session()),
        "12 00 4800  0D000000  1300000000000000  1200000000000000  1100000000000000  1111000000000000
         0200000000000000  0F00000000000000  0900 01 02 03  0000000000000000000000",
        |writer| writer.ack(&frame),
        Frame::Ack(&frame),
    );
}

#[test]
fn open_stream() {
    let frame = OpenStreamHeader {
        head: FrameHead { length: 32.into(), ..OpenStreamHeader::HEAD },
        request: 0x21.into(),
        stream: 0x22.into(),
        name_length: 6.into(),
        reserved: [0; 6],
    };
    both_ways(
        (SESSION, session()),
        "13 00 2000  21000000  2200000000000000  0600 0000 00000000  717561 746573 0000",
        |writer| writer.open_stream(&frame, b"quates"),
        Frame::OpenStream(&frame, b"quates"),
    );
}

#[test]
fn stream_opened() {
    let frame = StreamOpened {
        head: StreamOpened::HEAD,
        request: 0x21.into(),
        handle: 0x22.into(),
        code: 7.into(),
        reserved: 0.into(),
        stream: 0x23.into(),
        sequence: 0x24.into(),
        round: 0x25.into(),
        offset: 0x26.into(),
        reserved2: [0; 16],
    };
    both_ways(
        (SESSION, session()),
        "14 00 4000  21000000  22000000  0700 0000  2300000000000000  2400000000000000
         2500000000000000  2600000000000000  00000000000000000000000000000000",
        |writer| writer.stream_opened(&frame),
        Frame::StreamOpened(&frame),
    );
}

#[test]
fn subscribe() {
    let frame = SubscribeHeader {
        head: FrameHead { length: 72.into(), ..SubscribeHeader::HEAD },
        request: 0x31.into(),
        stream: 0.into(),
        from: 0x33.into(),
        credit: 0x34.into(),
        log_id: *b"0123456789ABCDEF",
        epoch: 0x35.into(),
        from_kind: 2,
        reserved: 0,
        name_length: 2.into(),
        reserved2: 0.into(),
    };
    both_ways(
        (SESSION, session()),
        "15 00 4800  31000000  0000000000000000  3300000000000000  3400000000000000
         30313233343536373839414243444546  35000000 02 00 0200  0000000000000000
         6678 000000000000",
        |writer| writer.subscribe(&frame, b"fx"),
        Frame::Subscribe(&frame, b"fx"),
    );
}

#[test]
fn subscribed() {
    let frame = Subscribed {
        head: Subscribed::HEAD,
        request: 0x31.into(),
        handle: 0x41.into(),
        code: 14.into(),
        reserved: 0.into(),
        stream: 0x42.into(),
        start: 0x43.into(),
        earliest: 0x44.into(),
        end: 0x45.into(),
        limit: 0x46.into(),
        log_id: *b"0123456789ABCDEF",
    };
    both_ways(
        (SESSION, session()),
        "16 00 4800  31000000  41000000  0E00 0000  4200000000000000  4300000000000000
         4400000000000000  4500000000000000  4600000000000000  30313233343536373839414243444546",
        |writer| writer.subscribed(&frame),
        Frame::Subscribed(&frame),
    );
}

#[test]
fn skip() {
    let frame = Skip {
        head: Skip::HEAD,
        handle: 0x41.into(),
        from: 0x51.into(),
        to: 0x52.into(),
        reason: 2.into(),
        reserved: [0; 6],
    };
    both_ways(
        (SESSION, session()),
        "17 00 2000  41000000  5100000000000000  5200000000000000  0200 000000000000",
        |writer| writer.skip(&frame),
        Frame::Skip(&frame),
    );
}

#[test]
fn unsubscribe() {
    let frame = Unsubscribe { head: Unsubscribe::HEAD, handle: 0x41.into() };
    both_ways(
        (SESSION, session()),
        "18 00 0800  41000000",
        |writer| writer.unsubscribe(&frame),
        Frame::Unsubscribe(&frame),
    );
}

/// Two messages: key "AB", headers "h", payload "xyz"; and payload "12345678" alone.
const BLOCK: &str = "06000000 03 02 0100  4142 68 78797a 0000
                     08000000 03 00 0000  3132333435363738";

fn data_both_ways(frame_type: &str, kind: u8) {
    let block = hex(BLOCK);
    let crc = bitwise_crc32c([block.as_slice()]);
    let head = format!(
        "{frame_type} 00 4000  0200 0000  44000000  {}  6100000000000000  6200000000000000",
        crc.to_le_bytes().map(|byte| format!("{byte:02x}")).concat(),
    );
    let golden =
        datagram(&hex(SESSION), &[Piece::Checked(hex(&head)), Piece::Block(block.clone())]);

    let mut block_room = [0xEE; 64];
    let mut writer = BlockWriter::at(&mut block_room, 0);
    assert_eq!(writer.push(b"AB", b"h", b"xyz"), Some(16));
    assert_eq!(writer.push(b"", b"", b"12345678"), Some(32));
    assert_eq!(block_room[..32], block);

    let header = DataHeader {
        head: FrameHead { kind, flags: 0, length: 64.into() },
        count: 2.into(),
        options_length: 0.into(),
        handle: 0x44.into(),
        block_crc: crc.into(),
        number: 0x61.into(),
        tag: 0x62.into(),
    };
    let mut room = [0xEE; 128];
    let mut writer = DatagramWriter::new(&mut room, &session()).unwrap();
    assert!(writer.data(&header, &block));
    assert_eq!(writer.finish(), 96);
    assert_eq!(room[..96], golden);

    let parsed = Datagram::parse(&golden).unwrap();
    let frames: Vec<Frame<'_>> = parsed.frames().collect();
    let [Frame::Publish(data) | Frame::Deliver(data)] = frames[..] else {
        panic!("not one data frame: {frames:?}");
    };
    assert_eq!(matches!(frames[0], Frame::Deliver(_)), kind == DataHeader::DELIVER);
    assert_eq!((data.header, data.block, data.options), (&header, block.as_slice(), &[][..]));
    assert!(parsed.is_only(&data));
    let block = Block::parse(data.block, 2, crc).unwrap();
    let messages: Vec<_> =
        block.messages().map(|message| (message.key, message.headers, message.payload)).collect();
    assert_eq!(
        messages,
        [
            (b"AB".as_slice(), b"h".as_slice(), b"xyz".as_slice()),
            (b"".as_slice(), b"".as_slice(), b"12345678".as_slice()),
        ]
    );
}

#[test]
fn publish() {
    data_both_ways("10", DataHeader::PUBLISH);
}

#[test]
fn deliver() {
    data_both_ways("11", DataHeader::DELIVER);
}

#[test]
fn what_a_receiver_ignores() {
    // Reserved header bytes and flag bits, a type from 0x80 up, options behind a block, a longer frame.
    let block = hex(BLOCK);
    let crc = bitwise_crc32c([block.as_slice()]);
    let options = b"options!".to_vec();
    let bytes = datagram(
        &hex("01 FC AA BB  04030201  1817161514131211  2100000000000000  34333231"),
        &[
            Piece::Checked(hex("80 FF 1000 000000000000000000000000")),
            Piece::Checked(common::data_header(0x10, 72, 2, 8, crc)),
            Piece::Block(block.clone()),
            Piece::Checked(options.clone()),
            Piece::Checked(hex("18 00 1000  41000000  FFFFFFFFFFFFFFFF")),
        ],
    );
    let parsed = Datagram::parse(&bytes).unwrap();
    let mut frames = parsed.frames();
    assert_eq!(frames.next(), Some(Frame::Ignorable(0x80)));
    let Some(Frame::Publish(data)) = frames.next() else { panic!("no publish frame") };
    assert_eq!((data.block, data.options), (block.as_slice(), options.as_slice()));
    assert!(!parsed.is_only(&data));
    let Some(Frame::Unsubscribe(unsubscribe)) = frames.next() else { panic!("no unsubscribe") };
    assert_eq!(unsubscribe.handle.get(), 0x41);
    assert_eq!(frames.next(), None);
}
