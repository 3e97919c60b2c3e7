//! gRPC: streams and publishers.

use mstream_admin::v1;
use mstream_admin::v1::catalogue_server::Catalogue;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::changes::{Changes, Outcome};
use super::{Admin, MOST_ITEMS, PATIENCE, convert, now_ns, pages};
use crate::catalogue::{Command, Event, StreamKey, check_name};

/// The service.
pub(super) struct CatalogueService {
    admin: Admin,
    changes: Changes,
}

type Answered<T> = Result<Response<T>, Status>;

/// The commands of the items of a call, or why there is none for an item.
type Items = Vec<Result<Command, v1::Failure>>;

fn check_count(field: &str, found: usize) -> Result<(), Status> {
    match found <= MOST_ITEMS {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "{field}: {found} items; a call takes at most {MOST_ITEMS}"
        ))),
    }
}

impl CatalogueService {
    pub(super) fn new(admin: Admin) -> CatalogueService {
        let changes = Changes::new(admin.clone());
        CatalogueService { admin, changes }
    }

    /// Makes the changes of the items that are sound; an outcome for each item, in their order.
    async fn make(&self, items: Items) -> Result<Vec<Outcome>, Status> {
        let mut failures = Vec::with_capacity(items.len());
        let mut commands = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Ok(command) => {
                    commands.push(command);
                    failures.push(None);
                }
                Err(failure) => failures.push(Some(failure)),
            }
        }
        let mut outcomes = self.changes.make(commands).await?.into_iter();
        let missing = || Status::internal("an item without an outcome");
        failures
            .into_iter()
            .map(|failure| match failure {
                Some(failure) => Ok(Err(failure)),
                None => outcomes.next().ok_or_else(missing),
            })
            .collect()
    }
}

fn stream_result(outcome: Outcome) -> v1::StreamResult {
    let result = match outcome {
        Ok(Event::StreamCreated(stream) | Event::StreamDeleted(stream)) => {
            v1::stream_result::Result::Stream(convert::stream(&stream))
        }
        Ok(other) => v1::stream_result::Result::Failure(unexpected(&other)),
        Err(failure) => v1::stream_result::Result::Failure(failure),
    };
    v1::StreamResult { result: Some(result) }
}

fn publisher_result(outcome: Outcome) -> v1::PublisherResult {
    let result = match outcome {
        Ok(Event::PublisherRegistered(publisher) | Event::PublisherKnown(publisher)) => {
            v1::publisher_result::Result::Publisher(convert::publisher(&publisher))
        }
        Ok(other) => v1::publisher_result::Result::Failure(unexpected(&other)),
        Err(failure) => v1::publisher_result::Result::Failure(failure),
    };
    v1::PublisherResult { result: Some(result) }
}

/// No command of ours brings this about.
fn unexpected(event: &Event) -> v1::Failure {
    let message = format!("the catalogue answered with {event:?}");
    v1::Failure { code: tonic::Code::Internal as i32, message }
}

#[tonic::async_trait]
impl Catalogue for CatalogueService {
    async fn create_streams(
        &self,
        request: Request<v1::CreateStreamsRequest>,
    ) -> Answered<v1::CreateStreamsResponse> {
        let streams = request.into_inner().streams;
        check_count("streams", streams.len())?;
        let time_ns = now_ns();
        let command = |spec: v1::StreamSpec| {
            let rules = convert::rules(spec.rules)?;
            let (name, shard) = (spec.name.into(), spec.shard);
            Ok(Command::CreateStream { time_ns, id: None, name, shard, rules })
        };
        let outcomes = self.make(streams.into_iter().map(command).collect()).await?;
        let results = outcomes.into_iter().map(stream_result).collect();
        Ok(Response::new(v1::CreateStreamsResponse { results }))
    }

    async fn delete_streams(
        &self,
        request: Request<v1::DeleteStreamsRequest>,
    ) -> Answered<v1::DeleteStreamsResponse> {
        let streams = request.into_inner().streams;
        check_count("streams", streams.len())?;
        let command = |key| convert::key(Some(key)).map(Command::DeleteStream);
        let outcomes = self.make(streams.into_iter().map(command).collect()).await?;
        let results = outcomes.into_iter().map(stream_result).collect();
        Ok(Response::new(v1::DeleteStreamsResponse { results }))
    }

