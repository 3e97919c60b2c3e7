//! parse(emit(x)) == x for random frames of every type, alone and together.

mod common;

use std::fmt::Debug;

use common::{Piece, bitwise_crc32c, data_header, datagram};
use mstream_wire::{
    Ack, Beat, Block, BlockWriter, Close, Cookie, Credit, Data, DataHeader, Datagram,
    DatagramHeader, DatagramWriter, ErrorHeader, Frame, FrameHead, Hello, MAX_UNSEALED_BYTES,
    OpenHeader, OpenStreamHeader, Opened, Skip, StreamOpened, SubscribeHeader, Subscribed,
    Unsubscribe, message_bytes, pad8, rewrite_as_deliver,
};
use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::FromBytes;

#[derive(Clone, Debug)]
struct Content {
    key: Vec<u8>,
    headers: Vec<u8>,
    payload: Vec<u8>,
}

/// A frame to be sent.
#[derive(Clone, Debug)]
enum Sent {
    Hello(Hello),
    Cookie(Cookie),
    Open(OpenHeader, Vec<u8>),
    Opened(Opened),
    Close(Close),
    Error(ErrorHeader, String),
    Beat(Beat),
    Credit(Credit),
    Publish(DataHeader, Vec<Content>),
    Deliver(DataHeader, Vec<Content>),
    Ack(Ack),
    OpenStream(OpenStreamHeader, Vec<u8>),
    StreamOpened(StreamOpened),
    Subscribe(SubscribeHeader, Vec<u8>),
    Subscribed(Subscribed),
    Skip(Skip),
    Unsubscribe(Unsubscribe),
}

/// A `T` of random bytes: every field, reserved ones and flags too, can hold anything.
fn any_bytes<T: FromBytes + Debug>() -> impl Strategy<Value = T> {
    vec(any::<u8>(), size_of::<T>())
        .prop_map(|bytes| T::read_from_bytes(&bytes).expect("as many bytes as the type has"))
}

fn content() -> impl Strategy<Value = Content> {
    (vec(any::<u8>(), 0..=255), vec(any::<u8>(), 0..64), vec(any::<u8>(), 0..200))
        .prop_map(|(key, headers, payload)| Content { key, headers, payload })
}

/// A few messages with keys and headers, or many that are payload alone.
fn contents() -> impl Strategy<Value = Vec<Content>> {
    let plain = vec(any::<u8>(), 0..20).prop_map(|payload| Content {
        key: vec![],
        headers: vec![],
        payload,
    });
    prop_oneof![vec(content(), 1..4), vec(plain, 1..40)]
}

fn sent() -> impl Strategy<Value = Sent> {
    let tail = || vec(any::<u8>(), 0..40);
    prop_oneof![
        any_bytes().prop_map(Sent::Hello),
        any_bytes().prop_map(Sent::Cookie),
        (any_bytes(), vec(any::<u8>(), 0..=1024)).prop_map(|(a, b)| Sent::Open(a, b)),
        any_bytes().prop_map(Sent::Opened),
        any_bytes().prop_map(Sent::Close),
        (any_bytes(), "[a-z é]{0,40}").prop_map(|(a, b)| Sent::Error(a, b)),
        any_bytes().prop_map(Sent::Beat),
        any_bytes().prop_map(Sent::Credit),
        (any_bytes(), contents()).prop_map(|(a, b)| Sent::Publish(a, b)),
        (any_bytes(), contents()).prop_map(|(a, b)| Sent::Deliver(a, b)),
        any_bytes().prop_map(Sent::Ack),
        (any_bytes(), tail()).prop_map(|(a, b)| Sent::OpenStream(a, b)),
        any_bytes().prop_map(Sent::StreamOpened),
        (any_bytes(), tail()).prop_map(|(a, b)| Sent::Subscribe(a, b)),
        any_bytes().prop_map(Sent::Subscribed),
        any_bytes().prop_map(Sent::Skip),
        any_bytes().prop_map(Sent::Unsubscribe),
    ]
}

