//! `mstream wal` on logs that a test made and damaged.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{assert_fails, json, mstream, output, stdout, texts};
use mstream_controlplane::catalogue::{
    Command, Configured, Directory, FileJournal, Journal, Rules,
};
use mstream_pmem::AnyRegion;
use mstream_pmem::footer::{FooterFiles, footer_path};
use mstream_pmem::prepare::{DirConfig, DirLock, boot_id, open_dir};
use mstream_pmem::region::Level;
use mstream_pmem::wal::{AppendData, TableLimits, Wal, WalConfig};
use mstream_wire::{BlockWriter, crc32c};

const SEGMENT: u64 = 256 * 1024;
const STREAM: u64 = 5;
/// Bytes that a record of this test takes.
const RECORD: u64 = 128;

struct Logs(tempfile::TempDir);

impl Logs {
    /// A node's directory with one log of two streams, `batches` records of one message each, and a catalogue.
    fn new(batches: u64) -> Logs {
        let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
        let logs = Logs(dir);
        let mut wal = logs.wal();
        for _ in 0..batches {
            logs.append(&mut wal);
        }
        drop(wal);
        let opened = FileJournal::open(Directory::new(logs.path())).expect("a new catalogue");
        let (mut journal, catalogue, _) = opened;
        let create = |id: u64, name: &str| Command::CreateStream {
            time_ns: 1,
            id: Some(id),
            name: name.into(),
            shard: Some(0),
            rules: Rules::default(),
        };
        let configured = Command::Configure(Configured {
            shards: vec![Level::Process],
            streams_per_shard: 4,
            publishers: 2,
        });
        let commands = [configured, create(STREAM, "trades"), create(6, "quotes")];
        journal.commit(&catalogue, &commands).expect("written");
        logs
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn dir(&self) -> String {
        self.path().display().to_string()
    }

    fn wal(&self) -> Wal<AnyRegion> {
        let (region, mut slots, mut preparer) = open_dir(DirConfig {
            dir: self.path().join("shard-0"),
            segment_bytes: SEGMENT,
            segments: 8,
            require: None,
            trust_host_pmem: false,
            sync: None,
        })
        .expect("a directory");
        while preparer.has_next() {
            slots.push(preparer.prepare_next().expect("room"));
        }
        let config = WalConfig {
            shard: 0,
            new_log_id: [0xab; 16],
            new_secret: [3; 16],
            boot_id: boot_id().expect("there is one"),
            tables: TableLimits { streams: 4, publications: 4, publishers: 2 },
            ready_segments: 1,
            time_ns: 1_000_000_000_000_000_000,
        };
        Wal::open(region, &slots, config).expect("a sound log").0
    }

    /// Appends a message to each of the streams, that says its offset.
    fn append(&self, wal: &mut Wal<AnyRegion>) {
        for id in [STREAM, 6] {
            let stream = wal.open_stream(id).expect("room");
            let publication = wal.open_publication(9, stream).expect("room");
            let text = format!("message {}", wal.stream(stream).next_offset);
            let mut bytes = [0; 256];
            let mut writer = BlockWriter::at(&mut bytes, 0);
            writer.push(b"", b"", text.as_bytes()).expect("room");
            let block = &bytes[..(8 + text.len()).next_multiple_of(8)];
            wal.append_data(&AppendData {
                stream,
                publication,
                incarnation: 1,
                count: 1,
                block_crc: crc32c(block),
                time_ns: 1_000_000_000_000_000_000,
                block,
            })
            .expect("room");
        }
        wal.barrier();
        wal.persisted();
    }

    fn file(&self, slot: u32) -> PathBuf {
        self.path().join(format!("shard-0/{slot:08}.seg"))
    }

    /// Turns a bit of a file around.
    fn flip(&self, slot: u32, at: u64) {
        let file = fs::File::options().read(true).write(true).open(self.file(slot)).expect("there");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("inside");
        byte[0] ^= 4;
        file.write_at(&byte, at).expect("inside");
    }

    fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        for dir in [self.path().to_path_buf(), self.path().join("shard-0")] {
            for entry in fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_file() {
                    all.insert(path.clone(), fs::read(path).expect("a file"));
                }
            }
        }
        all
    }

    fn run(&self, command: &str, more: &[&str]) -> std::process::Output {
        let dir = self.dir();
        output(&[&["wal", command, dir.as_str()], more].concat())
    }

    fn text(&self, command: &str, more: &[&str]) -> String {
        String::from_utf8(stdout(self.run(command, more))).expect("text")
    }

    /// What it says on standard output and on standard error; it succeeds.
    fn told(&self, command: &str, more: &[&str]) -> (String, String) {
        let (code, text, complaint) = texts(&self.run(command, more));
        assert_eq!(code, Some(0), "{complaint}{text}");
        (text, complaint)
    }

    fn json(&self, command: &str, more: &[&str]) -> Vec<serde_json::Value> {
        json(&stdout(self.run(command, &[more, &["--json"]].concat())))
    }
}

