//! gRPC: what the node is doing.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mstream_admin::v1;
use mstream_admin::v1::node_server::Node;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::catalogue_service::find_stream;
use super::{Admin, convert, pages, stream_name};

/// Callers that may watch at a time.
const MOST_WATCHERS: usize = 32;
const INTERVAL_MS: u32 = 1_000;
const LEAST_INTERVAL_MS: u32 = 50;
const MOST_INTERVAL_MS: u32 = 3_600_000;

/// The service.
pub(super) struct NodeService {
    admin: Admin,
    watchers: Arc<Semaphore>,
}

type Answered<T> = Result<Response<T>, Status>;

impl NodeService {
    pub(super) fn new(admin: Admin) -> NodeService {
        NodeService { admin, watchers: Arc::new(Semaphore::new(MOST_WATCHERS)) }
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    type WatchStatusStream = Pin<Box<dyn Stream<Item = Result<v1::Status, Status>> + Send>>;

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Answered<v1::Status> {
        Ok(Response::new(self.admin.status()))
    }

    async fn watch_status(
        &self,
        request: Request<v1::WatchStatusRequest>,
    ) -> Answered<Self::WatchStatusStream> {
        let interval = match request.into_inner().interval_ms {
            0 => INTERVAL_MS,
            ms if (LEAST_INTERVAL_MS..=MOST_INTERVAL_MS).contains(&ms) => ms,
            ms => {
                return Err(Status::invalid_argument(format!(
                    "interval_ms: {ms} is not 0 or in {LEAST_INTERVAL_MS} to {MOST_INTERVAL_MS}"
                )));
            }
        };
        let permit = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{MOST_WATCHERS} callers watch already"))
        })?;
        // One answer may wait: a slow caller gets fewer, never old ones.
        let (answers, stream) = mpsc::channel(1);
        let admin = self.admin.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let mut stopping = admin.stopping.clone();
            let mut ticks = tokio::time::interval(Duration::from_millis(interval.into()));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = answers.closed() => return,
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
                tokio::select! {
                    room = answers.reserve() => match room {
                        Ok(room) => room.send(Ok(admin.status())),
                        Err(_) => return,
                    },
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Answered<v1::ListSessionsResponse> {
        let v1::ListSessionsRequest { page_size, page } = request.into_inner();
        let shards = &self.admin.shards;
        let ask = |shard, from, most| shards.sessions(shard, from, most);
        let size = pages::size(page_size)?;
        let (mut sessions, next_page) =
            pages::gather(shards.count(), &page, size, ask, |_| true).await?;
        self.admin.keeper.read(|state| {
            for session in &mut sessions {
                let name =
                    state.publisher(session.publisher_id).map(|found| found.name.to_string());
                session.publisher = name.unwrap_or_default();
            }
        });
        Ok(Response::new(v1::ListSessionsResponse { sessions, next_page }))
    }

    async fn list_backlog(
        &self,
        request: Request<v1::ListBacklogRequest>,
    ) -> Answered<v1::ListBacklogResponse> {
        let v1::ListBacklogRequest { page_size, page, stream } = request.into_inner();
        let only = match stream {
            None => None,
            some => {
                let key = convert::key(some).map_err(convert::status)?;
                Some(find_stream(&self.admin, &key)?)
            }
        };
        let shards = &self.admin.shards;
        let ask = |shard, from, most| shards.subscriptions(shard, from, most);
        let keep = |row: &v1::Backlog| only.as_ref().is_none_or(|only| only.id == row.stream_id);
        let size = pages::size(page_size)?;
        let (mut backlog, next_page) =
            pages::gather(shards.count(), &page, size, ask, keep).await?;
        self.admin.keeper.read(|state| {
            for row in &mut backlog {
                row.stream = stream_name(state, row.stream_id);
            }
        });
        Ok(Response::new(v1::ListBacklogResponse { backlog, next_page }))
    }

    async fn list_errors(
        &self,
        _: Request<v1::ListErrorsRequest>,
    ) -> Answered<v1::ListErrorsResponse> {
        Ok(Response::new(v1::ListErrorsResponse { errors: self.admin.errors.list() }))
    }

    async fn get_config(
        &self,
        _: Request<v1::GetConfigRequest>,
    ) -> Answered<v1::GetConfigResponse> {
        let source = &self.admin.source;
        Ok(Response::new(v1::GetConfigResponse {
            text: source.text.clone(),
            path: source.path.display().to_string(),
        }))
    }
}
