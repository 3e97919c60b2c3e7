//! The admin address while the node starts: who asks is told so, and nobody waits.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::Server;

use super::connections;
use super::server::refuse;

/// What connections get to end by themselves once the node has started.
const GRACE: Duration = Duration::from_millis(200);

/// What the node does at this moment of its start; `None` once it has started.
pub type Stage = Option<&'static str>;

/// Answers every call on `listener` with what the node is doing, until `stage` is `None` or nobody tells it any more.
///
/// # Errors
/// When the server fails.
pub async fn serve_start(
    listener: TcpListener,
    stage: watch::Receiver<Stage>,
) -> Result<(), String> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(starting)
        .with_state(stage.clone());
    let ended = |mut stage: watch::Receiver<Stage>| async move {
        // An error means that nobody is left to say it.
        let _ = stage.wait_for(Option::is_none).await;
    };
    let server = Server::builder()
        .accept_http1(true)
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(connections::accept(listener), ended(stage.clone()));
    let patience = async {
        ended(stage).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = server => served.map_err(|error| format!("admin: {error}")),
        () = patience => Ok(()),
    }
}

async fn starting(State(stage): State<watch::Receiver<Stage>>, request: Request) -> Response {
    let does = stage.borrow().unwrap_or("nearly done");
    let status = Status::unavailable(format!("it is starting: {does}"));
    refuse(&request, StatusCode::SERVICE_UNAVAILABLE, status)
}
