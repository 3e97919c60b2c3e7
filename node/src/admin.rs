//! The admin API's server and the export of metrics in the life of the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mstream_controlplane::Config;
use mstream_controlplane::admin::{self, Admin, Errors};
use mstream_controlplane::catalogue::Keeper;
use mstream_controlplane::metrics::Otlp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::node::Watched;
use crate::placement::Finding;
use crate::probe::PortProbe;
use crate::snapshot::Node;

/// A bound admin port. Clients are told that the node starts until [`Server::start`] takes it over.
pub(crate) struct Bound {
    listener: std::net::TcpListener,
    /// Where it is, also when the configuration left the port open.
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// The same port once more, for those who answer during the start.
    pub(crate) fn listener(&self) -> Result<std::net::TcpListener, Failure> {
        self.listener
            .try_clone()
            .map_err(|error| format!("admin address {}: {error}", self.address))
    }
}

/// Binds the admin port, if the configuration has one.
pub(crate) async fn bind(config: &Config) -> Result<Option<Bound>, Failure> {
    let Some(address) = config.node.admin else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("admin address {address}: {error} (set [node] admin to another one, or to \"off\")")
    })?;
    let failed = |error| format!("admin address {address}: {error}");
    let listener = listener.into_std().map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Some(Bound { listener, address }))
}

/// The running server.
pub(crate) struct Server {
    stop: watch::Sender<bool>,
    ready: Arc<AtomicBool>,
    /// Answers on the admin address, if there is one.
    served: Option<JoinHandle<()>>,
    otlp: Option<Otlp>,
    links: Vec<JoinHandle<()>>,
}

impl Server {
    /// Begins to answer, and to export.
    pub(crate) fn start(
        bound: Option<Bound>,
        config: &Config,
        findings: &[Finding],
        shards: &[Watched],
        probes: &[Arc<Vec<PortProbe>>],
        keeper: Arc<Keeper>,
        errors: Arc<Errors>,
    ) -> Result<Server, Failure> {
        let (stop, stopping) = watch::channel(false);
        let ready = Arc::new(AtomicBool::new(true));
        let links = shards.iter().map(|shard| Arc::clone(&shard.link));
        let links = links.map(|link| tokio::spawn(async move { link.run().await })).collect();
        let admin = Admin {
            keeper,
            shards: Arc::new(Node::new(config, findings, shards, probes, Arc::clone(&ready))),
            errors,
            source: Arc::new(config.source.clone()),
            stopping,
        };
        let otlp = export(config, &admin)?;
        let listener = bound.map(|bound| TcpListener::from_std(bound.listener)).transpose();
        let listener = listener.map_err(|error| format!("the admin address: {error}"))?;
        let served = listener.map(|listener| {
            tokio::spawn(async move {
                // Shards go on without it.
                if let Err(reason) = admin::serve(listener, admin).await {
                    tracing::error!("{reason}");
                }
            })
        });
        Ok(Server { stop, ready, served, otlp, links })
    }

    /// Ends it, before the shards end: nothing is asked of them any more.
    pub(crate) async fn stop(self) {
        // Relaxed: nothing is handed over with it.
        self.ready.store(false, Ordering::Relaxed);
        self.stop.send_replace(true);
        if let Some(otlp) = self.otlp {
            // A thread of its own: the connection needs this one.
            let _ = tokio::task::spawn_blocking(move || otlp.stop()).await;
        }
        if let Some(served) = self.served {
            // It bounds the time that it takes by itself.
            let _ = served.await;
        }
        for link in self.links {
            link.abort();
        }
    }
}

/// Starts the export of metrics, if there is to be one.
fn export(config: &Config, admin: &Admin) -> Result<Option<Otlp>, Failure> {
    let Some(endpoint) = &config.metrics.otlp_endpoint else { return Ok(None) };
    let admin = admin.clone();
    let snapshot = Arc::new(move || admin.status());
    let otlp = Otlp::start(endpoint, config.metrics.otlp_interval, snapshot);
    otlp.map(Some).map_err(|error| error.to_string())
}
