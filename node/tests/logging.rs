//! What is logged, and where to: levels, JSON lines, the journal.

mod common;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use common::{Node, PATIENCE, Setting};
use serde_json::Value;

fn setting(log: &str) -> Setting {
    let mut setting = Setting::socket();
    setting.add(&format!("[log]\n{log}"));
    setting
}

#[test]
fn json_lines_carry_fields() {
    let setting = setting("format = \"json\"");
    let text = setting.start().stop();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
    let line = |message: &str| {
        let has = |line: &&Value| line["message"].as_str().is_some_and(|m| m.contains(message));
        lines.iter().find(has).unwrap_or_else(|| panic!("no {message} in {text}"))
    };
    let new = line(": new");
    assert_eq!((&new["shard"], &new["epoch"]), (&0.into(), &1.into()), "{new}");
    assert_eq!((&new["level"], new["timestamp"].is_string()), (&"process".into(), true), "{new}");
    assert_eq!(line("ready")["core"], 0);
    assert_eq!(line("stopping")["level"], "INFO");
}

#[test]
fn the_level_is_the_files_unless_the_command_line_says_another() {
    let setting = setting("level = \"off\"");
    assert_eq!(setting.start().stop(), "");
    let text = setting.start_with(&["--log", "info"]).stop();
    assert!(text.contains("recovered shard=0 level=process epoch=2 "), "{text}");
}

/// mstreamd in a mount namespace of its own, where /run/systemd/journal is `journal`. With `connected` its standard
/// error is said to be connected to the journal.
fn spawn(setting: &Setting, journal: &Path, connected: bool) -> Node {
    let script = r#"
        mount -t tmpfs none /run && mkdir -p /run/systemd/journal &&
        mount --bind "$1" /run/systemd/journal || exit 99
        if [ "$2" = true ]; then JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); export JOURNAL_STREAM; fi
        exec "$3" --config "$4""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(journal).arg(connected.to_string());
    Node::spawn(command.arg(env!("CARGO_BIN_EXE_mstreamd")).arg(setting.file()))
}

/// True if mount namespaces cannot be made; says so.
fn skipped(test: &str) -> bool {
    let mut made = Command::new("unshare");
    made.args(["--mount", "mount", "-t", "tmpfs", "none", "/run"]);
    let possible = made.output().is_ok_and(|output| output.status.success());
    if !possible {
        eprintln!("SKIP {test}: mount namespaces are not permitted");
    }
    !possible
}

/// A journal in a directory of its own: what comes to its socket. It is read at once, as the kernel keeps few datagrams
/// and the next one's sender would wait.
fn journal() -> (tempfile::TempDir, Receiver<Vec<u8>>) {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = UnixDatagram::bind(dir.path().join("socket")).expect("bound");
    let (sender, messages) = channel();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(length) = socket.recv(&mut bytes) {
            if sender.send(bytes[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    (dir, messages)
}

/// The next message of the journal with `word` in it.
fn message(messages: &Receiver<Vec<u8>>, word: &str) -> Vec<u8> {
    loop {
        let message =
            messages.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no {word}: {error}"));
        if contains(&message, word.as_bytes()) {
            return message;
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A field as the journal's protocol writes it: name, length, value.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = (value.len() as u64).to_le_bytes();
    [name.as_bytes(), b"\n", &length, value.as_bytes(), b"\n"].concat()
}

#[test]
fn the_journal_gets_fields_and_standard_error_its_lines() {
    if skipped("the_journal_gets_fields_and_standard_error_its_lines") {
        return;
    }
    let (dir, messages) = journal();
    let setting = setting("journald = true");
    let mut node = spawn(&setting, dir.path(), false);
    node.wait_ready();
    let found = message(&messages, ": new");
    for (name, value) in [
        ("PRIORITY", "5"),
        ("SYSLOG_IDENTIFIER", "mstreamd"),
        ("SHARD", "0"),
        ("EPOCH", "1"),
        ("LEVEL", "process"),
    ] {
        let text = String::from_utf8_lossy(&found);
        assert!(contains(&found, &field(name, value)), "{name}={value}: {text}");
    }
    node.wait_line("ready");
    node.stop();
}

#[test]
fn connected_to_the_journal_everything_goes_there_and_only_there() {
    if skipped("connected_to_the_journal_everything_goes_there_and_only_there") {
        return;
    }
    let (dir, messages) = journal();
    let setting = setting("");
    let mut node = spawn(&setting, dir.path(), true);
    node.wait_ready();
    message(&messages, "ready");
    assert_eq!(node.stop(), "");
    message(&messages, "stopping");
}

#[test]
fn without_a_journal_auto_falls_back_and_true_is_refused() {
    if skipped("without_a_journal_auto_falls_back_and_true_is_refused") {
        return;
    }
    let empty = tempfile::tempdir().expect("a directory");
    let usual = setting("");
    let mut node = spawn(&usual, empty.path(), true);
    node.wait_ready();
    node.wait_line("ready");
    node.stop();
    let demanding = setting("journald = true");
    let (status, text) = spawn(&demanding, empty.path(), false).wait_end();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.starts_with("mstreamd: [log] journald = true: the journal does not"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
