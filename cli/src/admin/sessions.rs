//! `mstream sessions`.

use mstream_admin::v1::{ListSessionsRequest, Session};
use serde::Serialize;

use super::{Admin, PAGE};
use crate::failure::Failure;
use crate::output::{Output, bytes, count, span_ms, table};
use crate::settings::Settings;

/// A session as JSON has it.
#[derive(Serialize)]
struct Record<'a> {
    shard: u32,
    slot: u32,
    port: &'a str,
    client: &'a str,
    publisher: Option<&'a str>,
    publisher_id: u64,
    incarnation: u64,
    silent_ms: u64,
    publications: u32,
    subscriptions: u32,
    published_bytes: u64,
    credit_bytes: u64,
}

impl Record<'_> {
    fn of(session: &Session) -> Record<'_> {
        Record {
            shard: session.shard,
            slot: session.slot,
            port: &session.port,
            client: &session.client,
            publisher: (!session.publisher.is_empty()).then_some(&session.publisher),
            publisher_id: session.publisher_id,
            incarnation: session.incarnation,
            silent_ms: session.silent_ms,
            publications: session.publications,
            subscriptions: session.subscriptions,
            published_bytes: session.published_bytes,
            credit_bytes: session.credit_bytes,
        }
    }
}

/// Lists sessions.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    let admin = Admin::connect(settings)?;
    let mut output = Output::new(settings.json);
    let (mut page, mut shown) = (String::new(), 0);
    loop {
        let request = ListSessionsRequest { page_size: PAGE, page };
        let answer = admin.call(admin.node().list_sessions(request))?;
        shown += answer.sessions.len();
        if settings.json {
            answer.sessions.iter().try_for_each(|one| output.record(&Record::of(one)))?;
        } else if !answer.sessions.is_empty() {
            output.line(&rows(&answer.sessions))?;
        }
        if answer.next_page.is_empty() {
            return match shown {
                0 if !settings.json => output.line("no sessions"),
                _ => Ok(()),
            };
        }
        page = answer.next_page;
    }
}

fn rows(sessions: &[Session]) -> String {
    let mut rows = table(&[
        "CLIENT",
        "PORT",
        "SHARD",
        "SLOT",
        "PUBLISHER",
        "PUBLISHES",
        "READS",
        "PUBLISHED",
        "CREDIT LEFT",
        "SILENT",
    ]);
    for session in sessions {
        let publisher = match session.publisher.as_str() {
            "" => "(anonymous)",
            name => name,
        };
        rows.add_row([
            session.client.clone(),
            session.port.clone(),
            session.shard.to_string(),
            session.slot.to_string(),
            publisher.to_owned(),
            count(session.publications.into()),
            count(session.subscriptions.into()),
            bytes(session.published_bytes),
            bytes(session.credit_bytes.saturating_sub(session.published_bytes)),
            span_ms(session.silent_ms),
        ]);
    }
    rows.trim_fmt()
}
