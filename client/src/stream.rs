//! How a client names a stream.

/// A stream, by id or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamRef {
    /// Stream id, not 0.
    Id(u64),
    /// Stream name.
    Name(String),
}

impl StreamRef {
    /// Id and name as the protocol says them: 0 where the name tells. A stream that is `known` already is asked for by its
    /// id: another one may have its name by now.
    pub(crate) fn asked(&self, known: Option<u64>) -> (u64, &[u8]) {
        match (known, self) {
            (Some(id), _) => (id, &[]),
            (None, StreamRef::Id(id)) => (*id, &[]),
            (None, StreamRef::Name(name)) => (0, name.as_bytes()),
        }
    }
}

impl From<u64> for StreamRef {
    fn from(id: u64) -> StreamRef {
        StreamRef::Id(id)
    }
}

impl From<&str> for StreamRef {
    fn from(name: &str) -> StreamRef {
        StreamRef::Name(name.into())
    }
}
