//! `mstream wal`: the logs on this host, without a node.

mod accept;
mod aside;
mod beneath;
mod cold;
mod cold_text;
mod dump;
mod dump_text;
mod health;
mod inspect;
mod logs;
mod names;
mod verify;

use crate::cli::WalCommand;
use crate::failure::Failure;
use crate::output::Output;

/// Runs one of the commands.
pub(crate) fn run(command: &WalCommand, json: bool) -> Result<(), Failure> {
    let mut out = Output::new(json);
    match command {
        WalCommand::Inspect { logs, extents } => {
            inspect::run(&logs::find_cold(logs)?, *extents, &mut out)
        }
        WalCommand::Verify { logs } => verify::run(&logs::find_cold(logs)?, &mut out),
        WalCommand::Dump(args) => dump::run(args, &logs::find_cold(&args.logs)?, &mut out),
        WalCommand::AcceptLoss { logs, yes } => accept::run(&logs::find(logs)?, *yes, &mut out),
        WalCommand::SetColdAside { logs } => aside::run(&logs::find_cold(logs)?, &mut out),
    }
}
