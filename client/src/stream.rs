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
    /// Id as the protocol says it: 0 where the name tells.
    pub(crate) fn id(&self) -> u64 {
        match self {
            StreamRef::Id(id) => *id,
            StreamRef::Name(_) => 0,
        }
    }

    pub(crate) fn name(&self) -> &[u8] {
        match self {
            StreamRef::Id(_) => &[],
            StreamRef::Name(name) => name.as_bytes(),
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
