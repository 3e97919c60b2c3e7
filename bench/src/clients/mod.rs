//! Plain clients of a running appliance.

mod digest;
mod progress;
mod publish;
mod source;
mod subscribe;

use std::time::{Duration, Instant};

use mstream_client::Client;
use mstream_client::connect::{self, ConnectError};
use mstream_nic::Port;

pub(crate) use self::publish::publish;
pub(crate) use self::subscribe::subscribe;
use crate::Failure;
use crate::cli::{Idle, TargetArgs};

/// The longest interval of beats: how late a restart of the appliance is noticed.
const MAX_BEAT_MS: u32 = 100;
/// How long to wait for a memif socket that nobody answers on.
const CONNECT: Duration = Duration::from_secs(30);

/// What is to be done with a client, whatever its port.
trait Job {
    type Outcome;

    fn run<P: Port>(self, client: Client<P>) -> Result<Self::Outcome, Failure>;
}

/// Connects and does `job`.
fn with_client<J: Job>(at: &TargetArgs, job: J) -> Result<J::Outcome, Failure> {
    let failed = |error: ConnectError| error.to_string();
    match &at.memif {
        Some(socket) => job.run(connect::memif(socket, at.target, CONNECT).map_err(failed)?),
        None => job.run(connect::udp(at.target).map_err(failed)?),
    }
}

/// What to do when a poll found nothing: waits, and notices that it waited too long.
struct Waiting {
    idle: Idle,
    patience: Option<Duration>,
    heard: Instant,
}

impl Waiting {
    fn new(at: &TargetArgs) -> Waiting {
        let patience = (at.patience > 0).then(|| Duration::from_secs(at.patience));
        Waiting { idle: at.idle, patience, heard: Instant::now() }
    }

    /// Something came.
    fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Nothing came.
    fn wait(&mut self) -> Result<(), Failure> {
        match self.idle {
            Idle::Spin => std::hint::spin_loop(),
            Idle::Yield => std::thread::yield_now(),
        }
        match self.patience {
            Some(patience) if self.heard.elapsed() > patience => {
                Err(format!("nothing was heard of the appliance for {} s", patience.as_secs()))
            }
            _ => Ok(()),
        }
    }
}
