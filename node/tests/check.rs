//! `mstreamd --check`, and the command line.

mod common;

use common::{Setting, output};

#[test]
fn the_sample_is_sound() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/mstreamd.sample.toml");
    let output = output(&["--check", "--config", sample]);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.contains("the configuration is sound"), "{out}");
    assert!(out.contains("log in /dev/shm/mstream-sample/shard-0"), "{out}");
    assert!(out.contains("memory:"), "{out}");
}

#[test]
fn what_is_not_right_on_this_host_is_a_warning_with_a_remedy_and_no_failure() {
    let mut setting = Setting::socket();
    // Whatever the host: a shard on the control core is not right.
    setting.text = setting.text.replacen("[node]", "[node]\ncontrol_core = 0", 1);
    let file = setting.file();
    let output = output(&["--check", "--config", file.to_str().expect("plain")]);
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}");
    let sound = out.find("the configuration is sound").expect("said");
    let warning = out.find("warning: shared-core: ").expect("a warning");
    assert!(sound < warning && out[warning..].contains("\n    mend it: "), "{out}");
    assert!(out.contains("shard 0: core 0, NUMA node "), "{out}");
}

#[test]
fn the_largest_block_fits_a_datagram() {
    let room = mstream_wire::MAX_UNSEALED_BYTES
        - mstream_wire::DATAGRAM_HEADER_BYTES
        - mstream_wire::DATA_HEADER_BYTES;
    // Beside the block: options of a publish frame, at least a time stamp with its head.
    assert!(mstream_controlplane::config::MAX_BLOCK_BYTES + 16 <= room);
}

#[test]
fn the_samples_limits_are_the_defaults() {
    let sample = include_str!("../mstreamd.sample.toml");
    let without: String = {
        let start = sample.find("\n[limits]\n").expect("the section");
        let end = start + sample[start..].find("# A stream:").expect("the next section");
        format!("{}{}", &sample[..start], &sample[end..])
    };
    let parse = |text: &str| {
        let path = std::path::Path::new("mstreamd.sample.toml");
        mstream_controlplane::Config::parse(path, text, &[0, 1]).expect("sound")
    };
    assert_eq!(parse(sample).limits, parse(&without).limits);
}

#[test]
fn a_wrong_file_is_refused_with_file_line_key_and_reason() {
    let cases = [
        ("core = 0", "cor = 0", 10, "unknown key `cor`, expected one of"),
        ("core = 0", "core = \"a\"", 10, "`core`: invalid type"),
        ("core = 0", "core = 4095", 10, "`core`: there is no core 4095"),
        ("ports = [\"p\"]", "ports = [\"q\"]", 11, "`ports`: there is no port `q`"),
        ("idle = \"yield\"", "idle = \"nap\"", 13, "`idle`: unknown variant `nap`"),
        ("\"8 MiB\"", "\"8.5 MiB\"", 17, "`max_bytes`: invalid value"),
        ("\"8 MiB\"", "\"1 MiB\"", 17, "`max_bytes`: 1 segments"),
        ("[node]", "[node", 1, ""),
    ];
    for (from, to, line, reason) in cases {
        let mut setting = Setting::socket();
        assert!(setting.text.contains(from), "{from}");
        setting.text = setting.text.replacen(from, to, 1);
        let file = setting.file();
        let file = file.to_str().expect("plain");
        let output = output(&["--check", "--config", file]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{to}: {err}");
        let expected = format!("mstreamd: {file}:{line}: {reason}");
        assert!(err.lines().any(|text| text.starts_with(&expected)), "{expected}\n{err}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let output = output(&["--config", "/nowhere/node.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.starts_with("mstreamd: /nowhere/node.toml: cannot read"), "{err}");
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    assert_eq!(output(&["--no-such-option"]).status.code(), Some(2));
    assert_eq!(output(&[]).status.code(), Some(2), "--config is needed");
    let help = output(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--echo"));
    let version = output(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(version.stdout.starts_with(b"mstreamd "));
}

#[test]
fn a_log_beyond_the_memory_is_refused() {
    let available = mstream_controlplane::Available::now().expect("the kernel says it");
    if available.memory >= 255 << 30 {
        eprintln!("SKIP a_log_beyond_the_memory_is_refused: the largest log fits this machine");
        return;
    }
    let mut setting = Setting::socket();
    setting.text = setting.text.replace("\"8 MiB\"", "\"255 GiB\"");
    let file = setting.file();
    let output = output(&["--check", "--config", file.to_str().expect("plain")]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("not enough memory: "), "{err}");
}
