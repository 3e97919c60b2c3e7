//! Checks of streams and publishers: ids and names are unique.

use toml::Spanned;

use super::check::Unique;
use super::problem::Collector;
use super::{Publisher, Stream, raw};
use crate::catalogue::ANONYMOUS;

pub(super) fn streams(
    raw: Vec<Spanned<raw::Stream>>,
    shards: usize,
    problems: &mut Collector<'_>,
) -> Vec<Stream> {
    let (mut ids, mut names) = (Unique::new(), Unique::new());
    let mut streams = Vec::with_capacity(raw.len());
    for stream in raw {
        let at = stream.span();
        let line = problems.line(at.start);
        let stream = stream.into_inner();
        check_id(&stream.id, problems);
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
        let (id, name) = (stream.id.into_inner(), stream.name.into_inner());
        let newest_per_key = stream.newest_per_key;
        let cold = stream.cold || newest_per_key;
        streams.push(Stream { id, name, shard, cold, newest_per_key, line });
    }
    streams
}

pub(super) fn publishers(
    raw: Vec<Spanned<raw::Publisher>>,
    problems: &mut Collector<'_>,
) -> Vec<Publisher> {
    let (mut ids, mut names) = (Unique::new(), Unique::new());
    let mut publishers = Vec::with_capacity(raw.len());
    for publisher in raw {
        let line = problems.line(publisher.span().start);
        let publisher = publisher.into_inner();
        check_id(&publisher.id, problems);
        check_name(&publisher.name, problems);
        ids.take("id", "publisher", &publisher.id, problems);
        names.take("name", "publisher", &publisher.name, problems);
        let (id, name) = (publisher.id.into_inner(), publisher.name.into_inner());
        publishers.push(Publisher { id, name, line });
    }
    publishers
}

fn check_id(id: &Spanned<u64>, problems: &mut Collector<'_>) {
    if !(1..ANONYMOUS).contains(id.get_ref()) {
        let reason = format!("`id`: {} is not in 1 to {}", id.get_ref(), ANONYMOUS - 1);
        problems.add(id.span(), reason);
    }
}

fn check_name(name: &Spanned<String>, problems: &mut Collector<'_>) {
    if let Err(error) = crate::catalogue::check_name(name.get_ref()) {
        problems.add(name.span(), format!("`name`: {error}"));
    }
}
