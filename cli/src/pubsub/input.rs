//! Messages from a file or standard input, read in a thread of its own: the client must be polled while
//! there is no input.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use mstream_framing::{Framing, MessageReader, ReadError};

use crate::failure::Failure;

/// A chunk is handed over when it has so many bytes, or when more would have to be waited for.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that are read ahead.
const AHEAD: usize = 8;

/// Some messages, one behind the other.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Where each ends, in `bytes` and in the input.
    ends: Vec<(usize, u64)>,
}

/// Messages, one at a time.
pub(super) struct Input {
    name: String,
    standard: bool,
    chunks: Receiver<Result<Chunk, ReadError>>,
    chunk: Chunk,
    /// Messages of the chunk that were taken.
    taken: usize,
    position: u64,
    size: Option<u64>,
}

/// What an input has.
pub(super) enum Next {
    /// A message is at hand.
    Message,
    /// None yet.
    Nothing,
    /// There will be none.
    End,
}

impl Input {
    /// Opens a file, or standard input.
    pub(super) fn open(file: Option<&Path>, framing: Framing) -> Result<Input, Failure> {
        let (sender, chunks) = sync_channel(AHEAD);
        let (name, size) = match file {
            Some(path) => {
                let name = path.display().to_string();
                let failed = |error: &dyn std::fmt::Display| format!("{name}: {error}");
                let file = File::open(path).map_err(|error| failed(&error))?;
                let meta = file.metadata().map_err(|error| failed(&error))?;
                if meta.is_dir() {
                    return Err(failed(&"is a directory").into());
                }
                let size = meta.is_file().then_some(meta.len());
                let reader = MessageReader::new(file, framing).map_err(|error| failed(&error))?;
                let size = size.filter(|_| !reader.is_gzip());
                std::thread::spawn(move || read(reader, &sender));
                (name, size)
            }
            None => {
                std::thread::spawn(move || match MessageReader::new(io::stdin(), framing) {
                    Ok(reader) => read(reader, &sender),
                    // Nobody takes it once the program ends.
                    Err(error) => drop(sender.send(Err(error))),
                });
                ("standard input".into(), None)
            }
        };
        let standard = file.is_none();
        Ok(Input { name, standard, chunks, chunk: Chunk::default(), taken: 0, position: 0, size })
    }

    /// True when it is standard input.
    pub(super) fn is_standard(&self) -> bool {
        self.standard
    }

    /// Bytes of the input, if they are known.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Bytes of the input up to the message that was taken last.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Looks for the next message.
    pub(super) fn look(&mut self) -> Result<Next, String> {
        while self.taken == self.chunk.ends.len() {
            match self.chunks.try_recv() {
                Ok(Ok(chunk)) => (self.chunk, self.taken) = (chunk, 0),
                Ok(Err(error)) => return Err(format!("{}: {error}", self.name)),
                Err(TryRecvError::Empty) => return Ok(Next::Nothing),
                Err(TryRecvError::Disconnected) => return Ok(Next::End),
            }
        }
        Ok(Next::Message)
    }

    /// The message at hand.
    pub(super) fn message(&self) -> &[u8] {
        let start = self.taken.checked_sub(1).map_or(0, |before| self.chunk.ends[before].0);
        let end = self.chunk.ends.get(self.taken).map_or(start, |end| end.0);
        &self.chunk.bytes[start..end]
    }

    /// The message at hand was used.
    pub(super) fn take(&mut self) {
        if let Some((_, position)) = self.chunk.ends.get(self.taken) {
            self.position = *position;
            self.taken += 1;
        }
    }
}

/// Reads until the input ends, or nobody wants more.
fn read(mut reader: MessageReader, sender: &SyncSender<Result<Chunk, ReadError>>) {
    let mut chunk = Chunk::default();
    loop {
        match reader.next_message() {
            Ok(Some(message)) => chunk.bytes.extend_from_slice(message),
            end => {
                // What was read before is published before the error is told.
                if sender.send(Ok(chunk)).is_ok()
                    && let Err(error) = end
                {
                    let _ = sender.send(Err(error));
                }
                return;
            }
        }
        chunk.ends.push((chunk.bytes.len(), reader.position()));
        if (chunk.bytes.len() >= CHUNK_BYTES || !reader.has_next())
            && sender.send(Ok(std::mem::take(&mut chunk))).is_err()
        {
            return;
        }
    }
}
