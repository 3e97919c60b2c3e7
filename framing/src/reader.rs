//! Reading messages.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::{BUFFER_BYTES, Framing, MAX_U16_BYTES};

const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];

/// Why an input cannot be read on. Positions are byte offsets in the unpacked input.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input failed, or is damaged gzip.
    #[error("at byte {at}: {source}")]
    Read {
        /// Bytes that were read before.
        at: u64,
        /// What happened.
        source: io::Error,
    },
    /// The input ends inside a message or its length.
    #[error("at byte {at}: the message that starts here is cut off after {got} of {wanted} bytes")]
    Truncated {
        /// Where the message's length field starts.
        at: u64,
        /// Bytes of length field and message that are there.
        got: usize,
        /// Bytes of both that should be.
        wanted: usize,
    },
    /// A message is longer than the reader takes.
    #[error("at byte {at}: the message that starts here has {bytes} bytes, the most is {most}")]
    TooLong {
        /// Where the message, or its length field, starts.
        at: u64,
        /// Its bytes; where no length field says them, "more than N".
        bytes: Length,
        /// The most bytes of a message.
        most: usize,
    },
    /// Something follows the end mark.
    #[error("at byte {at}: there is more behind the end of the session")]
    BehindEnd {
        /// The first byte behind the end mark.
        at: u64,
    },
}

/// Bytes of a message that was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As its length field says.
    Is(u64),
    /// More than these.
    Above(usize),
}

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Length::Is(bytes) => write!(f, "{bytes}"),
            Length::Above(bytes) => write!(f, "more than {bytes}"),
        }
    }
}

/// Reads messages one by one.
pub struct MessageReader {
    input: BufReader<Box<dyn Read + Send>>,
    framing: Framing,
    most: usize,
    message: Vec<u8>,
    at: u64,
    next: u64,
    ended: bool,
    gzip: bool,
}