#[test]
fn a_sound_log_is_described_and_left_alone() {
    let logs = Logs::new(2500);
    let before = logs.bytes();
    let text = logs.text("inspect", &[]);
    for part in [
        "shard 0: sound\n",
        "log abababababababababababababababab, level process, epoch 1, segments of 256 KiB",
        "rolled",
        "open",
        "trades",
        "2,500",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let log = &logs.json("inspect", &[])[0];
    let segments = log["segments"].as_array().expect("a list");
    assert_eq!(segments.len(), 3);
    assert_eq!((&segments[0]["ended"], &segments[2]["ended"]), (&"rolled".into(), &"open".into()));
    assert_eq!(log["streams"][0]["name"], "trades");
    assert_eq!(log["streams"][0]["next_offset"], 2500);
    assert_eq!(log["streams"][1]["missing_messages"], 0);
    assert_eq!((&log["shard"], &log["used_by_pid"]), (&0.into(), &serde_json::Value::Null));
    let verdict = logs.text("verify", &[]);
    assert!(verdict.starts_with("shard 0: sound: 3 segments, 5,0"), "{verdict}");
    assert!(logs.bytes() == before, "looking changes nothing");
    // One shard's directory, and shards that are not there.
    let dir = logs.path().join("shard-0").display().to_string();
    assert!(stdout(output(&["wal", "verify", &dir])).starts_with(b"shard 0: sound"));
    assert_fails(&logs.run("verify", &["--shard", "7"]), "no log of shard 7");
    assert_fails(&output(&["wal", "verify", "/dev/shm/nothing-here"]), "/dev/shm/nothing-here: ");
}

#[test]
fn segments_say_what_they_hold_of_each_stream() {
    let logs = Logs::new(2500);
    let (text, log) =
        (logs.text("inspect", &["--extents"]), &logs.json("inspect", &["--extents"])[0]);
    let segments = log["segments"].as_array().expect("a list");
    let of_quotes = |segment: &serde_json::Value| {
        let extents = segment["extents"].as_array().expect("a list");
        let extent = extents.iter().find(|extent| extent["stream_id"] == 6).expect("it has some");
        (extent["first_offset"].as_u64(), extent["next_offset"].as_u64())
    };
    let mut next = Some(0);
    for segment in segments {
        assert_eq!(segment["streams"], 2);
        let (first, behind) = of_quotes(segment);
        assert_eq!(first, next, "{segment}");
        next = behind;
    }
    assert_eq!(next, Some(2500));
    let first = of_quotes(&segments[1]).0.expect("an offset");
    let row = ["2", "quotes", "6", &grouped(first)];
    let has = |line: &str| line.split_whitespace().take(4).eq(row);
    assert!(text.lines().any(has), "{text}");
    assert!(logs.json("inspect", &[])[0]["segments"][0].get("extents").is_none());
}

/// A number below a million as people read it.
fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    }
}

