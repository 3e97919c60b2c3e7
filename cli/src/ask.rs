//! Questions to whoever sits at the terminal.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;

/// Asks a question that a command with `--yes` would not have asked; true for yes. Where nobody can answer, that is wrong
/// usage, and `why` says what would be lost.
pub(crate) fn ask(question: &str, why: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Usage(format!("{why}: say --yes to do it without being asked")));
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| format!("standard input: {error}"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
