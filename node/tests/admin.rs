//! The admin API against a running mstreamd: catalogue, status, HTTP, reflection.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use common::admin::{Admin, by_id, by_name, get};
use common::traffic::{self, PUBLISHER};
use common::{PATIENCE, Setting};
use mstream_admin::v1;
use mstream_client::{From, Identity};
use nix::sys::signal::Signal;
use tonic::Code;

fn code<T: std::fmt::Debug>(result: &Result<T, (Code, String)>) -> Code {
    result.as_ref().expect_err("a failure").0
}

#[test]
fn streams_are_created_listed_described_and_deleted() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    let created = admin.create(&["b", "a", "b", "", "s", "c\n"]);
    let ids: Vec<_> = created.iter().flatten().map(|stream| (stream.id, &*stream.name)).collect();
    assert_eq!(ids, [(2, "b"), (3, "a")]);
    for (at, expected) in [
        (2, Code::AlreadyExists),
        (3, Code::InvalidArgument),
        (4, Code::AlreadyExists),
        (5, Code::InvalidArgument),
    ] {
        assert_eq!(code(&created[at]), expected, "{at}: {created:?}");
    }
    let names = |list: &v1::ListStreamsResponse| {
        list.streams.iter().map(|stream| stream.name.clone()).collect::<Vec<_>>().join(" ")
    };
    let page = admin.list(2, "", "");
    assert_eq!((names(&page), page.total), ("a b".to_string(), 3));
    let page = admin.list(2, &page.next_page, "");
    assert_eq!((names(&page), &*page.next_page), ("s".to_string(), ""));
    assert_eq!(names(&admin.list(0, "", "b")), "b");

    let found = admin.describe(by_name("a")).expect("there");
    assert_eq!(found.stream.expect("set").id, 3);
    assert_eq!(found.level, v1::Level::Process as i32);
    assert_eq!(found.positions.expect("set"), v1::StreamPositions::default());
    let missing = admin.describe(by_id(99)).expect_err("unknown");
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "there is no stream id 99"));

    let deleted = admin.delete(vec![by_name("a"), by_id(2), by_name("a"), by_id(77)]);
    let ids: Vec<_> = deleted.iter().flatten().map(|stream| stream.id).collect();
    assert_eq!(ids, [3, 2]);
    assert_eq!((code(&deleted[2]), code(&deleted[3])), (Code::NotFound, Code::NotFound));
    let again = admin.create(&["a"]).remove(0).expect("the name is free");
    assert_eq!(again.id, 4, "ids are never used again");
    assert!(again.created_ns > 1_700_000_000_000_000_000);
    let status = admin.status();
    assert_eq!((status.streams, status.publishers), (2, 1));
    node.stop();
}

