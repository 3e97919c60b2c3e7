//! `mstream errors`.

use mstream_admin::v1::ListErrorsRequest;
use serde::Serialize;

use super::Admin;
use crate::failure::Failure;
use crate::output::{self, Output, count, table};
use crate::settings::Settings;

/// An error as JSON has it.
#[derive(Serialize)]
struct Record<'a> {
    place: &'a str,
    text: &'a str,
    count: u64,
    first_ns: u64,
    last_ns: u64,
}

/// Lists distinct errors.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    let admin = Admin::connect(settings)?;
    let errors = admin.call(admin.node().list_errors(ListErrorsRequest {}))?.errors;
    let mut output = Output::new(settings.json);
    if settings.json {
        return errors.iter().try_for_each(|error| {
            output.record(&Record {
                place: &error.place,
                text: &error.text,
                count: error.count,
                first_ns: error.first_ns,
                last_ns: error.last_ns,
            })
        });
    }
    if errors.is_empty() {
        return output.line("no errors since the node's start");
    }
    let mut rows = table(&["COUNT", "FIRST", "LAST", "PLACE", "ERROR"]);
    for error in errors {
        let (first, last) = (output::time(error.first_ns), output::time(error.last_ns));
        rows.add_row([count(error.count), first, last, error.place, error.text]);
    }
    output.line(&rows.trim_fmt())
}
