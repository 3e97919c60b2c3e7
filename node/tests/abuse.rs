//! What strangers and broken clients may send to a kernel socket port, beside a client that behaves.

mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::random::Random;
use common::raw::{self, Raw, ask, datagram, hello, open, reseal};
use common::traffic::{self, PUBLISHER, holds_exactly};
use common::{Node, Setting};
use mstream_client::{From, Identity, connect};
use mstream_wire::{
    Close, Code, Credit, DatagramHeader, ErrorHeader, Frame, MAX_DATAGRAM_BYTES, NO_HANDLE, NO_SLOT,
};

/// A stream that the client which behaves has nothing to do with; few mutations turn one into the
/// other.
const OTHER: u64 = 0x5a5a_a5a5;

/// A session's datagram from another address, not only from another port.
const ABROAD: &str = "wrong_source, by its address";

fn setting() -> Setting {
    let mut setting = Setting::socket();
    setting.add(&format!("[[stream]]\nid = {OTHER}\nname = \"other\""));
    setting
}

/// Sends `bytes` again and again until the shard counted one more of `reason`.
fn counted(node: &Node, reason: &str, mut send: impl FnMut()) {
    let before = node.count(reason);
    let deadline = Instant::now() + common::PATIENCE;
    loop {
        send();
        std::thread::sleep(Duration::from_millis(3));
        if node.count(reason) > before {
            return;
        }
        assert!(Instant::now() < deadline, "{reason} is never counted: {:?}", node.status());
    }
}

/// The datagram with one thing changed and its check made to fit.
fn changed(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    reseal(&mut bytes);
    bytes
}

#[test]
fn every_kind_of_nonsense_is_counted_by_its_reason_and_a_client_is_served_meanwhile() {
    let setting = setting();
    let node = setting.start();
    let mut good = traffic::udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").reading(
        "s",
        From::Earliest,
        1024,
    );
    good.publish_all(100);
    let mut raw = Raw::open(setting.shard(), 1, OTHER);
    let beat = raw.beat();
    let close =
        Close { head: Close::HEAD, code: 0.into(), reserved: 0.into(), reserved2: 0.into() };
    let stranger = raw::socket(setting.shard());
    let outside = |fill: &dyn Fn(&mut mstream_wire::DatagramWriter<'_>)| {
        datagram(&DatagramHeader::outside(0), |writer| fill(writer))
    };
    let credit =
        |handle: u32| Credit { head: Credit::HEAD, handle: handle.into(), limit: u64::MAX.into() };
    let wrong_token = datagram(&DatagramHeader::new(raw.slot, raw.token ^ 1, 1, 0), |writer| {
        writer.close(&close);
    });
    let no_such_slot = datagram(&DatagramHeader::new(NO_SLOT - 1, raw.token, 1, 0), |writer| {
        writer.close(&close);
    });
    // The wrong source, by its port and by its address: everything else about it is right.
    let abroad = raw::socket_at(Ipv4Addr::new(127, 0, 0, 2), setting.shard());
    let [stolen, stolen_too] =
        std::array::from_fn(|_| raw.datagram(|writer| assert!(writer.close(&close))));
    let error = ErrorHeader {
        head: ErrorHeader::HEAD,
        code: 0.into(),
        reserved: 0.into(),
        value: 0.into(),
        nonce: 0.into(),
    };
    let directed: Vec<(&str, Vec<u8>)> = vec![
        ("datagram_too_short", Vec::new()),
        ("datagram_too_short", beat[..31].to_vec()),
        ("datagram_too_long", vec![0; MAX_DATAGRAM_BYTES + 1]),
        // Longer than a buffer: already the port refuses it.
        ("port rx_refused", vec![0; 9000]),
        ("version", changed(&beat, |bytes| bytes[0] = 2)),
        ("datagram_flags", changed(&beat, |bytes| bytes[1] = 1)),
        ("datagram_flags", changed(&beat, |bytes| bytes[1] = 2)),
        ("frame_length", changed(&beat, |bytes| bytes[34] = 0)),
        ("frame_length", changed(&beat, |bytes| bytes[34] = 31)),
        ("frame_length", changed(&beat, |bytes| bytes[34] = 24)),
        ("frame_length", changed(&beat, |bytes| bytes[34..36].fill(0xff))),
        ("frame_length", changed(&beat, |bytes| bytes.truncate(60))),
        ("frame_type", changed(&beat, |bytes| bytes[32] = 0x7f)),
        ("frame_check", {
            let mut bytes = beat.clone();
            bytes[40] ^= 1;
            bytes
        }),
        ("set_up", outside(&|_| {})),
        ("set_up", outside(&|writer| assert!(writer.close(&close)))),
        ("set_up", changed(&hello(1), |bytes| bytes[36..38].fill(9))),
        ("cookie", open(1, [7; 24])),
        ("unknown_session", wrong_token),
        ("unknown_session", no_such_slot),
        ("wrong_source", stolen),
        (ABROAD, stolen_too),
        ("direction", raw.datagram(|writer| assert!(writer.error(&error, "no")))),
        ("unknown_handle", raw.datagram(|writer| assert!(writer.credit(&credit(0x00ff_fff0))))),
        ("unknown_handle", raw.datagram(|writer| assert!(writer.credit(&credit(NO_HANDLE))))),
    ];
    for (what, bytes) in &directed {
        let (reason, socket) = match *what {
            ABROAD => ("wrong_source", &abroad),
            "wrong_source" => ("wrong_source", &stranger),
            reason => (reason, &raw.socket),
        };
        counted(&node, reason, || {
            socket.send(bytes).expect("sent");
            good.publish(8);
            good.poll();
        });
    }
    // What nobody asked for took nothing from the session that was meant.
    assert_eq!(raw.ack().received.get(), 0);
    let sound = raw.publish(1, &[b"still here"]);
    assert_eq!(raw.ack_after(&sound).received.get(), 1);
    good.settle();
    assert!(good.seen.lost.is_empty());
    holds_exactly(connect::udp(setting.shard()).expect("a client"), good.seen.published);
    node.stop();
}

