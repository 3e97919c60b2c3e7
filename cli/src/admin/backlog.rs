//! `mstream backlog`: who is behind, in words.

use mstream_admin::v1::{
    Backlog, GetStatusRequest, ListBacklogRequest, MissingOffsets, ReaderState,
};
use serde::Serialize;

use super::status::missing_text;
use super::{Admin, PAGE, stream_key};
use crate::cli::BacklogArgs;
use crate::failure::Failure;
use crate::output::{Output, counted};
use crate::settings::Settings;

/// A subscription as JSON has it.
#[derive(Serialize)]
struct Record<'a> {
    client: &'a str,
    stream: &'a str,
    stream_id: u64,
    shard: u32,
    slot: u32,
    next_offset: u64,
    limit: u64,
    visible_end: u64,
    behind: u64,
    state: &'static str,
}

/// Messages that it has left to read.
pub(crate) fn behind(backlog: &Backlog) -> u64 {
    backlog.visible_end.saturating_sub(backlog.next_offset)
}

fn state(backlog: &Backlog) -> &'static str {
    match backlog.state() {
        ReaderState::Unspecified => "unknown",
        ReaderState::Live => "live",
        ReaderState::CatchingUp => "catching_up",
        ReaderState::NoCredit => "no_credit",
        ReaderState::Stopped => "stopped",
    }
}

/// Why it is behind, in words.
pub(crate) fn reason(backlog: &Backlog) -> &'static str {
    match backlog.state() {
        ReaderState::Unspecified => "",
        ReaderState::Live => "has just been sent to",
        ReaderState::CatchingUp => "reads from the log what it missed",
        ReaderState::NoCredit => "waits for credit: the subscriber takes no more",
        ReaderState::Stopped => {
            "was told that it cannot go on (offset gone or diverged) and has not asked again"
        }
    }
}

/// One subscription as a sentence.
fn sentence(backlog: &Backlog) -> String {
    let Backlog { client, stream, .. } = backlog;
    match (behind(backlog), backlog.state()) {
        (0, ReaderState::Stopped) => {
            format!("{client} has stopped on {stream}: it {}", reason(backlog))
        }
        (0, _) => format!("{client} is up to date on {stream}"),
        (behind, _) => {
            let why = reason(backlog);
            let colon = if why.is_empty() { "" } else { ": " };
            format!("{client} is {} behind on {stream}{colon}{why}", counted(behind, "message"))
        }
    }
}

/// Every subscription, or those of a stream.
pub(crate) fn each(
    admin: &Admin,
    stream: Option<&mstream_admin::v1::StreamKey>,
    mut visit: impl FnMut(Backlog) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut page = String::new();
    loop {
        let request = ListBacklogRequest { page_size: PAGE, page, stream: stream.cloned() };
        let answer = admin.call(admin.node().list_backlog(request))?;
        answer.backlog.into_iter().try_for_each(&mut visit)?;
        if answer.next_page.is_empty() {
            return Ok(());
        }
        page = answer.next_page;
    }
}

/// Tells who is behind.
pub(crate) fn run(args: &BacklogArgs, settings: &Settings) -> Result<(), Failure> {
    let stream = args.stream.as_ref().map(|text| stream_key(text, args.id)).transpose()?;
    let admin = Admin::connect(settings)?;
    let mut output = Output::new(settings.json);
    let (mut total, mut told) = (0u64, Vec::new());
    each(&admin, stream.as_ref(), |backlog| {
        total += 1;
        let is_behind = behind(&backlog) > 0 || backlog.state() == ReaderState::Stopped;
        if !settings.json {
            told.extend((args.all || is_behind).then_some(backlog));
            return Ok(());
        }
        output.record(&Record {
            client: &backlog.client,
            stream: &backlog.stream,
            stream_id: backlog.stream_id,
            shard: backlog.shard,
            slot: backlog.slot,
            next_offset: backlog.next_offset,
            limit: backlog.limit,
            visible_end: backlog.visible_end,
            behind: behind(&backlog),
            state: state(&backlog),
        })
    })?;
    if settings.json {
        return Ok(());
    }
    told.sort_by_key(|backlog| std::cmp::Reverse(behind(backlog)));
    told.iter().try_for_each(|backlog| output.line(&sentence(backlog)))?;
    match (told.len() as u64, total) {
        (_, 0) => output.line("no subscriptions"),
        (0, total) => output.line(&format!("{}, none is behind", counted(total, "subscription"))),
        _ => Ok(()),
    }?;
    // What no subscription can be sent.
    let status = admin.call(admin.node().get_status(GetStatusRequest {}))?;
    let wanted = |missing: &&MissingOffsets| {
        args.stream.as_ref().is_none_or(|stream| match args.id {
            true => *stream == missing.stream_id.to_string(),
            false => *stream == missing.stream,
        })
    };
    let missing = status.shards.iter().flat_map(|shard| &shard.missing).filter(wanted);
    missing.map(missing_text).try_for_each(|text| output.line(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_is_said_in_words() {
        let mut backlog = Backlog {
            client: "10.0.0.7:4412".into(),
            stream: "trades".into(),
            next_offset: 100,
            visible_end: 1304,
            ..Backlog::default()
        };
        backlog.set_state(ReaderState::NoCredit);
        let text = sentence(&backlog);
        assert!(
            text.starts_with("10.0.0.7:4412 is 1,204 messages behind on trades: waits for credit"),
            "{text}"
        );
        backlog.next_offset = 1304;
        assert_eq!(sentence(&backlog), "10.0.0.7:4412 is up to date on trades");
        backlog.set_state(ReaderState::Stopped);
        assert!(sentence(&backlog).contains("has stopped on trades"));
    }
}
