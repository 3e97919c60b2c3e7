//! Running `mstream-bench` and the appliance beside it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything takes; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A command that runs the program.
pub fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mstream-bench"))
}

/// Runs the program to its end.
pub fn output(args: &[&str]) -> Output {
    bench().args(args).output().expect("the program runs")
}

/// What it said on standard error.
pub fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `mstreamd` beside the program, built if it is not there; `None`, with a word, where it cannot be built.
pub fn mstreamd(test: &str) -> Option<PathBuf> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_mstream-bench")).with_file_name("mstreamd");
        if program.is_file() {
            return Ok(program);
        }
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-q", "-p", "mstream-node"]);
        build.args((!cfg!(debug_assertions)).then_some("--release"));
        let built = build.output().map_err(|error| error.to_string())?;
        match built.status.success() && program.is_file() {
            true => Ok(program),
            false => Err(String::from_utf8_lossy(&built.stderr).lines().take(3).collect()),
        }
    });
    program
        .as_ref()
        .inspect_err(|reason| eprintln!("SKIP {test}: no mstreamd: {reason}"))
        .ok()
        .cloned()
}

/// The JSON in a file.
pub fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("the file is there");
    serde_json::from_str(&text).expect("it is JSON")
}

/// A process that is killed by its pid when dropped.
pub struct Running(pub Child);

impl Running {
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
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, or to be ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An appliance with a memif and a socket port, a stream "s" and a publisher 1.
pub struct Appliance {
    /// Holds everything.
    pub dir: tempfile::TempDir,
    /// Its shard, on both ports.
    pub address: SocketAddrV4,
    program: PathBuf,
}

impl Appliance {
    pub fn new(program: PathBuf) -> Appliance {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = socket.local_addr().expect("its address").port();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let text = format!(
            r#"[node]
id = 1
admin = "off"
run_dir = "{dir}"
[[port]]
name = "memif"
driver = "memif"
ip = "{ip}"
socket = "m.sock"
[[port]]
name = "socket"
driver = "socket"
ip = "{ip}"
[[shard]]
core = 0
ports = ["memif", "socket"]
udp_port = {port}
idle = "yield"
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
"#,
            dir = dir.path().display(),
            ip = address.ip(),
        );
        fs::write(dir.path().join("node.toml"), text).expect("written");
        Appliance { dir, address, program }
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Running {
        let out = self.dir.path().join("out");
        let file = fs::File::create(&out).expect("a file");
        let mut command = Command::new(&self.program);
        command.args(["--log", "error"]).arg("--config").arg(self.dir.path().join("node.toml"));
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

    /// A client's command line.
    pub fn client(&self, what: &str, memif: bool, more: &[&str]) -> Command {
        let mut command = bench();
        command.args([what, "--target", &self.address.to_string(), "--stream", "s"]).args(more);
        if memif {
            command.arg("--memif").arg(self.path("m.sock"));
        }
        command.stdout(Stdio::null());
        command
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
