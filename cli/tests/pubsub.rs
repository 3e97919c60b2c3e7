//! Publishing and reading against the real appliance.

mod common;

use std::fs;
use std::io::Write as _;

use common::{Appliance, assert_fails, json, mstreamd, stdout, texts};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Messages as a market-data session has them: 12 to 44 bytes of anything.
fn session(messages: u32) -> Vec<Vec<u8>> {
    let mut state = 7u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut message = || {
        let length = 12 + next() % 33;
        (0..length).map(|_| next()).collect()
    };
    (0..messages).map(|_| message()).collect()
}

fn framed(messages: &[Vec<u8>], length: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    messages.iter().flat_map(|message| [length(message.len()), message.clone()].concat()).collect()
}

#[test]
fn every_framing_comes_back_byte_for_byte_over_both_ports() {
    let Some(program) = mstreamd("every_framing_comes_back_byte_for_byte_over_both_ports") else {
        return;
    };
    let appliance = Appliance::new(program);
    let _running = appliance.start();
    let (socket, input) = (appliance.path("m.sock"), appliance.path("input"));
    let [socket, input] = [&socket, &input].map(|path| path.to_str().expect("plain letters"));
    let messages = session(3_000);
    let lines: Vec<Vec<u8>> = (0..3_000).map(|n| format!("{n}\n").into_bytes()).collect();
    let u16be = framed(&messages, |length| (length as u16).to_be_bytes().into());
    let u32be = framed(&messages, |length| (length as u32).to_be_bytes().into());
    let mut offset = 0u64;
    for (framing, bytes) in [("u16be", u16be), ("u32be", u32be), ("lines", lines.concat())] {
        for memif in [false, true] {
            for gzip in [false, true] {
                let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
                packed.write_all(&bytes).expect("memory");
                let file = if gzip { packed.finish().expect("memory") } else { bytes.clone() };
                fs::write(input, file).expect("written");
                let by = if memif { &["--memif", socket][..] } else { &[] };
                let more = [&[input, "--framing", framing], by].concat();
                let said = stdout(appliance.publish(b"", &more));
                assert!(String::from_utf8_lossy(&said).starts_with("published 3,000 messages"));
                let from = offset.to_string();
                let more = [&["--from", &from, "--until-end", "--framing", framing], by].concat();
                let got = stdout(appliance.read(&more));
                assert!(got == bytes, "{framing}, memif {memif}, gzip {gzip}");
                offset += 3_000;
            }
        }
    }
    // Written to a file, packed by its name.
    let copy = appliance.path("copy.gz");
    let more = ["--from", "0", "--count", "3000", "--framing", "u16be", "--output"];
    let said =
        stdout(appliance.read(&[&more[..], &[copy.to_str().expect("plain letters")]].concat()));
    assert!(String::from_utf8_lossy(&said).contains("3,000 messages"));
    let more = [copy.to_str().expect("plain letters"), "--framing", "u16be", "--json"];
    let summary = json(&stdout(appliance.publish(b"", &more)));
    assert_eq!(summary[0]["messages"], 3000);
    assert_eq!(summary[0]["bytes"], messages.concat().len());
}

