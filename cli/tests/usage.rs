//! What needs no node: wrong usage, contexts, configuration files, completion, manual pages.

mod common;

use std::fs;
use std::process::Command;

use common::{assert_fails, json, mstream, output, stdout, texts};

#[test]
fn wrong_usage_is_2_and_says_why() {
    for (args, reason) in [
        (&[][..], "Usage"),
        (&["nothing"], "unrecognized subcommand"),
        (&["pub"], "<STREAM>"),
        (&["pub", "s", "--rate", "0"], "messages per second are wanted"),
        (&["pub", "s", "--framing", "u8"], "possible values: lines, u16be, u32be, whole"),
        (&["pub", "s", "--publisher", "p", "--publisher-id", "1"], "cannot be used with"),
        (&["pub", "s", "--addr", "host"], "socket address"),
        (&["sub", "s", "--from", "yesterday"], "earliest, latest, an offset, a time such as"),
        (&["sub", "s", "--count", "0"], "0 is not in"),
        (&["sub", "s", "--follow", "--until-end"], "cannot be used with"),
        (&["sub", "s", "--json", "--framing", "raw"], "cannot be used with"),
        (&["sub", "s", "--memif", "m", "--vlan", "4095"], "4095 is not in 1..=4094"),
        (&["sub", "s", "--timeout", "5"], "a time is wanted"),
        (&["sub", "--id", "x", "--addr", "127.0.0.1:1"], "x is no stream id"),
        (&["sub", "s", "--addr", "127.0.0.1:65535", "--shard", "1"], "shard 1 has no UDP port"),
        (&["status", "--admin", "https://localhost:1"], "nodes do not offer TLS"),
        (&["status", "--admin", "localhost"], "HOST:PORT is wanted"),
        (&["stream", "create"], "<NAME|--file <FILE>>"),
        (&["stream", "delete", "s"], "say --yes"),
        (&["backlog", "--id"], "STREAM"),
        (&["config", "check", "f", "--cores", "0"], "0 is not in"),
    ] {
        let (code, out, complaint) = texts(&output(args));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {complaint}");
        assert!(complaint.contains(reason), "{args:?}: {complaint}");
    }
}

#[test]
fn contexts_are_kept_and_used() {
    let home = tempfile::tempdir().expect("a directory");
    let run = |args: &[&str]| {
        mstream(args).env("XDG_CONFIG_HOME", home.path()).output().expect("the program runs")
    };
    let text = |args: &[&str]| String::from_utf8(stdout(run(args))).expect("text");
    assert_eq!(json(&stdout(run(&["context", "list", "--json"]))).len(), 0);
    let added = text(&[
        "context",
        "add",
        "lab",
        "--admin",
        "http://127.0.0.1:9",
        "--addr",
        "127.0.0.1:7500",
    ]);
    assert_eq!(added, "context lab added; it is the current one\n");
    assert_eq!(text(&["context", "add", "b", "--memif", "/run/m.sock"]), "context b added\n");
    assert_eq!(text(&["context", "use", "b"]), "context b is the current one\n");
    let listed = json(&stdout(run(&["context", "list", "--json"])));
    assert_eq!(
        listed,
        [
            serde_json::json!({"name": "b", "current": true, "admin": null, "addr": null, "memif": "/run/m.sock"}),
            serde_json::json!({"name": "lab", "current": false, "admin": "127.0.0.1:9",
                               "addr": "127.0.0.1:7500", "memif": null}),
        ]
    );
    assert!(
        text(&["context", "list"]).lines().any(|line| line.starts_with('*') && line.contains("b"))
    );

    // Which node is meant: flag, named context, environment, current context.
    let asked = |args: &[&str], variable: Option<&str>| {
        let mut command = mstream(&[&["errors"], args].concat());
        command.env("XDG_CONFIG_HOME", home.path());
        variable.map(|value| command.env("MSTREAM_ADMIN", value));
        command.output().expect("the program runs")
    };
    assert_fails(
        &asked(&["--context", "lab"], None),
        "127.0.0.1:9: is mstreamd running there? the address is from context lab",
    );
    assert_fails(&asked(&["--context", "lab"], Some("127.0.0.1:8")), "127.0.0.1:9");
    assert_fails(
        &asked(&[], Some("127.0.0.1:8")),
        "127.0.0.1:8: is mstreamd running there? the address is from MSTREAM_ADMIN",
    );
    assert_fails(&asked(&["--admin", "127.0.0.1:7", "--context", "lab"], None), "from --admin");
    assert_fails(&asked(&["--context", "c"], None), "no context c in");
    assert_fails(&run(&["context", "use", "c"]), "(there: b, lab)");

    text(&["context", "remove", "b"]);
    assert_fails(&run(&["context", "remove", "b"]), "no context b");
    // Something else than a list of contexts is neither used nor overwritten.
    let file = home.path().join("mstream/contexts.toml");
    fs::write(&file, "[context.a]\nport = 1\n").expect("written");
    assert_fails(&run(&["errors"]), "contexts.toml:2: unknown field `port`");
    assert_fails(&run(&["context", "add", "x"]), "contexts.toml:2");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "[context.a]\nport = 1\n");
}

#[test]
fn configuration_files_are_checked_line_by_line() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/mstreamd.sample.toml");
    let said = output(&["config", "check", sample, "--cores", "2"]);
    let (code, out, _) = texts(&said);
    assert_eq!((code, out), (Some(0), format!("{sample}: the configuration is sound\n")));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("wrong.toml");
    let text = fs::read_to_string(sample).expect("it is there");
    fs::write(
        &file,
        text.replace("udp_port = 7500", "udp_port = 0").replace("core = 0", "core = 7"),
    )
    .expect("written");
    let name = file.to_str().expect("plain letters");
    let (code, out, complaint) = texts(&output(&["config", "check", name, "--cores", "2"]));
    assert_eq!((code, out.as_str(), complaint.lines().count()), (Some(1), "", 2), "{complaint}");
    for line in complaint.lines() {
        assert!(line.starts_with(&format!("mstream: {name}:")), "{line}");
    }
    let checked = output(&["config", "check", name, "--cores", "2", "--json"]);
    let problems = json(&checked.stdout);
    assert_eq!((checked.status.code(), problems.len()), (Some(1), 2));
    assert!(problems[0]["line"].is_u64() && problems[0]["error"].is_string());
    assert_fails(&output(&["config", "check", "/nonexistent.toml"]), "/nonexistent.toml");
}

#[test]
fn completion_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(output(&["completion", shell]));
        assert!(String::from_utf8_lossy(&script).contains("backlog"), "{shell}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let pages = dir.path().join("man");
    stdout(output(&["man", "--dir", pages.to_str().expect("plain letters")]));
    for page in ["mstream.1", "mstream-pub.1", "mstream-stream-create.1"] {
        let text = fs::read_to_string(pages.join(page)).expect("the page is there");
        assert!(text.contains(".SH NAME"), "{page}");
    }
}

#[test]
fn no_dpdk_is_linked() {
    let program = env!("CARGO_BIN_EXE_mstream");
    let Ok(linked) = Command::new("ldd").arg(program).output() else {
        eprintln!("SKIP no_dpdk_is_linked: no ldd");
        return;
    };
    let (code, libraries, complaint) = texts(&linked);
    assert_eq!(code, Some(0), "{complaint}");
    assert!(libraries.contains("libc.so"), "{libraries}");
    assert!(!libraries.contains("librte"), "{libraries}");
}