#[test]
fn messages_are_dumped_as_text_json_and_raw() {
    let logs = Logs::new(700);
    let lines = logs.text("dump", &["--stream", "trades", "--framing", "lines"]);
    let expected: String = (0..700).map(|offset| format!("message {offset}\n")).collect();
    assert_eq!(lines, expected);
    let some = logs.json("dump", &["--stream", "5", "--id", "--from", "10", "--to", "12"]);
    assert_eq!(some.len(), 2);
    assert_eq!((&some[1]["offset"], &some[1]["payload"]), (&11.into(), &"message 11".into()));
    assert_eq!(some[1]["publisher_id"], 9);
    let text = logs.text("dump", &["--stream", "quotes", "--from", "699"]);
    assert_eq!(text, "699 2001-09-09T01:46:40Z publisher 9 message 699\n");
    let framed =
        stdout(logs.run("dump", &["--stream", "trades", "--to", "1", "--framing", "u32be"]));
    assert_eq!(framed, b"\0\0\0\x09message 0");
    let records = logs.json("dump", &[]);
    let data = records.iter().filter(|record| record["kind"] == "data").count();
    assert_eq!(data, 1400);
    assert_eq!(records[0]["kind"], "epoch-start");
    assert!(
        logs.text("dump", &[])
            .contains("lsn 2 data epoch 1 2001-09-09T01:46:40Z stream 5 trades offset 0")
    );
    let mut sound: Vec<u8> = Vec::new();
    for segment in logs.json("inspect", &[])[0]["segments"].as_array().expect("segments") {
        let file =
            fs::read(logs.file(segment["slot"].as_u64().expect("slot") as u32)).expect("there");
        let (from, to) = (segment["sound"][0][0].as_u64(), segment["sound"][0][1].as_u64());
        sound.extend(&file[from.expect("a byte") as usize..to.expect("a byte") as usize]);
    }
    assert!(stdout(logs.run("dump", &["--raw"])) == sound, "all records as they stand");
    let one =
        stdout(logs.run("dump", &["--raw", "--stream", "trades", "--from", "3", "--to", "5"]));
    assert_eq!(one.len() as u64, 2 * RECORD);
    assert_fails(&logs.run("dump", &["--stream", "nobody"]), "no stream of this name");
    let (code, _, complaint) =
        texts(&logs.run("dump", &["--stream", "trades", "--from", "5", "--to", "2"]));
    assert_eq!(code, Some(2), "{complaint}");
    let (code, _, _) = texts(&logs.run("dump", &["--from", "3"]));
    assert_eq!(code, Some(2));
}

#[test]
fn damage_is_told_by_file_and_byte_and_can_be_accepted() {
    let logs = Logs::new(2500);
    // The block of the record with lsn 11, in the first segment: the message with offset 4 of the second stream.
    let at = 4096 + 10 * RECORD;
    logs.flip(0, at + 100);
    let before = logs.bytes();
    let (code, text, complaint) = texts(&logs.run("verify", &[]));
    assert_eq!(code, Some(1), "{text}");
    let line = format!("00000000.seg byte {at}: no valid record with lsn 11, but one with lsn");
    assert!(text.contains(&line), "{text}");
    let rest = format!(
        "the record's block does not fit its crc; 1 record missing (lsn 11 to 11); sound records go on at byte {}",
        at + RECORD
    );
    assert!(text.contains(&rest) && text.contains("shard 0: FAULT: damaged at 1 place"), "{text}");
    assert!(complaint.contains("1 problem found"), "{complaint}");
    let verdict = json(&logs.run("verify", &["--json"]).stdout);
    assert_eq!(verdict[0]["sound"], false);
    assert_eq!(verdict[0]["problems"][0]["byte"], at);
    let log = &logs.json("inspect", &[])[0];
    let missing = &log["missing"][0];
    assert_eq!(
        (&missing["stream"], &missing["from"], &missing["to"]),
        (&"quotes".into(), &4.into(), &5.into())
    );
    // What is sound is dumped.
    let (code, lines, complaint) =
        texts(&logs.run("dump", &["--stream", "quotes", "--framing", "lines"]));
    assert_eq!((code, lines.lines().count()), (Some(1), 2499));
    assert!(complaint.contains("damaged: slot 0 byte"), "{complaint}");
    assert!(logs.bytes() == before, "looking changes nothing");

    // Nobody can be asked.
    let (code, _, complaint) = texts(&logs.run("accept-loss", &[]));
    assert_eq!(code, Some(2), "{complaint}");
    assert!(complaint.contains("stream quotes: 1 message missing, offsets 4 to 4"), "{complaint}");
    let held = DirLock::take(logs.path()).expect("free");
    assert_fails(&logs.run("accept-loss", &["--yes"]), "in use by another mstreamd");
    drop(held);
    let same = logs.bytes();
    let segments = |all: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<Vec<u8>> {
        all.iter()
            .filter(|(path, _)| path.ends_with("00000000.seg"))
            .map(|(_, b)| b.clone())
            .collect()
    };
    assert_eq!(segments(&same), segments(&before), "a refusal changes nothing");
    let (text, complaint) = logs.told("accept-loss", &["--yes"]);
    assert!(complaint.contains("1 record missing (lsn 11 to 11)"), "{complaint}");
    assert_eq!(text, "shard 0: the loss at 1 place is recorded; the node can be started\n");
    let text = logs.text("verify", &[]);
    assert!(text.starts_with("shard 0: sound; a loss was accepted before: 4 segments"), "{text}");
    assert!(logs.text("inspect", &[]).contains("accept-loss"));
    assert!(logs.text("dump", &[]).contains("hole"));
    assert_eq!(
        logs.text("accept-loss", &["--yes"]),
        "shard 0: nothing is lost; it was left as it is\n"
    );
    let mut wal = logs.wal();
    assert_eq!(wal.stream_by_id(6).expect("known").next_offset, 2500);
    logs.append(&mut wal);
}

