//! A million streams created, listed and deleted; takes a while and prints figures, so it is run by hand:
//! `cargo test --release -p mstream-node --test million_streams -- --ignored --nocapture`
#![allow(clippy::print_stdout, reason = "prints its figures")]

mod common;

use std::time::Instant;

use common::admin::{Admin, by_id};
use common::{Node, Setting};

const STREAMS: usize = 1_000_000;
/// Streams of one call.
const BATCH: usize = 10_000;

fn name(number: usize) -> String {
    format!("market.{number:07}")
}

fn tell(node: &Node, what: &str, begun: Instant) {
    let (seconds, mib) = (begun.elapsed().as_secs_f64(), node.memory() >> 20);
    println!("{what}: {seconds:.2} s; memory without the log's segments: {mib} MiB");
}

#[test]
#[ignore = "takes minutes; prints figures"]
fn a_million_streams_are_created_listed_and_deleted() {
    let mut setting = Setting::socket();
    setting.text = setting
        .text
        .replace("segment_bytes = \"1 MiB\"", "segment_bytes = \"16 MiB\"")
        .replace("max_bytes = \"8 MiB\"", "max_bytes = \"1 GiB\"");
    // One is configured.
    setting.add(&format!("[limits]\nstreams = {}", STREAMS + 1));
    let begun = Instant::now();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    tell(&node, "start with none", begun);

    let begun = Instant::now();
    let mut ids = Vec::with_capacity(STREAMS);
    for batch in 0..STREAMS / BATCH {
        let names: Vec<_> = (batch * BATCH..(batch + 1) * BATCH).map(name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        ids.extend(admin.create(&names).into_iter().map(|stream| stream.expect("room").id));
    }
    tell(&node, "created", begun);

    let begun = Instant::now();
    let (mut page, mut listed) = (String::new(), 0);
    loop {
        let list = admin.list(BATCH as u32, &page, "market.");
        for stream in &list.streams {
            assert_eq!((stream.id, &stream.name), (ids[listed], &name(listed)));
            listed += 1;
        }
        page = list.next_page;
        if page.is_empty() {
            break;
        }
    }
    assert_eq!(listed, STREAMS);
    tell(&node, "listed", begun);
    let bytes = std::fs::metadata(setting.log.join("catalogue.log")).expect("it is there").len();
    println!("catalogue.log: {} bytes a stream", bytes / STREAMS as u64);

    node.kill();
    let begun = Instant::now();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    assert_eq!(admin.status().streams, STREAMS as u64 + 1);
    tell(&node, "started again with all of them", begun);

    let begun = Instant::now();
    for batch in ids.chunks(BATCH) {
        let keys = batch.iter().map(|id| by_id(*id)).collect();
        assert!(admin.delete(keys).iter().all(Result::is_ok));
    }
    tell(&node, "deleted", begun);
    assert_eq!(admin.streams(), [(1, "s".to_string())]);
    node.stop();
}
