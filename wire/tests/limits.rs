//! The sizes that `docs/protocol.md` states.

use mstream_wire::{
    Beat, Block, BlockWriter, DATA_HEADER_BYTES, DATAGRAM_HEADER_BYTES, DEFAULT_MAX_BLOCK_BYTES,
    DataHeader, Datagram, DatagramHeader, DatagramWriter, FrameHead, HELLO_DATAGRAM_BYTES, Hello,
    MAX_DATAGRAM_BYTES, MAX_UNSEALED_BYTES, MESSAGE_HEADER_BYTES, NO_HANDLE, NO_SLOT, OpenHeader,
    Unsubscribe, VERSION, WireError, crc32c, message_bytes, pad8, rewrite_as_deliver,
};

fn data_header(block: &[u8], count: u16) -> DataHeader {
    DataHeader {
        head: FrameHead { kind: DataHeader::PUBLISH, flags: 0, length: 0.into() },
        count: count.into(),
        options_length: 0.into(),
        handle: 1.into(),
        block_crc: crc32c(block).into(),
        number: 2.into(),
        tag: 3.into(),
    }
}

fn header() -> DatagramHeader {
    DatagramHeader::new(1, 2, 3, 4)
}

#[test]
fn constants_are_those_of_the_page() {
    assert_eq!((VERSION, NO_SLOT, NO_HANDLE), (1, 0xFFFF_FFFF, 0xFFFF_FFFF));
    assert_eq!((DATAGRAM_HEADER_BYTES, DATA_HEADER_BYTES, MESSAGE_HEADER_BYTES), (32, 32, 8));
    assert_eq!((MAX_DATAGRAM_BYTES, MAX_UNSEALED_BYTES), (1452, 1436));
    assert_eq!((DEFAULT_MAX_BLOCK_BYTES, HELLO_DATAGRAM_BYTES), (1280, 1200));
    assert_eq!([0, 1, 8, 9].map(pad8), [0, 8, 8, 16]);
}

#[test]
fn a_block_of_the_default_limit_fits_a_datagram() {
    let payload = [7; DEFAULT_MAX_BLOCK_BYTES - MESSAGE_HEADER_BYTES];
    assert_eq!(message_bytes(0, 0, payload.len()), DEFAULT_MAX_BLOCK_BYTES);
    let mut block = [0; DEFAULT_MAX_BLOCK_BYTES];
    assert_eq!(BlockWriter::at(&mut block, 0).push(b"", b"", &payload), Some(1280));
    let mut room = [0; MAX_UNSEALED_BYTES];
    let mut writer = DatagramWriter::new(&mut room, &header()).unwrap();
    assert!(writer.data(&data_header(&block, 1), &block));
    assert_eq!(writer.room(), 92);
    let length = writer.finish();
    assert!(Datagram::parse(&room[..length]).is_ok());
}

#[test]
fn a_block_takes_what_fits_and_not_a_byte_more() {
    let mut room = [0xEE; 40];
    let mut writer = BlockWriter::at(&mut room, 0);
    assert_eq!(writer.push(b"", b"", &[1; 33]), None);
    assert_eq!(writer.push(b"", b"", &[1; 16]), Some(24));
    assert_eq!(writer.push(b"k", b"h", &[1; 7]), None);
    assert_eq!(writer.push(b"k", b"h", &[1; 6]), Some(40));
    assert_eq!(writer.push(b"", b"", b""), None);
    let block = Block::parse(&room, 2, crc32c(&room)).unwrap();
    assert_eq!(block.messages().map(|message| message.payload.len()).collect::<Vec<_>>(), [16, 6]);
    // A writer that is set behind the end refuses as well.
    assert_eq!(BlockWriter::at(&mut room, 41).push(b"", b"", b""), None);
}

#[test]
fn keys_and_headers_over_the_formats_limits_are_refused() {
    let mut room = vec![0xEE; 70_000];
    let mut writer = BlockWriter::at(&mut room, 0);
    assert_eq!(writer.push(&[1; 256], b"", b""), None);
    assert_eq!(writer.push(b"", &vec![1; 65_536], b""), None);
    assert_eq!(writer.push_with(b"", b"", usize::MAX, |_| panic!("there is no room")), None);
    assert_eq!(writer.push(&[1; 255], &vec![2; 65_535], b"3"), Some(8 + 65_792));
    let block = Block::parse(&room[..65_800], 1, crc32c(&room[..65_800])).unwrap();
    let message = block.messages().next().unwrap();
    assert_eq!(
        (message.key.len(), message.headers.len(), message.payload),
        (255, 65_535, &b"3"[..])
    );
}

