//! What answers at the admin address is of another version, hangs, or is something else.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use common::{assert_fails, output};
use mstream_admin::v1 as api;
use mstream_admin::v1::node_server::{Node, NodeServer};
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

/// Serves until the test's process ends.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    listener.set_nonblocking(true).expect("a socket of ours");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket of ours");
            let server = tonic::transport::Server::builder().add_service(NodeServer::new(Other));
            server.serve_with_incoming(TcpIncoming::from(listener)).await.expect("it serves");
        });
    });
    address
}

#[test]
fn both_versions_are_said_when_the_node_is_of_another() {
    let address = serve().to_string();
    for command in
        [&["sessions"][..], &["backlog"], &["errors"], &["config", "show"], &["stream", "list"]]
    {
        let said = output(&[command, &["--admin", &address]].concat());
        assert_fails(&said, "it is of version 9.8.7, this mstream of ");
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
