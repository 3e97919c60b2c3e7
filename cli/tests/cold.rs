//! `mstream wal` on cold segments that a node made: shown, checked, dumped beside the log and alone, and set aside.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Appliance, assert_fails, json, mstreamd, output, stdout, texts};
use serde_json::Value;

const MESSAGES: u64 = 40_000;

/// A node with a cold stream `s` on a log of 4 MiB that was recycled, and was stopped.
struct Stopped(Appliance);

impl Stopped {
    fn new(test: &str) -> Option<Stopped> {
        let appliance = Appliance::new(mstreamd(test)?);
        let file = appliance.path("node.toml");
        let text = fs::read_to_string(&file).expect("written");
        let text = text
            .replace("segment_bytes = \"4 MiB\"", "segment_bytes = \"256 KiB\"")
            .replace("max_bytes = \"64 MiB\"", "max_bytes = \"4 MiB\"")
            .replace("name = \"s\"\n", "name = \"s\"\ncold = true\n");
        fs::write(file, text).expect("written");
        let mut node = appliance.start();
        stdout(appliance.publish(lines(0..MESSAGES).as_bytes(), &["--framing", "lines"]));
        node.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(node.code(), Some(0));
        Some(Stopped(appliance))
    }

    fn log(&self) -> PathBuf {
        self.0.path("log")
    }

    fn cold(&self) -> PathBuf {
        self.0.path("log/shard-0/cold")
    }

    /// The first of its cold segments.
    fn file(&self) -> PathBuf {
        self.content().into_keys().next().expect("there is one")
    }

    fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        content(&self.cold())
    }
}

/// Files of a directory.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).expect("there").map(|entry| entry.expect("an entry").path());
    let files = paths.filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| format!("message {number} {}\n", "x".repeat(120))).collect()
}

fn wal(command: &str, dir: &Path, more: &[&str]) -> std::process::Output {
    output(&[&["wal", command, &dir.display().to_string()], more].concat())
}

fn text(command: &str, dir: &Path, more: &[&str]) -> String {
    String::from_utf8(stdout(wal(command, dir, more))).expect("text")
}

/// What a command says as JSON of the one log there is, also where it fails.
fn value(command: &str, dir: &Path, more: &[&str]) -> Value {
    json(&wal(command, dir, &[more, &["--json"]].concat()).stdout).remove(0)
}

const DUMP: [&str; 4] = ["--stream", "s", "--framing", "lines"];

#[test]
fn cold_segments_are_shown_checked_and_dumped() {
    let Some(node) = Stopped::new("cold_segments_are_shown_checked_and_dumped") else { return };
    let before = node.content();
    let shown = text("inspect", &node.log(), &[]);
    let line = format!("cold segments in {}: sound at both ends: ", node.cold().display());
    assert!(shown.contains(&line), "{shown}");
    let log = value("inspect", &node.log(), &[]);
    let files = log["cold"]["files"].as_array().expect("a list");
    assert_eq!(files.len(), before.len());
    for (file, (path, bytes)) in files.iter().zip(&before) {
        assert!(path.ends_with(file["name"].as_str().expect("a name")), "{file}");
        assert_eq!((&file["bytes"], &file["state"]), (&bytes.len().into(), &"sound".into()));
        assert_eq!((&file["log_id"], &file["level"]), (&log["log_id"], &"process".into()));
        assert!(
            file["records"].as_u64() > Some(0)
                && shown.contains(file["name"].as_str().unwrap_or("-"))
        );
    }
    let stream = &log["cold"]["streams"][0];
    assert_eq!((&stream["name"], &stream["first_offset"]), (&"s".into(), &0.into()));
    let hot_first = log["streams"][0]["first_offset"].as_u64().expect("an offset");
    assert!(hot_first > 0 && stream["end_offset"].as_u64() >= Some(hot_first), "{log}");
    let verdict = text("verify", &node.log(), &[]);
    assert!(verdict.contains(&format!("cold segments in {}: sound: ", node.cold().display())));
    // Each message once, from wherever it is.
    assert!(text("dump", &node.log(), &DUMP) == lines(0..MESSAGES), "not all of it");
    let around = (hot_first - 3, hot_first + 3);
    let bounds = [around.0.to_string(), around.1.to_string()];
    let bounds = ["--from", &bounds[0], "--to", &bounds[1]];
    assert_eq!(
        text("dump", &node.log(), &[&DUMP[..], &bounds].concat()),
        lines(around.0..around.1)
    );
    // The cold segments alone, and through their own directory's name.
    let end = stream["end_offset"].as_u64().expect("an offset");
    let alone = ["--stream", "1", "--id", "--framing", "lines"];
    assert!(text("dump", &node.cold(), &alone) == lines(0..end), "not all of it");
    assert!(text("verify", &node.cold(), &[]).contains(": cold segments alone\n"));
    let records = text("dump", &node.cold(), &[]);
    assert!(records.lines().all(|line| line.starts_with("cold: lsn ")), "{records}");
    // All records, those that only cold segments hold among them.
    let all = json(&wal("dump", &node.log(), &["--json"]).stdout);
    let data = all.iter().filter(|record| record["kind"] == "data");
    let messages: u64 = data.filter_map(|record| record["count"].as_u64()).sum();
    assert_eq!(messages, MESSAGES);
    let elsewhere = node.0.path("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    fs::rename(node.cold(), elsewhere.join("shard-0")).expect("moved");
    assert!(text("inspect", &node.log(), &[]).contains("sound\n"));
    let named = ["--cold", elsewhere.to_str().expect("text")];
    assert_eq!(value("verify", &node.log(), &named)["cold"]["health"], "sound");
    assert_fails(
        &wal("inspect", &node.log(), &["--cold", "/dev/shm/nothing-here"]),
        "no such directory",
    );
    fs::rename(elsewhere.join("shard-0"), node.cold()).expect("moved");
    assert!(node.content() == before, "looking changes nothing");
}

#[test]
fn damage_of_cold_segments_is_told_by_file_byte_and_offsets() {
    let test = "damage_of_cold_segments_is_told_by_file_byte_and_offsets";
    let Some(node) = Stopped::new(test) else { return };
    let (file, before) = (node.file(), node.content());
    let sound = &before[&file];
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        fs::write(&file, bytes).expect("written");
    };
    let name = file.display();
    // The header of the file's first record.
    change(&|bytes| bytes[64 + 20] ^= 1);
    let (code, told, complaint) = texts(&wal("verify", &node.log(), &[]));
    assert_eq!(code, Some(1), "{told}");
    let line = format!("{name} byte 64: the chunk does not fit its crc; offsets 0 to ");
    assert!(told.contains(&line) && told.contains("of stream s cannot be read"), "{told}");
    assert!(told.contains(": 1 file cannot be used as it should: "), "{told}");
    assert!(complaint.contains("1 problem found"), "{complaint}");
    let damage = &value("verify", &node.log(), &[])["cold"]["files"][0]["damages"][0];
    assert_eq!((&damage["byte"], &damage["lost"][0]), (&64.into(), &0.into()));
    let lost = damage["lost"][1].as_u64().expect("an offset");
    assert!(text("inspect", &node.log(), &[]).contains("sound at both ends"), "its ends are");
    // What is sound is dumped.
    let (code, dumped, complaint) = texts(&wal("dump", &node.log(), &DUMP));
    assert_eq!(code, Some(1));
    assert!(dumped == lines(lost..MESSAGES), "not what is left");
    assert!(complaint.contains(&format!("offsets 0 to {} are left out", lost - 1)), "{complaint}");
    // Cut short: a start refuses it.
    change(&|bytes| bytes.truncate(bytes.len() / 2));
    let cut = sound.len() / 2 - 64;
    let (code, told, _) = texts(&wal("verify", &node.log(), &[]));
    assert_eq!(code, Some(1));
    let line = format!("{name} byte {cut}: no footer ends the file: it was cut short");
    assert!(told.contains(&line) && told.contains("; a start refuses it"), "{told}");
    let told = text("inspect", &node.log(), &[]);
    assert!(told.contains(&format!("damaged at byte {cut}: no footer")), "{told}");
    // Half written is no damage.
    change(&|_| ());
    let half = node.cold().join("00009999-00009999.cold.new");
    fs::write(&half, &sound[..1000]).expect("written");
    assert!(text("inspect", &node.log(), &[]).contains("half written: the next start removes it"));
    text("verify", &node.log(), &[]);
    fs::remove_file(&half).expect("there");
    assert!(node.content() == before);
}

