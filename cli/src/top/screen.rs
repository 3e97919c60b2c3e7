//! The terminal: drawn anew with each sample, given back whatever happens.

use std::io;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::feed::{self, Feed};
use super::section::{Section, sections};
use crate::admin::status::heading;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::settings::Settings;

/// How long to wait for a sample, and then for a key.
const TURN: Duration = Duration::from_millis(50);
/// Between two tries to reach a node that is away.
const RETRY: Duration = Duration::from_secs(1);

/// What is shown.
#[derive(Default)]
struct Shown {
    heading: String,
    sections: Vec<Section>,
    /// Why it may be old.
    trouble: Option<String>,
}

/// Shows samples until q, Esc, Ctrl-C or SIGTERM.
pub(super) fn run(feed: Feed, interval: Duration, settings: &Settings) -> Result<(), Failure> {
    let interrupt = Interrupt::take(false)?;
    // Gives the terminal back on a panic, too.
    let terminal = ratatui::try_init().map_err(|error| failed(&error))?;
    let shown = show(terminal, feed, interval, settings, &interrupt);
    let restored = ratatui::try_restore().map_err(|error| failed(&error));
    shown?;
    Ok(restored?)
}

fn failed(error: &io::Error) -> String {
    format!("the terminal: {error}")
}

fn show(
    mut terminal: ratatui::DefaultTerminal,
    feed: Feed,
    interval: Duration,
    settings: &Settings,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let mut feed = Some(feed);
    let mut tried = Instant::now();
    let mut shown = Shown::default();
    let at = &settings.admin.address;
    while !interrupt.asked() {
        match &mut feed {
            Some(open) => match open.next(TURN) {
                Ok(Some(frame)) => shown = Shown::of(&frame),
                Ok(None) => {
                    let silent = open.silent();
                    shown.trouble = silent.map(|silent| {
                        format!("no answer from {at} for {} s: the node hangs", silent.as_secs())
                    });
                }
                Err(failure) => {
                    (shown.trouble, feed) = (Some(text(&failure)), None);
                }
            },
            None if tried.elapsed() >= RETRY => {
                tried = Instant::now();
                match Feed::again(settings, interval) {
                    Ok(again) => feed = Some(again),
                    Err(failure) => shown.trouble = Some(text(&failure)),
                }
            }
            None => {}
        }
        terminal.draw(|frame| shown.draw(frame)).map_err(|error| failed(&error))?;
        if event::poll(TURN).map_err(|error| failed(&error))?
            && ends(&event::read().map_err(|error| failed(&error))?)
        {
            return Ok(());
        }
    }
    Ok(())
}

fn text(failure: &Failure) -> String {
    match failure {
        Failure::Failed(text) | Failure::Usage(text) => text.clone(),
        Failure::OutputClosed => String::new(),
    }
}

/// True for what ends the show.
fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c') => control,
            _ => false,
        }
}

impl Shown {
    fn of(frame: &feed::Frame) -> Shown {
        let sections = sections(&frame.sample).into();
        Shown { heading: heading(&frame.status), sections, trouble: None }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        // From above, as far as there is room.
        let mut left = frame.area();
        let mut take = |rows: u16| {
            let place = Rect { height: rows.min(left.height), ..left };
            left.y += place.height;
            left.height -= place.height;
            place
        };
        let heading = if self.heading.is_empty() { "waiting for the node" } else { &self.heading };
        let trouble = self.trouble.as_deref().unwrap_or_default();
        let lines =
            vec![Line::from(heading.to_owned()).bold(), Line::from(trouble.to_owned()).red()];
        frame.render_widget(Paragraph::new(lines), take(3));
        for section in &self.sections {
            draw_section(section, frame, take(height(section)));
        }
        frame.render_widget(Paragraph::new("q quits").dim(), take(1));
    }
}

/// Lines that a section takes, with an empty one behind it.
fn height(section: &Section) -> u16 {
    let rows = section.rows.len().max(1);
    u16::try_from(rows + 3).unwrap_or(u16::MAX)
}

fn draw_section(section: &Section, frame: &mut Frame<'_>, place: Rect) {
    let [title, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(place);
    frame.render_widget(Paragraph::new(section.title).bold().cyan(), title);
    if section.rows.is_empty() {
        frame.render_widget(Paragraph::new(section.none).dim(), body);
        return;
    }
    let widths = (0..section.headings.len()).map(|column| {
        let cells =
            section.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let widest = cells.chain([section.headings[column].len()]).max().unwrap_or(0);
        Constraint::Length(u16::try_from(widest).unwrap_or(u16::MAX))
    });
    let headings = Row::new(section.headings.iter().map(|heading| Cell::from(*heading))).dim();
    let rows =
        section.rows.iter().map(|row| Row::new(row.iter().map(|cell| Cell::from(cell.as_str()))));
    let table = Table::new(rows, widths.collect::<Vec<_>>())
        .header(headings)
        .column_spacing(2)
        .style(Style::default());
    frame.render_widget(table, body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn a_frame_is_drawn_on_terminals_of_any_size() {
        let rows = (0..20).map(|n| vec![n.to_string(), "client".into(), "s".into(), "why".into()]);
        let section = Section {
            title: "Slow subscribers",
            headings: vec!["BEHIND", "CLIENT", "STREAM", "WHY"],
            rows: rows.collect(),
            none: "none",
        };
        let shown =
            Shown { heading: "node 1".into(), sections: vec![section], trouble: Some("!".into()) };
        for (width, height) in [(1, 1), (20, 5), (120, 40)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
            terminal.draw(|frame| shown.draw(frame)).expect("memory");
            let cells = terminal.backend().buffer().content();
            let text: String = cells.iter().map(|cell| cell.symbol()).collect();
            assert!(text.starts_with('n'), "{text}");
            assert_eq!(text.contains("Slow subscribers") && text.contains("client"), height == 40);
        }
    }
}
