//! `mstream config`.

use std::path::Path;

use mstream_admin::v1::GetConfigRequest;
use mstream_controlplane::{Config, ConfigError};
use serde::Serialize;

use super::Admin;
use crate::failure::{Failure, note};
use crate::output::Output;
use crate::settings::Settings;

/// A problem as JSON has it.
#[derive(Serialize)]
struct Problem<'a> {
    file: &'a Path,
    line: usize,
    error: &'a str,
}

/// Says what is wrong with a configuration file.
pub(crate) fn check(file: &Path, cores: Option<u16>, json: bool) -> Result<(), Failure> {
    let cores: Vec<usize> = match cores {
        Some(cores) => (0..usize::from(cores)).collect(),
        None => {
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect()
        }
    };
    let mut output = Output::new(json);
    match Config::load(file, &cores) {
        Ok(config) => {
            config.remarks().iter().for_each(|remark| note(remark));
            if json {
                Ok(())
            } else {
                output.line(&format!("{}: the configuration is sound", file.display()))
            }
        }
        Err(ConfigError::Wrong(problems)) if json => {
            for (line, error) in problems.list() {
                output.record(&Problem { file, line: *line, error })?;
            }
            Err(Failure::Failed(format!("{}: the configuration is not sound", file.display())))
        }
        // Each problem on a line of its own, as compilers do it.
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

/// The running node's configuration as JSON has it.
#[derive(Serialize)]
struct Shown {
    path: String,
    text: String,
}

/// Shows the configuration that the node runs with.
pub(crate) fn show(settings: &Settings) -> Result<(), Failure> {
    let admin = Admin::connect(settings)?;
    let answer = admin.call(admin.node().get_config(GetConfigRequest {}))?;
    let mut output = Output::new(settings.json);
    if settings.json {
        return output.record(&Shown { path: answer.path, text: answer.text });
    }
    let line_end = if answer.text.ends_with('\n') { "" } else { "\n" };
    output.bytes(format!("# {}\n{}{line_end}", answer.path, answer.text).as_bytes())
}