#[test]
fn cold_segments_of_a_lost_log_are_set_aside() {
    let Some(node) = Stopped::new("cold_segments_of_a_lost_log_are_set_aside") else { return };
    let before = node.content();
    for (path, _) in content(&node.0.path("log/shard-0")) {
        fs::remove_file(path).expect("there");
    }
    let shown = text("inspect", &node.log(), &[]);
    assert!(shown.starts_with("shard 0: cold segments alone\n"), "{shown}");
    let aside = || wal("set-cold-aside", &node.log(), &[]);
    assert_fails(&aside(), "cold segments alone, no log");
    let refused = || {
        let mut command = std::process::Command::new(mstreamd("it is there").expect("it is"));
        command.args(["--log", "off", "--config"]).arg(node.0.path("node.toml"));
        let (code, _, complaint) = texts(&common::Running::start(&mut command).output());
        assert_eq!(code, Some(1), "{complaint}");
        complaint
    };
    let said = refused();
    let mends = format!("`mstream wal set-cold-aside {} --shard 0`", node.log().display());
    assert!(said.contains(&mends), "{said}");
    assert!(node.content() == before, "nothing is changed");
    let (code, told, _) = texts(&wal("verify", &node.log(), &[]));
    assert_eq!(code, Some(1));
    assert!(told.contains("a start refuses it (mstream wal set-cold-aside)"), "{told}");
    let told = String::from_utf8(stdout(aside())).expect("text");
    let old = fs::read_dir(node.cold()).expect("there").next().expect("one").expect("one").path();
    let expected = format!("moved to {}; `mstream wal` reads them there\n", old.display());
    assert!(told.starts_with("shard 0: ") && told.ends_with(&expected), "{told}");
    assert_eq!(
        content(&old).into_values().collect::<Vec<_>>(),
        before.into_values().collect::<Vec<_>>()
    );
    assert!(String::from_utf8(stdout(aside())).expect("text").contains("nothing was moved"));
    let running = node.0.start();
    assert_fails(&aside(), "in use by another mstreamd");
    stdout(node.0.publish(b"a new one\n", &["--framing", "lines"]));
    let read = ["--from", "earliest", "--until-end", "--framing", "lines"];
    assert_eq!(stdout(node.0.read(&read)), b"a new one\n");
    drop(running);
    // The one log and the other are told apart.
    assert_eq!(text("dump", &node.log(), &DUMP), "a new one\n");
    let shown = text("inspect", &node.log(), &[]);
    assert!(shown.contains(&format!("set aside: {}\n", old.display())), "{shown}");
    assert_eq!(value("verify", &old, &[])["cold"]["health"], "sound");
    let log = node.log().display().to_string();
    let dumped = text("dump", &old, &[&DUMP[..], &["--catalogue", &log]].concat());
    assert!(dumped.starts_with(&lines(0..1000)) && lines(0..MESSAGES).starts_with(&dumped));
}