#[test]
fn what_is_behind_a_torn_tail_is_counted() {
    let logs = Logs::new(2500);
    let newest = &logs.json("inspect", &[])[0]["segments"];
    let newest = newest.as_array().and_then(|all| all.last()).expect("some").clone();
    let end = newest["sound"][0][1].as_u64().expect("a byte");
    // The fifth record from the end: it may have been on its way, for all that the log says.
    let at = end - 5 * RECORD;
    let slot = newest["slot"].as_u64().expect("a number") as u32;
    logs.flip(slot, at + 100);
    let text = logs.text("verify", &[]);
    assert!(text.starts_with("shard 0: sound"), "{text}");
    let line = format!(
        "{slot:08}.seg byte {at}: torn tail: the log ends here; 4 sound records of 4 messages behind it are dropped"
    );
    assert!(text.contains(&line) && logs.text("inspect", &[]).contains(&line), "{text}");
    let torn = &logs.json("verify", &[])[0]["torn_tail"];
    assert_eq!((&torn["byte"], &torn["records"]), (&at.into(), &4.into()), "{torn}");
    logs.append(&mut logs.wal());
    assert_eq!(logs.json("verify", &[])[0]["torn_tail"], serde_json::Value::Null);
}

#[test]
fn a_log_without_any_header_is_not_said_to_be_mended() {
    let logs = Logs::new(2500);
    for slot in 0..3 {
        let file = fs::File::options().write(true).open(logs.file(slot)).expect("there");
        file.write_all_at(&[0xff; 4096], 0).expect("inside");
    }
    let files = |logs: &Logs| (0..8).map(|slot| fs::read(logs.file(slot)).ok()).collect::<Vec<_>>();
    let before = files(&logs);
    let (code, text, _) = texts(&logs.run("verify", &[]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no segment header is left: nothing of it can be read"), "{text}");
    assert_fails(&logs.run("accept-loss", &["--yes"]), "there is nothing to go on with: move ");
    assert!(files(&logs) == before, "nothing was changed");
}

#[test]
fn files_that_are_short_or_missing_and_header_copies_are_told() {
    let logs = Logs::new(2500);
    logs.flip(1, 512 + 40);
    let (code, text, _) = texts(&logs.run("verify", &[]));
    assert_eq!(code, Some(1));
    assert!(
        text.contains("00000001.seg byte 512: this copy of the segment header is damaged"),
        "{text}"
    );
    logs.flip(1, 512 + 40);
    let length = SEGMENT / 2;
    fs::File::options()
        .write(true)
        .open(logs.file(1))
        .and_then(|file| file.set_len(length))
        .expect("cut");
    let (code, text, _) = texts(&logs.run("verify", &[]));
    assert_eq!(code, Some(1));
    assert!(text.contains("00000001.seg byte 131072: the file ends here"), "{text}");
    assert!(text.contains("its records end before lsn"), "{text}");
    assert!(text.contains("shard 0: FAULT: damaged at 2 places"), "{text}");
    let before = logs.bytes();
    let inspected = &logs.json("inspect", &[])[0];
    assert!(inspected["health"].as_str().expect("text").starts_with("FAULT"), "{inspected}");
    let missing = inspected["missing"].as_array().expect("a list");
    let missing = missing.iter().find(|missing| missing["stream"] == "trades").expect("one");
    let (from, to) = (missing["from"].as_u64(), missing["to"].as_u64());
    let lost = to.expect("an offset") - from.expect("an offset");
    let (_, lines, _) = texts(&logs.run("dump", &["--stream", "5", "--id", "--framing", "lines"]));
    assert_eq!(lines.lines().count() as u64, 2500 - lost);
    assert!(logs.bytes() == before, "looking changes nothing");

    // A file that is larger is nobody's loss.
    let size = |slot: u32, bytes: u64| {
        let file = fs::File::options().write(true).open(logs.file(slot)).expect("there");
        file.set_len(bytes).expect("resized");
    };
    size(3, SEGMENT + 1);
    let (_, text, _) = texts(&logs.run("verify", &[]));
    assert!(text.contains("00000003.seg byte 262144: the file has 262145 bytes"), "{text}");
    assert_fails(&logs.run("accept-loss", &["--yes"]), "give it its size first");
    size(3, SEGMENT);
    let (text, complaint) = logs.told("accept-loss", &["--yes"]);
    assert!(complaint.contains("00000001.seg byte 131072: the file ends here"), "{complaint}");
    assert_eq!(text, "shard 0: the loss at 2 places is recorded; the node can be started\n");
    assert_eq!(fs::metadata(logs.file(1)).expect("there").len(), SEGMENT);
    let text = logs.text("verify", &[]);
    assert!(text.starts_with("shard 0: sound; a loss was accepted before"), "{text}");
    let wal = logs.wal();
    assert_eq!(wal.stream_by_id(STREAM).expect("known").next_offset, 2500);
}

#[test]
fn a_missing_file_is_told_and_can_be_accepted() {
    let logs = Logs::new(2500);
    fs::remove_file(logs.file(1)).expect("there");
    let (code, text, _) = texts(&logs.run("verify", &[]));
    assert_eq!(code, Some(1));
    assert!(text.contains("00000001.seg byte 0: the file is missing"), "{text}");
    assert!(text.contains("segment 2 is missing before this one"), "{text}");
    let (text, _) = logs.told("accept-loss", &["--yes"]);
    assert_eq!(text, "shard 0: the loss at 2 places is recorded; the node can be started\n");
    let text = logs.text("verify", &[]);
    assert!(text.starts_with("shard 0: sound; a loss was accepted before"), "{text}");
    let mut wal = logs.wal();
    logs.append(&mut wal);
}

/// Sets a flag when it goes out of scope.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A log that is written to and recycled all the time is never called damaged.
#[test]
fn a_log_in_use_is_not_taken_for_damaged() {
    let logs = Logs::new(10);
    let lock = DirLock::take(logs.path()).expect("free");
    let mut wal = logs.wal();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when something is not as it should be.
        let ended = Ends(&stop);
        let writer = scope.spawn(|| {
            let mut written = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let stream = wal.open_stream(STREAM).expect("room");
                let publication = wal.open_publication(9, stream).expect("room");
                let block = [7; 1000];
                let data = AppendData {
                    stream,
                    publication,
                    incarnation: 1,
                    count: 1,
                    block_crc: crc32c(&block),
                    time_ns: 0,
                    block: &block,
                };
                written += u64::from(wal.append_data(&data).is_ok());
                wal.barrier();
                wal.persisted();
                wal.housekeep(16);
            }
            written
        });
        for _ in 0..10 {
            let text = logs.text("verify", &[]);
            let pid = format!("in use by pid {}", std::process::id());
            assert!(text.contains("sound") && text.contains(&pid), "{text}");
            logs.text("inspect", &[]);
            assert!(
                mstream(&["wal", "dump", &logs.dir()]).output().expect("runs").status.success()
            );
        }
        drop(ended);
        assert!(writer.join().expect("it ends") > 10_000, "segments were recycled");
    });
    drop(lock);
}

