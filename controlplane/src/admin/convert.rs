//! Values of the catalogue as values of the API, and back.

use mstream_admin::v1;
use mstream_pmem::region::Level;
use tonic::{Code, Status};

use crate::catalogue::{JournalError, Publisher, Refusal, Rules, Stream, StreamKey, Watermark};

/// The API's word for a level.
pub fn level(level: Level) -> v1::Level {
    match level {
        Level::Process => v1::Level::Process,
        Level::PmemEmulated => v1::Level::PmemEmulated,
        Level::MediaSync => v1::Level::MediaSync,
        Level::Pmem => v1::Level::Pmem,
    }
}

fn failure(code: Code, message: impl Into<String>) -> v1::Failure {
    v1::Failure { code: code as i32, message: message.into() }
}

/// The rules of a request; none are the defaults.
pub(super) fn rules(rules: Option<v1::Rules>) -> Result<Rules, v1::Failure> {
    let Some(rules) = rules else { return Ok(Rules::default()) };
    let unknown = |what: &str, number: i32| {
        failure(Code::InvalidArgument, format!("{what}: unknown value {number}"))
    };
    Ok(Rules {
        watermark: match v1::Watermark::try_from(rules.watermark) {
            Ok(v1::Watermark::Unspecified | v1::Watermark::Committed) => Watermark::Committed,
            Ok(v1::Watermark::Persisted) => Watermark::Persisted,
            Err(_) => return Err(unknown("watermark", rules.watermark)),
        },
        minimum_level: match v1::Level::try_from(rules.minimum_level) {
            Ok(v1::Level::Unspecified) => None,
            Ok(v1::Level::Process) => Some(Level::Process),
            Ok(v1::Level::PmemEmulated) => Some(Level::PmemEmulated),
            Ok(v1::Level::MediaSync) => Some(Level::MediaSync),
            Ok(v1::Level::Pmem) => Some(Level::Pmem),
            Err(_) => return Err(unknown("minimum_level", rules.minimum_level)),
        },
        retention_bytes: rules.retention_bytes,
        retention_ms: rules.retention_ms,
        max_block_bytes: rules.max_block_bytes,
        max_publications: rules.max_publications,
        max_subscriptions: rules.max_subscriptions,
        cold: rules.cold || rules.newest_per_key,
        newest_per_key: rules.newest_per_key,
    })
}

pub(super) fn stream(stream: &Stream) -> v1::Stream {
    let rules = &stream.rules;
    let watermark = match rules.watermark {
        Watermark::Persisted => v1::Watermark::Persisted,
        Watermark::Committed => v1::Watermark::Committed,
    };
    v1::Stream {
        id: stream.id,
        name: stream.name.to_string(),
        shard: stream.shard,
        rules: Some(v1::Rules {
            watermark: watermark.into(),
            minimum_level: rules.minimum_level.map_or(0, |found| level(found).into()),
            retention_bytes: rules.retention_bytes,
            retention_ms: rules.retention_ms,
            max_block_bytes: rules.max_block_bytes,
            max_publications: rules.max_publications,
            max_subscriptions: rules.max_subscriptions,
            cold: rules.cold,
            newest_per_key: rules.newest_per_key,
        }),
        created_ns: stream.created_ns,
    }
}

pub(super) fn publisher(publisher: &Publisher) -> v1::Publisher {
    v1::Publisher {
        id: publisher.id,
        name: publisher.name.to_string(),
        created_ns: publisher.created_ns,
    }
}

pub(super) fn key(key: Option<v1::StreamKey>) -> Result<StreamKey, v1::Failure> {
    match key.and_then(|key| key.key) {
        Some(v1::stream_key::Key::Id(id)) => Ok(StreamKey::Id(id)),
        Some(v1::stream_key::Key::Name(name)) => Ok(StreamKey::Name(name.into())),
        None => {
            Err(failure(Code::InvalidArgument, "a stream is named by id or name: neither is set"))
        }
    }
}

pub(super) fn refusal(refusal: &Refusal) -> v1::Failure {
    let code = match refusal {
        Refusal::NameTaken { .. } | Refusal::IdTaken { .. } => Code::AlreadyExists,
        Refusal::NoStream(_) => Code::NotFound,
        Refusal::ShardFull { .. } | Refusal::PublishersFull { .. } | Refusal::NoIdsLeft(_) => {
            Code::ResourceExhausted
        }
        Refusal::Name(_)
        | Refusal::NoShard { .. }
        | Refusal::BlockBytes { .. }
        | Refusal::IdOutOfRange(_) => Code::InvalidArgument,
        Refusal::Level { .. }
        | Refusal::IdUsed { .. }
        | Refusal::ShardGone { .. }
        | Refusal::LimitTooLow { .. }
        | Refusal::LevelGone { .. } => Code::FailedPrecondition,
    };
    failure(code, refusal.to_string())
}

/// A journal that failed, as an answer to the whole call: nothing was changed.
pub(super) fn journal(error: &JournalError) -> Status {
    match error {
        JournalError::NotWritten { .. } => {
            Status::unavailable(format!("nothing was changed: {error}"))
        }
        JournalError::Closed { .. } => Status::internal(format!("nothing was changed: {error}")),
    }
}

pub(super) fn status(failure: v1::Failure) -> Status {
    Status::new(Code::from(failure.code), failure.message)
}
