//! `mstreamd`, and others in its place, as processes of this run: started, stopped and continued in turns, ended whatever happens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;

use super::veth::Veth;
use crate::Failure;
use crate::interrupt::Interrupt;

/// How long a start may take.
const START: Duration = Duration::from_secs(60);
/// How long an end may take before it is enforced.
const END: Duration = Duration::from_secs(5);
/// Lines of standard error that are shown when it ended by itself.
const SHOWN_LINES: usize = 20;

/// The program, beside this one.
pub(crate) fn program() -> Result<PathBuf, Failure> {
    let this = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let path = this.with_file_name("mstreamd");
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "{} does not exist: build it with `cargo build --release -p mstream-node` (the profile of this \
         program)",
        path.display()
    ))
}

/// A running program in the server's place. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    name: &'static str,
    stderr: PathBuf,
}

impl Node {
    /// `mstreamd` with the configuration at `config`, or its echo.
    pub(crate) fn mstreamd(
        program: &Path,
        config: &Path,
        echo: bool,
        veth: Option<&Veth>,
        interrupt: &Interrupt,
    ) -> Result<Node, Failure> {
        let name = if echo { "mstreamd --echo" } else { "mstreamd" };
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args(echo.then_some("--echo"));
        Node::start(name, command, config, veth, interrupt)
    }

    /// Starts a program, in the server's namespace if there is one, and waits until it says that it is ready.
    /// What it says goes to files named like `files`.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        files: &Path,
        veth: Option<&Veth>,
        interrupt: &Interrupt,
    ) -> Result<Node, Failure> {
        let (stdout, stderr) = (files.with_extension("out"), files.with_extension("err"));
        let create = |path: &Path| {
            File::create(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        // A group of its own: Ctrl-C is for this program, which then ends what it started.
        command.process_group(0).stdin(Stdio::null());
        command.stdout(create(&stdout)?).stderr(create(&stderr)?);
        let spawned = match veth {
            Some(veth) => veth.in_server(|| command.spawn())?,
            None => command.spawn(),
        };
        let child = spawned
            .map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
        let mut node = Node { child, name, stderr };
        let deadline = Instant::now() + START;
        while !fs::read_to_string(&stdout).unwrap_or_default().contains("ready") {
            node.check()?;
            interrupt.check()?;
            if Instant::now() > deadline {
                return Err(format!(
                    "{name} is not ready after {} s{}",
                    START.as_secs(),
                    node.said()
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(node)
    }

    /// Fails when it ended by itself, with what it said.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended ({status}){}", self.name, self.said())),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    /// The end of its standard error.
    fn said(&self) -> String {
        let text = fs::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        shown.iter().map(|line| format!("\n  {line}")).collect()
    }

    /// Stops all its threads, and waits until they stand. The one that takes the signal in may need the core
    /// of the caller for it.
    pub(crate) fn pause(&mut self) -> Result<(), Failure> {
        self.signal(Signal::SIGSTOP)?;
        let deadline = Instant::now() + END;
        while !self.is_stopped() {
            self.check()?;
            if Instant::now() > deadline {
                return Err(format!("{} does not stop", self.name));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    /// True when each of its threads is stopped.
    fn is_stopped(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.child.id())) else {
            return false;
        };
        threads.flatten().all(|thread| {
            // Number, name in brackets, state (T: stopped). The name may hold anything.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = i32::try_from(self.child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), signal).map_err(|error| format!("{} {signal}: {error}", self.name))
    }

    fn ends_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Errors mean that it is gone already.
        let _ = self.signal(Signal::SIGTERM);
        let _ = self.signal(Signal::SIGCONT);
        if !self.ends_within(END) {
            let _ = self.child.kill();
            let _ = self.ends_within(END);
        }
    }
}
