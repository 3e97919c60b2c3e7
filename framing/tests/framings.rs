//! What is written in one framing is read in it, and what cannot be is told with its place.

use std::io::Cursor;

use mstream_framing::{Framing, Length, MAX_U16_BYTES, MessageReader, MessageWriter, ReadError};

fn write(messages: &[&[u8]], framing: Framing, gzip: bool) -> Vec<u8> {
    let mut writer = match gzip {
        true => MessageWriter::gzip(Vec::new(), framing),
        false => MessageWriter::plain(Vec::new(), framing),
    };
    messages.iter().for_each(|message| writer.write(message).expect("it fits"));
    writer.finish().expect("memory takes it")
}

fn read(bytes: impl Into<Vec<u8>>, framing: Framing) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut reader = MessageReader::new(Cursor::new(bytes.into()), framing)?;
    let mut messages = Vec::new();
    while let Some(message) = reader.next_message()? {
        messages.push(message.to_vec());
    }
    Ok(messages)
}

#[test]
fn what_is_written_is_read() {
    let long = vec![b'x'; MAX_U16_BYTES];
    let messages: [&[u8]; 6] = [b"first", b"", b"\x1f\x8b no gzip", b"", &long, b"last"];
    for framing in [Framing::Lines, Framing::U16be, Framing::U32be] {
        for gzip in [false, true] {
            let bytes = write(&messages, framing, gzip);
            assert_eq!(read(bytes, framing).expect("sound"), messages, "{framing:?} {gzip}");
        }
        assert!(read("", framing).expect("empty").is_empty());
    }
    assert_eq!(write(&[b"ab", b"", b"c"], Framing::Lines, false), b"ab\n\nc\n");
    assert_eq!(write(&[b"ab"], Framing::U32be, false), b"\0\0\0\x02ab");
    assert_eq!(write(&[b"ab", b"c"], Framing::Whole, false), b"abc");
}

#[test]
fn the_last_line_may_lack_its_end() {
    assert_eq!(read("a\n\nb", Framing::Lines).expect("sound"), [&b"a"[..], b"", b"b"]);
    // A carriage return is a byte as others are.
    assert_eq!(read("a\r\n", Framing::Lines).expect("sound"), [b"a\r"]);
}

#[test]
fn an_input_taken_whole_is_one_message_whatever_is_in_it() {
    let packed = write(&[b"a", b"b"], Framing::Lines, true);
    for bytes in [b"a\nb\n".to_vec(), Vec::new(), packed] {
        assert_eq!(read(bytes.clone(), Framing::Whole).expect("short"), [bytes]);
    }
}

#[test]
fn a_message_over_the_most_is_refused_before_it_is_read() {
    let most = MAX_U16_BYTES;
    let above = Length::Above(most);
    for (bytes, framing, place, length) in [
        ([b"ab\n".as_slice(), &vec![b'x'; most + 1]].concat(), Framing::Lines, 3, above),
        (vec![0; most + 1], Framing::Whole, 0, above),
        (b"\0\0\0\x01x\xff\xff\xff\xff".to_vec(), Framing::U32be, 5, Length::Is(u32::MAX.into())),
    ] {
        match read(bytes, framing).expect_err("too long") {
            ReadError::TooLong { at, bytes, most: told } => {
                assert_eq!((at, bytes, told), (place, length, most), "{framing:?}");
            }
            other => panic!("{framing:?}: {other}"),
        }
    }
}

#[test]
fn a_cut_length_field_is_told() {
    let error = read(b"\0\0\0\x01x\0\0".to_vec(), Framing::U32be).expect_err("cut");
    assert!(matches!(error, ReadError::Truncated { at: 5, got: 2, wanted: 4 }), "{error}");
}

#[test]
fn it_is_known_whether_the_next_message_is_here() {
    for (bytes, framing, here) in [
        (&b"a\nb\n"[..], Framing::Lines, true),
        (b"a\nb", Framing::Lines, false),
        (b"\0\x01a\0\x02b", Framing::U16be, false),
        (b"\0\x01a\0\x01b", Framing::U16be, true),
        (b"\0\0\0\x01a\0\0\0", Framing::U32be, false),
    ] {
        let mut reader = MessageReader::new(Cursor::new(bytes.to_vec()), framing).expect("sound");
        assert_eq!(reader.next_message().expect("sound"), Some(&b"a"[..]));
        assert_eq!(reader.has_next(), here, "{bytes:?}");
    }
}