fn header() -> impl Strategy<Value = DatagramHeader> {
    (any_bytes::<DatagramHeader>()).prop_map(|header| DatagramHeader {
        version: 1,
        flags: header.flags & !3,
        ..header
    })
}

fn block_of(contents: &[Content]) -> Vec<u8> {
    let length =
        contents.iter().map(|c| message_bytes(c.key.len(), c.headers.len(), c.payload.len())).sum();
    let mut block = vec![0xEE; length];
    let mut at = 0;
    for content in contents {
        let mut writer = BlockWriter::at(&mut block, at);
        at = writer.push(&content.key, &content.headers, &content.payload).expect("it fits");
    }
    assert_eq!(at, length);
    block
}

/// The data header as it must arrive.
fn completed(header: &DataHeader, kind: u8, contents: &[Content], block: &[u8]) -> DataHeader {
    DataHeader {
        head: FrameHead { kind, length: (32 + block.len() as u16).into(), ..header.head },
        count: (contents.len() as u16).into(),
        options_length: 0.into(),
        block_crc: bitwise_crc32c([block]).into(),
        ..*header
    }
}

/// Bytes that the frame takes in a datagram.
fn frame_bytes(sent: &Sent) -> usize {
    match sent {
        Sent::Hello(_) => 1168,
        Sent::Cookie(_) => 40,
        Sent::Open(_, tail) => 80 + pad8(tail.len()),
        Sent::Opened(_) => 80,
        Sent::Close(_) | Sent::Credit(_) => 16,
        Sent::Error(_, text) => 24 + pad8(text.len()),
        Sent::Beat(_) | Sent::Skip(_) => 32,
        Sent::Publish(_, contents) | Sent::Deliver(_, contents) => 32 + block_of(contents).len(),
        Sent::Ack(_) | Sent::Subscribed(_) => 72,
        Sent::OpenStream(_, tail) => 24 + pad8(tail.len()),
        Sent::StreamOpened(_) => 64,
        Sent::Subscribe(_, tail) => 64 + pad8(tail.len()),
        Sent::Unsubscribe(_) => 8,
    }
}

fn emit(writer: &mut DatagramWriter<'_>, sent: &Sent) -> bool {
    match sent {
        Sent::Hello(frame) => writer.hello(frame),
        Sent::Cookie(frame) => writer.cookie(frame),
        Sent::Open(frame, tail) => writer.open(frame, tail),
        Sent::Opened(frame) => writer.opened(frame),
        Sent::Close(frame) => writer.close(frame),
        Sent::Error(frame, text) => writer.error(frame, text),
        Sent::Beat(frame) => writer.beat(frame),
        Sent::Credit(frame) => writer.credit(frame),
        Sent::Publish(header, contents) => {
            let block = block_of(contents);
            writer.data(&completed(header, 0x10, contents, &block), &block)
        }
        Sent::Deliver(header, contents) => {
            let block = block_of(contents);
            writer.data(&completed(header, 0x11, contents, &block), &block)
        }
        Sent::Ack(frame) => writer.ack(frame),
        Sent::OpenStream(frame, tail) => writer.open_stream(frame, tail),
        Sent::StreamOpened(frame) => writer.stream_opened(frame),
        Sent::Subscribe(frame, tail) => writer.subscribe(frame, tail),
        Sent::Subscribed(frame) => writer.subscribed(frame),
        Sent::Skip(frame) => writer.skip(frame),
        Sent::Unsubscribe(frame) => writer.unsubscribe(frame),
    }
}

fn assert_data(data: &Data<'_>, header: &DataHeader, kind: u8, contents: &[Content]) {
    let block = block_of(contents);
    assert_eq!(*data.header, completed(header, kind, contents, &block));
    assert_eq!((data.block, data.options), (block.as_slice(), [].as_slice()));
    let parsed =
        Block::parse(data.block, data.header.count.get(), data.header.block_crc.get()).unwrap();
    assert_eq!(usize::from(parsed.count()), contents.len());
    let mut messages = parsed.messages();
    for content in contents {
        let message = messages.next().expect("as many messages as were written");
        assert_eq!(message.key, content.key);
        assert_eq!(message.headers, content.headers);
        assert_eq!(message.payload, content.payload);
    }
    assert_eq!(messages.next(), None);
}