#[test]
fn rules_are_kept_and_checked() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    let rules = v1::Rules {
        watermark: v1::Watermark::Persisted.into(),
        minimum_level: v1::Level::Process.into(),
        retention_bytes: 1 << 40,
        retention_ms: 5,
        max_block_bytes: 128,
        max_publications: 6,
        max_subscriptions: 7,
        cold: true,
        newest_per_key: true,
    };
    let spec = |name: &str, shard: Option<u32>, rules: v1::Rules| v1::StreamSpec {
        name: name.to_string(),
        shard,
        rules: Some(rules),
    };
    let pmem = v1::Rules { minimum_level: v1::Level::Pmem.into(), ..rules };
    let unknown = v1::Rules { watermark: 9, ..rules };
    let level = v1::Rules { minimum_level: -1, ..rules };
    let large = v1::Rules { max_block_bytes: 9000, ..rules };
    let results = admin
        .create_specs(vec![
            spec("good", Some(0), rules),
            spec("pmem", None, pmem),
            spec("watermark", None, unknown),
            spec("level", None, level),
            spec("large", None, large),
            spec("elsewhere", Some(1), rules),
        ])
        .expect("answered");
    assert_eq!(results[0].as_ref().expect("sound").rules, Some(rules));
    let texts: Vec<_> = results[1..]
        .iter()
        .map(|result| result.as_ref().expect_err("refused"))
        .map(|(code, text)| (*code, text.as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            (
                Code::FailedPrecondition,
                "minimum_level: pmem is demanded, and the log of shard 0 gives process"
            ),
            (Code::InvalidArgument, "watermark: unknown value 9"),
            (Code::InvalidArgument, "minimum_level: unknown value -1"),
            (Code::InvalidArgument, "max_block_bytes: 9000 is not 0 or in 64 to 1344"),
            (Code::InvalidArgument, "there is no shard 1; the node has 1, from 0"),
        ]
    );
    // The default watermark is said by its name.
    let default = admin.create(&["default"]).remove(0).expect("sound");
    assert_eq!(default.rules.expect("set").watermark, v1::Watermark::Committed as i32);
    node.stop();
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    let before = admin.streams();
    let spec = |name: String| v1::StreamSpec { name, ..Default::default() };
    // Too many; too large; a million; names of 64 kB.
    let many = (0..10_001).map(|n| spec(n.to_string())).collect();
    let status = admin.create_specs(many).expect_err("too many");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "streams: 10001 items; a call takes at most 10000");
    let million = (0..1_000_000).map(|n| spec(n.to_string())).collect();
    let status = admin.create_specs(million).expect_err("too large");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let huge = (0..16).map(|_| spec("x".repeat(64 << 10))).collect();
    for result in admin.create_specs(huge).expect("answered") {
        let (code, text) = result.expect_err("too long");
        assert_eq!(
            (code, &*text),
            (Code::InvalidArgument, "name: 65536 bytes; a name has 1 to 255")
        );
    }
    let long = "x".repeat(64 << 10);
    assert_eq!(code(&admin.delete(vec![by_name(&long)]).remove(0)), Code::InvalidArgument);
    assert_eq!(code(&admin.register(&[&long]).remove(0)), Code::InvalidArgument);
    let status = admin.describe(by_name(&long)).expect_err("no name");
    assert_eq!(status.code(), Code::InvalidArgument);
    // Nothing where something is needed.
    assert!(admin.create_specs(Vec::new()).expect("answered").is_empty());
    let none = v1::StreamKey { key: None };
    assert_eq!(code(&admin.delete(vec![none.clone()]).remove(0)), Code::InvalidArgument);
    assert_eq!(admin.describe(none).expect_err("no key").code(), Code::InvalidArgument);
    let request = v1::DescribeStreamRequest { stream: None };
    let status = admin.runtime.block_on(admin.catalogue().describe_stream(request));
    assert_eq!(status.expect_err("no key").code(), Code::InvalidArgument);
    // Pages.
    let list = |page_size, page: &str| {
        let request = v1::ListStreamsRequest { page_size, page: page.into(), ..Default::default() };
        admin.runtime.block_on(admin.catalogue().list_streams(request)).map(|_| ())
    };
    assert_eq!(list(10_001, "").expect_err("too large").code(), Code::InvalidArgument);
    assert_eq!(list(1, &long).expect_err("no name").code(), Code::InvalidArgument);
    let request = v1::ListSessionsRequest { page_size: 1, page: "here".into() };
    let status = admin.runtime.block_on(admin.node().list_sessions(request));
    assert_eq!(status.expect_err("no page").code(), Code::InvalidArgument);
    let stream = Some(by_name("nobody"));
    let request = v1::ListBacklogRequest { stream, ..Default::default() };
    let status = admin.runtime.block_on(admin.node().list_backlog(request));
    assert_eq!(status.expect_err("unknown").code(), Code::NotFound);
    let request = v1::WatchStatusRequest { interval_ms: 1 };
    let status = admin.runtime.block_on(admin.node().watch_status(request));
    assert_eq!(status.expect_err("too often").code(), Code::InvalidArgument);
    // A message of another type: names where specifications belong.
    let wrong = v1::RegisterPublishersRequest { names: vec!["\u{1}name".into(), "b".into()] };
    let path = "/mstream.admin.v1.Catalogue/CreateStreams";
    let status = admin.runtime.block_on(async {
        let mut client = tonic::client::Grpc::new(admin.channel.clone());
        client.ready().await.expect("ready");
        let codec = tonic_prost::ProstCodec::<_, v1::CreateStreamsResponse>::default();
        let path = path.parse().expect("a path");
        client.unary(tonic::Request::new(wrong), path, codec).await.map(|_| ())
    });
    assert_eq!(status.expect_err("no such message").code(), Code::Internal);
    // No protocol at all.
    let mut stream = TcpStream::connect(node.admin()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(&[0xff; 4096]).expect("sent");
    let mut answer = Vec::new();
    // A reset is an answer too.
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(admin.streams(), before);
    node.stop();
}

#[test]
fn of_two_creates_of_one_name_exactly_one_wins() {
    let setting = Setting::socket();
    let node = setting.start();
    let address = node.admin();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let admin = Admin::at(address);
                (0..20).map(|n| admin.create(&[&format!("n{n}")]).remove(0)).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut won = [0; 20];
    for caller in callers {
        for (n, result) in caller.join().expect("no panic").into_iter().enumerate() {
            match result {
                Ok(_) => won[n] += 1,
                Err((code, _)) => assert_eq!(code, Code::AlreadyExists),
            }
        }
    }
    assert_eq!(won, [1; 20]);
    node.stop();
}

