//! Files of messages: Nasdaq's BinaryFILE framing, plain or in gzip.
//!
//! Each message stands behind its length in 2 bytes, big-endian. A message of length 0 marks the end
//! of a session: it comes out of the reader like any other, so that a copy has it too, but nothing may
//! follow it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

/// The most bytes of a message: what its length field can say.
pub const MAX_FRAMED_BYTES: usize = u16::MAX as usize;
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];
const BUFFER_BYTES: usize = 256 * 1024;

/// Why a file cannot be read on. Positions are byte offsets in the unpacked file.
#[derive(Debug, thiserror::Error)]
pub enum FramingError {
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
    /// Something follows the end mark.
    #[error("at byte {at}: there is more behind the end of the session")]
    BehindEnd {
        /// The first byte behind the end mark.
        at: u64,
    },
}

type Input = Box<dyn BufRead + Send>;

/// Reads messages one by one.
pub struct FrameReader {
    input: Input,
    message: Vec<u8>,
    at: u64,
    next: u64,
    ended: bool,
    gzip: bool,
}

impl FrameReader {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened or its first bytes cannot be read.
    pub fn open(path: &Path) -> Result<FrameReader, FramingError> {
        let file = File::open(path).map_err(|source| FramingError::Read { at: 0, source })?;
        FrameReader::new(file)
    }

    /// Reads from `input`, which is gzip (of one or several members) if it starts like it. (A plain
    /// session cannot: its first message would have 8,075 bytes.)
    ///
    /// # Errors
    /// The first bytes cannot be read.
    pub fn new(mut input: impl Read + Send + 'static) -> Result<FrameReader, FramingError> {
        let mut start = [0; 2];
        let (got, end) = fill(&mut input, &mut start);
        end.map_err(|source| FramingError::Read { at: 0, source })?;
        let gzip = got == 2 && start == GZIP_MAGIC;
        let start = Cursor::new(start).take(got as u64);
        let input = BufReader::with_capacity(BUFFER_BYTES, start.chain(input));
        let input: Input = if gzip {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(input)))
        } else {
            Box::new(input)
        };
        Ok(FrameReader { input, message: Vec::new(), at: 0, next: 0, ended: false, gzip })
    }

    /// True when the input is packed.
    pub fn is_gzip(&self) -> bool {
        self.gzip
    }

    /// Where the last message's length field starts, in bytes of the unpacked file.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The next message without its length field; `None` at the end. After an error there is no
    /// point in going on.
    ///
    /// # Errors
    /// The input fails, ends inside a message, or goes on behind the end mark.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FramingError> {
        self.at = self.next;
        let mut length = [0; 2];
        let got = self.fill_from(&mut length, 0)?;
        if got == 0 {
            return Ok(None);
        }
        if self.ended {
            return Err(FramingError::BehindEnd { at: self.at });
        }
        if got < length.len() {
            return Err(FramingError::Truncated { at: self.at, got, wanted: length.len() });
        }
        let length = usize::from(u16::from_be_bytes(length));
        let mut message = std::mem::take(&mut self.message);
        message.resize(length, 0);
        let got = self.fill_from(&mut message, 2);
        self.message = message;
        let got = got?;
        if got < length {
            return Err(FramingError::Truncated { at: self.at, got: 2 + got, wanted: 2 + length });
        }
        self.ended = length == 0;
        self.next = self.at + 2 + length as u64;
        Ok(Some(&self.message))
    }

    fn fill_from(&mut self, room: &mut [u8], before: u64) -> Result<usize, FramingError> {
        let (got, end) = fill(&mut self.input, room);
        end.map_err(|source| FramingError::Read { at: self.at + before + got as u64, source })?;
        Ok(got)
    }
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader").field("at", &self.at).finish_non_exhaustive()
    }
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

enum Output<W: Write> {
    Plain(BufWriter<W>),
    Gzip(BufWriter<GzEncoder<W>>),
}

/// Writes messages one by one.
pub struct FrameWriter<W: Write> {
    output: Output<W>,
}

impl<W: Write> FrameWriter<W> {
    /// Writes plain framing.
    pub fn plain(output: W) -> FrameWriter<W> {
        FrameWriter { output: Output::Plain(BufWriter::with_capacity(BUFFER_BYTES, output)) }
    }

    /// Writes gzip.
    pub fn gzip(output: W) -> FrameWriter<W> {
        let encoder = GzEncoder::new(output, Compression::fast());
        FrameWriter { output: Output::Gzip(BufWriter::with_capacity(BUFFER_BYTES, encoder)) }
    }

    /// Writes one message; an empty one marks the end of the session.
    ///
    /// # Errors
    /// The output fails, or ([`io::ErrorKind::InvalidInput`], with nothing written) the message is
    /// longer than [`MAX_FRAMED_BYTES`].
    pub fn write(&mut self, message: &[u8]) -> io::Result<()> {
        let Ok(length) = u16::try_from(message.len()) else {
            let reason = format!("a message of {} bytes is over 65,535", message.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        };
        let output: &mut dyn Write = match &mut self.output {
            Output::Plain(output) => output,
            Output::Gzip(output) => output,
        };
        output.write_all(&length.to_be_bytes())?;
        output.write_all(message)
    }

    /// Writes what is still buffered and gives the output back. A writer that is dropped without it
    /// may leave the file unfinished, without telling.
    ///
    /// # Errors
    /// The output fails.
    pub fn finish(self) -> io::Result<W> {
        let mut output = match self.output {
            Output::Plain(output) => output.into_inner().map_err(io::IntoInnerError::into_error)?,
            Output::Gzip(output) => {
                output.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?
            }
        };
        output.flush()?;
        Ok(output)
    }
}

impl<W: Write> std::fmt::Debug for FrameWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameWriter").finish_non_exhaustive()
    }
}
