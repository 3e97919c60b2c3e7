//! Sizes and tokens of pages.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::{Answer, MOST_ITEMS, PAGE_ITEMS, PATIENCE, Page};
use crate::catalogue::MAX_NAME_BYTES;

/// A page of a report is given out as it is when filling it took this long.
const ENOUGH: Duration = Duration::from_secs(2);

/// How many items a page has.
pub(super) fn size(asked: u32) -> Result<usize, Status> {
    match asked as usize {
        0 => Ok(PAGE_ITEMS),
        size if size <= MOST_ITEMS => Ok(size),
        size => Err(Status::invalid_argument(format!(
            "page_size: {size} is more than {MOST_ITEMS}; lists go on with next_page"
        ))),
    }
}

/// A list by name goes on behind this one.
pub(super) fn check_name_token<'a>(field: &str, token: &'a str) -> Result<&'a str, Status> {
    match token.len() <= MAX_NAME_BYTES {
        true => Ok(token),
        false => Err(Status::invalid_argument(format!(
            "{field}: {} bytes; names have at most {MAX_NAME_BYTES}",
            token.len()
        ))),
    }
}

/// A place in the reports of all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    shard: u32,
    from: u32,
}

impl Place {
    fn parse(token: &str) -> Result<Place, Status> {
        if token.is_empty() {
            return Ok(Place { shard: 0, from: 0 });
        }
        let parse = || {
            let (shard, from) = token.split_once('.')?;
            Some(Place { shard: shard.parse().ok()?, from: from.parse().ok()? })
        };
        parse().ok_or_else(|| Status::invalid_argument("page: not a next_page of this list"))
    }
}

/// One page over the reports of `shards` shards: asks each from where it ended until `size` rows are there that
/// `keep` wants, all shards ended, or it took long enough. The rows, and the token of the next page.
pub(super) async fn gather<T>(
    shards: u32,
    token: &str,
    size: usize,
    ask: impl Fn(u32, u32, usize) -> Answer<Page<T>>,
    keep: impl Fn(&T) -> bool,
) -> Result<(Vec<T>, String), Status> {
    let mut place = Place::parse(token)?;
    let begun = Instant::now();
    let mut rows = Vec::new();
    while place.shard < shards && rows.len() < size && begun.elapsed() < ENOUGH {
        let answer = ask(place.shard, place.from, size - rows.len());
        let page = wait(place.shard, answer, begun + PATIENCE).await?;
        rows.extend(page.rows.into_iter().filter(|row| keep(row)));
        place = match page.next {
            Some(from) => Place { from, ..place },
            None => Place { shard: place.shard + 1, from: 0 },
        };
    }
    let next = match place.shard < shards {
        true => format!("{}.{}", place.shard, place.from),
        false => String::new(),
    };
    Ok((rows, next))
}

/// Waits for the answer to a question that changes nothing.
pub(super) async fn wait<T>(shard: u32, answer: Answer<T>, deadline: Instant) -> Result<T, Status> {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Status::unavailable("the node is stopping")),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "shard {shard} did not answer in {} s",
            PATIENCE.as_secs()
        ))),
    }
}