#[test]
fn footers_are_made_again_and_compared() {
    let logs = Logs::new(1000);
    let dir = logs.path().join("shard-0");
    let opened = || {
        let mut wal = logs.wal();
        let mut files = FooterFiles::new(Some(dir.clone()), false);
        while let Some(mut sealed) = wal.next_sealed() {
            files.attend(&mut sealed).expect("written");
            wal.give_back(sealed);
        }
    };
    opened();
    let path = dir.display().to_string();
    let shown = stdout(output(&["wal", "inspect", &path, "--json"]));
    let segments = json(&shown)[0]["segments"].as_array().cloned().expect("segments");
    let words: Vec<_> = segments.iter().map(|segment| segment["footer"].clone()).collect();
    assert!(words[0] == "sound" && words[words.len() - 1] == "none", "{words:?}");
    let verify = ["wal", "verify", &path];
    stdout(output(&verify));
    let footer = footer_path(&dir, 0);
    let mut bytes = fs::read(&footer).expect("a footer");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&footer, &bytes).expect("written");
    let (code, told, _) = texts(&output(&verify));
    assert_eq!(code, Some(1));
    assert!(told.contains("00000000.foot byte 0: the footer is wrong"), "{told}");
    assert!(told.contains("its content does not fit its check"), "{told}");
    // The next start mends it.
    opened();
    stdout(output(&verify));
}