#[test]
fn the_catalogue_outlives_a_stop_a_kill_and_a_second_start() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    admin.create(&["a", "b", "gone"]);
    admin.delete(vec![by_name("gone")]);
    admin.register(&["feed"]);
    let before = admin.streams();
    node.stop();
    for kill in [true, false] {
        let node = setting.start();
        let admin = Admin::at(node.admin());
        assert_eq!(admin.streams(), before);
        let again = admin.register(&["feed"]).remove(0).expect("known");
        assert_eq!(again.id, 2);
        if kill {
            node.kill();
        } else {
            let next = admin.create(&["next"]).remove(0).expect("room");
            assert_eq!(next.id, 5, "ids go on");
            node.stop();
        }
    }
}

#[test]
fn what_is_created_survives_a_kill_at_once() {
    let setting = Setting::socket();
    let mut expected = vec![(1, "s".to_string())];
    for round in 0..5 {
        let node = setting.start();
        let admin = Admin::at(node.admin());
        assert_eq!(admin.streams(), expected);
        let name = format!("t{round}");
        let created = admin.create(&[&name]).remove(0).expect("room");
        node.kill();
        expected.push((created.id, name));
    }
}

#[test]
fn a_created_stream_and_a_registered_publisher_are_usable_at_once() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    let publisher = admin.register(&["late"]).remove(0).expect("room");
    admin.create(&["fresh"]);
    let mut writer = traffic::udp(&setting, Identity::Publisher(publisher.id)).publishing("fresh");
    writer.publish_all(100);
    let found = admin.describe(by_name("fresh")).expect("there").positions.expect("set");
    assert_eq!((found.earliest_offset, found.next_offset, found.visible_end), (0, 100, 100));
    assert_eq!((found.publications, found.subscriptions), (1, 0));
    node.stop();
}

#[test]
fn sessions_and_backlog_name_publishers_streams_and_clients() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    let mut writer = traffic::udp(&setting, Identity::Publisher(PUBLISHER)).publishing("s");
    writer.publish_all(10);
    let mut reader =
        traffic::udp(&setting, Identity::Anonymous).reading("s", From::Earliest, 1 << 20);
    reader.until("read", |seen| seen.read == 10);
    let request = v1::ListSessionsRequest::default();
    let answer = admin.runtime.block_on(admin.node().list_sessions(request)).expect("answered");
    let answer = answer.into_inner();
    assert_eq!((answer.sessions.len(), &*answer.next_page), (2, ""));
    let named = answer.sessions.iter().find(|session| session.publisher == "w").expect("named");
    assert_eq!((named.publisher_id, named.port.as_str(), named.publications), (PUBLISHER, "p", 1));
    assert!(named.published_bytes > 0 && named.credit_bytes >= named.published_bytes);
    let other = answer.sessions.iter().find(|session| session.publisher.is_empty());
    let other = other.expect("an anonymous one");
    assert_eq!((other.subscriptions, other.publisher_id >> 63), (1, 1));
    let backlog = |stream| {
        let request = v1::ListBacklogRequest { stream, ..Default::default() };
        let answer = admin.runtime.block_on(admin.node().list_backlog(request));
        answer.expect("answered").into_inner().backlog
    };
    for stream in [None, Some(by_name("s"))] {
        let rows = backlog(stream);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!((&*rows[0].stream, rows[0].stream_id, rows[0].slot), ("s", 1, other.slot));
        assert_eq!((rows[0].next_offset, rows[0].visible_end), (10, 10));
        assert_eq!(rows[0].client, other.client);
    }
    admin.create(&["other"]);
    assert!(backlog(Some(by_name("other"))).is_empty());
    node.stop();
}

#[test]
fn a_stream_is_deleted_under_its_publisher_and_the_name_is_free_again() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    admin.create(&["busy"]);
    let mut writer = traffic::udp(&setting, Identity::Publisher(PUBLISHER)).publishing("busy");
    writer.publish_all(50);
    writer.publish(50);
    admin.delete(vec![by_name("busy")]).remove(0).expect("there");
    assert_eq!(admin.describe(by_name("busy")).expect_err("gone").code(), Code::NotFound);
    let again = admin.create(&["busy"]).remove(0).expect("the name is free");
    let found = admin.describe(by_id(again.id)).expect("there").positions.expect("set");
    assert_eq!((found.next_offset, found.publications), (0, 0), "another stream");
    drop(writer);
    let mut writer = traffic::udp(&setting, Identity::Anonymous).publishing("busy");
    writer.publish_all(5);
    let found = admin.describe(by_name("busy")).expect("there").positions.expect("set");
    assert_eq!(found.next_offset, 5);
    node.kill();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    assert_eq!(admin.streams(), [(again.id, "busy".to_string()), (1, "s".to_string())]);
    let found = admin.describe(by_name("busy")).expect("there").positions.expect("set");
    assert_eq!(found.next_offset, 5);
    node.stop();
}

