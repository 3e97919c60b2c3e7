//! The programs that users have: `mstream`, and the Python client as a program.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// Publishes and reads messages that each stand behind their length in 2 bytes.
#[derive(Clone, Debug)]
pub enum Program {
    /// `mstream`, where it is.
    Mstream(PathBuf),
    /// The Python client.
    Python,
}

/// A program that runs; killed by its pid when dropped.
pub struct Running {
    child: Child,
    /// Where its outputs go.
    out: PathBuf,
    err: PathBuf,
    name: String,
}

impl Program {
    /// `mstream` beside mstreamd; `None`, with a word, where it is not built.
    pub fn mstream(test: &str) -> Option<Program> {
        let program = Path::new(env!("CARGO_BIN_EXE_mstreamd")).with_file_name("mstream");
        if program.is_file() {
            return Some(Program::Mstream(program));
        }
        eprintln!("SKIP {test}: no {} (cargo build -p mstream-cli makes it)", program.display());
        None
    }

    /// Starts to read `count` messages from offset `from` on; files of the name `file` take what it writes.
    pub fn read(
        &self,
        shard: SocketAddr,
        stream: &str,
        from: usize,
        count: usize,
        file: &Path,
    ) -> Running {
        let mut command = self.command("sub", shard, stream);
        let (from, count) = (from.to_string(), count.to_string());
        command.args(["--framing", "u16be", "--from", &from, "--count", &count]);
        Running::start(command.stdin(Stdio::null()), file)
    }

    /// Publishes the messages of a file until all are acknowledged.
    pub fn publish(&self, shard: SocketAddr, stream: &str, input: &Path) {
        let mut command = self.command("pub", shard, stream);
        command.args(["--framing", "u16be"]).stdin(File::open(input).expect("it is there"));
        Running::start(&mut command, &input.with_extension("published")).finished();
    }

    fn command(&self, verb: &str, shard: SocketAddr, stream: &str) -> Command {
        let shard = shard.to_string();
        match self {
            Program::Mstream(path) => {
                let mut command = Command::new(path);
                // Away from the contexts and variables of whoever tests.
                command.env("XDG_CONFIG_HOME", "/nonexistent/mstream-tests");
                command.env_remove("MSTREAM_ADMIN").env_remove("MSTREAM_CONTEXT");
                command.args([verb, "--addr", &shard, stream]);
                command
            }
            Program::Python => {
                let mut command = Command::new("python3");
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../client/python/mstream.py"));
                command.args([verb, &shard, stream]);
                command
            }
        }
    }
}

impl Running {
    fn start(command: &mut Command, file: &Path) -> Running {
        let (out, err) = (file.with_extension("out"), file.with_extension("err"));
        let to = |path: &Path| -> io::Result<Stdio> { Ok(File::create(path)?.into()) };
        command.stdout(to(&out).expect("a file")).stderr(to(&err).expect("a file"));
        let child = command.spawn().expect("it starts");
        Running { child, out, err, name: format!("{command:?}") }
    }

    /// Waits until it has done what it was asked for; what it wrote.
    pub fn finished(mut self) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            std::thread::sleep(Duration::from_millis(5));
        };
        let complaint = fs::read_to_string(&self.err).expect("text");
        assert!(status.success() && complaint.is_empty(), "{}: {status}: {complaint}", self.name);
        fs::read(&self.out).expect("it wrote")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, or to be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
