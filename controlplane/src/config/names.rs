//! Checks of streams and publishers: ids and names are unique.

use toml::Spanned;

use super::check::Unique;
use super::problem::Collector;
use super::{Publisher, Stream, raw};

/// Ids with this bit belong to anonymous publishers.
const ANONYMOUS: u64 = 1 << 63;
/// Longest name of a stream or publisher, in bytes.
const MAX_NAME: usize = 255;

pub(super) fn streams(
    raw: Vec<Spanned<raw::Stream>>,
    shards: usize,
    problems: &mut Collector<'_>,
) -> Vec<Stream> {
    let (mut ids, mut names) = (Unique::new(), Unique::new());
    let mut streams = Vec::with_capacity(raw.len());
    for stream in raw {
        let at = stream.span();
        let stream = stream.into_inner();
        if *stream.id.get_ref() == 0 {
            problems.add(stream.id.span(), "`id`: stream ids start at 1");
        }
        check_name(&stream.name, problems);
        ids.take("id", "stream", &stream.id, problems);
        names.take("name", "stream", &stream.name, problems);
        let shard = match &stream.shard {
            Some(shard) => {
                if *shard.get_ref() >= shards {
                    let reason = format!(
                        "`shard`: there is no shard {}; the first [[shard]] is 0, and there are \
                         {shards}",
                        shard.get_ref()
                    );
                    problems.add(shard.span(), reason);
                }
                *shard.get_ref()
            }
            None => {
                if shards > 1 {
                    let reason = "`shard`: with several shards a stream must name its own";
                    problems.add(at, reason);
                }
                0
            }
        };
        streams.push(Stream { id: stream.id.into_inner(), name: stream.name.into_inner(), shard });
    }
    streams
}

pub(super) fn publishers(raw: Vec<raw::Publisher>, problems: &mut Collector<'_>) -> Vec<Publisher> {
    let (mut ids, mut names) = (Unique::new(), Unique::new());
    let mut publishers = Vec::with_capacity(raw.len());
    for publisher in raw {
        let id = *publisher.id.get_ref();
        if id == 0 || id & ANONYMOUS != 0 {
            let reason = format!("`id`: {id} is not in 1 to {}", ANONYMOUS - 1);
            problems.add(publisher.id.span(), reason);
        }
        check_name(&publisher.name, problems);
        ids.take("id", "publisher", &publisher.id, problems);
        names.take("name", "publisher", &publisher.name, problems);
        publishers.push(Publisher { id, name: publisher.name.into_inner() });
    }
    publishers
}

fn check_name(name: &Spanned<String>, problems: &mut Collector<'_>) {
    if !(1..=MAX_NAME).contains(&name.get_ref().len()) {
        let reason = format!("`name`: {} bytes; a name has 1 to {MAX_NAME}", name.get_ref().len());
        problems.add(name.span(), reason);
    }
}
