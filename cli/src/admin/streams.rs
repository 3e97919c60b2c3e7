//! `mstream stream`.

use std::time::Instant;

use mstream_admin::v1::stream_result::Result as Outcome;
use mstream_admin::v1::{
    CreateStreamsRequest, DeleteStreamsRequest, DescribeStreamRequest, ListStreamsRequest, Rules,
    Stream, StreamKey, StreamResult, StreamSpec,
};
use serde::Serialize;

use super::names::{Names, Tally};
use super::words::{self, RulesRecord};
use super::{Admin, PAGE, stream_key};
use crate::ask::ask;
use crate::cli::{KeyArgs, NamesArgs, StreamCommand};
use crate::failure::Failure;
use crate::output::{self, Output, count, counted, table};
use crate::settings::Settings;

/// Items that are told one by one; of more, only how many.
const TOLD: usize = 20;

/// A stream as JSON has it.
#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    id: u64,
    shard: u32,
    created_ns: u64,
    rules: RulesRecord,
}

impl Record<'_> {
    fn of(stream: &Stream) -> Record<'_> {
        Record {
            name: &stream.name,
            id: stream.id,
            shard: stream.shard,
            created_ns: stream.created_ns,
            rules: RulesRecord::of(&stream.rules.unwrap_or_default()),
        }
    }
}

/// What failed, as JSON has it.
#[derive(Serialize)]
pub(super) struct Failed<'a> {
    pub(super) name: &'a str,
    pub(super) error: &'a str,
    pub(super) code: i32,
}

/// Does what `mstream stream` was asked for.
pub(crate) fn run(command: &StreamCommand, settings: &Settings) -> Result<(), Failure> {
    match command {
        StreamCommand::Create { names, shard, rules } => {
            create(names, *shard, rules.rules(), settings)
        }
        StreamCommand::List { prefix } => list(prefix, settings),
        StreamCommand::Describe { key } => describe(key, settings),
        StreamCommand::Delete { names, id, yes } => delete(names, *id, *yes, settings),
    }
}

fn create(
    names: &NamesArgs,
    shard: Option<u32>,
    rules: Rules,
    settings: &Settings,
) -> Result<(), Failure> {
    let admin = Admin::connect(settings)?;
    many(names, "created", settings, |portion| {
        let spec = |name: &String| StreamSpec { name: name.clone(), shard, rules: Some(rules) };
        let request = CreateStreamsRequest { streams: portion.iter().map(spec).collect() };
        Ok(admin.call(admin.catalogue().create_streams(request))?.results)
    })
}

fn delete(names: &NamesArgs, id: bool, yes: bool, settings: &Settings) -> Result<(), Failure> {
    if !yes && !confirmed(names)? {
        return Err(Failure::Failed("nothing was deleted".into()));
    }
    let admin = Admin::connect(settings)?;
    many(names, "deleted", settings, |portion| {
        let keys: Result<Vec<StreamKey>, Failure> =
            portion.iter().map(|name| stream_key(name, id)).collect();
        let request = DeleteStreamsRequest { streams: keys? };
        Ok(admin.call(admin.catalogue().delete_streams(request))?.results)
    })
}

/// Asks whoever sits at the terminal.
fn confirmed(names: &NamesArgs) -> Result<bool, Failure> {
    let which = match (&names.file, names.names.as_slice()) {
        (Some(file), _) => format!("the streams of {}", file.display()),
        (None, [name]) => format!("stream {name}"),
        (None, many) => format!("{} ({})", counted(many.len() as u64, "stream"), many.join(", ")),
    };
    ask(
        &format!("Delete {which}, with all messages, for good?"),
        "deleting streams loses their messages",
    )
}

/// Does something to many streams, a request for each portion of their names.
fn many(
    names: &NamesArgs,
    done: &'static str,
    settings: &Settings,
    mut request: impl FnMut(&[String]) -> Result<Vec<StreamResult>, Failure>,
) -> Result<(), Failure> {
    let mut output = Output::new(settings.json);
    let mut tally = Tally::new(done, "stream", settings.json);
    let each = names.file.is_none() && names.names.len() <= TOLD;
    let mut names = Names::open(names)?;
    let began = Instant::now();
    loop {
        let portion = names.portion()?;
        if portion.is_empty() {
            break;
        }
        let results = request(&portion).map_err(|failure| match (failure, tally.succeeded) {
            (Failure::Failed(why), before @ 1..) => {
                Failure::Failed(format!("{why} ({} {done} before)", counted(before, "stream")))
            }
            (failure, _) => failure,
        })?;
        if results.len() != portion.len() {
            return Err("the node answered for another number of streams than were named"
                .to_owned()
                .into());
        }
        for (name, result) in portion.iter().zip(&results) {
            match &result.result {
                Some(Outcome::Stream(stream)) => {
                    tally.succeeded += 1;
                    if settings.json {
                        output.record(&Record::of(stream))?;
                    } else if each {
                        let Stream { name, id, shard, .. } = stream;
                        output.line(&format!("{done} stream {name}: id {id}, shard {shard}"))?;
                    }
                }
                Some(Outcome::Failure(failure)) => {
                    tally.failure(name, failure);
                    if settings.json {
                        let error = &failure.message;
                        output.record(&Failed { name, error, code: failure.code })?;
                    }
                }
                None => return Err("the node sent an empty result".to_owned().into()),
            }
        }
        tally.portion_done();
    }
    let said = tally.finish()?;
    if settings.json || each {
        return Ok(());
    }
    output.line(&format!("{said} in {:.1} s", began.elapsed().as_secs_f64()))
}

