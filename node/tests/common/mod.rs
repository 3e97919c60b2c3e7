//! Starting and ending mstreamd in tests.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod admin;
pub mod disk;
pub mod net;
pub mod programs;
pub mod random;
pub mod raw;
pub mod traffic;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything takes; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A command that runs mstreamd.
pub fn mstreamd() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mstreamd"))
}

/// Runs mstreamd to its end.
pub fn output(args: &[&str]) -> Output {
    mstreamd().args(args).output().expect("mstreamd runs")
}

/// A loopback address that no other test of this machine uses, and a free UDP port of it.
fn free_address() -> (Ipv4Addr, u16) {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    // The first process's addresses are 127.0.x: those of everybody else.
    let ip = Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed));
    let socket = UdpSocket::bind((ip, 0)).expect("a port");
    (ip, socket.local_addr().expect("its address").port())
}

/// A directory with a configuration in it.
pub struct Setting {
    /// Holds everything; gone with the value.
    pub dir: tempfile::TempDir,
    /// The log's directory.
    pub log: PathBuf,
    /// Where a socket port of the shard is.
    pub address: (Ipv4Addr, u16),
    /// The configuration's text.
    pub text: String,
}

impl Setting {
    /// One shard on core 0 with `port`, the keys of a [[port]] named "p"; IP stands for an address.
    pub fn new(port: &str) -> Setting {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let log = dir.path().join("log");
        let (ip, udp_port) = free_address();
        let port = port.replace("IP", &ip.to_string());
        let text = format!(
            r#"[node]
id = 7
admin = "127.0.0.1:0"
run_dir = "{}"
[[port]]
name = "p"
{port}
[[shard]]
core = 0
ports = ["p"]
udp_port = {udp_port}
idle = "yield"
[wal]
dir = "{}"
segment_bytes = "1 MiB"
max_bytes = "8 MiB"
[[stream]]
id = 1
name = "s"
[[publisher]]
id = 1
name = "w"
"#,
            dir.path().join("run").display(),
            log.display()
        );
        Setting { dir, log, address: (ip, udp_port), text }
    }

    pub fn memif() -> Setting {
        Setting::new("driver = \"memif\"\nip = \"10.0.0.1\"\nsocket = \"p.sock\"")
    }

    pub fn socket() -> Setting {
        Setting::new("driver = \"socket\"\nip = \"IP\"")
    }

    /// The same with its log in `dir`.
    pub fn log_in(mut self, dir: &Path) -> Setting {
        let (old, new) = (self.log.to_str().expect("plain"), dir.to_str().expect("plain"));
        self.text = self.text.replace(old, new);
        self.log = dir.into();
        self
    }

    /// Where clients find the shard of a socket port.
    pub fn shard(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address.0, self.address.1)
    }

    /// Where clients find the shard of a port that has the address `ip` of its own.
    pub fn shard_at(&self, ip: [u8; 4]) -> SocketAddrV4 {
        SocketAddrV4::new(ip.into(), self.address.1)
    }

    /// Puts lines into the configuration, before its log's.
    pub fn add(&mut self, lines: &str) {
        self.text = self.text.replace("[wal]", &format!("{lines}\n[wal]"));
    }

    /// The memif port's socket.
    pub fn control_socket(&self) -> PathBuf {
        self.dir.path().join("run/p.sock")
    }

    /// Writes the configuration down.
    pub fn file(&self) -> PathBuf {
        let path = self.dir.path().join("node.toml");
        fs::write(&path, &self.text).expect("written");
        path
    }

    /// Starts mstreamd and waits until it is ready.
    pub fn start(&self) -> Node {
        self.start_with(&[])
    }

    pub fn start_with(&self, more: &[&str]) -> Node {
        let mut node = Node::spawn(mstreamd().arg("--config").arg(self.file()).args(more));
        node.wait_ready();
        node
    }

    /// Starts mstreamd and waits for nothing.
    pub fn spawn(&self) -> Node {
        Node::spawn(mstreamd().arg("--config").arg(self.file()))
    }

    /// Starts mstreamd, which is to refuse; what it says on standard error.
    pub fn refused(&self) -> String {
        refusal(&self.file())
    }
}

