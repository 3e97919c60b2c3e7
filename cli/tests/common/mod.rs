//! Running `mstream` against the real appliance.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longer than anything takes; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A command that runs the program, away from the contexts and variables of whoever tests.
pub fn mstream(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mstream"));
    command.args(args).stdin(Stdio::null());
    command.env("XDG_CONFIG_HOME", "/nonexistent/mstream-tests");
    command.env_remove("MSTREAM_ADMIN").env_remove("MSTREAM_CONTEXT");
    command
}

/// Runs the program to its end.
pub fn output(args: &[&str]) -> Output {
    mstream(args).output().expect("the program runs")
}

/// Runs the program with an input to its end.
pub fn output_of(args: &[&str], input: &[u8]) -> Output {
    let mut running = Running::start(mstream(args).stdin(Stdio::piped()));
    let mut pipe = running.0.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The program may want less than all of it.
        let _ = pipe.write_all(&input);
    });
    let output = running.output();
    writer.join().expect("it only writes");
    output
}

/// The exit code, and both outputs as text.
pub fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Checks that the program failed with one line that says `reason`.
#[track_caller]
pub fn assert_fails(output: &Output, reason: &str) {
    let (code, _, complaint) = texts(output);
    assert_eq!(code, Some(1), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.starts_with("mstream: ") && complaint.contains(reason), "{complaint}");
}

/// Checks that the program did what it was asked for, without a word on standard error; its output.
#[track_caller]
pub fn stdout(output: Output) -> Vec<u8> {
    let (code, _, complaint) = texts(&output);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    output.stdout
}

/// Lines of JSON.
#[track_caller]
pub fn json(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// A process that is killed by its pid when dropped.
pub struct Running(pub Child);

impl Running {
    /// Starts a command with pipes for its outputs.
    pub fn start(command: &mut Command) -> Running {
        Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts"))
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("pids are small");
        kill(Pid::from_raw(pid), signal).expect("a child of ours");
        if signal == Signal::SIGSTOP {
            // A thread on another core goes on until it enters the kernel.
            wait_until(|| stopped(pid));
        }
    }

    /// Waits for the end; the exit code.
    pub fn code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child of ours") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end and takes all that it wrote.
    pub fn output(mut self) -> Output {
        let all = |pipe: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                pipe.map(|mut pipe| pipe.read_to_end(&mut bytes).expect("a pipe"));
                bytes
            })
        };
        let out = self.0.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        let err = self.0.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        let (out, err) = (all(out), all(err));
        self.code();
        let status = self.0.wait().expect("a child of ours");
        Output {
            status,
            stdout: out.join().expect("it reads"),
            stderr: err.join().expect("it reads"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, or to be ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `mstreamd` beside the program; `None`, with a word, where it is not built.
pub fn mstreamd(test: &str) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_mstream")).with_file_name("mstreamd");
    if program.is_file() {
        return Some(program);
    }
    eprintln!("SKIP {test}: no {} (cargo build -p mstream-node makes it)", program.display());
    None
}

/// An appliance with a memif and a socket port, a stream "s" and a publisher "p" with id 1.
pub struct Appliance {
    /// Holds everything.
    pub dir: tempfile::TempDir,
    /// Its shard, on both ports.
    pub address: String,
    program: PathBuf,
}

impl Appliance {
    pub fn new(program: PathBuf) -> Appliance {
        Appliance::with(program, "")
    }

    /// As [`Appliance::new`], with more configuration.
    pub fn with(program: PathBuf, more: &str) -> Appliance {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let udp_port = udp.local_addr().expect("its address").port();
        let text = format!(
            r#"[node]
id = 1
admin = "127.0.0.1:0"
run_dir = "{dir}"
[[port]]
name = "memif"
driver = "memif"
ip = "127.0.0.1"
socket = "m.sock"
[[port]]
name = "socket"
driver = "socket"
ip = "127.0.0.1"
[[shard]]
core = 0
ports = ["memif", "socket"]
udp_port = {udp_port}
idle = "backoff"
[wal]
dir = "{dir}/log"
segment_bytes = "4 MiB"
max_bytes = "64 MiB"
[[stream]]
id = 1
name = "s"
[[publisher]]
id = 1
name = "p"
{more}
"#,
            dir = dir.path().display(),
        );
        fs::write(dir.path().join("node.toml"), text).expect("written");
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, udp_port).to_string();
        Appliance { dir, address, program }
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Running {
        let out = self.path("out");
        let file = File::create(&out).expect("a file");
        let mut command = Command::new(&self.program);
        command.args(["--log", "error"]).arg("--config").arg(self.path("node.toml"));
        command.stdin(Stdio::null()).stdout(file);
        let mut running = Running(command.spawn().expect("it starts"));
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(&out).unwrap_or_default().contains("ready") {
            assert!(running.0.try_wait().expect("a child of ours").is_none(), "it ended");
            assert!(Instant::now() < deadline, "it is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    }

    /// Where its admin API is, as it told.
    pub fn admin(&self) -> String {
        let said = fs::read_to_string(self.path("out")).expect("it was started");
        let told = said.lines().find_map(|line| line.strip_prefix("mstreamd: admin "));
        told.expect("it tells its admin address").to_owned()
    }

    /// A command over its admin API.
    pub fn manage(&self, args: &[&str]) -> Output {
        output(&[args, &["--admin", &self.admin()]].concat())
    }

    /// A command line that reaches it by UDP.
    pub fn args<'a>(&'a self, command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&[command, "--addr", &self.address, "s"], more].concat()
    }

    /// Publishes to its stream.
    pub fn publish(&self, input: &[u8], more: &[&str]) -> Output {
        output_of(&self.args("pub", more), input)
    }

    /// Reads its stream.
    pub fn read(&self, more: &[&str]) -> Output {
        output(&self.args("sub", more))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "it does not come to it");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// True when all threads of the process have stopped.
fn stopped(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|fields| fields.trim_start().starts_with('T'))
    })
}
