//! `mstream publisher`, and ids for names.

use mstream_admin::v1::publisher_result::Result as Outcome;
use mstream_admin::v1::{ListPublishersRequest, Publisher, RegisterPublishersRequest};
use serde::Serialize;

use super::names::{Names, Tally};
use super::streams::Failed;
use super::{Admin, PAGE};
use crate::cli::{NamesArgs, PublisherCommand};
use crate::failure::Failure;
use crate::output::{self, Output, table};
use crate::settings::Settings;

/// A publisher as JSON has it.
#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    id: u64,
    created_ns: u64,
}

impl Record<'_> {
    fn of(publisher: &Publisher) -> Record<'_> {
        Record { name: &publisher.name, id: publisher.id, created_ns: publisher.created_ns }
    }
}

/// Does what `mstream publisher` was asked for.
pub(crate) fn run(command: &PublisherCommand, settings: &Settings) -> Result<(), Failure> {
    match command {
        PublisherCommand::Register { names } => register(names, settings),
        PublisherCommand::List { prefix } => list(prefix, settings),
    }
}

/// The id of one name, given to it now if it has none.
pub(crate) fn id_of(admin: &Admin, name: &str) -> Result<u64, Failure> {
    let request = RegisterPublishersRequest { names: vec![name.into()] };
    let answer = admin.call(admin.catalogue().register_publishers(request))?;
    match answer.results.into_iter().next().and_then(|result| result.result) {
        Some(Outcome::Publisher(publisher)) => Ok(publisher.id),
        Some(Outcome::Failure(failure)) => {
            Err(format!("publisher {name}: {}", failure.message).into())
        }
        None => Err(format!("publisher {name}: the node sent an empty result").into()),
    }
}

fn register(names: &NamesArgs, settings: &Settings) -> Result<(), Failure> {
    let admin = Admin::connect(settings)?;
    let mut output = Output::new(settings.json);
    let mut tally = Tally::new("registered", "publisher", settings.json);
    let mut names = Names::open(names)?;
    loop {
        let portion = names.portion()?;
        if portion.is_empty() {
            break;
        }
        let request = RegisterPublishersRequest { names: portion.clone() };
        let answer = admin.call(admin.catalogue().register_publishers(request))?;
        for (name, result) in portion.iter().zip(answer.results) {
            match result.result {
                Some(Outcome::Publisher(publisher)) => {
                    tally.succeeded += 1;
                    match settings.json {
                        true => output.record(&Record::of(&publisher))?,
                        false => output.line(&format!("publisher {name}: id {}", publisher.id))?,
                    }
                }
                Some(Outcome::Failure(failure)) => {
                    tally.failure(name, &failure);
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
    tally.finish().map(drop)
}

fn list(prefix: &str, settings: &Settings) -> Result<(), Failure> {
    let admin = Admin::connect(settings)?;
    let mut output = Output::new(settings.json);
    let mut page = String::new();
    loop {
        let request = ListPublishersRequest { page_size: PAGE, page, prefix: prefix.into() };
        let answer = admin.call(admin.catalogue().list_publishers(request))?;
        if settings.json {
            answer.publishers.iter().try_for_each(|one| output.record(&Record::of(one)))?;
        } else if !answer.publishers.is_empty() {
            let mut rows = table(&["NAME", "ID", "CREATED"]);
            for publisher in &answer.publishers {
                let created = output::time(publisher.created_ns);
                rows.add_row([publisher.name.clone(), publisher.id.to_string(), created]);
            }
            output.line(&rows.trim_fmt())?;
        }
        if answer.next_page.is_empty() {
            return Ok(());
        }
        page = answer.next_page;
    }
}
