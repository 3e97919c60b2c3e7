//! The admin API's server in the life of the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mstream_controlplane::Config;
use mstream_controlplane::admin::{self, Admin, Errors};
use mstream_controlplane::catalogue::Keeper;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::node::Watched;
use crate::placement::Finding;
use crate::snapshot::Node;

/// A bound admin port. Clients may connect; they are answered once [`Server::start`] was called.
pub(crate) struct Bound {
    listener: TcpListener,
    /// Where it is, also when the configuration left the port open.
    pub(crate) address: SocketAddr,
}

/// Binds the admin port, if the configuration has one.
pub(crate) async fn bind(config: &Config) -> Result<Option<Bound>, Failure> {
    let Some(address) = config.node.admin else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("admin address {address}: {error} (set [node] admin to another one, or to \"off\")")
    })?;
    let address =
        listener.local_addr().map_err(|error| format!("admin address {address}: {error}"))?;
    Ok(Some(Bound { listener, address }))
}

/// The running server.
pub(crate) struct Server {
    stop: watch::Sender<bool>,
    ready: Arc<AtomicBool>,
    served: JoinHandle<()>,
    links: Vec<JoinHandle<()>>,
}

impl Server {
    /// Begins to answer.
    pub(crate) fn start(
        bound: Bound,
        config: &Config,
        findings: &[Finding],
        shards: &[Watched],
        keeper: Arc<Keeper>,
        errors: Arc<Errors>,
    ) -> Server {
        let (stop, stopping) = watch::channel(false);
        let ready = Arc::new(AtomicBool::new(true));
        let links = shards.iter().map(|shard| Arc::clone(&shard.link));
        let links = links.map(|link| tokio::spawn(async move { link.run().await })).collect();
        let admin = Admin {
            keeper,
            shards: Arc::new(Node::new(config, findings, shards, Arc::clone(&ready))),
            errors,
            source: Arc::new(config.source.clone()),
            stopping,
        };
        let served = tokio::spawn(async move {
            // Shards go on without it.
            if let Err(reason) = admin::serve(bound.listener, admin).await {
                tracing::error!("{reason}");
            }
        });
        Server { stop, ready, served, links }
    }

    /// Ends it, before the shards end: nothing is asked of them any more.
    pub(crate) async fn stop(self) {
        // Relaxed: nothing is handed over with it.
        self.ready.store(false, Ordering::Relaxed);
        self.stop.send_replace(true);
        // It bounds the time that it takes by itself.
        let _ = self.served.await;
        for link in self.links {
            link.abort();
        }
    }
}
