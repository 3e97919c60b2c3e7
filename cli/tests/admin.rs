//! Managing the real appliance.

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;

use common::{
    Appliance, Running, assert_fails, json, mstream, mstreamd, output_of, stdout, texts, wait_until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

#[test]
fn streams_are_created_found_used_and_deleted() {
    let Some(program) = mstreamd("streams_are_created_found_used_and_deleted") else { return };
    let appliance = Appliance::new(program);
    let _node = appliance.start();
    let manage = |args: &[&str]| appliance.manage(args);
    let said =
        text(stdout(manage(&["stream", "create", "trades", "quotes", "--retention-age", "7d"])));
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.starts_with("created stream trades: id "), "{said}");
    // Each by itself: the one that exists fails, the other one is made.
    let (code, said, complaint) = texts(&manage(&["stream", "create", "trades", "orders"]));
    assert_eq!(code, Some(1));
    assert!(said.contains("created stream orders"), "{said}");
    assert!(
        complaint.contains("stream trades: ") && complaint.contains("1 of 2 streams not created"),
        "{complaint}"
    );
    let failed = manage(&["stream", "create", "trades", "--json"]);
    let failed = json(&failed.stdout);
    assert_eq!((&failed[0]["name"], failed[0]["error"].is_string()), (&"trades".into(), true));

    let listed = json(&stdout(manage(&["stream", "list", "--json"])));
    let names: Vec<&str> = listed.iter().filter_map(|stream| stream["name"].as_str()).collect();
    assert_eq!(names, ["orders", "quotes", "s", "trades"]);
    let trades = &listed[3];
    assert_eq!(
        (&trades["rules"]["retention_ms"], &trades["shard"]),
        (&604_800_000u64.into(), &0.into())
    );
    let table = text(stdout(manage(&["stream", "list", "--prefix", "t"])));
    assert!(
        table.contains("trades") && table.contains("keeps 7 d") && !table.contains("orders"),
        "{table}"
    );

    // Found by its name, published to in a name: nobody said where the shard is.
    let admin = appliance.admin();
    let published = output_of(
        &["pub", "trades", "--admin", &admin, "--publisher", "feed", "--json"],
        b"a\nb\n",
    );
    let summary = json(&stdout(published));
    assert_eq!(
        (&summary[0]["publisher"], &summary[0]["acknowledged"]),
        (&"feed".into(), &2.into())
    );
    let publishers = json(&stdout(manage(&["publisher", "list", "--json"])));
    let feed =
        publishers.iter().find(|publisher| publisher["name"] == "feed").expect("it is registered");
    assert_eq!(feed["id"], summary[0]["publisher_id"]);
    assert_eq!(stdout(manage(&["sub", "trades", "--until-end"])), b"a\nb\n");
    let described = json(&stdout(manage(&["stream", "describe", "trades", "--json"])));
    let id = described[0]["id"].to_string();
    assert_eq!(
        (&described[0]["next_offset"], &described[0]["visible_end"], &described[0]["level"]),
        (&2.into(), &2.into(), &"process".into())
    );
    let words = text(stdout(manage(&["stream", "describe", "--id", &id])));
    assert!(words.contains("trades") && words.contains("2: offsets 0 to 1"), "{words}");

    assert_fails(&manage(&["sub", "none"]), "none");
    assert_fails(&manage(&["stream", "describe", "none"]), "none");
    let said = text(stdout(manage(&["stream", "delete", "trades", "--yes"])));
    assert!(said.starts_with("deleted stream trades: id "), "{said}");
    let gone = manage(&["stream", "delete", "--id", &id, "--yes"]);
    assert_eq!(gone.status.code(), Some(1));
    assert_fails(&manage(&["sub", "trades"]), "trades");
}

#[test]
fn thousands_of_names_come_from_a_file() {
    let Some(program) = mstreamd("thousands_of_names_come_from_a_file") else { return };
    let appliance = Appliance::with(program, "[limits]\nstreams = 20000\n");
    let _node = appliance.start();
    let names: Vec<String> = (0..10_500).map(|n| format!("many-{n:05}")).collect();
    let file = appliance.path("names");
    fs::write(&file, names.join("\n") + "\n\n").expect("written");
    let file = file.to_str().expect("plain letters");
    let manage = |args: &[&str]| appliance.manage(&[args, &["--timeout", "60s"]].concat());
    let said = text(stdout(manage(&["stream", "create", "--file", file])));
    assert!(said.starts_with("created 10,500 streams in "), "{said}");
    let listed = json(&stdout(manage(&["stream", "list", "--prefix", "many-", "--json"])));
    assert_eq!(listed.len(), names.len());
    assert!(listed.iter().zip(&names).all(|(stream, name)| stream["name"] == **name));
    let table = text(stdout(manage(&["stream", "list"])));
    assert!(table.lines().count() > names.len() && table.contains("many-10499"));
    // All failures are counted, the first ones told.
    let (code, out, complaint) = texts(&manage(&["stream", "create", "--file", file]));
    assert_eq!((code, out.as_str(), complaint.lines().count()), (Some(1), "", 11), "{complaint}");
    assert!(complaint.contains("10,500 of 10,500 streams not created"), "{complaint}");
    // A name of 64 kB is one of them, whatever it is told with.
    let long = "x".repeat(64 << 10);
    let (code, _, complaint) = texts(&manage(&["stream", "create", &long]));
    assert_eq!(code, Some(1));
    assert!(complaint.len() < 1_000 && complaint.contains("255"), "{complaint}");
    let said = text(stdout(manage(&["stream", "delete", "--file", file, "--yes"])));
    assert!(said.starts_with("deleted 10,500 streams in "), "{said}");
}

