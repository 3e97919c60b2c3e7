//! What README.md and docs/getting-started.md tell people to type is typed here, against the real programs.
//!
//! The text is taken as it stands; only places are exchanged: directories, the UDP port, the admin port.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Running, mstreamd, texts, wait_until};
use nix::sys::signal::Signal;

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).expect("it is part of the repository")
}

/// The indented blocks of a document, without the indent.
fn blocks(document: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in read(document).lines() {
        let last = blocks.last_mut().expect("there is one");
        match line.strip_prefix("    ") {
            Some(line) => *last += &format!("{line}\n"),
            // Tables of a configuration stand apart.
            None if line.is_empty() && !last.is_empty() => *last += "\n",
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.trim().is_empty());
    blocks
}

fn is_configuration(block: &str) -> bool {
    block.starts_with('[')
}

/// The commands of a document's blocks, in order; a line that ends in a backslash goes on in the next.
fn commands(document: &str) -> Vec<String> {
    let blocks = blocks(document);
    let shell = blocks.iter().filter(|block| !is_configuration(block));
    let joined = shell.map(|block| block.replace("\\\n", " ")).collect::<Vec<_>>().concat();
    let lines = joined.lines().filter(|line| !line.trim().is_empty());
    lines.map(str::to_owned).collect()
}

/// Where the commands are typed: what they name is there, and what they make goes away with it.
struct Desk {
    dir: tempfile::TempDir,
    udp_port: String,
}

impl Desk {
    /// `target/release` holds the programs as they were built for the tests.
    fn new() -> Desk {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let programs = Path::new(env!("CARGO_BIN_EXE_mstream")).parent().expect("a directory");
        fs::create_dir(dir.path().join("target")).expect("made");
        symlink(programs, dir.path().join("target/release")).expect("made");
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let udp_port = udp.local_addr().expect("its address").port().to_string();
        Desk { dir, udp_port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The text with this desk's places in it.
    fn here(&self, text: &str) -> String {
        let dir = self.dir.path().display();
        let mut text =
            text.replace("7500", &self.udp_port).replace("127.0.0.1:7400", "127.0.0.1:0");
        for (place, name) in [
            ("/tmp/mstream-run", "run"),
            ("/run/mstream", "run"),
            ("/dev/shm/mstream-first", "log"),
            ("/dev/shm/mstream-sample", "log"),
        ] {
            text = text.replace(place, &format!("{dir}/{name}"));
        }
        text
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let line = self.here(line);
        command.args(["-c", &line]).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("XDG_CONFIG_HOME", "/nonexistent/mstream-tests");
        command.env_remove("MSTREAM_ADMIN").env_remove("MSTREAM_CONTEXT");
        command
    }

    /// Types a line and waits for its end.
    fn type_in(&self, line: &str) -> Output {
        Running::start(&mut self.shell(line)).output()
    }

    /// Types a line that goes on until somebody ends it; what it says goes to the file `out` and one beside it.
    fn type_beside(&self, line: &str, out: &str) -> Running {
        let file = |name: &str| fs::File::create(self.path(name)).expect("a file");
        // The program itself, not a shell that waits for it, is to get signals.
        let mut command = self.shell(&format!("exec {line}"));
        command.stdout(file(out)).stderr(file(&format!("{out}-beside")));
        Running(command.spawn().expect("it starts"))
    }

    /// Starts a node by a line and waits until it is ready.
    fn start_node(&self, line: &str) -> Running {
        let mut node = self.type_beside(line, "node-said");
        wait_until(|| {
            if node.0.try_wait().expect("a child of ours").is_some() {
                panic!("{line}: {:?}", fs::read_to_string(self.path("node-said-beside")));
            }
            fs::read_to_string(self.path("node-said")).is_ok_and(|said| said.contains("ready"))
        });
        node
    }
}

/// Checks that a line did what it is there for; its standard output.
#[track_caller]
fn done(line: &str, output: &Output) -> String {
    let (code, out, complaint) = texts(output);
    assert_eq!(code, Some(0), "{line}: {complaint}");
    out
}

/// Lines that build, install or test: how this test itself came to be.
fn sets_up(line: &str) -> bool {
    ["cargo ", "apt-get ", "scripts/"].iter().any(|start| line.starts_with(start))
}

fn starts_a_node(line: &str) -> bool {
    line.starts_with("target/release/mstreamd --config")
}

/// Lines that run `mstream-bench` otherwise than as a plain client.
fn measures(line: &str) -> bool {
    let client =
        ["publish", "subscribe"].iter().any(|what| line.contains(&format!("mstream-bench {what}")));
    line.starts_with("target/release/mstream-bench") && !client
}

/// The program `name` where the tests' programs are; `None`, with a word, where it is not built.
fn beside(test: &str, name: &str) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_mstream")).with_file_name(name);
    if program.is_file() {
        return Some(program);
    }
    eprintln!("SKIP {test}: no {} (cargo build --workspace makes it)", program.display());
    None
}

#[test]
fn getting_started_gets_one_started() {
    if mstreamd("getting_started_gets_one_started").is_none() {
        return;
    }
    let document = "docs/getting-started.md";
    let desk = Desk::new();
    let blocks = blocks(document);
    let configurations: Vec<_> = blocks.iter().filter(|block| is_configuration(block)).collect();
    let [first, faster] = configurations[..] else { panic!("{configurations:?}") };
    let first = desk.here(first).replace("[node]", "[node]\nadmin = \"127.0.0.1:0\"");
    fs::write(desk.path("node.toml"), &first).expect("written");
    let (mut node, mut start, mut used) = (None, None, Vec::new());
    for line in commands(document).into_iter().filter(|line| !sets_up(line)) {
        if starts_a_node(&line) {
            node = Some(desk.start_node(&line));
            start = Some(line);
        } else {
            let said = done(&line, &desk.type_in(&line));
            if line.contains("mstream sub") {
                assert_eq!(said, "hello\nworld\n", "{line}");
            }
            used.push(line);
        }
    }
    let start = start.expect("a node is started");
    let reads = used.iter().rfind(|line| line.contains("mstream sub")).expect("it is read");
    // "end the node with Ctrl-C, or kill it with kill -9, start it again and read once more"
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut ended = node.take().expect("it runs");
        ended.signal(signal);
        let expected = if signal == Signal::SIGINT { Some(0) } else { None };
        assert_eq!(ended.code(), expected);
        node = Some(desk.start_node(&start));
        assert_eq!(done(reads, &desk.type_in(reads)), "hello\nworld\n");
    }
    drop(node);
    // "Add to the configuration", "name it in the shard", and add the flags to the commands.
    let text = read(document);
    let inline = |start: &str| {
        let found = text.split('`').find(|span| span.starts_with(start));
        found.unwrap_or_else(|| panic!("{document} says `{start}...` no more")).to_owned()
    };
    let ports = inline("ports = [");
    assert!(first.contains("ports = [\"udp\"]"), "{first}");
    let second = first.replace("ports = [\"udp\"]", &ports) + &desk.here(faster);
    fs::write(desk.path("node.toml"), second).expect("written");
    let _node = desk.start_node(&start);
    let flags = inline("--addr 10.");
    let reads = reads.replace("--addr 127.0.0.1:7500", &flags);
    assert!(reads.contains("--memif"), "{reads}");
    assert_eq!(done(&reads, &desk.type_in(&reads)), "hello\nworld\n");
}

#[test]
fn the_readme_says_what_works() {
    let test = "the_readme_says_what_works";
    if mstreamd(test).is_none() || beside(test, "mstream-bench").is_none() {
        return;
    }
    let desk = Desk::new();
    // Its sample, with the places of this desk.
    let sample = read("node/mstreamd.sample.toml");
    fs::create_dir(desk.path("node")).expect("made");
    fs::write(desk.path("node/mstreamd.sample.toml"), desk.here(&sample)).expect("written");
    let (mut node, mut reader) = (None, None);
    let mut published = false;
    for line in commands("README.md") {
        if sets_up(&line) {
            let program = line.split(' ').next().unwrap_or_default();
            assert!(!program.starts_with("scripts/") || root().join(program).is_file(), "{line}");
        } else if starts_a_node(&line) {
            node = Some(desk.start_node(&line));
        } else if line.contains("mstream-bench subscribe") {
            // It reads until Ctrl-C: here until everything was read.
            reader = Some(desk.type_beside(&format!("{line} --count 100000"), "reader-said"));
        } else if measures(&line) {
            // It takes the machine for itself: only that there is such a command, with such options.
            let command = line.split('#').next().unwrap_or_default();
            done(&line, &desk.type_in(&format!("{command} --help")));
        } else {
            done(&line, &desk.type_in(&line));
            published |= line.contains("mstream-bench publish");
        }
    }
    assert!(node.is_some() && published);
    let mut reader = reader.expect("somebody reads");
    assert_eq!(reader.code(), Some(0));
    let said = fs::read_to_string(desk.path("reader-said")).expect("it says what it read");
    assert!(said.contains("received 100000 messages"), "{said}");
}

/// Commands between backticks in the documents, with places for what people fill in.
fn inline_commands() -> Vec<(String, String)> {
    let mut documents = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).expect("it is there").flatten() {
        let name = entry.file_name().into_string().expect("plain letters");
        documents.extend(name.ends_with(".md").then(|| format!("docs/{name}")));
    }
    let mut found = Vec::new();
    for document in documents {
        // Blocks are not inline, and their backticks, if any, are the shell's.
        let text = read(&document);
        let spans = text.split('`').skip(1).step_by(2);
        let programs = ["mstream ", "mstreamd ", "mstream-bench "];
        let commands = spans.filter(|span| programs.iter().any(|start| span.starts_with(start)));
        found.extend(commands.map(|span| (document.clone(), span.to_owned())));
    }
    found
}

#[test]
fn commands_in_running_text_exist() {
    let found = inline_commands();
    assert!(found.len() > 20, "{found:?}");
    for (document, command) in found {
        let command = command.split(['>', '|']).next().unwrap_or_default();
        let mut words = command.split_whitespace();
        let name = words.next().expect("a program");
        let Some(program) = beside("commands_in_running_text_exist", name) else { continue };
        // Options and subcommands that do not exist are found out before the help is shown.
        let output = Command::new(program).args(words).arg("--help").stdin(Stdio::null()).output();
        let (code, _, complaint) = texts(&output.expect("it runs"));
        assert_eq!(code, Some(0), "{document}: `{command}`: {complaint}");
    }
}