/// What mstreamd says when it refuses to start with `config`.
pub fn refusal(config: &Path) -> String {
    let mut node = Node::spawn(mstreamd().arg("--log").arg("off").arg("--config").arg(config));
    let (status, text) = node.wait_end();
    assert_eq!(status.code(), Some(1), "{text}");
    text
}

/// A running mstreamd; killed by its pid when dropped.
pub struct Node {
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
    admin: Option<SocketAddr>,
}

fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Node {
    pub fn spawn(command: &mut Command) -> Node {
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mstreamd starts");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Node { child, stdout, stderr, admin: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stdout.recv_timeout(left) {
                Ok(line) if self.says_ready(&line) => return,
                Ok(_) => {}
                Err(_) => panic!("not ready: {}", self.wait_end().1),
            }
        }
    }

    /// True once it said that it is ready; panics when it ended instead.
    pub fn is_ready(&mut self) -> bool {
        loop {
            match self.stdout.try_recv() {
                Ok(line) if self.says_ready(&line) => return true,
                Ok(_) => {}
                Err(mpsc::TryRecvError::Empty) => return false,
                Err(mpsc::TryRecvError::Disconnected) => {
                    panic!("not ready: {}", self.wait_end().1)
                }
            }
        }
    }

    /// Takes in a line of standard output; true if it is the last one of a start.
    fn says_ready(&mut self, line: &str) -> bool {
        if let Some(address) = line.strip_prefix("mstreamd: admin ") {
            self.admin = Some(address.parse().expect("an address"));
            return false;
        }
        assert_eq!(line, "mstreamd: ready");
        true
    }

    /// Waits until it says where its admin API is, which it does before it is ready.
    pub fn wait_admin(&mut self) -> SocketAddr {
        let line = self.stdout.recv_timeout(PATIENCE).expect("it says it first");
        assert!(!self.says_ready(&line));
        self.admin()
    }

    /// Where its admin API is, once it said so.
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("it has one, and it is ready")
    }

    /// The positions and counters of shard 0, and of its first port with "port " before their names.
    /// What is 0 may be missing.
    pub fn status(&self) -> HashMap<String, u64> {
        self.signal(Signal::SIGUSR1);
        let lines = [
            self.wait_line("committed_lsn="),
            self.wait_line("shard 0: "),
            self.wait_line("port "),
        ];
        let mut status = HashMap::new();
        for (line, before) in lines.iter().zip(["", "", "port "]) {
            for (name, value) in line.split(' ').filter_map(|word| word.split_once('=')) {
                if let Ok(value) = value.parse() {
                    status.insert(format!("{before}{name}"), value);
                }
            }
        }
        status
    }

    /// One number of [`Node::status`].
    pub fn count(&self, name: &str) -> u64 {
        self.status().get(name).copied().unwrap_or(0)
    }

    /// Waits until a number of [`Node::status`] is at least `least`.
    pub fn wait_count(&self, name: &str, least: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(name) < least {
            assert!(Instant::now() < deadline, "{name} never becomes {least}: {:?}", self.status());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Memory that it has in use, in bytes, without the log's segments.
    pub fn memory(&self) -> u64 {
        let maps = fs::read_to_string(format!("/proc/{}/smaps", self.pid())).expect("it runs");
        let (mut kib, mut segment) = (0, false);
        for line in maps.lines() {
            if let Some(resident) = line.strip_prefix("Rss:") {
                let number = resident.trim().trim_end_matches(" kB").parse::<u64>();
                kib += if segment { 0 } else { number.expect("a number") };
            } else if line.split(' ').next().is_some_and(|word| word.contains('-')) {
                segment = line.contains(".seg");
            }
        }
        kib << 10
    }

    /// The next line on standard error that contains `word`.
    pub fn wait_line(&self, word: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.stderr.recv_timeout(left) {
                Ok(line) if line.contains(word) => return line,
                Ok(_) => {}
                Err(_) => panic!("no line with {word}"),
            }
        }
    }

    /// Waits for the end; everything that was not read of standard error.
    pub fn wait_end(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "mstreamd does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let text: Vec<String> = self.stderr.iter().collect();
        (status, text.join("\n"))
    }

    /// Ends it as an operator does.
    pub fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let (status, text) = self.wait_end();
        assert_eq!(status.code(), Some(0), "{text}");
        text
    }

    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_end();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Ended already, or to be ended: either way nothing is left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