#[test]
fn a_refused_message_leaves_the_block_as_it_was() {
    let mut room = [0xEE; 32];
    let mut writer = BlockWriter::at(&mut room, 0);
    assert_eq!(writer.push(b"", b"", b"kept"), Some(16));
    assert_eq!(writer.push(b"", b"", b"too long for it"), None);
    assert_eq!(room[16..], [0xEE; 16]);
}

#[test]
fn a_datagram_fills_to_1436_and_is_read_up_to_1452() {
    let unsubscribe = Unsubscribe { head: Unsubscribe::HEAD, handle: 1.into() };
    for (limit, expected) in [(MAX_UNSEALED_BYTES, 1432), (MAX_DATAGRAM_BYTES, 1448)] {
        let mut room = vec![0; limit];
        let mut writer = DatagramWriter::new(&mut room, &header()).unwrap();
        while writer.unsubscribe(&unsubscribe) {}
        assert!(writer.room() < 8);
        let length = writer.finish();
        assert_eq!(length, expected);
        let datagram = Datagram::parse(&room[..length]).unwrap();
        assert_eq!(datagram.frames().count(), (expected - 32) / 8);
    }
    assert_eq!(Datagram::parse(&[1; MAX_DATAGRAM_BYTES + 1]).err(), Some(WireError::TooLong));
    assert_ne!(Datagram::parse(&[1; MAX_DATAGRAM_BYTES]).err(), Some(WireError::TooLong));
}

#[test]
fn a_header_needs_its_room() {
    assert!(DatagramWriter::new(&mut [0; 31], &header()).is_none());
    assert!(DatagramWriter::new(&mut [0; 32], &header()).is_some());
}

#[test]
fn a_hello_makes_exactly_1200_bytes_or_is_refused() {
    let hello = Hello {
        head: Hello::HEAD,
        lowest_version: 1,
        highest_version: 1,
        reserved: 0.into(),
        nonce: 1.into(),
    };
    let mut room = [0xEE; 1500];
    let mut writer = DatagramWriter::new(&mut room, &DatagramHeader::outside(0)).unwrap();
    assert!(writer.hello(&hello));
    assert_eq!(writer.finish(), 1200);
    assert!(room[48..1200].iter().all(|byte| *byte == 0));
    let mut small = [0; 1199];
    let mut writer = DatagramWriter::new(&mut small, &DatagramHeader::outside(0)).unwrap();
    assert!(!writer.hello(&hello));
    assert!(writer.is_empty());
}

#[test]
fn the_largest_credential_fits_and_one_over_the_field_is_refused() {
    let open = OpenHeader {
        head: OpenHeader::HEAD,
        identity: 0,
        reserved: 0,
        credential_length: 0.into(),
        nonce: 1.into(),
        cookie: [2; 24],
        publisher: 0.into(),
        life: [0; 16],
        capabilities: 0.into(),
        reserved2: 0.into(),
    };
    let mut room = vec![0; 70_000];
    let mut writer = DatagramWriter::new(&mut room, &DatagramHeader::outside(0)).unwrap();
    assert!(!writer.open(&open, &vec![0; 65_536]));
    assert!(!writer.open(&open, &vec![0; 65_535]), "the frame's own length would not fit");
    assert!(writer.open(&open, &[9; 1024]));
    let length = writer.finish();
    assert_eq!(length, 32 + 80 + 1024);
    assert!(Datagram::parse(&room[..length]).is_ok());
}

#[test]
fn a_refused_frame_leaves_the_datagram_as_it_was() {
    let beat =
        Beat { head: Beat::HEAD, handle: 1.into(), next: 2.into(), end: 3.into(), time: 4.into() };
    let block = [0; 16];
    let mut room = [0xEE; 32 + 32 + 24];
    let mut writer = DatagramWriter::new(&mut room, &header()).unwrap();
    assert!(writer.beat(&beat));
    assert!(!writer.beat(&beat));
    assert!(!writer.data(&data_header(&block, 1), &block));
    assert_eq!(writer.finish(), 64);
    assert!(Datagram::parse(&room[..64]).is_ok());
    assert_eq!(room[64..], [0xEE; 24]);
}

#[test]
fn a_frame_longer_than_its_length_field_can_say_is_refused() {
    let block = vec![0; 65_536 - DATA_HEADER_BYTES];
    let mut room = vec![0; 70_000];
    let mut writer = DatagramWriter::new(&mut room, &header()).unwrap();
    assert!(!writer.data(&data_header(&block, 1), &block));
    assert!(writer.data(&data_header(&block[8..], 1), &block[8..]));
}

#[test]
fn a_datagram_too_short_to_be_rewritten_stays_as_it_was() {
    let mut bytes = [7; 63];
    assert!(!rewrite_as_deliver(&mut bytes, &header(), 1, 2, 3));
    assert_eq!(bytes, [7; 63]);
}
