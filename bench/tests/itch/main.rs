//! Generated sessions keep the rules, the checker notices each rule that is broken, and files of
//! messages survive the way through the framing.

mod breaches;
mod framing;
mod layouts;

use std::io::Cursor;
use std::path::PathBuf;

use hmac_sha256::Hash;
use mstream_bench::itch::check::{CheckError, Checker, Report, Strictness, check_file};
use mstream_bench::itch::generate::{Session, TooFew};
use mstream_framing::{Framing, MessageReader, MessageWriter, ReadError};

type Messages = Vec<Vec<u8>>;

fn session(seed: u64, messages: u64) -> Messages {
    Session::new(seed, messages).unwrap().map(|message| message.to_vec()).collect()
}

fn plain(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = MessageWriter::plain(Vec::new(), Framing::BinaryFile);
    messages.iter().for_each(|message| writer.write(message).unwrap());
    writer.finish().unwrap()
}

fn gzip(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = MessageWriter::gzip(Vec::new(), Framing::BinaryFile);
    messages.iter().for_each(|message| writer.write(message).unwrap());
    writer.finish().unwrap()
}

fn reader(bytes: Vec<u8>) -> MessageReader {
    MessageReader::new(Cursor::new(bytes), Framing::BinaryFile).unwrap()
}

fn read_all(mut reader: MessageReader) -> Result<Messages, ReadError> {
    let mut messages = Messages::new();
    while let Some(message) = reader.next_message()? {
        messages.push(message.to_vec());
    }
    Ok(messages)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn judge(messages: &[Vec<u8>], strictness: Strictness) -> Result<Report, CheckError> {
    let mut checker = Checker::new(strictness);
    messages.iter().try_for_each(|message| checker.message(message))?;
    checker.finish()
}

#[test]
fn generated_sessions_keep_the_rules() {
    for seed in [0, 1, 2, 42, u64::MAX] {
        for messages in [8, 9, 100, 250, 12_345] {
            let report = judge(&session(seed, messages), Strictness::Strict)
                .unwrap_or_else(|error| panic!("seed {seed}, {messages} messages: {error}"));
            assert_eq!(report.messages, messages);
            assert_eq!((report.first_fault, report.broken().count()), (None, 0));
            assert_eq!((report.of_kind(b'S'), report.of_kind(b'R')), (6, report.of_kind(b'H')));
        }
    }
    assert_eq!(Session::new(1, 7).err(), Some(TooFew(7)));
}

#[test]
fn a_generated_session_has_the_mix_of_a_real_one() {
    let report = judge(&session(3, 200_000), Strictness::Strict).unwrap();
    let shares = [
        (b'A', 43..=47),
        (b'D', 38..=42),
        (b'E', 4..=6),
        (b'X', 1..=3),
        (b'U', 5..=7),
        (b'F', 0..=2),
    ];
    for (kind, expected) in shares {
        let percent = report.of_kind(kind) * 100 / report.messages;
        assert!(expected.contains(&percent), "{percent} % of {}", char::from(kind));
    }
    for kind in *b"CPFXU" {
        assert!(report.of_kind(kind) > 500);
    }
    let (kinds, total) =
        report.kinds().fold((String::new(), 0), |(mut kinds, total), (kind, n)| {
            kinds.push(kind);
            (kinds, total + n)
        });
    assert_eq!((kinds.as_str(), total), ("ACDEFHPRSUX", 200_000));
    assert!(report.most_live_orders >= report.live_orders && report.live_orders > 1000);
}

#[test]
fn a_seed_means_the_same_session_for_ever() {
    let digest = |seed| hex(&Hash::hash(&plain(&session(seed, 20_000))));
    assert_eq!(digest(7), "3a618ced5467d1ad548cc05a577feaf6c44a45008655fd22722e858cc1eb98db");
    assert_eq!(digest(8), "55aa3477259509c69628c1431b9c366fc7ec219fecf7b584efb4ed0a17761c8b");
}

#[test]
fn a_session_says_how_much_is_left() {
    let mut session = Session::new(1, 100).unwrap();
    assert_eq!((session.remaining(), session.size_hint()), (100, (100, Some(100))));
    assert_eq!(session.by_ref().count(), 100);
    assert_eq!((session.remaining(), session.next()), (0, None));
}

#[test]
fn files_are_checked_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.gz");
    let missing = check_file(&path, Strictness::Strict).unwrap_err();
    assert!(matches!(missing, CheckError::Framing { message: 0, .. }));
    std::fs::write(&path, gzip(&session(1, 1_000))).unwrap();
    assert_eq!(check_file(&path, Strictness::Strict).unwrap().messages, 1_000);
}

#[test]
#[expect(clippy::print_stdout, reason = "a skipped check says so; the report is for its reader")]
fn a_foreign_sample_passes_framing_and_lengths() {
    let path = std::env::var_os("MSTREAM_SAMPLE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/itch50-sample.gz"),
        PathBuf::from,
    );
    if !path.exists() {
        println!("SKIP a_foreign_sample_passes_framing_and_lengths: {} is missing", path.display());
        return;
    }
    let report = check_file(&path, Strictness::Lenient).unwrap();
    println!("{} messages, {} bytes", report.messages, report.bytes);
    println!("by type: {:?}", report.kinds().collect::<Vec<_>>());
    println!("broken rules: {:?}", report.broken().collect::<Vec<_>>());
    let messages = read_all(MessageReader::open(&path, Framing::BinaryFile).unwrap()).unwrap();
    assert_eq!(report.messages, messages.len() as u64);
    let copy = plain(&messages);
    assert_eq!(report.bytes, copy.len() as u64);
    println!("sha256 {}", hex(&Hash::hash(&copy)));
    if std::env::var_os("MSTREAM_SAMPLE").is_none() {
        assert_eq!((report.messages, report.bytes), (12_012, 465_048));
        assert_eq!(
            hex(&Hash::hash(&copy)),
            "d0100aa76331f03c312ccd808259ed08c3471cde50937056252bfcc8cc99173d"
        );
    }
}