/// `$frame` with the type and length that the emitter sets.
macro_rules! arrived {
    ($frame:expr, $type:ident, $sent:expr) => {{
        let length = frame_bytes($sent) as u16;
        $type {
            head: FrameHead { kind: $type::KIND, length: length.into(), ..$frame.head },
            ..$frame.clone()
        }
    }};
}

fn assert_arrived(got: Frame<'_>, sent: &Sent) {
    match (got, sent) {
        (Frame::Hello(got), Sent::Hello(frame)) => assert_eq!(*got, arrived!(frame, Hello, sent)),
        (Frame::Cookie(got), Sent::Cookie(frame)) => {
            assert_eq!(*got, arrived!(frame, Cookie, sent));
        }
        (Frame::Open(got, tail), Sent::Open(frame, sent_tail)) => {
            let credential_length = (sent_tail.len() as u16).into();
            let expected = OpenHeader { credential_length, ..*frame };
            assert_eq!(*got, arrived!(expected, OpenHeader, sent));
            assert_eq!(tail, sent_tail);
        }
        (Frame::Opened(got), Sent::Opened(frame)) => {
            assert_eq!(*got, arrived!(frame, Opened, sent));
        }
        (Frame::Close(got), Sent::Close(frame)) => assert_eq!(*got, arrived!(frame, Close, sent)),
        (Frame::Error(got, text), Sent::Error(frame, sent_text)) => {
            assert_eq!(*got, arrived!(frame, ErrorHeader, sent));
            let (content, padding) = text.split_at(sent_text.len());
            assert_eq!(content, sent_text.as_bytes());
            assert!(padding.len() < 8 && padding.iter().all(|byte| *byte == 0));
        }
        (Frame::Beat(got), Sent::Beat(frame)) => assert_eq!(*got, arrived!(frame, Beat, sent)),
        (Frame::Credit(got), Sent::Credit(frame)) => {
            assert_eq!(*got, arrived!(frame, Credit, sent));
        }
        (Frame::Publish(data), Sent::Publish(header, contents)) => {
            assert_data(&data, header, 0x10, contents);
        }
        (Frame::Deliver(data), Sent::Deliver(header, contents)) => {
            assert_data(&data, header, 0x11, contents);
        }
        (Frame::Ack(got), Sent::Ack(frame)) => assert_eq!(*got, arrived!(frame, Ack, sent)),
        (Frame::OpenStream(got, tail), Sent::OpenStream(frame, sent_tail)) => {
            let name_length = (sent_tail.len() as u16).into();
            let expected = OpenStreamHeader { name_length, ..*frame };
            assert_eq!(*got, arrived!(expected, OpenStreamHeader, sent));
            assert_eq!(tail, sent_tail);
        }
        (Frame::StreamOpened(got), Sent::StreamOpened(frame)) => {
            assert_eq!(*got, arrived!(frame, StreamOpened, sent));
        }
        (Frame::Subscribe(got, tail), Sent::Subscribe(frame, sent_tail)) => {
            let name_length = (sent_tail.len() as u16).into();
            let expected = SubscribeHeader { name_length, ..*frame };
            assert_eq!(*got, arrived!(expected, SubscribeHeader, sent));
            assert_eq!(tail, sent_tail);
        }
        (Frame::Subscribed(got), Sent::Subscribed(frame)) => {
            assert_eq!(*got, arrived!(frame, Subscribed, sent));
        }
        (Frame::Skip(got), Sent::Skip(frame)) => assert_eq!(*got, arrived!(frame, Skip, sent)),
        (Frame::Unsubscribe(got), Sent::Unsubscribe(frame)) => {
            assert_eq!(*got, arrived!(frame, Unsubscribe, sent));
        }
        (got, sent) => panic!("{got:?} arrived for {sent:?}"),
    }
}

