//! `mstream pub` and `mstream sub`.

mod contact;
mod format;
mod idle;
mod input;
mod pace;
mod publish;
mod reach;
mod subscribe;
mod summary;

use std::time::Instant;

use mstream_client::connect::{self, ConnectError};
use mstream_client::{Client, Ended};
use mstream_nic::Port;
use mstream_wire::Code;

pub(crate) use self::format::Record;
pub(crate) use self::publish::publish;
use self::reach::Reach;
pub(crate) use self::subscribe::subscribe;
use crate::failure::Failure;
use crate::settings::Settings;

/// The longest interval of beats, in milliseconds: how late it is noticed that a node went away.
const MAX_BEAT_MS: u32 = 500;

/// What is to be done with a client, whatever its port.
trait Job {
    fn run<P: Port>(self, client: Client<P>) -> Result<(), Failure>;
}

/// Connects and does `job`.
fn with_client<J: Job>(reach: &Reach, settings: &Settings, job: J) -> Result<(), Failure> {
    let failed = |error: ConnectError| error.to_string();
    match &reach.memif {
        Some(socket) => job.run(
            connect::memif_on_vlan(socket, reach.addr, reach.vlan, settings.timeout)
                .map_err(failed)?,
        ),
        None => job.run(connect::udp(reach.addr).map_err(failed)?),
    }
}

/// Time since a moment, in ns.
fn since(began: Instant) -> u64 {
    began.elapsed().as_nanos() as u64
}

/// Why nothing more can be published, in words.
fn ended(why: Ended) -> String {
    match why {
        Ended::Diverged { acknowledged, stored } => format!(
            "diverged: {acknowledged} messages of this publisher were acknowledged, the log holds {stored}: it lost its \
             tail, or somebody else published in this name"
        ),
        Ended::Refused(code) => format!("the stream was refused: {code}{}", advice(code)),
        Ended::Session(code) => refused(code),
    }
}

/// Why the session ended for good, in words.
fn refused(code: Code) -> String {
    format!("the session was refused: {code}{}", advice(code))
}

/// What to do about it.
fn advice(code: Code) -> &'static str {
    match code {
        Code::UnknownStream => {
            " (on this shard; `mstream stream list` shows what there is, and where)"
        }
        Code::UnknownPublisher => " (`mstream publisher list` shows those that there are)",
        Code::LogDamaged => " (the log takes nothing until an operator decides: `mstream status`)",
        Code::Fenced => " (somebody else publishes in this name now)",
        _ => "",
    }
}
