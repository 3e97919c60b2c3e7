//! Commands over the admin API.

pub(crate) mod backlog;
pub(crate) mod config;
mod connection;
pub(crate) mod errors;
mod names;
pub(crate) mod publishers;
pub(crate) mod sessions;
pub(crate) mod status;
pub(crate) mod streams;
pub(crate) mod words;

pub(crate) use self::connection::Admin;
pub(crate) use self::names::spinner;

use mstream_admin::v1::StreamKey;
use mstream_admin::v1::stream_key::Key;

use crate::failure::Failure;

/// Items of one request, and of one page, at most.
const PAGE: u32 = 10_000;

/// A stream by what a person wrote: a name, or an id.
pub(crate) fn stream_key(text: &str, id: bool) -> Result<StreamKey, Failure> {
    let key = match id {
        false => Key::Name(text.into()),
        true => Key::Id(stream_id(text)?),
    };
    Ok(StreamKey { key: Some(key) })
}

/// A stream's id in text.
pub(crate) fn stream_id(text: &str) -> Result<u64, Failure> {
    match text.parse() {
        Ok(0) | Err(_) => {
            Err(Failure::Usage(format!("{text} is no stream id: those are numbers from 1")))
        }
        Ok(id) => Ok(id),
    }
}