fn list(prefix: &str, settings: &Settings) -> Result<(), Failure> {
    let admin = Admin::connect(settings)?;
    let mut output = Output::new(settings.json);
    let (mut page, mut shown) = (String::new(), 0);
    loop {
        let request = ListStreamsRequest { page_size: PAGE, page, prefix: prefix.into() };
        let answer = admin.call(admin.catalogue().list_streams(request))?;
        let last = answer.next_page.is_empty();
        if settings.json {
            answer.streams.iter().try_for_each(|stream| output.record(&Record::of(stream)))?;
        } else if !answer.streams.is_empty() {
            let mut rows = table(&["NAME", "ID", "SHARD", "CREATED", "RULES"]);
            for stream in &answer.streams {
                rows.add_row([
                    stream.name.clone(),
                    stream.id.to_string(),
                    stream.shard.to_string(),
                    output::time(stream.created_ns),
                    words::rules(&stream.rules.unwrap_or_default()).join(", "),
                ]);
            }
            output.line(&rows.trim_fmt())?;
        }
        shown += answer.streams.len() as u64;
        if last {
            if !settings.json && shown != answer.total {
                output.line(&format!("{} of {}", count(shown), counted(answer.total, "stream")))?;
            } else if !settings.json && shown == 0 {
                output.line("no streams: create one with `mstream stream create NAME`")?;
            }
            return Ok(());
        }
        page = answer.next_page;
    }
}

/// A stream with its positions, as JSON has it.
#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    stream: Record<'a>,
    level: &'static str,
    earliest_offset: u64,
    next_offset: u64,
    visible_end: u64,
    publications: u32,
    subscriptions: u32,
    cold_earliest_offset: u64,
    cold_end: u64,
}

fn describe(key: &KeyArgs, settings: &Settings) -> Result<(), Failure> {
    let request = DescribeStreamRequest { stream: Some(stream_key(&key.stream, key.id)?) };
    let admin = Admin::connect(settings)?;
    let answer = admin.call(admin.catalogue().describe_stream(request))?;
    let (level, positions) = (words::level(answer.level()), answer.positions.unwrap_or_default());
    let stream = answer.stream.unwrap_or_default();
    let mut output = Output::new(settings.json);
    if settings.json {
        return output.record(&Described {
            stream: Record::of(&stream),
            level,
            earliest_offset: positions.earliest_offset,
            next_offset: positions.next_offset,
            visible_end: positions.visible_end,
            publications: positions.publications,
            subscriptions: positions.subscriptions,
            cold_earliest_offset: positions.cold_earliest_offset,
            cold_end: positions.cold_end,
        });
    }
    let held = positions.visible_end.saturating_sub(positions.earliest_offset);
    let range = match held {
        0 => format!("none; the next one gets offset {}", count(positions.next_offset)),
        _ => format!(
            "{}: offsets {} to {}",
            count(held),
            count(positions.earliest_offset),
            count(positions.visible_end - 1)
        ),
    };
    let unseen = positions.next_offset.saturating_sub(positions.visible_end);
    let mut rows = table(&["STREAM", &stream.name]);
    rows.add_row(["id".to_owned(), stream.id.to_string()]);
    rows.add_row(["shard".to_owned(), format!("{} (level {level})", stream.shard)]);
    rows.add_row(["created".to_owned(), output::time(stream.created_ns)]);
    rows.add_row(["rules".to_owned(), words::rules(&stream.rules.unwrap_or_default()).join(", ")]);
    rows.add_row(["messages".to_owned(), range]);
    if positions.cold_end > positions.cold_earliest_offset {
        let (first, last) = (positions.cold_earliest_offset, positions.cold_end - 1);
        let range = format!("offsets {} to {}", count(first), count(last));
        rows.add_row(["in cold segments".to_owned(), range]);
    }
    if unseen > 0 {
        rows.add_row(["not durable yet".to_owned(), count(unseen)]);
    }
    rows.add_row(["publications".to_owned(), count(positions.publications.into())]);
    rows.add_row(["subscriptions".to_owned(), count(positions.subscriptions.into())]);
    output.line(&rows.trim_fmt())
}
