//! Where a publisher's messages come from.

use mstream_bench::itch::generate::Session;
use mstream_framing::{Framing, MessageReader};

use crate::Failure;
use crate::cli::PublishArgs;
use crate::itch_command::failed;
use crate::pattern::Pattern;

/// Messages, one at a time, each until the next is asked for.
pub(super) struct Source {
    from: From,
    message: Vec<u8>,
}

enum From {
    Itch(Box<Session>),
    File { reader: MessageReader, name: String },
    Numbered { pattern: Pattern, next: u64, end: u64 },
}

impl Source {
    pub(super) fn open(args: &PublishArgs) -> Result<Source, Failure> {
        let source = &args.source;
        let from = if let Some(seed) = source.itch_seed {
            let messages = args.messages.unwrap_or_default();
            From::Itch(Box::new(Session::new(seed, messages).map_err(|error| error.to_string())?))
        } else if let Some(path) = &source.input {
            let reader = MessageReader::open(path, Framing::BinaryFile)
                .map_err(|error| failed(path, &error))?;
            From::File { reader, name: path.display().to_string() }
        } else {
            let pattern = Pattern::new(args.seed, args.size.into());
            From::Numbered { pattern, next: 0, end: source.count.unwrap_or_default() }
        };
        Ok(Source { from, message: Vec::new() })
    }

    /// Goes on to the next message; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, Failure> {
        let Source { from, message } = self;
        match from {
            From::Itch(session) => {
                let Some(next) = session.next() else { return Ok(false) };
                message.clear();
                message.extend_from_slice(&next);
            }
            From::File { reader, name } => {
                let next = reader.next_message().map_err(|error| format!("{name}: {error}"))?;
                let Some(next) = next else { return Ok(false) };
                message.clear();
                message.extend_from_slice(next);
            }
            From::Numbered { pattern, next, end } => {
                if next == end {
                    return Ok(false);
                }
                message.resize(pattern.size(), 0);
                pattern.fill(*next, message);
                *next += 1;
            }
        }
        Ok(true)
    }

    /// The message at hand.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }
}
