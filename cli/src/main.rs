//! `mstream`: publish, subscribe, and manage nodes, from a shell.

mod admin;
mod ask;
mod cli;
mod context;
mod failure;
mod generate;
mod interrupt;
mod output;
mod pubsub;
mod settings;
mod top;
mod wal;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::settings::Settings;

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let global = &cli.global;
    // These need no node, and work with a broken file of contexts.
    match &cli.command {
        Command::Completion { shell } => return generate::completion(*shell),
        Command::Man { dir } => return generate::man(dir),
        Command::Context(command) => return context::run(command, global.json),
        Command::Config(cli::ConfigCommand::Check { file, cores }) => {
            return admin::config::check(file, *cores, global.json);
        }
        Command::Wal(command) => return wal::run(command, global.json),
        _ => {}
    }
    let settings = Settings::resolve(global)?;
    match cli.command {
        Command::Pub(args) => pubsub::publish(&args, &settings),
        Command::Sub(args) => pubsub::subscribe(&args, &settings),
        Command::Stream(command) => admin::streams::run(&command, &settings),
        Command::Publisher(command) => admin::publishers::run(&command, &settings),
        Command::Status => admin::status::run(&settings),
        Command::Sessions => admin::sessions::run(&settings),
        Command::Backlog(args) => admin::backlog::run(&args, &settings),
        Command::Errors => admin::errors::run(&settings),
        Command::Config(_) => admin::config::show(&settings),
        Command::Top(args) => top::run(&args, &settings),
        Command::Completion { .. }
        | Command::Man { .. }
        | Command::Context(_)
        | Command::Wal(_) => Ok(()),
    }
}
