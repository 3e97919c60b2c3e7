//! What answers, at the admin address or in a shard's place, is of another version, hangs, or is something else.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use common::{assert_fails, output};
use mstream_admin::v1 as api;
use mstream_admin::v1::node_server::{Node, NodeServer};
use mstream_wire::{Code, Datagram, DatagramHeader, DatagramWriter, ErrorHeader, Frame};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A node of another version: it tells its version and knows nothing else.
struct Other;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Node for Other {
    type WatchStatusStream = tonic::codegen::BoxStream<api::Status>;

    async fn get_status(&self, _: Request<api::GetStatusRequest>) -> Answer<api::Status> {
        Ok(Response::new(api::Status { version: "9.8.7".into(), ..api::Status::default() }))
    }

    async fn watch_status(
        &self,
        _: Request<api::WatchStatusRequest>,
    ) -> Answer<Self::WatchStatusStream> {
        Err(Status::unimplemented(""))
    }

    async fn list_sessions(
        &self,
        _: Request<api::ListSessionsRequest>,
    ) -> Answer<api::ListSessionsResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list_backlog(
        &self,
        _: Request<api::ListBacklogRequest>,
    ) -> Answer<api::ListBacklogResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list_errors(
        &self,
        _: Request<api::ListErrorsRequest>,
    ) -> Answer<api::ListErrorsResponse> {
        Err(Status::unimplemented(""))
    }

    async fn get_config(
        &self,
        _: Request<api::GetConfigRequest>,
    ) -> Answer<api::GetConfigResponse> {
        Err(Status::unimplemented(""))
    }
}

/// Serves services until the test's process ends.
fn serve(services: tonic::service::Routes) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    listener.set_nonblocking(true).expect("a socket of ours");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket of ours");
            let server = tonic::transport::Server::builder().add_routes(services);
            server.serve_with_incoming(TcpIncoming::from(listener)).await.expect("it serves");
        });
    });
    address
}

#[test]
fn both_versions_are_said_when_the_node_is_of_another() {
    let services = tonic::service::Routes::new(NodeServer::new(Other));
    let address = serve(services).to_string();
    for command in
        [&["sessions"][..], &["backlog"], &["errors"], &["config", "show"], &["stream", "list"]]
    {
        let said = output(&[command, &["--admin", &address]].concat());
        assert_fails(&said, "it is of version 9.8.7, this mstream of ");
    }
}

#[test]
fn an_api_of_another_version_is_told() {
    // As a node answers that has no v1 any more.
    let address = serve(tonic::service::Routes::default()).to_string();
    for command in [&["status"][..], &["stream", "list"], &["sub", "s"], &["pub", "s"]] {
        let said = output(&[command, &["--admin", &address]].concat());
        assert_fails(
            &said,
            &format!("what answers at {address} does not know this call of the admin API v1"),
        );
    }
}

/// A shard that answers each hello with what `answer` makes of its nonce, until the test's process ends.
fn shard(answer: impl Fn(u64) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = socket.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            let datagram = Datagram::parse(&bytes[..len]).expect("a hello is sound");
            let Some(Frame::Hello(hello)) = datagram.frames().next() else { panic!("no hello") };
            // One that does not wait any more has closed its socket.
            let _ = socket.send_to(&answer(hello.nonce.get()), from);
        }
    });
    address
}

/// The answer of a shard that speaks version 2 of the protocol only.
fn wrong_version(nonce: u64) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    let header = DatagramHeader::outside(0);
    let mut writer = DatagramWriter::new(&mut bytes, &header).expect("room");
    let error = ErrorHeader {
        head: ErrorHeader::HEAD,
        code: (Code::WrongVersion as u16).into(),
        reserved: 0.into(),
        value: 2.into(),
        nonce: nonce.into(),
    };
    assert!(writer.error(&error, "only version 2"));
    let len = writer.finish();
    bytes.truncate(len);
    bytes
}

#[test]
fn shards_of_another_version_of_the_protocol_are_told() {
    let address = shard(wrong_version).to_string();
    // Here even the datagram is of that version.
    let stranger = shard(|nonce| {
        let mut bytes = wrong_version(nonce);
        bytes[0] = 2;
        bytes
    });
    let stranger = stranger.to_string();
    for command in [&["sub", "s"][..], &["pub", "s"]] {
        let said = output(&[command, &["--addr", &address]].concat());
        let both = format!("{address} speaks version 2 of the protocol, this mstream version 1");
        assert_fails(&said, &both);
        let said = output(&[command, &["--addr", &stranger, "--timeout", "300ms"]].concat());
        let other =
            format!("what answers at {stranger} speaks another protocol, or another version");
        assert_fails(&said, &other);
    }
}

#[test]
fn who_does_not_answer_or_speaks_something_else_is_told() {
    // Connections are taken by the kernel, and never by anybody else: as a node that hangs does it.
    let hangs = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = hangs.local_addr().expect("its address").to_string();
    for command in [&["status"][..], &["stream", "list"], &["top", "--once"], &["sub", "s"]] {
        let said = output(&[command, &["--admin", &address, "--timeout", "300ms"]].concat());
        assert_fails(
            &said,
            &format!("no answer from the node's admin address {address} within 300ms"),
        );
    }
    // Closed at once: nobody listens.
    drop(hangs);
    assert_fails(&output(&["status", "--admin", &address]), "is mstreamd running there?");
    // Another server.
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = other.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = other.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    assert_fails(&output(&["status", "--admin", &address]), &address);
}
