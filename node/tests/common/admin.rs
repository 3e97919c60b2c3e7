//! A client of the admin API, and plain HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use mstream_admin::v1;
use mstream_admin::v1::catalogue_client::CatalogueClient;
use mstream_admin::v1::node_client::NodeClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::PATIENCE;

/// What became of one item of a call.
pub type Outcome<T> = Result<T, (Code, String)>;

/// A client that waits for each answer.
pub struct Admin {
    pub runtime: tokio::runtime::Runtime,
    pub channel: Channel,
}

impl Admin {
    pub fn at(address: SocketAddr) -> Admin {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = runtime.block_on(endpoint.timeout(PATIENCE).connect()).expect("it listens");
        Admin { runtime, channel }
    }

    pub fn catalogue(&self) -> CatalogueClient<Channel> {
        CatalogueClient::new(self.channel.clone())
    }

    pub fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    /// Creates streams of the default rules.
    pub fn create(&self, names: &[&str]) -> Vec<Outcome<v1::Stream>> {
        let spec = |name: &&str| v1::StreamSpec { name: name.to_string(), ..Default::default() };
        self.create_specs(names.iter().map(spec).collect()).expect("answered")
    }

    pub fn create_specs(
        &self,
        streams: Vec<v1::StreamSpec>,
    ) -> Result<Vec<Outcome<v1::Stream>>, Status> {
        let request = v1::CreateStreamsRequest { streams };
        let answer = self.runtime.block_on(self.catalogue().create_streams(request))?;
        Ok(answer.into_inner().results.into_iter().map(stream).collect())
    }

    pub fn delete(&self, keys: Vec<v1::StreamKey>) -> Vec<Outcome<v1::Stream>> {
        let request = v1::DeleteStreamsRequest { streams: keys };
        let answer = self.runtime.block_on(self.catalogue().delete_streams(request));
        answer.expect("answered").into_inner().results.into_iter().map(stream).collect()
    }

    pub fn register(&self, names: &[&str]) -> Vec<Outcome<v1::Publisher>> {
        let names = names.iter().map(ToString::to_string).collect();
        let request = v1::RegisterPublishersRequest { names };
        let answer = self.runtime.block_on(self.catalogue().register_publishers(request));
        let result = |result: v1::PublisherResult| match result.result.expect("one of them") {
            v1::publisher_result::Result::Publisher(publisher) => Ok(publisher),
            v1::publisher_result::Result::Failure(failure) => Err(failed(failure)),
        };
        answer.expect("answered").into_inner().results.into_iter().map(result).collect()
    }

    pub fn list(&self, page_size: u32, page: &str, prefix: &str) -> v1::ListStreamsResponse {
        let (page, prefix) = (page.to_string(), prefix.to_string());
        let request = v1::ListStreamsRequest { page_size, page, prefix };
        let answer = self.runtime.block_on(self.catalogue().list_streams(request));
        answer.expect("answered").into_inner()
    }

    /// Id and name of every stream, in the order of names.
    pub fn streams(&self) -> Vec<(u64, String)> {
        let list = self.list(10_000, "", "");
        assert!(list.next_page.is_empty());
        list.streams.into_iter().map(|stream| (stream.id, stream.name)).collect()
    }

    pub fn describe(&self, key: v1::StreamKey) -> Result<v1::DescribeStreamResponse, Status> {
        let request = v1::DescribeStreamRequest { stream: Some(key) };
        let answer = self.runtime.block_on(self.catalogue().describe_stream(request))?;
        Ok(answer.into_inner())
    }

    pub fn status(&self) -> v1::Status {
        let answer = self.runtime.block_on(self.node().get_status(v1::GetStatusRequest {}));
        answer.expect("answered").into_inner()
    }

    pub fn errors(&self) -> Vec<v1::Error> {
        let answer = self.runtime.block_on(self.node().list_errors(v1::ListErrorsRequest {}));
        answer.expect("answered").into_inner().errors
    }
}

pub fn by_name(name: &str) -> v1::StreamKey {
    v1::StreamKey { key: Some(v1::stream_key::Key::Name(name.to_string())) }
}

pub fn by_id(id: u64) -> v1::StreamKey {
    v1::StreamKey { key: Some(v1::stream_key::Key::Id(id)) }
}

fn stream(result: v1::StreamResult) -> Outcome<v1::Stream> {
    match result.result.expect("one of them") {
        v1::stream_result::Result::Stream(stream) => Ok(stream),
        v1::stream_result::Result::Failure(failure) => Err(failed(failure)),
    }
}

fn failed(failure: v1::Failure) -> (Code, String) {
    (Code::from(failure.code), failure.message)
}

/// Status code and body of a GET by plain HTTP/1.1.
pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => (code, unchunked(body)),
        false => (code, body.to_string()),
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        whole += &rest[..size];
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