    async fn list_streams(
        &self,
        request: Request<v1::ListStreamsRequest>,
    ) -> Answered<v1::ListStreamsResponse> {
        let v1::ListStreamsRequest { page_size, page, prefix } = request.into_inner();
        let size = pages::size(page_size)?;
        let page = pages::check_name_token("page", &page)?;
        let prefix = pages::check_name_token("prefix", &prefix)?;
        let ((found, more), total) = self
            .admin
            .keeper
            .read(|state| (state.stream_page(prefix, page, size), state.streams() as u64));
        let next_page = found.last().filter(|_| more).map(|last| last.name.to_string());
        Ok(Response::new(v1::ListStreamsResponse {
            streams: found.iter().map(|stream| convert::stream(stream)).collect(),
            next_page: next_page.unwrap_or_default(),
            total,
        }))
    }

    async fn describe_stream(
        &self,
        request: Request<v1::DescribeStreamRequest>,
    ) -> Answered<v1::DescribeStreamResponse> {
        let key = convert::key(request.into_inner().stream).map_err(convert::status)?;
        let stream = find_stream(&self.admin, &key)?;
        let answer = self.admin.shards.positions(stream.shard, stream.id);
        let positions = pages::wait(stream.shard, answer, Instant::now() + PATIENCE).await?;
        if positions.is_none() {
            return Err(Status::unavailable(format!(
                "stream `{}` (id {}) is in the catalogue, and shard {} has not taken it on yet or gives it \
                 up at this moment",
                stream.name, stream.id, stream.shard
            )));
        }
        let level = self.admin.keeper.read(|state| {
            state.configured().shards.get(stream.shard as usize).copied().map(convert::level)
        });
        Ok(Response::new(v1::DescribeStreamResponse {
            stream: Some(convert::stream(&stream)),
            positions,
            level: level.map_or(0, Into::into),
        }))
    }

    async fn register_publishers(
        &self,
        request: Request<v1::RegisterPublishersRequest>,
    ) -> Answered<v1::RegisterPublishersResponse> {
        let names = request.into_inner().names;
        check_count("names", names.len())?;
        let time_ns = now_ns();
        let command =
            |name: String| Ok(Command::RegisterPublisher { time_ns, id: None, name: name.into() });
        let outcomes = self.make(names.into_iter().map(command).collect()).await?;
        let results = outcomes.into_iter().map(publisher_result).collect();
        Ok(Response::new(v1::RegisterPublishersResponse { results }))
    }

    async fn list_publishers(
        &self,
        request: Request<v1::ListPublishersRequest>,
    ) -> Answered<v1::ListPublishersResponse> {
        let v1::ListPublishersRequest { page_size, page, prefix } = request.into_inner();
        let size = pages::size(page_size)?;
        let page = pages::check_name_token("page", &page)?;
        let prefix = pages::check_name_token("prefix", &prefix)?;
        let ((found, more), total) = self
            .admin
            .keeper
            .read(|state| (state.publisher_page(prefix, page, size), state.publishers() as u64));
        let next_page = found.last().filter(|_| more).map(|last| last.name.to_string());
        Ok(Response::new(v1::ListPublishersResponse {
            publishers: found.iter().map(|publisher| convert::publisher(publisher)).collect(),
            next_page: next_page.unwrap_or_default(),
            total,
        }))
    }
}

/// The stream with this id or name.
pub(super) fn find_stream(
    admin: &Admin,
    key: &StreamKey,
) -> Result<std::sync::Arc<crate::catalogue::Stream>, Status> {
    if let StreamKey::Name(name) = key {
        // Also keeps what nobody could have created out of the answer.
        check_name(name).map_err(|error| Status::invalid_argument(format!("name: {error}")))?;
    }
    let found = admin.keeper.read(|state| state.stream(key).cloned());
    found.ok_or_else(|| Status::not_found(format!("there is no stream {key}")))
}
