//! The server: gRPC services, reflection and plain HTTP on one listener.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use mstream_admin::v1::catalogue_server::CatalogueServer;
use mstream_admin::v1::node_server::NodeServer;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::Server;

use super::catalogue_service::CatalogueService;
use super::node_service::NodeService;
use super::{Admin, MAX_REQUEST_BYTES, connections, http};

/// Calls at a time.
const MOST_CALLS: usize = 64;
/// Calls of one connection at a time.
const MOST_CALLS_OF_ONE: u32 = 32;
/// A call ends after this, whatever it waits for; its request must be there by then, too.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is asked for a sign of life after this much silence, and closed when none comes.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// What connections get to end by themselves when the node stops.
const GRACE: Duration = Duration::from_secs(1);

/// Serves the admin API on `listener` until the node is told to stop.
///
/// # Errors
/// When the server cannot be put together.
pub async fn serve(listener: TcpListener, admin: Admin) -> Result<(), String> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mstream_admin::DESCRIPTORS);
    let alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mstream_admin::DESCRIPTORS);
    let failed = |error| format!("admin: reflection: {error}");
    let catalogue = CatalogueServer::new(CatalogueService::new(admin.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let node = NodeServer::new(NodeService::new(admin.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let grpc = Routes::new(catalogue)
        .add_service(node)
        .add_service(reflection.build_v1().map_err(failed)?)
        .add_service(alpha.build_v1alpha().map_err(failed)?)
        .into_axum_router();
    let calls = Arc::new(Semaphore::new(MOST_CALLS));
    let router = http::routes(admin.clone())
        .merge(grpc)
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(calls, limit_calls));
    let mut stopping = admin.stopping.clone();
    let stopped = async move {
        // An error means that nobody is left to say it.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let server = Server::builder()
        .accept_http1(true)
        .timeout(CALL_TIMEOUT)
        .max_concurrent_streams(MOST_CALLS_OF_ONE)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(connections::accept(listener), stopped);
    let mut stopping = admin.stopping.clone();
    let patience = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = server => served.map_err(|error| format!("admin: {error}")),
        () = patience => Ok(()),
    }
}

/// Refuses a call when there are as many as there may be. Streams of answers count until they begin.
async fn limit_calls(
    State(calls): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_place) = calls.try_acquire() else {
        let text = format!("{MOST_CALLS} calls are under way already");
        let status = Status::resource_exhausted(text);
        return refuse(&request, StatusCode::SERVICE_UNAVAILABLE, status);
    };
    next.run(request).await
}

/// Answers what nobody serves.
async fn unknown(request: Request) -> Response {
    let status = Status::unimplemented(format!("there is no {}", request.uri().path()));
    refuse(&request, StatusCode::NOT_FOUND, status)
}

/// A refusal in the words of the caller's protocol.
pub(super) fn refuse(request: &Request, code: StatusCode, status: Status) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    match kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        true => status.into_http(),
        false => (code, format!("{}\n", status.message())).into_response(),
    }
}
