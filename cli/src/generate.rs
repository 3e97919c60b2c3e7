//! What is made from the command line's description: completion scripts and manual pages.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Writes the completion script of a shell to standard output.
pub(crate) fn completion(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mstream", &mut script);
    Output::new(false).bytes(&script)
}

/// Writes one page for each command into a directory.
pub(crate) fn man(dir: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
    Ok(())
}