proptest! {
    #![proptest_config(common::cases(500))]

    /// What fits arrives as sent, in order; what does not fit is refused and leaves no trace.
    #[test]
    fn frames_arrive_as_sent(header in header(), all in vec(sent(), 0..8)) {
        let mut room = [0xEE; MAX_UNSEALED_BYTES];
        let mut writer = DatagramWriter::new(&mut room, &header).unwrap();
        let mut taken = Vec::new();
        for sent in &all {
            let free = writer.room();
            let fits = frame_bytes(sent) <= free;
            prop_assert_eq!(emit(&mut writer, sent), fits);
            if fits {
                taken.push(sent);
                prop_assert_eq!(writer.room(), free - frame_bytes(sent));
            } else {
                prop_assert_eq!(writer.room(), free);
            }
        }
        prop_assert_eq!(writer.is_empty(), taken.is_empty());
        let length = writer.finish();
        prop_assert_eq!(length, 32 + taken.iter().map(|sent| frame_bytes(sent)).sum::<usize>());

        let datagram = Datagram::parse(&room[..length]).unwrap();
        prop_assert_eq!(*datagram.header, DatagramHeader { check: datagram.header.check, ..header });
        let frames: Vec<Frame<'_>> = datagram.frames().collect();
        prop_assert_eq!(frames.len(), taken.len());
        for (got, sent) in frames.into_iter().zip(taken) {
            assert_arrived(got, sent);
        }
    }

    /// A publish datagram rewritten in place is the deliver datagram that would have been emitted.
    #[test]
    fn rewritten_is_emitted(
        (publish, deliver) in (header(), header()),
        data in any_bytes::<DataHeader>(),
        contents in contents(),
        (handle, offset, publisher) in any::<(u32, u64, u64)>(),
    ) {
        let block = block_of(&contents);
        let sent = completed(&data, DataHeader::PUBLISH, &contents, &block);
        let mut received = vec![0; 64 + block.len()];
        let mut writer = DatagramWriter::new(&mut received, &publish).unwrap();
        prop_assert!(writer.data(&sent, &block));
        prop_assert_eq!(writer.finish(), received.len());
        prop_assert!(rewrite_as_deliver(&mut received, &deliver, handle, offset, publisher));

        let mut emitted = vec![0; received.len()];
        let mut writer = DatagramWriter::new(&mut emitted, &deliver).unwrap();
        let expected = DataHeader {
            head: FrameHead { kind: DataHeader::DELIVER, flags: 0, length: 0.into() },
            handle: handle.into(),
            number: offset.into(),
            tag: publisher.into(),
            ..sent
        };
        prop_assert!(writer.data(&expected, &block));
        prop_assert_eq!(writer.finish(), emitted.len());
        prop_assert_eq!(&received, &emitted);
        // It is valid whenever it is of a size that a datagram may have.
        if received.len() <= 1452 {
            let parsed = Datagram::parse(&received).unwrap();
            let Some(Frame::Deliver(data)) = parsed.frames().next() else {
                panic!("not a deliver frame")
            };
            prop_assert!(parsed.is_only(&data));
        }
    }

    /// Options behind a block, which no emitter writes, are kept apart from it.
    #[test]
    fn options_are_kept_apart(contents in vec(content(), 1..3), eights in 0usize..6) {
        let block = block_of(&contents);
        let options: Vec<u8> = (0..eights * 8).map(|index| index as u8).collect();
        let length = (32 + block.len() + options.len()) as u16;
        let crc = bitwise_crc32c([block.as_slice()]);
        let count = contents.len() as u16;
        let head = data_header(0x10, length, count, options.len() as u16, crc);
        let bytes = datagram(&[1, 0, 0, 0].into_iter().chain([7; 24]).collect::<Vec<u8>>(), &[
            Piece::Checked(head),
            Piece::Block(block.clone()),
            Piece::Checked(options.clone()),
        ]);
        let parsed = Datagram::parse(&bytes).unwrap();
        let Some(Frame::Publish(data)) = parsed.frames().next() else { panic!("no publish frame") };
        prop_assert_eq!(data.block, &block[..]);
        prop_assert_eq!(data.options, &options[..]);
        prop_assert_eq!(parsed.is_only(&data), options.is_empty());
    }
}