/// One datagram that is wrong in a random way; `sound` are some that are not.
fn mutated(random: &mut Random, sound: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = sound[random.below(sound.len())].clone();
    match random.below(6) {
        0 => {
            let len = random.below(MAX_DATAGRAM_BYTES + 40);
            return random.bytes(len);
        }
        1 => bytes.truncate(random.below(bytes.len())),
        2 => {
            let more = random.below(64);
            bytes.extend(random.bytes(more));
        }
        3 => {
            // A frame length of any kind.
            let value = (random.next() as u16).to_le_bytes();
            if bytes.len() >= 36 {
                bytes[34..36].copy_from_slice(&value);
            }
        }
        _ => {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
    }
    // Most get a check that fits, or all would end at the same test.
    if random.below(4) > 0 {
        reseal(&mut bytes);
    }
    bytes
}

fn mutations(count: usize, seed: u64) {
    let setting = setting();
    let node = setting.start();
    let mut good = traffic::udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").reading(
        "s",
        From::Earliest,
        1024,
    );
    good.publish_all(1000);
    let before = node.memory();
    let mut random = Random(seed);
    let mut sent = 0;
    while sent < count {
        // A session of its own now and then: some mutations close it.
        let mut raw = Raw::open(setting.shard(), random.next(), OTHER);
        let sound = [
            hello(random.next()),
            open(random.next(), [1; 24]),
            raw.beat(),
            raw.open_stream(OTHER),
            raw.publish(1, &[b"first", b"second", &[0; 200]]),
            raw.datagram(|writer| {
                assert!(writer.credit(&Credit {
                    head: Credit::HEAD,
                    handle: 0.into(),
                    limit: 5.into(),
                }));
            }),
        ];
        for turn in 0..1000 {
            if raw.socket.send(&mutated(&mut random, &sound)).is_ok() {
                sent += 1;
            }
            if turn % 16 == 0 {
                good.publish(4);
                good.poll();
            }
        }
        good.settle();
        let close = raw.datagram(|writer| {
            assert!(writer.close(&Close {
                head: Close::HEAD,
                code: 0.into(),
                reserved: 0.into(),
                reserved2: 0.into(),
            }));
        });
        raw.socket.send(&close).expect("sent");
    }
    good.settle();
    let status = node.status();
    for reason in ["datagram_too_short", "frame_length", "frame_check", "set_up"] {
        assert!(status.get(reason).is_some_and(|count| *count > 0), "{reason}: {status:?}");
    }
    let after = node.memory();
    eprintln!("{sent} datagrams; memory {} KiB, then {} KiB", before >> 10, after >> 10);
    assert!(after < before + LEEWAY, "{before} bytes became {after}");
    assert!(good.seen.lost.is_empty() && good.seen.stopped.is_none(), "{:?}", good.seen);
    node.stop();
}