#[test]
fn status_errors_and_configuration_are_told() {
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    let status = admin.status();
    assert!(status.ready && status.started_ns > 0 && status.time_ns >= status.started_ns);
    assert_eq!((status.node_id, status.node_name.as_str()), (7, "node-7"));
    let shard = &status.shards[0];
    assert_eq!((shard.number, shard.udp_port), (0, u32::from(setting.address.1)));
    assert_eq!((shard.level, shard.epoch), (v1::Level::Process as i32, 1));
    assert_eq!((shard.log_id.len(), shard.log_condition.as_str()), (16, ""));
    assert!(shard.positions.iter().any(|position| position.name == "slots_ready"));
    assert_eq!((&*shard.ports[0].name, &*shard.ports[0].driver), ("p", "socket"));
    // Twice, a while apart.
    let request = v1::WatchStatusRequest { interval_ms: 50 };
    admin.runtime.block_on(async {
        let mut stream = admin.node().watch_status(request).await.expect("answered").into_inner();
        let first = stream.message().await.expect("sound").expect("one");
        let second = stream.message().await.expect("sound").expect("another");
        assert!(second.time_ns > first.time_ns);
    });
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        client.send_to(b"no datagram of ours", setting.address).expect("sent");
        if let Some(error) = admin.errors().into_iter().find(|error| error.place == "shard 0") {
            break error;
        }
        assert!(Instant::now() < deadline, "no error is told");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(error.text.starts_with("refused: ") && error.count > 0, "{error:?}");
    assert!(error.last_ns >= error.first_ns && error.first_ns > status.started_ns);
    let answer = admin.runtime.block_on(admin.node().get_config(v1::GetConfigRequest {}));
    let config = answer.expect("answered").into_inner();
    assert_eq!(config.text, setting.text);
    assert_eq!(config.path, setting.file().display().to_string());
    node.stop();
}

#[test]
fn plain_http_is_served_on_the_same_port() {
    let setting = Setting::socket();
    let node = setting.start();
    let address = node.admin();
    assert_eq!(get(address, "/healthz"), (200, "ok\n".to_string()));
    assert_eq!(get(address, "/readyz"), (200, "ready\n".to_string()));
    let (code, metrics) = get(address, "/metrics");
    assert_eq!(code, 200);
    assert!(metrics.contains("# TYPE mstream_"), "{metrics}");
    assert_eq!(get(address, "/nothing"), (404, "there is no /nothing\n".to_string()));
    // Several requests over one connection.
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    for _ in 0..3 {
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("answered");
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    node.stop();
}

#[test]
fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let setting = Setting::socket();
    let node = setting.start();
    let admin = Admin::at(node.admin());
    let answer: ServerReflectionResponse = admin.runtime.block_on(async {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let requests = tonic::codegen::tokio_stream::iter([request]);
        let mut client = ServerReflectionClient::new(admin.channel.clone());
        let answers = client.server_reflection_info(requests).await.expect("served");
        answers.into_inner().message().await.expect("sound").expect("one")
    });
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"mstream.admin.v1.Catalogue"), "{names:?}");
    assert!(names.contains(&"mstream.admin.v1.Node"), "{names:?}");
    node.stop();
}

#[test]
fn an_admin_port_in_use_is_named_and_off_is_off() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("its address").to_string();
    let mut setting = Setting::socket();
    setting.text = setting.text.replace("127.0.0.1:0", &address);
    let text = setting.refused();
    assert_eq!(text.lines().count(), 1, "{text}");
    let expected = format!("mstreamd: admin address {address}: Address already in use");
    assert!(text.starts_with(&expected), "{text}");
    assert!(!setting.log.exists(), "told before anything is made");
    setting.text = setting.text.replace(&address, "off");
    let node = setting.start();
    assert!(std::panic::catch_unwind(|| node.admin()).is_err(), "none is told");
    node.stop();
}

#[test]
fn a_stop_does_not_wait_for_those_who_watch() {
    let setting = Setting::socket();
    let mut node = setting.start();
    let admin = Admin::at(node.admin());
    let _idle = TcpStream::connect(node.admin()).expect("it listens");
    admin.runtime.block_on(async {
        let request = v1::WatchStatusRequest { interval_ms: 60_000 };
        let mut stream = admin.node().watch_status(request).await.expect("answered").into_inner();
        stream.message().await.expect("sound").expect("one");
        node.signal(Signal::SIGTERM);
        assert!(!matches!(stream.message().await, Ok(Some(_))), "it ends");
    });
    let (status, text) = node.wait_end();
    assert_eq!(status.code(), Some(0), "{text}");
}