#[test]
fn an_input_taken_whole_is_one_message_if_it_fits() {
    let Some(program) = mstreamd("an_input_taken_whole_is_one_message_if_it_fits") else { return };
    let appliance = Appliance::new(program);
    let _running = appliance.start();
    stdout(appliance.publish(b"two\nlines\n", &["--framing", "whole"]));
    assert_eq!(stdout(appliance.read(&["--until-end", "--framing", "raw"])), b"two\nlines\n");
    for size in [1_300, 70_000] {
        let refused = appliance.publish(&vec![b'x'; size], &["--framing", "whole"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("the most is"));
    }
    // What stands before a message that is too long is published, and said to be.
    let input = [&b"a\nb\n"[..], &[b'x'; 2_000], b"\nc\n"].concat();
    let refused = appliance.publish(&input, &[]);
    assert_fails(
        &refused,
        "message 3 of the input: message takes 2008 bytes of a block, the most is 1280",
    );
    assert_fails(&refused, "2 of 2 messages acknowledged");
    assert_eq!(stdout(appliance.read(&["--from", "1", "--until-end"])), b"a\nb\n");
}

#[test]
fn json_has_stable_names() {
    let Some(program) = mstreamd("json_has_stable_names") else { return };
    let appliance = Appliance::new(program);
    let _running = appliance.start();
    let input = b"\0\x05plain\0\x02\xff\xfe\0\0";
    let more = ["--framing", "u16be", "--json", "--publisher-id", "1", "--key", "k"];
    let summary = json(&stdout(appliance.publish(input, &more)));
    let [summary] = summary.as_slice() else { panic!("{summary:?}") };
    for (name, value) in [
        ("stream", "s".into()),
        ("messages", 3.into()),
        ("bytes", 7.into()),
        ("acknowledged", 3.into()),
        ("last_offset", 2.into()),
        ("level", "process".into()),
        ("publisher_id", 1.into()),
        ("reconnects", 0.into()),
        ("error", serde_json::Value::Null),
    ] {
        assert_eq!(summary[name], value, "{name}");
    }
    let got = json(&stdout(appliance.read(&["--until-end", "--json"])));
    assert_eq!(
        got[0],
        serde_json::json!({"offset": 0, "publisher_id": 1, "key": "k", "payload": "plain"})
    );
    assert_eq!(got[1]["payload_base64"], "//4=");
    assert_eq!((&got[2]["payload"], got.len()), (&"".into(), 3));
}

#[test]
fn reading_begins_and_ends_where_it_is_told() {
    let Some(program) = mstreamd("reading_begins_and_ends_where_it_is_told") else { return };
    let appliance = Appliance::new(program);
    let _running = appliance.start();
    stdout(appliance.publish(b"0\n1\n2\n3\n", &[]));
    for (more, expected) in [
        (&["--from", "earliest", "--count", "2"][..], "0\n1\n"),
        (&["--from", "2", "--until-end"], "2\n3\n"),
        (&["--from", "4", "--until-end"], ""),
        (&["--from", "latest", "--until-end"], ""),
        (&["--from", "1h", "--until-end"], "0\n1\n2\n3\n"),
        (&["--from", "2001-01-01T00:00:00Z", "--until-end", "--count", "1"], "0\n"),
        (&["--from", "2200-01-01T00:00:00Z", "--until-end"], ""),
        (&["--until-end"], "0\n1\n2\n3\n"),
        (&["--no-follow", "--shard", "0"], "0\n1\n2\n3\n"),
    ] {
        assert_eq!(String::from_utf8_lossy(&stdout(appliance.read(more))), expected, "{more:?}");
    }
    // By id, and what is not there.
    let by_id = common::output(&["sub", "--addr", &appliance.address, "--id", "1", "--until-end"]);
    assert_eq!(stdout(by_id), b"0\n1\n2\n3\n");
    assert_fails(&appliance.read(&["--from", "5"]), "offset 5 is beyond the stream's end at 4");
    let other = common::output(&["sub", "--addr", &appliance.address, "other"]);
    assert_fails(&other, "unknown stream");
    let other = common::output(&["pub", "--addr", &appliance.address, "other", "/dev/null"]);
    assert_fails(&other, "unknown stream");
    let unknown = appliance.publish(b"x\n", &["--publisher-id", "9"]);
    assert_fails(&unknown, "unknown publisher");
}

#[test]
fn damaged_inputs_are_told_and_what_stands_before_is_published() {
    let Some(program) = mstreamd("damaged_inputs_are_told_and_what_stands_before_is_published")
    else {
        return;
    };
    let appliance = Appliance::new(program);
    let _running = appliance.start();
    let cut = appliance.publish(b"\0\x01a\0\x05b", &["--framing", "u16be"]);
    assert_fails(
        &cut,
        "standard input: at byte 3: the message that starts here is cut off after 3 of 7 bytes",
    );
    let damaged = appliance.publish(b"\x1f\x8bno gzip at all", &[]);
    assert_fails(&damaged, "standard input: at byte 0");
    let file = appliance.path("none");
    let missing = appliance.publish(b"", &[file.to_str().expect("plain letters")]);
    assert_fails(&missing, "No such file");
    assert_fails(&appliance.publish(b"", &["/dev"]), "/dev: is a directory");
    let said = stdout(appliance.publish(b"", &[]));
    assert!(String::from_utf8_lossy(&said).contains("no messages"));
    assert_eq!(stdout(appliance.read(&["--until-end"])), b"a\n");
}

#[test]
fn a_rate_is_not_exceeded() {
    let Some(program) = mstreamd("a_rate_is_not_exceeded") else { return };
    let appliance = Appliance::new(program);
    let _running = appliance.start();
    let input = "x\n".repeat(200);
    let summary =
        json(&stdout(appliance.publish(input.as_bytes(), &["--rate", "400/s", "--json"])));
    assert_eq!(summary[0]["acknowledged"], 200);
    // The first is sent at once, and 10 ms may be made up for.
    assert!(summary[0]["seconds"].as_f64() > Some(0.48), "{summary:?}");
}

#[test]
fn a_full_table_is_told_as_the_reason() {
    let Some(program) = mstreamd("a_full_table_is_told_as_the_reason") else { return };
    let limits = "[limits]\nsubscriptions = 1\npublications = 1\n";
    let appliance = Appliance::with(program, limits);
    let _running = appliance.start();
    let mut first = common::Running::start(&mut common::mstream(
        &appliance.args("sub", &["--from", "earliest"]),
    ));
    stdout(appliance.publish(b"x\n", &[]));
    let mut byte = [0];
    std::io::Read::read_exact(first.0.stdout.as_mut().expect("a pipe"), &mut byte)
        .expect("it reads");
    let second = appliance.read(&["--timeout", "500ms"]);
    assert_fails(&second, "for 500ms: limit reached");
    drop(first);
    let (code, out, _) = texts(&appliance.publish(b"", &["--timeout", "20s"]));
    assert_eq!(code, Some(0), "{out}");
}
