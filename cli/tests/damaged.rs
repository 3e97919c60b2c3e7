//! A node whose log is damaged, from the fault to the accepted loss, as its operator and its clients see it.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;

use common::{Appliance, Running, assert_fails, json, mstreamd, output, stdout, texts};
use nix::sys::signal::Signal;

const MESSAGES: usize = 3000;

fn line(number: usize) -> String {
    format!("message {number:6} {}", "x".repeat(100))
}

/// Damages message 700, far from the log's end.
fn damage(appliance: &Appliance) {
    let path = appliance.path("log/shard-0/00000000.seg");
    let file = fs::File::options().read(true).write(true).open(path).expect("the first segment");
    let mut bytes = vec![0; file.metadata().expect("it is there").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("all of it");
    let text = line(700);
    let at = bytes.windows(text.len()).position(|part| part == text.as_bytes()).expect("stored");
    file.write_all_at(b"M", at as u64).expect("written");
}

fn end(mut node: Running) {
    node.signal(Signal::SIGTERM);
    assert_eq!(node.code(), Some(0));
}

fn readiness(appliance: &Appliance) -> String {
    let mut stream = TcpStream::connect(appliance.admin()).expect("it listens");
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[test]
fn from_the_fault_to_the_accepted_loss() {
    let Some(program) = mstreamd("from_the_fault_to_the_accepted_loss") else { return };
    let appliance = Appliance::new(program);
    let node = appliance.start();
    let input: String = (0..MESSAGES).map(|number| line(number) + "\n").collect();
    stdout(appliance.publish(input.as_bytes(), &["--publisher-id", "1"]));
    end(node);
    damage(&appliance);
    let before = fs::read(appliance.path("log/shard-0/00000000.seg")).expect("readable");

    let node = appliance.start();
    let status = json(&stdout(appliance.manage(&["status", "--json"])));
    let shard = &status[0]["shards"][0];
    let condition = shard["log_condition"].as_str().expect("text");
    assert!(condition.starts_with("FAULT: read-only, "), "{condition}");
    let missing = &shard["missing"][0];
    assert_eq!(missing["stream"], "s");
    let from = missing["from"].as_u64().expect("an offset") as usize;
    let to = missing["to"].as_u64().expect("an offset") as usize;
    assert!((from..to).contains(&700), "{missing}");
    let text = String::from_utf8(stdout(appliance.manage(&["status"]))).expect("text");
    let words = format!("MISSING: stream s, offsets {from} to {}", to - 1);
    assert!(text.contains("LOG: FAULT") && text.contains(&words), "{text}");
    let text = String::from_utf8(stdout(appliance.manage(&["backlog"]))).expect("text");
    assert!(text.contains(&words), "{text}");
    let ready = readiness(&appliance);
    assert!(ready.contains("503") && ready.contains("shard 0: FAULT"), "{ready}");

    let kept: String =
        (0..MESSAGES).filter(|n| !(from..to).contains(n)).map(|n| line(n) + "\n").collect();
    let read = || texts(&appliance.read(&["--until-end", "--keep-going"]));
    let (code, messages, complaint) = read();
    assert_eq!((code, messages == kept), (Some(1), true), "{complaint}");
    let words = format!("offsets {from} to {} cannot be read: the node's log is damaged", to - 1);
    assert!(complaint.contains(&words), "{complaint}");
    let refused = appliance.publish(b"more\n", &[]);
    assert_fails(&refused, "log damaged");
    let refused = appliance.publish(b"more\n", &["--publisher-id", "1"]);
    assert_fails(&refused, "log damaged");
    end(node);
    let after = fs::read(appliance.path("log/shard-0/00000000.seg")).expect("readable");
    assert!(before == after, "a fault is not written to");

    let log = appliance.path("log").display().to_string();
    let (code, said, _) = texts(&output(&["wal", "accept-loss", &log, "--yes"]));
    assert_eq!(code, Some(0), "{said}");
    let node = appliance.start();
    assert!(readiness(&appliance).contains("200"));
    let (code, messages, complaint) = read();
    assert_eq!((code, messages == kept), (Some(1), true), "{complaint}");
    let words = format!("offsets {from} to {} are lost", to - 1);
    assert!(complaint.contains(&words), "{complaint}");
    stdout(appliance.publish(b"more\n", &["--publisher-id", "1"]));
    let from = MESSAGES.to_string();
    assert_eq!(stdout(appliance.read(&["--from", &from, "--until-end"])), b"more\n");
    end(node);
}
