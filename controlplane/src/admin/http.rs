//! Plain HTTP: health, readiness, metrics.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::Instant;

use super::Admin;
use crate::metrics;

/// A shard that does not poll for this long is told to be stuck.
const STUCK: Duration = Duration::from_secs(1);

/// The routes.
pub(super) fn routes(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metric_page))
        .with_state(admin)
}

async fn readiness(State(admin): State<Admin>) -> Response {
    let reasons = unready(&admin).await;
    match reasons.is_empty() {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response(),
    }
}

/// What keeps the node from doing all it should; empty when nothing does.
async fn unready(admin: &Admin) -> Vec<String> {
    let mut reasons = Vec::new();
    let status = admin.status();
    if *admin.stopping.borrow() {
        reasons.push("the node is stopping".to_string());
    } else if !status.ready {
        reasons.push("not all shards poll yet".to_string());
    }
    reasons.extend(admin.keeper.closed().map(|reason| format!("catalogue: {reason}")));
    for shard in status.shards.iter().filter(|shard| !shard.log_condition.is_empty()) {
        reasons.push(format!("shard {}: {}", shard.number, shard.log_condition));
    }
    // Shards say that they poll by publishing more; that takes them about a millisecond.
    let before = admin.shards.pulses();
    let deadline = Instant::now() + STUCK;
    let stuck = || -> Vec<usize> {
        let now = admin.shards.pulses();
        now.iter().zip(&before).enumerate().filter(|(_, (a, b))| a == b).map(|(n, _)| n).collect()
    };
    while !stuck().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for shard in stuck() {
        reasons.push(format!("shard {shard} does not poll"));
    }
    reasons
}

async fn metric_page(State(admin): State<Admin>) -> Response {
    let text = metrics::render(&admin.status());
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}
