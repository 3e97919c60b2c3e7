//! `mstream top`: a node, live.

mod feed;
mod sample;
mod screen;
mod section;

use std::io::IsTerminal;

use self::feed::Feed;
use self::section::sections;
use crate::admin::status::heading;
use crate::cli::TopArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// Shows a node until somebody has seen enough; where nobody can look, one frame.
pub(crate) fn run(args: &TopArgs, settings: &Settings) -> Result<(), Failure> {
    let mut feed = Feed::open(settings, args.interval)?;
    let once = args.once || settings.json || !std::io::stdout().is_terminal();
    if !once {
        return screen::run(feed, args.interval, settings);
    }
    let frame = feed.first(settings.timeout)?;
    let mut output = Output::new(settings.json);
    if settings.json {
        return output.record(&frame.sample);
    }
    output.line(&heading(&frame.status))?;
    sections(&frame.sample)
        .iter()
        .try_for_each(|section| output.line(&format!("\n{}", section.text())))
}
