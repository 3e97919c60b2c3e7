//! Aeron beside the appliance: an echo in the server's place and a client, processes of a program that is built
//! on its own (`bench/peers/aeron`). Driver and user share a thread at both ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use tempfile::TempDir;

use super::cores::Cores;
use super::driver::DISCARDED_NS;
use super::figures::Percentiles;
use super::node::Node;
use super::setting::{Place, Setting};
use super::veth::Veth;
use crate::Failure;
use crate::interrupt::Interrupt;

/// UDP ports of the echo, of the client, and of the client that publishes to itself.
const ECHO_PORT: u16 = 7600;
const CLIENT_PORT: u16 = 7601;
const OWN_PORT: u16 = 7602;
/// Where the drivers' files are.
const MEMORY: &str = "/dev/shm";
const PROGRAM: &str = "mstream-bench-aeron";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// To an echo and back, over the kernel echo's veth pair.
    TwoCrossings,
    /// To its own subscription, over loopback.
    ToItself,
}

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct PeerRecord {
    pub(crate) name: &'static str,
    pub(crate) shape: &'static str,
    pub(crate) latency_ns: Percentiles,
    /// Messages that came while it was recorded, and how long that was.
    pub(crate) messages: u64,
    pub(crate) ns: u64,
    /// Messages that were not the next one.
    pub(crate) wrong: u64,
}

/// What the client answers at the end.
#[derive(Debug, Deserialize)]
struct Answer {
    latency_ns: Percentiles,
    messages: u64,
    ns: u64,
    wrong: u64,
}

/// The processes. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Aeron {
    shape: Shape,
    echo: Option<Node>,
    client: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    stderr: PathBuf,
    /// The drivers' files.
    _memory: TempDir,
}

/// What a start needs of the run.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) setting: &'a Setting,
    /// Where the kernel echo is.
    pub(crate) place: &'a Place,
    pub(crate) cores: Cores,
    pub(crate) veth: &'a Veth,
    /// Bytes of a message.
    pub(crate) size: u16,
    /// Messages under way at most.
    pub(crate) in_flight: usize,
    /// Messages per second, if they are sent on schedule.
    pub(crate) rate: Option<u64>,
    pub(crate) interrupt: &'a Interrupt,
}

/// The program, beside this one or where scripts/build-aeron puts it.
fn program() -> Result<PathBuf, Failure> {
    let this = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let path = this.with_file_name(PROGRAM);
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("{} does not exist: scripts/build-aeron builds it", path.display())),
    }
}

impl Aeron {
    /// Starts what the shape takes, and stops the echo until its first slice.
    pub(crate) fn start(shape: Shape, around: &Around<'_>) -> Result<Aeron, Failure> {
        let Around { setting, place, cores, veth, size, in_flight, rate, interrupt } = *around;
        let program = program()?;
        let here = SocketAddrV4::new(place.client, CLIENT_PORT);
        let there = SocketAddrV4::new(*place.address.ip(), ECHO_PORT);
        let own = SocketAddrV4::new(Ipv4Addr::LOCALHOST, OWN_PORT);
        let (name, listen, to) = match shape {
            Shape::TwoCrossings => ("aeron-client", here, there),
            Shape::ToItself => ("aeron-itself", own, own),
        };
        let memory = tempfile::Builder::new()
            .prefix("mstream-bench-aeron-")
            .tempdir_in(MEMORY)
            .map_err(|error| format!("{MEMORY}: {error}"))?;
        let dir = |name: &str| memory.path().join(name);
        let echo = match shape {
            Shape::TwoCrossings => {
                let mut command = Command::new(&program);
                command.arg("echo");
                end(&mut command, there, here, cores.server, &dir("aeron-echo"));
                let files = setting.dir().join("aeron-echo");
                Some(Node::start("the Aeron echo", command, &files, Some(veth), interrupt)?)
            }
            Shape::ToItself => None,
        };
        let stderr = setting.dir().join(name).with_extension("err");
        let log =
            File::create(&stderr).map_err(|error| format!("{}: {error}", stderr.display()))?;
        let mut command = Command::new(&program);
        command.arg("client");
        end(&mut command, listen, to, cores.client, &dir(name));
        command.args(["--size", &size.to_string(), "--in-flight", &in_flight.to_string()]);
        if let Some(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        command.args(["--discard", &DISCARDED_NS.to_string()]);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut client =
            command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let pipes = client.stdin.take().zip(client.stdout.take());
        let (orders, answers) = pipes.ok_or("the Aeron client has no pipes")?;
        let answers = BufReader::new(answers);
        let mut this = Aeron { shape, echo, client, orders, answers, stderr, _memory: memory };
        this.answer()?;
        if let Some(echo) = &mut this.echo {
            echo.pause()?;
        }
        Ok(this)
    }

    /// One slice, in which its echo runs.
    pub(crate) fn slice(&mut self, slice_ns: u64) -> Result<(), Failure> {
        if let Some(echo) = &self.echo {
            echo.resume()?;
        }
        self.order(&format!("slice {slice_ns}"));
        let done = self.answer().map(drop);
        let stopped = self.echo.as_mut().map_or(Ok(()), Node::pause);
        done.and(stopped)
    }

    /// Ends it; what was measured.
    pub(crate) fn end(mut self) -> Result<PeerRecord, Failure> {
        self.order("end");
        let answer = self.answer()?;
        let Answer { latency_ns, messages, ns, wrong } =
            serde_json::from_str(&answer).map_err(|error| format!("the Aeron client: {error}"))?;
        let shape = match self.shape {
            Shape::TwoCrossings => "echo, two crossings",
            Shape::ToItself => "to itself, one crossing",
        };
        Ok(PeerRecord { name: "Aeron", shape, latency_ns, messages, ns, wrong })
    }

    fn order(&mut self, order: &str) {
        // If it ended, its answer is missing too, and that is told with the reason.
        let _ = writeln!(self.orders, "{order}").and_then(|()| self.orders.flush());
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(bytes) if bytes > 0 => Ok(line.trim().to_string()),
            _ => {
                let said = fs::read_to_string(&self.stderr).unwrap_or_default();
                Err(format!("the Aeron client ended: {}", said.trim()))
            }
        }
    }
}

/// The arguments that both ends take.
fn end(command: &mut Command, listen: SocketAddrV4, to: SocketAddrV4, core: usize, dir: &Path) {
    command.args(["--listen", &listen.to_string(), "--to", &to.to_string()]);
    command.args(["--core", &core.to_string()]).arg("--dir").arg(dir);
}

impl Drop for Aeron {
    fn drop(&mut self) {
        // Its files go with the directory of the run.
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
