//! Memif clients killed with -9 under load, next to one that must not notice.

mod common;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Setting;
use common::random::Random;
use common::traffic::{self, PUBLISHER};
use mstream_client::{Event, From, Identity, PublicationConfig, SessionConfig, connect};

/// Tells the process that is to be killed where to connect.
const VICTIM: &str = "MSTREAM_TEST_VICTIM";

/// Not a test of its own: the process that [`Victim`] starts publishes to stream "other" and reads it,
/// as fast as it can, until it is killed.
#[test]
fn victim() {
    let Ok(place) = std::env::var(VICTIM) else { return };
    let (shard, socket) = place.split_once(' ').expect("an address and a path");
    let shard: SocketAddrV4 = shard.parse().expect("an address");
    let socket = PathBuf::from(socket);
    let clock = Instant::now();
    let mut client = connect::memif(&socket, shard, common::PATIENCE).expect("a client");
    let session = client.open_session(SessionConfig::new(Identity::Anonymous));
    let publication = client.open_publication(session, "other", &PublicationConfig::default());
    client.subscribe(session, "other", From::Latest, 4096);
    let (mut read, mut told) = (0, false);
    while clock.elapsed() < common::PATIENCE {
        client.poll(clock.elapsed().as_nanos() as u64, |event| {
            read += u64::from(matches!(event, Event::Message { .. }));
        });
        while client.publish(publication, b"", b"", &[7; 100]).is_ok() {}
        client.flush();
        if read > 0 && !told {
            told = true;
            // The parent waits for this line.
            std::fs::write(socket.with_extension(std::process::id().to_string()), "")
                .expect("told");
        }
    }
}

/// A running client, killed by its pid at the end.
struct Victim(Child, PathBuf);

impl Victim {
    fn start(setting: &Setting) -> Victim {
        let socket = setting.control_socket();
        let place = format!("{} {}", setting.shard_at([10, 0, 0, 1]), socket.display());
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "victim"])
            .env(VICTIM, place)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let told = socket.with_extension(child.id().to_string());
        Victim(child, told)
    }

    /// True once it reads what it publishes.
    fn is_busy(&mut self) -> bool {
        assert!(self.0.try_wait().expect("a child of ours").is_none(), "it ended by itself");
        self.1.exists()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The shard shares its core with the clients and yields, so that it is also stopped while it uses
/// memory that a client shared.
fn killed_clients(kills: usize) {
    let mut setting = Setting::memif();
    setting.add("[[stream]]\nid = 2\nname = \"other\"\n[limits]\nsession_timeout_ms = 2000");
    // What the others publish must not push out what is read again at the end.
    setting.text = setting.text.replace("max_bytes = \"8 MiB\"", "max_bytes = \"64 MiB\"");
    let node = setting.start();
    let mut good = traffic::memif(&setting, Identity::Publisher(PUBLISHER))
        .publishing("s")
        .reading("s", From::Earliest, 1024);
    good.publish_all(100);
    let mut random = Random(5);
    let mut memory = 0;
    for kill in 0..kills {
        let mut victim = Victim::start(&setting);
        let deadline = Instant::now() + common::PATIENCE;
        // Every fifth is killed wherever it is: also within its handshake.
        let wild = Instant::now() + Duration::from_micros(random.next() % 20_000);
        while !victim.is_busy() && (kill % 5 != 4 || Instant::now() < wild) {
            assert!(Instant::now() < deadline, "client {kill} never gets in: {:?}", node.status());
            good.publish(2);
            good.poll();
        }
        let moment = Instant::now() + Duration::from_micros(random.next() % 5_000);
        while Instant::now() < moment {
            good.publish(2);
            good.poll();
        }
        drop(victim);
        good.settle();
        if kill == kills / 4 {
            memory = node.memory();
        }
    }
    good.publish_all(100);
    assert!(good.seen.lost.is_empty() && good.seen.stopped.is_none(), "{:?}", good.seen);
    // Their sessions end, and with them all that they held.
    node.wait_count("sessions_expired", kills as u64 / 2);
    let deadline = Instant::now() + common::PATIENCE;
    while node.count("sessions") > 1 || node.count("publications") > 1 {
        assert!(Instant::now() < deadline, "{:?}", node.status());
        good.poll_for(Duration::from_millis(10));
    }
    let after = node.memory();
    eprintln!("{kills} kills; {:?}; memory {memory}, then {after}", node.status());
    assert!(after < memory + (8 << 20), "{memory} bytes became {after}");
    good.settle();
    let late = connect::memif(
        &setting.control_socket(),
        setting.shard_at([10, 0, 0, 1]),
        common::PATIENCE,
    );
    let mut late = traffic::Traffic::new(late.expect("a client"), Identity::Anonymous).reading(
        "s",
        From::Earliest,
        1024,
    );
    let end = good.seen.published;
    late.until("a new client reads", |seen| seen.next == end);
    let text = node.stop();
    assert!(!text.contains("ERROR"), "{text}");
}

#[test]
fn clients_killed_20_times_disturb_nobody() {
    killed_clients(20);
}

/// `cargo test -p mstream-node --test kill_client -- --ignored`: takes about a minute.
#[test]
#[ignore = "takes about a minute"]
fn clients_killed_1000_times_disturb_nobody() {
    killed_clients(1000);
}