/// What memory may grow by although nothing is kept: pages touched for the first time.
const LEEWAY: u64 = 1 << 20;

#[test]
fn random_truncated_and_mutated_datagrams_disturb_nobody() {
    mutations(20_000, 1);
}

/// `cargo test -p mstream-node --test abuse -- --ignored`: takes about a minute.
#[test]
#[ignore = "takes about a minute"]
fn two_million_mutated_datagrams_disturb_nobody() {
    mutations(2_000_000, 2);
}

#[test]
fn a_hundred_thousand_set_ups_that_are_never_finished_take_no_memory() {
    const SESSIONS: u64 = 256;
    const SOCKETS: usize = 200;
    const PER_SOCKET: u64 = 500;
    let mut setting = Setting::socket();
    setting.add(&format!("[limits]\nsessions = {SESSIONS}\nsession_timeout_ms = 2000"));
    let node = setting.start();
    let mut good = traffic::udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s").reading(
        "s",
        From::Earliest,
        1024,
    );
    good.publish_all(100);
    let before = node.memory();
    let (mut cookies, mut full) = (0, 0);
    for index in 0..SOCKETS as u64 {
        let socket = raw::socket(setting.shard());
        for nonce in 0..PER_SOCKET {
            socket.send(&hello(index * PER_SOCKET + nonce)).expect("sent");
            if nonce % 50 != 49 {
                continue;
            }
            // Each 50 hellos are answered before the next; with the last cookie of them goes an open.
            let nonce = index * PER_SOCKET + nonce;
            let cookie = ask(&socket, &hello(nonce), |_, frame| match frame {
                Frame::Cookie(cookie) => {
                    cookies += 1;
                    (cookie.nonce.get() == nonce).then_some(cookie.cookie)
                }
                _ => None,
            });
            full += ask(&socket, &open(nonce, cookie), |_, frame| match frame {
                Frame::Opened(_) => Some(0),
                Frame::Error(error, _) if error.code.get() == Code::SessionsFull as u16 => Some(1),
                _ => None,
            });
            good.publish(1);
            good.poll();
        }
    }
    good.settle();
    let after = node.memory();
    eprintln!("{cookies} cookies, {full} times full; memory {before}, then {after}");
    assert!(cookies > 90_000, "{cookies}");
    assert!(after < before + LEEWAY, "{before} bytes became {after}");
    assert!(good.seen.lost.is_empty(), "{:?}", good.seen);
    // Fills every slot, if that did not happen above.
    let filler = raw::socket(setting.shard());
    let deadline = Instant::now() + common::PATIENCE;
    for nonce in 1 << 40.. {
        assert!(Instant::now() < deadline, "never full");
        let cookie = ask(&filler, &hello(nonce), |_, frame| match frame {
            Frame::Cookie(cookie) if cookie.nonce.get() == nonce => Some(cookie.cookie),
            _ => None,
        });
        let opened = ask(&filler, &open(nonce, cookie), |_, frame| match frame {
            Frame::Opened(opened) if opened.nonce.get() == nonce => Some(true),
            Frame::Error(error, _) if error.nonce.get() == nonce => Some(false),
            _ => None,
        });
        good.publish(1);
        good.poll();
        if !opened {
            break;
        }
    }
    // A client that comes now gets in when the first of them expire.
    good.settle();
    let mut late = traffic::udp(&setting, Identity::Anonymous).reading("s", From::Offset(0), 1024);
    let end = good.seen.published;
    let deadline = Instant::now() + common::PATIENCE;
    while late.seen.next < end {
        assert!(Instant::now() < deadline, "never let in: {:?}", node.status());
        late.poll();
        good.poll();
    }
    good.publish_all(10);
    assert!(good.seen.lost.is_empty(), "{:?}", good.seen);
    let status = node.status();
    assert!(status["sessions"] <= SESSIONS && status["sessions_expired"] > 0, "{status:?}");
    node.stop();
}
