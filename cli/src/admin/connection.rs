//! The way to a node's admin API, and what its errors mean.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use mstream_admin::v1::GetStatusRequest;
use mstream_admin::v1::catalogue_client::CatalogueClient;
use mstream_admin::v1::node_client::NodeClient;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use crate::failure::Failure;
use crate::settings::Settings;

/// The most bytes of an answer: a page of the longest names.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A connection.
pub(crate) struct Admin {
    runtime: Runtime,
    channel: Channel,
    address: String,
    /// Who named the address, and how to name another.
    hint: String,
    timeout: Duration,
}

impl Admin {
    /// Connects to the node that `settings` means.
    pub(crate) fn connect(settings: &Settings) -> Result<Admin, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("starting the runtime: {error}"))?;
        let address = settings.admin.address.clone();
        let hint = match &settings.admin.origin {
            Some(origin) => format!("the address is from {origin}"),
            None => {
                "name another with --admin HOST:PORT, MSTREAM_ADMIN or `mstream context add`".into()
            }
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Failure::Usage(format!("{address} is no admin address: {error}")))?
            .connect_timeout(settings.timeout);
        let connected = runtime
            .block_on(async { tokio::time::timeout(settings.timeout, endpoint.connect()).await });
        let timeout = settings.timeout;
        match connected {
            Ok(Ok(channel)) => Ok(Admin { runtime, channel, address, hint, timeout }),
            Ok(Err(error)) => Err(no_connection(&address, &hint, &error, timeout).into()),
            Err(_) => Err(no_answer(&address, &hint, timeout).into()),
        }
    }

    pub(crate) fn catalogue(&self) -> CatalogueClient<Channel> {
        CatalogueClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub(crate) fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Waits for an answer.
    pub(crate) fn call<T>(
        &self,
        asked: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let answer =
            self.runtime.block_on(async { tokio::time::timeout(self.timeout, asked).await });
        match answer {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.explain(&status)),
            Err(_) => Err(no_answer(&self.address, &self.hint, self.timeout).into()),
        }
    }

    /// Waits up to `patience` for the next of many answers; `None` when none came by then.
    pub(crate) fn next<T>(
        &self,
        answers: &mut Streaming<T>,
        patience: Duration,
    ) -> Result<Option<T>, Failure> {
        let next = self
            .runtime
            .block_on(async { tokio::time::timeout(patience, answers.message()).await });
        match next {
            Ok(Ok(Some(answer))) => Ok(Some(answer)),
            Ok(Ok(None)) => Err(format!("the node at {} ended", self.address).into()),
            Ok(Err(status)) => Err(self.explain(&status)),
            Err(_) => Ok(None),
        }
    }

    /// What to tell when an answer that comes again and again did not.
    pub(crate) fn silent(&self) -> Failure {
        no_answer(&self.address, &self.hint, self.timeout).into()
    }

    /// A refusal in words that say what to do.
    fn explain(&self, status: &Status) -> Failure {
        let address = &self.address;
        match status.code() {
            Code::Unimplemented => self.other_version(),
            _ if status.source().is_some() => {
                // Not said by the node, but found out on the way.
                let reason = innermost(status);
                format!("the connection to the node at {address} broke: {reason}").into()
            }
            Code::Unavailable => format!("the node at {address}: {}", status.message()).into(),
            Code::Unknown | Code::Internal if status.message().is_empty() => {
                format!("what answers at {address} is no admin API; {}", self.hint).into()
            }
            _ => Failure::Failed(status.message().to_owned()),
        }
    }

    /// The node lacks a call: asks for its version and says both.
    fn other_version(&self) -> Failure {
        let ours = env!("CARGO_PKG_VERSION");
        let mut node = self.node();
        let asked = node.get_status(GetStatusRequest {});
        let answer =
            self.runtime.block_on(async { tokio::time::timeout(self.timeout, asked).await });
        match answer {
            Ok(Ok(status)) => format!(
                "the node at {} does not know this call: it is of version {}, this mstream of {ours}",
                self.address,
                status.into_inner().version
            ),
            _ => format!(
                "what answers at {} does not know this call of the admin API v1, nor tells its version; this \
                 mstream is of version {ours}; {}",
                self.address, self.hint
            ),
        }
        .into()
    }
}

fn no_answer(address: &str, hint: &str, timeout: Duration) -> String {
    format!(
        "no answer from the node's admin address {address} within {timeout:?}: it hangs, or is not there; {hint}"
    )
}

fn no_connection(
    address: &str,
    hint: &str,
    error: &tonic::transport::Error,
    timeout: Duration,
) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return match error.kind() {
                std::io::ErrorKind::ConnectionRefused => format!(
                    "nobody listens at the admin address {address}: is mstreamd running there? {hint}"
                ),
                std::io::ErrorKind::TimedOut => no_answer(address, hint, timeout),
                _ => format!("no connection to the admin address {address}: {error}; {hint}"),
            };
        }
        source = error.source();
    }
    format!("no connection to the admin address {address}: {}; {hint}", innermost(error))
}

/// The last error of a chain: what it all comes from.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        last = error.to_string();
        source = error.source();
    }
    last
}
