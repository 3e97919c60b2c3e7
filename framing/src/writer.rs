//! Writing messages.

use std::io::{self, BufWriter, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::{BUFFER_BYTES, Framing};

enum Output<W: Write> {
    Plain(BufWriter<W>),
    Gzip(BufWriter<GzEncoder<W>>),
}

/// Writes messages one by one.
pub struct MessageWriter<W: Write> {
    output: Output<W>,
    framing: Framing,
}

impl<W: Write> MessageWriter<W> {
    /// Writes plain messages.
    pub fn plain(output: W, framing: Framing) -> MessageWriter<W> {
        let output = Output::Plain(BufWriter::with_capacity(BUFFER_BYTES, output));
        MessageWriter { output, framing }
    }

    /// Writes gzip.
    pub fn gzip(output: W, framing: Framing) -> MessageWriter<W> {
        let encoder = GzEncoder::new(output, Compression::fast());
        let output = Output::Gzip(BufWriter::with_capacity(BUFFER_BYTES, encoder));
        MessageWriter { output, framing }
    }

    /// Writes one message.
    ///
    /// # Errors
    /// The output fails, or ([`io::ErrorKind::InvalidInput`], with nothing written) the message is longer
    /// than its length field can say.
    pub fn write(&mut self, message: &[u8]) -> io::Result<()> {
        let bytes = message.len();
        let prefix = self.framing.prefix_bytes();
        let length = (bytes as u64).to_be_bytes();
        let (zeros, length) = length.split_at(length.len() - prefix);
        if prefix > 0 && zeros.iter().any(|byte| *byte != 0) {
            let most = (1u64 << (8 * prefix)) - 1;
            let reason = format!("a message of {bytes} bytes is over {most}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let output: &mut dyn Write = match &mut self.output {
            Output::Plain(output) => output,
            Output::Gzip(output) => output,
        };
        output.write_all(length)?;
        output.write_all(message)?;
        match self.framing {
            Framing::Lines => output.write_all(b"\n"),
            _ => Ok(()),
        }
    }

    /// Hands on what is buffered, so that a reader can have it.
    ///
    /// # Errors
    /// The output fails.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.output {
            Output::Plain(output) => output.flush(),
            Output::Gzip(output) => output.flush(),
        }
    }

    /// Writes what is still buffered and gives the output back. A writer that is dropped without it may
    /// leave the file unfinished, without telling.
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

impl<W: Write> std::fmt::Debug for MessageWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageWriter").field("framing", &self.framing).finish_non_exhaustive()
    }
}
