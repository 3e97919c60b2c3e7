//! Nodes that are away, hang or are killed; people and pipes that go away.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;

use common::{
    Appliance, Running, assert_fails, json, mstream, mstreamd, output, stdout, texts, wait_until,
};
use nix::sys::signal::Signal;

/// Lines that somebody still writes.
struct Typed {
    running: Running,
    pipe: std::process::ChildStdin,
}

impl Typed {
    fn start(args: &[&str]) -> Typed {
        let mut running = Running::start(mstream(args).stdin(Stdio::piped()));
        let pipe = running.0.stdin.take().expect("a pipe");
        Typed { running, pipe }
    }

    fn write(&mut self, text: &str) {
        self.pipe.write_all(text.as_bytes()).expect("it reads");
    }
}

/// Reads so many lines of a stream, from its beginning.
fn lines(appliance: &Appliance, count: usize) -> Vec<String> {
    let count = count.to_string();
    let got = stdout(appliance.read(&["--from", "earliest", "--count", &count]));
    String::from_utf8(got).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn a_named_publisher_and_a_reader_go_on_over_a_kill() {
    let Some(program) = mstreamd("a_named_publisher_and_a_reader_go_on_over_a_kill") else {
        return;
    };
    let appliance = Appliance::new(program);
    let mut node = appliance.start();
    let mut reader = Running::start(&mut mstream(
        &appliance.args("sub", &["--from", "earliest", "--count", "6000"]),
    ));
    let mut got = BufReader::new(reader.0.stdout.take().expect("a pipe")).lines();
    let more = ["--publisher-id", "1", "--rate", "4000/s", "--json"];
    let mut publisher = Typed::start(&appliance.args("pub", &more));
    let all: Vec<String> = (0..6000).map(|n| n.to_string()).collect();
    publisher.write(&(all.join("\n") + "\n"));
    for expected in &all[..1000] {
        assert_eq!(&got.next().expect("more comes").expect("a pipe"), expected);
    }
    // In the middle of it, without a word.
    node.0.kill().expect("it runs");
    node.0.wait().expect("a child of ours");
    let _again = appliance.start();
    for expected in &all[1000..] {
        assert_eq!(&got.next().expect("more comes").expect("a pipe"), expected);
    }
    assert_eq!(reader.code(), Some(0));
    drop(publisher.pipe);
    let (code, out, complaint) = texts(&publisher.running.output());
    assert_eq!(code, Some(0), "{complaint}");
    let summary = json(out.as_bytes());
    assert_eq!(
        (&summary[0]["messages"], &summary[0]["acknowledged"]),
        (&6000.into(), &6000.into())
    );
    assert!(summary[0]["reconnects"].as_u64() > Some(0));
    assert_eq!(lines(&appliance, 6000), all);
}

#[test]
fn an_anonymous_publisher_says_what_it_does_not_know() {
    let Some(program) = mstreamd("an_anonymous_publisher_says_what_it_does_not_know") else {
        return;
    };
    let appliance = Appliance::new(program);
    let mut node = appliance.start();
    let mut publisher = Typed::start(&appliance.args("pub", &["--json"]));
    publisher.write("first\n");
    assert_eq!(lines(&appliance, 1), ["first"]);
    node.signal(Signal::SIGSTOP);
    // Nobody is there to acknowledge this.
    publisher.write("second\n");
    node.0.kill().expect("it runs");
    node.0.wait().expect("a child of ours");
    let _again = appliance.start();
    let (code, out, complaint) = texts(&publisher.running.output());
    assert_eq!(code, Some(1));
    assert!(complaint.contains("whether 1 message is stored is not known"), "{complaint}");
    let summary = json(out.as_bytes());
    assert_eq!((&summary[0]["messages"], &summary[0]["acknowledged"]), (&2.into(), &1.into()));
}

#[test]
fn ctrl_c_waits_for_what_was_sent_and_says_what_is_acknowledged() {
    let Some(program) = mstreamd("ctrl_c_waits_for_what_was_sent_and_says_what_is_acknowledged")
    else {
        return;
    };
    let appliance = Appliance::new(program);
    let node = appliance.start();
    let mut publisher = Typed::start(&appliance.args("pub", &[]));
    publisher.write("a\nb\n");
    assert_eq!(lines(&appliance, 2), ["a", "b"]);
    publisher.running.signal(Signal::SIGINT);
    let said = publisher.running.output();
    assert_fails(&said, "interrupted; 2 of 2 messages acknowledged at level process");

    // While nobody acknowledges, the first Ctrl-C waits and a second one ends at once.
    let waited = (0..50).any(|round| {
        let mut publisher = Typed::start(&appliance.args("pub", &["--patience", "forever"]));
        let line = format!("round {round}\n");
        publisher.write(&line);
        wait_until(|| {
            let stored = stdout(appliance.read(&["--until-end"]));
            String::from_utf8_lossy(&stored).contains(&line)
        });
        node.signal(Signal::SIGSTOP);
        publisher.write("d\n");
        std::thread::sleep(std::time::Duration::from_millis(50));
        publisher.running.signal(Signal::SIGINT);
        std::thread::sleep(std::time::Duration::from_millis(300));
        let ended = publisher.running.0.try_wait().expect("a child of ours").is_some();
        if !ended {
            publisher.running.signal(Signal::SIGINT);
            assert_eq!(publisher.running.code(), Some(1));
        } else {
            // The signal overtook the message: that one was not sent, so that there was nothing to wait for.
            assert_fails(&publisher.running.output(), "interrupted; 1 of 1 messages acknowledged");
        }
        node.signal(Signal::SIGCONT);
        !ended
    });
    assert!(waited, "it does not wait");

    // A reader ends well.
    let mut reader = Running::start(&mut mstream(&appliance.args("sub", &["--from", "earliest"])));
    let mut first = [0; 2];
    reader.0.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("it writes");
    reader.signal(Signal::SIGTERM);
    let (code, _, complaint) = texts(&reader.output());
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
}

#[test]
fn a_closed_pipe_ends_quietly_also_when_nothing_comes() {
    let Some(program) = mstreamd("a_closed_pipe_ends_quietly_also_when_nothing_comes") else {
        return;
    };
    let appliance = Appliance::new(program);
    let _node = appliance.start();
    stdout(appliance.publish("0123456789\n".repeat(20_000).as_bytes(), &[]));
    for from in ["earliest", "latest"] {
        let mut reader = Running::start(&mut mstream(&appliance.args("sub", &["--from", from])));
        drop(reader.0.stdout.take());
        let mut complaint = String::new();
        let code = reader.code();
        reader.0.stderr.take().expect("a pipe").read_to_string(&mut complaint).expect("text");
        assert_eq!((code, complaint.as_str()), (Some(0), ""), "from {from}");
    }
}

#[test]
fn nodes_that_are_away_or_hang_are_told_from_each_other_as_far_as_can_be() {
    let Some(program) =
        mstreamd("nodes_that_are_away_or_hang_are_told_from_each_other_as_far_as_can_be")
    else {
        return;
    };
    // Nobody answers here.
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = silent.local_addr().expect("its address").to_string();
    let away = output(&["sub", "--addr", &address, "--timeout", "300ms", "s"]);
    assert_fails(&away, &format!("no answer from {address} within 300ms"));
    let away = output(&["pub", "--addr", &address, "--timeout", "300ms", "s", "/dev/null"]);
    assert_fails(&away, &format!("no answer from {address} within 300ms"));
    let away = output(&[
        "sub",
        "--memif",
        "/nonexistent/m.sock",
        "--addr",
        &address,
        "--timeout",
        "300ms",
        "s",
    ]);
    assert_fails(&away, "/nonexistent/m.sock");

    let appliance = Appliance::new(program);
    let node = appliance.start();
    let more = ["--from", "earliest", "--patience", "2s"];
    let mut reader = Running::start(&mut mstream(&appliance.args("sub", &more)));
    stdout(appliance.publish(b"x\n", &[]));
    let mut first = [0; 2];
    reader.0.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("it writes");
    node.signal(Signal::SIGSTOP);
    let (code, _, complaint) = texts(&reader.output());
    assert_eq!(code, Some(1));
    assert!(complaint.contains("for 2s: the node hangs"), "{complaint}");
    // A reader with more patience goes on where it was.
    node.signal(Signal::SIGCONT);
    let mut reader = Running::start(&mut mstream(&appliance.args("sub", &["--from", "earliest"])));
    let out = reader.0.stdout.as_mut().expect("a pipe");
    out.read_exact(&mut first).expect("it writes");
    node.signal(Signal::SIGSTOP);
    let mut told = BufReader::new(reader.0.stderr.take().expect("a pipe")).lines();
    let line = told.next().expect("a line").expect("text");
    assert!(line.contains("trying again"), "{line}");
    node.signal(Signal::SIGCONT);
    let line = told.next().expect("a line").expect("text");
    assert!(line.contains("answers again"), "{line}");
    stdout(appliance.publish(b"y\n", &[]));
    reader.0.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("it writes");
    assert_eq!(&first, b"y\n");
}

#[test]
fn every_command_says_where_it_got_no_answer() {
    let Some(program) = mstreamd("every_command_says_where_it_got_no_answer") else { return };
    let appliance = Appliance::new(program);
    let mut node = appliance.start();
    let (admin, shard) = (appliance.admin(), appliance.address.clone());
    let all: [&[&str]; 9] = [
        &["status"],
        &["sessions"],
        &["backlog"],
        &["errors"],
        &["config", "show"],
        &["stream", "list"],
        &["stream", "create", "t"],
        &["publisher", "register", "w"],
        &["top", "--once"],
    ];
    let over_udp: [&[&str]; 2] = [&["sub", "s"], &["pub", "s", "/dev/null"]];
    for command in all {
        stdout(appliance.manage(command));
    }
    // First it hangs, then it is not there any more.
    node.signal(Signal::SIGSTOP);
    for is_stopped in [true, false] {
        if !is_stopped {
            node.0.kill().expect("it runs");
            node.0.wait().expect("a child of ours");
        }
        let why = match is_stopped {
            true => format!("no answer from the node's admin address {admin} within 300ms"),
            false => {
                format!("nobody listens at the admin address {admin}: is mstreamd running there?")
            }
        };
        for command in all {
            let said = output(&[command, &["--admin", &admin, "--timeout", "300ms"]].concat());
            assert_fails(&said, &why);
        }
        for command in over_udp {
            let said = output(&[command, &["--addr", &shard, "--timeout", "300ms"]].concat());
            assert_fails(&said, &format!("no answer from {shard} within 300ms"));
            // Asked for the shard's address first.
            let said = output(&[command, &["--admin", &admin, "--timeout", "300ms"]].concat());
            assert_fails(&said, &why);
        }
    }
}

#[test]
fn a_log_that_lost_what_was_read_is_told() {
    let Some(program) = mstreamd("a_log_that_lost_what_was_read_is_told") else { return };
    let appliance = Appliance::new(program);
    let mut node = appliance.start();
    stdout(appliance.publish(b"0\n1\n2\n", &[]));
    let more = ["--from", "earliest", "--patience", "forever"];
    let mut reader = Running::start(&mut mstream(&appliance.args("sub", &more)));
    let mut got = [0; 6];
    reader.0.stdout.as_mut().expect("a pipe").read_exact(&mut got).expect("it writes");
    node.0.kill().expect("it runs");
    node.0.wait().expect("a child of ours");
    std::fs::remove_dir_all(appliance.path("log")).expect("it was there");
    let _again = appliance.start();
    wait_until(|| reader.0.try_wait().expect("a child of ours").is_some());
    let (code, _, complaint) = texts(&reader.output());
    assert_eq!(code, Some(1));
    assert!(complaint.contains("diverged: the log lost offsets 0 to 2"), "{complaint}");
}