impl MessageReader {
    /// Opens a file of messages of at most 65,535 bytes.
    ///
    /// # Errors
    /// It cannot be opened or its first bytes cannot be read.
    pub fn open(path: &Path, framing: Framing) -> Result<MessageReader, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Read { at: 0, source })?;
        MessageReader::new(file, framing)
    }

    /// Reads messages of at most 65,535 bytes from `input`, which is gzip (of one or several members) if it
    /// starts like it, and is not taken whole. (Text does not; a session of market data would begin with a
    /// message of 8,075 bytes.)
    ///
    /// # Errors
    /// The first bytes cannot be read.
    pub fn new(
        mut input: impl Read + Send + 'static,
        framing: Framing,
    ) -> Result<MessageReader, ReadError> {
        let mut start = [0; 2];
        let mut got = 0;
        // One after the other: somebody who types waits for nothing more than was typed.
        while framing != Framing::Whole && got < 2 && (got == 0 || start[0] == GZIP_MAGIC[0]) {
            let (more, end) = fill(&mut input, &mut start[got..=got]);
            end.map_err(|source| ReadError::Read { at: 0, source })?;
            if more == 0 {
                break;
            }
            got += more;
        }
        let gzip = got == 2 && start == GZIP_MAGIC;
        let input = Cursor::new(start).take(got as u64).chain(input);
        let input: Box<dyn Read + Send> = match gzip {
            true => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, input))),
            false => Box::new(input),
        };
        Ok(MessageReader {
            input: BufReader::with_capacity(BUFFER_BYTES, input),
            framing,
            most: MAX_U16_BYTES,
            message: Vec::new(),
            at: 0,
            next: 0,
            ended: false,
            gzip,
        })
    }

    /// True when the input is packed.
    pub fn is_gzip(&self) -> bool {
        self.gzip
    }

    /// Where the last message, or its length field, starts, in bytes of the unpacked input.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes of the unpacked input up to the end of the last message.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// True when the next message is here already: asking for it does not wait for the input.
    pub fn has_next(&self) -> bool {
        let here = self.input.buffer();
        let prefix = self.framing.prefix_bytes();
        match self.framing {
            Framing::Lines => here.contains(&b'\n'),
            Framing::Whole => false,
            _ => here
                .get(..prefix)
                .is_some_and(|length| (here.len() - prefix) as u64 >= big_endian(length)),
        }
    }

    /// The next message, bare; `None` at the end. After an error there is no point in going on.
    ///
    /// # Errors
    /// The input fails, ends inside a message, goes on behind an end mark, or a message is too long.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.at = self.next;
        let there = match self.framing {
            Framing::Lines => self.read_line()?,
            Framing::Whole => self.read_whole()?,
            _ => self.read_prefixed()?,
        };
        Ok(there.then_some(&self.message))
    }

    fn read_line(&mut self) -> Result<bool, ReadError> {
        self.message.clear();
        let room = self.most as u64 + 1;
        let read = (&mut self.input).take(room).read_until(b'\n', &mut self.message);
        self.next += read.map_err(|error| self.failed(self.message.len(), error))? as u64;
        let read = self.message.len();
        if self.message.last() == Some(&b'\n') {
            self.message.pop();
        }
        self.check_length()?;
        Ok(read > 0)
    }

    fn read_whole(&mut self) -> Result<bool, ReadError> {
        if self.ended {
            return Ok(false);
        }
        self.message.clear();
        let room = self.most as u64 + 1;
        let read = (&mut self.input).take(room).read_to_end(&mut self.message);
        self.next += read.map_err(|error| self.failed(self.message.len(), error))? as u64;
        self.check_length()?;
        self.ended = true;
        Ok(true)
    }

    fn read_prefixed(&mut self) -> Result<bool, ReadError> {
        let mut length = [0; 4];
        let prefix = self.framing.prefix_bytes();
        let length = &mut length[..prefix];
        let at = self.at;
        let got = self.fill_from(length, 0)?;
        if got == 0 {
            return Ok(false);
        }
        if self.ended {
            return Err(ReadError::BehindEnd { at });
        }
        if got < prefix {
            return Err(ReadError::Truncated { at, got, wanted: prefix });
        }
        let length = big_endian(length);
        if length > self.most as u64 {
            let bytes = Length::Is(length);
            return Err(ReadError::TooLong { at, bytes, most: self.most });
        }
        let bytes = length as usize;
        let mut message = std::mem::take(&mut self.message);
        message.resize(bytes, 0);
        let got = self.fill_from(&mut message, prefix);
        self.message = message;
        let got = got?;
        if got < bytes {
            return Err(ReadError::Truncated { at, got: prefix + got, wanted: prefix + bytes });
        }
        self.ended = bytes == 0 && self.framing == Framing::BinaryFile;
        self.next = at + (prefix + bytes) as u64;
        Ok(true)
    }

    fn check_length(&self) -> Result<(), ReadError> {
        match self.message.len() > self.most {
            true => {
                let bytes = Length::Above(self.most);
                Err(ReadError::TooLong { at: self.at, bytes, most: self.most })
            }
            false => Ok(()),
        }
    }

    fn fill_from(&mut self, room: &mut [u8], before: usize) -> Result<usize, ReadError> {
        let (got, end) = fill(&mut self.input, room);
        end.map_err(|source| self.failed(before + got, source))?;
        Ok(got)
    }

    /// An error of the input, so many bytes behind the start of the message.
    fn failed(&self, behind: usize, source: io::Error) -> ReadError {
        ReadError::Read { at: self.at + behind as u64, source }
    }
}

impl std::fmt::Debug for MessageReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageReader").field("at", &self.at).finish_non_exhaustive()
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads until `room` is full or the input ends; how far it came, and whether that was an error.
fn fill(input: &mut impl Read, room: &mut [u8]) -> (usize, io::Result<()>) {
    let mut got = 0;
    while got < room.len() {
        match input.read(&mut room[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (got, Err(error)),
        }
    }
    (got, Ok(()))
}
