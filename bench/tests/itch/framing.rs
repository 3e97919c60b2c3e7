//! Files of messages: what is written is read, what is damaged or cut is noticed and located.

use std::io::{self, Read};

use mstream_bench::itch::check::{CheckError, Strictness, check};
use mstream_bench::itch::message::ShapeError;
use mstream_framing::{Framing, MAX_U16_BYTES, MessageReader, MessageWriter, ReadError};

use crate::{Messages, gzip, plain, read_all, reader, session};

#[test]
fn messages_survive_the_framing_plain_and_packed() {
    let mut messages = session(9, 2_000);
    messages.push(vec![0xAB; MAX_U16_BYTES]);
    messages.push(vec![]);
    for (bytes, packed) in [(plain(&messages), false), (gzip(&messages), true)] {
        let reader = reader(bytes);
        assert_eq!(reader.is_gzip(), packed);
        assert_eq!(read_all(reader).unwrap(), messages);
    }
    // Several gzip members one behind the other, cut anywhere, are one file.
    let (head, tail) = messages.split_at(700);
    assert_eq!(read_all(reader([gzip(head), gzip(tail)].concat())).unwrap(), messages);
    assert_eq!(read_all(reader(vec![])).unwrap(), Messages::new());
}

#[test]
fn a_message_over_the_length_field_is_refused_and_not_written() {
    let mut writer = MessageWriter::plain(Vec::new(), Framing::BinaryFile);
    let error = writer.write(&[0; MAX_U16_BYTES + 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("65536 bytes"), "{error}");
    writer.write(b"x").unwrap();
    assert_eq!(writer.finish().unwrap(), [0, 1, b'x']);
}

#[test]
fn a_cut_file_is_noticed_wherever_it_is_cut() {
    let messages = session(2, 8);
    let whole = plain(&messages);
    let starts: Vec<usize> = messages
        .iter()
        .scan(0, |at, message| {
            let start = *at;
            *at += 2 + message.len();
            Some(start)
        })
        .collect();
    for length in 0..whole.len() {
        let cut = read_all(reader(whole[..length].to_vec()));
        let start = *starts.iter().rfind(|start| **start <= length).unwrap();
        if start == length {
            assert_eq!(cut.unwrap().len(), starts.iter().position(|s| *s == length).unwrap());
            continue;
        }
        match cut.unwrap_err() {
            ReadError::Truncated { at, got, wanted } => {
                assert_eq!((at, got), (start as u64, length - start));
                assert!(wanted > got);
            }
            other => panic!("cut to {length}: {other}"),
        }
    }
    // A packed one cannot be cut without damage to the gzip itself.
    let packed = gzip(&messages);
    for length in 2..packed.len() {
        let cut = read_all(reader(packed[..length].to_vec()));
        assert!(matches!(cut, Err(ReadError::Read { .. })), "cut to {length}");
    }
}

#[test]
fn damaged_files_are_noticed_with_their_position() {
    let messages = session(2, 3_000);
    // A byte of the packed data, of its checksum and of a length field.
    let packed = gzip(&messages);
    for damaged in [packed.len() / 2, packed.len() - 6] {
        let mut bytes = packed.clone();
        bytes[damaged] ^= 0x55;
        assert!(check(reader(bytes), Strictness::Lenient).is_err());
    }
    let mut bytes = plain(&messages);
    bytes[1] += 1;
    match check(reader(bytes), Strictness::Lenient).unwrap_err() {
        CheckError::Shape { message: 0, at: 0, source: ShapeError::Length { length: 13, .. } } => {}
        other => panic!("{other}"),
    }
    // Something behind the end mark.
    let mut bytes = plain(&[messages, vec![vec![]]].concat());
    assert!(check(reader(bytes.clone()), Strictness::Strict).is_ok());
    let end = bytes.len() as u64;
    bytes.push(7);
    match check(reader(bytes), Strictness::Strict).unwrap_err() {
        CheckError::Framing { message: 3_000, source: ReadError::BehindEnd { at } } => {
            assert_eq!(at, end);
        }
        other => panic!("{other}"),
    }
}

/// Gives one byte at a time, interrupted before each, and fails behind them.
struct Failing(Vec<u8>, bool);

impl Read for Failing {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.0.is_empty() {
            return Err(io::Error::other("the disk is gone"));
        }
        room[0] = self.0.remove(0);
        Ok(1)
    }
}

#[test]
fn a_failing_input_says_where() {
    let mut reader =
        MessageReader::new(Failing(vec![0, 1, b'x', 0, 5, b'y'], false), Framing::BinaryFile)
            .unwrap();
    assert_eq!(reader.next_message().unwrap(), Some(&b"x"[..]));
    let error = reader.next_message().unwrap_err();
    assert_eq!(error.to_string(), "at byte 6: the disk is gone");
}