#[test]
fn a_node_is_shown_for_people_and_programs() {
    let Some(program) = mstreamd("a_node_is_shown_for_people_and_programs") else { return };
    let appliance = Appliance::new(program);
    let node = appliance.start();
    stdout(appliance.publish(&b"message\n".repeat(100_000), &[]));
    // Somebody who takes no more: the pipe is full and nobody reads it.
    let mut reader = Running::start(&mut mstream(&appliance.args("sub", &["--from", "earliest"])));
    let mut first = [0];
    reader.0.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("it writes");
    let mut words = String::new();
    wait_until(|| {
        words = text(stdout(appliance.manage(&["backlog", "s"])));
        words.contains("waits for credit")
    });
    assert!(
        words.starts_with("127.0.0.1:") && words.contains(" messages behind on s: "),
        "{words}"
    );
    let backlog = json(&stdout(appliance.manage(&["backlog", "--json"])));
    assert!(backlog[0]["behind"].as_u64() > Some(0), "{backlog:?}");
    assert_eq!((&backlog[0]["stream"], &backlog[0]["state"]), (&"s".into(), &"no_credit".into()));

    let sessions = json(&stdout(appliance.manage(&["sessions", "--json"])));
    assert!(
        sessions.iter().any(|session| session["subscriptions"] == 1 && session["port"] == "socket")
    );
    let table = text(stdout(appliance.manage(&["sessions"])));
    assert!(table.starts_with("CLIENT") && table.contains("(anonymous)"), "{table}");

    // Something that is no datagram of the protocol.
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    stranger.send_to(b"x", &appliance.address).expect("it is sent");
    let mut status = Vec::new();
    wait_until(|| {
        status = json(&stdout(appliance.manage(&["status", "--json"])));
        status[0]["shards"][0]["refusals"]["datagram_too_short"] == 1
    });
    let shard = &status[0]["shards"][0];
    assert_eq!((&status[0]["node_id"], &status[0]["ready"]), (&1.into(), &true.into()));
    assert_eq!(
        (&shard["level"], &shard["counters"]["messages"]),
        (&"process".into(), &100_000.into())
    );
    assert!(shard["positions"]["committed_lsn"].as_u64() > Some(0), "{shard}");
    assert_eq!(shard["ports"][1]["driver"], "socket");
    let words = text(stdout(appliance.manage(&["status"])));
    for word in
        ["ready", "level process", "committed_lsn", "port memif: memif", "100,000", "refused"]
    {
        assert!(words.contains(word), "{word}: {words}");
    }

    let frame = json(&stdout(appliance.manage(&["top", "--json", "--interval", "100ms"])));
    assert_eq!(
        (&frame[0]["shards"][0]["number"], &frame[0]["slow_subscribers"][0]["stream"]),
        (&0.into(), &"s".into())
    );
    let frame = text(stdout(appliance.manage(&["top", "--once", "--interval", "100ms"])));
    for word in
        ["Rates per second", "Positions", "Slow subscribers", "Refusals", "waits for credit"]
    {
        assert!(frame.contains(word), "{word}: {frame}");
    }

    let shown = text(stdout(appliance.manage(&["config", "show"])));
    let file = fs::read_to_string(appliance.path("node.toml")).expect("it is there");
    assert!(shown.ends_with(&file) && shown.starts_with("# "), "{shown}");
    stdout(appliance.manage(&["errors"]));
    stdout(appliance.manage(&["errors", "--json"]));

    node.signal(Signal::SIGSTOP);
    assert_fails(
        &appliance.manage(&["status", "--timeout", "500ms"]),
        "within 500ms: it hangs, or is not there",
    );
}

/// Runs `top` in a terminal that `script` makes, gives it keys, and tells what the terminal showed.
fn in_terminal(appliance: &Appliance, keys: &str, signal: Option<Signal>) -> String {
    let (pid, typescript) = (appliance.path("pid"), appliance.path("typescript"));
    // That of another time.
    let _ = fs::remove_file(&typescript);
    let shell = format!(
        "stty rows 40 cols 150; sh -c 'echo $$ > {}; exec {} top --interval 100ms --admin {}'; echo ended with $?; stty -a",
        pid.display(),
        env!("CARGO_BIN_EXE_mstream"),
        appliance.admin(),
    );
    let mut command = std::process::Command::new("script");
    command.args(["-qefc", &shell]).arg(&typescript).stdin(Stdio::piped()).env("TERM", "xterm");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running(command.spawn().expect("it starts"));
    let shown = || String::from_utf8_lossy(&fs::read(&typescript).unwrap_or_default()).into_owned();
    wait_until(|| shown().contains("Refusals"));
    running.0.stdin.as_mut().expect("a pipe").write_all(keys.as_bytes()).expect("it reads");
    if let Some(signal) = signal {
        let pid = fs::read_to_string(&pid).expect("it is written").trim().parse().expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }
    wait_until(|| shown().contains("icanon"));
    drop(running.0.stdin.take());
    running.code();
    shown()
}

#[test]
fn top_gives_the_terminal_back() {
    let Some(program) = mstreamd("top_gives_the_terminal_back") else { return };
    if std::process::Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIP top_gives_the_terminal_back: no script(1)");
        return;
    }
    let appliance = Appliance::new(program);
    let _node = appliance.start();
    for (keys, signal) in [("q", None), ("\x03", None), ("", Some(Signal::SIGTERM))] {
        let shown = in_terminal(&appliance, keys, signal);
        let (drawn, after) = shown.rsplit_once("\x1b[?1049l").expect("it leaves its screen");
        assert!(drawn.contains("Positions") && drawn.contains("\x1b[?1049h"), "{keys:?}");
        assert!(after.contains("ended with 0"), "{keys:?}: {after}");
        assert!(after.contains(" icanon") && after.contains(" echo "), "{keys:?}: {after}");
    }
}
